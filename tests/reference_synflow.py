"""SynFlow in plain NumPy and float64: forward and backward by hand, no TensorFlow.

It shares no code with tf_synflow, so that where both agree the numbers are right. It knows what
the two small networks of goldens/synflow.json need, and no more. Write that file again with

    python -m tests.reference_synflow
"""

import itertools
import json
import pathlib
import re

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / "goldens" / "synflow.json"
ROUNDS = (1, 10, 100)
COMPRESSIONS = (2, 10)

# (output, op, inputs, weights); a weight that ends in /kernel is prunable.
MLP = {
    "input": [6],
    "nodes": [
        ["a", "dense", ["input"], ["d1/kernel", "d1/bias"]],
        ["b", "relu", ["a"], []],
        ["c", "dense", ["b"], ["d2/kernel", "d2/bias"]],
        ["d", "relu", ["c"], []],
        ["output", "dense", ["d"], ["d3/kernel", "d3/bias"]],
    ],
    "shapes": {
        "d1/kernel": [6, 5], "d1/bias": [5],
        "d2/kernel": [5, 4], "d2/bias": [4],
        "d3/kernel": [4, 3], "d3/bias": [3],
    },
}  # fmt: skip
_BN = ("gamma", "beta", "moving_mean", "moving_variance")
RESIDUAL = {
    "input": [5, 5, 2],
    "nodes": [
        ["a", "conv", ["input"], ["c1/kernel"]],
        ["b", "batch_norm", ["a"], [f"bn1/{w}" for w in _BN]],
        ["c", "relu", ["b"], []],
        ["d", "conv", ["c"], ["c2/kernel"]],
        ["e", "batch_norm", ["d"], [f"bn2/{w}" for w in _BN]],
        ["f", "add", ["c", "e"], []],
        ["g", "relu", ["f"], []],
        ["h", "mean", ["g"], []],
        ["output", "dense", ["h"], ["head/kernel", "head/bias"]],
    ],
    "shapes": {
        "c1/kernel": [3, 3, 2, 3], **{f"bn1/{w}": [3] for w in _BN},
        "c2/kernel": [3, 3, 3, 3], **{f"bn2/{w}": [3] for w in _BN},
        "head/kernel": [3, 2], "head/bias": [2],
    },
}  # fmt: skip
NETWORKS = {"mlp": MLP, "residual": RESIDUAL}
EPSILON = 1e-3  # of batch normalization, Keras' default


def draw(shapes, seed):
    """Weights that float32 holds exactly, multiples of 2^-12, so that the file reads easily."""
    random = np.random.RandomState(seed)
    rules = {
        "gamma": lambda s: 1 + 0.8 * random.standard_normal(s),
        "moving_variance": lambda s: 0.5 + random.random_sample(s),
        "kernel": lambda s: random.standard_normal(s) * np.sqrt(2 / np.prod(s[:-1])),
    }
    weights = {}
    for name, shape in shapes.items():
        rule = rules.get(name.split("/")[1], lambda s: 0.2 * random.standard_normal(s))
        weights[name] = np.round(rule(shape) * 4096) / 4096
    return weights


def scores(network, weights, masks):
    """|θ ⊙ ∂R/∂θ| of the masked network of |θ|, for every kernel; and R."""
    theta = {n: np.abs(w) * (masks[n] if n in masks else 1.0) for n, w in weights.items()}
    values = {"input": np.ones(network["input"])}
    for output, op, inputs, names in network["nodes"]:
        values[output] = _FORWARD[op](*[values[i] for i in inputs], *[theta[n] for n in names])
    flow = {name: np.zeros_like(value) for name, value in values.items()}
    flow["output"] = np.ones_like(values["output"])
    gradients = {}
    for output, op, inputs, names in reversed(network["nodes"]):
        arguments = [values[i] for i in inputs] + [theta[n] for n in names]
        *to_inputs, to_kernel = _BACKWARD[op](flow[output], *arguments)
        for name, gradient in zip(inputs, to_inputs, strict=True):
            flow[name] = flow[name] + gradient
        if to_kernel is not None:
            gradients[names[0]] = to_kernel
    return {n: np.abs(theta[n] * gradients[n]) for n in masks}, float(values["output"].sum())


