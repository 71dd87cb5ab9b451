"""The whole flow on one page: model → scores → masks → injected model."""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_synflow import budget, densities, errors, inject, quantities, rounds, scores, version
from tf_synflow.flow import weights
from tf_synflow.flow.network import Network
from tf_synflow.flow.weights import Prunable
from tf_synflow.inject import replicas
from tf_synflow.masks import acceleration
from tf_synflow.masks import structure as structures
from tf_synflow.masks.masks import Masks

Structure = structures.Structure | str | Mapping[str, structures.Structure | str] | None


def prune_at_init(
    model: Any,
    compression: float = quantities.DEFAULT_COMPRESSION,
    *,
    scorer: str | scores.Scorer = "synflow",
    schedule: Any = None,
    scope: str = "global",
    prunable: Prunable = None,
    wrapper: str = "auto",
    seed: int | None = None,
    verbose: bool | str = "auto",
    input_shape: Any = None,
    allow_collapse: bool = False,
    structure: Structure = None,
    target: str | None = None,
    target_bytes: float | None = None,
    target_flops: float | None = None,
    target_latency_ms: float | None = None,
    export_options: Mapping[str, Any] | None = None,
) -> Any:
    """Prunes a Keras model at initialization, without data (Tanaka et al. 2020).

    The masks are computed as by `compute_masks` and frozen in as by `apply_masks`: the model that
    comes back compiles, trains and saves like any other, with no callback, and a removed weight
    is exactly zero at every moment. The model that was given stays as it was.

    Args:
      model: built model of either Keras: Sequential, Functional (nested models and shared layers
        too) or, of Keras 3, subclassed.
      compression: prunable weights / kept weights, from 1 to the maximal compression (one weight
        for each prunable tensor); 100 keeps 1 %.
      scorer: `"synflow"`, `"magnitude"`, `"random"`, or a `Scorer`.
      schedule: a `SynFlowPruningSchedule`; by default 100 rounds, exponential, or one round for
        a scorer that is single-shot. With one given its compression counts.
      scope: `"global"`: all weights compete; `"layer"`: each tensor keeps the same share.
      prunable: None for kernels and embeddings; name patterns (`"conv*/kernel"`) or a predicate
        on the name; `["*/kernel", "*/bias", "*/gamma"]` prunes biases and normalizations too.
      wrapper: `"auto"`, the model's own Keras; `"keras"`, a layer of Keras 3; `"tfmot"`, TFMOT's
        wrappers, for which a Keras 3 model is converted to tf_keras first, and compared.
      seed: for scorers that draw random numbers; the same seed gives the same masks.
      verbose: True, False or `"auto"`: a progress bar on what takes over two seconds.
      input_shape: for a model that leaves sizes undefined, the shape to score it with, without
        the batch: `(224, 224, 3)`; a list for several inputs, or a mapping by input name.
      allow_collapse: True hands back a network through which nothing flows.
      structure: which weights stay or go together: `"1x4"` or `"1x16"`, blocks along the inputs
        of a dense layer; `"2x1"` or `"4x1"`, along the outputs of a convolution; `"channel"`;
        `"channel:16"`, of which multiples of 16 stay in a layer, or fewer than 16; `"2:4"`, at
        most two of every four inputs; or a mapping from name patterns to these.
      target: prunes only what this runtime computes faster for its zeros, in the structure that
        it reads: `"cpu-x86"`, `"cpu-arm"`, `"wasm"` or `"microcontroller"`. On ARM and in WASM
        every kernel keeps the same share, as with `scope="layer"`.
      target_bytes: instead of a compression, the size of the file that `export_tflite` writes:
        the lowest compression that meets it is searched for, by exporting, and printed.
      target_flops: the same for the FLOPs of `summary`.
      target_latency_ms: the same for one inference of the file, on this machine, one thread.
      export_options: arguments of `export_tflite` for these files, `{"quantize": "float16"}`.

    Returns:
      A new, uncompiled model of the same Keras (of tf_keras with `wrapper="tfmot"`).

    Raises:
      QuantityError: compression out of range, or in contradiction to the schedule's.
      ModelError: a model that cannot be pruned as it is, or not yet wrapped.
      MaskError: the model is pruned already.
      LayerCollapseError: no flow is left from input to output.
      BudgetError: no compression meets the budget; says the nearest.
      ScoreError, UnknownNameError: as their names say.

    Example:
      >>> pruned = tf_synflow.prune_at_init(model, compression=100)
      >>> pruned.compile("sgd", "sparse_categorical_crossentropy")
      >>> pruned.fit(images, labels)
      >>> final = tf_synflow.strip_pruning(pruned)
    """
    prepared = inject.prepared(model, wrapper)
    limits = {"bytes": target_bytes, "flops": target_flops, "latency_ms": target_latency_ms}
    limits = {unit: limit for unit, limit in limits.items() if limit is not None}
    arguments = {
        "scorer": scorer,
        "schedule": schedule,
        "scope": scope,
        "prunable": prunable,
        "seed": seed,
        "verbose": verbose,
        "input_shape": input_shape,
        "structure": structure,
        "target": target,
    }
    if limits:
        _check_one_budget(limits, compression, schedule)
        options = {} if export_options is None else export_options
        if target is not None and target_flops is None:  # FLOPs are counted without a file
            options = {"target": target, **options}
        masks = _within_budget(model, *limits.popitem(), arguments, options)
    elif export_options:
        raise errors.QuantityError(
            f"export_options: received {export_options!r} without a budget; expected it "
            "beside target_bytes or target_latency_ms. Give it to export_tflite otherwise."
        )
    else:
        masks = compute_masks(model, compression, **arguments)
    return _apply(model, prepared, masks, input_shape, allow_collapse)


