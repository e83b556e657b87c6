"""Report: from the results on disk to a page that a person reads. Imports neither torch nor Hydra."""
