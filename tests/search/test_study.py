"""`study.json`, and which study a command goes on with."""

from dataclasses import replace

import pytest

from digits_sweep.errors import CannotResume, NewerFormat, UnreadableRecord
from digits_sweep.results.critical import STUDY_FILE, StudyFile, find_study, read_study, write_study
from digits_sweep.search.critical import refuse_another, study_file
from digits_sweep.search.settings import read_critical

STUDY = StudyFile(started_at="2026", settings={"seeds": 5}, configs={"5": {"seed": 0}}, checked={"x": 50}, counter=3)


def test_a_study_is_read_as_it_was_written(tmp_path):
    write_study(tmp_path, STUDY)
    assert read_study(tmp_path) == STUDY


def test_one_of_an_earlier_version_has_no_counter(tmp_path):
    (tmp_path / STUDY_FILE).write_text('{"format": 1, "started_at": "2026", "settings": {}, "configs": {}}')
    assert read_study(tmp_path).counter == 0


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{}", UnreadableRecord),
        ("[" * 100_000, UnreadableRecord),
        ('{"format": 2, "started_at": "2026", "settings": {}, "configs": {}}', NewerFormat),
        ('{"format": 0, "started_at": "2026", "settings": {}, "configs": {}}', UnreadableRecord),
        ('{"format": 1, "started_at": "2026", "settings": {}, "configs": {"5": 1}}', UnreadableRecord),
        ('{"format": 1, "started_at": "", "settings": {}, "configs": {}, "checked": {"x": true}}', UnreadableRecord),
    ],
)
def test_a_file_of_somebody_else_is_refused_in_one_line(tmp_path, content, error):
    (tmp_path / STUDY_FILE).write_text(content)
    with pytest.raises(error) as refused:
        read_study(tmp_path)
    assert str(refused.value).startswith(f"{STUDY_FILE}: ")
    assert "\n" not in str(refused.value)


def test_the_latest_study_is_the_one_that_was_started_last_whatever_the_clock_says(tmp_path):
    for name, counter, started in (("a", 2, "2026"), ("b", 1, "2099"), ("c", 0, "2098"), ("d", 9, "damaged")):
        (tmp_path / name).mkdir()
        write_study(tmp_path / name, replace(STUDY, counter=counter, started_at=started))
    (tmp_path / "d" / STUDY_FILE).write_text("{")
    assert find_study("latest", tmp_path) == tmp_path / "a"
    assert find_study(str(tmp_path / "b"), tmp_path) == tmp_path / "b"


@pytest.mark.parametrize("name", ["latest", "nowhere"])
def test_a_study_that_is_not_there_is_refused(tmp_path, name):
    with pytest.raises(CannotResume, match=f"resume={name}: "):
        find_study(name, tmp_path)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("typed", "difference"),
    [
        (["data.batch_size=5,20"], "data.batch_size was 5,100, is now 5,20"),
        (["critical.confirm=9"], "critical.confirm was 7, is now 9"),
        (["model.hidden_size=64"], "model.hidden_size was 128, is now 64"),
        (["seed=1"], "seed was 42, is now 1"),
    ],
)
def test_a_study_takes_no_runs_of_another_configuration(tmp_path, typed, difference):
    sizes = [] if "batch_size" in typed[0] else ["data.batch_size=5,100"]
    before, now = (study_file(read_critical(each)) for each in (["data.batch_size=5,100"], [*sizes, *typed]))
    with pytest.raises(CannotResume, match=f"^resume={tmp_path}: {difference}$"):
        refuse_another(tmp_path, before, now)


@pytest.mark.parametrize(
    "typed",
    ["outputs=elsewhere", "data.num_workers=0", "critical.branch=true", "critical.cost={iteration:1us,example:1us}"],
)
def test_places_and_what_is_made_of_the_runs_are_no_other_study(tmp_path, typed):
    before, now = (study_file(read_critical(["data.batch_size=5,100", *each])) for each in ([], [typed]))
    refuse_another(tmp_path, before, now)
