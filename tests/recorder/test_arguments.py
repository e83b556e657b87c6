"""What cannot be shown later is refused at the call, in a line; what is taken is shown as it is."""

import enum
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep import Recorder, load_sweep
from digits_sweep.errors import CannotRecord
from digits_sweep.recorder.arguments import plain
from tests.commands import Program
from tests.recorder.loops import USUAL, counted, epoch, recorder, row, says

WHOLE = "must be a whole number from 1 to 1,000,000,000"


class Color(enum.Enum):
    RED = 1


class Norm(str, enum.Enum):
    BATCH = "batch"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"batch_size": 0}, f"batch_size=0: {WHOLE}"),
        ({"batch_size": 2.5}, f"batch_size=2.5: {WHOLE}"),
        ({"batch_size": True}, f"batch_size=true: {WHOLE}"),
        ({"batch_size": "32"}, f"batch_size=32: {WHOLE}"),
        ({"batch_size": np.array([8, 16])}, f"batch_size=[8, 16]: {WHOLE}"),
        ({"train_samples": -1}, f"train_samples=-1: {WHOLE}, or null"),
        ({"lr": -1e-3}, "lr=-0.001: must be a number from 0 to 1e+12, or null"),
        ({"lr": math.inf}, "lr=inf: must be a number from 0 to 1e+12, or null"),
        ({"loss_threshold": math.nan}, "loss_threshold=nan: must be a number from -1e+12 to 1e+12, or null"),
        ({"seed": -1}, "seed=-1: must be a whole number from 0 up to 2**63 - 1"),
        ({"model": torch.nn.Linear}, "Linear'>: must be a text, such as model='mine'"),
        ({"accumulate": 3}, "accumulate=3: must be a whole number of which batch_size=20"),
        ({"settings": {"lr": 3}}, "settings.lr: is an argument of its own, lr="),
        ({"settings": {"epochs": 3}}, "settings.epochs: is a column of every table; choose another name"),
        ({"settings": {"net": torch.nn.Linear}}, "or a dictionary of these; give its name, 'Linear'"),
        ({"settings": {"net": object()}}, "settings.net=<object object at"),
        ({"settings": {"clip": math.inf}}, "settings.clip=inf: every number must be finite"),
        ({"settings": {"betas": [0.9, math.nan]}}, "settings.betas=[0.9, nan]: every number must be finite"),
        ({"settings": {"a\nb": 1}}, r"settings: the name 'a\nb' may have 100 letters, digits, spaces"),
        ({"settings": {"x" * 200: 1}}, "may have 100 letters"),
        ({"settings": {3: 1}}, "settings: the name 3 may have"),
        ({"settings": {"text": "x" * 2_000}}, "settings.text: a name has at most 100 and a value 1,000 characters"),
        ({"settings": {f"n{index}": 1 for index in range(300)}}, "values; a record has at most 200"),
        ({"targets": {"test_acc": [0.9]}}, "targets.test_acc=[0.9]: only test_error, train_error,"),
        ({"targets": {"f1": ("=>", 0.9)}}, "say how, such as targets={'f1': ('>=', 0.9)} (one of < <= > >=)"),
        ({"targets": {"test_error": [12.5]}}, "targets.test_error=12.5: must be a share of the examples"),
        ({"targets": {"test_loss": [math.inf]}}, "targets.test_loss=[inf]: every number must be finite"),
        ({"targets": {"test_accuracy": (">", 0.9)}}, "test_accuracy: is the name of another column; give test_error"),
        ({"targets": {"test_loss": ["low"]}}, "targets.test_loss=low: must be a number"),
    ],
)  # fmt: skip
def test_an_argument_that_could_not_be_shown_is_refused_with_its_value_before_anything_is_written(
    tmp_path, arguments, line
):
    with pytest.raises(CannotRecord, match=re.escape(line)) as refused:
        recorder(tmp_path, **arguments)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda run: run.step(torch.ones(3)), "a loss of shape (3,): must be one number, the mean over the batch"),
        (lambda run: run.step("0.5"), "a loss '0.5': must be one number"),
        (lambda run: run.step(1.0, examples=7), "examples=7: batch_size and train_samples make it 20"),
        (lambda run: run.evaluated(test_error=12.5), "test_error=12.5: must be a share of the examples, from 0 to"),
        (lambda run: run.evaluated(train_error=math.nan), "train_error=nan: must be a share"),
        (lambda run: run.step(1j), "a loss 1j: must be one number"),
        (lambda run: run.evaluated(f1="high"), "f1=high: must be a number"),
        (lambda run: run.evaluated(test_accuracy=0.9), "test_accuracy: is the name of another column; give test_error"),
        (lambda run: run.evaluated(examples=3), "examples: is the name of another column; choose another one"),
        (lambda run: run.evaluated(classes_never_predicted=-1), "classes_never_predicted=-1: must be a whole"),
        (lambda run: run.evaluated(), "evaluated() without a value: name one"),
    ],
)  # fmt: skip
def test_a_value_that_could_not_be_shown_is_refused_at_the_call_and_the_run_goes_on(tmp_path, call, line):
    with recorder(tmp_path) as run:
        with run.epoch():
            with pytest.raises(CannotRecord, match=re.escape(line)):
                call(run)
            for _ in range(5):
                run.step(1.0)
        run.evaluated(test_error=0.5)
    assert (row(run)["status"], row(run)["test_accuracy"]) == ("completed", 0.5)


