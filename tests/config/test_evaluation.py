"""The keys of evaluations: what is evaluated by default, what is refused, and what a resume makes of them."""

from dataclasses import asdict

import pytest
import torch

from digits_sweep.config.keys import as_recorded, changes_results, declared, differing, may_grow
from digits_sweep.config.plan import plan
from digits_sweep.config.schema import EvaluationConfig, TargetsConfig, config_from
from digits_sweep.data import loading
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import DATASETS, DataSet
from digits_sweep.errors import InvalidConfig
from digits_sweep.sweep import preflight

# Nothing is imported to train with it: the sample's size is known.
SAMPLE = ("data=mnist_sample", "device=cpu")


def evaluation(*arguments: str) -> EvaluationConfig:
    return plan(list(arguments)).settings.evaluation


def targets(**thresholds: list[float]) -> TargetsConfig:
    return TargetsConfig(**{"train_loss": [], "train_error": [], "test_loss": [], "test_error": []} | thresholds)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], EvaluationConfig(None, None, None, None, False, False, 0.0, targets())),
        (["evaluation=fine"],
         EvaluationConfig(3_000, None, 10_000, None, False, False, 0.0, targets(train_loss=[1.6]))),
        (["evaluation=fine", "evaluation.targets.test_error=[0.1,0.07]", "evaluation.per_doubling=6"],
         EvaluationConfig(
             3_000, 6.0, 10_000, None, False, False, 0.0, targets(train_loss=[1.6], test_error=[0.1, 0.07]))),
        # Behind logits a loss may fall as low as one likes.
        (["evaluation=fine", "model=mlp_logits", "evaluation.targets.train_loss=[0.01]"],
         EvaluationConfig(3_000, None, 10_000, None, False, False, 0.0, targets(train_loss=[0.01]))),
    ],
)  # fmt: skip
def test_what_is_evaluated_and_what_for(arguments, expected):
    assert evaluation(*arguments) == expected


def test_the_keys_may_change_a_result_so_that_a_resume_keeps_them():
    keys = {key for key in declared() if key.startswith("evaluation.")} | {"trainer.max_examples"}
    assert {"evaluation.targets.train_loss", "evaluation.stop", "trainer.max_examples"} < keys
    assert len(keys) == 12
    assert {(changes_results(key), may_grow(key)) for key in keys} == {(True, False)}


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "line",
    [
        "evaluation.every_examples=0: must be a whole number from 1 up, or null",
        "evaluation.per_doubling=0: must be a number from 0.1 to 1,000, or null",
        "evaluation.train_samples=0: must be a whole number from 2 up, or null",
        "trainer.max_examples=0: must be a whole number from 1 up, or null",
        "evaluation.targets.train_error=[0.1, 1]: must be a list of shares between 0 and 1",
        "evaluation.targets.test_loss=[0]: must be a list of numbers above 0",
        "evaluation.targets.train_loss=1.6: must be a list of numbers [a,b]",
        "evaluation.targets.train_loss=[low]: must be a list of numbers [a,b]",
        "evaluation.targets.loss=[1.6]: there is no such key; did you mean evaluation.targets.test_loss?",
    ],
)
def test_a_wrong_value_is_refused_while_planning(refused, line):
    assert refused("evaluation=fine", "model=mlp_logits", line.partition(":")[0].replace(", ", ",")) == line


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["evaluation=fine", "evaluation.targets.test_loss=[1.6,1.46]"],
            "evaluation.targets.test_loss=[1.6, 1.46]: behind a softmax of 10 classes the loss cannot fall below "
            "1.4612; choose larger ones, or model.head=logits",
        ),
        (
            ["evaluation=fine", "evaluation.every_examples=null"],
            "evaluation.targets.train_loss=[1.6]: a run is never evaluated; add evaluation=fine",
        ),
        (["evaluation.noise_scale=true"], "evaluation.noise_scale=true: a run is never evaluated; add evaluation=fine"),
        (
            ["evaluation=fine", "evaluation.stop=true", "evaluation.targets.train_loss=[]"],
            "evaluation.stop=true: needs a target to stop at, such as evaluation.targets.train_loss=[1.6]",
        ),
    ],
)
def test_what_cannot_be_evaluated_or_reached_is_refused_while_planning(refused, arguments, line):
    assert refused(*arguments) == line


