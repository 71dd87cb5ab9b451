"""Masks: what they may hold, and the file that remembers them."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
import tf_keras
from small_models import mlp, residual, state

import tf_synflow
from tf_synflow import Masks, errors


@pytest.fixture
def masks():
    arrays = {
        "conv/kernel": np.random.RandomState(0).random_sample((3, 3, 2, 5)) < 0.3,
        "inner/dense/kernel": np.array([[1, 0], [0, 0]]),
        "odd/kernel": np.array([True, False, True]),
    }
    return Masks(arrays, {"scorer": {"name": "synflow"}, "seed": None, "schedule": {"rounds": 3}})


def test_is_a_mapping_in_the_given_order(masks):
    assert list(masks) == ["conv/kernel", "inner/dense/kernel", "odd/kernel"]
    assert masks["inner/dense/kernel"].dtype == bool
    assert masks["inner/dense/kernel"].tolist() == [[True, False], [False, False]]
    assert dict(masks).keys() == masks.keys()


def test_counts():
    masks = Masks({"a": [1, 0, 0, 0], "b": [[1, 1], [1, 1]]})
    assert (masks.size, masks.kept) == (8, 5)
    assert (masks.density, masks.compression) == (0.625, 1.6)
    assert Masks({"a": [0, 0]}).compression == float("inf")


def test_summary_has_a_line_for_each_tensor_and_the_total():
    lines = Masks({"a/kernel": np.eye(2), "b": [1, 0]}).summary().splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["a/kernel", "2×2", "2", "4", "0.5"],
        ["b", "2", "1", "2", "0.5"],
        ["total", "3", "6", "0.5"],
    ]


def test_cannot_be_changed(masks):
    with pytest.raises(ValueError, match="read-only"):
        masks["odd/kernel"][1] = True
    with pytest.raises(TypeError):
        masks["new"] = np.ones(2)


def test_does_not_follow_the_array_it_came_from():
    array = np.array([True, False])
    masks = Masks({"a": array})
    array[:] = True
    assert masks["a"].tolist() == [True, False]


@pytest.mark.parametrize(
    "array",
    [[0, 2], [0.5, 1], [-1, 0], [np.nan, 1], [1 + 1e-9, 0], ["1", "0"], [None, 1]],
    ids=repr,
)
def test_holds_only_zero_and_one(array):
    with pytest.raises(errors.MaskError, match="'a'.*0 and 1"):
        Masks({"a": array})


@pytest.mark.parametrize("dtype", [bool, int, np.uint8, np.float16, np.float64])
def test_takes_zeros_and_ones_of_any_dtype(dtype):
    assert Masks({"a": np.array([1, 0], dtype)})["a"].tolist() == [True, False]


def test_needs_an_array():
    with pytest.raises(errors.MaskError, match="received none"):
        Masks({})


def test_equal_by_names_and_bits(masks):
    assert masks == Masks(dict(masks)) and masks == dict(masks)
    assert masks != Masks({"a": [1]}) and masks != 3
    changed = {name: mask.copy() for name, mask in masks.items()}
    changed["odd/kernel"][0] = False
    assert masks != Masks(changed)


# --- the file -------------------------------------------------------------------------------------


def test_save_and_load(masks, tmp_path):
    path = tmp_path / "masks.npz"
    masks.save(path)
    loaded = Masks.load(str(path))
    assert loaded == masks and list(loaded) == list(masks)
    assert loaded.info == masks.info
    assert os.listdir(tmp_path) == ["masks.npz"]
    masks.save(path)  # over itself
    assert Masks.load(path) == masks


def test_computed_masks_remember_where_they_come_from(tmp_path):
    path = tmp_path / "masks.npz"
    computed = tf_synflow.compute_masks(mlp(tf_keras), 4, scorer="random", seed=np.int64(7))
    computed.save(path)
    info = Masks.load(path).info
    assert info["scorer"] == {"name": "random", "seed": 7}
    assert info["schedule"] == {"compression": 4.0, "rounds": 1, "kind": "exponential"}
    assert info["scope"] == "global" and info["seed"] == 7
    assert info["versions"]["tf_synflow"] == tf_synflow.__version__
    assert info["versions"]["tensorflow"] != "not installed"


def test_file_takes_a_bit_a_weight_and_holds_no_pickle(tmp_path):
    path = tmp_path / "masks.npz"
    Masks({"a": np.random.RandomState(0).random_sample(80000) < 0.5}).save(path)
    assert path.stat().st_size < 80000 / 8 + 1500
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_truncated_anywhere(masks, tmp_path):
    path = tmp_path / "masks.npz"
    masks.save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 10):
        path.write_bytes(whole[:length])
        with pytest.raises(errors.MaskFileError, match="truncated"):
            Masks.load(path)


def test_a_flipped_bit_is_found_or_harmless(masks, tmp_path):
    path = tmp_path / "masks.npz"
    masks.save(path)
    whole = path.read_bytes()
    found = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            loaded = Masks.load(path)
        except errors.MaskFileError:
            found += 1
        else:  # a date, say, in the zip archive's directory
            assert loaded == masks and loaded.info == masks.info
    assert found > len(whole) / 2


def rewrite(path, **changes):
    with np.load(path) as file:
        content = dict(file)
    content["header"] = np.array(json.dumps({**json.loads(str(content["header"])), **changes}))
    np.savez(path, **content)


def test_another_schema(masks, tmp_path):
    path = tmp_path / "masks.npz"
    masks.save(path)
    rewrite(path, schema="tf_synflow.masks/99")
    with pytest.raises(errors.MaskFileError, match="masks/99.*expected 'tf_synflow.masks/1'"):
        Masks.load(path)


@pytest.mark.parametrize(
    "shapes",
    [{}, {"odd/kernel": [4000]}, {"odd/kernel": [-3]}, {"missing": [3]}, [3], None],
    ids=repr,
)
def test_header_that_contradicts_the_bits(shapes, masks, tmp_path):
    path = tmp_path / "masks.npz"
    masks.save(path)
    rewrite(path, shapes=shapes)
    with pytest.raises(errors.MaskFileError):
        Masks.load(path)


def write_npy(path):
    with open(path, "wb") as file:
        np.save(file, np.ones(3))


def write_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("hello.txt", "hello")


def write_pickle(path):
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array({"schema": "tf_synflow.masks/1"}, dtype=object))
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("not a mask file"),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        write_npy,
        write_zip,
        write_pickle,
    ],
    ids=["text", "empty", "folder", "npy", "zip", "pickle"],
)
def test_not_a_mask_file(write, tmp_path):
    path = tmp_path / "masks.npz"
    write(path)
    with pytest.raises(errors.MaskFileError, match="masks.npz.*expected"):
        Masks.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(errors.MaskFileError, match="does not exist"):
        Masks.load(tmp_path / "none.npz")


def test_missing_folder(masks, tmp_path):
    with pytest.raises(errors.OutputError, match="expected a folder"):
        masks.save(tmp_path / "none" / "masks.npz")
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(masks, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(errors.OutputError):
            masks.save(tmp_path / "masks.npz")
    finally:
        tmp_path.chmod(0o700)
    assert not os.listdir(tmp_path)


def test_a_path_that_is_a_folder_leaves_nothing_else(masks, tmp_path):
    (tmp_path / "masks.npz").mkdir()
    with pytest.raises(errors.OutputError):
        masks.save(tmp_path / "masks.npz")
    assert os.listdir(tmp_path) == ["masks.npz"]


def test_information_that_is_no_json_leaves_nothing(tmp_path):
    with pytest.raises((TypeError, errors.MaskError)):
        Masks({"a": [1]}, {"what": object()}).save(tmp_path / "masks.npz")
    assert not os.listdir(tmp_path)


# --- masks and models -----------------------------------------------------------------------------


def test_masks_of_another_model():
    model = mlp(tf_keras)
    before = state(model)
    for others in (
        tf_synflow.compute_masks(residual(tf_keras), 2),  # no name in common
        {"d0/kernel": np.ones((16, 12)), "conv/kernel": np.ones((2, 2))},  # one in common
        {"d0/kernel": np.ones((12, 16))},  # another shape
    ):
        with pytest.raises(errors.MaskError, match="another model"):
            tf_synflow.apply_masks(model, others)
        with pytest.raises(errors.MaskError, match="another model"):
            tf_synflow.score(model, masks=others)
    assert state(model) == before


def test_scores_go_through_the_given_masks():
    model = mlp(tf_keras)
    mask = np.ones((16, 12))
    mask[:, 0] = 0
    scores = tf_synflow.score(model, masks={"d0/kernel": mask})
    assert not scores["d0/kernel"][:, 0].any() and scores["d0/kernel"][:, 1:].all()
    # Without a bias on the way nothing would be left; with one, the unit still passes it on.
    without_bias = tf_synflow.score(mlp(tf_keras, use_bias=False), masks={"d0/kernel": mask})
    assert not without_bias["d1/kernel"][0].any() and without_bias["d1/kernel"][1:].all()
