"""Checkpoints that somebody else may have made: what is refused before torch loads it."""

import io
import os
import zipfile
import zlib
from hashlib import sha256

import pytest
import torch

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.record import Record, as_content
from digits_sweep.sweep import checkpoint as checkpoint_archive
from digits_sweep.sweep.checkpoint import check_checkpoint, read_checkpoint


def refusal(content: bytes) -> str:
    with pytest.raises(UnreadableRecord) as refused:
        check_checkpoint(content, "checkpoint.pt")
    (line,) = str(refused.value).splitlines()
    return line


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


class Bytes:
    """Pickled, it is an array as long as `size`, which `weights_only` makes without a question."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self):
        return bytearray, (self.size,)


def test_a_checkpoint_as_torch_writes_it_passes():
    state = {kind: torch.zeros(3, dtype=kind) for kind in (torch.float32, torch.float64, torch.int64, torch.bool)}
    content = saved({"format": 1, "history": [[1, 2.5]], "model": torch.nn.Linear(3, 2).state_dict(),
                     "optimizer": {0: {str(kind): tensor for kind, tensor in state.items()}}})  # fmt: skip
    check_checkpoint(content, "checkpoint.pt")


def test_an_archive_that_inflates_is_refused_before_it_is_loaded():
    bomb = archive({"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(2**24)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**15
    assert refusal(bomb).endswith("its entries are compressed")


def test_an_archive_whose_entries_overlap_is_refused():
    """One piece of the file that many entries claim: each is small, together they are not."""
    content = bytearray(archive({"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(2**16)}))
    entry = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    directory = bytes(content[content.index(b"PK\x01\x02") : -22])
    again = bytes(content[entry:-22])
    end = bytearray(content[-22:])
    end[8:10] = end[10:12] = (102).to_bytes(2, "little")
    end[12:16] = (len(directory) + 100 * len(again)).to_bytes(4, "little")
    bomb = bytes(content[:-22]) + 100 * again + bytes(end)
    assert "larger than the file" in refusal(bomb)


def test_an_archive_of_too_many_entries_is_refused(monkeypatch):
    monkeypatch.setattr(checkpoint_archive, "MOST_ENTRIES", 5)
    assert "more than 5 entries" in refusal(saved({"a": torch.zeros(1)}))


def test_an_archive_that_asks_for_memory_is_refused():
    line = refusal(saved({"format": 1, "model": Bytes(2**50)}))
    assert line == "checkpoint.pt: not a checkpoint: its pickle refers to __builtin__.bytearray"


@pytest.mark.parametrize("content", [print, torch.nn.Linear(2, 2), {1, 2}, os.system, torch.Size([3])], ids=str)
def test_an_archive_that_refers_to_anything_but_tensors_is_refused(content):
    assert "its pickle refers to" in refusal(saved({"model": content}))


def test_a_pickle_in_a_later_protocol_is_refused():
    assert "STACK_GLOBAL" in refusal(archive({"a/data.pkl": b"\x80\x04\x93."}))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x80\x02}.", saved({})[1:], saved({}) + b"x", zlib.compress(b"1")],
    ids=["empty", "a beginning", "a pickle alone", "cut at the front", "with more behind it", "compressed"],
)
def test_an_archive_that_is_no_archive_of_torch_is_refused(content):
    assert refusal(content).startswith("checkpoint.pt: not a checkpoint: ")


@pytest.mark.parametrize("names", [[], ["a/data.pkl", "a/DATA.PKL"], ["a/data.pkl", "b/data.pkl"]], ids=len)
def test_an_archive_has_one_pickle(names):
    content = archive({"a/version": b"3", **dict.fromkeys(names, b"\x80\x02}.")})
    assert f"{len(names)} pickles" in refusal(content)


def sealed(folder, **changes) -> None:
    """Write a checkpoint with a right checksum."""
    content = {"format": 1, "history": [], "model": {"weight": torch.zeros(2)}, "optimizer": {}} | changes
    whole = saved(content)
    (folder / "checkpoint.pt").write_bytes(whole + sha256(whole).digest())


def test_a_checkpoint_of_format_2_with_its_record_is_read(tmp_path):
    record = Record(3, folder="run", summary={"epochs": 1})
    sealed(tmp_path, format=2, record=as_content(record), iterations=7)
    checkpoint, damage = read_checkpoint(tmp_path)
    assert (checkpoint.record, checkpoint.iterations, damage) == (record, 7, None)


def bomb(depth: int = 30) -> list:
    """A list of lists, each of them twice the one below: a few bytes an entry, 2**30 numbers in all."""
    found: list = [1]
    for _ in range(depth):
        found = [found, found]
    return found


HOSTILE = [
    {"model": {"weight": torch.zeros(1).expand(2**40)}},
    {"history": torch.zeros(1, 5, dtype=torch.float64).expand(2**40, 5)},
    {"model": {"weight": [1.0]}},
    {"model": torch.zeros(2)},
    {"optimizer": [1]},
    {"optimizer": {0: torch.zeros(2)}},
    {"optimizer": {0: {"step": "1"}}},
    {"history": 5},
    {"history": [[1, 2.0]]},
    {"format": 2, "record": {"summary": bomb()}},
    {"format": 2, "record": {"summary": {"lr": torch.zeros(2)}}},
    {"format": 2, "record": {}},
    {"format": 2, "record": 5},
    {"format": 3, "record": 5},
    {"format": 3, "record": "{}"},
    {"format": 3, "record": "[" * 100_000},
    {"format": 3, "record": '{"seconds_recording": 1e999}'},
    {"iterations": 2**60},
    {"iterations": -1},
    {"iterations": True},
    {"format": 2**70},
    {"format": None},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=lambda changes: ", ".join(changes))
def test_a_checkpoint_with_a_right_checksum_and_anything_else_in_it_is_refused(tmp_path, changes):
    sealed(tmp_path)
    read_checkpoint(tmp_path)
    sealed(tmp_path, **changes)
    with pytest.raises(UnreadableRecord) as refused:
        read_checkpoint(tmp_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
