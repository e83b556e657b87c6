"""The report as a reader has it: the command, and its page in a real browser."""

import json

import pandas as pd
import pytest

from digits_sweep.report.page import write_page
from tests.studies import add_run, finished, losses_reaching


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


def rows_of(browser, selector: str) -> list[list[str]]:
    script = (
        "return [...document.querySelectorAll(arguments[0])].map(row => [...row.cells].map(cell => cell.textContent))"
    )
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
    assert len(figures) == 9
    assert all(label and wide > 300 and high > 150 for label, wide, high in figures)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_against_what_is_behind_it(open_page, tmp_path, theme):
    browser = open_page(sixty_runs(tmp_path / "sweep"), theme=theme)
    worst = browser.execute_script("""
        const channels = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(each => each / 255)
        const linear = each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4
        const weighed = ([red, green, blue]) => .2126 * red + .7152 * green + .0722 * blue
        const luminance = colour => weighed(channels(colour).map(linear))
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


def test_the_numbers_of_the_page_are_those_of_the_summary(open_page, tmp_path):
    browser = open_page(sixty_runs(tmp_path / "sweep"))
    summary = pd.read_csv(tmp_path / "sweep" / "summary.csv")
    shown = pd.DataFrame(rows_of(browser, ".runs tbody tr"))
    assert list(shown[0]) == list(summary["run_dir"])
    assert list(shown[1].astype(int)) == list(summary["batch_size"])
    assert list(shown[2].astype(float)) == list(summary["lr"])
    assert list(shown[4].astype(float)) == pytest.approx(summary["seconds_per_epoch"], abs=0.006)
    reached = summary["first_epoch_below_threshold"]
    assert list(shown[5]) == [f"{epoch:.0f}" if epoch == epoch else "not reached in 30 epochs" for epoch in reached]
    assert list(shown[6].astype(float)) == pytest.approx(summary["final_loss"], abs=1e-4)


def test_the_links_of_the_page_lead_to_the_runs_and_to_the_table(open_page, tmp_path):
    sweep = tmp_path / "a sweep"
    add_run(sweep, "run #1", losses_reaching(2))
    browser = open_page(finished(sweep))
    links = browser.execute_script("return [...document.querySelectorAll('a')].map(each => each.href)")
    assert links == [f"{(sweep / 'run #1').as_uri()}/", (sweep / "summary.csv").as_uri()]


@pytest.mark.parametrize(
    ("runs", "told", "pictures"),
    [
        ({}, "No run of this sweep has been recorded yet.", 0),
        ({"one": {}}, "Batch size 20 gets below 1.6 after 2 s (one run).", 7),
        ({"bad": {"losses": [], "status": "failed", "error": "OSError: x"}}, "bad failed after 0 epochs: OSError", 0),
        ({"none": {"losses": losses_reaching(None)}}, "No run got below 1.6: the longest trained 10 epochs.", 8),
    ],
)  # fmt: skip
def test_a_sweep_of_almost_nothing_has_a_page_too(open_page, tmp_path, runs, told, pictures):
    for name, columns in runs.items():
        add_run(tmp_path / "sweep", name, columns.pop("losses", losses_reaching(2)), **columns)
    browser = open_page(finished(tmp_path / "sweep"))
    assert told in " ".join(texts(browser, "p, li"))
    assert len(texts(browser, "figure svg")) == pictures
    assert browser.get_log("browser") == []


def test_a_name_that_is_a_script_is_only_a_name(open_page, tmp_path):
    name = "<script>document.title='run'<|script>"
    add_run(tmp_path / "sweep", name, losses_reaching(None), dataset="<script>document.title='data'</script>")
    browser = open_page(finished(tmp_path / "sweep"))
    assert browser.title == "Batch-size sweep sweep"
    assert name in texts(browser, ".runs tbody th")
    assert browser.execute_script("return document.scripts.length") == 0


def test_columns_that_nobody_knows_yet_do_no_harm(open_page, tmp_path):
    add_run(tmp_path / "sweep", "run", losses_reaching(2), joules=17)
    assert texts(open_page(finished(tmp_path / "sweep")), ".runs tbody th") == ["run"]


def test_two_sweeps_stand_side_by_side(open_page, tmp_path):
    studies = []
    for name, seconds in (("before", 2.0), ("after", 1.0)):
        for seed in range(4):
            add_run(tmp_path / name, f"seed={seed}", losses_reaching(2), seconds + seed / 100, seed=seed)
        studies.append(finished(tmp_path / name))
    browser = open_page(*studies)
    assert "1.99 times as fast" in texts(browser, "#comparison")[0]
    assert "more than the noise, p = 0.029" in texts(browser, "#comparison")[0]
    configurations = texts(browser, "#questions tbody th")
    assert [text.partition("lr")[0] for text in configurations] == ["A: batch size 20", "B: batch size 20"]


def test_the_report_of_sixty_runs_is_written_beside_its_table_on_the_terminal(program, tmp_path):
    sixty_runs(program.outputs / "sweeps" / "2026-01-01_00-00-00")
    printed = program(module="digits_sweep.report")
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.count("\n| ") == 5 + 1
    page = program.outputs / "report" / "index.html"
    assert "15 of 15" in page.read_text()


def test_a_page_that_cannot_be_written_is_named_and_the_table_is_still_there(program, tmp_path):
    add_run(program.outputs / "sweeps" / "x", "run", losses_reaching(2))
    finished(program.outputs / "sweeps" / "x")
    (tmp_path / "file").touch()
    printed = program("--page", "file/index.html", module="digits_sweep.report")
    assert printed.returncode == 1
    assert printed.stderr.startswith("file: ")
    assert "| batch size" in printed.stdout


def test_a_folder_that_is_not_there_is_refused_by_name(program):
    printed = program("outputs/sweeps/nowhere", module="digits_sweep.report")
    assert printed.returncode == 2
    assert "outputs/sweeps/nowhere: no such folder" in printed.stderr


def test_two_sweeps_without_a_run_have_a_page(tmp_path):
    studies = [finished(tmp_path / name) for name in ("a", "b")]
    write_page(tmp_path / "index.html", studies)
    assert (tmp_path / "index.html").read_text().count("No run of this sweep has been recorded yet.") == 2
