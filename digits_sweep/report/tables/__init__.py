"""The tables of a page and of a terminal."""
