"""A command as a process: signals, and output that cannot be written."""
