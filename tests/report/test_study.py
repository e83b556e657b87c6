"""What a sweep's runs are called: the same name for the seeds of one configuration, and for nothing else."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.study import load_study, with_configurations
from tests.studies import add_run, losses_reaching

RUN = dict[str, object]
NAMES: dict[str, tuple[list[RUN], list[str]]] = {
    "seeds are replicates, and everything else makes a configuration": (
        [{}, {"seed": 1}, {"lr": 1e-6}, {"engine": "eager"}],
        [f"batch size 20, {rest}" for rest in ("closed_form, lr 1e-4", "closed_form, lr 1e-6", "eager, lr 1e-4")],
    ),
    "what follows from the batch size is not in the name": (
        [{"batch_size": 100}, {"batch_size": 5, "lr": 1e-6, "weight_decay": 5e-6}], ["batch size 100", "batch size 5"],
    ),
    "what follows from a setting in the name is not in the name": (
        [{"lr": 1e-4, "weight_decay": 5e-4}, {"lr": 1e-6, "weight_decay": 5e-6}],
        ["batch size 20, lr 1e-4", "batch size 20, lr 1e-6"],
    ),
    "a key without a column is in the name if it may change a result": (
        [{"config": {"data.scale": scale, "data.root": root}} for scale, root in (("unit", "here"), ("raw", "there"))],
        ["batch size 20, scale unit", "batch size 20, scale raw"],
    ),
    "a key that a run does not have tells it apart too": (
        [{}, {"config": {"model.arguments.width": 64}}], ["batch size 20, width not set", "batch size 20, width 64"],
    ),
    "two keys with the same ending are named in full": (
        [{"config": {"model.arguments.size": a, "data.arguments.size": b}} for a in (32, 64) for b in (1, 2)],
        [f"batch size 20, data.arguments.size {b}, model.arguments.size {a}" for a in (32, 64) for b in (1, 2)],
    ),
    "rates that differ in their last digit are two configurations": (
        [{"lr": 1e-4}, {"lr": 1.0000000000000002e-4}],
        ["batch size 20, lr 1e-4", "batch size 20, lr 1.0000000000000002e-4"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "names"), NAMES.values(), ids=NAMES)
def test_a_configuration_is_named_by_what_it_differs_in(recorded, columns, names):
    assert list(dict.fromkeys(recorded(*columns).runs["configuration"])) == names


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


def test_a_run_whose_record_cannot_be_read_has_a_row_with_the_reason(recorded):
    folder = recorded({}, {}).folder
    (folder / "b" / "record.json").write_text("{")
    study = load_study(folder)
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
