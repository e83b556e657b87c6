"""PyTorch's optimizers without its compiler, which they import for a decorator that only `torch.compile` needs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch.optim import Optimizer

# What `torch._compile` keeps a function under that it need not ask the compiler for again.
KEPT_UNDER = "__dynamo_disable"
DECORATED = ("add_param_group", "state_dict", "load_state_dict")


@contextmanager
def without_compiler() -> Iterator[None]:
    """Make, save and load optimizers in the block without importing `torch._dynamo`, which takes over a second.

    Nothing is compiled here, so there is nothing to keep from being compiled. Afterwards PyTorch is as before. If it is
    built in another way, its compiler is imported as usual.
    """
    plain = [getattr(getattr(Optimizer, name), "__wrapped__", None) for name in DECORATED]
    spared = [function for function in plain if function and not hasattr(function, KEPT_UNDER)]
    if "torch._dynamo" in sys.modules:
        spared = []
    for function in spared:
        setattr(function, KEPT_UNDER, function)
    try:
        yield
    finally:
        for function in spared:
            delattr(function, KEPT_UNDER)