def score(
    model: Any,
    scorer: str | scores.Scorer = "synflow",
    masks: Any = None,
    *,
    prunable: Prunable = None,
    seed: int | None = None,
    input_shape: Any = None,
) -> scores.Scores:
    """Scores every prunable weight once; nothing is changed.

    Args:
      model: built model of either Keras.
      scorer: a name or a `Scorer`.
      masks: `Masks`, or a mapping from weight name to 0/1 arrays: scores the masked network.
      prunable, input_shape: see `prune_at_init`.
      seed: for scorers that draw random numbers.

    Returns:
      `Scores`: weight name → float64 array, with `.log2_scale`.

    Raises:
      ModelError, MaskError, ScoreError, UnknownNameError.

    Example:
      >>> scores = tf_synflow.score(model)
      >>> {name: float(array.sum()) for name, array in scores.items()}
    """
    network = Network(model, prunable, input_shape)
    network.check_values()
    full = {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}
    if masks is not None:
        given = masks if isinstance(masks, Masks) else Masks(masks)
        given.check_fits(network.prunable_shapes)
        full.update(given)
    return scores.as_scores(scores.get(scorer, seed).bind(network)(full)).check(full)


def compute_masks(
    model: Any,
    compression: float = quantities.DEFAULT_COMPRESSION,
    *,
    scorer: str | scores.Scorer = "synflow",
    schedule: Any = None,
    scope: str = "global",
    prunable: Prunable = None,
    seed: int | None = None,
    verbose: bool | str = "auto",
    input_shape: Any = None,
    ties: str = "position",
    structure: Structure = None,
    target: str | None = None,
) -> Masks:
    """Computes masks; the model is neither changed nor wrapped.

    Exactly N − int((1 − 1/compression)·N) of the N prunable weights are kept; in a structure, as
    few blocks or channels as hold that many.

    Args:
      model: built model of either Keras.
      compression, scorer, schedule, scope, prunable, seed, verbose, input_shape, structure,
        target: see `prune_at_init`.
      ties: `"position"` keeps the first of equal scores, so that the count is exact;
        `"reference"` removes all of them, as the paper's own code does.

    Returns:
      `Masks`, with scorer, schedule, seed and versions in `.info`.

    Raises:
      QuantityError, ModelError, ScoreError, UnknownNameError.

    Example:
      >>> masks = tf_synflow.compute_masks(model, compression=100)
      >>> masks.save("masks.npz")
    """
    scorer = scores.get(scorer, seed)
    plan = _plan(compression, scorer, schedule)
    if target is not None:
        accelerated, prunable, structure = _accelerated(
            target, model, plan["compression"], prunable, structure
        )
        _warn_of_stem(target, accelerated, model)
        scope = accelerated.scope or scope
    network = Network(model, prunable, input_shape)
    network.check_values()
    quantities.check_compression(plan["compression"], maximal=network.maximal_compression)
    of_weights = _structures(structure, network)
    structures.check_capacity(of_weights, network.prunable_shapes, plan["compression"])
    arrays = rounds.prune(
        network, scorer, densities.densities(**plan), scope, ties, of_weights, verbose
    )
    info = {
        "model": model.name,
        "scorer": {"name": scorer.name, **scorer.get_config()},
        "schedule": plan,
        "scope": scope,
        "ties": ties,
        "structure": {name: str(one) for name, one in of_weights.items()},
        "target": target,
        "seed": None if seed is None else int(seed),
        "versions": version.versions(),
    }
    return Masks(arrays, info)


