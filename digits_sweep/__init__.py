"""digits_sweep: how long an epoch takes at each batch size, and after how many epochs the loss is below a threshold.

For notebooks: `run(batch_size=[100, 20])` trains and returns the sweep, a `SweepResult`, `latest()` returns the newest
one, `load_sweep(folder)` is the table of any, `load_model(folder)` the trained network of a run, `Recorder` records a
training loop that is not this program's, and every error that they raise on purpose is a `DigitsSweepError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from digits_sweep.errors import (
    CannotRecord,
    CannotResume,
    CannotSearch,
    DataUnavailable,
    DeviceUnavailable,
    DigitsSweepError,
    EngineRefused,
    FolderInUse,
    InvalidConfig,
    MismatchedTorchvision,
    NewerFormat,
    OwnCodeFailed,
    UnreadableRecord,
    UnusableRoot,
)

if TYPE_CHECKING:
    from digits_sweep.notebook.result import SweepResult, latest
    from digits_sweep.notebook.run import run
    from digits_sweep.notebook.trained import load_model
    from digits_sweep.recorder.recorder import Recorder
    from digits_sweep.results.sweep import load_sweep
    from digits_sweep.sweep.status import status_of

__all__ = [
    "CannotRecord",
    "CannotResume",
    "CannotSearch",
    "DataUnavailable",
    "DeviceUnavailable",
    "DigitsSweepError",
    "EngineRefused",
    "FolderInUse",
    "InvalidConfig",
    "MismatchedTorchvision",
    "NewerFormat",
    "OwnCodeFailed",
    "Recorder",
    "SweepResult",
    "UnreadableRecord",
    "UnusableRoot",
    "latest",
    "load_model",
    "load_sweep",
    "run",
    "status_of",
]
__version__ = "0.1.0"


_LATER = {
    "Recorder": "recorder.recorder",
    "SweepResult": "notebook.result",
    "latest": "notebook.result",
    "load_model": "notebook.trained",
    "load_sweep": "results.sweep",
    "run": "notebook.run",
    "status_of": "sweep.status",
}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: a report or --version needs no torch.
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
