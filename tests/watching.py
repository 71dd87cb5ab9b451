"""What tests watch a training by, in either Keras."""

import numpy as np
from small_models import masked_and_not_zero

import tf_synflow
from tf_synflow.flow.weights import all_weights


def after_each_batch(k, masks):
    """A callback that counts removed weights that are not zero, when a user can look."""

    class AfterEachBatch(k.callbacks.Callback):
        looks = found = 0

        def on_train_batch_end(self, batch, logs=None):
            self.looks += 1
            self.found += masked_and_not_zero(self.model, masks)

    return AfterEachBatch()


def moved(model, pruned):
    """Whether training changed each masked layer at all; a test of zeros alone could not fail."""
    before, after = all_weights(model), all_weights(pruned)
    return all(
        not np.array_equal(before[name].value()[mask], after[name].value()[mask])
        for name, mask in tf_synflow.masks_of(pruned).items()
    )


class Interrupted(Exception):
    """What stops a training in the middle."""


def stop_in(k, epoch):
    """A callback that raises `Interrupted` when an epoch begins."""

    class StopIn(k.callbacks.Callback):
        def on_epoch_begin(self, index, logs=None):
            if index == epoch:
                raise Interrupted

    return StopIn()
