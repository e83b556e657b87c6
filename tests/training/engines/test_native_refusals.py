"""What the engine in C does not know it refuses, and it reads nothing outside of what it is given."""

from dataclasses import replace

import pytest
import torch

from digits_sweep.config.schema import AdamConfig, OptimizerConfig
from digits_sweep.training.engines import choose_engine
from digits_sweep.training.engines.closed_form import ClosedFormEngine
from digits_sweep.training.engines.native import SOURCE, NativeEngine
from tests.workloads import ADAM, small_convolution, workload

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    NativeEngine.refusal(workload().model, ADAM, CPU) is not None, reason="there is no C compiler"
)


@pytest.mark.parametrize("order", [[0, 203], [-1, 0]])
def test_no_image_outside_the_data_set_is_read(order):
    with pytest.raises(IndexError, match=r"^order must be from 0 to 202$"):
        NativeEngine(workload()).train(torch.tensor(order))


def test_no_label_outside_the_classes_is_read():
    made = workload()
    with pytest.raises(IndexError, match=r"^labels must be from 0 to 9$"):
        NativeEngine(replace(made, labels=made.labels + 1))


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        (
            {"images": torch.zeros(203, 28, 28)},
            TypeError,
            "images must be uint8 and labels int64, not torch.float32 and",
        ),
        ({"labels": torch.zeros(203, dtype=torch.int32)}, TypeError, "images must be uint8 and labels int64"),
        ({"labels": torch.zeros(202, dtype=torch.int64)}, ValueError, "every image must have a label"),
        ({"images": torch.zeros(203, 27, 28, dtype=torch.uint8)}, ValueError, "as many pixels as the model has inputs"),
    ],
)
def test_nothing_is_read_that_is_not_there(changed, error, text):
    with pytest.raises(error, match=text):
        NativeEngine(replace(workload(), **changed))


def test_an_order_is_of_64_bits():
    with pytest.raises(TypeError, match=r"^order must be int64, not torch.int32$"):
        NativeEngine(workload()).train(torch.arange(20, dtype=torch.int32))


def test_a_model_in_float64_is_refused():
    assert NativeEngine.refusal(workload().model.double(), ADAM, CPU) == "it computes in float32 only"


def test_what_the_closed_form_refuses_is_refused_in_its_words():
    for model in (workload(activation="tanh").model, small_convolution()):
        assert NativeEngine.refusal(model, ADAM, CPU) == ClosedFormEngine.refusal(model, ADAM, CPU) is not None
    assert NativeEngine.refusal(workload().model, ADAM, torch.device("mps")) == "it computes on the CPU only"


@pytest.mark.parametrize("changed", [{"betas": [0.9, 0.4]}, {"eps": 1e-30}])
def test_adam_that_would_round_badly_is_refused(changed):
    config: OptimizerConfig = replace(ADAM, **changed)
    assert isinstance(config, AdamConfig)
    refusal = NativeEngine.refusal(workload().model, config, CPU)
    assert refusal == "it knows Adam from optimizer.betas=[..., 0.5] and optimizer.eps=1e-28 up only"
    assert choose_engine("auto", workload().model, config, CPU)[0] == "closed_form"


def test_the_c_code_is_part_of_the_package():
    assert SOURCE.is_file()
