"""The training step of `fit`, in which a removed weight is zero already: its gradient is masked.

A pruned layer computes from weight · mask, whoever calls it: a pass over the weights to multiply,
one to mask the gradient, in Keras 3 one more after the optimizer. A step on few examples is not
much longer than that. In Keras' own training step only the optimizer writes weights, so there it is
enough that the zeros are there when training begins, that what the optimizer is given is zero
where the mask removes, by whatever way the loss depends on the weight, and that the optimizer
leaves a weight at zero that never drew a gradient. One pass a step is left.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from tf_synflow import compat
from tf_synflow.inject import replicas

# Optimizers of either Keras under which a weight moves by its own gradients alone. Muon is none.
# An optimizer class of one's own says so by an attribute: element_wise = True.
ELEMENT_WISE = frozenset(
    "Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion Nadam RMSprop SGD".split()
)

# (a masked variable, its mask) for each that exists
Masked = Callable[[Any], Iterable[tuple[Any, tf.Variable]]]

_thread = threading.local()


def is_in_step() -> bool:
    """Whether this thread is in such a step, where layers compute from the weights as they are."""
    return getattr(_thread, "in_step", False)


def masks_gradients(model: Any, masked: Masked) -> Any:
    """The same model, whose training step masks gradients, where that is enough.

    Held by this object alone, and for Keras' own `train_step` on one device: layers of any other
    model, step, loop or strategy compute from weight · mask.

    Args:
      model: a pruned model.
      masked: of the model, its masked variables with their masks, as they are when it is called.
    """
    train_step, make_train_function = model.train_step, model.make_train_function
    if getattr(train_step, "__func__", None) is not compat.keras_of(model).Model.train_step:
        return model
    if replicas.strategy_of(model) is not None:
        return model

    @functools.wraps(train_step)
    def masked_train_step(data: Any) -> Any:
        if not _is_enough(model, masked):
            return train_step(data)
        with _step(model, masked):
            return train_step(data)

    @functools.wraps(make_train_function)
    def mask_and_make(*args: Any, **kwargs: Any) -> Any:
        # Called whenever training begins, and before each batch of train_on_batch.
        if _is_enough(model, masked):
            for variable, mask in masked(model):
                variable.assign(kept(mask, tf.convert_to_tensor(variable)))
        return make_train_function(*args, **kwargs)

    model.train_step, model.make_train_function = masked_train_step, mask_and_make
    return model


def kept(mask: tf.Variable, value: tf.Tensor) -> tf.Tensor:
    """A value where the mask keeps, else zero, whatever was there."""
    if mask.dtype == tf.bool:
        return tf.where(mask, value, tf.zeros([], value.dtype))
    return tf.math.multiply_no_nan(value, tf.cast(mask, value.dtype))


def _is_enough(model: Any, masked: Masked) -> bool:
    """Whether nothing but the optimizer moves weights, each by its own gradients."""
    optimizer = getattr(model, "optimizer", None)
    # Around another one where losses are scaled.
    return _is_element_wise(getattr(optimizer, "inner_optimizer", optimizer)) and not (
        # Keras 3 masks what a constraint makes of a weight.
        compat.is_tf_keras(model)
        and any(variable.constraint is not None for variable, _ in masked(model))
    )


def _is_element_wise(optimizer: Any) -> bool:
    cls = type(optimizer)
    known = cls.__module__.startswith(("keras.src.optimizers.", "tf_keras.src.optimizers."))
    is_legacy = "legacy" in cls.__module__  # clips the gradients before it is given them
    return vars(cls).get("element_wise", known and not is_legacy and cls.__name__ in ELEMENT_WISE)


@contextlib.contextmanager
def _step(model: Any, masked: Masked) -> Iterator[None]:
    """In it the optimizer is given masked gradients, and layers leave masking to that."""
    optimizer = model.optimizer
    apply_gradients = optimizer.apply_gradients
    is_set = "apply_gradients" in vars(optimizer)

    def apply_masked(grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
        # Not earlier: some layers make their weights only when they are called.
        mask_of = {id(variable): mask for variable, mask in masked(model)}
        pairs = [
            (_masked_gradient(gradient, mask_of.get(id(variable))), variable)
            for gradient, variable in grads_and_vars
        ]
        return apply_gradients(pairs, *args, **kwargs)

    optimizer.apply_gradients = apply_masked
    _thread.in_step = True
    try:
        yield
    finally:
        _thread.in_step = False
        if is_set:
            optimizer.apply_gradients = apply_gradients
        else:
            del optimizer.apply_gradients


def _masked_gradient(gradient: Any, mask: tf.Variable | None) -> Any:
    if gradient is None or mask is None:
        return gradient
    if isinstance(gradient, tf.IndexedSlices):  # of an embedding
        values = kept(tf.gather(mask, gradient.indices), gradient.values)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return kept(mask, gradient)
