"""A sweep that the program recorded in format 3 (two epochs, linear network, optdigits) is read, reported, resumed."""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.sweep import RecordedSweep, load_sweep
from digits_sweep.sweep.format_3 import convert_run
from tests.commands import Program

RECORDED = Path(__file__).with_name("recorded_with_format_3.json")
COMMAND = (
    *("-m", "data=optdigits", "model=linear", "data.batch_size=100,50", "trainer.num_epochs=3", "optimizer.lr=1e-3"),
    *("evaluation=fine", "evaluation.every_examples=1000", "evaluation.train_samples=100"),
    *("evaluation.test_samples=100", "evaluation.targets.train_loss=[2.1]", "engine=eager", "device=cpu"),
    "num_threads=1",
)


@pytest.fixture
def sweep(program: Program) -> Path:
    folder = program.outputs / "sweeps" / "received"
    for name, content in json.loads(RECORDED.read_text(encoding="utf-8")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(zlib.decompress(base64.b64decode(content)))
    return folder


def test_its_table_is_what_it_was(sweep):
    rows = load_sweep(sweep).set_index("run_dir")
    assert list(rows["status"]) == ["completed", "completed"]
    assert list(rows["iterations"]) == [30, 58]
    assert list(rows["final_loss"]) == [2.293163458506266, 2.2807317684436668]
    assert list(rows["test_accuracy"].round(4)) == [0.225, 0.3528]
    assert rows["error"].isna().all()
    assert [len(run.evaluations) for run in RecordedSweep(sweep).runs.values()] == [3, 3]


def test_it_is_reported(sweep, program):
    reported = program(module="digits_sweep.report")
    assert reported.returncode == 0, reported.stderr
    assert "No run passed 2.1" in reported.stdout


@pytest.mark.parametrize("command", [("trainer.num_epochs=3",), COMMAND], ids=["from its files", "typed"])
def test_it_is_resumed_as_if_it_had_never_been_stopped(sweep, program, tmp_path, command):
    before = {run: np.load(sweep / run / "losses.npy") for run in ("batch_size=100", "batch_size=50")}
    resumed = program(*command, "resume=latest")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    (tmp_path / "undisturbed").mkdir()
    undisturbed = Program(tmp_path / "undisturbed")
    assert undisturbed(*COMMAND).returncode == 0
    for run, losses in before.items():
        found, expected = (np.load(folder / run / "losses.npy") for folder in (sweep, undisturbed.sweep()))
        assert np.array_equal(found[: len(losses)], losses)
        # Another processor may round otherwise than the one that the sweep was recorded on.
        assert np.allclose(found, expected, atol=1e-6)
    assert list(load_sweep(sweep)["epochs"]) == [3, 3]
    assert not list(sweep.glob("*/set_aside*"))


def test_a_checkpoint_that_refers_to_anything_but_tensors_is_not_loaded(sweep):
    path = sweep / "batch_size=50" / "checkpoint.pt"
    content = path.read_bytes()[:-4].replace(b"collections\nOrderedDict", b"collections\nUserDictxxx")
    path.write_bytes(content + zlib.crc32(content).to_bytes(4, "big"))
    with pytest.raises(UnreadableRecord, match=r"checkpoint\.pt: not a checkpoint of format 3"):
        convert_run(path.parent)
