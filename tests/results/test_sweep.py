"""Which sweep is the newest, whose table is published, and which runs of a folder count."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from digits_sweep.errors import InvalidConfig, NewerFormat, UnreadableRecord
from digits_sweep.results import sweep as sweeps
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.record import EpochRow, Record, Status, write_record
from digits_sweep.results.run import read_run
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
from tests.studies import add_run, finished, write_rows


def sweep(outputs: Path, name: str, counter: int, runs: tuple[str, ...] = ("run",)) -> Path:
    folder = outputs / "sweeps" / name
    for number, run in enumerate(runs):
        (folder / run).mkdir(parents=True)
        write_record(folder / run, Record(number, Status.COMPLETED, folder=run, config={"seed": number}))
    started = f"2026-11-26T12:00:{counter:02}+00:00"
    write_manifest(folder, Manifest([], list(runs), [], f"id{counter}", started, counter))
    return folder


def test_the_newest_sweep_was_started_last_whatever_its_folder_is_called(tmp_path):
    names = ["2026-11-27_02-00-00", "2026-11-26_10-00-00", "2026-11-26_10-00-00_10", "2026-11-26_10-00-00_2"]
    for counter, name in enumerate(names, 1):
        sweep(tmp_path, name, counter)
        assert newest_sweep(tmp_path).name == name
        assert next_counter(tmp_path) == counter + 1
    assert [folder.name for folder in sweeps_in(tmp_path)] == names


def test_a_sweep_that_could_not_be_read_back_is_refused(monkeypatch):
    runs = [f"seed={number}" for number in range(100)]
    sweeps.check_size(["-m"], runs)
    monkeypatch.setattr(sweeps, "MANIFEST_BYTES", 1_000)
    with pytest.raises(InvalidConfig, match=r"100 runs: sweep.json would have 1,\d+ bytes, more than the 1,000"):
        sweeps.check_size(["-m"], runs)


def test_a_copy_of_an_older_sweep_is_not_the_newest(tmp_path):
    first = sweep(tmp_path, "first", 1)
    second = sweep(tmp_path, "second", 2)
    shutil.copytree(first, first.with_name("zz_backup_of_first"))
    assert newest_sweep(tmp_path) == second


def test_a_sweep_json_that_was_written_last_and_cannot_be_read_is_named_instead_of_passed_over(tmp_path):
    sweep(tmp_path, "first", 1)
    broken = sweep(tmp_path, "second", 2)
    (broken / "sweep.json").write_text("{")
    with pytest.raises(UnreadableRecord, match="second"):
        newest_sweep(tmp_path)


def test_a_manifest_of_a_newer_format_says_so(tmp_path):
    folder = sweep(tmp_path, "sweep", 1)
    text = (folder / "sweep.json").read_text()
    (folder / "sweep.json").write_text(text.replace('"format": 4', '"format": 5'))
    with pytest.raises(NewerFormat, match="its format 5 is not known here"):
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
    assert table.loc["batch_size=100 - Copy", "status"] == "unknown"
    assert table.loc["batch_size=100 - Copy", "error"] == "a copy of batch_size=100, which is not counted again"
    assert (table["status"] == "completed").sum() == 1


def test_a_run_folder_that_sweep_json_does_not_name_is_not_counted(tmp_path):
    folder = sweep(tmp_path, "sweep", 1)
    (folder / "other").mkdir()
    write_record(folder / "other", Record(1, Status.COMPLETED, config={"seed": 5}))
    assert "not a run of this sweep" in load_sweep(folder).set_index("run_dir").loc["other", "error"]


def test_the_runs_of_a_sweep_are_read_within_a_limit_for_all_of_them(tmp_path, monkeypatch):
    """An archive of a few MB may hold many files of zeros, each within the limit of one."""
    for name in ("a", "b", "c"):
        add_run(tmp_path, name, [1.0] * 10)
    record = (tmp_path / "a" / "record.json").stat().st_size
    monkeypatch.setattr(sweeps, "MOST_BYTES", 25 * sweeps.ROW_BYTES + 2 * sweeps.RECORD_FACTOR * record)
    table = load_sweep(finished(tmp_path).folder).set_index("run_dir")
    assert list(table.loc[["a", "b"], "status"]) == ["completed"] * 2
    assert table.loc["c", "status"] == "unknown"
    assert "history.csv: more than " in table.loc["c", "error"]
    monkeypatch.setattr(sweeps, "MOST_BYTES", 10 * sweeps.ROW_BYTES)
    assert "the runs before it take the 5,000 bytes that are read of a sweep" in load_sweep(tmp_path)["error"].iloc[2]


@pytest.mark.parametrize("make", [lambda folder: folder.mkdir(), lambda folder: folder.write_text("no folder")])
def test_a_folder_that_is_no_sweep_is_refused_instead_of_being_an_empty_table(tmp_path, make):
    make(tmp_path / "folder")
    with pytest.raises(UnreadableRecord, match="not a sweep: it has neither"):
        load_sweep(tmp_path / "folder")


def test_rows_come_in_the_order_of_the_sweep_whatever_the_folders_are_called(tmp_path):
    folder = sweep(tmp_path, "sweep", 1, ("c", "b", "a"))
    assert list(load_sweep(folder)["run_dir"]) == ["c", "b", "a"]


def test_a_run_that_has_not_started_has_no_row_and_its_configuration_is_known(tmp_path):
    folder = sweep(tmp_path, "sweep", 1, ("a", "b"))
    write_record(folder / "b", Record(1, folder="b", config={"seed": 7}))
    assert list(load_sweep(folder)["run_dir"]) == ["a"]
    assert RecordedSweep(folder).config_of("b") == {"seed": 7}


def test_whole_numbers_stay_whole_and_a_miss_stays_empty(tmp_path):
    folder = tmp_path / "sweeps" / "one"
    for name, losses in (("reached", [1.7, 1.5]), ("missed", [1.7])):
        add_run(folder, name, losses)
    finished(folder)
    header, *lines = (line.split(",") for line in (folder / "summary.csv").read_text().splitlines())
    assert [line[header.index("first_epoch_below_threshold")] for line in lines] == ["2", ""]


def test_an_empty_sweep_gives_an_empty_table_with_every_column(tmp_path):
    write_manifest(tmp_path, Manifest([], [], []))
    assert list(load_sweep(tmp_path).columns) == [column.name for column in COLUMNS]


def test_a_run_whose_record_is_torn_has_a_row_that_says_so(tmp_path):
    folder = sweep(tmp_path, "sweep", 1, ("good", "torn"))
    (folder / "torn" / "record.json").write_text("{")
    assert list(load_sweep(folder)["status"]) == ["completed", "unknown"]


def test_the_published_table_names_run_folders_from_the_outputs_folder(tmp_path):
    folder = sweep(tmp_path, "now", 1)
    for _ in range(2):
        publish_summary(RecordedSweep(folder), tmp_path)
    assert list(pd.read_csv(tmp_path / "summary.csv")["run_dir"]) == ["sweeps/now/run"]


def test_a_sweep_reads_again_only_what_has_changed(tmp_path, monkeypatch):
    folder = sweep(tmp_path, "sweep", 1, ("a", "b", "c"))
    recorded, read = RecordedSweep(folder), []
    monkeypatch.setattr(sweeps, "read_run", lambda path, most: read.append(path.name) or read_run(path, most))
    assert not recorded.refresh()
    write_rows(folder / "b" / "history.csv", EpochRow, [EpochRow(1, 1.9, 0.1, 1.0, 1.0, True, 3, 60)])
    (folder / "c" / "record.json").unlink()
    assert recorded.refresh()
    assert read == ["b"]
    assert list(recorded.runs) == ["a", "b"]
    assert recorded.runs["b"].row["epochs"] == 1
