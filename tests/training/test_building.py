"""From configuration and data to an engine: its threads, its algorithms and its treatment of denormals."""

import pytest
import torch

from digits_sweep.data.digits import Digits
from digits_sweep.training.building import BuiltEngine, build_engine
from tests.workloads import settings


def built(*overrides: str, side: int = 28) -> BuiltEngine:
    images, labels = torch.zeros(40, side, side, dtype=torch.uint8), torch.arange(40) % 10
    return build_engine(settings("device=cpu", *overrides), Digits.of("noise", images, labels, images, labels))


@pytest.mark.parametrize("num_threads", ["auto", 2])
@pytest.mark.parametrize("engine", ["auto", "lesson"])
def test_the_number_of_threads_follows_from_the_configuration_alone(num_threads, engine, monkeypatch):
    monkeypatch.setattr("digits_sweep.training.building.usable_cores", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    engine = built(f"engine={engine}", f"num_threads={num_threads}")
    engine.configure_threads()
    assert torch.get_num_threads() == engine.num_threads == (1 if num_threads == "auto" else 2)


def test_only_the_lessons_loop_computes_with_denormals():
    assert built("engine=eager").configure_threads()
    assert (torch.tensor(2e-38) / 10).item() == 0
    assert not built("engine=lesson").configure_threads()
    assert (torch.tensor(2e-38) / 10).item() > 0


def test_a_model_is_built_for_the_images_of_its_data():
    engine = built(side=8).engine
    assert engine.model.hidden_layers[0].in_features == 64
    assert torch.isfinite(engine.train(torch.arange(40))).all()


def test_a_run_has_the_algorithms_that_it_asks_for_and_the_next_one_its_own():
    for asked in (True, False, True, False):
        built(f"deterministic={asked}").configure_threads()
        assert torch.are_deterministic_algorithms_enabled() is asked
