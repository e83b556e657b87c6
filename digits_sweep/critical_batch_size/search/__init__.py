"""The search for a rate at every batch size, and the fresh seeds at it."""
