"""Data: the images and labels, and where they come from."""

from collections.abc import Callable

# Takes a line of text for the user.
Report = Callable[[str], None]
