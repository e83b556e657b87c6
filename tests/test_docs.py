"""The README is true: its commands exist, its keys exist, and nothing that can be set is missing from it."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.config.schema import AdamConfig, Config, SGDConfig
from digits_sweep.results.summary import COLUMNS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CODE = re.findall(r"`([^`\n]+)`", README) + re.findall(r"^    (.+)$", README, flags=re.MULTILINE)
SWEEPS = [code for code in CODE if re.match(r"python -m digits_sweep( |$)", code)]
CHOICES = sorted(
    (path.parent.relative_to(ROOT / "conf").as_posix(), path.stem)
    for path in (ROOT / "conf").glob("*/*.yaml")
    if path.parent.name != "hydra"
)


def keys_of(node) -> set[str]:
    found = set()
    for each in fields(node):
        inner = getattr(node, each.name, None)
        if is_dataclass(inner):
            found |= {f"{each.name}.{key}" for key in keys_of(inner)}
        else:
            found.add(each.name)
    return found


KEYS = {
    key
    for optimizer in (AdamConfig(), SGDConfig())
    for key in keys_of(Config(optimizer=optimizer))
    if not key.endswith(".name")
}


@pytest.mark.parametrize("command", SWEEPS)
def test_every_command_in_the_readme_is_one_that_works(command):
    arguments = shlex.split(command.partition("  #")[0])[3:]
    if not {"--help", "--cfg", "--version"} & set(arguments):
        assert plan(arguments).runs


def test_the_readme_shows_a_sweep():
    assert "python -m digits_sweep -m data.batch_size=100,20,5" in SWEEPS


def test_the_python_of_the_readme_runs(tmp_path):
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL))
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"MPLBACKEND": "agg"},
    )
    assert finished.returncode == 0, finished.stderr
    assert "first_epoch_below_threshold" in finished.stdout


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)", " ".join(CODE)))))
def test_every_make_target_in_the_readme_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("target", re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
def test_every_make_target_is_in_the_readme(target):
    assert f"make {target}" in README


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_of_every_group_is_in_the_readme_and_in_the_help(group, choice):
    assert f"`{choice}`" in README or f"{group}={choice}" in README
    assert choice in (ROOT / "conf" / "hydra" / "help" / "digits_sweep.yaml").read_text()


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_key_is_in_the_readme(key):
    assert f"`{key}" in README


@pytest.mark.parametrize("key", sorted(set(re.findall(r"`((?:data|model|optimizer|trainer)\.[a-z_]+)(?==|`)", README))))
def test_every_key_in_the_readme_exists(key):
    assert key in KEYS


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_of_the_summary_is_in_the_readme(column):
    assert f"`{column}`" in README
