"""Sweep: running what was planned, recording it, and resuming what was stopped."""
