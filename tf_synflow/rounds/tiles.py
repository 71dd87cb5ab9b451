"""Rounds of SynFlow, weight by weight, without all scores in memory at any time."""

from collections.abc import Iterable

import numpy as np

from tf_synflow import quantities
from tf_synflow.flow.network import Network
from tf_synflow.masks.cut import cut
from tf_synflow.masks.select import apportion
from tf_synflow.rounds import ranking
from tf_synflow.scores.synflow import SynapticFlow


def prune(
    network: Network, flow: SynapticFlow, densities: Iterable[float], scope: str
) -> dict[str, np.ndarray]:
    """The masks that `masks.select` would choose round by round among all scores."""
    flow.restart()
    for density in densities:
        tensors, _ = flow.factors()
        if not ranking.can_be_ranked(tensors):
            masks = flow.masks()
            ranking.checked(flow(masks), masks, network)
            tensors, _ = flow.factors()
        keep = quantities.kept_count(network.size, density)
        if scope == "global":
            cut(tensors, keep)
            continue
        sizes, left = (
            np.array([getattr(one.survivors, count) for one in tensors])
            for count in ("size", "count")
        )
        for one, share in zip(tensors, apportion(keep, sizes, left), strict=True):
            cut([one], share)
    return flow.masks()
