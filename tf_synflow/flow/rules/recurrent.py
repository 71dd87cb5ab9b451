"""Recurrent layers: their cell, step after step; gates are products of branches.

A cell's rule is registered like a layer's, with the signature `rule(cell, theta, x, states)`, and
gives the output and the new states. Activations that bend are left out, so that a step is sums and
gates of matrix products; flow adds up over the steps and does not grow with the gates.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_synflow.flow import graph, tensor, weights
from tf_synflow.flow.rules.activation import activation
from tf_synflow.flow.rules.registry import apply, flow_keywords, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta

States = list[FlowTensor]

# --- cells ----------------------------------------------------------------------------------------


@flow_rule("SimpleRNNCell")
def simple_rnn_cell(
    cell: Any, theta: Theta, x: FlowTensor, states: States
) -> tuple[FlowTensor, States]:
    x = _matmul(x, theta.kernel).plus(theta.bias)
    output = tensor.add([x, _matmul(states[0], theta.recurrent_kernel)])
    output = activation(cell.activation, theta, output)
    return output, [output]


@flow_rule("LSTMCell")
def lstm_cell(cell: Any, theta: Theta, x: FlowTensor, states: States) -> tuple[FlowTensor, States]:
    h, c = states
    z = tensor.add([_matmul(x, theta.kernel).plus(theta.bias), _matmul(h, theta.recurrent_kernel)])
    return _lstm(cell, theta, _gates(z, 4), c)


@flow_rule("GRUCell")
def gru_cell(cell: Any, theta: Theta, x: FlowTensor, states: States) -> tuple[FlowTensor, States]:
    """The new state z·h + (1 − z)·h̃, where the gate 1 − z, a constant and a flow, counts as one."""
    h = states[0]
    if theta.bias is None:
        bias = recurrent_bias = None
    else:
        bias, recurrent_bias = tf.unstack(theta.bias) if cell.reset_after else (theta.bias, None)
    x_z, x_r, x_h = _gates(_matmul(x, theta.kernel).plus(bias), 3)
    if cell.reset_after:
        h_z, h_r, h_h = _gates(_matmul(h, theta.recurrent_kernel).plus(recurrent_bias), 3)
        r = activation(cell.recurrent_activation, theta, tensor.add([x_r, h_r]))
        candidate = tensor.product([h_h, r])
    else:
        kernel_z, kernel_r, kernel_h = tf.split(theta.recurrent_kernel, 3, axis=-1)
        h_z, h_r = _matmul(h, kernel_z), _matmul(h, kernel_r)
        r = activation(cell.recurrent_activation, theta, tensor.add([x_r, h_r]))
        candidate = _matmul(tensor.product([h, r]), kernel_h)
    z = activation(cell.recurrent_activation, theta, tensor.add([x_z, h_z]))
    candidate = activation(cell.activation, theta, tensor.add([x_h, candidate]))
    output = tensor.add([tensor.product([h, z]), candidate])
    return output, [output]


@flow_rule("ConvLSTMCell")
def conv_lstm_cell(
    cell: Any, theta: Theta, x: FlowTensor, states: States
) -> tuple[FlowTensor, States]:
    first = cell.data_format == "channels_first"
    rank = len(x.shape)
    to_last = [0, *range(2, rank), 1] if first else list(range(rank))
    to_first = [0, rank - 1, *range(1, rank - 1)] if first else list(range(rank))
    x, h, c = (t.moved(lambda value: tf.transpose(value, to_last)) for t in (x, *states))
    z = x.linear(
        lambda value: tf.nn.convolution(
            value, theta.kernel, cell.strides, cell.padding.upper(), dilations=cell.dilation_rate
        )
    ).plus(theta.bias)
    h = h.linear(lambda value: tf.nn.convolution(value, theta.recurrent_kernel, padding="SAME"))
    output, states = _lstm(cell, theta, _gates(tensor.add([z, h]), 4), c)
    h, c = (t.moved(lambda value: tf.transpose(value, to_first)) for t in states)
    return h, [h, c]


@flow_rule("StackedRNNCells")
def stacked_cells(
    cell: Any, theta: Theta, x: FlowTensor, states: States
) -> tuple[FlowTensor, States]:
    states, new_states = list(states), []
    for inner in cell.cells:
        count = len(tf.nest.flatten(inner.state_size))
        x, changed = apply(inner, theta, x, [states.pop(0) for _ in range(count)])
        new_states.extend(changed)
    return x, new_states


# --- layers ---------------------------------------------------------------------------------------


@flow_rule("RNN", "SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
def rnn(
    layer: Any,
    theta: Theta,
    x: FlowTensor,
    initial_state: Any = None,
    **keywords: Any,
) -> Any:
    """The cell over the steps of a sequence, from a state of zeros or a given one."""
    if isinstance(x, list | tuple):  # tf_keras passes the states on beside the sequence
        x, *initial_state = x
    steps = x.moved(lambda value: tf.reverse(value, [1])) if layer.go_backwards else x
    cell = layer.cell
    if initial_state:
        states = list(tf.nest.flatten(initial_state))
    else:
        states = [
            FlowTensor.of(tf.zeros(shape, theta.dtype)) for shape in _state_shapes(cell, theta, x)
        ]

    def step(x_t: FlowTensor, states: States) -> tuple[FlowTensor, States]:
        return apply(cell, theta, x_t, states)

    outputs, states = _scan(step, steps, states)
    output = outputs if layer.return_sequences else outputs.moved(lambda value: value[:, -1])
    return [output, *states] if layer.return_state else output


@flow_rule("Bidirectional")
def bidirectional(
    layer: Any, theta: Theta, x: FlowTensor, initial_state: Any = None, **keywords: Any
) -> Any:
    if isinstance(x, list | tuple):
        x, *initial_state = x
    given = list(tf.nest.flatten(initial_state)) if initial_state else []
    half = len(given) // 2
    forward = _as_list(apply(layer.forward_layer, theta, x, initial_state=given[:half]))
    backward = _as_list(apply(layer.backward_layer, theta, x, initial_state=given[half:]))
    y, z = forward[0], backward[0]
    if layer.forward_layer.return_sequences:
        z = z.moved(lambda value: tf.reverse(value, [1]))
    states = [*forward[1:], *backward[1:]]
    if layer.merge_mode is None:
        return [y, z, *states]
    merged = {
        "sum": lambda: tensor.add([y, z]),
        "ave": lambda: tensor.add([y, z]).linear(lambda value: value / 2),
        "mul": lambda: tensor.product([y, z]),
        "concat": lambda: tensor.combine(lambda values: tf.concat(values, axis=-1), [y, z]),
    }[layer.merge_mode]()
    return [merged, *states] if states else merged


@flow_rule("TimeDistributed")
def time_distributed(layer: Any, theta: Theta, x: FlowTensor, **keywords: Any) -> FlowTensor:
    """The layer inside, with the steps as the batch."""
    steps = x.moved(lambda value: tf.reshape(value, [-1, *value.shape[2:]]))
    output = inner(layer.layer, theta, steps)
    return output.moved(lambda value: tf.reshape(value, [*x.shape[:2], *value.shape[1:]]))


def inner(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    """Applies a layer, or a model, that is inside another layer."""
    if not weights.is_model(layer):
        return apply(layer, theta, x)

    def call(part: Any, path: str, args: tuple, kwargs: dict) -> Any:
        return apply(part, theta, *args, **flow_keywords(kwargs))

    return graph.run(layer, [x], call)[0]


# --- helpers --------------------------------------------------------------------------------------


def _scan(
    step: Callable[[FlowTensor, States], tuple[FlowTensor, States]],
    x: FlowTensor,
    states: Sequence[FlowTensor],
) -> tuple[FlowTensor, States]:
    """Runs the steps along axis 1: all outputs, brought to one scale, and the last states."""

    def body(carried: Any, value: tf.Tensor) -> Any:
        _, states = carried
        output, states = step(
            FlowTensor(value, x.log2_scale), [FlowTensor(*pair) for pair in states]
        )
        return _pair(output), [_pair(state) for state in states]

    values = tf.transpose(x.value, [1, 0, *range(2, len(x.shape))])
    # The first step shows the shape of an output.
    first = body((None, [_pair(state) for state in states]), values[0])
    if x.shape[1] == 1:
        outputs = tf.nest.map_structure(lambda t: t[tf.newaxis], first)
    else:
        rest = tf.scan(body, values[1:], initializer=first)
        outputs = tf.nest.map_structure(
            lambda one, more: tf.concat([one[tf.newaxis], more], 0), first, rest
        )
    (value, log2_scale), states = outputs
    scale = tf.reduce_max(log2_scale)
    factors = tf.stop_gradient(tf.pow(tf.constant(2, value.dtype), log2_scale - scale))
    value = value * tf.reshape(factors, [-1, *[1] * (len(value.shape) - 1)])
    value = tf.transpose(value, [1, 0, *range(2, len(value.shape))])
    last = [FlowTensor(state[-1], state_scale[-1]) for state, state_scale in states]
    return FlowTensor(value, scale), last


def _pair(x: FlowTensor) -> tuple[tf.Tensor, tf.Tensor]:
    return x.value, x.log2_scale


def _matmul(x: FlowTensor, kernel: tf.Tensor) -> FlowTensor:
    return x.linear(lambda value: tf.matmul(value, kernel))


def _gates(z: FlowTensor, n: int) -> list[FlowTensor]:
    return [FlowTensor(part, z.log2_scale) for part in tf.split(z.value, n, axis=-1)]


def _lstm(
    cell: Any, theta: Theta, gates: list[FlowTensor], c: FlowTensor
) -> tuple[FlowTensor, States]:
    i, f, g, o = gates
    i, f, o = (activation(cell.recurrent_activation, theta, gate) for gate in (i, f, o))
    g = activation(cell.activation, theta, g)
    c = tensor.add([tensor.product([c, f]), tensor.product([g, i])])
    h = tensor.product([activation(cell.activation, theta, c), o])
    return h, [h, c]


def _state_shapes(cell: Any, theta: Theta, x: FlowTensor) -> list[tuple[int, ...]]:
    """Shapes of the states before the first step."""
    if hasattr(cell, "cells"):
        return [shape for part in cell.cells for shape in _state_shapes(part, theta, x)]
    if hasattr(cell, "filters"):  # a convolution: the shape of its output
        spatial = x.shape[3:] if cell.data_format == "channels_first" else x.shape[2:-1]
        if cell.padding == "valid":
            size = [(k - 1) * d for k, d in zip(cell.kernel_size, cell.dilation_rate, strict=True)]
            spatial = [
                -(-(n - k) // s) for n, k, s in zip(spatial, size, cell.strides, strict=True)
            ]
        else:
            spatial = [-(-n // s) for n, s in zip(spatial, cell.strides, strict=True)]
        shape = (
            (cell.filters, *spatial)
            if cell.data_format == "channels_first"
            else (*spatial, cell.filters)
        )
        return [(x.shape[0], *shape)] * 2
    return [(x.shape[0], size) for size in tf.nest.flatten(cell.state_size)]


def _as_list(output: Any) -> list[FlowTensor]:
    return list(output) if isinstance(output, list | tuple) else [output]
