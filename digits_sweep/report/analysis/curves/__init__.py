"""Numbers that the figures draw: against the batch size, the epoch or the examples."""
