"""docs/reference.md is what its generator writes, and names everything that is declared."""

import importlib.util
import re

import pytest

from digits_sweep import errors
from digits_sweep.config.launchers import LAUNCHERS
from digits_sweep.results.columns import COLUMNS
from tests.documents import CHOICES, KEYS, MAKEFILE, ROOT, TEXT

REFERENCE = TEXT["docs/reference.md"]


@pytest.mark.parametrize("target", re.findall(r"^([a-z-]+):.*##", MAKEFILE, flags=re.MULTILINE))
def test_every_make_target_is_in_the_reference(target):
    assert f"`make {target}`" in REFERENCE


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_is_in_the_reference(group, choice):
    _, _, section = REFERENCE.partition(f"### {group}\n")
    assert f"| `{choice}`" in section.partition("### ")[0]


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_key_is_in_the_reference(key):
    assert f"| `{key}` |" in REFERENCE


@pytest.mark.parametrize("column", [column.name for column in COLUMNS])
def test_every_column_is_in_the_reference(column):
    _, _, section = REFERENCE.partition("## Columns of summary.csv")
    assert f"| `{column}` |" in section


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_is_in_the_reference(launcher):
    _, _, section = REFERENCE.partition("## Launchers")
    assert f"| `{launcher}` |" in section


@pytest.mark.parametrize(
    "error", [name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)]
)
def test_every_error_is_in_the_reference(error):
    assert f"| `{error}` |" in REFERENCE


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
