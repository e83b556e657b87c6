"""Analysis: the statistics of a sweep. Computes; draws no figure and makes no table cell."""
