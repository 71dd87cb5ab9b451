"""Data: what batches hold, that they follow from the seed, and what is wrong with a folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tf_synflow.errors import DataError, QuantityError, UnknownNameError
from tf_synflow.train import augment, data

TFDS = Path(__file__).resolve().parents[2] / "shared" / "tfds"
needs_tfds = pytest.mark.skipif(not TFDS.is_dir(), reason=f"no data sets in {TFDS}")


def take(batches, count):
    return [(x.numpy(), y.numpy()) for x, y in batches.take(count)]


def equal(a, b):
    return len(a) == len(b) and all(
        np.array_equal(p, q) for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True)
    )


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", batch_size=64)


@pytest.fixture
def mnist_folder(tmp_path):
    """A writable copy of MNIST's folder."""
    if not TFDS.is_dir():
        pytest.skip(f"no data sets in {TFDS}")
    shutil.copytree(TFDS / "mnist", tmp_path / "mnist")
    version = tmp_path / "mnist" / "3.0.1"
    for path in (version, *version.iterdir()):
        path.chmod(0o755)
    return version


def test_digits(digits):
    assert digits.input_shape == (8, 8, 1)
    assert (digits.num_classes, digits.train_size, digits.test_size) == (10, 1437, 360)
    assert digits.steps_per_epoch == 22
    # Stratified: every class has its share of the test set.
    assert np.bincount(digits.arrays.test_labels).min() >= 34
    assert "scikit-learn" in digits.provenance


def test_the_digits_test_set_does_not_depend_on_the_seed(digits):
    other = data.load("digits", seed=5)
    np.testing.assert_array_equal(other.arrays.test_images, digits.arrays.test_images)


def test_training_batches_are_normalised_and_cover_the_epoch_once(digits):
    batches = take(digits.train_batches(), digits.steps_per_epoch)
    images = np.concatenate([x for x, _ in batches])
    assert images.shape == (1408, 8, 8, 1)
    assert images.dtype == np.float32
    assert images.mean() == pytest.approx(0, abs=0.02)
    assert images.std() == pytest.approx(1, abs=0.02)
    mean, deviation = digits.normalisation
    raw = np.round(images * deviation + mean).astype(np.uint8).reshape(1408, -1)
    every = digits.arrays.train_images.reshape(1437, -1)
    counts = {row.tobytes(): 0 for row in every}
    for row in every:
        counts[row.tobytes()] += 1
    for row in raw:
        counts[row.tobytes()] -= 1
    assert min(counts.values()) >= 0
    assert sum(counts.values()) == 1437 - 1408


def test_batches_follow_from_seed_and_epoch(digits):
    steps = digits.steps_per_epoch
    three_epochs = take(digits.train_batches(), 3 * steps)
    assert equal(take(digits.train_batches(first_epoch=2), steps), three_epochs[2 * steps :])
    assert not equal(three_epochs[:steps], three_epochs[steps : 2 * steps])
    other = data.load("digits", batch_size=64, seed=1)
    assert not equal(take(other.train_batches(), 1), three_epochs[:1])


def test_test_batches_are_all_images_in_order(digits):
    labels = np.concatenate([y for _, y in digits.test_batches().as_numpy_iterator()])
    np.testing.assert_array_equal(labels, digits.arrays.test_labels)


def test_normalisation_equals_numpys(digits):
    mean, deviation = digits.normalisation
    assert mean[0] == pytest.approx(digits.arrays.train_images.mean(), rel=1e-6)
    assert deviation[0] == pytest.approx(digits.arrays.train_images.std(), rel=1e-6)


