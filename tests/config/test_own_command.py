"""A command of the user's: how it is split, what stands in for `{key}`, and what is refused before anything starts."""

import pytest

from digits_sweep.config.own_command import words_of
from digits_sweep.config.plan import plan
from digits_sweep.errors import InvalidConfig


def words(command: str, *more: str) -> list[list[str]]:
    return [words_of(run.config) for run in plan(["-m", f"command={command}", *more]).runs]


@pytest.mark.parametrize(
    ("command", "more", "expected"),
    [
        (
            "python train.py --batch-size {data.batch_size} --lr {optimizer.lr} --seed {seed}",
            ["data.batch_size=100", "seed=3"],
            ["python", "train.py", "--batch-size", "100", "--lr", "0.001", "--seed", "3"],
        ),
        ("a --x={seed},{seed} 'two words'", ["seed=1"], ["a", "--x=1,1", "two words"]),
        ("a {{seed}} '{{\"lr\": {optimizer.lr}}}'", ["optimizer.lr=0.5"], ["a", "{seed}", '{"lr": 0.5}']),
        ("a {model.arguments.name}", ["model.arguments.name='b; rm c $HOME `d`'"], ["a", "b; rm c $HOME `d`"]),
        ("a {optimizer.name} {optimizer.betas}", ["optimizer=adam"], ["a", "adam", "[0.9, 0.999]"]),
        ("sh -c 'train \"$1\" | b' - {seed}", ["seed=1"], ["sh", "-c", 'train "$1" | b', "-", "1"]),
        ("a $HOME 'it''s' \\{ {seed} [1,2] *", ["seed=1"], None),
    ],
)
def test_it_is_split_once_and_each_value_stays_within_its_word(command, more, expected):
    if expected is None:
        with pytest.raises(InvalidConfig, match="write a brace of its own"):
            words(command, *more)
    else:
        assert words(command, *more) == [expected]


def test_commas_within_it_are_no_sweep_and_other_keys_are_swept():
    assert words("a b,c {seed} {model.arguments.width}", "seed=1,2", "model.arguments.width=3,4") == [
        ["a", "b,c", "1", "3"], ["a", "b,c", "1", "4"], ["a", "b,c", "2", "3"], ["a", "b,c", "2", "4"],
    ]  # fmt: skip


def test_what_it_trains_is_the_users_own_unless_another_choice_is_typed():
    config = plan(["command=a {optimizer.name}", "optimizer=sgd"]).runs[0].config
    assert (config.data.name, config.model.name, config.optimizer.name) == ("own", "own", "sgd")
    assert config.scaling.rule is None
    assert config.scaling.rates == {}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["command=a {data.batchsize}"], r"\{data.batchsize\} is no key of this run; did you mean \{data.batch_size\}"),
        (["command=a {xyz}"], r"\{xyz\} is no key of this run; name a key, such as \{data.batch_size\}"),
        (["command=a {model.arguments}"], "is no key of this run"),
        (["command=a {}"], r"\{\} is no key"),
        (["command=a {seed"], "write a brace of its own as {{ or }}"),
        (["command=a 'b"], "No closing quotation"),
        (["command=a ${seed}"], "without the"),
        (["command= "], "must be a program with its arguments"),
        (["command=bash -lc 'a {seed} | b'"], "would be read as shell"),
        (["command=bash -o pipefail -c 'a {seed} | b'"], "would be read as shell"),
        (["command=/bin/sh -c 'a {seed} | b'"], "would be read as shell"),
        (["command=a", "model.target=mine:Network"], "leave one of the two out"),
        (["-m", "command=a", "trainer.num_epochs=1,2"], "add {trainer.num_epochs} to it"),
        (["-m", "command=a", "optimizer=sgd,adam"], "add {optimizer.name} to it"),
    ],
)
def test_what_cannot_be_started_as_it_stands_is_refused(typed, message):
    with pytest.raises(InvalidConfig, match=message):
        plan(typed)


def test_a_key_that_the_recorder_hands_over_need_not_be_in_it():
    typed = ["-m", "command=a", "data.batch_size=1,2", "optimizer.lr=0.1,0.2", "seed=1,2", "model.arguments.width=1,2"]
    assert len(plan(typed).runs) == 16


def test_a_command_in_a_file_is_not_started(own_file, refused):
    theirs = own_file("experiment", "theirs", "# @package _global_\ncommand: rm -r files\n")
    assert "comes from a file; only a command that is typed is started" in refused(*theirs, "data=mnist_sample")
