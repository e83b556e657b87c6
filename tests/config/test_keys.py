"""What a key is for, and how its value is written."""

import re
from dataclasses import asdict
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.config.keys import as_recorded, changes_results, declared, holds_for_the_sweep, may_grow
from digits_sweep.config.plan import plan
from digits_sweep.config.text import safe_name, to_text


@pytest.mark.parametrize(
    ("key", "result", "sweep", "grows"),
    [
        ("data.batch_size", True, False, False),
        ("optimizer.betas", True, False, False),
        ("trainer.num_epochs", True, False, True),
        ("data.num_workers", False, False, False),
        ("data.root", False, True, False),
        ("outputs", False, True, False),
        ("fail_fast", False, True, False),
        ("tracker.mlflow.uri", False, True, False),
        ("a.key.that.nobody.declared", True, False, False),
    ],
)
def test_a_key_has_one_role_that_answers_every_question(key, result, sweep, grows):
    assert (changes_results(key), holds_for_the_sweep(key), may_grow(key)) == (result, sweep, grows)


def test_keys_of_every_optimizer_are_declared():
    assert {"optimizer.betas", "optimizer.momentum", "optimizer.lr"} <= declared().keys()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "1e-4"),
        (5e-4, "5e-4"),
        (0.05, "0.05"),
        (0.001, "0.001"),
        (1.0000001e-4, "1.0000001e-4"),
        (1.6, "1.6"),
        (3.0, "3"),
        ([0.9, 0.999], "[0.9, 0.999]"),
        (None, "null"),
        (True, "true"),
        ("unit", "unit"),
        (20, "20"),
        (float("nan"), "nan"),
    ],
)
def test_a_value_is_written_the_same_everywhere(value, text):
    assert to_text(value) == text


@given(st.floats(allow_nan=False))
def test_a_written_number_is_exact(value):
    assert float(to_text(value)) == value


@given(st.text())
def test_any_text_gives_one_plain_path_component(text):
    found = safe_name(text)
    assert PurePosixPath(found).parts == PureWindowsPath(found).parts == (found,)
    assert 0 < len(found.encode()) <= 120
    assert not found.startswith((".", "-"))


@given(st.text() | st.from_regex(r"[a-z._=-]{100,300}", fullmatch=True))
def test_a_name_that_was_made_is_a_name(text):
    assert safe_name(safe_name(text)) == safe_name(text)


def test_a_plain_name_stays_and_names_that_would_be_alike_are_told_apart():
    assert safe_name("lr=1e-4_seed=0") == "lr=1e-4_seed=0"
    assert safe_name("a/b") != safe_name("a:b")
    assert safe_name("x" * 300) != safe_name("x" * 301)


def test_a_recorded_run_takes_its_values_from_the_record_and_its_places_from_now():
    recorded = asdict(plan(["optimizer=sgd", "data.batch_size=7", "data.root=/theirs", "outputs=theirs"]).settings)
    restored = as_recorded(plan(["data.root=/mine", "outputs=mine"]).settings, recorded)
    assert (restored.data.batch_size, restored.optimizer.name) == (7, "sgd")
    assert (restored.data.root, restored.outputs) == ("/mine", "mine")


@pytest.mark.parametrize("text", ["{clip:inf}", "{clips:[1,-inf]}", "{inner:{clip:nan}}"])
def test_a_number_that_a_record_cannot_hold_is_refused_wherever_it_lies(refused, text):
    why = refused("model=own", "model.target=torch.nn:Identity", f"model.arguments={text}")
    assert re.match(r"model\.arguments=\{.*: every number must be finite", why)
