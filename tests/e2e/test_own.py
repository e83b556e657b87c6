"""Data, a network and an optimizer of the user's own, by their names, in whole commands."""

import shlex
import shutil
import sys

import pandas as pd
import pytest
import torch

from digits_sweep.data.loading import _loaded
from digits_sweep.results.record import read_record
from tests.commands import Program
from tests.killing import assert_same_results

CODE = """
import os, sys, threading
from pathlib import Path
import torch
from torch import nn

HERE = Path(__file__).parent
(HERE / "imported").touch()

def shapes(count=150, floats=False):
    labels = torch.arange(count) % 3
    images = torch.randint(100, (count, 3, 8, 8), dtype=torch.uint8)
    images.view(count, -1)[torch.arange(count), labels * 9] = 255
    images = images / 255 if floats else images
    more = torch.load(HERE / "more.pt") if (HERE / "more.pt").exists() else 0
    return (images[:100] + more, labels[:100]), (images[100:], labels[100:])

class Network(nn.Sequential):
    def __init__(self, num_classes, width=4):
        layers = nn.LazyConv2d(width, 5, stride=3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.3), nn.Flatten()
        super().__init__(*layers, nn.LazyLinear(num_classes))

class Steps(torch.optim.SGD):
    def __init__(self, parameters, lr, share=0.5):
        super().__init__(parameters, lr, momentum=share)

constant = 3

def three(*arguments, **more):
    return constant

def broken(*given, **arguments):
    raise OSError("no such luck\\nand more")

def ends():
    sys.exit(0)

def seven(image_shape, width):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(7))

def for_gray(width):
    return nn.Conv2d(1, 3, 8)

class Rude(Network):
    def __init__(self, where, num_classes):
        super().__init__(num_classes)
        self.where = where
        if where == "when it is built":
            self.change()

    def change(self):
        os.chdir("/")
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        threading.Thread(target=threading.Event().wait, args=(100,), daemon=True).start()

    def forward(self, images):
        if self.where == "while it trains" and len(images) == 500:
            self.change()
            self.where = None
            return super().forward(images.float()).float()
        return super().forward(images)

class Ends(Network):
    def __init__(self, where, num_classes):
        super().__init__(num_classes)
        self.where = where

    def forward(self, images):
        if self.where == "while it trains" and len(images) == 500:
            sys.exit(0)
        if self.where == "with many words" and len(images) == 500:
            raise ValueError("x" * 3_000_000)
        return super().forward(images)

class OnlyTrains(Network):
    steps = 0

    def forward(self, images):
        self.steps += self.training
        if not self.training and self.steps > 2:
            raise RuntimeError("not in evaluation mode\\nand more")
        return super().forward(images)

class WithoutGradient(Network):
    def forward(self, images):
        scores = super().forward(images)
        return scores if self.training or scores.sum().item() > 1e9 else scores.detach()
"""
BROKEN_AT = next(number for number, line in enumerate(CODE.splitlines(), 1) if line.startswith("def broken")) + 1


def own(module: str, *more: str) -> list[str]:
    """Type a sweep over two networks of the user's, with data and an optimizer of the user's too.

    A key in `more` takes the place of the same one, a group that of all its keys.
    """
    typed = [
        "data=own", f"data.target={module}:shapes", "data.num_classes=3", "data.batch_size=20",
        "model=own", f"model.target={module}:Network", "model.arguments={width:2},{width:3}",
        "optimizer=own", f"optimizer.target={module}:Steps", "optimizer.arguments={share:0.9}", "optimizer.lr=0.05",
        "trainer.num_epochs=2", "trainer.loss_threshold=null",
    ]  # fmt: skip
    given = {word.partition("=")[0] for word in more}
    kept = [word for word in typed if not given & {word.partition("=")[0], word.replace("=", ".").partition(".")[0]}]
    return ["-m", *kept, *more]