def test_crop_and_flip_shifts_by_at_most_four_and_mirrors():
    image = np.arange(1, 1 + 8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    batch = tf.constant(np.stack([image] * 400))
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    views = {}
    for top in range(9):
        for left in range(9):
            view = padded[top : top + 8, left : left + 8]
            views[view.tobytes()] = (top, left, False)
            views[view[:, ::-1].tobytes()] = (top, left, True)
    seen = [
        views[np.asarray(i).tobytes()] for i in augment.crop_and_flip(batch, tf.constant([1, 2]))
    ]
    assert {top for top, _, _ in seen} == set(range(9))
    assert {left for _, left, _ in seen} == set(range(9))
    assert 150 < sum(flip for _, _, flip in seen) < 250
    again = augment.crop_and_flip(batch, tf.constant([1, 2]))
    np.testing.assert_array_equal(again, augment.crop_and_flip(batch, tf.constant([1, 2])))
    assert np.any(again != augment.crop_and_flip(batch, tf.constant([1, 3])))


@needs_tfds
def test_mnist_from_tfds():
    mnist = data.load("mnist", data_dir=str(TFDS), verbose=False)
    assert mnist.input_shape == (28, 28, 1)
    assert (mnist.train_size, mnist.test_size, mnist.num_classes) == (60_000, 10_000, 10)
    assert not mnist.augmented
    assert mnist.normalisation[0][0] / 255 == pytest.approx(0.1307, abs=1e-4)
    assert mnist.normalisation[1][0] / 255 == pytest.approx(0.3081, abs=1e-4)


@needs_tfds
@pytest.mark.slow
def test_cifar10_from_tfds_is_augmented_in_training_only():
    cifar = data.load("cifar10", data_dir=str(TFDS), verbose=False)
    assert cifar.input_shape == (32, 32, 3)
    assert (cifar.train_size, cifar.test_size) == (50_000, 10_000)
    assert cifar.augmented
    np.testing.assert_allclose(cifar.normalisation[0] / 255, [0.491, 0.482, 0.447], atol=0.01)
    first = take(cifar.test_batches(), 1)
    assert equal(first, take(cifar.test_batches(), 1))
    first_epoch, second_epoch = (take(cifar.train_batches(e), 1) for e in (0, 1))
    assert equal(first_epoch, take(cifar.train_batches(0), 1))
    assert not equal(first_epoch, second_epoch)


@pytest.fixture
def squares(tmp_path):
    """A TFDS folder of its own: white squares of two sizes, one split only."""
    import tensorflow_datasets as tfds

    tfds.dataset_builders.store_as_tfds_dataset(
        name="squares",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=2),
            }
        ),
        split_datasets={
            "train": [
                (i, {"image": np.full((20 + i % 2,) * 2 + (3,), 255, np.uint8), "label": i % 2})
                for i in range(50)
            ]
        },
        data_dir=tmp_path,
    )
    return str(tmp_path)


def test_any_tfds_set_is_resized_and_split(squares):
    found = data.load("squares", data_dir=squares, image_size=16, batch_size=8, verbose=False)
    assert found.input_shape == (16, 16, 3)
    assert (found.train_size, found.test_size, found.num_classes) == (40, 10, 2)
    assert (found.arrays.train_images == 255).all()
    assert not found.augmented


def test_images_of_varying_size_need_image_size(squares):
    with pytest.raises(DataError, match="vary in size.*image_size=64"):
        data.load("squares", data_dir=squares)


def test_sets_larger_than_memory_are_refused(squares):
    with pytest.raises(DataError, match="GiB.*smaller image_size"):
        data.load("squares", data_dir=squares, image_size=10_000)


def test_unknown_names_are_answered_with_close_ones(tmp_path):
    with pytest.raises(UnknownNameError, match="'cifar11'.*cifar10.*digits"):
        data.load("cifar11", data_dir=str(tmp_path))


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="nowhere.*Correct the path"):
        data.load("mnist", data_dir=str(tmp_path / "nowhere"))


def test_no_network_leaves_no_folder(tmp_path, monkeypatch):
    def no_name(*_args):
        raise OSError("Name or service not known")

    # As on a machine without a network, whichever machine this runs on.
    monkeypatch.setattr("socket.getaddrinfo", no_name)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(DataError, match="could not be downloaded.*data_dir=.*'digits'"):
        data.load("cifar100", data_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_interrupted_download(mnist_folder):
    (mnist_folder / "dataset_info.json").unlink()
    with pytest.raises(DataError, match="incomplete.*Delete it"):
        data.load("mnist", data_dir=str(mnist_folder.parents[1]))


def test_missing_shard(mnist_folder):
    (mnist_folder / "mnist-test.tfrecord-00000-of-00001").unlink()
    with pytest.raises(DataError, match=r"'test' of 'mnist'.*No such file"):
        data.load("mnist", data_dir=str(mnist_folder.parents[1]), verbose=False)


def test_truncated_shard(mnist_folder):
    with open(mnist_folder / "mnist-train.tfrecord-00000-of-00001", "r+b") as file:
        file.truncate(100_000)
    with pytest.raises(DataError, match=r"'train' of 'mnist'.*truncated"):
        data.load("mnist", data_dir=str(mnist_folder.parents[1]), verbose=False)


@pytest.mark.parametrize("name", ["coco", "imdb_reviews"])
def test_not_a_classification_set(name, tmp_path):
    with pytest.raises(DataError, match="not an image-classification set"):
        data.load(name, data_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("batch_size", [0, 1438])
def test_batch_size_out_of_range(batch_size):
    with pytest.raises(QuantityError, match="batch_size.*1437"):
        data.load("digits", batch_size=batch_size)


def test_image_size_out_of_range():
    with pytest.raises(QuantityError, match="image_size"):
        data.load("mnist", image_size=0)
    with pytest.raises(QuantityError, match="leave it out"):
        data.load("digits", image_size=16)
