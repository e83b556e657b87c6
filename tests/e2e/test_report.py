"""The report as a reader has it: the command and its page."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urljoin

import pandas as pd
import pytest

from digits_sweep import run
from digits_sweep.report.__main__ import main
from digits_sweep.report.study import load_study
from tests.pages import Page, page_of
from tests.studies import add_run, finished, losses_reaching

ONE_EPOCH = ("trainer.num_epochs=1", "num_threads=1")


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    """`python -m digits_sweep.report` in an empty folder: returns the exit code, the output and the errors."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> tuple[int, str, str]:
        code, error = 0, ""
        try:
            main(arguments)
        except SystemExit as end:
            # The interpreter prints a text and exits with 1.
            code, error = (1, end.code) if isinstance(end.code, str) else (end.code, "")
        printed = capsys.readouterr()
        return code, printed.out, error + printed.err

    return called


def small_sweep(folder: Path) -> None:
    add_run(folder, "run", losses_reaching(2))
    finished(folder)


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> tuple[Path, Page]:
    """A sweep with odd names, a record that holds more than is known and one that cannot be read; and its page."""
    folder = tmp_path_factory.mktemp("odd")
    add_run(folder / "a sweep", "run #1", losses_reaching(2), joules=17)
    add_run(folder / "a sweep", "torn", losses_reaching(2))
    (folder / "a sweep" / "torn" / "record.json").write_text("{}")
    return folder, page_of(folder / "report", finished(folder / "a sweep"))


def test_the_links_of_the_page_lead_to_the_runs_and_to_the_table(odd):
    folder, page = odd
    start = (folder / "report" / "index.html").as_uri()
    assert [urljoin(start, link) for link in page.links() if not link.startswith("#")] == [
        f"{(folder / 'a sweep' / 'run #1').as_uri()}/",
        f"{(folder / 'a sweep' / 'torn').as_uri()}/",
        (folder / "a sweep" / "summary.csv").as_uri(),
    ]
    assert all((folder / "report" / unquote(link)).exists() for link in page.links() if not link.startswith("#"))
    ids = {each.get("id") for each in page.root.iter()}
    assert {link[1:] for link in page.links() if link.startswith("#")} <= ids


def test_a_record_that_cannot_be_read_is_a_row_with_the_reason_and_one_that_holds_more_is_as_usual(odd):
    _, page = odd
    assert [(row[0], row[-1].partition(" (")[0]) for row in page.rows("runs")] == [
        ("run #1", "completed"),
        ("torn", "unknown: record.json: its format None is not known here"),
    ]


