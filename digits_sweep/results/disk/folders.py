"""Folders as a user types them."""

import os
from pathlib import Path


def expanded(text: str) -> str:
    """Return a path with the home folder in the place of `~` or `~user` at its start.

    It is returned as it is if that folder is not known: nobody has that name, or there is no home folder at all.
    """
    home, slash, below = text.partition("/")
    if not home.startswith("~") or (home == "~" and os.environ.get("HOME") == ""):
        return text
    try:
        return str(Path(home).expanduser()).rstrip("/") + slash + below or "/"
    except RuntimeError:
        return text
