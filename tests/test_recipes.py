"""The recipes of docs/architecture.md, followed as a newcomer would: their own code, in the places that they name."""

import re
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from torch.optim import Adagrad

from digits_sweep.results.run import read_run
from tests.commands import Program

ARCHITECTURE = Path(__file__).parent.parent / "docs" / "architecture.md"
# What the recipes' code takes for imported at the top of its file.
IMPORTS = """
import csv, torch
from math import prod
from pathlib import Path
from digits_sweep.results.record import EpochRow
from digits_sweep.results.record import Record
"""


def code(recipe: str, language: str = "python") -> str:
    """The first block of a language under the recipe's heading."""
    section = re.split(rf"^### {recipe}\b.*$", ARCHITECTURE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    block = re.search(
        rf"^( *)```{language}\n(.*?)^\1```$", re.split(r"^### ", section, flags=re.MULTILINE)[0], re.S | re.M
    )
    assert block, f"the recipe for {recipe} has no {language}"
    return re.sub(rf"^{block[1]}", "", block[2], flags=re.MULTILINE)


def defined(recipe: str, module: str) -> object:
    """The last thing that the recipe's code defines, if it stood in `module`."""
    names = dict(vars(import_module(module)))
    exec(IMPORTS, names)
    before = set(names)
    exec(code(recipe), names)
    return names[[name for name in names if name not in before][-1]]


def put(conf: Path, recipe: str, file: str) -> None:
    (conf / file).parent.mkdir(parents=True, exist_ok=True)
    (conf / file).write_text(code(recipe, "yaml"))


@pytest.fixture
def conf(tmp_path, monkeypatch) -> Path:
    """A configuration folder, and the registries, as they are after the first six recipes."""
    from digits_sweep.config.scaling import RULES
    from digits_sweep.data import loading
    from digits_sweep.trackers.registry import TRACKERS
    from digits_sweep.training import model
    from digits_sweep.training import optimizers as optimizer
    from digits_sweep.training.engines import ENGINES

    conf = tmp_path / "conf"
    data = loading.DataSet(defined("A data set", "digits_sweep.data.loading"), train_samples=150)
    monkeypatch.setitem(loading.DATASETS, "two_classes", data)
    monkeypatch.setitem(model.MODELS, "coarse", defined("A model", "digits_sweep.training.model"))
    (adagrad,) = eval(f"{{{code('An optimizer')}}}", {**vars(optimizer), "Adagrad": Adagrad}).values()
    monkeypatch.setitem(optimizer.OPTIMIZERS, "adagrad", adagrad)
    rule = {"lr": defined("A scaling rule", "digits_sweep.config.scaling")}
    monkeypatch.setitem(RULES, "cube_root", rule)
    monkeypatch.setitem(ENGINES, "plain", defined("An engine", "digits_sweep.training.engines.eager"))
    monkeypatch.setitem(TRACKERS, "csv", defined("A tracker", "digits_sweep.trackers.registry"))
    put(conf, "A data set", "data/two_classes.yaml")
    put(conf, "A model", "model/coarse.yaml")
    put(conf, "An optimizer", "optimizer/adagrad.yaml")
    put(conf, "A scaling rule", "scaling/cube_root.yaml")
    put(conf, "An engine", "engine/plain.yaml")
    put(conf, "A tracker", "tracker/csv.yaml")
    return conf


def trained(program: Program, conf: Path, *overrides: str) -> pd.Series:
    finished = program("--config-dir", str(conf), "trainer.num_epochs=2", *overrides)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (row,) = (row for _, row in pd.read_csv(program.outputs / "summary.csv").iterrows())
    assert row["status"] == "completed"
    return row


def test_a_data_set_is_trained_on(program, conf):
    row = trained(program, conf, "data=two_classes", "data.batch_size=30", "model.head=logits")
    assert (row["dataset"], row["train_samples"], row["iterations_per_epoch"]) == ("two_classes", 150, 5)


def test_a_batch_larger_than_a_new_data_set_is_refused_while_planning(program, conf):
    refused = program("--config-dir", str(conf), "data=two_classes", "data.batch_size=151", "dry_run=true")
    assert "data.batch_size=151: must be at most 150" in refused.stderr


def test_a_model_that_is_no_mlp_is_trained_by_an_engine_that_can(program, conf):
    row = trained(program, conf, "data=mnist_sample", "model=coarse", "data.batch_size=500")
    assert (row["model"], row["engine"]) == ("coarse", "eager")
    assert pd.isna(row["hidden_size"])


def test_an_optimizer_is_trained_with(program, conf):
    row = trained(program, conf, "data=mnist_sample", "optimizer=adagrad", "data.batch_size=500")
    assert (row["optimizer"], row["engine"]) == ("adagrad", "eager")


def test_a_rule_scales_every_optimizer(program, conf):
    from digits_sweep.config.plan import plan

    for optimizer, lr in (("adam", 1e-4), ("adagrad", 1e-2)):
        (run,) = plan(["--config-dir", str(conf), "scaling=cube_root", f"optimizer={optimizer}"]).runs
        assert run.config.optimizer.lr == pytest.approx(lr * 0.2 ** (1 / 3))
        assert run.config.scaling.rule == "cube_root"


def test_an_engine_trains_and_gives_the_losses_of_the_others(program, conf):
    losses = [
        trained(program, conf, "data=mnist_sample", f"engine={engine}", "data.batch_size=500")["final_loss"]
        for engine in ("plain", "eager")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_name_that_is_in_no_registry_is_refused_with_those_that_are(program, conf):
    (conf / "model" / "unknown.yaml").write_text("defaults: [mlp, _self_]\nname: unknown\n")
    refused = program("--config-dir", str(conf), "model=unknown", "data=mnist_sample", "dry_run=true")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == ["model.name=unknown: choose mlp or cnn or linear or own or coarse"]


def test_a_tracker_is_notified_of_every_epoch(program, conf):
    from digits_sweep.config.plan import plan
    from digits_sweep.trackers.following import Follower

    trained(program, conf, "data=mnist_sample", "data.batch_size=500")
    settings = plan(["--config-dir", str(conf), "tracker=csv"]).settings.tracker
    (sweep,) = program.sweeps()
    Follower(sweep, settings, pytest.fail).follow(last=True)
    assert len((sweep / "batch_size=500" / "epochs.csv").read_text().splitlines()) == 2


def test_a_column_is_computed_recorded_and_shown(program, conf, monkeypatch):
    from digits_sweep.results import columns
    from digits_sweep.results import sweep as summary

    column = eval(code("A column"), vars(columns))
    for module in (columns, summary):
        monkeypatch.setattr(module, "COLUMNS", (*columns.COLUMNS, column))
    row = trained(program, conf, "data=mnist_sample", "data.batch_size=500")
    (sweep,) = program.sweeps()
    assert row.index[-1] == "worst_loss"
    assert row["worst_loss"] >= row["final_loss"]
    assert read_run(sweep / "batch_size=500").row["worst_loss"] == pytest.approx(row["worst_loss"])


def test_a_figure_is_on_the_page(program, monkeypatch, tmp_path):
    from digits_sweep.report import figures, page
    from digits_sweep.report.study import load_study

    figure = defined("A figure", "digits_sweep.report.figures")

    def drawn(study):
        return [*figures.figures(study), figure(study)]

    monkeypatch.setattr(page, "figures", drawn)
    finished = program("-m", "data=mnist_sample", "data.batch_size=500,1000", "trainer.num_epochs=1")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (sweep,) = program.sweeps()
    page.write_page(tmp_path / "index.html", [load_study(sweep)])
    assert "A mark a run.</figcaption>" in (tmp_path / "index.html").read_text()
