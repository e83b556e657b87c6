"""Which digits a configuration comes to."""

from collections.abc import Iterator

import pytest

from digits_sweep.config.schema import DataConfig
from digits_sweep.data.loading import make_ready
from digits_sweep.data.mnist import DataUnavailable
from tests.mirror import nobody_there


def data_config(root, mirrors: list[str], fallback: str | None = None, name: str = "mnist") -> DataConfig:
    return DataConfig(
        name=name, batch_size=20, num_workers=0, scale="unit", root=str(root), mirrors=mirrors,
        timeout_seconds=1.0, fallback=fallback,
    )  # fmt: skip


@pytest.fixture
def silent() -> Iterator[str]:
    with nobody_there() as address:
        yield address


def test_the_digits_asked_for_come_without_a_note(tmp_path, mnist_archives):
    digits, note = make_ready(data_config(tmp_path, [mnist_archives.as_uri()], "mnist_sample"), lambda line: None)
    assert (digits.name, note) == ("mnist", None)


def test_the_sample_can_be_asked_for_by_name_and_needs_no_mirror(tmp_path):
    digits, note = make_ready(data_config(tmp_path, [], name="mnist_sample"), lambda line: None)
    assert (digits.name, note) == ("mnist_sample", None)


def test_the_sample_stands_in_where_no_mirror_answers_and_the_reason_is_kept(tmp_path, silent):
    digits, note = make_ready(data_config(tmp_path, [silent], "mnist_sample"), lambda line: None)
    assert digits.name == "mnist_sample"
    assert note.startswith("mnist could not be had: ")
    assert f"{silent}: Connection refused" in note


def test_without_a_fallback_nothing_stands_in(tmp_path, silent):
    with pytest.raises(DataUnavailable, match=f"{silent}: Connection refused"):
        make_ready(data_config(tmp_path, [silent]), lambda line: None)
