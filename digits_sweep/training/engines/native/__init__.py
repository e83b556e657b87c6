"""The MLP's gradient written out in C: `train.c` has the formula, `engine.py` lays out its memory."""
