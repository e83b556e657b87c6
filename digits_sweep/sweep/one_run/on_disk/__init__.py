"""A run on disk: what a finished epoch leaves, and what an earlier process has left."""
