"""Disk: writing that survives, reading that is safe, and text that is harmless."""
