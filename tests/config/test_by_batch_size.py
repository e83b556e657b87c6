"""A rate of its own for every batch size, typed on the command line."""

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.errors import InvalidConfig


def rates(*arguments: str) -> dict[str, float]:
    return {run.folder: run.config.optimizer.lr for run in plan(["-m", *arguments]).runs}


def test_each_batch_size_has_its_rate():
    assert rates("data.batch_size=100,20,5", "optimizer.lr={100:1e-3,5:1e-4,else:3e-4}") == {
        "batch_size=100": 1e-3,
        "batch_size=20": 3e-4,
        "batch_size=5": 1e-4,
    }


def test_no_value_is_needed_for_a_batch_size_that_no_run_has():
    found = rates("data.batch_size=100,5", "optimizer.lr={100:1e-3,5:1e-4}")
    assert found == {"batch_size=100": 1e-3, "batch_size=5": 1e-4}


def test_the_order_of_the_keys_does_not_matter():
    assert rates("optimizer.lr={5:1e-4,20:2e-4}", "data.batch_size=20,5") == {
        "batch_size=20": 2e-4,
        "batch_size=5": 1e-4,
    }


def test_several_can_be_swept_and_the_folders_have_the_numbers():
    assert rates("data.batch_size=100,20", "optimizer.lr={100:1e-3,20:1e-4},2e-3") == {
        "batch_size=100_lr=0.001": 1e-3,
        "batch_size=100_lr=0.002": 2e-3,
        "batch_size=20_lr=1e-4": 1e-4,
        "batch_size=20_lr=0.002": 2e-3,
    }


def test_any_key_may_have_a_value_for_every_batch_size():
    (run,) = plan(["data.batch_size=5", "trainer.num_epochs={5:3,else:9}", "optimizer.betas={5:[0.8,0.9]}"]).runs
    assert (run.config.trainer.num_epochs, run.config.optimizer.betas) == (3, [0.8, 0.9])


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optimizer.lr={5:1e-4}", "optimizer.lr={5:0.0001}: has no value for batch size 20; add else:VALUE"),
        ("optimizer.lr={small:1e-4}", "optimizer.lr={small:0.0001}: give each batch size its value, such as "),
        ("data.batch_size={5:1}", "data.batch_size={5:1}: give each batch size its value, such as "),
        ("optimizer.lr={20:-1}", "optimizer.lr=-1: must be a number above 0"),
        ("optimizer.lr={20:fast}", "optimizer.lr={20:fast}: must be a number"),
    ],
)
def test_what_gives_no_value_is_refused(override, line):
    with pytest.raises(InvalidConfig) as refused:
        plan([override])
    assert str(refused.value).startswith(line)
