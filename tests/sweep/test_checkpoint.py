"""What a checkpoint keeps, for every engine, and what is not taken for one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.record import EpochRow, Record
from digits_sweep.sweep.checkpoint import Checkpoint, checkpoint_content, history_tensor, read_checkpoint, restore
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.epochs import epoch_order
from tests.workloads import ADAM, PLAIN_SGD, SGD, device_of, on_this_machine, workload

RECORD = Record(0, folder="run", summary={"epochs": 1})
HISTORY = [EpochRow(1, 1.7053080132524251, 0.1, 2 / 3, 1e5 / 3), EpochRow(2, 1.7, 0.1, 0.5, 1e5, complete=False)]


def engine(name: str, optimizer=ADAM, **shape):
    return ENGINES[name](workload(optimizer=optimizer, device=device_of(name), **shape))


def write(folder, trained) -> None:
    (folder / "checkpoint.pt").write_bytes(checkpoint_content(trained, history_tensor(HISTORY), RECORD, 3))


def epoch(trained, number: int) -> torch.Tensor:
    return trained.train(epoch_order(0, number, 203)).cpu()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [on_this_machine(name) for name in ENGINES])
@pytest.mark.parametrize("optimizer", [ADAM, SGD, PLAIN_SGD])
def test_an_engine_restored_from_a_checkpoint_goes_on_bit_for_bit(tmp_path, name, optimizer):
    if refusal := ENGINES[name].refusal(workload(optimizer=optimizer, device=device_of(name))):
        pytest.skip(f"{name}: {refusal}")
    undisturbed = engine(name, optimizer)
    epoch(undisturbed, 1)
    write(tmp_path, undisturbed)
    expected = epoch(undisturbed, 2)
    restored = engine(name, optimizer)
    checkpoint, damage = read_checkpoint(tmp_path)
    restore(restored, checkpoint)
    assert (damage, checkpoint.history) == (None, HISTORY)
    assert torch.equal(epoch(restored, 2), expected)
    for one, other in zip(restored.model.parameters(), undisturbed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_one_engine_is_one_for_every_other(tmp_path):
    losses = {}
    trained = engine("closed_form")
    epoch(trained, 1)
    write(tmp_path, trained)
    for name in ("closed_form", "eager", "lesson"):
        other = engine(name)
        restore(other, read_checkpoint(tmp_path)[0])
        losses[name] = epoch(other, 2)
    assert (losses["eager"] - losses["closed_form"]).abs().max() < 2e-5
    assert (losses["lesson"] - losses["closed_form"]).abs().max() < 2e-5


def test_pytorch_reads_the_file_as_it_is(tmp_path):
    write(tmp_path, engine("eager"))
    assert set(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]) == {
        "features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias", "output.weight", "output.bias",
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    write(folder, engine("eager", hidden_size=2))
    return (folder / "checkpoint.pt").read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_cut_short_anywhere_it_is_named_and_not_taken(tmp_path_factory, whole, data):
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoint.pt").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(UnreadableRecord, match=r"checkpoint\.pt: corrupt: checksum mismatch"):
        read_checkpoint(folder)


@settings(max_examples=60)
@given(data=st.data())
def test_with_any_bit_flipped_the_checkpoint_before_it_is_taken(tmp_path_factory, whole, data):
    folder = tmp_path_factory.mktemp("run")
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << bit
    (folder / "checkpoint.pt").write_bytes(flipped)
    (folder / "checkpoint.pt.previous").write_bytes(whole)
    checkpoint, damage = read_checkpoint(folder)
    assert checkpoint.history == HISTORY
    assert damage is not None
    assert damage.startswith("checkpoint.pt: corrupt: checksum mismatch")


@pytest.mark.parametrize("other", [{"hidden_size": 16}, {"hidden_layers": 3}, {"optimizer": SGD}])
def test_weights_of_another_model_or_optimizer_are_refused_by_name(other):
    given = engine("eager")
    epoch(given, 1)
    model, state = given.model.state_dict(), given.optimizer.state_dict()["state"]
    with pytest.raises(UnreadableRecord, match=r"checkpoint\.pt: of another model or optimizer"):
        restore(engine("closed_form", **{"optimizer": ADAM, **other}), Checkpoint(HISTORY, model, state))
