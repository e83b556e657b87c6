"""docs/reference.md is what its generator writes, and names everything that is declared."""

import importlib.util
import re

import pytest

from digits_sweep import errors
from digits_sweep.config.launchers import LAUNCHERS
from digits_sweep.results.columns import COLUMNS
from tests.documents import CHOICES, KEYS, MAKEFILE, ROOT, TEXT

REFERENCE = TEXT["docs/reference.md"]


ERRORS = [name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)]
DECLARED = {
    "make targets": ("Commands", [f"make {target}" for target in re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.M)]),
    "keys": ("Groups and their keys", sorted(key for key in KEYS if not key.startswith(("tune.", "critical.")))),
    "keys of tune": ("Keys of the search", sorted(key for key in KEYS if key.startswith("tune."))),
    "keys of a study": ("Keys of the critical batch size", sorted(key for key in KEYS if key.startswith("critical."))),
    "columns": ("Columns of summary.csv", [column.name for column in COLUMNS]),
    "launchers": ("Launchers", LAUNCHERS),
    "errors": ("Errors", ERRORS),
}


def named_under(heading: str) -> set[str]:
    """What the tables under a heading name: the first cell of every row."""
    level = heading.partition(" ")[0]
    _, _, section = REFERENCE.partition(f"\n{heading}\n")
    return set(re.findall(r"^\| `([^`]+)`", re.split(rf"^#{{2,{len(level)}}} ", section, flags=re.M)[0], re.M))


@pytest.mark.parametrize("kind", DECLARED)
def test_everything_that_is_declared_is_in_the_reference(kind):
    section, names = DECLARED[kind]
    assert names
    assert not {*names} - named_under(f"## {section}")


def test_every_choice_is_in_the_reference_below_its_group():
    assert not [(group, choice) for group, choice in CHOICES if choice not in named_under(f"### {group}")]


@pytest.fixture
def generator():
    """The program that writes `docs/reference.md`."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_fresh(generator):
    assert generator.page() == REFERENCE, generator.STALE


def test_a_stale_reference_is_refused_in_one_line_until_it_is_written_again(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "PAGE", tmp_path / "reference.md")
    monkeypatch.setattr("sys.argv", ["docs/reference.py", "--check"])
    with pytest.raises(SystemExit, match="is stale: run make docs"):
        generator.main()
    monkeypatch.setattr("sys.argv", ["docs/reference.py"])
    generator.main()
    monkeypatch.setattr("sys.argv", ["docs/reference.py", "--check"])
    generator.main()


def test_a_key_whose_meaning_nobody_has_written_is_refused(generator, tmp_path):
    with pytest.raises(ValueError, match="seed: say what it means in a comment beside it"):
        generator.row_of("seed", [generator.Choice("config", "", {"seed": 42}, {}, (), True)])


def test_a_choice_of_which_nobody_has_written_what_it_is_is_refused(generator, monkeypatch, tmp_path):
    monkeypatch.setattr(generator, "ROOT", tmp_path)
    monkeypatch.setattr(generator, "CONF", tmp_path)
    (tmp_path / "cnn.yaml").write_text("name: cnn\n")
    with pytest.raises(ValueError, match=r"cnn\.yaml: begin the file with a comment"):
        generator.read_choice(tmp_path / "cnn.yaml")
