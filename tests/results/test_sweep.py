"""Which sweep is the newest, whose table is published, and which runs of a folder count."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from digits_sweep.errors import NewerFormat, UnreadableRecord
from digits_sweep.results.record import Record, Status, write_record
from digits_sweep.results.sweep import (
    Manifest,
    RecordedSweep,
    load_sweep,
    newest_sweep,
    next_counter,
    publish_summary,
    read_manifest,
    sweeps_in,
    write_manifest,
)


def sweep(outputs: Path, name: str, counter: int, runs: tuple[str, ...] = ("run",)) -> Path:
    folder = outputs / "sweeps" / name
    for number, run in enumerate(runs):
        (folder / run).mkdir(parents=True)
        summary = {"batch_size": 20, "seed": number, "epochs": 1}
        write_record(folder / run, Record(number, Status.COMPLETED, folder=run, summary=summary))
    started = f"2026-11-26T12:00:{counter:02}+00:00"
    write_manifest(folder, Manifest([], list(runs), [{}] * len(runs), [], f"id{counter}", started, counter))
    return folder


def test_the_newest_sweep_was_started_last_whatever_its_folder_is_called(tmp_path):
    names = ["2026-11-27_02-00-00", "2026-11-26_10-00-00", "2026-11-26_10-00-00_10", "2026-11-26_10-00-00_2"]
    for counter, name in enumerate(names, 1):
        sweep(tmp_path, name, counter)
        assert newest_sweep(tmp_path).name == name
        assert next_counter(tmp_path) == counter + 1
    assert [folder.name for folder in sweeps_in(tmp_path)] == names


def test_a_copy_of_an_older_sweep_is_not_the_newest(tmp_path):
    first = sweep(tmp_path, "first", 1)
    second = sweep(tmp_path, "second", 2)
    shutil.copytree(first, first.with_name("zz_backup_of_first"))
    assert newest_sweep(tmp_path) == second


def test_a_sweep_of_format_2_is_older_than_any_of_format_3(tmp_path):
    new = sweep(tmp_path, "a", 1)
    old = sweep(tmp_path, "z", 0)
    write_manifest(old, replace(read_manifest(old), started_at="", id=""))
    assert newest_sweep(tmp_path) == new


def test_a_sweep_json_that_was_written_last_and_cannot_be_read_is_named_instead_of_passed_over(tmp_path):
    sweep(tmp_path, "first", 1)
    broken = sweep(tmp_path, "second", 2)
    (broken / "sweep.json").write_text("{")
    with pytest.raises(UnreadableRecord, match="second"):
        newest_sweep(tmp_path)


def test_a_manifest_of_a_newer_format_says_so(tmp_path):
    folder = sweep(tmp_path, "sweep", 1)
    text = (folder / "sweep.json").read_text()
    (folder / "sweep.json").write_text(text.replace('"format": 3', '"format": 4'))
    with pytest.raises(NewerFormat, match="its format 4 is not known here"):
        read_manifest(folder)


def test_only_the_newest_sweep_replaces_the_published_table(tmp_path):
    older, newer = sweep(tmp_path, "older", 1), sweep(tmp_path, "newer", 2, ("a", "b"))
    assert publish_summary(RecordedSweep(newer), tmp_path)
    assert not publish_summary(RecordedSweep(older), tmp_path)
    elsewhere = sweep(tmp_path / "elsewhere", "sweep", 9)
    assert not publish_summary(RecordedSweep(elsewhere), tmp_path)
    assert len(pd.read_csv(tmp_path / "summary.csv")) == 2
    assert len(pd.read_csv(older / "summary.csv")) == 1


def test_a_copied_run_folder_is_not_counted_as_a_second_seed(tmp_path):
    folder = sweep(tmp_path, "sweep", 1, ("batch_size=100",))
    shutil.copytree(folder / "batch_size=100", folder / "batch_size=100 - Copy")
    table = load_sweep(folder).set_index("run_dir")
    assert table.loc["batch_size=100 - Copy", "status"] == "failed"
    assert table.loc["batch_size=100 - Copy", "error"] == "a copy of batch_size=100, which is not counted again"
    assert (table["status"] == "completed").sum() == 1


def test_a_run_folder_that_sweep_json_does_not_name_is_not_counted(tmp_path):
    folder = sweep(tmp_path, "sweep", 1)
    (folder / "other").mkdir()
    write_record(folder / "other", Record(1, Status.COMPLETED, summary={"batch_size": 5, "epochs": 1}))
    assert "not a run of this sweep" in load_sweep(folder).set_index("run_dir").loc["other", "error"]


@pytest.mark.parametrize("make", [lambda folder: folder.mkdir(), lambda folder: folder.write_text("no folder")])
def test_a_folder_that_is_no_sweep_is_refused_instead_of_being_an_empty_table(tmp_path, make):
    make(tmp_path / "folder")
    with pytest.raises(UnreadableRecord, match="not a sweep: it has neither"):
        load_sweep(tmp_path / "folder")
