"""Image-classification sets of TensorFlow Datasets, read into memory as uint8."""

import difflib
import shutil
import socket
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from tf_synflow import progress
from tf_synflow.errors import DataError, UnknownNameError

# Sets are kept decoded in memory, so that an epoch costs no decoding.
MEMORY_LIMIT_BYTES = 4 * 2**30
READ_BATCH = 500


class Arrays(NamedTuple):
    """A decoded set: images (n, height, width, channels) uint8, labels (n,) int64."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    num_classes: int
    provenance: str


def read(
    name: str, data_dir: str | None, image_size: int | None, known: tuple[str, ...], verbose: bool
) -> Arrays:
    """Reads a set from `data_dir`, after TFDS has downloaded it there if it was absent.

    Raises:
      UnknownNameError: TFDS has no such set.
      DataError: The folder is missing or incomplete, the download failed, the set is not for
        image classification, too large for memory, or of varying image size without
        `image_size`.
    """
    builder = _builder(name, data_dir, known)
    shape = _image_shape(builder, image_size)  # before a download that would be in vain
    _prepare(builder)
    train, test = _splits(builder)
    arrays = [
        part
        for split in (train, test)
        for part in _read_split(builder, split, shape, image_size, verbose)
    ]
    num_classes = builder.info.features["label"].num_classes
    provenance = f"TFDS {builder.info.full_name}, {train} / {test}, from {builder.data_dir}"
    return Arrays(*arrays, num_classes, provenance)


def _builder(name: str, data_dir: str | None, known: tuple[str, ...]):
    import tensorflow_datasets as tfds

    if data_dir and not Path(data_dir).expanduser().is_dir():
        raise DataError(
            f"data_dir received: {data_dir!r}, which is no folder; expected the folder that holds "
            "TFDS data sets. Correct the path, or create the folder to download into it."
        )
    try:
        return tfds.builder(name, data_dir=data_dir and str(Path(data_dir).expanduser()))
    except tfds.core.DatasetNotFoundError as error:
        close = difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False))
        raise UnknownNameError(
            "data set", name, {*known, *close, "any image-classification set of TFDS"}
        ) from error


def _prepare(builder) -> None:
    """Downloads the set unless it is there; a failed download leaves no folder behind."""
    if builder.is_prepared():
        return
    folder = Path(builder.data_dir)
    if folder.exists():
        raise DataError(
            f"{folder} is incomplete (no dataset_info.json), as an interrupted download or "
            "copy leaves it; expected a finished TFDS folder. Delete it and run again."
        )
    root = Path(builder.data_dir_root)
    created = [path for path in (*folder.parents, root / "downloads") if not path.exists()]
    try:
        _check_network(builder)
        builder.download_and_prepare()
    except BaseException as error:  # Ctrl-C too
        # TFDS itself removes the unfinished folder, but not those around it.
        for path in created:
            shutil.rmtree(path, ignore_errors=True)
        if not isinstance(error, Exception):
            raise
        raise DataError(
            f"{builder.name!r} is not in {root} and could not be downloaded there: "
            f"{type(error).__name__}: {error}. Expected a network connection or a prepared "
            "folder: pass data_dir=<folder that holds it>, or use the data set 'digits', which "
            "needs neither."
        ) from error


def _check_network(builder) -> None:
    """Fails at once where TFDS would retry for minutes: the set's own host cannot be resolved."""
    hosts = {urlsplit(url).hostname for url in builder.url_infos}
    if hosts and not urllib.request.getproxies():
        socket.getaddrinfo(sorted(filter(None, hosts))[0], None)


def _image_shape(builder, image_size: int | None) -> tuple[int, int, int]:
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    is_classification = isinstance(features.get("image"), tfds.features.Image) and isinstance(
        features.get("label"), tfds.features.ClassLabel
    )
    if not is_classification:
        received = ", ".join(features)
        raise DataError(
            f"{builder.name!r} is not an image-classification set: its features are {received}; "
            "expected 'image' (an Image) and 'label' (a ClassLabel). Choose another set."
        )
    height, width, channels = features["image"].shape
    if image_size is not None:
        height = width = image_size
    if height is None or width is None:
        raise DataError(
            f"The images of {builder.name!r} vary in size; expected one size. Say which they "
            "should be resized to: image_size=64 (on the command line --image_size=64)."
        )
    if features["image"].np_dtype != np.uint8 or channels not in (1, 3):
        raise DataError(
            f"The images of {builder.name!r} have {channels} channels of "
            f"{np.dtype(features['image'].np_dtype).name}; expected 1 or 3 of uint8. Choose "
            "another set."
        )
    return height, width, channels


def _splits(builder) -> tuple[str, str]:
    splits = builder.info.splits
    if "train" not in splits:
        raise DataError(
            f"{builder.name!r} has the splits {', '.join(splits)}; expected 'train' among them."
        )
    for test in ("test", "validation"):
        if test in splits:
            return "train", test
    return "train[:80%]", "train[80%:]"


def _read_split(
    builder, split: str, shape: tuple[int, int, int], image_size: int | None, verbose: bool
):
    import tensorflow as tf

    count = builder.info.splits[split].num_examples
    if count * int(np.prod(shape)) > MEMORY_LIMIT_BYTES:
        raise DataError(
            f"{builder.name!r} needs {count * np.prod(shape) / 2**30:.1f} GiB for {count} images "
            f"of shape {shape}; expected at most {MEMORY_LIMIT_BYTES / 2**30:.0f} GiB, as sets are "
            "kept in memory. Use a smaller image_size."
        )
    images = np.empty((count, *shape), np.uint8)
    labels = np.empty(count, np.int64)

    def image_and_label(record):
        image = record["image"]
        if image_size is not None:
            image = tf.image.resize(image, shape[:2], antialias=True)
            image = tf.cast(tf.round(image), tf.uint8)
        return image, record["label"]

    filled = 0
    try:
        records = builder.as_dataset(split=split)
        records = records.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE)
        title = f"Reading {builder.name} {split}"
        with progress.bar(total=count, desc=title, verbose=verbose and "auto") as bar:
            for batch_images, batch_labels in records.batch(READ_BATCH).as_numpy_iterator():
                end = filled + len(batch_images)
                images[filled:end] = batch_images
                labels[filled:end] = batch_labels
                bar.update(end - filled)
                filled = end
    except (tf.errors.OpError, OSError, ValueError) as error:
        raise _damaged(builder, split, str(error).splitlines()[0]) from error
    if filled != count:
        raise _damaged(builder, split, f"it holds {filled} of {count} records")
    return images, labels


def _damaged(builder, split: str, reason: str) -> DataError:
    return DataError(
        f"Split {split!r} of {builder.name!r} in {builder.data_dir} cannot be read: {reason}. "
        "Expected a finished TFDS folder; delete it and run again, to download it anew."
    )
