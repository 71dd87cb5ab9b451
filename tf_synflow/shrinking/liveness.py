"""Which units stay: those that something live leads from, to what is needed."""

import numpy as np

from tf_synflow.shrinking.call import Link
from tf_synflow.shrinking.survey import Survey
from tf_synflow.shrinking.units import Kept


def kept(survey: Survey, multiple_of: int = 1) -> Kept:
    """The units of a surveyed network that stay.

    A unit is needed if the network's outputs, or a layer that nothing is known of, read it; or if
    a live weight leads from it to a needed unit, and it is neither zero nor a constant that folds
    into the bias there. What joins units makes them one.

    Others stay to fill up: one unit of each input of a call that is made, and what widths lack to
    a multiple. What fills up is read by no needed unit, or stays zero, so it needs nothing itself.

    Args:
      survey: of the network.
      multiple_of: what the widths of layers are filled up to, where they were as wide before.
    """
    roots = survey.units.roots()
    links = [(roots[one.source.ids], roots[one.targets], one) for one in survey.links]
    live = [(sources, targets, _live(survey, one)) for sources, targets, one in links]
    constant = np.zeros(len(roots), bool)  # and read: it has to stay what it is
    for sources, _, one in links:
        if not survey.trained:  # zero for ever is zero, whatever leads to it
            constant[sources[~one.source.varies & one.live.any(axis=1)]] = True

    needed, filling = np.zeros(len(roots), bool), np.zeros(len(roots), bool)
    needed[roots[survey.units.fixed()]] = True

    def fill(candidates: np.ndarray, count: int = 1) -> None:
        spare = {one for one in candidates.tolist() if not (needed | filling)[one]}
        for one in sorted(spare, key=lambda one: (constant[one], one))[:count]:
            (needed if constant[one] else filling)[one] = True

    def settle() -> None:
        before = -1
        while before < np.count_nonzero(needed | filling):
            before = np.count_nonzero(needed | filling)
            for sources, targets, matrix in reversed(live):
                needed[sources[matrix[:, needed[targets]].any(axis=1)]] = True
            for need in reversed(survey.needs):
                if any((needed | filling)[roots[ids]].any() for ids in need.outputs):
                    for ids in need.inputs:
                        if len(ids) and not (needed | filling)[roots[ids]].any():
                            fill(roots[ids])
            for groups in survey.groups.values():
                for row, lacking in groups.lacking((needed | filling)[roots]):
                    fill(roots[row], lacking)

    settle()
    for ids in survey.widths():
        own = roots[ids]
        stay = needed[own] | filling[own]
        spare = own[~stay & ~constant[own]]
        lacking = -np.count_nonzero(stay) % multiple_of
        if stay.any() and lacking <= len(spare):
            filling[spare[:lacking]] = True
    settle()
    return Kept((needed | filling)[roots])


def _live(survey: Survey, link: Link) -> np.ndarray:
    """Which weights of a link carry anything that no bias can."""
    foldable = link.rows is not None and survey.calls[id(link.layer)] == 1
    sources = link.source.varies if foldable else link.source.active
    return link.live & sources[:, None]
