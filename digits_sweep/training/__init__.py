"""Training: from digits to epochs. Knows no file and no screen."""
