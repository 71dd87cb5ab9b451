"""Zeros that stay through TFMOT's quantization-aware training (tf_keras)."""

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.flow import graph
from tf_synflow.flow.weights import all_weights, layers_of, own_name
from tf_synflow.inject import replicas, tfmot

_keras = compat.tf_keras()
_quantization = compat.tfmot().quantization.keras
_INSTEAD = (
    "Or quantize this one after training: export_tflite(model, path, quantize='int8', "
    "representative_data=...)."
)


def quantize_aware(model: Any) -> Any:
    """A copy of a pruned model for quantization-aware training in 8 bits, its zeros kept.

    The graph is that of TFMOT's default scheme. Its ranges begin at -6 to 6 and follow the data:
    train some hundred steps before you evaluate or export. Freeze nothing: TFMOT's wrappers train
    kernels of frozen layers.

    Each weight goes through its quantizer multiplied by its mask, or where the model has none by
    where it is not zero now, and draws no gradient elsewhere. TFMOT's own prune-preserving scheme
    does so for Dense and Conv2D but where their output goes to a `ReLU` layer or a `Concatenate`,
    of which it does not quantize the weights either (0.8.1), nor after the model was saved and
    loaded.

    Args:
      model: a Sequential or Functional tf_keras model without models in it: pruned (it is stripped
        first), stripped or shrunk; it stays as it was.

    Returns:
      A new, uncompiled tf_keras model. Train it with plain `fit`; `load_model` reads it from `.h5`
      and SavedModel (tf_keras cannot read TFMOT's layers from `.keras`); then
      `export_tflite(aware, path, quantize="int8")`, without `representative_data`.

    Raises:
      ModelError: a model of Keras 3, a subclassed one, one that computes in another precision than
        float32, or one that is quantization-aware already.
      UnsupportedLayerError: a layer that TFMOT has no quantization for, or a model in the model.

    Example:
      >>> small = tf_synflow.shrink(pruned)
      >>> aware = tf_synflow.quantize_aware(small)
      >>> aware.compile("adam", "mse")
      >>> aware.fit(inputs, outputs)
      >>> report = tf_synflow.export_tflite(aware, "model.tflite", quantize="int8")
    """
    graph.check_model(model)
    if not compat.is_tf_keras(model) or not graph.is_graph(model):
        kind, how = "subclassed", ""
        if not compat.is_tf_keras(model):
            kind, how = "Keras 3", "Prune with wrapper='tfmot' to get one of it. "
        raise errors.ModelError(
            f"model {model.name!r}: received a {kind} model; expected a Sequential or Functional "
            f"one of tf_keras, which alone TFMOT quantizes while it trains. {how}{_INSTEAD}"
        )
    dtypes = {layer.compute_dtype for _, layer in layers_of(model) if layer.weights}
    dtypes.add(_keras.mixed_precision.global_policy().compute_dtype)  # of the layers to be made
    if other := dtypes - {"float32"}:
        raise errors.ModelError(
            f"model {model.name!r}: received {', '.join(sorted(other))} to compute in, by a layer "
            "or the global policy; expected float32, in which alone TFMOT's quantizers compute. "
            "Set that policy, build the model again and give it these weights, set_weights(...)."
        )
    if whole := [tensor.name for tensor in model.inputs if not tensor.dtype.is_floating]:
        raise errors.UnsupportedLayerError(
            f"model {model.name!r}: received input {whole[0]!r} of whole numbers; expected floats, "
            f"of which alone TFMOT quantizes inputs. {_INSTEAD}"
        )
    with replicas.scope_of(model):
        plain = tfmot.strip(model)
        masks = tfmot.masks_of(model) if tfmot.masked(model) else {}
        _warn_of_zeros(plain, masks)
        try:
            annotated = _quantization.quantize_annotate_model(plain)
            aware = _quantization.quantize_apply(annotated, _Scheme())
        except (ValueError, RuntimeError) as error:
            raise errors.UnsupportedLayerError(
                f"model {model.name!r}: TFMOT does not quantize it while it trains "
                f"({errors.first_line(error)}). Expected layers of its default 8-bit scheme: "
                "Dense, Conv2D, DepthwiseConv2D, also with BatchNormalization behind them, ReLU, "
                f"Add, Concatenate, poolings. {_INSTEAD}"
            ) from error
        for layer in aware.layers:
            for weight, _, variables in getattr(layer, "_weight_vars", ()):
                name = f"{layer.layer.name}/{own_name(layer.layer, weight)}"
                if name in masks:
                    variables["mask"].assign(masks[name])
        return aware


