"""Two sweeps side by side."""

import math

import pytest

from digits_sweep.report.analysis.comparison import comparison, differences, faster, side_by_side
from tests.studies import add_run, finished, losses_reaching


@pytest.mark.parametrize(
    ("values", "base", "told"),
    [
        ([1.0], [1.23], "1.23 times as fast (too few runs to tell from noise)"),
        ([1.0, 1.01, 1.02, 1.03], [2.0, 2.02, 2.04, 2.06], "2.00 times as fast (more than the noise, p = 0.029)"),
        ([2.0, 2.02, 2.04, 2.06], [1.0, 1.01, 1.02, 1.03], "0.50 times as fast (more than the noise, p = 0.029)"),
        ([1.0, 3.0, 5.0, 7.0], [2.0, 4.0, 6.0, 8.0], "1.25 times as fast (within the noise, p = 0.69)"),
        ([math.inf] * 3, [math.inf] * 3, "neither gets there (too few runs to tell from noise)"),
        ([1.0] * 3, [math.inf] * 3, "gets there (too few runs to tell from noise)"),
        ([math.inf] * 3, [1.0] * 3, "does not get there (too few runs to tell from noise)"),
    ],
)
def test_a_difference_is_told_with_whether_it_is_more_than_the_noise(values, base, told):
    assert str(faster(values, base)) == told


def test_sweeps_that_differ_in_their_engine_are_compared_batch_size_by_batch_size(tmp_path):
    studies = []
    for engine, seconds in (("lesson", 8.0), ("closed_form", 1.0)):
        for batch_size in (100, 20):
            add_run(
                tmp_path / engine, f"{batch_size}", losses_reaching(2), seconds, batch_size=batch_size, engine=engine
            )
        studies.append(finished(tmp_path / engine))
    runs, _ = side_by_side(studies)
    assert differences(runs) == ["engine: lesson in A, closed_form in B"]
    assert [[str(cell) for cell in row[:4]] for row in comparison(runs).rows] == [
        ["batch size 100", "A", "8 s", ""],
        ["batch size 100", "B", "1 s", "8.00 times as fast (too few runs to tell from noise)"],
        ["batch size 20", "A", "8 s", ""],
        ["batch size 20", "B", "1 s", "8.00 times as fast (too few runs to tell from noise)"],
    ]
