"""The notebooks for Colab: each cell runs, in a kernel, and shows what it says."""

import ast
import json
import re

import pytest

from digits_sweep.report.vega import MIME
from tests.documents import ROOT

NOTEBOOKS = PORTUGUESE, _ = [ROOT / "docs" / name for name in ("colab.pt-BR.ipynb", "colab.ipynb")]


def code_of(path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_both_notebooks_do_the_same_but_for_the_language():
    portuguese, english = ("\n".join(code_of(path)) for path in NOTEBOOKS)
    portuguese = portuguese.replace('.in_language("pt-BR")', "").replace("sweep = latest()\nsweep", "latest()")
    docstring = re.compile('"""[^"]*"""')
    assert docstring.sub("", portuguese) == docstring.sub("", english)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_output_is_stored(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert path.stat().st_size < 10_000
    for code in code_of(path):
        ast.parse("" if code.startswith("%%") else re.sub(r"^%.*$", "", code, flags=re.MULTILINE))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_what_is_installed_leaves_torch_as_it_is(path):
    (install,) = (code for code in code_of(path) if "pip install" in code)
    assert '%pip install --quiet "digits-sweep @ git+{REPOSITORY}"' in install
    assert not re.search(r"--upgrade|-U|constraint|torch", install)


@pytest.mark.full
def test_every_cell_runs_and_shows_what_it_says(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(PORTUGUESE, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "install" not in cell.metadata.get("tags", [])]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    first, seeds, table, figure, page, nothing, own = ([each.get("data", {}) for each in shown] for shown in outputs)
    progress, sweep = first
    assert "completed, 5 epochs, loss" in progress["text/plain"]
    assert "<progress" not in progress["text/html"]
    reached = "cruzou 1,6 primeiro"
    assert reached in sweep["text/html"]
    assert len(seeds[0]["text/plain"].splitlines()) < 20
    assert reached in seeds[1]["text/html"]
    assert "first_epoch_below_threshold" in table[0]["text/html"]
    assert figure[0].keys() >= {MIME}
    assert "<iframe" in page[0]["text/html"]
    assert "lang=&quot;pt-BR&quot;" in page[0]["text/html"]
    assert nothing == []
    assert reached in own[1]["text/html"]
    assert ">batch_size=100</td>" in own[1]["text/html"]
    # Nothing was printed, and nothing went wrong.
    assert [each.name for shown in outputs for each in shown if each.output_type == "stream"] == []
