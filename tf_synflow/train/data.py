"""Image-classification data, kept in memory and batched by tf.data."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tf_synflow.errors import QuantityError
from tf_synflow.train import augment as augmentation
from tf_synflow.train import tfds_source

EMBEDDED = "digits"
KNOWN = (EMBEDDED, "mnist", "cifar10", "cifar100")
# Sets for which mirroring and shifting keep the class; others are not augmented.
CROPPED_AND_FLIPPED = ("cifar10", "cifar100")


@dataclass(frozen=True)
class Data:
    """A data set, split in two, and how to batch it.

    Attributes:
      name: The name it was loaded by.
      provenance: Where it came from, in words.
      arrays: The decoded images and labels.
      batch_size: Images in a training batch; what is left of an epoch is dropped.
      seed: The order of the images and the augmentation follow from it.
      augmented: Whether training images are cropped and mirrored.
    """

    name: str
    arrays: tfds_source.Arrays = field(repr=False)
    batch_size: int
    seed: int
    augmented: bool

    @property
    def provenance(self) -> str:
        return self.arrays.provenance

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.arrays.train_images.shape[1:]

    @property
    def num_classes(self) -> int:
        return self.arrays.num_classes

    @property
    def train_size(self) -> int:
        return len(self.arrays.train_labels)

    @property
    def test_size(self) -> int:
        return len(self.arrays.test_labels)

    @property
    def steps_per_epoch(self) -> int:
        return self.train_size // self.batch_size

    @cached_property
    def normalisation(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the raw training pixels, one of each per channel.

        Batches hold (pixel − mean) / deviation, and so must the input of an exported model.
        """
        channels = np.moveaxis(self.arrays.train_images, -1, 0)
        # By histogram: exact, and without a float copy of the whole set.
        counts = np.stack([np.bincount(c.ravel(), minlength=256) for c in channels])
        levels = np.arange(256)
        mean = counts @ levels / counts.sum(axis=1)
        variance = counts @ levels**2 / counts.sum(axis=1) - mean**2
        return mean.astype(np.float32), np.sqrt(np.maximum(variance, 1.0)).astype(np.float32)

    def train_batches(self, first_epoch: int = 0) -> Any:
        """Endless batches of (images float32, labels int64), `steps_per_epoch` of them an epoch.

        The batches of an epoch depend on the seed and the epoch's number alone, so a run that is
        taken up at `first_epoch` sees what it would have seen.
        """
        import tensorflow as tf

        images = tf.constant(self.arrays.train_images)
        labels = tf.constant(self.arrays.train_labels)

        def indices_of(epoch):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self.train_size), seed=tf.stack([tf.cast(self.seed, tf.int64), epoch])
            )
            batches = tf.data.Dataset.from_tensor_slices(order)
            batches = batches.batch(self.batch_size, drop_remainder=True).enumerate()
            return batches.map(lambda step, indices: (epoch, step, indices))

        def batch_of(epoch, step, indices):
            batch = tf.gather(images, indices)
            if self.augmented:
                seed = tf.stack([self.seed + step * 1_000_003, epoch])
                batch = augmentation.crop_and_flip(batch, seed)
            return self._normalised(batch), tf.gather(labels, indices)

        epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int32).max)
        batches = epochs.flat_map(indices_of)
        return batches.map(batch_of, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4)

    def test_batches(self) -> Any:
        """All test images once, in order."""
        import tensorflow as tf

        examples = (self.arrays.test_images, self.arrays.test_labels)
        batches = tf.data.Dataset.from_tensor_slices(examples).batch(self.batch_size)
        batches = batches.map(lambda images, labels: (self._normalised(images), labels))
        return batches.prefetch(4)

    def _normalised(self, images):
        import tensorflow as tf

        mean, deviation = self.normalisation
        return (tf.cast(images, tf.float32) - mean) / deviation


def load(
    name: str,
    *,
    data_dir: str | None = None,
    batch_size: int = 128,
    seed: int = 0,
    augment: bool = True,
    image_size: int | None = None,
    verbose: bool = True,
) -> Data:
    """Loads a data set into memory.

    Args:
      name: `"digits"` (in scikit-learn, no download), or the name of an image-classification set
        of TensorFlow Datasets, such as `"mnist"`, `"cifar10"` or `"cifar100"`.
      data_dir: The folder that holds the TFDS sets, or takes the download; default: TFDS's own.
      batch_size: Images in a batch, from 1 to the size of the training set.
      seed: Order and augmentation follow from it.
      augment: Crop and mirror training images, where the set is known to allow it (CIFAR).
      image_size: Side in pixels that TFDS images are resized to; must be given for sets whose
        images vary in size.
      verbose: Show a progress bar while reading.

    Returns:
      The data set.

    Raises:
      UnknownNameError: There is no set of this name.
      DataError: See `tfds_source.read`.
      QuantityError: `batch_size` or `image_size` is out of range.

    Example:
      >>> data = load("digits", batch_size=64)
      >>> data.input_shape, data.num_classes, data.train_size, data.test_size
      ((8, 8, 1), 10, 1437, 360)
    """
    if image_size is not None and image_size < 1:
        raise QuantityError(f"image_size received: {image_size!r}; expected at least 1 pixel.")
    if name == EMBEDDED:
        if image_size is not None:
            raise QuantityError(
                f"image_size received: {image_size!r}, with the data set 'digits', which is 8x8; "
                "leave it out."
            )
        arrays = _digits()
    else:
        arrays = tfds_source.read(name, data_dir, image_size, KNOWN, verbose)
    if not 1 <= batch_size <= len(arrays.train_labels):
        raise QuantityError(
            f"batch_size received: {batch_size!r}; expected 1 to {len(arrays.train_labels)}, the "
            f"size of {name}'s training set."
        )
    return Data(name, arrays, batch_size, seed, augment and name in CROPPED_AND_FLIPPED)


def _digits() -> tfds_source.Arrays:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    # Not the run's seed: the test set is the same in every run.
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=360, stratify=labels, random_state=0
    )
    return tfds_source.Arrays(
        train_images,
        train_labels,
        test_images,
        test_labels,
        num_classes=10,
        provenance="scikit-learn's digits (UCI, 8x8), 1437 / 360 images, stratified",
    )
