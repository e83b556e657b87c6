"""record.json, and the rows beside it: read back as they were written, or refused by name."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep.errors import CannotRecord, NewerFormat, UnreadableRecord
from digits_sweep.results.record import (
    EpochRow,
    EvaluationRow,
    Record,
    Status,
    Written,
    header_of,
    read_record,
    rows_as_csv,
    rows_of,
    write_record,
)

RECORD = Record(
    3, Status.COMPLETED, folder="run", config={"data": {"batch_size": 20}, "optimizer": {"lr": 1e-6}},
    train_samples=60_000, own_code={"model.target": "ab"}, environments=[{"host": "here", "from_epoch": 1}],
    files={"history.csv": Written(120, 2**31)}, test_answers=[1, 0], ended="because", error="line\nline \u00e9",
)  # fmt: skip
EPOCHS = [
    EpochRow(1, 1.7053080132524251, 0.1, 2 / 3, 1e5 / 3, True, 3, 300),
    EpochRow(2, math.inf, 0.0, 1.0, 1.0, False, 5, 450),
]
EVALUATIONS = [
    EvaluationRow(0, 0, 0.0, 2.3026, 0.9, 2.3025, 0.91, 3),
    EvaluationRow(30, 3_000, 1 / 3, 2.1, 0.5, 2.2, 0.6, 0, 2.25, 3.2672e-4, 0.043119, 131.97),
    EvaluationRow(60, 6_000, 2 / 3, math.inf, 0.5, 2.2, 0.6, 0, 2.0, -1e-9, 0.1, math.inf, 400.0),
]


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD


def test_a_new_record_says_planned_until_the_run_starts():
    assert Record(0).status == "planned"


def test_a_record_is_plain_json_with_its_format(tmp_path):
    write_record(tmp_path, RECORD)
    content = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert (content["format"], content["status"], content["config"]["optimizer"]["lr"]) == (4, "completed", 1e-6)


@settings(max_examples=50)
@given(st.data())
def test_a_record_that_is_cut_short_or_changed_anywhere_is_named_and_never_half_read(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    write_record(folder, RECORD)
    whole = (folder / "record.json").read_bytes()
    where = data.draw(st.integers(0, len(whole) - 2))
    changed = whole[:where] + data.draw(st.sampled_from([b"", b"\0", b"7"])) + whole[where + 1 :]
    (folder / "record.json").write_bytes(whole[:where] if data.draw(st.booleans()) else changed)
    if (folder / "record.json").read_bytes() != whole:
        with pytest.raises(UnreadableRecord, match=r"^record\.json: [^\n]+$"):
            read_record(folder)


def test_a_damaged_record_gives_way_to_the_one_before_it(tmp_path):
    write_record(tmp_path, Record(3, Status.COMPLETED))
    write_record(tmp_path, RECORD)
    (tmp_path / "record.json").write_text("{")
    before = read_record(tmp_path)
    assert before.status is Status.INTERRUPTED
    assert before.error.startswith("record.json: ")
    assert before.error.endswith("; this is the record before it")


def test_a_record_of_a_newer_version_says_so(tmp_path):
    (tmp_path / "record.json").write_text('{"format": 99}')
    with pytest.raises(NewerFormat, match="its format 99 is not known here"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("rows", "kind", "header"),
    [
        (EPOCHS, EpochRow, "epoch,loss_mean,loss_std,seconds,examples_per_second,complete,iterations,examples"),
        (
            EVALUATIONS, EvaluationRow,
            "iterations,examples,seconds,train_loss,train_error,test_loss,test_error,classes_never_predicted,"
            "running_loss,gradient_squared_norm,gradient_trace,noise_scale,optimizer_noise_scale",
        ),
    ],
)  # fmt: skip
def test_rows_are_read_back_to_the_last_digit_from_columns_in_this_order(rows, kind, header):
    content = header_of(kind) + rows_as_csv(rows)
    assert content.decode().splitlines()[0] == header
    assert rows_of(content, kind, "rows.csv") == rows


HEADER = header_of(EvaluationRow).decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "its columns are not iterations,examples,seconds"),
        ("iterations,examples\n0,0\n", "its columns are not iterations,examples,seconds"),
        (f"{HEADER}0,0,0.0,2.3\n", "a row has more or fewer cells than columns"),
        (f"{HEADER}0,,0.0,2.3,0.1,2.3,0.9,3,,,,,\n", "Expected `int`, got `null`"),
        (f"{HEADER}0.5,0,0.0,2.3,0.9,2.3,0.9,3,,,,,\n", "Expected `int`"),
        (f"{HEADER}-1,0,0.0,2.3,0.9,2.3,0.9,3,,,,,\n", "Expected `int` >= 0"),
        (f"{HEADER}0,{2**63},0.0,2.3,0.9,2.3,0.9,3,,,,,\n", "Expected `int` <= "),
        (f"{HEADER}" + "3,9,0.0,2.3,0.9,2.3,0.9,3,,,,,\n" * 2, "its iterations does not count up"),
        (f'{HEADER}0,0,"0.0', "unexpected end of data"),
        (f"{HEADER}\udcff", "utf-8"),
    ],
)
def test_what_no_run_has_written_is_refused_by_name(text, reason):
    with pytest.raises(UnreadableRecord, match=rf"^evaluations\.csv: .*{reason}"):
        rows_of(text.encode(errors="surrogateescape"), EvaluationRow, "evaluations.csv")


def test_rows_of_an_earlier_version_lack_the_columns_that_came_later():
    content = header_of(EvaluationRow) + rows_as_csv(EVALUATIONS)
    earlier = b"".join(line.rpartition(b",")[0] + b"\n" for line in content.splitlines())
    expected = [replace(row, optimizer_noise_scale=None) for row in EVALUATIONS]
    assert rows_of(earlier, EvaluationRow, "rows.csv") == expected


def test_more_rows_than_any_run_has_are_refused():
    with pytest.raises(UnreadableRecord, match="more than 1,000,000 rows"):
        rows_of(HEADER.encode() + b"\n" * 1_000_002, EvaluationRow, "evaluations.csv")


@given(st.integers(0, 200), st.sampled_from([b"", b"\0" * 40, b"\xff\xfe", b"3,2.0,"]))
def test_of_a_run_that_has_not_ended_the_rows_that_are_whole_count(cut, tail):
    whole = header_of(EpochRow) + rows_as_csv(EPOCHS)
    content = whole[: len(header_of(EpochRow)) + cut] + tail
    rows = rows_of(content, EpochRow, "history.csv", has_ended=False)
    assert rows == EPOCHS[: len(rows)]
    ends = [len(header_of(EpochRow)) + len(rows_as_csv(EPOCHS[:count])) for count in range(3)]
    assert len(rows) == max(count for count in range(3) if ends[count] <= len(content) - len(tail))


def test_an_error_of_any_length_is_recorded_with_its_beginning_and_its_end(tmp_path):
    write_record(tmp_path, Record(0, error="begins" + "x" * 3_000_000 + "\nends"))
    error = read_record(tmp_path).error
    assert error.startswith("begins")
    assert error.endswith("\nends")
    assert len(error) < 21_000


def test_a_record_that_could_not_be_read_back_is_not_written(tmp_path):
    write_record(tmp_path, Record(0))
    with pytest.raises(CannotRecord, match=r"record\.json: 1,\d\d\d,\d\d\d bytes are more than the 1,048,576"):
        write_record(tmp_path, Record(0, config={"settings": {"text": "x" * 2**20}}))
    assert read_record(tmp_path).config == {}