def prune(network, weights, compression, rounds):
    """Masks after the last round, and the smallest relative gap met at a threshold."""
    masks = {n: np.ones(s, bool) for n, s in network["shapes"].items() if n.endswith("/kernel")}
    total = sum(mask.size for mask in masks.values())
    narrowest = np.inf
    for k in range(1, rounds + 1):
        found, _ = scores(network, weights, masks)
        flat = np.concatenate([found[n].ravel() for n in masks])
        alive = np.concatenate([masks[n].ravel() for n in masks])
        keep = total - int((1.0 - compression ** (-k / rounds)) * total)
        # Highest first, the first of equals first, the removed last.
        order = np.lexsort((np.arange(total), -flat, ~alive))
        kept = np.zeros(total, bool)
        kept[order[:keep]] = True
        if keep < alive.sum():
            inside, outside = flat[order[keep - 1]], flat[order[keep]]
            narrowest = min(narrowest, (inside - outside) / inside)
        start = 0
        for name, mask in masks.items():
            masks[name] = kept[start : start + mask.size].reshape(mask.shape)
            start += mask.size
    return masks, narrowest


def _windows(x, kernel):
    """The zero-padded input as seen from each position of an odd kernel, stride 1."""
    height, width = kernel.shape[:2]
    padded = np.pad(x, [(height // 2,) * 2, (width // 2,) * 2, (0, 0)])
    for i in range(height):
        for j in range(width):
            yield i, j, padded[i : i + x.shape[0], j : j + x.shape[1]]


def _conv(x, kernel):
    return sum(window @ kernel[i, j] for i, j, window in _windows(x, kernel))


def _conv_backward(flow, x, kernel):
    to_kernel = np.zeros_like(kernel)
    for i, j, window in _windows(x, kernel):
        to_kernel[i, j] = np.einsum("hwi,hwo->io", window, flow)
    return _conv(flow, kernel[::-1, ::-1].swapaxes(2, 3)), to_kernel


def _batch_norm(x, gamma, beta, mean, variance):
    return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta


def _spread(flow, x):
    return np.broadcast_to(flow / (x.shape[0] * x.shape[1]), x.shape)


_FORWARD = {
    "dense": lambda x, kernel, bias: x @ kernel + bias,
    "conv": _conv,
    "batch_norm": _batch_norm,
    "relu": lambda x: np.maximum(x, 0),
    "add": lambda x, y: x + y,
    "mean": lambda x: x.mean(axis=(0, 1)),
}
# (flow at the output, inputs, weights) → (flow at each input, gradient of the kernel or None)
_BACKWARD = {
    "dense": lambda flow, x, kernel, bias: (kernel @ flow, np.outer(x, flow)),
    "conv": _conv_backward,
    "batch_norm": lambda flow, x, gamma, beta, mean, variance: (
        flow * gamma / np.sqrt(variance + EPSILON), None),
    "relu": lambda flow, x: (flow * (x > 0), None),
    "add": lambda flow, x, y: (flow, flow, None),
    "mean": lambda flow, x: (_spread(flow, x), None),
}  # fmt: skip


def bits(mask):
    """A mask as text."""
    return "".join("01"[int(b)] for b in mask.ravel())


def golden(name):
    """What the golden file holds of one network."""
    network = NETWORKS[name]
    # The first seed with some negative γ whose thresholds are all wide open, so that no rounding
    # error can flip a mask.
    for seed in itertools.count():
        weights = draw(network["shapes"], seed)
        gammas = [w for n, w in weights.items() if n.endswith("gamma")]
        runs = {(r, c): prune(network, weights, c, r) for r in ROUNDS for c in COMPRESSIONS}
        if all((g < 0).any() for g in gammas) and min(gap for _, gap in runs.values()) > 1e-6:
            break
    full = {n: np.ones(w.shape, bool) for n, w in weights.items() if n.endswith("/kernel")}
    found, total = scores(network, weights, full)
    return {
        "seed": seed,
        "R": total,
        "weights": {n: w.tolist() for n, w in weights.items()},
        "scores": {n: s.tolist() for n, s in found.items()},
        "masks": {
            f"rounds {r}, compression {c}": {n: bits(m) for n, m in masks.items()}
            for (r, c), (masks, _) in runs.items()
        },
    }


def main():
    """Writes the golden file."""
    GOLDEN.parent.mkdir(exist_ok=True)
    text = json.dumps({name: golden(name) for name in NETWORKS}, indent=1)
    text = re.sub(r"\[[^][]*\]", lambda row: " ".join(row[0].split()), text)  # a row on a line
    GOLDEN.write_text(text + "\n")
    print(f"wrote {GOLDEN}, {len(text):,} bytes")


if __name__ == "__main__":
    main()
