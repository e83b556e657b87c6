"""A run that is stopped between any two changes of the disk, or in the middle of one, resumes to the same bits.

The changes of a run of two epochs are recorded, and every beginning of them is replayed into folders of their own: as a
killed process leaves it, with a change half done, and as a power cut may leave it, which keeps any part of what was not
flushed.
"""

import random

import numpy as np
import pytest

from digits_sweep.config.plan import plan
from digits_sweep.results.record import read_record
from digits_sweep.results.run import read_run
from digits_sweep.sweep.run import run
from tests.killing import losses, weights
from tests.sweep.disk import disk_after, recorded_changes, write_files

CONFIG = [
    "data=mnist_sample",
    "data.batch_size=1500",
    "model.hidden_size=2",
    "optimizer.lr=1e-2",
    "trainer.num_epochs=2",
]
EVALUATED = [
    "evaluation=fine", "evaluation.every_examples=2000", "evaluation.train_samples=20", "evaluation.test_samples=20"
]  # fmt: skip
WAYS = ["killed", "half done", "power cut"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The configuration, the folder of a run that nothing stopped, and its changes of the disk."""
    config, folder = plan([*CONFIG, *EVALUATED]).settings, tmp_path_factory.mktemp("undisturbed") / "run"
    with recorded_changes() as changes:
        assert run(config, folder).record.status == "completed"
    return config, folder, changes


def states(changes, count: int, way: str, most: int):
    """What may be on the disk when the run is stopped this way after `count` changes."""
    if way == "power cut":
        return disk_after(changes, count).after_power_cuts(most, random.Random(count))
    disk = disk_after(changes, count, 0.5 if way == "half done" else 1.0)
    return [{path: file.content for path, file in disk.names.items()}]


def resumes_to_the_same_bits(undisturbed, tmp_path, count: int, way: str, most: int) -> None:
    config, expected, changes = undisturbed
    for number, state in enumerate(states(changes, count, way, most)):
        folder = tmp_path / f"{count}_{way}_{number}" / "run"
        write_files(state, folder, expected)
        is_completed = (folder / "record.json").exists() and _status(folder) == "completed"
        # Whatever makes a record say that is on the disk before it.
        assert not is_completed or read_run(folder).row == read_run(expected).row | {"run_dir": "run"}
        assert run(config, folder).record.status == "completed"
        assert losses(folder) == losses(expected)
        assert np.array_equal(np.load(folder / "losses.npy"), np.load(expected / "losses.npy"))
        for one, other in zip(weights(folder), weights(expected), strict=True):
            assert one.equal(other)
        evaluations = [[row.train_loss for row in read_run(each).evaluations] for each in (folder, expected)]
        assert evaluations[0] == evaluations[1]
        assert not list(folder.glob("set_aside*"))


def _status(folder) -> str:
    return read_record(folder).status


@pytest.mark.parametrize("way", WAYS)
def test_stopped_at_some_moments_it_resumes_to_the_same_bits(undisturbed, tmp_path, way):
    moments = range(len(undisturbed[2]) + 1)
    for count in sorted(random.Random(way).sample(moments, 6)):
        resumes_to_the_same_bits(undisturbed, tmp_path, count, way, most=4)


@pytest.mark.full
@pytest.mark.parametrize("way", WAYS)
def test_stopped_at_any_moment_it_resumes_to_the_same_bits(undisturbed, tmp_path, way):
    for count in range(len(undisturbed[2]) + 1):
        resumes_to_the_same_bits(undisturbed, tmp_path, count, way, most=40)
