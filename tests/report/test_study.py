"""What a sweep's runs are called: the same name for the seeds of one configuration, and for nothing else."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.plausible import RULES
from digits_sweep.report.study import load_study, with_configurations
from tests.studies import add_run, finished, losses_reaching


def names(sweep) -> list[str]:
    return list(dict.fromkeys(finished(sweep).runs["configuration"]))


def test_seeds_are_replicates_and_everything_else_makes_a_configuration(tmp_path):
    for name, columns in {"a": {}, "b": {"seed": 1}, "c": {"lr": 1e-6}, "d": {"engine": "eager"}}.items():
        add_run(tmp_path, name, losses_reaching(2), **columns)
    assert list(finished(tmp_path).runs["configuration"]) == [
        "batch size 20, closed_form, lr 1e-4",
        "batch size 20, closed_form, lr 1e-4",
        "batch size 20, closed_form, lr 1e-6",
        "batch size 20, eager, lr 1e-4",
    ]


def test_what_follows_from_the_batch_size_is_not_in_the_name(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), batch_size=100)
    add_run(tmp_path, "b", losses_reaching(2), batch_size=5, lr=1e-6, weight_decay=5e-6)
    assert names(tmp_path) == ["batch size 100", "batch size 5"]


def test_what_follows_from_a_setting_in_the_name_is_not_in_the_name(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), lr=1e-4, weight_decay=5e-4)
    add_run(tmp_path, "b", losses_reaching(2), lr=1e-6, weight_decay=5e-6)
    assert names(tmp_path) == ["batch size 20, lr 1e-4", "batch size 20, lr 1e-6"]


def test_a_key_without_a_column_is_in_the_name_if_it_may_change_a_result(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), config={"data.scale": "unit", "data.root": "here"})
    add_run(tmp_path, "b", losses_reaching(2), config={"data.scale": "raw", "data.root": "there"})
    assert names(tmp_path) == ["batch size 20, scale unit", "batch size 20, scale raw"]


def test_a_key_that_a_run_does_not_have_tells_it_apart_too(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2))
    add_run(tmp_path, "b", losses_reaching(2), config={"model.arguments.width": 64})
    assert names(tmp_path) == ["batch size 20, width not set", "batch size 20, width 64"]


def test_two_keys_with_the_same_ending_are_named_in_full(tmp_path):
    for width in (32, 64):
        for depth in (1, 2):
            config = {"model.arguments.size": width, "data.arguments.size": depth}
            add_run(tmp_path, f"{width}_{depth}", losses_reaching(2), config=config)
    assert names(tmp_path)[0] == "batch size 20, data.arguments.size 1, model.arguments.size 32"


def test_rates_that_differ_in_their_last_digit_are_two_configurations(tmp_path):
    for name, lr in (("a", 1e-4), ("b", 1.0000000000000002e-4)):
        add_run(tmp_path, name, losses_reaching(2), lr=lr)
    assert names(tmp_path) == ["batch size 20, lr 1e-4", "batch size 20, lr 1.0000000000000002e-4"]


runs = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([100, 20]),
        "lr": st.sampled_from([1e-4, 1e-6]),
        "model": st.sampled_from(["mlp", "mlp_logits"]),
        "hidden_size": st.sampled_from([32, 64]),
        "data.scale": st.sampled_from(["unit", "raw"]),
        "model.scale": st.sampled_from(["unit", "raw", "not set"]),
    }
)


@settings(max_examples=50)
@given(st.lists(runs, min_size=1, max_size=12))
def test_names_are_unique(rows):
    named = with_configurations(pd.DataFrame(rows))
    assert named["configuration"].nunique() == len({tuple(sorted(row.items())) for row in rows})


def test_a_run_whose_record_cannot_be_read_has_a_row_with_the_reason(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "record.json").write_text("{")
    study = finished(tmp_path)
    assert list(study.runs["configuration"]) == ["batch size 20", "unreadable"]
    assert study.runs["error"][1].startswith("record.json: ")
    assert list(study.records) == ["a"]


@pytest.mark.parametrize("content", [{}, {"note.txt": "no sweep"}, {"sweep.json": "{"}])
def test_a_folder_without_a_sweep_is_refused(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UnreadableRecord, match=r"not a sweep: it has neither a sweep\.json nor a run"):
        load_study(tmp_path)


def test_a_sweep_without_a_manifest_is_read_from_its_runs(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2))
    study = load_study(tmp_path)
    assert (study.manifest, list(study.runs["run_dir"])) == (None, ["a"])


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_a_run_that_predicts_all_or_nothing_right_is_counted(accuracy):
    assert RULES["test_accuracy"].holds(accuracy)
