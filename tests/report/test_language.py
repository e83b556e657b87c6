"""The page in Portuguese: no text is missing in its catalogue, and no English is left on it."""

import ast
import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from string import Formatter

import pytest

from digits_sweep.report import ENGLISH, LANGUAGES, study, warnings, words
from digits_sweep.report.page import OF_THE_SCRIPT, write_page
from digits_sweep.report.study import load_study
from digits_sweep.report.words import _, catalogue, in_language, rounded, seconds
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.record import Status
from tests.many import sweep_of
from tests.pages import Page
from tests.report.test_critical import folder as critical  # noqa: F401
from tests.studies import add_run, evaluation, finished, losses_reaching

REPORT = Path(words.__file__).parent
TEMPLATE = (REPORT / "templates" / "page.html.j2").read_text(encoding="utf-8")
# What is said of a value that code elsewhere has.
ELSEWHERE = {
    *study.MEASURES.values(),
    *warnings.OF_A_RUN.values(),
    *("train loss", "train error", "test loss", "test error", "machine", "system", "versions", "commit", "sweep"),
    *(column.mixture for column in COLUMNS if column.mixture),
    *map(str, Status),
    *("trainer.loss_threshold reached", "trainer.max_examples reached", "all targets reached"),
    "stopped within an epoch",
    *OF_THE_SCRIPT,
}
OTHERS = [name for name in LANGUAGES if name != ENGLISH]


def literals(node: ast.expr, names: dict[str, object]) -> Iterator[str]:
    """Yield every text that an expression may be; nothing if it depends on more than the module's own names."""
    if isinstance(node, ast.IfExp):
        yield from (*literals(node.body, names), *literals(node.orelse, names))
        return
    with suppress(NameError, AttributeError):
        found = eval(compile(ast.Expression(node), "", "eval"), dict(names))
        yield from [found] if isinstance(found, str) else found


def texts_in(path: Path) -> Iterator[str]:
    """Yield every text that a module says, and both forms of what it counts."""
    names = vars(importlib.import_module(f"digits_sweep.report.{path.stem}"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id == "_":
            yield from literals(node.args[0], names)
        elif node.func.id == "map" and ast.unparse(node.args[0]) == "_":
            yield from literals(node.args[1], names)
        elif node.func.id == "counted":
            for noun in literals(node.args[1], names):
                yield from (f"{{count}} {noun}", f"{{count}} {noun}s")


def all_texts() -> set[str]:
    of_the_template = re.findall(r'\b_\("(.*?)"[,)]', TEMPLATE)
    modules = [path for path in REPORT.glob("*.py") if path.stem != "__init__"]
    return {text for path in modules for text in texts_in(path)} | set(of_the_template) | ELSEWHERE


def fields(text: str) -> set[tuple[str, str]]:
    return {(name, form) for text, name, form, kind in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("name", OTHERS)
def test_a_language_has_every_text_and_no_other(name):
    known = catalogue(name)["texts"].keys()
    assert (all_texts() - known, known - all_texts()) == (set(), set())


@pytest.mark.parametrize("name", OTHERS)
def test_a_translation_has_the_fields_of_its_text(name):
    texts = catalogue(name)["texts"]
    assert {text for text, other in texts.items() if fields(text) != fields(other)} == set()


def test_outside_of_the_block_everything_is_english():
    with in_language("pt-BR"):
        assert _("{part} of {whole}", part=4, whole=5) == "4 de 5"
        assert _("a text that nobody has translated") == "a text that nobody has translated"
    assert _("{part} of {whole}", part=4, whole=5) == "4 of 5"
    with pytest.raises(ValueError, match="language fr: choose en or pt-BR"), in_language("fr"):
        pass


def test_numbers_have_the_signs_of_the_language():
    assert (rounded(46_600), seconds(2.04), _("first epoch < {threshold:g}", threshold=1.6)) == (
        *("46,600", "2.04 s"), "first epoch < 1.6",
    )  # fmt: skip
    with in_language("pt-BR"):
        assert (rounded(46_600), seconds(2.04), _("first epoch < {threshold:g}", threshold=1.6)) == (
            *("46.600", "2,04 s"), "primeira época < 1,6",
        )  # fmt: skip


def few(folder: Path) -> None:
    """Several seeds with evaluations, one of them without a class; a failed run, one that diverged, one resumed."""
    for seed in range(2):
        rows = [
            evaluation(0, 20, train_loss=2.3, noise_scale=9.0),
            evaluation(900, 20, train_loss=1.5, noise_scale=30.0),
        ]
        add_run(folder, f"{seed}", losses_reaching(2 + seed), seed=seed, evaluations=rows, concurrent_runs=2)
    add_run(folder, "7", losses_reaching(None), seed=7, resumed_after=[1], test_answers=[0, *[111] * 9])
    add_run(folder, "8", [2.0, float("nan")], seed=8, status="diverged")
    add_run(folder, "9", [], status="failed", error="OSError: full", seed=9)
    add_run(folder, "10", losses_reaching(3), seconds=9, seed=10, engine="lesson", status="interrupted")


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """The folders of sweeps that together have every section of a page."""
    folder = tmp_path_factory.mktemp("sweeps")
    for name in ("few", "other"):
        few(folder / name)
        finished(folder / name, note="no mirror answered" if name == "few" else None)
    for size in (20, 100):
        add_run(folder / "none", f"{size}", [1.9, 1.8, 1.7], batch_size=size)
    finished(folder / "none")
    sweep_of(folder / "many", 24)
    return folder


def shown(folders: list[Path], name: str, page: Path) -> tuple[list[str], str]:
    """Write a page in a language; return its texts, those that are read aloud too, and its HTML."""
    with in_language(name):
        write_page(page, [load_study(folder) for folder in folders])
    html = page.read_text(encoding="utf-8")
    texts = []
    for element in Page(html).root.iter():
        if element.tag not in ("script", "style"):
            attributes = [element.get(each) for each in ("aria-label", "data-title")]
            texts += [each for each in (element.text, element.tail, *attributes) if each and each.strip()]
    return texts, html


# Words that no Portuguese text has. Keys, names of runs and quotes from records stay as they are.
ENGLISH_WORDS = re.compile(
    r"(?<![\w./=-])(the|of|and|is|are|was|were|runs?|each|with|not|than|from|every|epochs?|seeds|loss|digits|batch|"
    r"seconds|steps|examples|reached|below|threshold|at|in|to|by|after|for)(?![\w/=-])"
)
QUOTED = ("2 batch sizes reached the goal, and a fit needs 4", "no mirror answered")


def left_in_english(texts: list[str]) -> list[str]:
    for quote in QUOTED:
        texts = [text.replace(quote, "") for text in texts]
    return [text for text in texts if ENGLISH_WORDS.search(text)]


def check(folders: list[Path], page: Path) -> None:
    english, html = shown(folders, "en", page)
    portuguese, html = shown(folders, "pt-BR", page)
    assert '<html lang="pt-BR"' in html
    assert left_in_english(portuguese) == []
    assert len(left_in_english(english)) > 30


@pytest.mark.full
@pytest.mark.parametrize("names", [["few"], ["few", "other"], ["none"], ["many"]], ids=" ".join)
def test_no_english_is_left_on_a_portuguese_page(sweeps, tmp_path, names):
    check([sweeps / name for name in names], tmp_path / "page.html")


def test_no_english_is_left_on_the_page_of_a_critical_batch_size(critical, tmp_path):  # noqa: F811
    check([critical], tmp_path / "page.html")
