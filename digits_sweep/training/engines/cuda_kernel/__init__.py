"""A whole epoch in one CUDA kernel: `epoch.cu` has the formula, `engine.py` lays out its memory."""
