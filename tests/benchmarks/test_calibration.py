"""The calibration: what a row says, and a small sample of the whole."""

import pytest

from benchmarks.calibration import main
from benchmarks.calibration_section import Check


@pytest.mark.parametrize(
    ("check", "holds", "row"),
    [
        (
            Check("it covers", "normal", 950, 1000, least=0.95),
            True,
            "| it covers | normal | 1,000 | 95.0 % [93.5, 96.3] | at least 95 % |",
        ),
        (
            Check("it errs", "two", 80, 1000, most=0.05),
            False,
            "| it errs | two | 1,000 | 8.0 % [6.4, 9.9] | at most 5 %: **does not hold** |",
        ),
        (
            Check("it covers", "one", 9, 10, least=0.92, most=0.97),
            True,
            "| it covers | one | 10 | 90.0 % [55.5, 99.7] | at least 92 % and at most 97 % |",
        ),
        (Check("it is seen", "one", 3, 10), True, "| it is seen | one | 10 | 30.0 % [6.7, 65.2] |  |"),
    ],
)
def test_a_row_says_what_happened_and_whether_that_can_be_what_is_stated(check, holds, row):
    assert (check.holds, str(check)) == (holds, row)


@pytest.mark.full
def test_a_sample_of_the_calibration_finds_nothing_that_does_not_hold(tmp_path):
    page = tmp_path / "calibration.md"
    assert main(["--share", "0.001", "--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8").count("\n## ") >= 4
