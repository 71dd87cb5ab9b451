"""The whole of it on one page: survey → units that stay → model made again → compared."""

import sys
from typing import Any

from tf_synflow import errors, inject, progress
from tf_synflow.flow import graph, inputs, weights
from tf_synflow.inject import replicas
from tf_synflow.masks.masks import Masks
from tf_synflow.shrinking import compare
from tf_synflow.shrinking.liveness import kept
from tf_synflow.shrinking.rebuild import Rebuild
from tf_synflow.shrinking.report import shrink_report
from tf_synflow.shrinking.survey import Survey


def shrink(model: Any, *, multiple_of: int = 1, verbose: bool | str = "auto") -> Any:
    """A smaller model with the same outputs, without the units through which nothing passes.

    Channels, units, attention heads and whole residual branches go. What is removed depends on
    what the model is for:

    - A **pruned** model comes back pruned, its masks cut to what is left, and trains along the
      same trajectory as the one that was given: removed are units all of whose outgoing weights
      are masked, or lead to such units only, and units that are zero for ever, as no weight and
      no bias leads to them. Neither makes a gradient anywhere.
    - In a **plain** one (`strip_pruning`), a weight that is zero counts as removed, and the
      outputs in inference mode are the same. Units that no input reaches go too where their
      constant folds exactly into the biases behind them, zeros everywhere; and a residual branch
      that is a constant, which a Rescaling layer in place of the Add goes on adding.

    A layer keeps one unit at least; inputs and outputs keep all. Before it comes back, the small
    model is compared with the given one on random input.

    Args:
      model: built Sequential or Functional model of either Keras, nested ones too, pruned or
        plain; it stays as it was.
      multiple_of: fills the width of a layer up to a multiple, at least 1, with units that could
        go, as far as the layer was that wide: 16 is the block of channels of oneDNN, with which
        TensorFlow computes on x86 processors; 1 is smallest.
      verbose: `"auto"` prints the layers that have become smaller on standard error, True every
        layer, False nothing. `shrink_report` gives the same as data.

    Returns:
      A new, uncompiled model of the same Keras; layers and weights keep their names. It is plain
      where no layer with masks is left.

    Raises:
      QuantityError: `multiple_of` is not a whole number above 0.
      ModelError: not built, or subclassed: its graph is Python code.
      ShrinkError: the small model computes something else.

    Example:
      >>> pruned = tf_synflow.prune_at_init(model, compression=100)
      >>> small = tf_synflow.shrink(pruned)
      >>> small.compile("sgd", "sparse_categorical_crossentropy")
      >>> small.fit(images, labels)
      >>> final = tf_synflow.shrink(tf_synflow.strip_pruning(small))
    """
    progress.check_verbose(verbose)
    if not isinstance(multiple_of, int) or multiple_of < 1:
        raise errors.QuantityError(
            f"multiple_of: received {multiple_of!r}; expected a whole number of at least 1."
        )
    graph.check_model(model)
    if not graph.is_graph(model):
        raise errors.ModelError(
            f"model {model.name!r}: received a subclassed {type(model).__name__}, whose graph is "
            "Python code; expected a Sequential or Functional model. Build it as one, from the "
            "same layers, to have it shrunk."
        )
    masks = inject.masks_of(model) if weights.wrappers(model) else None
    with replicas.scope_of(model):
        plain = inject.strip_pruning(model)
        survey, values = _surveyed(plain, masks)
        rebuild = Rebuild(survey, kept(survey, multiple_of))
        small = rebuild.model(plain)
        cut = rebuild.cut_masks(plain, small, masks) if masks is not None else {}
        if cut:
            small = inject.inject(small, Masks(cut, masks.info))
        compare.check_same(model, small, values)
    if verbose:
        table = shrink_report(model, small).table(all_layers=verbose != "auto")
        print(table, file=sys.stderr)
    return small


def _surveyed(plain: Any, masks: Masks | None) -> tuple[Survey, list]:
    """The survey of a model, and the random input that it was made with."""
    sizes = inputs.sizes(plain)
    for size in sizes:
        survey, values = Survey(plain, masks), inputs.random(plain, size)
        try:
            survey.run(plain, values)
        except Exception as error:  # whatever a layer says to an image that is too small for it
            if len(sizes) == 1:
                raise
            failure = error
        else:
            return survey, values
    raise errors.ModelError(
        f"model {plain.name!r}: received a model that cannot be run on random input of the "
        f"shape {', '.join(str(tuple(value.shape)) for value in values)} "
        f"({type(failure).__name__}: {errors.first_line(failure)}); expected one that can. Give "
        "the sizes that it leaves open, as in keras.Input((64, 64, 3))."
    ) from failure
