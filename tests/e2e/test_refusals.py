"""What is refused before any training: a line on standard error, and nothing on the disk."""

import pytest
import torch

from digits_sweep.data.loading import DATASETS
from tests.searches import COST, CRITICAL, TUNE
from tests.workloads import GPU_ENGINES

REFUSED = {
    "data.batch_size=0": "data.batch_size=0: must be a whole number from 1 up",
    "-m data.batch_size=100,20,-5": "data.batch_size=-5: must be a whole number from 1 up",
    "modle=mlp": "modle=mlp: there is no such key; did you mean model?",
}
# Known to the data sets, devices and engines alone.
REFUSED_BY_THE_PARTS = {
    "data.fallback=cifar": f"data.fallback=cifar: choose {' or '.join(DATASETS)} or null",
    "device=cuda:99": f"device=cuda:99: PyTorch sees {torch.cuda.device_count()} CUDA devices here; choose auto or cpu",
    "data=mnist_sample data.batch_size=4001": (
        "data.batch_size=4001: must be at most 4000, the number of examples to train on in mnist_sample"
    ),
    "engine=closed_form model.activation=tanh": "engine=closed_form: ",
}
REFUSED |= REFUSED_BY_THE_PARTS


@pytest.mark.parametrize("command", [*REFUSED, *(f"{command} dry_run=true" for command in REFUSED_BY_THE_PARTS)])
def test_a_mistake_is_refused_in_a_line_and_leaves_nothing_behind(program, command):
    refused = program(*command.split())
    assert refused.returncode == 1
    assert refused.stderr.startswith(REFUSED[command.removesuffix(" dry_run=true")])
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""
    assert not program.outputs.exists()


def test_every_mistake_has_its_line(program):
    refused = program("data.batch_size=0", "trainer.num_epochs=0")
    lines = [f"{key}=0: must be a whole number from 1 up" for key in ("data.batch_size", "trainer.num_epochs")]
    assert refused.stderr.splitlines() == lines


SAMPLE = "data=mnist_sample "
OF_OTHER_COMMANDS = [
    (TUNE, "tune.seeds=2", "tune.seeds=2: must be an odd whole number"),
    (TUNE, "data.batch_size=0", "data.batch_size=0: must be"),
    (TUNE, SAMPLE + "data.batch_size=5000", "data.batch_size=5000: must be at most 4000"),
    (TUNE, "device=cuda:99", "device=cuda:99: "),
    (TUNE, "data.batch_size=5,20", "data.batch_size=5,20: is a sweep of 2 runs"),
    (TUNE, "-m", "-m: not for a search"),
    (TUNE, "tune.trials=x", "tune.trials=x: must be a whole number"),
    (TUNE, "tune.lr=0.1", "tune.lr=0.1: must be a list of numbers [a,b]"),
    (TUNE, "tune.trails=3", "tune.trails=3: there is no such key; did you mean tune.trials?"),
    (CRITICAL, "critical.quick=maybe", "critical.quick=maybe: must be true or false"),
    (CRITICAL, SAMPLE + "data.batch_size=5000", "data.batch_size=5000: "),
    (CRITICAL, "resume=latest", "resume=latest: "),
    (CRITICAL, "--cost iteration=1us example=1us", ""),
    (COST, "data.batch_size=5", "data.batch_size: give two or more"),
    (COST, "resume=latest", "resume=latest: there is nothing to resume"),
    (COST, SAMPLE + "data.batch_size=5,5000", "data.batch_size=5000: "),
    (COST, "command=true evaluation.targets.train_error=[0.1]", "command=...: its steps are not this program's"),
    ("digits_sweep.record", "here", "unrecognized arguments: here; what is recorded comes from standard input"),
]


@pytest.mark.parametrize(("module", "command", "line"), OF_OTHER_COMMANDS)
def test_other_commands_refuse_a_mistake_as_a_sweep_does(program, module, command, line):
    refused = program(*command.split(), module=module)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith(line)
    assert not program.outputs.exists()


@pytest.mark.parametrize("module", ["report", "status", "cancel"])
def test_an_argument_that_a_command_does_not_know_is_one_line(program, module):
    refused = program("--nothing", module=f"digits_sweep.{module}")
    assert (refused.returncode, refused.stderr) == (2, "unrecognized arguments: --nothing\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA GPU here")
@pytest.mark.parametrize("name", GPU_ENGINES)
def test_an_engine_for_a_gpu_is_refused_without_one(name, program):
    refused = program("data=mnist_sample", f"engine={name}")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"engine={name}: it needs an NVIDIA GPU")
    assert not program.outputs.exists()
