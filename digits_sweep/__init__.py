"""digits_sweep: how long an epoch takes at each batch size, and after how many epochs the loss is below a threshold.

For notebooks: `run(*overrides)` trains and returns the sweep's folder, `load_sweep(folder)` is its table, `Recorder`
records a training loop that is not this program's, and every error that they raise on purpose is a `DigitsSweepError`.
"""

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
    from digits_sweep.recorder.recorder import Recorder
    from digits_sweep.results.summary import load_sweep
    from digits_sweep.sweep.launch import run

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
    "UnreadableRecord",
    "UnusableRoot",
    "load_sweep",
    "run",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when first asked for: a report or --version needs no torch.
    if name == "run":
        from digits_sweep.sweep.launch import run

        return run
    if name == "Recorder":
        from digits_sweep.recorder.recorder import Recorder

        return Recorder
    if name == "load_sweep":
        from digits_sweep.results.summary import load_sweep

        return load_sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
