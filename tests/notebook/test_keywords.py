"""Keywords of `run` are the keys and groups that there are, and mean what they mean on a command line."""

import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest

from digits_sweep import run
from digits_sweep.config.plan import plan
from digits_sweep.errors import InvalidConfig
from digits_sweep.notebook.run import as_overrides, choices, keywords, meanings
from tests.documents import CHOICES, KEYS, ROOT


def configs(*overrides: str) -> list[object]:
    return [planned.config for planned in plan(["-m", *overrides]).runs]


ALIKE = [
    ({"batch_size": 100}, ["data.batch_size=100"]),
    ({"batch_size": [100, 20, 5]}, ["data.batch_size=100,20,5"]),
    ({"batch_size": np.array([100, 20]), "seed": range(3)}, ["data.batch_size=100,20", "seed=0,1,2"]),
    ({"seed": range(5, 6), "lr": np.float64(2.5e-4)}, ["seed=5", "optimizer.lr=2.5e-4"]),
    (
        {"lr": {5: 1e-4, "else": 1e-3}, "batch_size": (5, 7)},
        ["optimizer.lr={5:1e-4,else:1e-3}", "data.batch_size=5,7"],
    ),
    ({"model": ["mlp", "cnn"], "data": "mnist_sample"}, ["model=mlp,cnn", "data=mnist_sample"]),
    ({"model": "own", "model__target": "mine:Net", "model__arguments": {"width": 8, "name": "a b"}},
     ["model=own", "model.target=mine:Net", "model.arguments={width:8,name:'a b'}"]),
    ({"betas": [0.9, 0.99]}, ["optimizer.betas=[0.9,0.99]"]),
    ({"betas": [[0.9, 0.99], [0.8, 0.9]]}, ["optimizer.betas=[0.9,0.99],[0.8,0.9]"]),
    ({"evaluation": "fine", "train_loss": [1.6], "stop": True},
     ["evaluation=fine", "evaluation.targets.train_loss=[1.6]", "evaluation.stop=true"]),
    ({"optimizer__lr": 1e-3, "outputs": Path("a b/c")}, ["optimizer.lr=0.001", "outputs='a b/c'"]),
    ({"tracker": ["mlflow"], "tracker__mlflow__uri": "file:///x"}, ["tracker=[mlflow]", "tracker.mlflow.uri='file:///x'"]),
    ({"device": "cpu", "num_threads": "auto", "max_examples": None, "fallback": "null"},
     ["device=cpu", "num_threads=auto", "trainer.max_examples=null", "data.fallback='null'"]),
]  # fmt: skip


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("given", "typed"), ALIKE, ids=lambda case: " ".join(case))
def test_a_call_with_keywords_plans_what_the_command_line_plans(given, typed):
    assert configs(*as_overrides(given)) == configs(*typed)


REFUSED = [
    ({"batchsize": 5}, r"batchsize: there is no such keyword; did you mean batch_size\?"),
    ({"optimizer__rate": 5}, "optimizer__rate: there is no such keyword"),
    ({"name": "mlp"}, "name: there is no such keyword"),
    ({"num_classes": 5}, "may mean data.num_classes or model.num_classes; write data__num_classes or"),
    ({"lr": 1e-3, "optimizer__lr": 1e-4}, "optimizer__lr: is given as 'lr' too; give it once"),
    ({"batch_size": []}, r"batch_size=\[\]: must have a value"),
    ({"seed": range(0)}, "0 runs"),
    ({"seed": range(10**9)}, "1,000,000,000 runs"),
    ({"batch_size": {1, 2}}, "batch_size: is of type set; must be"),
    ({"batch_size": "100,20"}, r"data.batch_size='100,20': must be a whole number"),
    ({"seed": object()}, "seed: is of type object; must be"),
    ({"data": "nmist"}, "data=nmist: there is no such choice; choose"),
]


@pytest.mark.parametrize(("given", "line"), REFUSED, ids=lambda case: " ".join(case))
def test_what_is_no_keyword_or_no_value_is_refused_in_one_line(given, line):
    with pytest.raises(InvalidConfig, match=line) as refusal:
        configs(*as_overrides(given))
    assert len(str(refusal.value).splitlines()) == 1


def test_what_is_given_as_text_and_as_keyword_is_refused():
    with pytest.raises(InvalidConfig, match=r"batch_size: is given as 'data\.batch_size=100' too"):
        as_overrides({"batch_size": 5}, ["data.batch_size=100"])


def test_every_key_and_every_group_has_a_keyword_and_every_keyword_means_one():
    named = set(keywords().values())
    trackers = {key for key in KEYS if key.startswith("tracker.")}
    assert {key for key in KEYS if not key.startswith(("tune.", "critical."))} - trackers <= named
    assert {group for group, _ in CHOICES if "/" not in group} == set(choices()) <= named
    assert [word for word, keys in meanings().items() if len(keys) > 1 and word in keywords()] == []


def test_keywords_are_completed_from_the_signature_of_run():
    parameters = inspect.signature(run).parameters
    assert {"batch_size", "seed", "data", "optimizer", "model__target"} <= parameters.keys()
    assert "keys" not in parameters


def test_the_types_of_the_keywords_are_what_their_generator_writes():
    spec = importlib.util.spec_from_file_location("keywords", ROOT / "docs" / "keywords.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.FILE.read_text(encoding="utf-8") == generator.page(), generator.STALE
