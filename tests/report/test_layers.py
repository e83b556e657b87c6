"""Analysis computes and draws nothing; tables, figures and page draw and compute nothing; nothing here needs torch."""

import ast
from pathlib import Path

import pytest

REPORT = Path(__file__).parents[2] / "digits_sweep" / "report"
DRAWING = tuple(f"digits_sweep.report.{name}" for name in ("tables", "figures", "pictures", "page"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(
    ("modules", "never"),
    [
        ("analysis/**/*.py", ("matplotlib", "jinja2", *DRAWING)),
        ("[!a]*/*.py", ("scipy", "statistics")),
        ("*.py", ("scipy", "statistics")),
        ("**/*.py", ("torch", "hydra", "omegaconf")),
    ],
)
def test_analysis_draws_nothing_and_drawing_computes_nothing(modules, never):
    found = sorted((path.name, name) for path in REPORT.glob(modules) for name in imports(path))
    assert found
    assert [each for each in found if each[1].startswith(never)] == []
