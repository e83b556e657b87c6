"""The page of a report in a real browser, for everybody: without a mouse, on a narrow screen, by axe-core's rules."""

import json
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from digits_sweep.report.page import write_page
from digits_sweep.report.study import load_study
from digits_sweep.report.words import in_language
from tests.many import sweep_of
from tests.pages import sixty_runs
from tests.studies import add_run, evaluation, finished, losses_reaching

# A page answers in a tenth of a second; a machine that many share takes longer.
PATIENCE = 300
# Either brings axe.min.js along.
PACKAGES = ("axe_playwright_python", "axe_core_python")


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, from a Python package that holds it."""
    package = next(filter(find_spec, PACKAGES), None)
    if package is None:
        pytest.skip("accessibility is checked if axe-core-python or axe-playwright-python is installed")
    return (files(package) / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of few runs with evaluations, of many configurations, of many columns, and of two sweeps, among others."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("few", "other"):
        for seed in range(2):
            rows = [evaluation(0, 20, train_loss=2.3), evaluation(900, 20, train_loss=1.5)]
            add_run(folder / name, f"{seed}", losses_reaching(2 + seed), seed=seed, evaluations=rows, concurrent_runs=2)
        add_run(folder / name, "broken", [], status="failed", error="OSError: full", seed=9)
    few, other = (finished(folder / name) for name in ("few", "other"))
    studies = {
        "few": [few],
        "sixty": [sixty_runs(folder / "sixty")],
        "many": [sweep_of(folder / "many", 24)],
        "two": [few, other],
    }
    studies |= {"three": [sweep_of(folder / "three", 3)], "seeds": [sweep_of(folder / "seeds", 24, 2)]}
    for size in (100, 20, 5):
        for model, width, engine in (("mlp", 128, "native"), ("cnn", 120, "eager")):
            rows = [evaluation(step, size, test_error=error) for step, error in ((0, 0.9), (900, 0.15), (1800, 0.05))]
            config = {"evaluation.targets.test_error": [0.1, 0.2], "model.channels": [6, 16], "model.kernel_size": 5}
            settings = {"batch_size": size, "model": model, "hidden_size": width, "engine": engine}
            add_run(folder / "wide", f"{model}_{size}", losses_reaching(2), config=config, evaluations=rows, **settings)
    studies["wide"] = [finished(folder / "wide")]
    for name, own in studies.items():
        write_page(folder / f"{name}.html", own)
    with in_language("pt-BR"):
        write_page(folder / "pt-BR.html", [load_study(folder / "few")])
    return folder


@pytest.fixture
def alive(pages, open_path):
    """Open a page, and wait until its first figure is alive."""

    def opened(name: str, **options):
        browser = open_path(pages / f"{name}.html", **options)
        wait(browser, "document.querySelector('figure .drawing[role=application]')")
        return browser

    return opened


def wait(browser, expression: str) -> None:
    """Wait until an expression of JavaScript is true."""
    waiting = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait(browser, PATIENCE)
    waiting.until(lambda _: browser.execute_script(f"return Boolean({expression})"))


def texts(browser, selector: str) -> list[str]:
    found = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent.trim())"
    return browser.execute_script(found, selector)


def requests(browser) -> set[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    return {url for url in sent if not url.startswith("data:")}


def press(browser, selector: str, text: str) -> None:
    """Press the button with a text, by its key."""
    script = "[...document.querySelectorAll(arguments[0])].find(each => each.textContent === arguments[1]).click()"
    browser.execute_script(script, selector, text)


MARKS = "document.querySelectorAll('figure:first-of-type .drawing .mark-symbol path').length"


@pytest.mark.parametrize(
    ("name", "width", "theme"),
    [
        ("few", 1280, "light"),
        ("three", 390, "dark"),
        ("many", 390, "light"),
        ("two", 1280, "dark"),
        ("seeds", 900, "light"),
        ("pt-BR", 390, "light"),
    ],
)
def test_there_is_no_violation(alive, axe, name, width, theme):
    browser = alive(name, width=width, theme=theme)
    # Of the runs' details, which are all alike, the first.
    opened = "details:not(.run), #run-A-0"
    browser.execute_script("document.querySelectorAll(arguments[0]).forEach(each => { each.open = true })", opened)
    browser.set_script_timeout(PATIENCE)
    # What the browser runs for its driver is not held to the page's policy.
    browser.execute_script(axe)
    found = browser.execute_async_script("axe.run().then(found => arguments[0](found.violations))")
    assert [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found] == []


@pytest.mark.parametrize("name", ["few", "many", "two", "three", "wide", "sixty", "pt-BR"])
@pytest.mark.parametrize("width", [390, 900, 1280])
def test_nothing_is_wider_than_the_screen_and_no_table_is_cut(pages, open_path, name, width):
    browser = open_path(pages / f"{name}.html", width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    cut = "return [...document.querySelectorAll('.wide')].filter(each => each.scrollWidth > each.clientWidth + 1)"
    assert browser.execute_script(f"{cut}.length") == 0
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_drawn_at_every_width_with_a_label_and_nothing_is_fetched(pages, open_path, width):
    browser = open_path(pages / "sixty.html", width)
    assert requests(browser) == {browser.current_url}
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(each => ["
        "each.getAttribute('aria-label') || each.parentElement.getAttribute('aria-label'),"
        " each.getBoundingClientRect().width, each.getBoundingClientRect().height])"
    )
    assert len(figures) == 10
    assert all(label and wide > 300 and high > 120 for label, wide, high in figures)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_against_what_is_behind_it(pages, open_path, theme):
    browser = open_path(pages / "sixty.html", theme=theme)
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


def test_a_switch_of_the_legend_switches_off_in_every_table_and_every_figure(alive):
    browser = alive("three")
    before = browser.execute_script(f"return {MARKS}")
    press(browser, "#legend button", "batch size 20")
    wait(browser, f"{MARKS} === {before - 1}")
    shown = "return [...document.querySelectorAll(arguments[0])].filter(each => !each.hidden).length"
    assert browser.execute_script(shown, ".runs tbody tr") == 2
    assert browser.execute_script(shown, "#questions tbody tr") == 2
    press(browser, "#legend button", "all")
    wait(browser, f"{MARKS} === {before}")


def test_a_filtered_table_filters_the_others_and_the_figures(alive):
    browser = alive("many")
    before = browser.execute_script(f"return {MARKS}")
    filtering = """
        const tools = document.querySelector('#table-A').parentElement.previousElementSibling
        const input = tools.querySelector('input')
        input.value = arguments[0]
        input.dispatchEvent(new Event('input'))
        return tools.textContent
    """
    assert "4 of 24" in browser.execute_script(filtering, "lr=0.001 width=32")
    assert len(texts(browser, ".runs tbody tr:not([hidden]) th")) == 4
    assert len(texts(browser, "#questions tbody tr:not([hidden]) th")) == 4
    wait(browser, f"{MARKS} === 4 && {before} === 24")


def test_values_are_read_with_the_mouse_and_with_keys(alive, pages):
    browser = alive("three")
    drawing = "document.querySelector('figure .drawing')"
    move = f"""
        const mark = document.querySelector('figure .drawing .mark-symbol path').getBoundingClientRect()
        const at = {{ clientX: mark.x + 9, clientY: mark.y + 4, bubbles: true }}
        {drawing}.dispatchEvent(new PointerEvent('pointermove', at))
        return [...document.querySelectorAll('.tip div')].map(each => each.textContent)
    """
    run, *values = browser.execute_script(move)
    assert run == "000_batch_size=5,lr=0.0001,width=128,seed=0"
    expected = load_study(pages / "three").runs["seconds_to_goal"][0]
    assert values == ["batch size 5", f"seconds to 1.6 {expected:.5g}"]
    key = f"""
        {drawing}.dispatchEvent(new KeyboardEvent('keydown', {{ key: arguments[0] }}))
        return document.querySelector('.spoken[aria-live]').textContent
    """
    browser.execute_script(key, "Escape")
    browser.execute_script(key, "ArrowRight")
    assert "batch size 20" in browser.execute_script(key, "ArrowRight")
    browser.execute_script(key, "Enter")
    assert browser.execute_script("return document.querySelectorAll('tr.own details[open]').length") == 1


def test_a_figure_is_zoomed_by_keys_and_its_axes_are_switched(alive):
    browser = alive("three")
    ticks = "[...document.querySelectorAll('figure .drawing text')].map(each => each.textContent).sort().join()"
    whole = browser.execute_script(f"return {ticks}")
    key = "document.querySelector('figure .drawing').dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0] }))"
    browser.execute_script(key, "+")
    wait(browser, f"{ticks} !== {whole!r}")
    browser.execute_script(key, "0")
    wait(browser, f"{ticks} === {whole!r}")
    x = "document.querySelectorAll('figure .drawing .mark-symbol path')[1].getBoundingClientRect().x"
    before = browser.execute_script(f"return {x}")
    browser.execute_script("document.querySelector('figure .tools input').click()")
    wait(browser, f"{x} < {before} - 40")
    assert browser.get_log("browser") == []


def test_the_table_of_runs_is_sorted_by_a_key_and_back(pages, open_path):
    browser = open_path(pages / "many.html")
    click = "document.querySelectorAll('.runs thead button')[arguments[0]].click()"
    sizes = "return [...document.querySelectorAll('.runs tbody tr')].map(row => Number(row.cells[1].textContent))"
    browser.execute_script(click, 1)
    ascending = browser.execute_script(sizes)
    browser.execute_script(click, 1)
    assert ascending == sorted(ascending)
    assert browser.execute_script(sizes) == sorted(ascending, reverse=True)
    assert browser.execute_script("return document.querySelector('.runs [aria-sort]').ariaSort") == "descending"


def test_the_script_speaks_the_language_of_the_page(alive):
    browser = alive("pt-BR")
    assert {"Salvar como CSV", "SVG", "PNG"} <= set(texts(browser, ".tools button"))
    labels = "return [...document.querySelectorAll('.tools button')].map(each => each.ariaLabel)"
    assert "Salvar como SVG: Perda por época" in browser.execute_script(labels)
    assert browser.get_log("browser") == []


def test_a_run_shows_its_details_below_its_row_and_hides_them_again(pages, open_path):
    browser = open_path(pages / "few.html")
    click = "document.querySelector('tr[data-run] a').click(); return document.querySelectorAll('tr.own').length"
    assert browser.execute_script(click) == 1
    shown = browser.execute_script("return document.querySelector('tr.own').innerText")
    assert all(each in shown for each in ("Loss from 1.7000", "mean loss", "train loss", "seed"))
    assert browser.execute_script(click) == 0


@pytest.fixture
def saved(alive, tmp_path):
    """Press a button of the page of seeds, and return the file that it saves."""

    def pressed(selector: str, name: str):
        browser = alive("seeds")
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        browser.execute_script("document.querySelector(arguments[0]).click()", selector)
        waiting = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait(browser, PATIENCE)
        waiting.until(lambda _: (tmp_path / name).exists())
        return tmp_path / name

    return pressed


@pytest.mark.parametrize(("button", "name", "start"), [(1, "seconds.svg", b"<svg "), (2, "seconds.png", b"\x89PNG")])
def test_a_figure_is_saved(saved, button, name, start):
    content = saved(f"#seconds .tools button:nth-of-type({button})", name).read_bytes()
    assert content.startswith(start)
    assert b"var(--" not in content


def test_the_table_of_runs_is_saved_as_the_numbers_of_the_summary(saved, pages):
    table = pd.read_csv(saved(".tools:has(+ .wide .runs) button:last-of-type", "table-A.csv"))
    summary = pd.read_csv(pages / "seeds" / "summary.csv")
    names = ["run_dir", "batch_size", "lr", "seconds_per_epoch", "first_epoch_below_threshold", "final_loss"]
    pd.testing.assert_frame_equal(table[names], summary[names])


def test_the_table_of_configurations_is_saved_with_the_ends_of_its_intervals(saved, pages):
    table = pd.read_csv(saved(".tools:has(+ .wide #questions) button:last-of-type", "questions.csv"))
    assert len(table) == 24
    best = table.sort_values("seconds_to_goal").iloc[0]
    study = load_study(pages / "seeds")
    own = study.runs[(study.runs["batch_size"] == best["batch_size"]) & (study.runs["lr"] == best["lr"])]
    own = own[own["hidden_size"] == best["hidden_size"]]["examples_to_goal"].astype(float)
    ends = (best["examples_to_goal_low"], best["examples_to_goal"], best["examples_to_goal_high"])
    assert ends == (own.min(), own.median(), own.max())


def test_without_the_script_everything_is_there(pages, open_path):
    browser = open_path(pages / "many.html")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.refresh()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.execute_script("return document.querySelectorAll('button').length") == 0
    assert browser.execute_script("return document.querySelectorAll('figure svg').length") == 8
    assert len(texts(browser, "#questions tbody tr")) == 24
    assert all(texts(browser, "#questions tbody tr"))
    assert browser.execute_script("return document.querySelectorAll('details.run table').length") == 24


def test_a_page_of_three_hundred_configurations_is_small_and_answers_soon(pages, browser, open_path):
    sweep_of(pages / "300", 300)
    write_page(pages / "300.html", [load_study(pages / "300")])
    assert (pages / "300.html").stat().st_size < 2.5e6
    # Seconds of CPU in the page's thread, whatever else the machine does.
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    open_path(pages / "300.html")
    measured = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    assert next(each["value"] for each in measured if each["name"] == "ThreadTime") < 2


def written(folder: Path) -> Path:
    """Write the page of the sweep in a folder."""
    write_page(folder / "index.html", [finished(folder / "sweep")])
    return folder / "index.html"


@pytest.mark.parametrize(
    ("runs", "text", "pictures"),
    [
        ({}, "No run of this sweep has been recorded yet.", 0),
        ({"one": {}}, "Batch size 20 passed 1.6 after 120,000 digits (2 s). One run: ", 2),
        ({"bad": {"losses": [], "status": "failed", "error": "OSError: x"}}, "Every run failed: OSError: x.", 0),
        ({"none": {"losses": losses_reaching(None)}}, "No run passed 1.6 within 10 epochs: batch size 20", 3),
    ],
)  # fmt: skip
def test_a_sweep_of_almost_nothing_has_a_page_too(open_path, tmp_path, runs, text, pictures):
    for name, columns in runs.items():
        add_run(tmp_path / "sweep", name, columns.pop("losses", losses_reaching(2)), **columns)
    browser = open_path(written(tmp_path))
    assert text in " ".join(texts(browser, "p, li"))
    assert len(texts(browser, "figure svg")) == pictures
    assert browser.get_log("browser") == []


def test_a_name_that_is_a_script_is_only_a_name(open_path, tmp_path):
    name = "<script>document.title='run'<|script>"
    add_run(tmp_path / "sweep", name, losses_reaching(None), dataset="<script>document.title='data'</script>")
    browser = open_path(written(tmp_path))
    assert browser.title == "Batch-size sweep sweep"
    assert name in texts(browser, ".runs tbody th")
    # The data, Vega and the page's own.
    assert browser.execute_script("return document.scripts.length") == 3
