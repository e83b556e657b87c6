"""What a checkpoint keeps, for every engine and for parts of the user's own, and what is not taken for one."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from digits_sweep.config.schema import OwnOptimizerConfig
from digits_sweep.errors import InvalidConfig, NewerFormat, UnreadableRecord
from digits_sweep.results.record import Written
from digits_sweep.sweep.checkpoint import checkpoint_content, checkpoint_of, restore, state_of
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.epochs import epoch_order
from tests.workloads import ADAM, PLAIN_SGD, SGD, device_of, on_this_machine, workload

OWN = OwnOptimizerConfig(name="own", lr=0.1, weight_decay=0.0, target="mine:Own")
FILES = {"losses.npy": Written(12, 2**31), "history.csv": Written(99, 1)}


def engine(name: str, optimizer=ADAM, **shape):
    return ENGINES[name](workload(optimizer=optimizer, device=device_of(name), **shape))


def content_of(trained, optimizer=ADAM) -> bytes:
    config = SimpleNamespace(optimizer=optimizer, model=SimpleNamespace(name="mlp"))
    return checkpoint_content(state_of(trained, config), "an id", FILES)


def read(content: bytes):
    return checkpoint_of(content, "checkpoint.safetensors")


def epoch(trained, number: int) -> torch.Tensor:
    return trained.train(epoch_order(0, number, 203)).cpu()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [on_this_machine(name) for name in ENGINES])
@pytest.mark.parametrize("optimizer", [ADAM, SGD, PLAIN_SGD])
def test_an_engine_restored_from_a_checkpoint_goes_on_bit_for_bit(name, optimizer):
    if refusal := ENGINES[name].refusal(workload(optimizer=optimizer, device=device_of(name))):
        pytest.skip(f"{name}: {refusal}")
    undisturbed = engine(name, optimizer)
    epoch(undisturbed, 1)
    content = content_of(undisturbed, optimizer)
    expected = epoch(undisturbed, 2)
    restored = engine(name, optimizer)
    restore(restored, read(content))
    assert torch.equal(epoch(restored, 2), expected)
    for one, other in zip(restored.model.parameters(), undisturbed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_one_engine_is_one_for_every_other():
    losses = {}
    trained = engine("closed_form")
    epoch(trained, 1)
    content = content_of(trained)
    for name in ("closed_form", "eager", "lesson"):
        other = engine(name)
        restore(other, read(content))
        losses[name] = epoch(other, 2)
    assert (losses["eager"] - losses["closed_form"]).abs().max() < 2e-5
    assert (losses["lesson"] - losses["closed_form"]).abs().max() < 2e-5


def test_safetensors_reads_the_file_as_it_is_and_the_rest_is_kept(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(content := content_of(engine("eager")))
    names = ("features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias", "output.weight")
    assert {f"model.{name}" for name in names} < set(load_file(tmp_path / "checkpoint.safetensors"))
    assert (read(content).run_id, read(content).written) == ("an id", FILES)


@pytest.fixture(scope="module")
def whole() -> bytes:
    return content_of(engine("eager", hidden_size=2))


@settings(max_examples=100)
@given(data=st.data())
def test_cut_short_or_with_any_bit_flipped_it_is_named_and_not_taken(whole, data):
    index, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(whole)
    changed[index] ^= 1 << bit
    for content in (whole[:index], bytes(changed)):
        with pytest.raises(UnreadableRecord, match=r"^checkpoint\.safetensors: [^\n]+$"):
            read(content)


@pytest.mark.parametrize("other", [{"hidden_size": 16}, {"hidden_layers": 3}, {"optimizer": SGD}])
def test_weights_of_another_model_or_optimizer_are_refused_by_name(other):
    trained = engine("eager")
    epoch(trained, 1)
    checkpoint = read(content_of(trained))
    with pytest.raises(UnreadableRecord, match=r"checkpoint\.safetensors: of another (model|model or optimizer) \("):
        restore(engine("closed_form", **{"optimizer": ADAM, **other}), checkpoint)


class Strange(torch.optim.Optimizer):
    """Keeps in its state whatever an optimizer of the user's may keep there."""

    def __init__(self, parameters) -> None:
        super().__init__(parameters, {"lr": 0.1, "weight_decay": 0.0, "calls": 0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["calls"] += 1
            for index, parameter in enumerate(group["params"]):
                state = self.state[parameter]
                state["step"] = state.get("step", 0) + 1
                state["list"] = [torch.full_like(parameter, 2.0), {"a": (1, None, "text")}]
                state["phase"] = torch.full((2, 3), 1 + 2j)
                state["phase128"], state["number"] = torch.full((2,), 1j, dtype=torch.complex128), 3 - 1j
                state["small"] = torch.tensor([-5, 7], dtype=torch.int16)
                state["tiny"] = torch.tensor([0.5, 2.0]).to(torch.float8_e4m3fn)
                state["unsigned"] = torch.tensor([60_000], dtype=torch.uint16)
                state["repeated"] = torch.ones(1).expand(4)
                state["infinite"], state["index"] = float("inf"), index


class Memory(nn.Module):
    """A network with a buffer that repeats one number, and a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = nn.Linear(3, 2), {"count": 0}
        self.register_buffer("repeated", torch.zeros(1).expand(4))

    def get_extra_state(self):
        return self.seen

    def set_extra_state(self, state):
        self.seen = state


def strange():
    model = Memory()
    return SimpleNamespace(model=model, optimizer=Strange(model.parameters()))


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one.float().nan_to_num(), other.float().nan_to_num())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(same, one, other))
    return one == other


@pytest.mark.filterwarnings("ignore:Casting complex values")
def test_whatever_a_part_of_the_users_own_keeps_is_restored_with_its_types():
    trained = strange()
    trained.model.seen["count"] = 7
    trained.optimizer.step()
    trained.optimizer.step()
    restored = strange()
    restore(restored, read(content_of(trained, OWN)))
    assert restored.model.seen == {"count": 7}
    assert restored.optimizer.param_groups[0]["calls"] == 2
    one, other = (list(each.optimizer.state.values()) for each in (trained, restored))
    assert len(one) == 2
    assert all(map(same, one, other))


def test_what_a_checkpoint_cannot_hold_is_refused_by_name():
    trained = strange()
    trained.optimizer.step()
    trained.optimizer.state[trained.model.layer.bias]["queue"] = {1, 2}
    with pytest.raises(InvalidConfig) as refused:
        content_of(trained, OWN)
    assert str(refused.value) == (
        "optimizer.target=mine:Own: optimizer.state.1.queue is of type set, which a checkpoint cannot hold; keep "
        "tensors, numbers, text, and lists or dictionaries of them"
    )


def test_a_checkpoint_of_a_newer_version_says_so(monkeypatch):
    monkeypatch.setattr("digits_sweep.sweep.checkpoint.FORMAT", 99)
    content = content_of(engine("eager", hidden_size=2))
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="its format 99 is not known here"):
        read(content)
