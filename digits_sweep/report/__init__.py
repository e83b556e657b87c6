"""Report: from the summary to something a person reads. Imports neither torch nor Hydra, so it starts at once."""
