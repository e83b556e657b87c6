"""Every error that this program raises on purpose: one tree, one base.

DigitsSweepError
├── InvalidConfig
│   └── OwnCodeFailed
├── CannotResume
├── CannotRecord
├── CannotSearch
├── UnreadableRecord
│   └── NewerFormat
├── FolderInUse
├── DataUnavailable
├── UnusableRoot
├── MismatchedTorchvision
├── DeviceUnavailable
└── EngineRefused
"""

import re
from collections.abc import Sequence


class DigitsSweepError(Exception):
    """Base of all errors below. The text is meant for the user: what is wrong, and what would be right.

    It may quote what a file holds: control characters are written out, and lines that nobody would read are shortened.
    """

    def __str__(self) -> str:
        return "\n".join(shortened(line, LONGEST_LINE) for line in escape_controls(super().__str__()).split("\n"))

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows of it, in a notebook for example, in the place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class InvalidConfig(DigitsSweepError):
    """A configuration that must not run: one line a mistake, with key, value and what would be right."""


class OwnCodeFailed(InvalidConfig):
    """Code of the user's, named by a key, raised an error, which is the cause. The text says where."""


class CannotResume(DigitsSweepError):
    """A run or a sweep that cannot be resumed here. The text names what differs."""


class CannotRecord(DigitsSweepError):
    """Results cannot be written. The text names the file and the reason."""


class CannotSearch(DigitsSweepError):
    """A search cannot start or continue. What its study holds is kept."""


class UnreadableRecord(DigitsSweepError):
    """A file of a run or a sweep that cannot be read. The text names the file and says what is wrong with it."""


class NewerFormat(UnreadableRecord):
    """A file that a newer version of this program wrote. The text names the file and its format."""


class FolderInUse(DigitsSweepError):
    """Another process writes in this folder. The text names the folder, the process and its machine."""


class DataUnavailable(DigitsSweepError):
    """A data set is not on disk and cannot be fetched. The text has a line for every mirror that was tried."""


class UnusableRoot(DigitsSweepError):
    """The folder for the data cannot be used. The text names it and says why."""


class MismatchedTorchvision(DigitsSweepError):
    """torch and torchvision do not work together, or one is missing. The text names both versions."""


class DeviceUnavailable(DigitsSweepError):
    """The device does not exist on this machine. The text names key and value."""


class EngineRefused(DigitsSweepError):
    """The engine cannot train this model on this device. The text says why."""


def not_installed(name: str, extra: str) -> str:
    """Return the line for a part that needs the optional dependencies `extra`, with what installs them."""
    return f"{name} is not installed; in the checkout, .venv/bin/pip install -e '.[{extra}]'"


# Control characters except the end of a line, marks that turn the direction of writing, and halves of characters.
_CONTROL = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# The most lines of one kind that a message has.
MOST_LINES = 3
# The most characters of an error that a line quotes, that a line has, and that a record keeps with its traceback.
LONGEST_REASON, LONGEST_LINE, LONGEST_ERROR = 300, 2_000, 20_000


def escape_controls(text: str) -> str:
    r"""Return `text` with every control character written out, such as `\x1b`, so that no terminal obeys it."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """Return `text` on one line: control characters and ends of lines are written out."""
    return escape_controls(text).replace("\n", "\\n")


def reason_of(error: Exception) -> str:
    """Return the first line of an error, without the path of the file."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0]


def first_lines(lines: Sequence[str]) -> str:
    """Join the lines of a message; of many, the first three and how many more there are."""
    rest = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return "\n".join([*lines[:MOST_LINES], *rest])


def shortened(text: str, most: int) -> str:
    """Return `text`, of a longer one its beginning and its end: `most` characters, and a mark between them."""
    start = most // 4
    return text if len(text) <= most else f"{text[:start]} [...] {text[start - most :]}"
