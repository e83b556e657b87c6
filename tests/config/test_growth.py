"""`schedule.batch`: what may be typed, what a run then has, and what is refused while planning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.config.plan import plan
from digits_sweep.config.scaling import as_text, sizes_in

SAMPLE = "data=mnist_sample"
NOISE = ("evaluation=fine", "evaluation.noise_scale=true")
BORDERS = st.lists(st.integers(1, 10**6), max_size=5, unique=True).map(lambda borders: [0, *sorted(borders)])


@given(data=st.data(), borders=BORDERS)
def test_sizes_survive_being_written_as_text_but_for_those_that_change_nothing(data, borders):
    sizes = {border: data.draw(st.integers(1, 3)) for border in borders}
    kept = [(border, size) for border, size in sizes.items() if size != sizes.get(border - 1)]
    text = as_text(sizes)
    if len({*sizes.values()}) == 1:
        assert text is None
    else:
        assert as_text(text) == text
        at = [dict(sizes_in(text)), sizes]
        for examples in (*borders, 2 * 10**6):
            one, other = ([size for border, size in each.items() if border <= examples][-1] for each in at)
            assert one == other
    assert sizes_in(sizes)[0] == kept[0]


@pytest.mark.parametrize(
    ("arguments", "batch_size", "batch"),
    [
        (["schedule.batch={0:25,1000:100}"], 25, "{0:25,1000:100}"),
        # One size is that of every batch, and then nothing grows.
        (["schedule.batch={0:25}"], 25, None),
        (["schedule.batch={0:25,1000:25}"], 25, None),
        (["schedule.batch={0:25,1000:100}", "data.batch_size=25"], 25, "{0:25,1000:100}"),
        (["schedule.batch=grow", "data.batch_size=25", *NOISE], 25, "grow"),
        (["schedule.batch=null", "data.batch_size=25"], 25, None),
    ],
)
def test_a_run_begins_with_the_first_size(arguments, batch_size, batch):
    config = plan([SAMPLE, *arguments]).settings
    assert (config.data.batch_size, config.schedule.batch) == (batch_size, batch)


def test_rules_and_rates_by_batch_size_look_at_the_first_size():
    by_rule = plan([SAMPLE, "scaling=sqrt_lr", "scaling.reference_batch_size=100", "schedule.batch={0:25,9:100}"])
    assert by_rule.settings.optimizer.lr == pytest.approx(5e-5)
    typed = plan([SAMPLE, "optimizer.lr={25:1e-2,else:1e-3}", "schedule.batch={0:25,9:100}"])
    assert typed.settings.optimizer.lr == 1e-2


def test_fixed_and_growing_batches_are_swept_together():
    runs = plan(["-m", SAMPLE, "schedule.batch={0:25},{0:100},{0:25,1000:100}", "schedule.batch_lr=sqrt"]).runs
    assert [run.config.data.batch_size for run in runs] == [25, 100, 25]
    assert len({run.folder for run in runs}) == 3
    # The rate of a fixed batch has nothing to follow.
    assert [run.config.schedule.batch_lr for run in runs] == [None, None, "sqrt"]


def test_the_folder_of_a_single_run_says_that_its_batch_grows():
    (run,) = plan([SAMPLE, "schedule.batch=grow", "data.batch_size=25", *NOISE]).runs
    assert run.folder == "batch_size=25_batch=grow"


RIGHT = "must be sizes by examples that begin with 0 and rise, such as {0:20,30000:100}, or grow, or null"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["schedule.batch={5:20}"], f"schedule.batch={{5:20}}: {RIGHT}"),
        (["schedule.batch={0:20,90:0}"], f"schedule.batch={{0:20,90:0}}: {RIGHT}"),
        (["schedule.batch={0:20,90:1.5}"], f"schedule.batch={{0:20,90:1.5}}: {RIGHT}"),
        (["schedule.batch={0:20,90:50,30:100}"], f"schedule.batch={{0:20,90:50,30:100}}: {RIGHT}"),
        (["schedule.batch={}"], f"schedule.batch={{}}: {RIGHT}"),
        (["schedule.batch=shrink"], f"schedule.batch=shrink: {RIGHT}"),
        (["schedule.batch=50"], f"schedule.batch=50: {RIGHT}"),
        (
            ["schedule.batch={0:20,90:50}", "data.batch_size=50"],
            "data.batch_size=50: schedule.batch begins with 20; leave out data.batch_size",
        ),
        (
            ["schedule.batch={0:20,90:50}", "data.last=drop"],
            "schedule.batch={0:20,90:50}: needs data.last=keep; sizes that change leave an epoch no whole batches",
        ),
        (
            ["schedule.batch=grow"],
            "schedule.batch=grow: follows the noise scale that evaluations measure; "
            "add evaluation=fine evaluation.noise_scale=true",
        ),
        (
            ["schedule.batch=grow", "evaluation=fine"],
            "schedule.batch=grow: follows the noise scale that evaluations measure; add evaluation.noise_scale=true",
        ),
        (
            ["schedule.batch=grow", "schedule.largest_batch=10", *NOISE],
            "schedule.largest_batch=10: must be at least data.batch_size=20",
        ),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_with_one_line(refused, arguments, line):
    assert refused(SAMPLE, *arguments) == line


def test_a_batch_larger_than_the_training_set_and_a_study_of_fixed_sizes_are_refused(program):
    larger = program(SAMPLE, "schedule.batch={0:20,90:4001}", "dry_run=true")
    right = "must be at most 4000, the number of examples to train on in mnist_sample"
    assert larger.stderr.splitlines() == [f"schedule.batch={{0:20,90:4001}}: {right}"]
    study = program(SAMPLE, "schedule.batch=grow", module="digits_sweep.critical_batch_size")
    assert study.stderr.splitlines() == ["schedule.batch=grow: a study compares batches of one size; leave it out"]
