"""Which data set a configuration gets."""

import pytest
import torch

from digits_sweep.config.schema import DataConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import DATASETS, DataSet, load, make_ready
from digits_sweep.errors import DataUnavailable
from tests.mirror import nobody_there


def config(root, *mirrors: str, fallback: str | None = None, name: str = "mnist") -> DataConfig:
    return DataConfig(name, 10, 20, 0, "unit", str(root), list(mirrors), 60.0, fallback)


def ignore(line: str) -> None:
    """Take a report that the test is not about."""


@pytest.mark.parametrize("name", ["mnist_sample", "optdigits"])
def test_the_data_set_asked_for_comes_without_a_note(name, tmp_path):
    digits, note = make_ready(config(tmp_path, name=name, fallback="mnist_sample"), ignore)
    assert (digits.name, note) == (name, None)


def test_the_sample_stands_in_if_no_mirror_answers_and_the_note_says_why(tmp_path):
    with nobody_there() as silent:
        digits, note = make_ready(config(tmp_path, silent, fallback="mnist_sample"), ignore)
    assert digits.name == "mnist_sample"
    assert note.startswith("mnist is unavailable: ")
    assert f"{silent}: Connection refused" in note


def test_without_a_fallback_nothing_stands_in(tmp_path):
    with nobody_there() as silent, pytest.raises(DataUnavailable, match=f"{silent}: Connection refused"):
        make_ready(config(tmp_path, silent), ignore)


def test_a_name_that_no_data_set_has_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(DataUnavailable, match=r"^there is no data set nmist; choose mnist or mnist_sample or "):
        load(config(tmp_path), "nmist", ignore)


@pytest.mark.parametrize("name", ["mnist", "mnist_sample", "optdigits"])
def test_the_size_that_a_data_set_declares_is_the_one_that_it_loads(name, request, tmp_path):
    root = request.getfixturevalue("mnist_root") if name == "mnist" else tmp_path
    digits, declared = load(config(root, name=name), name, ignore), DATASETS[name]
    assert (len(digits.train_labels), len(digits.test_labels)) == (declared.train_samples, declared.test_samples)
    assert (digits.name, digits.image_shape) == (name, declared.image_shape)


def test_a_data_set_is_a_function_and_a_line_in_the_registry_and_is_read_once(tmp_path, monkeypatch):
    reads = []

    def load_noise(data: DataConfig, report) -> Digits:
        reads.append(data.root)
        images, labels = torch.zeros(6, 28, 28, dtype=torch.uint8), torch.arange(6)
        return Digits.of("noise", images, labels, images, labels)

    monkeypatch.setitem(DATASETS, "noise", DataSet(load_noise))
    noise = config(tmp_path, name="noise")
    assert make_ready(noise, ignore) == (load(noise, "noise", ignore), None)
    assert reads == [str(tmp_path)]
