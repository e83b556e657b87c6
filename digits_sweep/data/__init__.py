"""Data: the images and labels, and where they come from."""
