"""digits_sweep: how long an epoch takes at each batch size, and after how many epochs the loss is below a threshold."""

__version__ = "0.1.0"
