"""Sweeps side by side: how many times as fast, and whether that is more than the noise."""

import math

import pytest

from digits_sweep.report.analysis.statistics.comparison import apart, combine, contrast, differences
from digits_sweep.report.tables.configurations import comparison
from tests.studies import add_run, finished, losses_reaching


@pytest.mark.parametrize(
    ("values", "base", "ratio", "p_value"),
    [
        ([1.0], [1.23], 1.23, None),
        ([1.0, 1.01, 1.02, 1.03], [2.0, 2.02, 2.04, 2.06], 2.0, 0.029),
        ([2.0, 2.02, 2.04, 2.06], [1.0, 1.01, 1.02, 1.03], 0.5, 0.029),
        ([1.0, 3.0, 5.0, 7.0], [2.0, 4.0, 6.0, 8.0], 1.25, 0.69),
        ([1.0] * 3, [math.inf] * 3, math.inf, None),
        ([math.inf] * 3, [1.0] * 3, 0, None),
        ([math.inf] * 3, [math.inf] * 3, math.nan, None),
    ],
)
def test_a_contrast_is_a_ratio_of_medians_with_a_p_value_if_there_are_enough_runs(values, base, ratio, p_value):
    found = contrast(values, base)
    assert found.ratio == pytest.approx(ratio, rel=0.01, nan_ok=True)
    assert found.p_value == (None if p_value is None else pytest.approx(p_value, abs=0.005))


def two_sweeps(folder, seconds, epochs, **columns):
    """Sweeps `a` and `b` with as many runs as seconds and epochs are given for each."""
    studies = []
    for name in ("a", "b"):
        for seed, (each, epoch) in enumerate(zip(seconds[name], epochs[name], strict=True)):
            own = {column: values[name] for column, values in columns.items()}
            add_run(folder / name, f"seed={seed}", losses_reaching(epoch), each, seed=seed, **own)
        studies.append(finished(folder / name))
    return combine(studies)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("seconds", "epochs", "text"),
    [
        ({"a": [1.23], "b": [1.0]}, {"a": [2], "b": [2]}, "1.23 times as fast (too few runs to tell from noise)"),
        (
            {"a": [2.0, 2.02, 2.04, 2.06], "b": [1.0, 1.01, 1.02, 1.03]},
            {"a": [2] * 4, "b": [2] * 4},
            "2.00 times as fast (more than the noise, p = 0.029)",
        ),
        (
            {"a": [2.0, 4.0, 6.0, 8.0], "b": [1.0, 3.0, 5.0, 7.0]},
            {"a": [2] * 4, "b": [2] * 4},
            "1.25 times as fast (within the noise, p = 0.69)",
        ),
        (
            {"a": [1.0], "b": [1.0]},
            {"a": [None], "b": [None]},
            "neither reaches the threshold (too few runs to tell from noise)",
        ),
        ({"a": [1.0], "b": [1.0]}, {"a": [None], "b": [2]}, "reaches the threshold (too few runs to tell from noise)"),
        (
            {"a": [1.0], "b": [1.0]},
            {"a": [2], "b": [None]},
            "does not reach the threshold (too few runs to tell from noise)",
        ),
    ],
)
def test_a_difference_is_written_with_whether_it_is_more_than_the_noise(tmp_path, seconds, epochs, text):
    rows = comparison(two_sweeps(tmp_path, seconds, epochs)).rows
    assert [str(row[5]) for row in rows] == ["", text]


def test_sweeps_that_differ_in_their_engine_are_compared_batch_size_by_batch_size(tmp_path):
    studies = []
    for engine, seconds in (("lesson", 8.0), ("closed_form", 1.0)):
        for batch_size in (100, 20):
            losses = losses_reaching(2)
            add_run(tmp_path / engine, f"{batch_size}", losses, seconds, batch_size=batch_size, engine=engine)
        studies.append(finished(tmp_path / engine))
    combined = combine(studies)
    assert differences(combined) == ["engine: lesson in A, closed_form in B"]
    assert [[str(cell) for cell in row[:4]] for row in comparison(combined).rows] == [
        ["batch size 100", "A", "8 s", ""],
        ["batch size 100", "B", "1 s", "8.00 times as fast (too few runs to tell from noise)"],
        ["batch size 20", "A", "8 s", ""],
        ["batch size 20", "B", "1 s", "8.00 times as fast (too few runs to tell from noise)"],
    ]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"lr": {"a": 1e-4, "b": 1e-6}}, "lr: 1e-4 in A, 1e-6 in B"),
        ({"torch_version": {"a": "2.14.0", "b": "2.15.0"}}, "torch version: 2.14.0 in A, 2.15.0 in B"),
        ({"config": {"a": {"data.scale": "raw"}, "b": {}}}, "scale: raw in A, unit in B"),
    ],
)
def test_what_differs_between_sweeps_is_written_once_and_not_in_every_name(tmp_path, columns, sentence):
    combined = two_sweeps(tmp_path, {"a": [1.0], "b": [1.0]}, {"a": [2], "b": [2]}, **columns)
    assert differences(combined) == [sentence]
    assert set(combined.runs["configuration"]) == {"batch size 20"}


def test_in_the_figures_the_sweeps_are_apart(tmp_path):
    tables = apart(two_sweeps(tmp_path, {"a": [1.0], "b": [1.0]}, {"a": [2], "b": [2]}))
    for table in (tables.runs, tables.history):
        assert list(dict.fromkeys(table["configuration"])) == ["A: batch size 20", "B: batch size 20"]
    assert list(tables.predictions.index) == list(tables.runs["run_dir"]) == ["A/seed=0", "B/seed=0"]
