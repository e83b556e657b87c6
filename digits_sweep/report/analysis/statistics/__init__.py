"""Numbers: medians and intervals over seeds, pairs, costs, and what the figures draw."""
