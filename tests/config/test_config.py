"""What a configuration comes to, and what the command shows of it."""

import json
from dataclasses import asdict
from itertools import groupby, zip_longest
from operator import itemgetter

import pytest

from digits_sweep.config.compose import composing, to_config
from digits_sweep.config.keys import as_recorded, differing
from digits_sweep.config.plan import plan
from digits_sweep.config.schema import config_from
from tests.documents import CHOICES


def rates(*arguments: str) -> list[tuple[int, float, float]]:
    configs = [run.config for run in plan(list(arguments)).runs]
    return [(each.data.batch_size, each.optimizer.lr, each.optimizer.weight_decay) for each in configs]


def test_the_defaults_are_the_lessons_numbers():
    config = plan([]).runs[0].config
    assert (config.data.batch_size, config.data.num_workers, config.model.num_classes) == (20, 4, 10)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-4, 5e-4)
    assert (config.trainer.num_epochs, config.trainer.loss_threshold) == (30, 1.6)
    assert (config.model.hidden_size, config.model.head, config.seed) == (128, "softmax", 42)


def test_the_lesson_experiment_is_its_four_rows():
    rows = [(100, 1e-4, 5e-4), (20, 1e-4, 5e-4), (5, 1e-6, 5e-6), (5, 1e-4, 5e-4)]
    assert rates("-m", "experiment=lesson") == rows
    assert rates("experiment=lesson") == rows


@pytest.mark.full
def test_an_experiment_can_be_repeated_with_several_seeds():
    assert len(plan(["-m", "experiment=lesson", "seed=0,1,2"]).runs) == 12


def test_model_mlp_logits_is_the_same_network_without_the_softmax():
    assert plan(["model=mlp_logits"]).runs[0].config.model.head == "logits"


def test_every_choice_is_the_same_after_it_was_recorded():
    """By its `name` a recorded group is known to be of the dataclass that its file chose."""
    needed = {"data=emnist_letters": ["trainer.loss_threshold=2.5"], "loss=mse": ["model.head=logits"]}
    needed |= {"loss=bce": ["model.head=logits"]}
    needed |= {f"{group}=own": [f"{group}.target=mine:made"] for group, _ in CHOICES}
    groups = [
        [f"{group}={name}" for _, name in choices]
        for group, choices in groupby(sorted(CHOICES), key=itemgetter(0))
        if "/" not in group and group not in ("experiment", "tracker")
    ]
    with composing() as composer:
        # A choice of every group at a time.
        for chosen in zip_longest(*groups):
            texts = [text for choice in filter(None, chosen) for text in (choice, *needed.get(choice, []))]
            config = to_config(composer.composed([composer.parse(text) for text in texts]).config)
            recorded = json.loads(json.dumps(asdict(config)))
            assert config_from(recorded) == as_recorded(config, recorded) == config, texts
            assert differing(recorded, config) == []


def test_numbers_are_resolved_in_what_cfg_job_prints(program):
    printed = program("--cfg", "job", "data.batch_size=5")
    assert "lr: 1.0e-06" in printed.stdout
    assert "${" not in printed.stdout


def test_help_is_about_this_program(program):
    printed = program("--help")
    assert printed.returncode == 0
    assert printed.stdout.startswith("digits_sweep: if I change the batch size")
    assert printed.stdout.count("    python -m digits_sweep") == 0
    assert printed.stdout.count("  python -m digits_sweep") == 3


def test_help_shows_what_the_command_line_sets_and_the_choices_of_own_folders(program, own_file):
    folder, _ = own_file("optimizer", "slow", "defaults: [adam]\nlr: 1e-6\n")
    printed = program("data.batch_size=5", "--help", folder)
    assert "batch_size: 5\n" in printed.stdout
    assert "lr: 1.0e-06\n  weight_decay: 5.0e-06\n" in printed.stdout
    assert "sgd, slow" in printed.stdout


def test_help_refuses_a_misspelt_key_in_one_line(program):
    assert program("--help", "data.bach_size=7").stderr.endswith("did you mean data.batch_size?\n")


def test_version_is_told(program):
    assert program("--version").stdout == "digits_sweep 0.1.0\n"
