"""What contributors read is true: the drawing of the rooms, the layers, the recipes, the first commands."""

import re
import subprocess

import pytest
import yaml
from omegaconf import OmegaConf

import digits_sweep
from tests.documents import INLINE, ROOT, TEXT
from tests.test_architecture import FLOORS

ARCHITECTURE = TEXT["docs/architecture.md"]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def recipes() -> dict[str, str]:
    """The text of every recipe by its title."""
    _, _, section = ARCHITECTURE.partition("## Recipes\n")
    return dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", section, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("recipe", recipes())
def test_every_place_that_a_recipe_names_exists(recipe):
    places = re.findall(r"`((?:digits_sweep|conf|docs|tests)/[\w./]*)`", recipes()[recipe])
    assert places
    for place in places:
        # What a recipe has its reader write is in a folder that exists.
        created = place.startswith("conf/") and f"`{place}`:" in recipes()[recipe]
        assert (ROOT / place).exists() or (created and (ROOT / place).parent.is_dir()), place


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_has_as_many_steps_as_its_title_says(recipe):
    promised = int(re.search(r": (\d+) places?$", recipe)[1])
    steps = len(re.findall(r"^\d+\. ", recipes()[recipe], flags=re.MULTILINE))
    assert steps == (promised if promised > 1 else 0)


@pytest.mark.parametrize(
    "thing", ["data set", "model", "optimizer", "scaling rule", "engine", "tracker", "launcher", "column", "figure"]
)
def test_there_is_a_recipe_for_everything_that_can_be_added(thing):
    assert any(re.fullmatch(rf"An? {thing}: \d places?", recipe) for recipe in recipes())


def drawn() -> set[str]:
    """Every file and folder of the package that the drawing of the rooms names."""
    _, _, drawing = ARCHITECTURE.partition("\ndigits_sweep/\n")
    folders, found = {0: "digits_sweep"}, set()
    for line in drawing.partition("\ndocs/")[0].splitlines():
        indent, names = len(line) - len(line.lstrip()), re.split(r" {2,}", line.strip())[0]
        above = next(folders[depth] for depth in sorted(folders, reverse=True) if depth < indent)
        for name in names.split(", "):
            found.add(path := f"{above}/{name.rstrip('/')}")
            if name.endswith("/"):
                folders = {depth: each for depth, each in folders.items() if depth < indent} | {indent: path}
    return found


def test_the_rooms_that_are_drawn_are_those_on_disk():
    assert not [path for path in drawn() if not (ROOT / path).exists()]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "digits_sweep").glob("*/__init__.py")}
    assert folders <= drawn()


def test_the_floors_that_are_listed_are_those_that_hold():
    _, _, section = ARCHITECTURE.partition("## Floors\n")
    listed = re.findall(r"^\d+\. (.+)$", section.partition("\n## ")[0], flags=re.MULTILINE)
    assert [sorted(re.findall(INLINE, rooms)) for rooms in listed] == [sorted(rooms) for rooms in FLOORS]


def test_what_cites_and_what_tells_of_changes_know_this_version():
    citation = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == digits_sweep.__version__
    assert f"## [{digits_sweep.__version__}] - {citation['date-released']}" in TEXT["CHANGELOG.md"]
    assert "## [Unreleased]" in TEXT["CHANGELOG.md"]


def test_the_hooks_call_make_lint():
    content = OmegaConf.to_container(OmegaConf.load(ROOT / ".pre-commit-config.yaml"))
    assert [hook["entry"] for repo in content["repos"] for hook in repo["hooks"]] == ["make lint"]
    assert {repo["repo"] for repo in content["repos"]} == {"local"}


def test_a_clone_is_green_after_the_four_commands_of_contributing():
    first = re.findall(r"(?:^    .+\n)+", TEXT["CONTRIBUTING.md"], flags=re.MULTILINE)[0]
    clone, enter, *made = [line.strip() for line in first.splitlines()]
    assert clone.startswith("git clone ")
    assert enter == "cd digits_sweep"
    assert made == ["make test", "make lint"]


def test_what_make_will_download_is_said_before_anything_else_and_once(tmp_path):
    make = ["make", "--silent", "--file", ROOT / "Makefile", "announce"]
    said = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert re.search(r"downloads what a sweep needs into \.venv, up to [\d.]+ GB .* takes \d+ to \d+ minutes", said)
    (tmp_path / ".venv/lib/python3.12/site-packages/torch").mkdir(parents=True)
    assert subprocess.run(make, cwd=tmp_path, capture_output=True, check=True).stdout == b""
    planned = subprocess.run(
        ["make", "--no-print-directory", "-n", "sweep"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    assert "First, once" in planned[0] or planned[0].startswith("DIGITS_SWEEP_BY_MAKE=1")


WORKFLOW = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")


def test_a_hosted_run_may_read_the_code_and_nothing_else():
    workflow = yaml.safe_load(WORKFLOW)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in WORKFLOW
    assert all(re.search(r"@v\d+$", action) for action in re.findall(r"uses: (\S+)", WORKFLOW))


def test_a_hosted_run_has_the_two_commands_of_the_readme_on_every_system():
    jobs = yaml.safe_load(WORKFLOW)["jobs"]
    steps = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    typed = re.findall(r"^    (make sweep|make test)$", TEXT["README.md"], flags=re.MULTILINE)
    assert steps["make"] == list(dict.fromkeys(typed))
    assert "python -m digits_sweep -m data.batch_size=100,20,5" in steps["windows"]
    assert {job["runs-on"] for job in jobs.values()} == {"${{ matrix.system }}", "windows-latest"}
    matrix = jobs["make"]["strategy"]["matrix"]
    assert {*matrix["system"], *(each["system"] for each in matrix["include"])} == {"ubuntu-latest", "macos-latest"}


def test_a_hosted_run_has_every_python_that_pyproject_allows_and_may_fail_with_no_other():
    lowest, above = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', PYPROJECT).groups()
    job = yaml.safe_load(WORKFLOW)["jobs"]["make"]
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(lowest), int(above) + 1)]
    assert job["continue-on-error"] == f"${{{{ matrix.python == '3.{above}' }}}}"
