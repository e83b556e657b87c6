"""Recorder: training loops that are not this program's, recorded as its own runs are."""
