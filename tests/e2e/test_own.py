"""A network and an optimizer of the user's own, by their names."""

import shlex
import sys

import pytest

from digits_sweep.results.record import read_record
from tests.commands import Program
from tests.killing import assert_same_results

CODE = """
from pathlib import Path
import torch
from torch import nn

(Path(__file__).parent / "imported").touch()

class Network(nn.Module):
    def __init__(self, width=4, num_classes=2):
        super().__init__()
        layers = nn.Conv2d(1, width, 5, stride=3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.LazyLinear(num_classes)
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        return self.layers(images)

class Steps(torch.optim.SGD):
    def __init__(self, parameters, lr, share=0.5):
        super().__init__(parameters, lr, momentum=share)

def seven(image_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(image_shape[-1] ** 2, 7))

def for_colors():
    return nn.Conv2d(3, 10, 28)

def broken(*given, **arguments):
    raise OSError("no such luck\\nand more")

def three(*arguments, **more):
    return 3

import os, sys, threading

class Rude(Network):
    def __init__(self, where, num_classes=2):
        super().__init__(num_classes=num_classes)
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
    def __init__(self, where, num_classes=2):
        super().__init__(num_classes=num_classes)
        self.where = where
        if where == "when it is built":
            sys.exit(0)

    def forward(self, images):
        if self.where == "while it trains" and len(images) == 500:
            sys.exit(0)
        if self.where == "with many words" and len(images) == 500:
            raise ValueError("x" * 3_000_000)
        return super().forward(images)

def ends():
    sys.exit(0)

constant = 3

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


def sweep(module: str, *more: str, epochs: int = 2) -> list[str]:
    return [
        "-m", "data=mnist_sample", "data.batch_size=1000", f"trainer.num_epochs={epochs}", "model=own",
        f"model.target={module}:Network", "model.arguments={width:2},{width:3}", "optimizer=own",
        f"optimizer.target={module}:Steps", "optimizer.arguments={share:0.9}", "optimizer.lr=0.05", *more,
    ]  # fmt: skip


@pytest.mark.full
def test_they_are_swept_stopped_and_resumed_to_the_same_bits_by_the_whole_command(module, program, tmp_path):
    undisturbed = Program(tmp_path / "undisturbed")
    undisturbed.folder.mkdir()
    (undisturbed.folder / f"{module}.py").write_text(CODE)
    for arguments, where in ((sweep(module), undisturbed), (sweep(module, epochs=1), program)):
        finished = where(*arguments)
        assert finished.returncode == 0, finished.stdout + finished.stderr
    resumed = program(*sweep(module, "resume=latest"))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert_same_results(program.sweep(), undisturbed.sweep())
    table = program.table()
    assert list(table["model"]) == ["own_logits"] * 2
    assert list(table["engine"]) == ["eager"] * 2


def test_the_record_has_the_digest_of_the_code_and_the_number_of_parameters(module, program):
    program(*sweep(module, epochs=1))
    records = [read_record(path.parent) for path in sorted(program.sweep().glob("*/record.json"))]
    for record, width in zip(records, (2, 3), strict=True):
        assert record.parameters == (25 + 1) * width + (8 * 8 * width + 1) * 10
        assert record.own_code.keys() == {"model.target", "optimizer.target"}
        assert record.config["model"]["arguments"] == {"width": width}


def test_a_resume_with_another_file_is_refused_by_name_and_changes_nothing(module, program):
    program(*sweep(module, epochs=1))
    before = [path.read_bytes() for path in sorted(program.sweep().glob("*/record.json"))]
    with (program.folder / f"{module}.py").open("a") as file:
        file.write("# changed\n")
    refused = program(*sweep(module, "resume=latest"))
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 4
    assert refused.stderr.splitlines()[0].endswith("model.target: its file has changed since the run started")
    assert [path.read_bytes() for path in sorted(program.sweep().glob("*/record.json"))] == before


@pytest.mark.full
def test_what_a_sweeps_file_names_is_imported_by_no_resume_and_no_report(module, program):
    program(*sweep(module, epochs=1))
    (program.folder / "imported").unlink()
    del sys.modules[module]
    refused = program("resume=latest", "trainer.num_epochs=2")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        f"resume=latest: model.target={module}:Network in record.json names code, which must be typed; "
        "type the whole command"
    ]
    assert program(module="digits_sweep.report").returncode == 0
    assert not (program.folder / "imported").exists()


def test_the_line_that_resumes_a_sweep_is_its_whole_command(module, program):
    """No machine has the memory that the second network wants."""
    command = [f"model.arguments={{width:2}},{{width:{10**9}}}" if "width" in each else each for each in sweep(module)]
    finished = program(*command)
    (line,) = (each for each in finished.stdout.splitlines() if each.startswith("resume with: "))
    folder, _, typed = line.partition(" && python -m digits_sweep ")
    assert folder == f"resume with: cd {program.folder}"
    assert shlex.split(typed) == [*command, f"resume={program.sweep()}"]


REFUSED = {
    "model.target=null": "must be module:name, such as mine:Network, in the working folder or an installed package",
    "model.target=MINE": "must be module:name, such as mine:Network, in the working folder or an installed package",
    "model.target=nowhere:Network": "cannot be imported (ModuleNotFoundError: No module named 'nowhere')",
    "model.target=MINE:Nothing": "cannot be imported (AttributeError: module 'MINE' has no attribute 'Nothing')",
    "model.target=MINE:constant": "is int, must be a class or a function",
    "model.target=MINE:three": "makes int, must make a torch.nn.Module",
    "model.target=MINE:broken": "cannot be built (OSError: no such luck)",
    "model.target=MINE:seven": "gives 20 x 7 scores for 20 images, must be 20 x 10",
    "model.target=MINE:for_colors": "fails on images of 1 x 28 x 28 (RuntimeError: Given groups=1, weight of size",
    "optimizer.target=MINE:three": "makes int, must make a torch.optim.Optimizer",
    "optimizer.target=MINE:broken": "cannot be built (OSError: no such luck)",
    "model.arguments={widht:3}": "got an unexpected keyword argument 'widht'; MINE:Network takes width, num_classes",
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("override", REFUSED)
def test_code_that_cannot_be_used_is_refused_in_a_line_while_planning(override, module, program):
    override, right = (text.replace("MINE", module) for text in (override, REFUSED[override]))
    base = ["data=mnist_sample", "model=own", "optimizer=own", "dry_run=true"]
    names = [f"model.target={module}:Network", f"optimizer.target={module}:Steps"]
    refused = program(*base, *(name for name in names if name.split("=")[0] != override.split("=")[0]), override)
    assert refused.returncode == 1
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"{override}: {right}")
    # A traceback is all that is written, and only if there is one.
    left = [path.name for path in program.outputs.iterdir()] if program.outputs.exists() else []
    assert left == (["own-code.log"] if "Error: " in right else [])


@pytest.mark.full
@pytest.mark.parametrize("failing", ["model", "optimizer"])
def test_the_traceback_of_code_that_fails_while_planning_is_in_the_file_that_its_line_names(failing, module, program):
    for _ in range(2):
        refused = program(
            "data=mnist_sample", f"{failing}=own", f"{failing}.target={module}:broken", "outputs=elsewhere"
        )
        (line,) = refused.stderr.splitlines()
        assert line == (
            f"{failing}.target={module}:broken: cannot be built (OSError: no such luck), {module}.py line 28; "
            "its traceback is in elsewhere/own-code.log"
        )
        assert [path.name for path in (program.folder / "elsewhere").iterdir()] == ["own-code.log"]
        text = (program.folder / "elsewhere" / "own-code.log").read_text()
        assert len([each for each in text.splitlines() if each.startswith("20")]) == 1, "the last failure alone"
        assert text.endswith("OSError: no such luck\nand more\n")
        assert f'{module}.py", line 28, in broken\n    raise OSError(' in text


def test_a_traceback_that_cannot_be_written_leaves_the_line_as_it_is(module, program):
    (program.folder / "file").touch()
    refused = program("data=mnist_sample", "model=own", f"model.target={module}:broken", "outputs=file/outputs")
    (line,) = refused.stderr.splitlines()
    assert line.endswith(f"cannot be built (OSError: no such luck), {module}.py line 28")


def test_a_decay_that_an_optimizer_does_not_know_is_refused(module, program):
    typed = ["optimizer=own", f"optimizer.target={module}:Steps", "optimizer.weight_decay=0.1", "dry_run=true"]
    refused = program("data=mnist_sample", *typed)
    assert "got an unexpected keyword argument 'weight_decay'" in refused.stderr


def test_an_optimizer_of_pytorchs_needs_no_file(program):
    typed = ["optimizer=own", "optimizer.target=torch.optim:NAdam", "optimizer.arguments={eps:1e-7}"]
    finished = program("data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=1", *typed)
    assert finished.returncode == 0, finished.stderr
    (record,) = (read_record(path.parent) for path in program.sweep().glob("*/record.json"))
    assert record.own_code == {}


# What such code does to the process

RUNS = ("-m", "data=mnist_sample", "model=own", "trainer.num_epochs=1")


@pytest.mark.parametrize("where", ["when it is built", "while it trains"])
def test_what_it_changes_of_the_process_is_put_back_and_said(program, module, where):
    done = program(
        *RUNS, "data.batch_size=1000,500", f"model.target={module}:Rude", f"model.arguments={{where: '{where}'}}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(program.table()["status"]) == ["completed"] * 2
    who = f"model.target={module}:Rude" if where == "when it is built" else "batch_size=500"
    for line in (
        f"has changed the working folder to /; it is {program.folder} again",
        "has changed torch's default type to torch.float64; it is torch.float32 again",
        "has changed torch's number of threads to 2; it is 1 again",
        "has left threads running (1), beside which later runs are timed",
    ):
        assert f"WARNING: {who} {line}" in done.stdout


def test_data_that_end_the_process_are_refused(program, module):
    refused = program("data=own", f"data.target={module}:ends", "data.num_classes=2")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"data.target={module}:ends: fails (SystemExit: 0), {module}.py line ")


@pytest.mark.parametrize(
    ("where", "line"), [("while it trains", "SystemExit: 0"), ("with many words", "ValueError: " + "x" * 63 + " [...]")]
)
def test_a_network_that_ends_the_process_or_says_too_much_fails_and_the_next_run_trains(program, module, where, line):
    done = program(
        *RUNS,
        "data.batch_size=500,400",
        f"model.target={module}:Ends",
        f"model.arguments={{where: '{where}'}}",
    )
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
    assert program(*lesson, f"model.target={module}:OnlyTrains").returncode == 0
    (row,) = program.table().to_dict("records")
    assert (row["status"], row["epochs"]) == ("completed", 1)
    assert row["not_measured"] == "test_accuracy: not in evaluation mode; peak_memory_mb: nobody counts it here"
    noise = ["evaluation=fine", "evaluation.train_samples=100", "evaluation.noise_scale=true"]
    finished = program(*lesson, *noise, f"model.target={module}:WithoutGradient")
    assert finished.returncode == 0, finished.stdout
    assert finished.stdout.count("the gradient noise scale is not measured: element 0 of tensors does not require") == 1
    (row,) = program.table().to_dict("records")
    assert row["status"] == "completed"
    assert row["not_measured"].startswith("noise_scale: element 0 of tensors does not require grad")