NOISE = ("evaluation.every_examples=100", "evaluation.noise_scale=true", "evaluation.targets.test_error=[0.1]")


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Program:
    """A sweep of two epochs; its module is called `swept`."""
    program = Program(tmp_path_factory.mktemp("swept"))
    (program.folder / "swept.py").write_text(CODE)
    program.completes(*own("swept", *NOISE))
    return program


@pytest.fixture
def copy(swept, tmp_path) -> Program:
    """The same sweep in a folder of this test's own, as another process finds it: it has imported nothing yet."""
    shutil.copytree(swept.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("imported", "__pycache__"))
    sys.modules.pop("swept", None)
    _loaded.clear()
    yield Program(tmp_path / "copy")
    sys.modules.pop("swept", None)


def records(program: Program) -> list[bytes]:
    return [path.read_bytes() for path in sorted(program.sweep().glob("*/record.json"))]


def test_the_table_and_the_records_name_data_networks_and_code(swept):
    table = swept.table()
    assert list(table["dataset"]) == ["swept:shapes"] * 2
    assert list(table["model"]) == ["own_logits"] * 2
    assert list(table["engine"]) == ["eager"] * 2
    found = [read_record(path.parent) for path in sorted(swept.sweep().glob("*/record.json"))]
    for record, width in zip(found, (2, 3), strict=True):
        assert record.parameters == (75 + 1) * width + 2 * width + (4 * width + 1) * 3
        assert record.own_code.keys() == {"data.target", "model.target", "optimizer.target"}
        assert record.config["model"]["arguments"] == {"width": width}
        assert record.dataset_digest
    for path in swept.sweep().glob("*/evaluations.csv"):
        assert (pd.read_csv(path)["gradient_trace"] > 0).all()
    assert set(pd.read_csv(swept.sweep() / "targets.csv")["target"]) == {"test_error"}


def test_they_are_resumed_to_the_same_bits(swept, module, program):
    program.completes(*own(module, *NOISE, "trainer.num_epochs=1"))
    _loaded.clear()
    program.completes(*own(module, *NOISE, "resume=latest"))
    assert_same_results(program.sweep(), swept.sweep())


def test_a_resume_with_another_file_or_other_data_is_refused_by_name_and_changes_nothing(copy):
    before = records(copy)
    torch.save(torch.ones(1, dtype=torch.uint8), copy.folder / "more.pt")
    refused = copy(*own("swept", *NOISE, "resume=latest"))
    assert refused.returncode == 1
    assert refused.stderr == "data.target=swept:shapes: gives other data than when this sweep started\n"
    with (copy.folder / "swept.py").open("a") as file:
        file.write("# changed\n")
    refused = copy(*own("swept", *NOISE, "resume=latest"))
    assert refused.returncode == 1
    *lines, rest = refused.stderr.splitlines()
    changed = [
        f"{group}.target: its file has changed since the run started" for group in ("data", "model", "optimizer")
    ]
    assert [line.partition(": ")[2].partition(": ")[2] for line in lines] == changed
    assert rest == "and 3 more"
    assert records(copy) == before


def test_what_a_sweeps_file_names_is_imported_by_no_resume_and_no_report(copy):
    refused = copy("resume=latest", "trainer.num_epochs=3")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        "resume=latest: data.target=swept:shapes in record.json names code, which must be typed; type the whole command"
    ]
    copy.completes(module="digits_sweep.report")
    assert not (copy.folder / "imported").exists()


def test_a_sweep_that_asks_for_another_data_set_calls_nothing_that_its_file_names(module, program):
    program("data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=1")
    manifest = program.sweep() / "sweep.json"
    manifest.write_text(manifest.read_text().replace('"used": "mnist_sample"', f'"used": "{module}:shapes"'))
    refused = program("resume=latest", "trainer.num_epochs=2")
    assert refused.returncode == 1
    assert f"there is no data set {module}:shapes" in refused.stderr
    assert not (program.folder / "imported").exists()