def test_the_report_of_the_newest_sweep_has_the_numbers_of_its_summary(report, tmp_path):
    sweeps = tmp_path / "outputs" / "sweeps"
    small_sweep(sweeps / "2025-12-31_23-59-59")
    for batch_size, lr, weight_decay, epoch in ((100, 1e-4, 5e-4, 3), (20, 1e-4, 5e-4, 2), (5, 1e-6, 5e-6, None)):
        for seed in range(2):
            rates = {"batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "seed": seed}
            add_run(sweeps / "2026-01-01_00-00-00", f"{batch_size}_{seed}", losses_reaching(epoch, 30), **rates)
    finished(sweeps / "2026-01-01_00-00-00")
    code, printed, complaints = report()
    assert (code, complaints) == (0, "")
    assert printed.startswith("outputs/sweeps/2026-01-01_00-00-00\n")
    assert printed.count("\n| ") == 3 + 2
    assert printed.endswith("page: outputs/report/index.html\n")

    page = Page((tmp_path / "outputs" / "report" / "index.html").read_text(encoding="utf-8"))
    assert [row[6].partition(" of 2")[0] for row in page.rows("questions")] == ["2", "2", "0"]
    summary = pd.read_csv(sweeps / "2026-01-01_00-00-00" / "summary.csv")
    shown = pd.DataFrame(page.rows("runs"))
    assert list(shown[0]) == list(summary["run_dir"])
    assert list(shown[1].astype(int)) == list(summary["batch_size"])
    assert list(shown[2].astype(float)) == list(summary["lr"])
    assert list(shown[4].astype(float)) == pytest.approx(summary["seconds_per_epoch"], abs=0.006)
    reached = summary["first_epoch_below_threshold"]
    assert list(shown[5]) == [f"{epoch:.0f}" if epoch == epoch else "not reached in 30 epochs" for epoch in reached]
    assert list(shown[7].astype(float)) == pytest.approx(summary["final_loss"], abs=1e-4)


def test_the_runs_of_a_real_sweep_are_named_by_what_was_swept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = run("data=mnist_sample", "data.batch_size=500,250", "model.hidden_size=8,4", "seed=0,1", *ONE_EPOCH)
    names = dict.fromkeys(load_study(folder).runs["configuration"])
    assert list(names) == [f"batch size {size}, hidden size {width}" for size in (500, 250) for width in (8, 4)]


@pytest.mark.full
def test_two_sweeps_stand_side_by_side_on_the_page_that_the_command_names(report, tmp_path):
    for name, seconds in (("before", 2.0), ("after", 1.0)):
        for seed in range(4):
            add_run(tmp_path / name, f"seed={seed}", losses_reaching(2), seconds + seed / 100, seed=seed)
        finished(tmp_path / name)
    code, printed, complaints = report("before", "after", "--page", "here/page.html", "--figure", "losses.svg")
    assert (code, complaints) == (0, "")
    assert printed.count("Batch size 20 passed 1.6 after") == 2
    assert "threshold 1.6" in (tmp_path / "losses.svg").read_text()

    page = Page((tmp_path / "here" / "page.html").read_text(encoding="utf-8"))
    first, second = page.rows("comparison")
    assert first[3] == first[5] == ""
    assert second[3] == second[5] == "1.99 times as fastmore than the noise, p = 0.029"
    assert [row[:2] for row in page.rows("questions")] == [["A", "20"], ["B", "20"]]


def test_two_sweeps_without_a_run_have_a_page(tmp_path):
    page = page_of(tmp_path, *(finished(tmp_path / name) for name in ("a", "b")))
    assert page.texts("p").count("No run of this sweep has been recorded yet.") == 2


@pytest.mark.parametrize(
    ("option", "path", "reason"),
    [
        ("--page", "file/index.html", "file: "),
        ("--figure", "nowhere/losses.svg", "nowhere/losses.svg: No such file or directory"),
        ("--figure", "losses.txt", "losses.txt: no format for a figure; choose .svg, .png or .pdf"),
        ("--figure", "rules=a.svg", "--figure rules=a.svg: outputs/sweeps/x has no such figure; choose among "),
    ],
)
def test_a_file_that_cannot_be_written_is_named_and_the_table_is_printed(report, tmp_path, option, path, reason):
    small_sweep(tmp_path / "outputs" / "sweeps" / "x")
    (tmp_path / "file").touch()
    code, printed, complaints = report(option, path)
    assert (code, complaints.startswith(reason)) == (1, True)
    assert "| batch size" in printed


def test_every_figure_of_a_page_can_be_a_file(report, tmp_path):
    small_sweep(tmp_path / "outputs" / "sweeps" / "x")
    assert report("--figure", "seconds-epoch=a=b.svg")[0] == 0
    assert "seconds per epoch" in (tmp_path / "a=b.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        *(((option, "here"), f"argument {option}: here is a folder; name a file, such as here/index.html")
          for option in ("--page", "--figure")),
        *(((option, "pipe"), f"argument {option}: pipe is no file that can be replaced; name another")
          for option in ("--page", "--figure")),
        (("--page", "here/"), "argument --page: here/ is a folder; name a file, such as here/index.html"),
        (("--outputs",), "argument --outputs: expected one argument"),
        (("outputs/nowhere",), "argument SWEEP: outputs/nowhere: no such folder"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_before_anything_is_read(report, tmp_path, arguments, line):
    (tmp_path / "here").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert report(*arguments) == (2, "", f"{line}\n")
    assert (tmp_path / "pipe").is_fifo()


def test_the_home_folder_can_be_named_where_a_shell_does_not(report, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    small_sweep(tmp_path / "home" / "x" / "sweeps" / "y")
    code, _, complaints = report("--outputs=~/x", "--page=~/page.html")
    assert (code, complaints) == (0, "")
    assert (tmp_path / "home" / "page.html").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.full
def test_a_reader_that_has_seen_enough_is_no_error_and_the_page_is_written(tmp_path):
    small_sweep(tmp_path / "outputs" / "sweeps" / "x")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "digits_sweep.report"]
    printed = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert (tmp_path / "outputs" / "report" / "index.html").exists()


def test_outputs_without_a_sweep_are_refused(report):
    assert report() == (1, "", "outputs/sweeps: no sweep here yet; run python -m digits_sweep -m first")


def test_a_folder_that_is_no_sweep_is_refused_in_a_line_and_no_page_is_written(report, tmp_path):
    small_sweep(tmp_path / "sweep")
    (tmp_path / "notes").mkdir()
    reason = "notes: not a sweep: it has neither a sweep.json nor a run with a record.json"
    assert report("sweep", "notes") == (1, "", reason)
    assert not (tmp_path / "outputs").exists()


def test_the_line_that_a_sweep_shows_for_its_page_works_in_a_folder_that_looks_like_an_option(program):
    done = program("data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=1", "outputs=-x")
    line = done.stdout.partition("page with:")[2].splitlines()[0]
    program.completes(*shlex.split(line)[3:], module="digits_sweep.report")
    assert (program.outputs / "report" / "index.html").exists()
