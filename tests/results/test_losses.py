"""The losses of all iterations, and the running loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.losses import (
    LossesFile,
    RunningLoss,
    mean_of_last,
    read_losses,
    sizes_from,
    window_of,
    window_width,
)

EPOCHS = [np.array([2.25, 2.0, 1.75], dtype=np.float32), np.array([1.5, 1.25, 1.0], dtype=np.float32)]


def written(folder) -> LossesFile:
    file = LossesFile(folder)
    file.create()
    for losses in EPOCHS:
        file.append(losses)
    return file


def test_numpy_reads_the_file_after_every_epoch(tmp_path):
    file = LossesFile(tmp_path)
    file.create()
    assert np.load(tmp_path / "losses.npy").tolist() == []
    for number, losses in enumerate(EPOCHS, 1):
        file.append(losses)
        assert np.load(tmp_path / "losses.npy").tolist() == np.concatenate(EPOCHS[:number]).tolist()


def test_what_was_not_committed_is_cut_off(tmp_path):
    file = LossesFile(tmp_path)
    file.create()
    file.append(EPOCHS[0])
    committed = file.written
    file.append(EPOCHS[1])
    again = LossesFile(tmp_path)
    assert again.restore(committed).tolist() == EPOCHS[0].tolist()
    again.append(EPOCHS[1])
    assert np.load(tmp_path / "losses.npy").tolist() == np.concatenate(EPOCHS).tolist()
    assert again.written == file.written


def test_losses_are_read_if_they_are_those_that_were_written(tmp_path):
    committed = written(tmp_path).written
    assert read_losses(tmp_path, committed).tolist() == np.concatenate(EPOCHS).tolist()
    assert read_losses(tmp_path, count=3).tolist() == EPOCHS[0].tolist()
    path = tmp_path / "losses.npy"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    for read in (read_losses, lambda folder, written: LossesFile(folder).restore(written)):
        with pytest.raises(UnreadableRecord, match=r"losses\.npy: does not fit the run's other files"):
            read(tmp_path, committed)
    with pytest.raises(UnreadableRecord, match=r"losses\.npy"):
        read_losses(tmp_path, count=7)


def crossing_by_hand(losses, batch_size, num_samples, threshold):
    """The definition, iteration by iteration."""
    sizes = [min(batch_size, num_samples - start) for start in range(0, num_samples, batch_size)]
    seen = [(loss, sizes[number % len(sizes)]) for number, loss in enumerate(losses)]
    for end in range(1, len(seen) + 1):
        window, examples = [], 0
        while examples < window_of(num_samples) and len(window) < end:
            window.append(seen[end - 1 - len(window)])
            examples += window[-1][1]
        if examples >= window_of(num_samples) and sum(loss * size for loss, size in window) / examples < threshold:
            return end, sum(size for _, size in seen[:end])
    return None


@given(
    st.lists(st.floats(1.5, 2.25, width=32), max_size=60),
    st.integers(100, 5_000),
    st.integers(1, 8),
    st.integers(0, 400),
    st.integers(1, 70),
)
def test_the_running_loss_is_the_mean_over_the_last_twentieth_of_an_epoch(losses, batch_size, full, rest, cut):
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
    running.follow([2.0, 1.5, 1.5, 1.5])
    assert running.follow([float("nan")] * 6) == running.crossing
    assert running.crossing.iterations == 2


@pytest.mark.parametrize(
    ("samples", "batch_size", "window", "width"),
    [(60_000, 5, 3_000, 3_000), (60_000, 1_000, 3_000, 3_000), (60_000, 4_000, 3_000, 4_000), (1_437, 20, 72, 80),
     (1_437, 100, 72, 100), (20, 5, 1, 5), (3, 1, 1, 1)],
)  # fmt: skip
def test_the_window_follows_the_training_set(samples, batch_size, window, width):
    assert (window_of(samples), window_width(batch_size, samples)) == (window, width)


@given(data=st.data())
def test_at_any_iteration_it_is_the_mean_over_the_fewest_last_ones_that_fill_its_window(data):
    num_samples = data.draw(st.integers(1, 70_000))
    batch_size = data.draw(st.integers(1, num_samples))
    per_epoch = -(-num_samples // batch_size)
    sizes = [batch_size] * (per_epoch - 1) + [num_samples - (per_epoch - 1) * batch_size]
    iterations = data.draw(st.integers(0, min(9 * window_of(num_samples) // batch_size, 4_000)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    losses = random.uniform(1.5, 2.3, iterations).astype(np.float32)
    seen, total, iteration = 0, 0.0, iterations
    while seen < window_of(num_samples) and iteration > 0:
        iteration -= 1
        seen += sizes[iteration % per_epoch]
        total += float(losses[iteration]) * sizes[iteration % per_epoch]
    mean = mean_of_last(losses, sizes_from(0, iterations, batch_size, num_samples), window_of(num_samples))
    assert mean == (pytest.approx(total / seen) if seen >= window_of(num_samples) else None)


def test_the_crossing_is_where_the_running_loss_is_first_below():
    losses = np.linspace(2.3, 1.5, 150, dtype=np.float32)
    crossing = RunningLoss(batch_size=100, num_samples=1_050, threshold=1.8).follow(losses)
    sizes, window = sizes_from(0, len(losses), 100, 1_050), window_of(1_050)
    at, before = (
        mean_of_last(losses[:count], sizes[:count], window) for count in (crossing.iterations, crossing.iterations - 1)
    )
    assert at < 1.8 <= before
