"""digits_sweep: how long an epoch takes at each batch size, and after how many epochs the loss is below a threshold."""

import os

__version__ = "0.1.0"

# On Linux PyTorch's threads wait for one another in a busy loop. Where another program takes one of the cores, they
# burn the time that the thread they wait for would need: an epoch of 0.6 s then takes half a minute. A short loop loses
# next to nothing on a quiet machine. The setting is read when torch is first imported, so it stands here.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
