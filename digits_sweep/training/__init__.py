"""Training: from data to epochs and evaluations. Knows no file and no screen."""
