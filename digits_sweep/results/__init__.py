"""Results: what is kept of a run, and the table made of it. Standard library and pandas only."""