def test_what_comes_before_the_start_or_outside_an_epoch_is_refused(tmp_path):
    run = recorder(tmp_path)
    for call in (lambda: run.step(1.0), run.start_epoch, lambda: run.evaluated(test_error=0.5)):
        with pytest.raises(CannotRecord, match="before the start: use `with recorder:`"):
            call()
    with run, pytest.raises(CannotRecord, match=r"a step outside an epoch: put it into `with recorder.epoch\(\):`"):
        run.step(1.0)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1e-30, None])
def test_losses_and_thresholds_may_have_any_sign(tmp_path, threshold):
    with recorder(tmp_path, loss_threshold=threshold) as run:
        epoch(run, [0.5, -0.5, -1.0, -1.5, -2.0])
    recorded = row(run)
    assert (recorded["status"], recorded["final_loss"]) == ("completed", pytest.approx(-0.9))
    assert pd.isna(recorded["loss_threshold"]) if threshold is None else recorded["loss_threshold"] == threshold
    # The running loss is over a twentieth of 100 examples: one iteration.
    below = {-1.0: 4, 0.0: 2, 1e-30: 2, None: pd.NA}[threshold]
    assert recorded["iterations_to_threshold"] is below or recorded["iterations_to_threshold"] == below
    first = recorded["first_epoch_below_threshold"]
    assert pd.isna(first) if threshold in (-1.0, None) else first == 1
    assert counted(run).runs["reached"].tolist() == [threshold is not None]


def test_without_a_threshold_or_a_target_nothing_is_ranked(tmp_path):
    with recorder(tmp_path, loss_threshold=None) as run:
        epoch(run, [1.0] * 5)
    assert says(run) == (
        "These runs have no goal: neither a threshold of the loss nor a target in common; the table lists them "
        "separately."
    )


def test_names_of_settings_have_spaces_and_letters_of_any_language(tmp_path):
    names = {"weight init": "he", "\u03b22": 0.99, "d\u00e9calage": 1, "block/width": 4, "drop (%)": 10}
    for seed, other in enumerate((1, 2)):
        with recorder(tmp_path, seed=seed, settings={name: f"{value}{other}" for name, value in names.items()}) as run:
            epoch(run, [1.0] * 5)
    table = load_sweep(run.sweep_dir)
    for name, value in names.items():
        assert list(table[f"settings.{name}"]) == [f"{value}1", f"{value}2"]
    assert set(names) <= {name.removeprefix("settings.") for name in counted(run).runs.columns}


def test_a_name_is_the_same_however_its_accents_are_composed(tmp_path):
    first, second = (recorder(tmp_path, settings={name: 1}) for name in ("\u00e9tat", "e\u0301tat"))
    assert first.run_dir == second.run_dir


