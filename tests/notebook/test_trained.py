"""`load_model(run_dir)`: the trained network of a run."""

import json
import shutil

import pytest
import torch

from digits_sweep import InvalidConfig, UnreadableRecord, load_model, run
from digits_sweep.data.digits import scale
from digits_sweep.data.loading import load_sample
from digits_sweep.results.record import read_record, write_record


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    keys = {"batch_size": 100, "num_epochs": 1, "lr": 1e-2, "data": "mnist_sample", "loss_threshold": 2}
    return run(model=["mlp", "cnn"], **keys, outputs=tmp_path_factory.mktemp("trained") / "outputs")


@pytest.mark.parametrize("number", [0, 1], ids=["mlp", "cnn"])
def test_it_answers_as_the_run_did(sweep, number):
    digits, row = load_sample(), sweep.table.iloc[number]
    network = load_model(sweep.folder / row["run_dir"])
    assert not network.training
    with torch.no_grad():
        answers = network(scale(digits.test_images, "unit")).argmax(1)
    assert (answers == digits.test_labels).float().mean().item() == pytest.approx(row["test_accuracy"])


def test_a_sweep_loads_its_best_run_or_the_one_that_is_named(sweep):
    best, named = sweep.load_model(), sweep.load_model(sweep.best["run_dir"])
    assert all(torch.equal(*pair) for pair in zip(best.parameters(), named.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"load_model\('nonsense'\): there is no such run; there are model=mlp, "):
        sweep.load_model("nonsense")


def test_a_network_that_the_run_has_not_is_refused(sweep):
    with pytest.raises(InvalidConfig, match=r"the network of model=mlp is model=mlp; leave it out"):
        load_model(sweep.folder / "model=mlp", model=torch.nn.Flatten)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"hidden_size": 10**9}, "of another model"),
        ({"hidden_size": "many"}, "not the configuration of a network"),
        ({"hidden_layers": 10**9}, "must be a whole number"),
        ({"name": "nonsense"}, "choose mlp or"),
        ({"name": "own", "target": "os:system", "arguments": {"command": "touch here"}}, "not run; pass it"),
    ],
)
def test_a_record_from_somebody_else_neither_runs_nor_takes_the_memory(sweep, tmp_path, changes, line):
    shutil.copytree(sweep.folder / "model=mlp", tmp_path / "run")
    record = read_record(tmp_path / "run")
    model = {**record.config["model"], **changes}
    if changes.get("name") == "own":
        model = {"head": "logits", "num_classes": 10, **changes}
    record.config["model"] = model
    write_record(tmp_path / "run", record)
    with pytest.raises((UnreadableRecord, InvalidConfig), match=line):
        load_model(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "record.json").read_text())["config"]["model"] == model


def test_a_checkpoint_of_another_run_is_refused(sweep, tmp_path):
    shutil.copytree(sweep.folder / "model=mlp", tmp_path / "run")
    shutil.copy(sweep.folder / "model=cnn" / "checkpoint.safetensors", tmp_path / "run")
    with pytest.raises(UnreadableRecord, match="of another run"):
        load_model(tmp_path / "run")
