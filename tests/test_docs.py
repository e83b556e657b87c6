"""README and docs are true: what they name exists."""

import importlib.util
import re
import shlex
import shutil
import subprocess

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.errors import InvalidConfig
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.critical import write_cost
from digits_sweep.search.settings import goals_of, read_critical, read_tune
from tests.documents import ALL_CODE, CHOICES, CODE, INLINE, KEYS, MAKEFILE, ROOT, TEXT, arguments_of, commands
from tests.results.test_cost import cost_of

README = TEXT["README.md"]


def unless_not_installed(function, *arguments):
    """Call a function. If a launcher or a tracker is not installed here, skip the test."""
    try:
        return function(*arguments)
    except InvalidConfig as refusal:
        if "not installed" not in str(refusal):
            raise
        pytest.skip(str(refusal))


@pytest.mark.sampled(10)
@pytest.mark.parametrize("command", commands("digits_sweep"))
def test_every_command_is_one_that_works(command):
    arguments = arguments_of(command)
    if "--cfg" in arguments:
        arguments = arguments[2:]
    if "--help" not in arguments:
        assert unless_not_installed(plan, arguments).runs


@pytest.mark.parametrize("command", commands("digits_sweep.tune"))
def test_every_search_is_one_that_works(command):
    typed = unless_not_installed(read_tune, arguments_of(command))
    assert typed.settings.trials
    assert typed.planned.runs


@pytest.mark.sampled(3)
@pytest.mark.parametrize("command", commands("digits_sweep.critical_batch_size"))
def test_every_study_of_the_critical_batch_size_is_one_that_works(command, tmp_path, monkeypatch):
    if "cost.json" in command:
        write_cost(tmp_path / "cost.json", cost_of({5: 1e-4, 1000: 2e-3}, read_critical([]).planned.settings))
        monkeypatch.chdir(tmp_path)
    request = unless_not_installed(read_critical, arguments_of(command))
    assert goals_of(request.planned.settings) or request.settings.pilot_examples


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([\w.]+)", " ".join(ALL_CODE)))))
def test_every_module_that_a_command_starts_exists(module):
    spec = importlib.util.find_spec(module)
    assert spec
    assert not spec.submodule_search_locations or importlib.util.find_spec(f"{module}.__main__")


def test_every_script_that_a_command_starts_exists():
    scripts = {ROOT / path for code in ALL_CODE for path in re.findall(r"^python (\S+\.py)\b", code)}
    assert all(script.is_file() for script in scripts)
    # What the scripts share is not a command.
    assert {*(ROOT / "docs/findings").glob("*.py")} - scripts == {ROOT / "docs/findings/evidence.py"}


def test_the_readme_shows_the_sweep_and_how_to_start_it_without_activating():
    assert "python -m digits_sweep -m data.batch_size=100,20,5" in CODE["README.md"]
    assert ".venv/bin/python -m digits_sweep -m data.batch_size=100,20,5" in CODE["README.md"]


def test_the_readme_has_at_most_8_kb():
    assert len(README.encode()) <= 8192


def numbers_in(text: str) -> list[str]:
    """The numbers of a text, without those in commands, and without versions and dates."""
    text = re.sub(rf"^    .*$|{INLINE}|torch [\d.]+|\d{{4}}-\d\d-\d\d", "", text, flags=re.MULTILINE)
    return re.findall(r"\d[\d.,e-]*\d|\d", text)


def test_the_portuguese_readme_has_the_commands_the_figures_and_the_links_of_the_english_one():
    portuguese = TEXT["README.pt-BR.md"]
    of_portuguese = {code for code in CODE["README.pt-BR.md"] if "ARGS=" not in code and "grupo" not in code}
    typed = {code for code in of_portuguese if re.match(r"python|make|git|source", code)}
    assert typed
    assert typed <= set(CODE["README.md"])
    parts = [re.split(r"^## ", text, flags=re.MULTILINE)[:3] for text in (README, portuguese)]
    for english, theirs in zip(*parts, strict=True):
        as_brazilians_write = [number.translate(str.maketrans(".,", ",.")) for number in numbers_in(english)]
        assert numbers_in(theirs) == as_brazilians_write
    assert set(re.findall(r"\]\((docs/[^)]+)\)", portuguese)) <= set(re.findall(r"\]\((docs/[^)]+)\)", README))


