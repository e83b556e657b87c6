"""MNIST and the data sets that have its form: what was published, and where it is to be had."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from digits_sweep.data.digits import Digits
from digits_sweep.data.published.archives import Published
from digits_sweep.data.published.on_disk import load_published


def _published(title: str, name: str, mirrors: Sequence[str], md5s: Sequence[str], **more: Any) -> Published:
    """Return a data set with MNIST's names of archives, and their md5 in MNIST's order."""
    archives = dict(zip(NAMES, md5s, strict=True))
    return Published(name, title, archives, NAMES, tuple(mirrors), **more)


NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

# The md5 of every archive is torchvision's.
MNIST = _published(
    "MNIST",
    "mnist",
    ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"],
    [
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ],
    unpacked={
        "train-images-idx3-ubyte": (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        "train-labels-idx1-ubyte": (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        "t10k-images-idx3-ubyte": (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        "t10k-labels-idx1-ubyte": (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    },
)
FASHION_MNIST = _published(
    "FashionMNIST",
    "fashion_mnist",
    ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"],
    [
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ],
)
KMNIST = _published(
    "KMNIST",
    "kmnist",
    ["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
    [
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ],
)
QMNIST = Published(
    "qmnist",
    "QMNIST",
    archives={
        "qmnist-train-images-idx3-ubyte.gz": "ed72d4157d28c017586c42bc6afe6370",
        "qmnist-train-labels-idx2-int.gz": "0058f8dd561b90ffdd0f734c6a30e5e4",
        "qmnist-test-images-idx3-ubyte.gz": "1394631089c404de565df7b7aeaf9412",
        "qmnist-test-labels-idx2-int.gz": "5b5b05890a5e13444e108efe57b788aa",
    },
    parts=(
        "qmnist-train-images-idx3-ubyte.gz",
        "qmnist-train-labels-idx2-int.gz",
        "qmnist-test-images-idx3-ubyte.gz",
        "qmnist-test-labels-idx2-int.gz",
    ),
    mirrors=("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
)


def _emnist(split: str, first_label: int) -> Published:
    """Return a split of EMNIST. One archive of 562 MB holds them all; their images lie on their side."""
    start = f"gzip.zip/gzip/emnist-{split}"
    return Published(
        f"emnist_{split}",
        "EMNIST",
        archives={"gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"},
        parts=(
            f"{start}-train-images-idx3-ubyte.gz",
            f"{start}-train-labels-idx1-ubyte.gz",
            f"{start}-test-images-idx3-ubyte.gz",
            f"{start}-test-labels-idx1-ubyte.gz",
        ),
        mirrors=("https://biometrics.nist.gov/cs_links/EMNIST/",),
        first_label=first_label,
        transposed=True,
        most_bytes=2**30,
    )


EMNIST_DIGITS, EMNIST_LETTERS = _emnist("digits", first_label=0), _emnist("letters", first_label=1)


def load_mnist(
    root: Path, mirrors: Sequence[str] | None, timeout_seconds: float = 10.0, report: Callable[[str], None] = print
) -> Digits:
    """Load MNIST, 60,000 digits for training and 10,000 for testing, as `load_published` does."""
    return load_published(MNIST, root, mirrors, timeout_seconds, report)
