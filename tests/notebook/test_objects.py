"""`run(model=Network, data=(train, test))`: classes, functions and data that are passed as they are."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from digits_sweep import CannotResume, DataUnavailable, InvalidConfig, load_model, run

KEYS = {"data__num_classes": 2, "num_epochs": 1, "optimizer": "adamw", "loss_threshold": 0.5, "batch_size": 50}
SCRIPT = """
from digits_sweep import run
run(resume="latest")
"""


class Network(nn.Module):
    """Two scores for a row of three numbers."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, num_classes)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layer(rows)


def rows(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return drawn, (drawn[:, 0] > 0).long()


DATA = rows(200), rows(100)


def trained(**keys):
    """A sweep of the network on the rows, but for what is given."""
    return run(**{"model": Network, "data": DATA} | KEYS | keys)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        [tuple(each.numpy() for each in pair) for pair in DATA],
        tuple(torch.utils.data.TensorDataset(*pair) for pair in DATA),
        lambda: DATA,
    ],
    ids=["tensors", "arrays", "datasets", "function"],
)
def test_data_are_passed_as_tensors_arrays_datasets_or_a_function(data):
    sweep = trained(data=data)
    assert list(sweep.table[["status", "dataset", "train_samples"]].iloc[0]) == ["completed", "object:data", 200]


def test_other_data_of_the_same_name_are_other_data():
    first, second = (trained(data=(rows(200, seed), rows(100))) for seed in (0, 1))
    assert first.table["final_loss"][0] != second.table["final_loss"][0]


def test_what_other_processes_can_import_keeps_its_name_and_what_they_cannot_is_said(capsys):
    def local(num_classes):
        return nn.Linear(3, num_classes)

    sweep = trained(model=[Network, local], optimizer=torch.optim.NAdam)
    assert list(sweep.table["model.target"]) == [f"{__name__}:Network", "object:local"]
    assert "data.target=object:data: no file, so that no other process can resume" in capsys.readouterr().out


def test_the_same_process_resumes_with_the_same_objects_and_no_others():
    def local(num_classes):
        return nn.Linear(3, num_classes)

    sweep = trained(model=local)
    assert trained(resume="latest", model=local, num_epochs=2) == sweep
    assert list(sweep.table["epochs"]) == [2]
    with pytest.raises(CannotResume, match=r"object:\w+: was passed to run as an object"):
        run(resume="latest")
    with pytest.raises(DataUnavailable, match="gives other data than when this sweep started"):
        trained(resume="latest", model=local, data=(rows(200, seed=1), rows(100)), num_epochs=3)

    def local(num_classes):
        return nn.Sequential(nn.Linear(3, num_classes))

    with pytest.raises(CannotResume, match="has changed since the run started"):
        trained(resume="latest", model=local, num_epochs=3)


@pytest.mark.full
def test_another_process_says_what_to_pass_again():
    trained()
    for command in (["-c", SCRIPT], ["-m", "digits_sweep", "resume=latest"]):
        refused = subprocess.run([sys.executable, *command], capture_output=True, text=True)
        assert refused.returncode == 1
        assert "data.target=object:data: was passed to run as an object" in refused.stderr


def test_a_stopped_sweep_says_the_call_that_resumes_it(capsys):
    steps = []

    def fails(num_classes):
        class Failing(Network):
            def forward(self, rows):
                if self.training and torch.is_grad_enabled():
                    steps.append(rows)
                # While it is planned, the network is tried with one step.
                if len(steps) > 1:
                    raise RuntimeError("as planned")
                return super().forward(rows)

        return Failing(num_classes)

    sweep = trained(model=fails, engine="eager")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("resume with: "))
    assert line.endswith(f"'resume={sweep.folder}', model=fails, data=data)")
    assert "object:" not in line


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"model": Network(2)}, "model: is a Network; must be a name, or a class or function that makes a new one"),
        ({"model": ["mlp", Network]}, "model: is a list; must be a name"),
        ({"model": [lambda: 1, lambda: 2]}, "model: has two of one name"),
        ({"optimizer": 3}, "optimizer: is a int; must be a name"),
        ({"data": np.zeros(3)}, "must return"),
    ],
    ids=["network", "mixed", "lambdas", "number", "array"],
)
def test_what_makes_no_network_and_no_data_is_refused(keys, line):
    with pytest.raises(InvalidConfig, match=line):
        trained(**keys)


def test_a_trained_network_is_loaded_with_what_made_it():
    sweep = trained(num_epochs=5, lr=0.1)
    images, labels = rows(100)
    network = sweep.load_model(model=Network)
    with torch.no_grad():
        accuracy = (network(images).argmax(1) == labels).float().mean().item()
    assert accuracy == pytest.approx(sweep.table["test_accuracy"][0])
    with pytest.raises(InvalidConfig, match=r"code that a file names is not run; pass it"):
        load_model(sweep.folder / sweep.table["run_dir"][0])
