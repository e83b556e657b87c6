"""Which digits a configuration comes to."""

import subprocess
import sys

import pytest

from digits_sweep.config import DataConfig
from digits_sweep.data.loading import make_ready
from digits_sweep.data.mnist import DataUnavailable

NOWHERE = "http://127.0.0.1:9/"


def data_config(root, fallback) -> DataConfig:
    return DataConfig(
        name="mnist", batch_size=20, num_workers=0, scale="unit", root=str(root), mirrors=[NOWHERE],
        timeout_seconds=1.0, fallback=fallback,
    )  # fmt: skip


def test_the_sample_stands_in_where_no_mirror_answers_and_the_reason_is_kept(tmp_path):
    digits, note = make_ready(data_config(tmp_path, "mnist_sample"), lambda line: None)
    assert digits.name == "mnist_sample"
    assert NOWHERE in note


def test_without_a_fallback_nothing_stands_in(tmp_path):
    with pytest.raises(DataUnavailable, match=NOWHERE):
        make_ready(data_config(tmp_path, None), lambda line: None)


def test_a_torchvision_that_does_not_match_torch_is_named_with_the_remedy(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from digits_sweep.data.torchvision_import import import_torchvision, MismatchedTorchvision\n"
        "try:\n    import_torchvision()\nexcept MismatchedTorchvision as error:\n    print(error)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert "operator torchvision::nms does not exist" in told
    assert "pip install --force-reinstall torch torchvision" in told
