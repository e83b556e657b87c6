"""The one way to import torchvision: if its build does not match torch's, the error names the cause."""

import importlib
from importlib.metadata import version
from types import ModuleType

from digits_sweep.errors import MismatchedTorchvision


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Import `torchvision`, or a module of it.

    Raises `MismatchedTorchvision` if it is missing or its compiled operators do not load, for example if torch is a CPU
    build and torchvision was built for another one (`operator torchvision::nms does not exist`).
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise MismatchedTorchvision("torchvision is not installed; pip install torch torchvision") from error
    except (ImportError, RuntimeError) as error:
        raise MismatchedTorchvision(
            f"torch {version('torch')} and torchvision {version('torchvision')} do not work together ({error}); "
            "install both from the same place: pip install --force-reinstall torch torchvision"
        ) from error
