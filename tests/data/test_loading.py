"""Which data set a configuration gets, and what the two hold that come with a package."""

import pytest
import torch
from torch import Tensor

from digits_sweep.config.schema import DataConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import DATASETS, DataSet, load, load_optdigits, load_sample, make_ready
from digits_sweep.errors import DataUnavailable
from tests.mirror import load_mnist, nobody_there


def config(root, *mirrors: str, fallback: str | None = None, name: str = "mnist") -> DataConfig:
    return DataConfig(name, 10, 20, 0, "unit", str(root), list(mirrors), 60.0, fallback)


def ignore(line: str) -> None:
    """Take a report that the test is not about."""


@pytest.mark.parametrize("name", ["mnist", "mnist_sample", "optdigits"])
def test_the_data_set_asked_for_comes_without_a_note_in_the_size_that_it_declares(name, request, tmp_path):
    root = request.getfixturevalue("mnist_root") if name == "mnist" else tmp_path
    digits, note = make_ready(config(root, name=name, fallback="mnist_sample"), ignore)
    assert (digits.name, note, digits.image_shape) == (name, None, DATASETS[name].image_shape)
    declared = DATASETS[name].train_samples, DATASETS[name].test_samples
    assert (len(digits.train_labels), len(digits.test_labels)) == declared


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


# Those that come with a package


def labels_of(images: Tensor, labels: Tensor) -> dict[bytes, int]:
    return {image.numpy().tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}


def test_the_sample_is_on_every_machine_400_digits_of_a_class_to_train_on_and_100_others_to_test_with():
    sample = load_sample()
    assert sample.digest == "1adea2bf696df09fb537ae9fc206f06148e1418f4056078698956974c05e9c65"
    assert sample.train_labels.bincount().tolist() == [400] * 10
    assert sample.test_labels.bincount().tolist() == [100] * 10
    train = labels_of(sample.train_images, sample.train_labels)
    assert not train.keys() & labels_of(sample.test_images, sample.test_labels).keys()


@pytest.mark.full
def test_every_digit_of_the_sample_is_one_of_mnists_with_its_own_label(mnist_root):
    sample, mnist = load_sample(), load_mnist(mnist_root)
    published = labels_of(mnist.train_images, mnist.train_labels) | labels_of(mnist.test_images, mnist.test_labels)
    assert labels_of(sample.train_images, sample.train_labels).items() <= published.items()
    assert labels_of(sample.test_images, sample.test_labels).items() <= published.items()


def test_optdigits_are_scikit_learns_in_its_order():
    from sklearn.datasets import load_digits

    digits, theirs = load_optdigits(), load_digits()
    images = torch.cat([digits.train_images, digits.test_images])
    assert torch.equal((images.double() * 16 / 255).round(), torch.from_numpy(theirs.images))
    assert torch.cat([digits.train_labels, digits.test_labels]).tolist() == theirs.target.tolist()
    assert digits.digest == "eaa9834de03c5a5ab5b2e0d1d7b16b2f02b453c1871a3a71f8b2a016964dfb4d"
