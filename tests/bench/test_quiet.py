"""Whether a machine is quiet enough to be timed."""

import pytest

from digits_sweep.bench.quiet import busy


@pytest.mark.parametrize(
    ("seconds", "load", "why"),
    [
        ([1.0, 1.01, 1.02], 0.1, None),
        ([1.0, 1.01, 1.02], None, None),
        ([1.0, 1.01, 1.02], 3.14, "3.1 processes wanted to run during the last minute"),
        ([1.0, 1.5, 1.6], 0.1, "a loop that should always take as long takes 1.50 times its best time"),
        ([1.0, 1.5, 1.6], 2, "2.0 processes wanted to run during the last minute and a loop that should always take"),
    ],
)
def test_a_busy_machine_is_named_with_the_reason(seconds, load, why):
    found = busy(seconds, load)
    assert found == why if why is None else found.startswith(why)
