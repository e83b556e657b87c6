"""What is kept of one run, file by file."""
