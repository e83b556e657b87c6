"""The one way to import torchvision: it fails in a way that names the cause where its build does not match torch's."""

import importlib
from importlib.metadata import version
from types import ModuleType


class MismatchedTorchvision(Exception):
    """torch and torchvision do not work together, or one is missing. The text says which they are and what to do."""


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Import `torchvision`, or a module of it.

    Raises `MismatchedTorchvision` where its compiled operators do not load, as when a CPU build of torch meets a
    torchvision that was built for another one (`operator torchvision::nms does not exist`).
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
