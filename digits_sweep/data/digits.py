"""A data set as tensors, and the scales in which a network can see its images."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

# MNIST's training images scaled to [0, 1] have this mean and standard deviation.
MEAN, STD = 0.1307, 0.3081

# A label that counts for nothing, as PyTorch's cross-entropy has it: padding, for example.
IGNORED = -100

# In place, because 60,000 images are 188 MB and a second copy takes noticeable time and memory.
SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "unit": lambda images: images.div_(255),
    "standard": lambda images: images.div_(255).sub_(MEAN).div_(STD),
    "raw": lambda images: images,
}


@dataclass(frozen=True)
class Digits:
    """A data set on the CPU: images and labels, to train on and to test with.

    Images are (n, ...) as a network sees them: uint8, of which (n, height, width) get one channel, float32, or int64 if
    they are tokens. Labels are classes, (n,) or one for every position, (n, ...), int64; or float32. `class_names`
    are those of the user, if classes have names, and `notes` what a user ought to know of how the data were taken.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    digest: str
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image as a network sees it: (1, height, width), or whatever else an image is."""
        return tuple(_with_channel(self.train_images).shape[1:])

    @property
    def num_classes(self) -> int:
        """One more than the largest label; of float labels (n, k), k."""
        if self.train_labels.is_floating_point():
            return self.train_labels.shape[1:].numel()
        return max(len(self.class_names), 1 + int(max(self.train_labels.max(), self.test_labels.max())))

    @classmethod
    def of(
        cls, name: str, train_images: Tensor, train_labels: Tensor, test_images: Tensor, test_labels: Tensor
    ) -> "Digits":
        """Make a data set with its digest: SHA-256 over the bytes of the four tensors, in this order."""
        tensors = (train_images, train_labels, test_images, test_labels)
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.contiguous().numpy().data)
        return cls(name, *tensors, digest.hexdigest())


def scale(images: Tensor, how: str) -> Tensor:
    """Convert images (n, ...) to what a network sees: float32, the same shape, uint8 (n, height, width) with a channel.

    `how` is `unit` (0 to 1), `standard` (`unit` minus `MEAN`, divided by `STD`) or `raw` (0 to 255). Images that are
    not uint8 keep their values, tokens their type too. The result is contiguous. Raises ValueError for another `how`.
    """
    if images.dtype is torch.int64:
        return images.contiguous()
    seen = _with_channel(images).to(torch.float32)
    return scale_in_place(seen, scale_of(images, how)).contiguous()


def scale_of(images: Tensor, how: str) -> str:
    """Return the scale for `images`: `how` if they are uint8, else `raw`, which keeps values as they are."""
    return how if images.dtype is torch.uint8 else "raw"


def _with_channel(images: Tensor) -> Tensor:
    return images.unsqueeze(1) if images.dim() == 3 and images.dtype is torch.uint8 else images


def scale_in_place(images: Tensor, how: str) -> Tensor:
    """Change the values 0 to 255 of `images`, float32 of any shape, to what a network sees, as `scale` does."""
    if how not in SCALES:
        raise ValueError(f"scale={how}: choose {' or '.join(SCALES)}")
    return SCALES[how](images)


def in_words(shape: Iterable[int]) -> str:
    """Return a shape as text: 3 x 32 x 32."""
    return " x ".join(map(str, shape))
