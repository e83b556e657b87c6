"""Data of the user's own in whole commands: any shape, every engine that can, and what a resume compares."""

import sys

import pandas as pd
import pytest
import torch

from digits_sweep.data.loading import _loaded
from digits_sweep.results.record import read_record
from tests.killing import assert_same_results

CODE = """
from pathlib import Path
import torch
from torch import nn

HERE = Path(__file__).parent
(HERE / "imported").touch()

def shapes(count=150, shape=(3, 8, 8), floats=False):
    labels = torch.arange(count) % 3
    images = torch.randint(100, (count, *shape), dtype=torch.uint8)
    images.view(count, -1)[torch.arange(count), labels * 9] = 255
    images = images / 255 if floats else images
    return (images[:100], labels[:100]), (images[100:], labels[100:])

def of_a_file():
    train, test = shapes()
    return (train[0] + torch.load(HERE / "more.pt"), train[1]), test

def broken():
    raise OSError("no such luck")

class CNN(nn.Sequential):
    def __init__(self, num_classes):
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten()
        super().__init__(*layers, nn.Linear(144, num_classes))
"""


def base(module: str, *more: str, target: str = "shapes") -> list[str]:
    own = ["data=own", f"data.target={module}:{target}", "data.num_classes=3", "data.batch_size=30"]
    return [*own, "trainer.num_epochs=2", "trainer.loss_threshold=null", *more]


def network(module: str, *more: str) -> list[str]:
    return base(module, "model=own", f"model.target={module}:CNN", *more)


@pytest.mark.full
def test_a_network_with_random_layers_is_evaluated_and_resumed_to_the_same_bits(module, program):
    command = network(
        module, "evaluation.every_examples=100", "evaluation.noise_scale=true", "evaluation.targets.test_error=[0.1]",
    )  # fmt: skip
    program(*command)
    whole = program.sweep()
    _loaded.clear()
    program(*(each.replace("num_epochs=2", "num_epochs=1") for each in command))
    resumed = program(*command, "resume=latest")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert_same_results(program.sweeps()[-1], whole)
    evaluations = pd.read_csv(next(whole.glob("*/evaluations.csv")))
    assert (evaluations["gradient_trace"] > 0).all()
    table = program.table()
    assert list(table["dataset"]) == [f"{module}:shapes"]
    assert list(table["parameters"]) == [3 * 4 * 9 + 4 + 8 + 145 * 3]
    (record,) = (read_record(path.parent) for path in whole.glob("*/record.json"))
    assert record.own_code.keys() == {"data.target", "model.target"}
    assert record.dataset_digest
    assert list(pd.read_csv(whole / "targets.csv")["target"]) == ["test_error"]


def test_an_engine_that_cannot_read_the_images_is_refused_in_words(module, program):
    refused = program(*base(module, "data.arguments={floats:true}", "engine=native"))
    assert refused.stderr.splitlines() == [
        "engine=native: it reads uint8 images only; engine=auto picks one that works"
    ]
    assert not program.outputs.exists()


@pytest.mark.full
def test_several_data_sets_are_one_sweep_each_by_its_name(module, program):
    finished = program("-m", *base(module, "data.arguments={count:130},{count:140}"))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert list(program.table()["dataset"]) == [f"{module}:shapes{{count:{count}}}" for count in (130, 140)]


REFUSED = {
    "data.target=null": "must be module:name, such as mine:Network, in the working folder or an installed package",
    "data.target=nowhere:shapes": "cannot be imported (ModuleNotFoundError: No module named 'nowhere')",
    "data.target=MINE:HERE": "is PosixPath, must be a class or a function",
    "data.target=MINE:broken": "fails (OSError: no such luck), MINE.py line 21",
    "data.arguments={cuont:3}": "got an unexpected keyword argument 'cuont'; MINE:shapes takes count, shape, floats",
    "data.num_classes=2": "must be at least 3, as MINE:shapes has labels 0 to 2",
    "model.num_classes=2": "must be at least 3, the classes of MINE:shapes",
    "data.batch_size=101": "must be at most 100, the number of examples to train on in MINE:shapes",
    "model=cnn model.channels=[1,1,1,1]": "model.channels=[1, 1, 1, 1]: must be at most 3, because each halves",
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("override", REFUSED)
def test_what_cannot_be_trained_on_is_refused_in_a_line_while_planning(override, module, program):
    typed, right = (text.replace("MINE", module) for text in (override, REFUSED[override]))
    keys = {each.partition("=")[0] for each in typed.split()}
    refused = program(
        *(each for each in base(module) if each.partition("=")[0] not in keys), *typed.split(), "dry_run=true"
    )
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith(right if "model=cnn" in typed else f"{typed}: {right}")
    # A traceback is all that is written, and only if there is one.
    left = [path.name for path in program.outputs.iterdir()] if program.outputs.exists() else []
    assert left == (["own-code.log"] if "Error: " in right else [])
    assert all(line.endswith(f"; its traceback is in outputs/{name}") for name in left)


def test_a_resume_with_other_data_or_another_file_is_refused_by_name(module, program):
    torch.save(torch.zeros(1, dtype=torch.uint8), program.folder / "more.pt")
    command = base(module, target="of_a_file")
    program(*(each.replace("num_epochs=2", "num_epochs=1") for each in command))
    torch.save(torch.ones(1, dtype=torch.uint8), program.folder / "more.pt")
    # As in another process.
    _loaded.clear()
    refused = program(*command, "resume=latest")
    line = f"data.target={module}:of_a_file: gives other data than when this sweep started"
    assert refused.stderr.splitlines() == [line]
    with (program.folder / f"{module}.py").open("a") as file:
        file.write("# changed\n")
    refused = program(*command, "resume=latest")
    (line,) = refused.stderr.splitlines()
    assert line.endswith("data.target: its file has changed since the run started")


@pytest.mark.full
def test_what_a_sweeps_file_names_is_imported_by_no_resume_and_no_report(module, program):
    program(*base(module))
    (program.folder / "imported").unlink()
    del sys.modules[module]
    _loaded.clear()
    refused = program("resume=latest", "trainer.num_epochs=3")
    assert refused.returncode == 1
    assert f"data.target={module}:shapes in record.json names code, which must be typed" in refused.stderr
    assert program(module="digits_sweep.report").returncode == 0
    assert not (program.folder / "imported").exists()


def test_a_sweep_that_asks_for_another_data_set_calls_nothing_that_its_file_names(module, program):
    program("data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=1")
    manifest = program.sweep() / "sweep.json"
    manifest.write_text(manifest.read_text().replace('"used": "mnist_sample"', f'"used": "{module}:shapes"'))
    refused = program("resume=latest", "trainer.num_epochs=2")
    assert refused.returncode == 1
    assert f"there is no data set {module}:shapes" in refused.stderr
    assert not (program.folder / "imported").exists()
