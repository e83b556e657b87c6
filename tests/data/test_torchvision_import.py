"""A torchvision that was built for another torch is named, with what to do, wherever it is first needed."""

import importlib
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from digits_sweep.data.published import import_torchvision
from digits_sweep.errors import MismatchedTorchvision

REASONS = {
    "RuntimeError": "operator torchvision::nms does not exist",
    "ImportError": "libcudart.so.13: cannot open shared object file",
}


@pytest.fixture(params=REASONS)
def remedy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of the torchvision that is now the first on the path, which fails when it is imported."""
    reason = REASONS[request.param]
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise {request.param}({reason!r})\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    return (
        f"torch {version('torch')} and torchvision {version('torchvision')} do not work together ({reason}); "
        "install both from the same place: pip install --force-reinstall torch torchvision"
    )


def test_it_is_named_with_both_versions_the_reason_and_the_remedy(remedy):
    with pytest.raises(MismatchedTorchvision) as refusal:
        import_torchvision()
    assert str(refusal.value) == remedy


def test_a_missing_torchvision_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MismatchedTorchvision, match=r"^torchvision is not installed; pip install torch torchvision$"):
        import_torchvision()


def test_another_module_that_is_missing_is_not_blamed_on_torchvision():
    with pytest.raises(ModuleNotFoundError, match=r"torchvision\.nothing"):
        import_torchvision("torchvision.nothing")
