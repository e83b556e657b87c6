"""A run that is stopped between any two changes of the disk, or in the middle of one, resumes to the same bits.

The changes of a run of two epochs are recorded, and every beginning of them is replayed into a folder of its own: as a
killed process leaves it, with a change half done, and as a power cut leaves it, which keeps no more than was flushed.
"""

import random

import numpy as np
import pytest

from digits_sweep.config.plan import plan
from digits_sweep.sweep.run import run
from tests.killing import losses, weights
from tests.sweep.disk import disk_after, recorded_changes

CONFIG = [
    "data=mnist_sample",
    "data.batch_size=1500",
    "model.hidden_size=2",
    "optimizer.lr=1e-2",
    "trainer.num_epochs=2",
]
WAYS = {"killed": (1.0, False), "half done": (0.5, False), "power cut": (1.0, True)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The configuration, the folder of a run that nothing stopped, and its changes of the disk."""
    config, folder = plan(CONFIG).settings, tmp_path_factory.mktemp("undisturbed") / "run"
    with recorded_changes() as changes:
        assert run(config, folder).status == "completed"
    return config, folder, changes


def resumes_to_the_same_bits(undisturbed, tmp_path, count: int, way: str) -> None:
    config, expected, changes = undisturbed
    part, after_power_cut = WAYS[way]
    folder = tmp_path / f"{count}_{way}" / "run"
    folder.mkdir(parents=True)
    disk_after(changes, count, part).write_to(folder, expected, after_power_cut)
    assert run(config, folder).status == "completed"
    assert losses(folder) == losses(expected)
    assert np.array_equal(np.load(folder / "losses.npy"), np.load(expected / "losses.npy"))
    for one, other in zip(weights(folder), weights(expected), strict=True):
        assert one.equal(other)
    # After a power cut the record may be empty: it is not waited for, because the checkpoint has it.
    assert after_power_cut or not list(folder.glob("*.unreadable*"))


@pytest.mark.parametrize("way", WAYS)
def test_stopped_at_some_moments_it_resumes_to_the_same_bits(undisturbed, tmp_path, way):
    moments = range(len(undisturbed[2]) + 1)
    for count in sorted(random.Random(way).sample(moments, 8)):
        resumes_to_the_same_bits(undisturbed, tmp_path, count, way)


@pytest.mark.full
@pytest.mark.parametrize("way", WAYS)
def test_stopped_at_any_moment_it_resumes_to_the_same_bits(undisturbed, tmp_path, way):
    for count in range(len(undisturbed[2]) + 1):
        resumes_to_the_same_bits(undisturbed, tmp_path, count, way)
