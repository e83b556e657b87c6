"""The structures in which the engine tells C what to compute, and where."""

from ctypes import Structure, c_double, c_int64, c_void_p
from typing import Any


def integers(*names: str) -> list[tuple[str, Any]]:
    """Return fields of a C structure."""
    return [(name, c_int64) for name in names]


def pointers(*names: str) -> list[tuple[str, Any]]:
    """Return fields of a C structure."""
    return [(name, c_void_p) for name in names]


class Rows(Structure):
    """`struct rows` of layers.h."""

    _fields_ = (*pointers("at"), *integers("stride"))


class Layer(Structure):
    """`struct layer` of layers.h."""

    _fields_ = (
        *integers("inputs", "width", "height"),
        *pointers("weights", "transposed", "first", "second", "gradient"),
        ("values", Rows),
        ("delta", Rows),
    )


class Sparse(Structure):
    """`struct sparse` of pixels.h."""

    _fields_ = (*pointers("entries", "starts"), *integers("groups"))


class Lists(Structure):
    """`struct lists` of pixels.h."""

    _fields_ = (*pointers("entries", "ends"), *integers("room"))


class Task(Structure):
    """`struct task` of train.c."""

    _fields_ = (
        *pointers("images", "labels", "order", "levels", "losses", "shares"),
        *integers("count", "batch_size", "pixels", "hidden", "classes", "num_layers", "threads", "most"),
        *integers("squashes", "dense", "adam", "nesterov", "steps_done"),
        *((name, c_double) for name in ("rate", "beta1", "beta2", "epsilon", "decay", "shrinks")),
        *pointers("layers"),
        ("inputs", Rows * 2),
        ("sparse", Sparse),
        ("lists", Lists),
        *pointers("image_losses"),
        ("scratch", Rows),
    )
