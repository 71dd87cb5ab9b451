"""Compiling a pruned model: objects of the other Keras are told from those of its own."""

import functools
from typing import Any

import tensorflow as tf

from tf_synflow import compat, errors


def checked(model: Any) -> Any:
    """The same model, whose `compile` says which import to use where objects of both Kerases meet.

    Keras itself says that it cannot interpret the identifier <keras...Adam object>, which looks
    like what was asked for. Held by this object alone: a model read from a file answers as Keras
    does.
    """
    compile_model = model.compile

    @functools.wraps(compile_model)
    def compile_checked(*args: Any, **kwargs: Any) -> None:
        for given in tf.nest.flatten((args, kwargs)):
            _check_same_keras(model, given)
        compile_model(*args, **kwargs)

    model.compile = compile_checked
    return model


def _check_same_keras(model: Any, given: Any) -> None:
    own, other = compat.keras_of(model), compat.keras_of(given)
    if other is None or other is own:
        return
    name = type(given).__name__
    expected = "tf_keras" if compat.is_tf_keras(model) else "keras"
    received = "Keras 3" if expected == "tf_keras" else "tf_keras"
    raise errors.ModelError(
        f"compile: received the {name} of {received} for model {model.name!r}, which is a model of "
        f"{expected}; expected objects of {expected} throughout. `import {expected}` and use its "
        f"{name}, or the name of one, as in compile('adam')."
    )
