"""One run: its state on disk, its training, and the record of both."""
