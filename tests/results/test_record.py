"""Records on disk, and the summary that is made of them."""

import json
import random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results import sweep as sweeps
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.files import replace_file
from digits_sweep.results.record import Record, Status, read_record, write_record
from digits_sweep.results.sweep import Manifest, RecordedSweep, load_sweep, publish_summary, write_manifest


def recorded(sweep_dir, number: int, name: str, **columns) -> Record:
    record = Record(
        number, status=Status.COMPLETED, summary={"batch_size": 20, "epochs": 1, "loss_threshold": 1.6, **columns}
    )
    (sweep_dir / name).mkdir()
    write_record(sweep_dir / name, record)
    return record


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    written = recorded(tmp_path, 3, "run", lr=1e-6)
    assert read_record(tmp_path / "run") == written


def test_a_new_record_says_interrupted_until_the_run_ends():
    assert Record(0).status == "interrupted"


@settings(max_examples=50)
@given(st.data())
def test_a_record_cut_short_anywhere_is_named_and_never_half_read(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    write_record(folder, Record(0, summary={"batch_size": 20}))
    whole = (folder / "record.json").read_bytes()
    (folder / "record.json").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 2))])
    with pytest.raises(UnreadableRecord, match=r"record\.json"):
        read_record(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"format": 99}', '{"format": 1}', '{"format": 1, "status": "x"}']
)
def test_what_is_no_record_of_this_format_is_refused_by_name(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(UnreadableRecord, match=r"record\.json"):
        read_record(tmp_path)


def test_rows_come_in_the_order_of_the_sweep_whatever_the_folders_are_called(tmp_path):
    for number, name in [(2, "a"), (0, "c"), (1, "b")]:
        recorded(tmp_path, number, name, batch_size=number)
    assert list(load_sweep(tmp_path)["batch_size"]) == [0, 1, 2]


@settings(max_examples=20)
@given(st.permutations(range(6)))
def test_the_table_does_not_depend_on_the_order_in_which_runs_were_recorded(tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp("sweep")
    for number in numbers:
        recorded(folder, number, f"run{number}", batch_size=number)
    pd.testing.assert_frame_equal(load_sweep(folder).reset_index(drop=True), load_sweep(folder))
    assert list(load_sweep(folder)["batch_size"]) == list(range(6))


def test_whole_numbers_stay_whole_and_a_miss_stays_empty(tmp_path):
    recorded(tmp_path, 0, "reached", first_epoch_below_threshold=3)
    recorded(tmp_path, 1, "missed", first_epoch_below_threshold=None)
    publish_summary(RecordedSweep(tmp_path), tmp_path)
    header, *lines = (line.split(",") for line in (tmp_path / "summary.csv").read_text().splitlines())
    assert [line[header.index("first_epoch_below_threshold")] for line in lines] == ["3", ""]


def test_a_run_whose_record_is_torn_is_a_failed_row_not_a_missing_one(tmp_path):
    recorded(tmp_path, 0, "good")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "record.json").write_text("{")
    table = load_sweep(tmp_path)
    assert list(table["status"]) == ["completed", "failed"]
    assert list(table["run_dir"]) == ["good", "torn"]


def test_an_empty_sweep_gives_an_empty_table_with_every_column(tmp_path):
    write_manifest(tmp_path, Manifest([], [], [], []))
    assert list(load_sweep(tmp_path).columns) == [column.name for column in COLUMNS]


def test_the_published_table_names_run_folders_from_the_outputs_folder(tmp_path):
    sweep_dir = tmp_path / "sweeps" / "now"
    sweep_dir.mkdir(parents=True)
    recorded(sweep_dir, 0, "run")
    write_manifest(sweep_dir, Manifest([], ["run"], [{}], [], counter=1))
    publish_summary(RecordedSweep(sweep_dir), tmp_path)
    assert list(pd.read_csv(tmp_path / "summary.csv")["run_dir"]) == ["sweeps/now/run"]


def test_a_rebuilt_table_replaces_the_old_one(tmp_path):
    recorded(tmp_path, 0, "run")
    for _ in range(2):
        publish_summary(RecordedSweep(tmp_path), tmp_path)
    assert len(pd.read_csv(tmp_path / "summary.csv")) == 1


def test_replacing_a_file_leaves_nothing_else_behind(tmp_path):
    path = tmp_path / "file"
    for _ in range(3):
        replace_file(path, random.choice(["a", "b"]))
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_gone_leaves_the_error_to_the_caller(tmp_path):
    with pytest.raises(OSError, match="gone"):
        replace_file(tmp_path / "gone" / "file", "text")


def test_a_record_is_plain_json_with_its_format(tmp_path):
    recorded(tmp_path, 0, "run")
    assert json.loads((tmp_path / "run" / "record.json").read_text())["format"] == 3


def test_a_sweep_reads_a_record_again_only_if_it_has_changed(tmp_path, monkeypatch):
    for number in range(3):
        recorded(tmp_path, number, f"run{number}")
    sweep, read = RecordedSweep(tmp_path), []
    monkeypatch.setattr(sweeps, "read_record", lambda folder: read.append(folder.name) or read_record(folder))
    assert not sweep.refresh()
    (tmp_path / "run3").mkdir()
    write_record(tmp_path / "run3", Record(3))
    write_record(tmp_path / "run1", Record(1, summary={"epochs": 7}))
    assert sweep.refresh()
    assert sorted(read) == ["run1", "run3"]
    assert sweep.records["run1"].summary["epochs"] == 7
    assert list(sweep.records) == ["run0", "run1", "run2", "run3"]


def test_a_sweep_whose_run_has_gone_forgets_it(tmp_path):
    recorded(tmp_path, 0, "run")
    sweep = RecordedSweep(tmp_path)
    (tmp_path / "run" / "record.json").unlink()
    assert sweep.refresh()
    assert sweep.records == {}
