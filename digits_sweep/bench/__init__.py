"""Bench: every engine against the lesson's loop and against the bare kernels, side by side in one process."""
