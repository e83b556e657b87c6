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

from digits_sweep.results.disk.harmless import visible


class DigitsSweepError(Exception):
    """Base of all errors below. The text is meant for the user: what is wrong, and what would be right.

    It may quote what a file holds: control characters are written out.
    """

    def __str__(self) -> str:
        return visible(super().__str__())

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
