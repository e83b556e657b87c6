"""The pages of the docs, the code in them, and what the program declares that they should name."""

import re
import shlex
from pathlib import Path

from omegaconf import OmegaConf

from digits_sweep.config.keys import declared

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "README.pt-BR.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
TEXT = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
INLINE = r"`([^`\n]+)`"


def code_in(text: str) -> list[str]:
    """Return inline code and indented lines, without comments (two spaces and `#`)."""
    without_blocks = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    +(\S.+)$", without_blocks, flags=re.MULTILINE)
    return re.findall(INLINE, without_blocks) + [line.partition("  #")[0].strip() for line in indented]


CODE = {name: code_in(text) for name, text in TEXT.items()}
ALL_CODE = [code for codes in CODE.values() for code in codes]


def commands(module: str) -> list[str]:
    """Return every command that starts `module`, whichever Python it names, but for those that end with `...`."""
    pattern = rf"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?python -m {re.escape(module)}( |$)"
    return sorted({code for code in ALL_CODE if re.match(pattern, code) and "..." not in code})


def arguments_of(command: str) -> list[str]:
    """Return the arguments of the module that a command starts."""
    words = shlex.split(command)
    return words[words.index("-m") + 2 :]


# Group and name of every choice.
CHOICES = sorted(
    (path.parent.relative_to(ROOT / "conf").as_posix(), path.stem)
    for path in (ROOT / "conf").rglob("*/*.yaml")
    if "hydra" not in path.parts
)


def _keys_in(path: Path) -> list[str]:
    return list(OmegaConf.to_container(OmegaConf.load(path)) or {})


# A run's keys, those of trackers, which their YAML files declare, and those of the search.
KEYS = (
    {key for key in declared() if not key.endswith(".name") and key != "tracker"}
    | {f"tracker.{each.stem}.{key}" for each in (ROOT / "conf/tracker").glob("*.yaml") for key in _keys_in(each)}
    | {f"tune.{key}" for key in _keys_in(ROOT / "conf/tune.yaml")}
    | {f"critical.{key}" for key in _keys_in(ROOT / "conf/critical_batch_size.yaml")}
)
