"""In which order an epoch sees the digits."""

import numpy as np
import torch
from torch import Tensor


def epoch_order(seed: int, epoch: int, num_samples: int) -> Tensor:
    """The order of epoch `epoch` (from 1): a permutation of 0 .. num_samples - 1, (num_samples,) int64 on the CPU.

    A pure function of `seed` (0 or more) and `epoch`, so every engine, every device and every resumed run sees the
    same batches. SeedSequence mixes the two: adding them would give seed 1's second epoch to seed 2 as its first.
    Raises ValueError where one of them is negative.
    """
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])
    return torch.randperm(num_samples, generator=torch.Generator().manual_seed(mixed))