def test_evaluations_on_more_digits_than_there_are_are_refused_before_data_is_read():
    right = "must be at most 1000, the number of examples to test with in mnist_sample, or null for all"
    with pytest.raises(InvalidConfig, match=rf"^evaluation\.test_samples=1001: {right}$"):
        preflight.check(plan([*SAMPLE, "evaluation=fine", "evaluation.test_samples=1001"]))


def test_evaluations_on_all_digits_are_not_refused():
    for samples in ("4000", "null"):
        preflight.check(plan([*SAMPLE, "evaluation=fine", f"evaluation.train_samples={samples}"]))


def test_of_the_fallback_all_digits_are_evaluated_unless_more_of_them_were_typed(program):
    unreachable = ["data.mirrors=[]", f"data.root={program.folder / 'data'}"]
    quick = ["evaluation=fine", "data.batch_size=500", "model.hidden_size=8", "trainer.num_epochs=1", *unreachable]
    refused = program("evaluation.train_samples=9999", *quick)
    assert refused.returncode == 1
    assert "evaluation.train_samples=9999: must be at most 4000" in refused.stderr
    assert program.sweeps() == []
    evaluated = program(*quick)
    assert evaluated.returncode == 0, evaluated.stderr


@pytest.fixture
def unknown_size(monkeypatch):
    """A data set of which nothing is known before it is loaded."""

    def load(data, report):
        images, labels = torch.zeros(60, 28, 28, dtype=torch.uint8), torch.arange(60) % 12
        return Digits.of("unknown", images, labels, images[:20], labels[:20])

    monkeypatch.setitem(DATASETS, "unknown", DataSet(load))
    monkeypatch.setattr(loading, "_loaded", {})


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "line",
    [
        "evaluation.train_samples=61: must be at most 60, the number of examples to train on in unknown",
        "evaluation.test_samples=21: must be at most 20, the number of examples to test with in unknown",
        "data.batch_size=61: must be at most 60, the number of examples to train on in unknown",
        "model.num_classes=10: must be at least 12, the classes of unknown",
    ],
)
def test_what_does_not_fit_data_of_unknown_size_is_refused_once_it_is_loaded(program, unknown_size, line):
    fitting = {"data.batch_size": 5, "evaluation.train_samples": 60, "model.num_classes": 12}
    key, _, value = line.partition(":")[0].partition("=")
    overrides = fitting | {"data.name": "unknown", "trainer.loss_threshold": 2, "device": "cpu", key: value}
    refused = program(*(f"{name}={each}" for name, each in overrides.items()))
    assert refused.returncode == 1
    assert refused.stderr.startswith(line)
    assert refused.stderr.count("\n") == 1
    assert not program.outputs.exists()


def recorded_before(*arguments: str) -> dict:
    """A run that was recorded before these keys existed."""
    content = asdict(plan(list(arguments)).settings)
    del content["evaluation"], content["trainer"]["max_examples"]
    return content


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "differences"),
    [
        ([], []),
        (["evaluation=fine"], ["evaluation.every_examples was null, is now 3000",
                               "evaluation.train_samples was null, is now 10000",
                               "evaluation.targets.train_loss was null, is now [1.6]"]),
        (["trainer.max_examples=9"], ["trainer.max_examples was null, is now 9"]),
    ],
)  # fmt: skip
def test_a_run_recorded_before_there_were_evaluations_is_the_same_without_them(arguments, differences):
    assert differing(recorded_before("optimizer=sgd"), plan(["optimizer=sgd", *arguments]).settings) == differences


def test_a_run_recorded_before_there_were_evaluations_is_restored_without_them():
    restored = as_recorded(plan([]).settings, recorded_before("optimizer=sgd", "trainer.num_epochs=3"))
    assert (restored.optimizer.name, restored.trainer.num_epochs, restored.trainer.max_examples) == ("sgd", 3, None)
    assert restored.evaluation == evaluation()


def test_a_run_recorded_with_evaluations_is_restored_with_them():
    config = plan(["evaluation=fine", "evaluation.targets.test_error=[0.1]", "trainer.max_examples=90"]).settings
    assert as_recorded(plan([]).settings, asdict(config)) == config


@pytest.mark.parametrize("damage", ["targets", "every_examples"])
def test_a_configuration_without_a_key_that_has_no_default_is_refused_by_that_key(damage):
    content = asdict(plan([]).settings)
    del content["evaluation"][damage]
    with pytest.raises(KeyError, match=damage):
        config_from(content)
