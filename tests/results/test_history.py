"""What a history amounts to."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.columns import COLUMNS, fill
from digits_sweep.results.record import EpochRow, Record, read_history, write_history


def history(*epochs: tuple[float, float]) -> list[EpochRow]:
    return [EpochRow(number, loss, 0.1, seconds, 100 / seconds) for number, (loss, seconds) in enumerate(epochs, 1)]


def outcome(
    epochs: list[EpochRow], threshold: float, train_samples: int, crossing: int | None = None
) -> dict[str, float | None]:
    """The columns that follow from the epochs, of ten iterations each, and from where the running loss crosses."""
    model, trainer = {"name": "mlp", "head": "softmax"}, {"loss_threshold": threshold}
    known = {"train_samples": train_samples, "iterations_per_epoch": 10, "iterations": 10 * len(epochs)} | {
        "iterations_to_threshold": crossing
    }
    record = Record(0, summary=known, config={"model": model, "trainer": trainer})
    fill(record, epochs)
    return {name: record.summary[name] for name in FROM_EPOCHS}


FROM_EPOCHS = [column.name for column in COLUMNS if column.of and not column.keys]


def test_the_first_epoch_below_the_threshold_counts_not_the_last_or_the_lowest():
    found = outcome(history((1.7, 1), (1.59, 1), (1.61, 1), (1.5, 1)), 1.6, 100)
    assert found["first_epoch_below_threshold"] == 2
    assert found["final_loss"] == 1.5


def test_a_loss_at_the_threshold_is_not_below_it():
    assert outcome(history((1.6, 1)), 1.6, 100)["first_epoch_below_threshold"] is None


def test_a_threshold_never_reached_is_none_and_so_are_its_seconds():
    found = outcome(history((1.7, 1), (1.65, 1)), 1.6, 100)
    assert found["first_epoch_below_threshold"] is None
    assert found["seconds_to_threshold"] is None
    assert found["epochs"] == 2


def test_seconds_per_epoch_leave_the_first_epoch_out_and_keep_it_apart():
    found = outcome(history((1.7, 9), (1.7, 2), (1.7, 4)), 1.6, 100)
    assert found["seconds_per_epoch"] == 3
    assert found["seconds_first_epoch"] == 9


def test_a_single_epoch_is_all_there_is():
    assert outcome(history((1.7, 9)), 1.6, 100)["seconds_per_epoch"] == 9


@pytest.mark.parametrize(("crossing", "seconds"), [(1, 0.9), (10, 9), (11, 9.2), (20, 11), (25, 12)])
def test_seconds_to_the_threshold_share_an_epochs_seconds_out_over_its_iterations(crossing, seconds):
    found = outcome(history((1.7, 9), (1.5, 2), (1.4, 2)), 1.6, 100, crossing)
    assert found["seconds_to_threshold"] == pytest.approx(seconds)


def test_a_diverged_run_has_not_reached_the_threshold():
    assert outcome(history((float("nan"), 1)), 1.6, 100)["first_epoch_below_threshold"] is None


def test_no_epoch_at_all_amounts_to_nothing():
    found = outcome([], 1.6, 100)
    assert found.pop("epochs") == 0
    assert set(found.values()) == {None}


losses_and_seconds = st.lists(st.tuples(st.floats(1.4, 2.4), st.floats(1e-3, 1e3)), min_size=1, max_size=40)


@given(losses_and_seconds)
def test_the_columns_agree_with_one_another(epochs):
    found = outcome(history(*epochs), 1.6, 60_000)
    reached = found["first_epoch_below_threshold"]
    assert (reached is None) == all(loss >= 1.6 for loss, _ in epochs)
    if reached is not None:
        assert epochs[reached - 1][0] < 1.6
    assert found["examples_per_second"] == pytest.approx(60_000 / found["seconds_per_epoch"])
    assert found["seconds_per_epoch"] == median([seconds for _, seconds in epochs[1:]] or [epochs[0][1]])


def test_a_history_is_read_back_to_the_last_digit(tmp_path):
    rows = [EpochRow(1, 1.7053080132524251, 0.1, 2 / 3, 1e5 / 3), EpochRow(2, float("nan"), 0.0, 1.0, 1.0)]
    write_history(tmp_path, rows)
    first, second = read_history(tmp_path)
    assert first == rows[0]
    assert second.loss_mean != second.loss_mean


def test_a_history_with_a_torn_row_is_refused_by_name(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss_mean,loss_std,seconds,examples_per_second\n1,2.0,0.1\n")
    with pytest.raises(UnreadableRecord, match=r"history\.csv"):
        read_history(tmp_path)
