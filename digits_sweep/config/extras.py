"""Optional dependencies: what is said if one is missing."""


def not_installed(name: str, extra: str) -> str:
    """Return the line for a part that needs the optional dependencies `extra`, with what installs them."""
    return f"{name} is not installed; in the checkout, .venv/bin/pip install -e '.[{extra}]'"
