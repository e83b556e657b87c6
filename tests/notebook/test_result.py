"""What `run` returns: a table with its verdict, figures, a page, and the path of a folder."""

import os
from pathlib import Path

import pytest

from digits_sweep import SweepResult, latest, load_sweep, run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("sweep") / "outputs"
    return run(data="mnist_sample", num_epochs=2, hidden_size=4, batch_size=[500, 300], outputs=outputs)


def test_it_is_the_path_of_its_folder(sweep):
    assert Path(sweep) == sweep.folder == Path(str(sweep))
    assert sweep.folder.is_absolute()
    assert os.fspath(sweep) == f"{sweep}"
    assert load_sweep(sweep).equals(sweep.table)
    assert SweepResult(str(sweep)) == sweep
    assert latest(sweep.folder.parent.parent) == sweep


def test_a_path_may_begin_with_the_home_folder(sweep, monkeypatch):
    monkeypatch.setenv("HOME", str(sweep.folder.parent.parent))
    home = sweep.folder.relative_to(os.environ["HOME"])
    assert latest("~") == SweepResult(f"~/{home}") == sweep
    assert load_sweep(f"~/{home}").equals(sweep.table)


def test_it_has_a_table_and_a_history(sweep):
    assert list(sweep.table["batch_size"]) == [500, 300]
    assert list(sweep.history["epoch"]) == [1, 2, 1, 2]


def test_a_notebook_shows_the_verdict_and_the_table(sweep):
    html = sweep._repr_html_()
    assert sweep.verdict.startswith("No run passed 1.6 within 2 epochs")
    assert sweep.verdict in html
    assert html.count("<tr>") == 3
    assert ">batch_size=500</td>" in html
    assert "<th>batch size</th>" in html


def test_names_of_runs_are_text_in_a_notebook(tmp_path):
    (tmp_path / "<b>run").mkdir()
    (tmp_path / "<b>run" / "record.json").write_text("{}")
    html = SweepResult(tmp_path)._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;run" in html


def test_a_figure_is_shown_by_notebooks_and_saved_as_a_file(sweep, tmp_path):
    figure = sweep.figure("loss")
    assert figure.name == "loss-epoch"
    shown = figure._repr_mimebundle_()
    assert shown["image/svg+xml"].startswith("<svg")
    (kind,) = (name for name in shown if name.startswith("application/vnd.vegalite"))
    assert {row["run"] for row in shown[kind]["datasets"]["table"] if row["run"]} <= set(sweep.table["run_dir"])
    figure.save(tmp_path / "losses.png")
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert "epoch" in sweep.in_language("pt-BR").figure("seconds-epoch").name
    with pytest.raises(ValueError, match=r"figure\('nonsense'\): there is no such figure; there are loss-epoch, "):
        sweep.figure("nonsense")


def test_it_has_losses_targets_and_evaluations(tmp_path):
    keys = {"hidden_size": 4, "batch_size": [500, 300], "num_epochs": 1, "train_samples": 1000}
    sweep = run(data="mnist_sample", evaluation="fine", test_error=[0.9], **keys, outputs=tmp_path / "outputs")
    assert {name: len(losses) for name, losses in sweep.losses.items()} == {"batch_size=500": 8, "batch_size=300": 14}
    assert set(sweep.evaluations["run_dir"]) == set(sweep.table["run_dir"])
    assert {"train_loss", "test_error"} <= set(sweep.evaluations)
    assert list(sweep.targets["target"].unique()) == ["train_loss", "test_error"]
    reached = sweep.targets[(sweep.targets["target"] == "test_error") & sweep.targets["reached"]]
    if len(reached):
        assert sweep.best["run_dir"] in set(reached["run_dir"])
    else:
        assert sweep.best is None


@pytest.mark.full
def test_a_page_is_written_where_the_command_writes_it_and_shown_in_a_frame(sweep, tmp_path):
    page = sweep.report()
    assert page.path == sweep.folder.parent.parent / "report" / "index.html"
    assert page.path.read_text(encoding="utf-8").startswith("<!doctype html>")
    frame = page._repr_html_()
    assert 'sandbox="allow-scripts allow-downloads"' in frame
    assert "&lt;!doctype html&gt;" in frame
    assert Path(sweep.report(tmp_path / "page.html")).exists()


def test_it_is_read_anew_after_a_resume(sweep):
    assert list(sweep.table["epochs"]) == [2, 2]
    assert run(resume=sweep, num_epochs=3, outputs=sweep.folder.parent.parent) == sweep
    assert list(sweep.table["epochs"]) == [3, 3]


def test_there_is_no_latest_sweep_in_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no sweep here yet"):
        latest(tmp_path)
