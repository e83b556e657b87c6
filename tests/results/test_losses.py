"""The losses of all iterations, and the running loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.losses import WINDOW, LossesFile, RunningLoss, read_losses

EPOCHS = [np.array([2.25, 2.0, 1.75], dtype=np.float32), np.array([1.5, 1.25, 1.0], dtype=np.float32)]


def written(folder) -> LossesFile:
    file = LossesFile(folder)
    file.restore(0)
    for losses in EPOCHS:
        file.append(losses)
    return file


def test_numpy_reads_the_file_after_every_epoch(tmp_path):
    file = LossesFile(tmp_path)
    file.restore(0)
    assert np.load(tmp_path / "losses.npy").tolist() == []
    for number, losses in enumerate(EPOCHS, 1):
        file.append(losses)
        assert np.load(tmp_path / "losses.npy").tolist() == np.concatenate(EPOCHS[:number]).tolist()


def test_what_was_not_committed_is_cut_off(tmp_path):
    written(tmp_path)
    again = LossesFile(tmp_path)
    assert again.restore(3).tolist() == EPOCHS[0].tolist()
    again.append(EPOCHS[1])
    assert np.load(tmp_path / "losses.npy").tolist() == np.concatenate(EPOCHS).tolist()
    assert again.signature == written(tmp_path).signature


@pytest.mark.parametrize("kept", [0, 50, 128, 128 + 5])
def test_losses_that_are_lost_are_nan_and_what_follows_keeps_its_place(tmp_path, kept):
    written(tmp_path)
    path = tmp_path / "losses.npy"
    path.write_bytes(path.read_bytes()[:kept])
    again = LossesFile(tmp_path)
    found = again.restore(3)
    assert len(found) == 3
    assert np.isnan(found[-1])
    again.append(EPOCHS[1])
    assert np.load(path)[3:].tolist() == EPOCHS[1].tolist()


def test_losses_are_read_if_they_are_those_of_the_record(tmp_path):
    signature = written(tmp_path).signature
    assert read_losses(tmp_path, signature).tolist() == np.concatenate(EPOCHS).tolist()
    path = tmp_path / "losses.npy"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(UnreadableRecord, match=r"losses\.npy: does not fit record\.json"):
        read_losses(tmp_path, signature)


def crossing_by_hand(losses, batch_size, num_samples, threshold):
    """The definition, iteration by iteration."""
    sizes = [min(batch_size, num_samples - start) for start in range(0, num_samples, batch_size)]
    seen = [(loss, sizes[number % len(sizes)]) for number, loss in enumerate(losses)]
    for end in range(1, len(seen) + 1):
        window, examples = [], 0
        while examples < WINDOW and len(window) < end:
            window.append(seen[end - 1 - len(window)])
            examples += window[-1][1]
        if examples >= WINDOW and sum(loss * size for loss, size in window) / examples < threshold:
            return end, sum(size for _, size in seen[:end])
    return None


@given(
    st.lists(st.floats(1.5, 2.25, width=32), max_size=60),
    st.integers(100, 5_000),
    st.integers(1, 8),
    st.integers(0, 400),
    st.integers(1, 70),
)
def test_the_running_loss_is_the_mean_over_the_last_3000_examples(losses, batch_size, full, rest, cut):
    num_samples = full * batch_size + min(rest, batch_size - 1)
    running = RunningLoss(batch_size, num_samples, 1.7)
    for start in range(0, len(losses), cut):
        running.follow(losses[start : start + cut])
    expected = crossing_by_hand(losses, batch_size, num_samples, 1.7)
    found = running.crossing and (running.crossing.iterations, running.crossing.examples)
    assert found == expected


def test_a_loss_that_is_not_known_leaves_the_crossing_unknown():
    running = RunningLoss(1_000, 10_000, 1.6)
    assert running.follow([float("nan")] * 10) is None
    assert running.follow([1.5] * 10) is None


def test_a_crossing_before_the_run_diverges_counts():
    running = RunningLoss(1_000, 10_000, 1.6)
    running.follow([1.5] * 4)
    assert running.follow([float("nan")] * 6) == running.crossing
    assert running.crossing.iterations == 3
