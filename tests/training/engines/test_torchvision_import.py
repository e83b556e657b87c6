"""A torchvision that was built for another torch is named, with what to do, when the lesson's engine needs it."""

import sys
from importlib.metadata import version

import pytest

from digits_sweep.errors import MismatchedTorchvision
from digits_sweep.training.engines.eager import import_transforms


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Put a torchvision first on the path that fails as a line of code does."""

    def write(line: str) -> None:
        (tmp_path / "torchvision").mkdir()
        (tmp_path / "torchvision" / "__init__.py").write_text(line)
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)

    return write


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("RuntimeError", "operator torchvision::nms does not exist"),
        ("ImportError", "libcudart.so.13: cannot open shared object file"),
    ],
)
def test_it_is_named_with_both_versions_the_reason_and_the_remedy(broken, error, reason):
    broken(f"raise {error}({reason!r})")
    with pytest.raises(MismatchedTorchvision) as refusal:
        import_transforms()
    assert str(refusal.value) == (
        f"torch {version('torch')} and torchvision {version('torchvision')} do not work together ({reason}); "
        "install both from the same place: pip install --force-reinstall torch torchvision"
    )


def test_a_missing_torchvision_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MismatchedTorchvision, match=r"^torchvision is not installed; pip install torch torchvision$"):
        import_transforms()


def test_another_module_that_is_missing_is_not_blamed_on_torchvision(broken):
    broken("import no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_transforms()
