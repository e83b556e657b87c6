"""The page for everybody: without a mouse, without color, on a narrow screen, and by the rules that axe-core checks."""

from importlib.resources import files
from importlib.util import find_spec

import pytest

from digits_sweep.report.analysis.study import load_study
from digits_sweep.report.language import in_language
from digits_sweep.report.page import write_page
from tests.many import sweep_of
from tests.report.test_experiments import replicated
from tests.servers import CAP_SECONDS
from tests.studies import add_run, evaluation, finished, losses_reaching

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
    """Pages of few runs with evaluations, of many configurations, and of two sweeps side by side."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("few", "other"):
        for seed in range(2):
            rows = [evaluation(0, 20, train_loss=2.3), evaluation(900, 20, train_loss=1.5)]
            add_run(folder / name, f"{seed}", losses_reaching(2 + seed), seed=seed, evaluations=rows, concurrent_runs=2)
        add_run(folder / name, "broken", [], status="failed", error="OSError: full", seed=9)
    few, other = (finished(folder / name) for name in ("few", "other"))
    found = {"few": [few], "many": [sweep_of(folder / "many", 24)], "two": [few, other]}
    found["replicated"] = [replicated(folder / "replicated")]
    for name, studies in found.items():
        write_page(folder / f"{name}.html", studies)
    with in_language("pt-BR"):
        write_page(folder / "pt-BR.html", [load_study(folder / "few")])
    return folder


@pytest.mark.parametrize(
    ("name", "width", "theme"),
    [
        ("few", 1280, "light"),
        ("few", 390, "dark"),
        ("many", 390, "light"),
        ("two", 1280, "dark"),
        ("replicated", 390, "light"),
        ("pt-BR", 390, "light"),
    ],
)
def test_there_is_no_violation(pages, open_path, axe, name, width, theme):
    browser = open_path(pages / f"{name}.html", width, theme)
    # Of the runs' details, which are all alike, the first.
    opened = "details:not(.run), #run-0"
    browser.execute_script("document.querySelectorAll(arguments[0]).forEach(each => { each.open = true })", opened)
    browser.set_script_timeout(CAP_SECONDS)
    # What the browser runs for its driver is not held to the page's policy.
    browser.execute_script(axe)
    found = browser.execute_async_script("axe.run().then(found => arguments[0](found.violations))")
    assert [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found] == []


@pytest.mark.parametrize("name", ["few", "many", "two", "replicated", "pt-BR"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(pages, open_path, name, width):
    browser = open_path(pages / f"{name}.html", width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


def texts(browser, selector: str) -> list[str]:
    found = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText)"
    return browser.execute_script(found, selector)


def test_the_table_of_runs_is_sorted_by_a_key_and_back(pages, open_path):
    browser = open_path(pages / "many.html")
    press = "document.querySelectorAll('.runs thead button')[arguments[0]].click()"
    sizes = "return [...document.querySelectorAll('.runs tbody tr')].map(row => Number(row.cells[1].textContent))"
    browser.execute_script(press, 1)
    ascending = browser.execute_script(sizes)
    browser.execute_script(press, 1)
    assert ascending == sorted(ascending)
    assert browser.execute_script(sizes) == sorted(ascending, reverse=True)
    assert browser.execute_script("return document.querySelector('.runs [aria-sort]').ariaSort") == "descending"


def test_the_table_of_runs_is_filtered_by_words(pages, open_path):
    browser = open_path(pages / "many.html")
    filtering = """
        const tools = document.querySelector('#table-A').parentElement.previousElementSibling
        const input = tools.querySelector('input')
        input.value = arguments[0]
        input.dispatchEvent(new Event('input'))
        return tools.textContent
    """
    assert "4 of 24" in browser.execute_script(filtering, "lr=0.001 width=32")
    assert len(texts(browser, ".runs tbody tr:not([hidden]) th")) == 4


def test_the_script_speaks_the_language_of_the_page(pages, open_path):
    browser = open_path(pages / "pt-BR.html")
    assert {"Salvar como CSV", "SVG", "PNG"} <= set(texts(browser, ".tools button"))
    labels = "return [...document.querySelectorAll('.tools button')].map(each => each.ariaLabel)"
    assert "Salvar como SVG: Segundos por época" in browser.execute_script(labels)
    assert browser.get_log("browser") == []


def test_a_run_shows_its_own_curve_below_its_row_and_hides_it_again(pages, open_path):
    browser = open_path(pages / "few.html")
    click = "document.querySelector('.runs a[data-run]').click(); return document.querySelectorAll('tr.own').length"
    assert browser.execute_script(click) == 1
    shown = browser.execute_script("return document.querySelector('tr.own').innerText")
    assert all(each in shown for each in ("Loss from 1.7000", "mean loss", "train loss", "seed"))
    assert browser.execute_script(click) == 0


def test_a_mark_names_its_run_and_leads_to_it(pages, open_path):
    browser = open_path(pages / "many.html")
    named = """
        const mark = document.querySelector('#examples .mark[data-run]')
        mark.dispatchEvent(new PointerEvent('pointermove', { clientX: 10, clientY: 10 }))
        const text = document.querySelector('.tip').textContent
        mark.dispatchEvent(new MouseEvent('click', { bubbles: true }))
        return [text, document.getElementById('run-' + mark.dataset.run).open]
    """
    text, opened = browser.execute_script(named)
    assert text.startswith("000_batch_size=5,lr=0.0001,width=32,seed=0: ")
    assert opened


@pytest.mark.parametrize(
    ("selector", "name", "start"),
    [
        ("#examples .tools button:nth-of-type(1)", "examples.svg", b"<svg "),
        ("#examples .tools button:nth-of-type(2)", "examples.png", b"\x89PNG"),
        (".tools:has(+ .wide .runs) button", "table-A.csv", b"run,batch size,lr"),
    ],
)
def test_a_figure_and_the_data_are_saved(pages, open_path, tmp_path, selector, name, start):
    browser = open_path(pages / "many.html")
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)
    pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait(browser, 20).until(
        lambda _: (tmp_path / name).exists()
    )
    saved = (tmp_path / name).read_bytes()
    assert saved.startswith(start)
    assert b"var(--" not in saved


def test_without_the_script_everything_is_there(pages, open_path):
    browser = open_path(pages / "many.html")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.refresh()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.execute_script("return document.querySelectorAll('button').length") == 0
    assert browser.execute_script("return document.querySelectorAll('.mark > title').length") > 24
    assert browser.execute_script("return document.querySelectorAll('details.run .own-curve').length") == 24
