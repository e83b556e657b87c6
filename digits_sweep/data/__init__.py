"""Data: the digits, where they come from, and in which order an epoch sees them."""

from digits_sweep.data.digits import SCALES, Digits, scale
from digits_sweep.data.epoch_order import epoch_order
from digits_sweep.data.mnist import DataUnavailable, UnusableRoot, load_mnist
from digits_sweep.data.sample import load_sample

__all__ = [
    "SCALES",
    "DataUnavailable",
    "Digits",
    "UnusableRoot",
    "epoch_order",
    "load_mnist",
    "load_sample",
    "scale",
]
