"""The report as a reader has it: the command, its page, and the page in a real browser."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin
from xml.etree.ElementTree import Element, TreeBuilder

import pandas as pd
import pytest

from digits_sweep import run
from digits_sweep.report.__main__ import main
from digits_sweep.report.analysis.study import load_study
from digits_sweep.report.page import write_page
from tests.studies import add_run, finished, losses_reaching

ONE_EPOCH = ("trainer.num_epochs=1", "num_threads=1")
WITHOUT_END = ("meta", "link", "br")


class Page(HTMLParser):
    """A page as a tree of elements, without a browser."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self._builder = TreeBuilder()
        self.feed(html)
        self.root: Element = self._builder.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in WITHOUT_END:
            self._builder.end(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._builder.start(tag, dict(attrs))
        self._builder.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self._builder.end(tag)

    def handle_data(self, data: str) -> None:
        self._builder.data(data)

    def texts(self, *tags: str) -> list[str]:
        return ["".join(each.itertext()).strip() for each in self.root.iter() if each.tag in tags]

    def rows(self, table: str) -> Iterator[list[str]]:
        """Yield the cells of every row of a table, given by its class or its id."""
        for each in self.root.iter("table"):
            if table in (each.get("class"), each.get("id")):
                yield from (["".join(cell.itertext()) for cell in row] for row in each.find("tbody"))

    def links(self) -> list[str]:
        return [each.get("href") for each in self.root.iter("a")]


def page_of(folder: Path, *studies) -> Page:
    """Write the page of some sweeps to `folder` and read it."""
    write_page(folder / "index.html", studies)
    return Page((folder / "index.html").read_text(encoding="utf-8"))


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


@pytest.fixture
def open_page(browser, tmp_path):
    """The page of some sweeps, opened from its file at a width and in a theme."""

    def opened(*studies, width: int = 1280, theme: str = "light"):
        path = tmp_path / "report" / "index.html"
        write_page(path, studies)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": theme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(path.as_uri())
        return browser

    return opened


def texts(browser, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent.trim())"
    return browser.execute_script(script, selector)


def requests(browser) -> set[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    return {url for url in sent if not url.startswith("data:")}


def sixty_runs(sweep):
    configurations = (
        (100, 1e-4, 5e-4, 3, 0.5),
        (20, 1e-4, 5e-4, 2, 1.2),
        (5, 1e-4, 5e-4, None, 3),
        (5, 1e-6, 5e-6, None, 3),
    )
    for row, (batch_size, lr, weight_decay, epoch, seconds) in enumerate(configurations):
        for seed in range(15):
            answers = [0 if digit == seed % 10 and epoch is None else 1000 for digit in range(10)]
            add_run(
                sweep, f"{row}_seed={seed}", losses_reaching(epoch, 30), seconds + seed / 100, batch_size=batch_size,
                lr=lr, weight_decay=weight_decay, seed=seed, test_answers=answers,
            )  # fmt: skip
    return finished(sweep)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_sixty_runs_is_whole_at_every_width_and_in_both_themes(open_page, tmp_path, width, theme):
    browser = open_page(sixty_runs(tmp_path / "sweep"), width=width, theme=theme)
    assert browser.get_log("browser") == []
    assert requests(browser) == {browser.current_url}
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(each => [each.getAttribute('aria-label'),"
        " each.getBoundingClientRect().width, each.getBoundingClientRect().height])"
    )
    assert len(figures) == 10
    assert all(label and wide > 300 and high > 150 for label, wide, high in figures)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_against_what_is_behind_it(open_page, tmp_path, theme):
    browser = open_page(sixty_runs(tmp_path / "sweep"), theme=theme)
    worst = browser.execute_script("""
        const channels = color => color.match(/[\\d.]+/g).slice(0, 3).map(each => each / 255)
        const linear = each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4
        const weighed = ([red, green, blue]) => .2126 * red + .7152 * green + .0722 * blue
        const luminance = color => weighed(channels(color).map(linear))
        const paper = luminance(getComputedStyle(document.body).backgroundColor)
        const kinds = 'p, li, th, td, small, figcaption, h1, h2, h3, a, dt, dd, svg text'
        const texts = [...document.querySelectorAll(kinds)]
        const ratios = texts.map(each => {
          const style = getComputedStyle(each)
          const ink = luminance(each.closest('svg') ? style.fill : style.color)
          return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05)
        })
        return Math.min(...ratios)
    """)
    assert worst >= 4.5


@pytest.mark.parametrize(
    ("runs", "text", "pictures"),
    [
        ({}, "No run of this sweep has been recorded yet.", 0),
        ({"one": {}}, "Batch size 20 passed 1.6 after 120,000 digits (2 s); one run: ", 8),
        ({"bad": {"losses": [], "status": "failed", "error": "OSError: x"}}, "bad failed after 0 epochs: OSError", 0),
        ({"none": {"losses": losses_reaching(None)}}, "No run passed 1.6 within 10 epochs.", 9),
    ],
)  # fmt: skip
def test_a_sweep_of_almost_nothing_has_a_page_too(open_page, tmp_path, runs, text, pictures):
    for name, columns in runs.items():
        add_run(tmp_path / "sweep", name, columns.pop("losses", losses_reaching(2)), **columns)
    browser = open_page(finished(tmp_path / "sweep"))
    assert text in " ".join(texts(browser, "p, li"))
    assert len(texts(browser, "figure svg")) == pictures
    assert browser.get_log("browser") == []


def test_a_name_that_is_a_script_is_only_a_name(open_page, tmp_path):
    name = "<script>document.title='run'<|script>"
    add_run(tmp_path / "sweep", name, losses_reaching(None), dataset="<script>document.title='data'</script>")
    browser = open_page(finished(tmp_path / "sweep"))
    assert browser.title == "Batch-size sweep sweep"
    assert name in texts(browser, ".runs tbody th")
    assert browser.execute_script("return document.scripts.length") == 0


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
    assert [urljoin(start, link) for link in page.links()] == [
        f"{(folder / 'a sweep' / 'run #1').as_uri()}/",
        f"{(folder / 'a sweep' / 'torn').as_uri()}/",
        (folder / "a sweep" / "summary.csv").as_uri(),
    ]
    assert all((folder / "report" / unquote(link)).exists() for link in page.links())


def test_a_record_that_cannot_be_read_is_a_row_with_the_reason_and_one_that_holds_more_is_as_usual(odd):
    _, page = odd
    assert [(row[0], row[-1].partition(" (")[0]) for row in page.rows("runs")] == [
        ("run #1", "completed"),
        ("torn", "failed: record.json: not a record"),
    ]


def test_the_report_of_the_newest_sweep_has_the_numbers_of_its_summary(report, tmp_path):
    sweeps = tmp_path / "outputs" / "sweeps"
    add_run(sweeps / "2025-12-31_23-59-59", "run", losses_reaching(2))
    finished(sweeps / "2025-12-31_23-59-59")
    sixty_runs(sweeps / "2026-01-01_00-00-00")
    code, printed, complaints = report()
    assert (code, complaints) == (0, "")
    assert printed.startswith("outputs/sweeps/2026-01-01_00-00-00\n")
    assert printed.count("\n| ") == 5 + 1
    assert printed.endswith("page: outputs/report/index.html\n")

    page = Page((tmp_path / "outputs" / "report" / "index.html").read_text(encoding="utf-8"))
    assert [row[4].partition("of 15")[0] for row in page.rows("questions")] == ["15 ", "15 ", "0 ", "0 "]
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
    configurations = [row[0].partition("lr")[0] for row in page.rows("questions")]
    assert configurations == ["A: batch size 20", "B: batch size 20"]


def test_two_sweeps_without_a_run_have_a_page(tmp_path):
    page = page_of(tmp_path, *(finished(tmp_path / name) for name in ("a", "b")))
    assert page.texts("p").count("No run of this sweep has been recorded yet.") == 2


@pytest.mark.parametrize(
    ("option", "path", "reason"),
    [
        ("--page", "file/index.html", "file: "),
        ("--figure", "nowhere/losses.svg", "nowhere/losses.svg: No such file or directory"),
        ("--figure", "losses.txt", "losses.txt: no format for a figure; choose .svg or .png"),
    ],
)
def test_a_file_that_cannot_be_written_is_named_and_the_table_is_printed(report, tmp_path, option, path, reason):
    add_run(tmp_path / "outputs" / "sweeps" / "x", "run", losses_reaching(2))
    finished(tmp_path / "outputs" / "sweeps" / "x")
    (tmp_path / "file").touch()
    code, printed, complaints = report(option, path)
    assert (code, complaints.startswith(reason)) == (1, True)
    assert "| batch size" in printed


@pytest.mark.parametrize("option", ["--page", "--figure"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_read(report, tmp_path, option):
    (tmp_path / "here").mkdir()
    code, printed, complaints = report(option, "here")
    assert (code, printed) == (2, "")
    assert complaints.splitlines()[-1].endswith(f"{option}: here is a folder; name a file, such as here/index.html")


@pytest.mark.parametrize("option", ["--page", "--figure"])
def test_what_is_neither_file_nor_folder_is_not_replaced(report, tmp_path, option):
    os.mkfifo(tmp_path / "pipe")
    code, _, complaints = report(option, str(tmp_path / "pipe"))
    assert code == 2
    assert complaints == f"argument {option}: {tmp_path / 'pipe'} is no file that can be replaced; name another\n"
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--page", "here/"), "argument --page: here/ is a folder; name a file, such as here/index.html\n"),
        (("--outputs",), "argument --outputs: expected one argument\n"),
    ],
)
def test_a_mistake_is_one_line(report, arguments, line):
    code, printed, complaints = report(*arguments)
    assert (code, printed, complaints) == (2, "", line)


def test_the_home_folder_can_be_named_where_a_shell_does_not(report, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    add_run(tmp_path / "home" / "x" / "sweeps" / "y", "run", losses_reaching(2))
    finished(tmp_path / "home" / "x" / "sweeps" / "y")
    code, _, complaints = report("--outputs=~/x", "--page=~/page.html")
    assert (code, complaints) == (0, "")
    assert (tmp_path / "home" / "page.html").exists()
    assert not (tmp_path / "~").exists()


def test_a_reader_that_has_seen_enough_is_no_error_and_the_page_is_written(tmp_path):
    sixty_runs(tmp_path / "outputs" / "sweeps" / "x")
    finished(tmp_path / "outputs" / "sweeps" / "x")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "digits_sweep.report"]
    printed = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert (tmp_path / "outputs" / "report" / "index.html").exists()


def test_a_folder_that_does_not_exist_is_refused_by_name(report):
    code, _, complaints = report("outputs/sweeps/nowhere")
    assert code == 2
    assert "outputs/sweeps/nowhere: no such folder" in complaints


def test_outputs_without_a_sweep_are_refused(report):
    assert report() == (1, "", "outputs/sweeps: no sweep here yet; run python -m digits_sweep -m first")


def test_a_folder_that_is_no_sweep_is_refused_in_a_line_and_no_page_is_written(report, tmp_path):
    add_run(tmp_path / "sweep", "run", losses_reaching(2))
    finished(tmp_path / "sweep")
    (tmp_path / "notes").mkdir()
    reason = "notes: not a sweep: it has neither a sweep.json nor a run with a record.json"
    assert report("sweep", "notes") == (1, "", reason)
    assert not (tmp_path / "outputs").exists()