def apply_masks(
    model: Any,
    masks: Any,
    wrapper: str = "auto",
    *,
    input_shape: Any = None,
    allow_collapse: bool = False,
) -> Any:
    """Freezes masks that came from anywhere into a copy of a model.

    Args:
      model: built model of either Keras; it stays as it was.
      masks: `Masks`, or a mapping from weight name to 0/1 arrays; weights without one stay dense.
      wrapper, input_shape: see `prune_at_init`; the shape only serves the search for a path.
      allow_collapse: True hands back a network through which nothing flows.

    Returns:
      A new, uncompiled model in which a removed weight is exactly zero at every moment.

    Raises:
      MaskError: masks of another model, not 0/1, or the model is pruned already.
      LayerCollapseError: no flow is left from input to output.

    Example:
      >>> pruned = tf_synflow.apply_masks(model, tf_synflow.Masks.load("masks.npz"))
    """
    prepared = inject.prepared(model, wrapper)
    masks = masks if isinstance(masks, Masks) else Masks(masks)
    return _apply(model, prepared, masks, input_shape, allow_collapse)


def _apply(model: Any, prepared: Any, masks: Masks, input_shape: Any, allow_collapse: bool) -> Any:
    """Freezes masks into the prepared model, once they fit the one that was given."""
    replicas.check_same_masks(model, masks)
    masks.check_fits({name: weight.shape for name, weight in weights.all_weights(model).items()})
    if not allow_collapse:
        network = Network(model, lambda name: name in masks, input_shape)
        ignored = network.check_flow(
            masks,
            "Lower the compression, use scorer='synflow' with 100 rounds, or insist with "
            "allow_collapse=True.",
        )
        _warn_of_inputs(ignored)
    return inject.inject(prepared, masks)


def _check_one_budget(limits: dict[str, float], compression: float, schedule: Any) -> None:
    given = [f"target_{unit}={limit!r}" for unit, limit in limits.items()]
    if compression is not quantities.DEFAULT_COMPRESSION:
        given.append(f"compression={compression!r}")
    if schedule is not None:
        given.append(f"schedule={schedule!r}")
    if len(given) > 1:
        raise errors.QuantityError(
            f"prune_at_init: received {' beside '.join(given)}; expected one of them, for each "
            "decides how much goes."
        )


