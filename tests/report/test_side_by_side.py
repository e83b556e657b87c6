"""Sweeps side by side: what they differ in, and which differences between them are more than the noise."""

import pytest

from digits_sweep.report.ranking import combine, with_sweep_names
from digits_sweep.report.sentences import differences
from digits_sweep.report.tables import comparison_table


@pytest.fixture
def two_sweeps(recorded):
    """Combine sweeps `a` and `b`, each of so many runs as there are seconds and epochs, one a seed."""

    def made(seconds=((1.0,), (1.0,)), epochs=((2,), (2,)), **columns):
        return combine(
            [
                recorded(
                    *(
                        {"reached": epoch, "seconds": each, "seed": seed}
                        | {name: values[number] for name, values in columns.items()}
                        for seed, (each, epoch) in enumerate(zip(seconds[number], epochs[number], strict=True))
                    ),
                    folder="ab"[number],
                )
                for number in (0, 1)
            ]
        )

    return made


@pytest.mark.parametrize(
    ("seconds", "epochs", "to_goal", "examples"),
    [
        (
            ([1.23], [1.0]), ([2], [2]), "1.23 times as fast (too few runs to tell from noise)",
            "the same (in 1 seed)",
        ),
        (
            ([2.0, 2.02, 2.04, 2.06], [1.0, 1.01, 1.02, 1.03]), ([2] * 4, [2] * 4),
            "2 times as fast (more than the noise, p = 0.029)", "the same (in 4 seeds)",
        ),
        (
            ([2, 4, 6, 8], [1, 3, 5, 7]), ([2] * 4, [2] * 4), "1.25 times as fast (within the noise, p = 0.69)",
            "the same (in 4 seeds)",
        ),
        (([1.0], [1.0]), ([None], [None]), "neither reaches it", "the same (in 1 seed)"),
        (
            ([1.0], [1.0]), ([None], [2]), "reached; not in A",
            "reached; not in A (fewer in 1 of 1 seeds, undecided)",
        ),
        (([1.0], [1.0]), ([2], [None]), "not reached", "not reached (fewer in 0 of 1 seeds, undecided)"),
        (
            ([1.0], [1.0]), ([2], [4]), "0.5 times as fast (too few runs to tell from noise)",
            "2 times as many (fewer in 0 of 1 seeds, undecided)",
        ),
    ],
)  # fmt: skip
def test_a_difference_is_written_with_whether_it_is_more_than_the_noise(two_sweeps, seconds, epochs, to_goal, examples):
    rows = comparison_table(two_sweeps(seconds, epochs)).rows
    assert [str(row[5]) for row in rows] == ["", to_goal]
    assert [str(row[7]) for row in rows] == ["", examples]


def test_two_thresholds_are_never_compared_in_one_ratio(two_sweeps):
    second = comparison_table(two_sweeps(loss_threshold=(1.6, 1.55))).rows[1]
    assert [str(cell) for cell in (second[5], second[7])] == ["another goal", "another goal"]
    assert str(second[3]).startswith("1 times as fast")


def test_seconds_that_were_timed_unsteadily_are_marked_where_they_are_compared(two_sweeps):
    combined = two_sweeps()
    combined.history["seconds"] *= [1, *[1.0, 1.5, 2.0] * 3] * 2
    rows = comparison_table(combined).rows
    assert str(rows[1][3]) == "1 times as fast (timed unsteadily; too few runs to tell from noise)"


def test_sweeps_are_compared_configuration_by_configuration(recorded):
    combined = combine(
        [
            recorded(*({"batch_size": size, "seconds": each, "engine": engine} for size in (100, 20)), folder=engine)
            for engine, each in (("lesson", 8.0), ("closed_form", 1.0))
        ]
    )
    assert [[str(cell) for cell in row[:4]] for row in comparison_table(combined).rows] == [
        ["batch size 100", "A", "8 s", ""],
        ["batch size 100", "B", "1 s", "8 times as fast (too few runs to tell from noise)"],
        ["batch size 20", "A", "8 s", ""],
        ["batch size 20", "B", "1 s", "8 times as fast (too few runs to tell from noise)"],
    ]
    apart = with_sweep_names(combined)
    assert {"A: batch size 20", "B: batch size 20"} <= set(apart.runs["configuration"])
    assert set(apart.history["configuration"]) == set(apart.runs["configuration"])


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"engine": ("lesson", "closed_form")}, "engine: lesson in A, closed_form in B"),
        ({"lr": (1e-4, 1e-6)}, "lr: 1e-4 in A, 1e-6 in B"),
        ({"torch_version": ("2.14.0", "2.15.0")}, "torch version: 2.14.0 in A, 2.15.0 in B"),
        ({"config": ({"data.scale": "raw"}, {})}, "scale: raw in A, unit in B"),
    ],
)
def test_what_differs_between_sweeps_is_written_once_and_not_in_every_name(two_sweeps, columns, sentence):
    combined = two_sweeps(**columns)
    assert differences(combined) == [sentence]
    assert set(combined.runs["configuration"]) == {"batch size 20"}


def test_the_differences_of_a_table_are_judged_together(recorded):
    studies = []
    for name, seconds in (("a", 2.0), ("b", 1.0)):
        runs = []
        for size in (5, 20, 100):
            for seed in range(6):
                examples = 60_000 * (2 if name == "a" and size == 5 else 1 + seed % 2)
                reached = {"examples_to_threshold": examples, "iterations_to_threshold": examples // size}
                runs.append({"seconds": seconds + seed / 100, "batch_size": size, "seed": seed, **reached})
        studies.append(recorded(*runs, folder=name))
    rows = [row for row in comparison_table(combine(studies)).rows if str(row[1]) == "B"]
    # Six runs against six have p = 0.0022; there are three of them.
    assert all(str(row[3]).endswith("(more than the noise, p = 0.0065)") for row in rows)
    # All six seeds agree on one batch size, and no seed differs at the two others.
    assert [str(row[7]).partition("seeds, ")[2] for row in rows][:1] == ["undecided)"]
