"""Figures: each function draws one result of the analysis on a matplotlib axis, and computes nothing.

A run that did not reach the goal is drawn as an open mark; it is never left out. A configuration has the same color and
marker in all figures.
"""