def _within_budget(
    model: Any, unit: str, limit: float, arguments: dict[str, Any], options: Mapping[str, Any]
) -> Masks:
    """The masks of the lowest compression that meets a budget."""
    amount_of = budget.amount_of(unit, options)
    meets: list[Masks] = []

    def amount_at(compression: float) -> float:
        masks = compute_masks(model, compression, **arguments)
        amount = amount_of(apply_masks(model, masks, input_shape=arguments["input_shape"]))
        if amount <= limit:
            meets[:] = [masks]
        return amount

    lowest, highest = _range(model, arguments)
    found = budget.search(unit, limit, amount_at, highest, arguments["verbose"], lowest)
    if arguments["verbose"]:
        print(found)
    return Masks(meets[0], {**meets[0].info, "budget": dataclasses.asdict(found)})


def _range(model: Any, arguments: dict[str, Any]) -> tuple[float, float]:
    """The lowest and the highest compression of what is pruned, in its structure."""
    prunable, structure, lowest = arguments["prunable"], arguments["structure"], 1.0
    if arguments["target"] is not None:
        accelerated, prunable, structure = _accelerated(
            arguments["target"], model, math.inf, prunable, structure
        )
        lowest = accelerated.lowest_compression
    network = Network(model, prunable, arguments["input_shape"])
    weights, most = structures.capacity(_structures(structure, network), network.prunable_shapes)
    return max(lowest, weights / most), network.maximal_compression


def _structures(structure: Structure, network: Network) -> dict[str, structures.Structure]:
    """By weight name, of those that are not pruned one by one."""
    if structure is None:
        return {}
    chosen = {name: network.weights[name] for name in network.prunable}
    return structures.of_weights(structure, chosen, network.last)


def _accelerated(
    target: str, model: Any, compression: float, prunable: Prunable, structure: Structure
) -> tuple[acceleration.Acceleration, Prunable, Structure]:
    """What a target makes of zeros; what to prune for it, of what may be, and how if not said."""
    shapes = {name: weight.shape for name, weight in weights.all_weights(model).items()}
    if prunable is not None:
        shapes = {name: shapes[name] for name in weights.select_prunable(shapes, prunable)}
    names, accelerated = acceleration.of_target(target, shapes, compression)
    structure = accelerated.structure if structure is None else structure
    return accelerated, set(names).__contains__, structure


def _warn_of_stem(target: str, accelerated: acceleration.Acceleration, model: Any) -> None:
    if accelerated.stem and (why := acceleration.missing_stem(weights.layers_of(model))):
        warnings.warn(
            f"target={target!r}: the masks will make the file smaller and not faster, for {why}. "
            f"XNNPACK computes {accelerated.kernels} sparsely only behind ZeroPadding2D(1) and a "
            "3x3 convolution of stride 2 from 3 channels with padding='valid': build the stem so "
            "(as `mobilenet_v1` of tf_synflow.train.models does), or leave target= out.",
            stacklevel=3,
        )


def _warn_of_inputs(ignored: list[str]) -> None:
    if ignored:
        warnings.warn(
            f"The masks leave no path from the input {' or '.join(map(repr, ignored))}: the pruned "
            "model ignores it. Lower the compression, leave the layers behind it out with "
            "prunable=, or prune with scope='layer'.",
            stacklevel=4,
        )


def _plan(compression: float, scorer: scores.Scorer, schedule: Any) -> dict[str, Any]:
    if schedule is None:
        return {
            "compression": quantities.check_compression(compression),
            "rounds": scorer.rounds,
            "kind": "exponential",
        }
    if not all(hasattr(schedule, name) for name in ("compression", "rounds", "kind")):
        raise errors.UnknownNameError("schedule", schedule, ["SynFlowPruningSchedule(...)"])
    if compression is not quantities.DEFAULT_COMPRESSION and compression != schedule.compression:
        raise errors.QuantityError(
            f"compression: received {compression!r} beside a schedule of compression "
            f"{schedule.compression!r}; expected the same, or the schedule alone."
        )
    return {
        "compression": schedule.compression,
        "rounds": schedule.rounds,
        "kind": schedule.kind,
    }
