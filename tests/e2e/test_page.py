"""The page of a report in a real browser."""

import json

import pytest

from digits_sweep.report.page import write_page
from tests.pages import sixty_runs
from tests.studies import add_run, finished, losses_reaching


@pytest.fixture
def open_page(open_path, tmp_path):
    """The page of some sweeps, written and opened."""

    def opened(*studies):
        path = tmp_path / "report" / "index.html"
        write_page(path, studies)
        return open_path(path)

    return opened


@pytest.fixture(scope="module")
def sixty(tmp_path_factory):
    """The page of sixty runs."""
    folder = tmp_path_factory.mktemp("sixty")
    write_page(folder / "index.html", [sixty_runs(folder / "sweep")])
    return folder / "index.html"


def texts(browser, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent.trim())"
    return browser.execute_script(script, selector)


def requests(browser) -> set[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    return {url for url in sent if not url.startswith("data:")}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_sixty_runs_is_whole_at_every_width_and_in_both_themes(open_path, sixty, width, theme):
    browser = open_path(sixty, width, theme)
    assert browser.get_log("browser") == []
    assert requests(browser) == {browser.current_url}
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(each => ["
        "each.getAttribute('aria-label') || each.parentElement.getAttribute('aria-label'),"
        " each.getBoundingClientRect().width, each.getBoundingClientRect().height])"
    )
    assert len(figures) == 10
    assert all(label and wide > 300 and high > 120 for label, wide, high in figures)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_against_what_is_behind_it(open_path, sixty, theme):
    browser = open_path(sixty, theme=theme)
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
        ({"one": {}}, "Batch size 20 passed 1.6 after 120,000 digits (2 s). One run: ", 2),
        ({"bad": {"losses": [], "status": "failed", "error": "OSError: x"}}, "Every run failed: OSError: x.", 0),
        ({"none": {"losses": losses_reaching(None)}}, "No run passed 1.6 within 10 epochs: batch size 20", 3),
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
    # The data, Vega and the page's own.
    assert browser.execute_script("return document.scripts.length") == 3
