"""Seconds per epoch of every engine, beside the lesson's loop, JAX and what no engine can do without."""
