"""Notebook: a sweep from Python. What `run` takes, what it shows while it trains, and what it returns."""
