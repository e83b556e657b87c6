"""What is refused before any training, and in which words."""

import pytest
import torch

from digits_sweep.config.compose import CONF
from digits_sweep.data.loading import DATASETS
from tests.workloads import GPU_ENGINES

CHOOSE_OPTIMIZER = "choose " + " or ".join(sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml")))

REFUSED = {
    "data.batch_size=0": "data.batch_size=0: must be a whole number from 1 up",
    "data.batch_size=abc": "data.batch_size=abc: must be a whole number",
    "data.batch_size=2.5": "data.batch_size=2.5: must be a whole number",
    "data.num_workers=-1": "data.num_workers=-1: must be a whole number from 0 to 1,024",
    "data.scale=big": "data.scale=big: choose unit or standard or raw",
    "data.mirrors=3": "data.mirrors=3: must be a list [a,b] or null",
    "data.batchsize=5": "data.batchsize=5: there is no such key; did you mean data.batch_size?",
    "modle=mlp": "modle=mlp: there is no such key; did you mean model?",
    "model=rnn": "model=rnn: there is no such choice; choose cnn or linear or mlp or mlp_logits or own",
    "optimizer=null": f"optimizer=null: there is no such choice; {CHOOSE_OPTIMIZER}",
    "optimizer.momentum=0.5": "optimizer.momentum=0.5: there is no such key with this optimizer",
    "optimizer.lr=-1": "optimizer.lr=-1: must be a number above 0",
    "optimizer.lr=nan": "optimizer.lr=nan: must be a number above 0",
    "optimizer.weight_decay=-0.1": "optimizer.weight_decay=-0.1: must be 0 or a number above it",
    "model=cnn model.channels=3": "model.channels=3: must be a list of whole numbers [a,b]",
    "model=cnn model.kernel_size=4": "model.kernel_size=4: must be an odd number from 1 to 99",
    "model.hidden_size=0": "model.hidden_size=0: must be a whole number from 1 to 1,000,000,000",
    "trainer.num_epochs=0": "trainer.num_epochs=0: must be a whole number from 1 up",
    "trainer.stop_at_threshold=maybe": "trainer.stop_at_threshold=maybe: must be true or false",
    "seed=-1": "seed=-1: must be a whole number from 0 up to 2**63 - 1",
    "device=gpu": "device=gpu: choose auto, cpu, cuda, cuda:N or mps",
    "num_threads=0": "num_threads=0: must be auto or a whole number from 1 to 1,024",
    "engine=warp": (
        "engine=warp: there is no such choice; "
        "choose auto or closed_form or cuda_graph or cuda_kernel or eager or lesson or native"
    ),
    "+foo=1": "+foo=1: no key can be added; leave out the +",
    "~seed": "~seed: no key can be removed; give it another value",
    "data.batch_size=[1": "data.batch_size=[1: cannot be read as key=value",
    "data.batch_size=1,2": "data.batch_size=1,2: several values are a sweep; add -m",
    "-m data.batch_size=100,20,-5": "data.batch_size=-5: must be a whole number from 1 up",
    "-m data.batch_size=10,abc": "data.batch_size=10,abc: must be a whole number",
    "-m model=mlp,rnn": "model=rnn: there is no such choice; choose cnn or linear or mlp or mlp_logits or own",
    "-m data.batch_size=5,5": "batch_size=5: 2 runs of this sweep are the same; name every value once",
    "-m experiment=thesis": "experiment=thesis: there is no such choice; choose lesson",
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


@pytest.mark.sampled(3)
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
    assert refused.stderr.splitlines() == [REFUSED["data.batch_size=0"], REFUSED["trainer.num_epochs=0"]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA GPU here")
@pytest.mark.parametrize("name", GPU_ENGINES)
def test_an_engine_for_a_gpu_is_refused_without_one(name, program):
    refused = program("data=mnist_sample", f"engine={name}")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"engine={name}: it needs an NVIDIA GPU")
    assert not program.outputs.exists()
