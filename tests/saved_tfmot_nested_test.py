"""Masks on weights inside layers of layers, saved and loaded, here and in a fresh process."""

import numpy as np
import processes
import pytest
import tf_keras
from nested_models import CASES, FAST, LOSS, build, data, in_order, masks_for, not_zero, some

import tf_synflow
from tf_synflow.flow.weights import all_weights
from tf_synflow.inject import tfmot

FORMATS = ["model.keras", "model.h5", "saved_model"]
SAVED = [kind for kind in CASES if kind not in ("constants", "LSTM, stateful")]


@pytest.fixture(scope="module")
def trained():
    made = {}

    def get(kind):
        if kind not in made:
            model = build(kind)
            masks = masks_for(model)
            pruned = tfmot.inject(model, masks)
            # To trace takes longer than these steps; what was loaded is traced.
            pruned.compile(tf_keras.optimizers.Adam(0.01), LOSS, run_eagerly=True)
            pruned.fit(*data(), batch_size=16, verbose=0)
            made[kind] = (pruned, in_order(model, masks))
        return made[kind]

    return get


def check_saved_and_loaded(kind, name, trained, tmp_path):
    pruned, pairs = trained(kind)
    pruned.save(tmp_path / name)
    loaded = tf_synflow.load_model(tmp_path / name)
    x, y = data()
    np.testing.assert_allclose(loaded(x), pruned(x), rtol=1e-5, atol=1e-6)
    for one, other in zip(
        tfmot.masks_of(loaded).values(), tfmot.masks_of(pruned).values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    loaded.run_eagerly = False
    loaded.fit(x, y, batch_size=16, verbose=0)
    assert not_zero(pairs(loaded)) == 0 and not_zero(pairs(tfmot.strip(loaded))) == 0


@pytest.mark.parametrize("kind", some(SAVED))
def test_saved_and_loaded(kind, trained, tmp_path):
    check_saved_and_loaded(kind, "model.keras", trained, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS[1:])
@pytest.mark.parametrize("kind", FAST[1:])  # an LSTM with an initial state is an LSTM
def test_saved_and_loaded_in_other_formats(kind, name, trained, tmp_path):
    check_saved_and_loaded(kind, name, trained, tmp_path)


IN_A_FRESH_PROCESS = """
import json, sys
import numpy as np
import tf_synflow
import nested_models as test
folder, *names = sys.argv[1:]
x, y = test.data()
report = {}
for name in names:
    model = tf_synflow.load_model(f"{folder}/{name}")
    outputs = np.array(model(x)).tolist()
    model.run_eagerly = False
    model.fit(x, y, verbose=0)
    masks = list(tf_synflow.masks_of(model).values())
    values = [w.value() for w in test.all_weights(model).values()]
    np.savez(f"{folder}/{name}.after.npz", *values)
    report[name] = [outputs, [np.packbits(mask).tolist() for mask in masks]]
print("REPORT" + json.dumps(report))
"""


@pytest.mark.slow
def test_loaded_in_a_fresh_process(trained, tmp_path):
    # Classes of its own a process has to find by every format, those of tf_keras by one or other.
    formats = {
        "custom": FORMATS,
        "built late": FORMATS,
        "Bidirectional": FORMATS[:1],
        "MultiHeadAttention": FORMATS[1:2],
        "StackedRNNCells": FORMATS[2:],
    }
    files = {}
    for number, (kind, names) in enumerate(formats.items()):
        for name in names:
            files[f"{number}_{name}"] = kind
            trained(kind)[0].save(tmp_path / f"{number}_{name}")
    report = processes.reported(IN_A_FRESH_PROCESS, tmp_path, *files)
    x, _ = data()
    for file, kind in files.items():
        pruned, _ = trained(kind)
        outputs, bits = report[file]
        np.testing.assert_allclose(outputs, pruned(x), rtol=1e-5, atol=1e-6)
        masks = tfmot.masks_of(pruned)
        assert bits == [np.packbits(mask).tolist() for mask in masks.values()]
        after = np.load(tmp_path / f"{file}.after.npz").values()
        for name, value in zip(all_weights(pruned), after, strict=True):
            assert name not in masks or not value[~masks[name]].any()


@pytest.mark.parametrize("name", FORMATS)
def test_a_sequential_model_within_another(name, tmp_path):
    layers = tf_keras.layers
    inner = tf_keras.Sequential([tf_keras.Input((6,)), layers.Dense(5, name="in")], name="inner")
    model = tf_keras.Sequential([inner, layers.Dense(3, name="out")])
    model.build((None, 6))
    pruned = tf_synflow.prune_at_init(model, 2, scorer="magnitude")
    pruned.save(tmp_path / name)
    loaded = tf_synflow.load_model(tmp_path / name)
    assert tf_synflow.masks_of(loaded) == tf_synflow.masks_of(pruned)
