"""What is refused before any training, and in which words."""

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.config.rules import InvalidConfig

REFUSED = {
    "data.batch_size=0": "data.batch_size=0: must be a whole number from 1 up",
    "data.batch_size=abc": "data.batch_size=abc: must be a whole number",
    "data.batch_size=2.5": "data.batch_size=2.5: must be a whole number",
    "data.num_workers=-1": "data.num_workers=-1: must be a whole number from 0 up",
    "data.scale=big": "data.scale=big: choose unit or standard or raw",
    "data.mirrors=3": "data.mirrors=3: must be a list [a,b]",
    "data.fallback=cifar": "data.fallback=cifar: must be mnist_sample or null",
    "data.batchsize=5": "data.batchsize=5: there is no such key; did you mean data.batch_size?",
    "modle=mlp": "modle=mlp: there is no such key; did you mean model?",
    "model=cnn": "model=cnn: there is no such choice; choose mlp or mlp_logits",
    "optimizer=null": (
        "optimizer=null: there is no such choice; "
        "choose adam or adam_half_life or adam_linear or adam_same_rates or adam_sqrt or sgd or sgd_linear"
    ),
    "optimizer.momentum=0.5": "optimizer.momentum=0.5: there is no such key with this optimizer",
    "optimizer.lr=-1": "optimizer.lr=-1.0: must be a number above 0",
    "optimizer.lr=nan": "optimizer.lr=nan: must be a number above 0",
    "optimizer.weight_decay=-0.1": "optimizer.weight_decay=-0.1: must be 0 or a number above it",
    "model.hidden_size=0": "model.hidden_size=0: must be a whole number from 1 up",
    "trainer.num_epochs=0": "trainer.num_epochs=0: must be a whole number from 1 up",
    "trainer.stop_at_threshold=maybe": "trainer.stop_at_threshold=maybe: must be true or false",
    "seed=-1": "seed=-1: must be a whole number from 0 up to 2**63 - 1",
    "device=gpu": "device=gpu: choose auto, cpu, cuda, cuda:N or mps",
    "num_threads=0": "num_threads=0: must be auto or a whole number from 1 up",
    "engine=warp": "engine=warp: there is no such choice; choose auto or closed_form or cuda_graph or eager or lesson",
    "+foo=1": "+foo=1: no key can be added; leave out the +",
    "~seed": "~seed: no key can be taken out; give it another value",
    "data.batch_size=[1": "data.batch_size=[1: cannot be read as key=value",
    "data.batch_size=1,2": "data.batch_size=1,2: several values are a sweep; add -m",
}


@pytest.mark.parametrize("override", REFUSED)
def test_a_mistake_is_refused_in_a_line_that_names_key_value_and_what_would_be_right(override):
    with pytest.raises(InvalidConfig) as refusal:
        plan([override])
    assert str(refusal.value) == REFUSED[override]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "data.batch_size=100,20,-5"], "data.batch_size=-5: must be a whole number from 1 up"),
        (["-m", "data.batch_size=10,abc"], "data.batch_size=abc: must be a whole number"),
        (["-m", "model=mlp,cnn"], "model=cnn: there is no such choice; choose mlp or mlp_logits"),
        (["-m", "data.batch_size=5,5"], "batch_size=5: 2 runs of this sweep are the same; name every value once"),
        (
            ["-m", "seed=0,1", "hydra/launcher=submitit_local", "fail_fast=true"],
            "fail_fast=true: hydra/launcher=submitit_local has all runs begun at once; leave it out",
        ),
        (["-m", "experiment=thesis"], "experiment=thesis: there is no such choice; choose lesson"),
    ],
)
def test_a_mistake_in_the_last_run_stops_the_first(arguments, words):
    with pytest.raises(InvalidConfig) as refusal:
        plan(arguments)
    assert str(refusal.value) == words


def test_every_mistake_is_told_at_once():
    with pytest.raises(InvalidConfig) as refusal:
        plan(["data.batch_size=0", "trainer.num_epochs=0"])
    assert str(refusal.value).count("\n") == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.batch_size=0", "data.batch_size=0: must be a whole number from 1 up"),
        ("data.batch_size=4001", "data.batch_size=4001: must be at most 4000, the number of digits to train on in"),
        ("device=cuda:99", "device=cuda:99: PyTorch sees"),
    ],
)
def test_a_refused_command_exits_with_1_prints_its_line_and_leaves_nothing_behind(program, override, words):
    finished = program("data=mnist_sample", override)
    assert finished.returncode == 1
    assert finished.stderr.startswith(words)
    assert finished.stderr.count("\n") == 1
    assert finished.stdout == ""
    assert not program.outputs.exists()