def shell_commands() -> list[str]:
    """Every command line of the docs that a reader types; a folder in the place of a placeholder."""
    first = r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:python|make|pip|git|source|cd|digits-sweep)\b "
    typed = {code for code in ALL_CODE if re.match(first, code) and not re.search(r"\.\.\.|\w\|\w", code)}
    return sorted({re.sub(r"<[\w ]+>", "2026-11-27_12-00-00", code) for code in typed})


@pytest.mark.parametrize("page", TEXT)
def test_no_command_of_the_docs_has_a_comment_behind_it_which_zsh_would_take_for_arguments(page):
    assert not re.findall(
        r"^    +\S.*\s#.*$", re.sub(r"^ *```.*?^ *```", "", TEXT[page], flags=re.M | re.S), flags=re.M
    )


def test_zsh_reads_every_command_of_the_docs_as_sh_does():
    if (zsh := shutil.which("zsh")) is None:
        pytest.skip("there is no zsh on this machine")
    commands = shell_commands()
    script = "\n".join(f"print -rN -- {command}; print -r" for command in commands)
    read = subprocess.run([zsh, "-f"], input=script, capture_output=True, text=True)
    assert read.stderr == ""
    words = [line.removesuffix("\0").split("\0") for line in read.stdout.splitlines()]
    assert words == [shlex.split(command) for command in commands]


@pytest.mark.full
def test_the_python_of_the_docs_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    # README reads what a sweep has left.
    for text in (TEXT["docs/notebook.md"], README):
        for program in re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            exec(program, names)
    output = capsys.readouterr().out
    assert "first_epoch_below_threshold" in output
    assert "did you mean data.batch_size?" in output


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", " ; ".join(ALL_CODE)))))
def test_every_make_target_in_the_docs_exists(target):
    assert re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE)


def test_every_choice_is_in_the_help(program):
    shown = program("--help").stdout
    assert not [f"{group}={choice}" for group, choice in CHOICES if group.count("/") == 0 and choice not in shown]


@pytest.mark.parametrize(
    "key",
    sorted(
        set(re.findall(r"`((?:data|model|optimizer|scaling|engine|trainer|tracker|tune)\.[a-z_.]+)(?==|`)", str(TEXT)))
    ),
)
def test_every_key_in_the_docs_exists(key):
    assert key in KEYS or key.endswith(".py")


def test_every_column_that_the_readme_explains_exists():
    _, _, section = README.partition("| column | meaning |")
    rows = re.findall(r"^\| (`.+?`) \|", section.partition("\n\n")[0], flags=re.MULTILINE)
    explained = {name for row in rows for name in re.findall(INLINE, row)}
    assert explained
    assert explained <= {column.name for column in COLUMNS}


@pytest.mark.parametrize("extra", sorted(set(re.findall(r"'\.\[(\w+)\]'", " ".join(ALL_CODE)))))
def test_every_extra_in_the_docs_exists(extra):
    assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXT)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_page_can_be_reached_from_the_readme(page):
    assert f"](docs/{page.name})" in README


def test_every_file_of_the_package_that_the_docs_name_exists():
    rooms = "|".join({path.parent.name for path in (ROOT / "digits_sweep").glob("*/*.py")})
    pattern = rf"`((?:digits_sweep/)?(?:{rooms})/[\w./]+\.\w+)`"
    paths = [(page, path) for page, text in TEXT.items() for path in re.findall(pattern, text)]
    assert len(paths) > 30
    folders = (ROOT, ROOT / "digits_sweep")
    assert not [path for path in paths if not any((folder / path[1]).exists() for folder in folders)]
