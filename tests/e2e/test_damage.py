"""Full disks, damaged files and hostile ones: named, survived, and never run."""

import os
import pickle
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from digits_sweep.results.sweep import load_history
from tests.commands import Program
from tests.killing import assert_same_results
from tests.records import change_record, interrupt, unstart
from tests.searches import QUICK, TUNE

SWEEP = ("-m", "data.batch_size=500,300", "data=mnist_sample", "trainer.num_epochs=4")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nothing happened to."""
    program = Program(tmp_path_factory.mktemp("undisturbed"))
    program.completes(*SWEEP)
    return program.sweep()


@pytest.fixture
def half_done(undisturbed: Path, tmp_path: Path) -> Program:
    """The same sweep, as it was when its first run had completed and its second one had not started."""
    sweep = tmp_path / "outputs" / "sweeps" / undisturbed.name
    shutil.copytree(undisturbed, sweep)
    unstart(sweep / "batch_size=300")
    return Program(tmp_path)


def first_run(program: Program) -> Path:
    return program.sweep() / "batch_size=500"


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class SmallDisk:
    """A file system of its own size, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    disk.folder.mkdir()
    try:
        disk.mount("size=4m")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk takes root on Linux")
    yield disk
    subprocess.run(["umount", disk.folder], check=True)


@pytest.mark.full
def test_a_full_disk_stops_the_sweep_with_a_line_and_costs_nothing_that_was_recorded(small_disk, undisturbed):
    program = Program(small_disk.folder)
    stopped = program(*SWEEP)
    assert stopped.returncode == 2
    assert "No space left on device; nothing recorded before is lost" in stopped.stdout
    assert "Traceback" not in stopped.stdout + stopped.stderr
    (row,) = program.table().itertuples()
    assert row.status == "interrupted"
    assert row.epochs >= 1
    small_disk.mount("remount,size=64m")
    program.completes("resume=latest")
    assert_same_results(program.sweep(), undisturbed)


@pytest.mark.full
def test_a_full_disk_stops_a_search_with_a_line_and_the_run_keeps_its_epochs(small_disk, tmp_path):
    pytest.importorskip("optuna")
    search = (*QUICK, "tune.trials=3", "tune.lr=[1e-4,1e-1]", "hydra/launcher=basic")
    (tmp_path / "undisturbed").mkdir()
    undisturbed = Program(tmp_path / "undisturbed")
    undisturbed.completes(*search, module=TUNE)
    program = Program(small_disk.folder)
    stopped = program(*search, module=TUNE)
    assert stopped.returncode == 2
    assert stopped.stdout.count("No space left on device; nothing recorded before is lost") == 1
    assert "Traceback" not in stopped.stdout + stopped.stderr
    folder = program.outputs / "tune" / "s"
    assert len(load_history(folder)) >= 1
    small_disk.mount("remount,size=64m")
    finished = program.completes(*search, module=TUNE)
    assert "starts again" not in finished.stdout
    assert_same_results(folder, undisturbed.outputs / "tune" / "s")


def test_a_folder_that_cannot_be_written_is_refused_before_any_training(small_disk):
    small_disk.mount("remount,ro")
    refused = Program(small_disk.folder)(*SWEEP)
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert "epoch" not in refused.stdout


def test_a_limit_on_the_size_of_files_stops_the_sweep_with_a_line(program):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        stopped = program(*SWEEP)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stopped.returncode == 2
    assert "File too large" in stopped.stdout
    assert "Traceback" not in stopped.stdout + stopped.stderr


@pytest.mark.parametrize("damage", [cut_in_half, Path.unlink])
@pytest.mark.parametrize("name", ["checkpoint.safetensors", "record.json"])
def test_a_damaged_file_gives_way_to_the_one_before_and_the_run_ends_with_the_same_bits(
    half_done, undisturbed, name, damage
):
    interrupt(first_run(half_done))
    damage(first_run(half_done) / name)
    finished = half_done.completes("resume=latest")
    assert_same_results(half_done.sweep(), undisturbed)
    assert f"batch_size=500: {name}: " in finished.stdout


@pytest.mark.full
@pytest.mark.parametrize("names", [["checkpoint.safetensors", "checkpoint.safetensors.previous"], ["history.csv"]])
def test_with_nothing_usable_left_all_is_set_aside_the_run_starts_again_and_the_exit_code_says_so(
    half_done, undisturbed, names
):
    run_dir = first_run(half_done)
    interrupt(run_dir)
    for name in names:
        cut_in_half(run_dir / name)
    before = {name: (run_dir / name).read_bytes() for name in (*names, "losses.npy")}
    finished = half_done("resume=latest")
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert re.search(r"its files are in \S+/batch_size=500/set_aside, the run starts again", finished.stdout)
    assert "trained again from the start: batch_size=500" in finished.stdout
    assert before == {name: (run_dir / "set_aside" / name).read_bytes() for name in before}
    shutil.rmtree(run_dir / "set_aside")
    assert_same_results(half_done.sweep(), undisturbed)


class Harm:
    """Unpickled with no care, this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_no_code_comes_out_of_a_checkpoint(half_done, undisturbed, tmp_path):
    interrupt(first_run(half_done))
    harmful = pickle.dumps(Harm(tmp_path / "harmed"))
    for name in ("checkpoint.safetensors", "checkpoint.safetensors.previous"):
        (first_run(half_done) / name).write_bytes(harmful)
    finished = half_done("resume=latest")
    assert "checkpoint.safetensors: not a checkpoint" in finished.stdout
    assert not (tmp_path / "harmed").exists()


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_samples", "many"),
        ("train_samples", 10**30),
        ("environments", [3]),
        ("test_answers", [-1]),
        ("number", "first"),
        ("status", "excellent"),
        ("format", 99),
    ],
)
def test_a_record_of_nonsense_is_a_row_that_says_what_is_wrong_beside_the_others(half_done, key, value):
    change_record(first_run(half_done), lambda content: content.update({key: value}))
    printed = half_done.completes(module="digits_sweep.report")
    assert "unknown: record.json: " in printed.stdout
    assert "Traceback" not in printed.stderr


def test_a_manifest_of_nonsense_is_named_in_one_line(half_done):
    (half_done.sweep() / "sweep.json").write_text('{"format": 4, "command": 3}')
    refused = half_done("resume=latest")
    assert refused.returncode == 1
    assert "sweep.json: Expected `array`, got `int` - at `$.command`" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_digits_that_changed_under_a_sweep_stop_it_before_it_is_resumed(half_done):
    manifest = half_done.sweep() / "sweep.json"
    manifest.write_text(manifest.read_text().replace('"digest": "', '"digest": "0'))
    refused = half_done("resume=latest")
    assert refused.returncode == 1
    assert "is not what this sweep started with" in refused.stderr
