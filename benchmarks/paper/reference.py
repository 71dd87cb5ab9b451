"""SynFlow as the paper's own code computes it (Tanaka et al. 2020), in PyTorch; written anew.

Its facts are kept: the absolute value is taken of the whole state (masks and counters too) and
undone by the sign, in every round; inference mode; one image of ones; R is the sum of the raw
outputs; the scores of all weights, of those long removed too, are concatenated, and `kthvalue`
finds the threshold among them; a weight stays whose score is above it.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from paper.torch_network import Network


class Round(NamedTuple):
    """What one round took, on the clock and of the processors, and the weights each layer keeps."""

    seconds: float
    processor: float
    kept: dict[str, int]


def prune(network: Network, densities: Sequence[float]) -> list[Round]:
    """Lowers the density round by round, from all weights on."""
    network.eval()
    network.open_masks()
    rounds = []
    for density in densities:
        clock, processor = time.perf_counter(), time.process_time()
        keep_highest(network, scores_of(network), density)
        seconds = time.perf_counter() - clock, time.process_time() - processor
        kept = {n: int(layer.weight_mask.sum()) for n, layer in network.masked().items()}
        rounds.append(Round(*seconds, kept))
    return rounds


def scores_of(network: Network) -> dict[str, torch.Tensor]:
    """|θ ⊙ ∂R/∂θ| of every kernel of the masked network of |θ|."""
    signs = _take_absolute(network)
    dtype = next(network.parameters()).dtype
    ones = torch.ones(1, *network.input_shape, dtype=dtype)
    torch.sum(network(ones)).backward()
    scores = {}
    for name, layer in network.masked().items():
        scores[name] = torch.clone(layer.weight.grad * layer.weight).detach().abs_()
        layer.weight.grad.data.zero_()
    _restore(network, signs)
    return scores


@torch.no_grad()
def keep_highest(network: Network, scores: dict[str, torch.Tensor], density: float) -> None:
    """Masks all weights whose score is not above the threshold of all scores together."""
    everything = torch.cat([torch.flatten(score) for score in scores.values()])
    k = int((1.0 - density) * everything.numel())
    if k < 1:
        return
    threshold, _ = torch.kthvalue(everything, k)
    zero, one = everything.new_zeros(1), everything.new_ones(1)
    for name, layer in network.masked().items():
        layer.weight_mask.copy_(torch.where(scores[name] <= threshold, zero, one))


@torch.no_grad()
def _take_absolute(network: Network) -> dict[str, torch.Tensor]:
    signs = {}
    for name, tensor in network.state_dict().items():
        signs[name] = torch.sign(tensor)
        tensor.abs_()
    return signs


@torch.no_grad()
def _restore(network: Network, signs: dict[str, torch.Tensor]) -> None:
    for name, tensor in network.state_dict().items():
        tensor.mul_(signs[name])
