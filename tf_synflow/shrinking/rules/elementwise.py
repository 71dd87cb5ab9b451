"""Layers and ops that leave every unit what it is: activations, poolings, padding, dropout."""

from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.rules.registry import is_elementwise, unit_rule
from tf_synflow.shrinking.units import Kept, Signal

_RANKS = ("1D", "2D", "3D")


@unit_rule(
    *("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU"),
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout"),
    *(f"{kind}Pooling{rank}" for kind in ("Max", "Average") for rank in _RANKS),
    *(f"Global{kind}Pooling{rank}" for kind in ("Max", "Average") for rank in _RANKS),
    *(f"{kind}{rank}" for kind in ("ZeroPadding", "Cropping", "UpSampling") for rank in _RANKS),
    *("RepeatVector", "Identity"),
)
def same_units(call: Call) -> Signal:
    x = call.first()
    return Signal(x.ids, x.varies)


@unit_rule("Activation")
def activation(call: Call) -> Signal | None:
    return same_units(call) if is_elementwise(call.layer.activation) else None


@unit_rule("Rescaling")
def rescaling(call: Call) -> Signal | None:
    """A factor and a term, each one number or one for each unit."""
    layer, x = call.layer, call.first()
    terms = {"scale": np.asarray(layer.scale), "offset": np.asarray(layer.offset)}
    if any(term.shape not in ((), x.ids.shape) for term in terms.values()):
        return None

    def change(config: dict, kept: Kept) -> None:
        for name, term in terms.items():
            if term.shape:
                config[name] = term[kept.positions(x.ids)].tolist()

    call.change(change)
    return Signal(x.ids, x.varies | (call.survey.trained and (terms["offset"] != 0)))


@unit_rule("GaussianNoise", "AlphaDropout")
def noise(call: Call) -> Signal:
    """In training a zero does not stay one."""
    x = call.first()
    return Signal(x.ids, x.varies | call.survey.trained)


@unit_rule(
    *(
        f"ops.{name}"
        for name in "Relu Relu6 Sigmoid Tanh Silu Softplus Softsign Elu Selu Gelu LeakyRelu "
        "HardSigmoid HardSilu HardTanh Celu Mish Squareplus Exp Expm1 Log1p Sqrt Square Abs "
        "Absolute Negative Clip Identity".split()
    ),
    *(
        f"tf.{name}"
        for name in "nn.relu nn.relu6 nn.sigmoid math.sigmoid nn.tanh math.tanh nn.silu nn.swish "
        "nn.softplus math.softplus nn.softsign math.softsign nn.elu nn.selu nn.gelu "
        "nn.leaky_relu math.exp math.expm1 math.log1p math.sqrt math.square math.abs "
        "math.negative clip_by_value identity".split()
    ),
)
def function(call: Call) -> Signal | None:
    return same_units(call) if not has_arrays(call) else None


def has_arrays(call: Call) -> bool:
    """Whether a call has a constant with several units, which would have to be cut too."""
    return any(
        np.shape(leaf)[-1:] not in ((), (1,))
        for leaf in tf.nest.flatten((call.args, call.kwargs))
        if not isinstance(leaf, Signal) and _is_array(leaf)
    )


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape")
