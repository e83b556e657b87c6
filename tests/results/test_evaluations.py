"""evaluations.csv: read back to the last digit or refused by name; the running loss at any iteration."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.losses import WINDOW, RunningLoss
from digits_sweep.results.record import EvaluationRow, read_evaluations, running_loss, write_evaluations

ROWS = [
    EvaluationRow(0, 0, 0.0, 2.3026, 0.9, 2.3025, 0.91, 3),
    EvaluationRow(30, 3_000, 1 / 3, 2.1, 0.5, 2.2, 0.6, 0, 2.25, 3.2672e-4, 0.043119, 131.97),
    EvaluationRow(60, 6_000, 2 / 3, math.inf, 0.5, 2.2, 0.6, 0, 2.0, -1e-9, 0.1, math.inf),
]
HEADER = (
    "iterations,examples,seconds,train_loss,train_error,test_loss,test_error,classes_never_predicted,running_loss,"
    "gradient_squared_norm,gradient_trace,noise_scale"
)


def test_evaluations_are_read_back_to_the_last_digit(tmp_path):
    write_evaluations(tmp_path, ROWS)
    assert read_evaluations(tmp_path) == ROWS


def test_the_columns_are_in_this_order_and_what_is_not_measured_is_empty(tmp_path):
    write_evaluations(tmp_path, ROWS)
    lines = (tmp_path / "evaluations.csv").read_text().splitlines()
    assert lines[:2] == [HEADER, "0,0,0.0,2.3026,0.9,2.3025,0.91,3,,,,"]


def test_only_the_evaluations_that_the_record_commits_are_read(tmp_path):
    write_evaluations(tmp_path, ROWS[:2])
    committed = (tmp_path / "evaluations.csv").read_bytes()
    signature = {"bytes": len(committed), "sha256": hashlib.sha256(committed).hexdigest()}
    write_evaluations(tmp_path, ROWS)
    assert read_evaluations(tmp_path, signature) == ROWS[:2]
    write_evaluations(tmp_path, ROWS[1:])
    with pytest.raises(UnreadableRecord, match=r"^evaluations\.csv: does not fit record\.json$"):
        read_evaluations(tmp_path, signature)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("iterations,examples\n0,0\n", "its columns are not iterations,examples,seconds"),
        (f"{HEADER}\n0,0,0.0,2.3\n", "a row has more or fewer cells than columns"),
        (f"{HEADER}\n0,0,0.0,2.3,,2.3,0.9,3,,,,\n", "could not convert string to float"),
        (f"{HEADER}\n0.5,0,0.0,2.3,0.9,2.3,0.9,3,,,,\n", "invalid literal for int"),
        (f"{HEADER}\n-1,0,0.0,2.3,0.9,2.3,0.9,3,,,,\n", "iterations is no count: -1"),
        (f"{HEADER}\n0,{2**63},0.0,2.3,0.9,2.3,0.9,3,,,,\n", "examples is no count"),
        (f"{HEADER}\n" + "3,9,0.0,2.3,0.9,2.3,0.9,3,,,,\n" * 2, "its iterations do not count up"),
    ],
)
def test_what_no_run_has_written_is_refused_by_name(tmp_path, text, reason):
    (tmp_path / "evaluations.csv").write_text(text)
    with pytest.raises(UnreadableRecord, match=rf"^evaluations\.csv: {reason}"):
        read_evaluations(tmp_path)


@given(data=st.data())
def test_the_running_loss_is_the_mean_over_the_fewest_last_iterations_that_have_3000_examples(data):
    num_samples = data.draw(st.integers(1, 5_000))
    batch_size = data.draw(st.integers(1, num_samples))
    per_epoch = -(-num_samples // batch_size)
    sizes = [batch_size] * (per_epoch - 1) + [num_samples - (per_epoch - 1) * batch_size]
    iterations = data.draw(st.integers(0, min(9 * WINDOW // batch_size, 4_000)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    losses = random.uniform(1.5, 2.3, iterations + 5).astype(np.float32)
    seen, total, iteration = 0, 0.0, iterations
    while seen < WINDOW and iteration > 0:
        iteration -= 1
        seen += sizes[iteration % per_epoch]
        total += float(losses[iteration]) * sizes[iteration % per_epoch]
    found = running_loss(losses, iterations, batch_size, num_samples)
    assert found == (pytest.approx(total / seen) if seen >= WINDOW else None)


def test_it_is_the_running_loss_that_the_summary_is_made_from():
    losses = np.linspace(2.3, 1.5, 150, dtype=np.float32)
    crossing = RunningLoss(batch_size=100, num_samples=1_050, threshold=1.8).follow(losses)
    assert running_loss(losses, crossing.iterations, 100, 1_050) < 1.8
    assert running_loss(losses, crossing.iterations - 1, 100, 1_050) >= 1.8