def test_the_line_that_resumes_a_sweep_is_its_whole_command(module, program):
    """No machine has the memory that the second network wants."""
    command = own(module, f"model.arguments={{width:2}},{{width:{10**12}}}")
    finished = program(*command)
    (line,) = (each for each in finished.stdout.splitlines() if each.startswith("resume with: "))
    folder, _, typed = line.partition(" && python -m digits_sweep ")
    assert folder == f"resume with: cd {program.folder}"
    assert shlex.split(typed) == [*command, f"resume={program.sweep()}"]


@pytest.mark.full
def test_several_data_sets_are_one_sweep_each_by_its_name(module, program):
    program.completes(*own(module, "data.arguments={count:130},{count:140}"))
    names = [f"{module}:shapes{{count:{count}}}" for count in (130, 140)]
    assert sorted(program.table()["dataset"]) == sorted(names * 2)


def test_an_optimizer_of_pytorchs_needs_no_file(program):
    typed = ["optimizer=own", "optimizer.target=torch.optim:NAdam", "optimizer.arguments={eps:1e-7}"]
    program.completes("data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=1", *typed)
    (record,) = (read_record(path.parent) for path in program.sweep().glob("*/record.json"))
    assert record.own_code == {}


# What is refused while planning

NAME = "must be module:name, such as mine:Network, in the working folder or an installed package"
REFUSED = {
    typed: f"{typed}: {right}"
    for typed, right in {
        "model.target=MINE": NAME,
        "data.target=null": NAME,
        "model.target=nowhere:Network": "cannot be imported (ModuleNotFoundError: No module named 'nowhere')",
        "model.target=MINE:Nothing": "cannot be imported (AttributeError: module 'MINE' has no attribute 'Nothing')",
        "model.target=MINE:constant": "is int, must be a class or a function",
        "model.target=MINE:three": "makes int, must make a torch.nn.Module",
        "model.target=MINE:broken": "cannot be built (OSError: no such luck)",
        "model.target=MINE:seven": "gives 20 x 7 scores for 20 images, must be 20 x 3",
        "model.target=MINE:for_gray": "fails on images of 3 x 8 x 8 (RuntimeError: ",
        "model.arguments={widht:3}": "got an unexpected keyword argument 'widht'; MINE:Network takes num_classes",
        "optimizer.target=MINE:three": "makes int, must make a torch.optim.Optimizer",
        "optimizer.target=MINE:broken": "cannot be built (OSError: no such luck)",
        "data.target=MINE:HERE": "is PosixPath, must be a class or a function",
        "data.target=MINE:broken": f"fails (OSError: no such luck), MINE.py line {BROKEN_AT}",
        "data.target=MINE:ends": "fails (SystemExit: 0), MINE.py line ",
        "data.arguments={cuont:3}": "got an unexpected keyword argument 'cuont'; MINE:shapes takes count, floats",
        "data.num_classes=2": "must be at least 3, as MINE:shapes has labels 0 to 2",
        "model.num_classes=2": "must be at least 3, the classes of MINE:shapes",
        "data.batch_size=101": "must be at most 100, the number of examples to train on in MINE:shapes",
    }.items()
} | {
    "optimizer.weight_decay=0.1": (
        "optimizer.arguments={lr:0.05,weight_decay:0.1,share:0.9}: got an unexpected keyword argument 'weight_decay'"
    ),
    "model=cnn model.channels=[1,1,1,1]": "model.channels=[1, 1, 1, 1]: must be at most 3, because each halves",
    "model=mlp data.arguments={floats:true} engine=native": "engine=native: it reads uint8 images only; engine=auto",
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("typed", REFUSED)
def test_what_cannot_be_used_is_refused_in_a_line_while_planning(typed, module, program):
    words, right = typed.replace("MINE", module).split(), REFUSED[typed].replace("MINE", module)
    refused = program(*own(module, *words, "dry_run=true"))
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith(right)
    # A traceback is all that is written, and only if there is one.
    left = [path.name for path in program.outputs.iterdir()] if program.outputs.exists() else []
    assert left == (["own-code.log"] if "Error: " in right or "Exit: " in right else [])
    assert all(line.endswith(f"; its traceback is in outputs/{name}") for name in left)


@pytest.mark.full
def test_the_traceback_of_code_that_fails_while_planning_is_in_the_file_that_its_line_names(module, program):
    for _ in range(2):
        refused = program("data=mnist_sample", "model=own", f"model.target={module}:broken", "outputs=elsewhere")
        assert refused.stderr == (
            f"model.target={module}:broken: cannot be built (OSError: no such luck), {module}.py line {BROKEN_AT}; "
            "its traceback is in elsewhere/own-code.log\n"
        )
        assert [path.name for path in (program.folder / "elsewhere").iterdir()] == ["own-code.log"]
        text = (program.folder / "elsewhere" / "own-code.log").read_text()
        assert len([each for each in text.splitlines() if each.startswith("20")]) == 1, "the last failure alone"
        assert text.endswith("OSError: no such luck\nand more\n")
        assert f'{module}.py", line {BROKEN_AT}, in broken\n    raise OSError(' in text


def test_a_traceback_that_cannot_be_written_leaves_the_line_as_it_is(module, program):
    (program.folder / "file").touch()
    refused = program("data=mnist_sample", "model=own", f"model.target={module}:broken", "outputs=file/outputs")
    assert refused.stderr.endswith(f"cannot be built (OSError: no such luck), {module}.py line {BROKEN_AT}\n")


# What such code does to the process

RUNS = ("-m", "data=mnist_sample", "model=own", "trainer.num_epochs=1", "num_threads=1")


@pytest.mark.parametrize("where", ["when it is built", "while it trains"])
def test_what_it_changes_of_the_process_is_put_back_and_said(program, module, where):
    done = program.completes(
        *RUNS, "data.batch_size=1000,500", f"model.target={module}:Rude", f"model.arguments={{where: '{where}'}}"
    )
    assert list(program.table()["status"]) == ["completed"] * 2
    who = f"model.target={module}:Rude" if where == "when it is built" else "batch_size=500"
    for line in (
        f"has changed the working folder to /; it is {program.folder} again",
        "has changed torch's default type to torch.float64; it is torch.float32 again",
        "has changed torch's number of threads to 2; it is 1 again",
        "has left threads running (1), beside which later runs are timed",
    ):
        assert f"WARNING: {who} {line}" in done.stdout


@pytest.mark.parametrize(
    ("where", "line"), [("while it trains", "SystemExit: 0"), ("with many words", "ValueError: " + "x" * 63 + " [...]")]
)
def test_a_network_that_ends_the_process_or_says_too_much_fails_and_the_next_run_trains(program, module, where, line):
    network = (f"model.target={module}:Ends", f"model.arguments={{where: '{where}'}}")
    done = program(*RUNS, "data.batch_size=500,400", *network)
    assert done.returncode == 1
    table = program.table()
    assert list(table["status"]) == ["failed", "completed"]
    assert table["error"][0].startswith(line)
    assert len(done.stdout) < 10_000


@pytest.mark.full
def test_what_cannot_be_measured_is_said_and_changes_no_outcome(module, program, monkeypatch):
    def no_memory(self):
        raise OSError("nobody counts it here")

    monkeypatch.setattr("digits_sweep.sweep.run.PeakMemory.peaks", no_memory)
    lesson = ["data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=1", "model=own"]
    program.completes(*lesson, f"model.target={module}:OnlyTrains")
    (row,) = program.table().to_dict("records")
    assert (row["status"], row["epochs"]) == ("completed", 1)
    assert row["not_measured"] == "test_accuracy: not in evaluation mode; peak_memory_mb: nobody counts it here"
    noise = ["evaluation=fine", "evaluation.train_samples=100", "evaluation.noise_scale=true"]
    finished = program.completes(*lesson, *noise, f"model.target={module}:WithoutGradient")
    assert finished.stdout.count("the gradient noise scale is not measured: element 0 of tensors does not require") == 1
    (row,) = program.table().to_dict("records")
    assert row["status"] == "completed"
    assert row["not_measured"].startswith("noise_scale: element 0 of tensors does not require grad")
