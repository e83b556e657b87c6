"""Optimizers, and learning rates that change during a run."""
