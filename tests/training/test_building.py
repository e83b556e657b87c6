"""From configuration and data to an engine, its threads and its treatment of denormals."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from digits_sweep.data.digits import Digits
from digits_sweep.training.building import build_engine, engine_for
from digits_sweep.training.model import MODELS
from tests.workloads import settings


def digits(side: int = 28) -> Digits:
    images, labels = torch.zeros(40, side, side, dtype=torch.uint8), torch.arange(40) % 10
    return Digits.of("noise", images, labels, images, labels)


def test_an_engine_knows_why_it_was_chosen_and_how_long_it_took_to_build():
    built = build_engine(settings("device=cpu"), digits())
    assert (built.name, built.device) == (engine_for(settings("device=cpu"))[0], torch.device("cpu"))
    assert "fastest" in built.reason
    assert built.seconds_setup > 0


def test_a_number_of_threads_that_is_asked_for_is_the_one_that_is_set():
    built = build_engine(settings("device=cpu", "num_threads=2"), digits())
    built.settle()
    assert torch.get_num_threads() == built.num_threads == 2


@pytest.mark.sampled(3)
@pytest.mark.parametrize("engine", ["auto", "eager", "closed_form", "lesson"])
@pytest.mark.parametrize("batch_size", [20, 500])
def test_auto_is_one_thread_whatever_the_machine_so_that_the_losses_are_the_same(engine, batch_size, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "64")
    built = build_engine(settings("device=cpu", f"engine={engine}", f"data.batch_size={batch_size}"), digits())
    assert built.num_threads == 1


def test_only_the_lessons_loop_computes_with_denormals():
    assert build_engine(settings("device=cpu", "engine=eager"), digits()).settle()
    assert (torch.tensor(2e-38) / 10).item() == 0
    assert not build_engine(settings("device=cpu", "engine=lesson"), digits()).settle()
    assert (torch.tensor(2e-38) / 10).item() > 0


def test_a_model_is_built_for_the_images_of_its_data():
    engine = build_engine(settings("device=cpu"), digits(side=8)).engine
    assert engine.model.hidden_layers[0].in_features == 64
    assert torch.isfinite(engine.train(torch.arange(40))).all()


def test_a_model_is_a_function_and_a_line_in_the_registry(monkeypatch):
    monkeypatch.setitem(MODELS, "linear", lambda config, image_shape: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    config = settings("device=cpu")
    built = build_engine(replace(config, model=replace(config.model, name="linear")), digits())
    assert built.name == "eager"
    assert torch.isfinite(built.engine.train(torch.arange(40))).all()