def test_numbers_of_numpy_and_torch_paths_and_enums_are_plain_values(tmp_path):
    for size in 2 ** np.arange(2, 5):
        named = {"width": np.int32(8), "norm": Norm.BATCH, "color": Color.RED, "root": Path("a/b")}
        named |= {"sizes": np.arange(3), "kind": torch.bfloat16}
        rates = {"lr": torch.tensor(1e-3), "loss_threshold": np.float32(0.1), "targets": {"test_loss": np.float32(0.3)}}
        with recorder(
            tmp_path, batch_size=size, train_samples=np.int64(64), seed=torch.tensor(3), settings=named, **rates
        ) as run:
            epoch(run, np.ones(64 // size, dtype=np.float32))
            run.evaluated(test_loss=torch.tensor(0.2), classes_never_predicted=np.int64(0))
    table = load_sweep(run.sweep_dir)
    assert list(table["batch_size"]) == [4, 8, 16]
    assert list(table["lr"]) == [0.001] * 3
    assert (row(run)["seed"], row(run)["loss_threshold"], row(run)["train_samples"]) == (3, 0.1, 64)
    assert run.config["settings"] == {
        "width": 8, "norm": "batch", "color": "RED", "root": "a/b", "sizes": [0, 1, 2], "kind": "torch.bfloat16",
    }  # fmt: skip
    counted(run)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda values: st.lists(values) | st.dictionaries(st.text(), values)))  # fmt: skip
def test_plain_values_stay_as_they_are(value):
    assert plain(value) == value
    assert type(plain(value)) is type(value)


@settings(max_examples=25, deadline=None)
@given(
    lr=st.none() | st.floats(0, 1e12), threshold=st.none() | st.floats(-1e12, 1e12), seed=st.integers(0, 2**63 - 1),
    losses=st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=1, max_size=6),
    named=st.dictionaries(st.text(max_size=9), st.none() | st.floats() | st.text(max_size=9), max_size=3),
    error=st.none() | st.floats(0, 1),
)  # fmt: skip
def test_whatever_is_taken_is_counted_by_the_report_as_it_is(
    tmp_path_factory, lr, threshold, seed, losses, named, error
):
    folder = tmp_path_factory.mktemp("any")
    try:
        run = recorder(
            folder, lr=lr, loss_threshold=threshold, seed=seed, train_samples=20 * len(losses), settings=named
        )
    except CannotRecord:
        return
    with run:
        epoch(run, losses)
        if error is not None:
            run.evaluated(test_error=error)
    recorded = counted(run).runs.iloc[0]
    assert recorded["status"] == "completed"
    assert recorded["seed"] == seed
    assert pd.isna(recorded["lr"]) if lr is None else recorded["lr"] == lr
    assert pd.isna(recorded["loss_threshold"]) if threshold is None else recorded["loss_threshold"] == threshold
    assert recorded["final_loss"] == pytest.approx(np.mean(np.array(losses, dtype="f4"), dtype="f8"), rel=1e-6)


def test_thousands_of_classes_are_counted(tmp_path):
    with recorder(tmp_path, settings={"classes": 21_841}) as run:
        epoch(run, [9.0] * 5)
        run.evaluated(test_error=0.99, classes_never_predicted=20_000)
    assert row(run)["classes_never_predicted"] == 20_000
    counted(run)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with Recorder("~/outputs/sweeps/mine", **USUAL) as run:
        epoch(run, [1.0] * 5)
    assert run.run_dir.is_relative_to(tmp_path)
    assert len(load_sweep("~/outputs/sweeps/mine")) == 1


def test_a_sweep_of_this_programs_own_takes_no_such_run_and_resumes_none(tmp_path):
    program = Program(tmp_path)
    program("data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=1")
    with pytest.raises(CannotRecord, match="a sweep of python -m digits_sweep; choose another folder"):
        Recorder(program.sweep(), batch_size=1, train_samples=1, lr=1, loss_threshold=1).start()
    with recorder(tmp_path) as run:
        epoch(run, [1.0] * 5)
    refused = program("resume=latest")
    assert refused.returncode == 1
    assert refused.stderr.endswith("mine: recorded by digits_sweep.Recorder; start its own program again\n")
