"""Data: the digits, and where they come from."""