def _warn_of_zeros(model: Any, masks: Mapping[str, np.ndarray]) -> None:
    empty = [
        name
        for name, weight in all_weights(model).items()
        if name not in masks and weight.variable.shape.rank > 1 and not np.any(weight.value())
    ]
    vectors = [name for name, mask in masks.items() if mask.ndim < 2 and not mask.all()]
    if vectors:
        warnings.warn(
            f"model {model.name!r}: {', '.join(vectors)} {'is' if len(vectors) == 1 else 'are'} "
            "pruned, and TFMOT does not quantize vectors: their zeros will train.",
            stacklevel=3,
        )
    if empty:
        warnings.warn(
            f"model {model.name!r}: {', '.join(empty)} {'is' if len(empty) == 1 else 'are'} zero "
            "throughout, and will stay so. If that is not by pruning but by an initializer, train "
            "the model first.",
            stacklevel=3,
        )


def scope() -> contextlib.AbstractContextManager:
    """In which tf_keras finds the classes of a quantization-aware model by their names."""
    return _quantization.quantize_scope()


@_keras.utils.register_keras_serializable(package="tf_synflow")
class KeepZeros(_quantization.QuantizeConfig):
    """What another configuration quantizes, with zeros of weights that stay zero.

    Args:
      config: the configuration of the layer.
    """

    def __init__(self, config: Any):
        self.config = config

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        pairs = self.config.get_weights_and_quantizers(layer)
        return [(weight, _Masked(quantizer, weight)) for weight, quantizer in pairs]

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return self.config.get_activations_and_quantizers(layer)

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return self.config.get_output_quantizers(layer)

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        self.config.set_quantize_weights(layer, quantize_weights)

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        self.config.set_quantize_activations(layer, quantize_activations)

    def get_config(self) -> dict[str, Any]:
        return {"config": _keras.utils.legacy.serialize_keras_object(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "KeepZeros":
        with scope():
            return cls(_keras.utils.legacy.deserialize_keras_object(config["config"]))


class _Masked(_quantization.quantizers.Quantizer):
    """Quantizes weight · mask. The mask is a variable, so that it is saved with the model."""

    def __init__(self, quantizer: Any, weight: Any):
        self._quantizer, self._weight = quantizer, weight

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        mask = layer.add_weight(
            f"{name}_mask",
            shape=tensor_shape,
            dtype=self._weight.dtype,
            initializer=lambda *_, **__: tf.cast(self._weight != 0, self._weight.dtype),
            trainable=False,
        )
        return {**self._quantizer.build(tensor_shape, name, layer), "mask": mask}

    def __call__(self, inputs: Any, training: bool, weights: dict[str, Any], **kwargs: Any) -> Any:
        kept, zero = weights["mask"] != 0, tf.zeros([], inputs.dtype)
        quantized = self._quantizer(tf.where(kept, inputs, zero), training, weights, **kwargs)
        # XLA makes NaN of a channel without a weight, of which the range is empty. A file does not,
        # and its converter looks for the quantized weight itself.
        return tf.where(kept, quantized, zero) if training else quantized

    def get_config(self) -> dict[str, Any]:
        return self._quantizer.get_config()


class _Registry(_quantization.default_8bit.Default8BitQuantizeRegistry):
    """TFMOT's configurations, of layers with weights with their zeros kept."""

    def get_quantize_config(self, layer: Any) -> Any:
        config = super().get_quantize_config(layer)
        return KeepZeros(config) if config.get_weights_and_quantizers(layer) else config


class _Layout(_quantization.default_8bit.Default8BitQuantizeLayoutTransform):
    """TFMOT's transformations, which choose configurations of their own for some layers."""

    def apply(self, model: Any, layer_quantize_map: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        model, chosen = super().apply(model, layer_quantize_map)
        registry = _Registry()
        for layer in model.layers:
            config = chosen.get(layer.name, {}).get("quantize_config")
            if config is None or not registry.supports(layer):
                continue
            keeping = registry.get_quantize_config(layer)
            if isinstance(keeping, KeepZeros):
                if not config.get_activations_and_quantizers(layer):
                    # The layer behind is to be quantized, and not what lies between.
                    keeping.config.activation_attrs = []
                chosen[layer.name]["quantize_config"] = keeping
        return model, chosen


class _Scheme(_quantization.default_8bit.Default8BitQuantizeScheme):
    def get_layout_transformer(self) -> Any:
        return _Layout()

    def get_quantize_registry(self) -> Any:
        return _Registry()
