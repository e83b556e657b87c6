"""The benchmark: seconds per epoch of every engine, beside the lesson's loop and the bare kernels."""
