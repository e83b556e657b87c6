"""What is refused before any training: a line on standard error, and nothing on the disk."""

from importlib.util import find_spec

import pytest
import torch

from digits_sweep.data.loading import DATASETS
from tests.searches import COST, CRITICAL, TUNE
from tests.workloads import GPU_ENGINES

SWEEP = "digits_sweep"
SAMPLE = "data=mnist_sample "
NO_SUCH_GPU = f"device=cuda:99: PyTorch sees {torch.cuda.device_count()} CUDA devices here; choose auto or cpu"
TOO_LARGE = "data.batch_size=4001: must be at most 4000, the number of examples to train on in mnist_sample"
TOO_DEEP = "model.channels=[2, 2, 2, 2, 2]: must be at most 4, because each halves images of 1 x 28 x 28\n"
NO_DECAY = "needs schedule=linear or schedule=cosine\n"
REFUSED = [
    (SWEEP, "-m data.batch_size=100,20,-5", "data.batch_size=-5: must be a whole number from 1 up"),
    # Known to the data sets, devices, networks and engines alone.
    (SWEEP, "data.fallback=cifar", f"data.fallback=cifar: choose {' or '.join(DATASETS)} or null"),
    (SWEEP, "device=cuda:99", NO_SUCH_GPU),
    (SWEEP, "device=cuda:99 dry_run=true", NO_SUCH_GPU),
    (SWEEP, SAMPLE + "data.batch_size=4001", TOO_LARGE),
    (SWEEP, SAMPLE + "data.num_classes=9", "model.num_classes=9: must be at least 10, the classes of mnist_sample\n"),
    (SWEEP, SAMPLE + "model=cnn model.channels=[2,2,2,2,2]", TOO_DEEP),
    (SWEEP, SAMPLE + "schedule.final=0.1", "schedule.final=0.1: " + NO_DECAY),
    (SWEEP, SAMPLE + "schedule.decay_examples=9", "schedule.decay_examples=9: " + NO_DECAY),
    (SWEEP, "engine=closed_form model.activation=tanh", "engine=closed_form: "),
    (TUNE, "data.batch_size=0", "data.batch_size=0: must be"),
    (TUNE, SAMPLE + "data.batch_size=5000", "data.batch_size=5000: must be at most 4000"),
    (TUNE, "engine=closed_form model.activation=tanh", "engine=closed_form: "),
    (TUNE, "device=cuda:99", "device=cuda:99: "),
    (
        TUNE,
        "data.batch_size=100 data.batch_size=5,20",
        "data.batch_size=100 data.batch_size=5,20: is a sweep of 2 runs",
    ),
    (TUNE, "-m", "-m: not for a search"),
    (TUNE, "tune.lr=0.1", "tune.lr=0.1: must be a list of numbers [a,b]"),
    (TUNE, "tune.trails=3", "tune.trails=3: there is no such key; did you mean tune.trials?"),
    (TUNE, "tune.seeds=2", "tune.seeds=2: must be an odd whole number"),
    (CRITICAL, "critical.quick=maybe", "critical.quick=maybe: must be true or false"),
    (CRITICAL, SAMPLE + "data.batch_size=5000", "data.batch_size=5000: "),
    (CRITICAL, "resume=latest", "resume=latest: "),
    (COST, "data.batch_size=5", "data.batch_size: give two or more"),
    (COST, "resume=latest", "resume=latest: there is nothing to resume"),
    (COST, SAMPLE + "data.batch_size=5,5000", "data.batch_size=5000: "),
    (COST, "command=true evaluation.targets.train_error=[0.1]", "command=...: its steps are not this program's"),
    ("digits_sweep.record", "here", "unrecognized arguments: here; what is recorded comes from standard input\n"),
]


@pytest.mark.parametrize(("module", "command", "line"), REFUSED)
def test_a_mistake_is_refused_in_a_line_and_leaves_nothing_behind(program, module, command, line):
    refused = program(*command.split(), module=module)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert refused.stderr.startswith(line)
    assert not program.outputs.exists()


def test_every_mistake_has_its_line(program):
    refused = program("data.batch_size=0", "trainer.num_epochs=0")
    lines = [f"{key}=0: must be a whole number from 1 up" for key in ("data.batch_size", "trainer.num_epochs")]
    assert refused.stderr.splitlines() == lines


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


@pytest.mark.skipif(find_spec("hydra_plugins.hydra_ray_launcher") is not None, reason="its extra is installed here")
def test_a_launcher_that_is_not_installed_is_refused_with_what_installs_it(program):
    refused = program("-m", "seed=0,1", "hydra/launcher=ray")
    assert (refused.returncode, "pip install -e '.[ray]'" in refused.stderr) == (1, True)
