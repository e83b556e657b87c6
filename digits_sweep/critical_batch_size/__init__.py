"""The critical batch size: the tuned rate at every batch size, fresh seeds, a fit, and which batch size is soonest."""
