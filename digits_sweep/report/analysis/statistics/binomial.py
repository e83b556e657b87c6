"""The binomial distribution, as far as the report needs it: scipy has it, but takes a fifth of a second to import."""

import math
from collections.abc import Callable
from functools import cache

# A share of 0 to 1 cannot be halved more often in float64.
HALVINGS = 60


@cache
def at_most(hits: int, runs: int) -> float:
    """Return the probability of at most `hits` heads in `runs` throws of a fair coin, from whole numbers."""
    return sum(math.comb(runs, each) for each in range(hits + 1)) / 2**runs


@cache
def share_interval(hits: int, runs: int, confidence: float) -> tuple[float, float]:
    """Return the exact interval of the share `hits` of `runs` (Clopper and Pearson 1934).

    Its ends are the shares at which so many hits or more, or so many or fewer, have probability (1 - confidence) / 2.
    """
    tail = (1 - confidence) / 2
    return (
        _share_with(lambda share: _at_least(hits, runs, share) >= tail) if hits else 0.0,
        _share_with(lambda share: _at_least(hits + 1, runs, share) >= 1 - tail) if hits < runs else 1.0,
    )


def _at_least(hits: int, runs: int, share: float) -> float:
    """Return the probability of `hits` or more of `runs` if each is one with probability `share`, between 0 and 1."""
    yes, no = math.log(share), math.log1p(-share)
    ways = math.lgamma(runs + 1)
    return math.fsum(
        math.exp(ways - math.lgamma(each + 1) - math.lgamma(runs - each + 1) + each * yes + (runs - each) * no)
        for each in range(hits, runs + 1)
    )


def _share_with(is_reached: Callable[[float], bool]) -> float:
    """Return the smallest share at which a probability that grows with it is reached, by halving."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if is_reached(middle) else (middle, high)
    return high
