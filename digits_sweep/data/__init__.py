"""Data: the digits, where they come from, and in which order an epoch sees them."""
