"""Whether a machine is quiet enough to be timed."""

import pytest

from benchmarks.quiet import busy


@pytest.mark.parametrize(
    ("seconds", "load", "cores", "why"),
    [
        ([1.0, 1.01, 1.02], 0.1, 2, None),
        ([1.0, 1.01, 1.02], None, 2, None),
        ([1.0, 1.01, 1.02], 3.14, 2, "3.1 processes wanted to run during the last minute on 2 cores"),
        ([1.0, 1.01, 1.02], 3.14, 16, None),
        ([1.0, 1.01, 1.02], 4.5, 16, "4.5 processes wanted to run during the last minute on 16 cores"),
        ([1.0, 1.5, 1.6], 0.1, 2, "a loop that should always take as long takes 1.50 times its best time"),
        ([1.0, 1.5, 1.6], 2, 2, "2.0 processes wanted to run during the last minute on 2 cores and a loop that should"),
    ],
)
def test_a_busy_machine_is_named_with_the_reason(seconds, load, cores, why):
    reason = busy(seconds, load, cores)
    assert reason == why if why is None else reason.startswith(why)
