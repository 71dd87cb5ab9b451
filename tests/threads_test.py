"""What a user's threads may do at the same time, and find as it was afterwards."""

import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
import threadpoolctl
from small_models import KERASES, mlp

import tf_synflow


@pytest.fixture(autouse=True)
def switching_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(works):
    """Runs all of them in a thread each, and raises what any of them raised."""
    raised = []

    def run(work):
        try:
            work()
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_pruning_several_models_leaves_the_settings_of_the_process():
    def settings():
        pools = threadpoolctl.threadpool_info()
        threads = [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]
        return tf.config.optimizer.get_experimental_options(), threads

    models = [mlp(keras, seed=seed) for seed in range(3)]
    alone = [tf_synflow.compute_masks(model, 4, verbose=False) for model in models]
    before = settings()
    found = [None] * len(models)

    def work(i):
        for _ in range(2):
            found[i] = tf_synflow.compute_masks(models[i], 4, verbose=False)

    at_once([lambda i=i: work(i) for i in range(len(models))])
    assert settings() == before
    assert found == alone


@pytest.mark.parametrize("k", KERASES)
def test_a_pruned_model_is_called_by_several(k):
    model = mlp(k, units=(600, 600, 4))
    masks = tf_synflow.compute_masks(model, 4, scorer="magnitude")
    pruned = tf_synflow.apply_masks(model, masks)
    images = np.random.RandomState(0).random_sample((64, 16)).astype(np.float32)
    expected = np.asarray(pruned(images))

    def work():
        for _ in range(40):
            np.testing.assert_allclose(np.asarray(pruned(images)), expected, rtol=1e-5)

    at_once([work] * 4)
    pruned.compile("sgd", "mse")
    before = [np.asarray(variable) for variable in pruned.trainable_variables]
    pruned.fit(images, np.ones((64, 4)), verbose=0)
    for old, variable in zip(before, pruned.trainable_variables, strict=True):
        assert (np.asarray(variable) != old).any(), f"{variable.name} no longer trains"
