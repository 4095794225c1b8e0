"""The line that a search has to beat: GoogLeNet's proportions at any width, in a space's own stem. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.architecture import Architecture
from nas.errors import SpaceError
from nas.projection import module_widths
from nas.references import REFERENCES
from nas.space import Space

OF = "googlenet"
"""The reference whose proportions make the line."""
MULTIPLES = 4096
"""Log-spaced width multipliers that are looked at: with 256 channel steps the widest module misses none."""


@dataclass(frozen=True, slots=True)
class LinePoint:
    """One network of the line.

    Args:
        multiplier: of GoogLeNet's widths, before rounding to channel steps: the smallest one looked at that gives it.
    """

    multiplier: float
    architecture: Architecture

    @property
    def name(self) -> str:
        """For tables: the same for the same network of a space."""
        return f"{OF} x {self.multiplier:.4g}"


def line(space: Space, points: int) -> list[LinePoint]:
    """Up to so many networks of the line, spread evenly on a log scale over the space's costs, smallest first.

    With K modules, module k takes the widths of GoogLeNet's module number round(8 (k - 1) / (K - 1)), counted from 3a
    as 0 (see `nas.projection.spread`), all times one multiplier and rounded to the space's channel steps, at least one.
    Stem, pools, classes and auxiliary heads are the space's. The networks are inside the space's budget, but may break
    its growth rule, as GoogLeNet does, and the ranges of its widths.

    Args:
        points: at least 1. Where the budget holds fewer networks of the line, all of them are given.

    Raises:
        SpaceError: under 1 point, or the budget holds no network of the line.
    """
    if points < 1:
        raise SpaceError(f"--points {points}: it must be a whole number of at least 1")
    inside = _inside(space)
    if not inside:
        low, high = space.cost_range
        raise SpaceError(
            f"no network of GoogLeNet's proportions is inside the budget of space {space.name!r}, {low:,} to {high:,} "
            f"{space.cost}"
        )
    costs = np.log([space.cost_of(point.architecture) for point in inside])
    targets = np.linspace(costs[0], costs[-1], points)
    taken = sorted({int(np.abs(costs - target).argmin()) for target in targets})
    return [inside[index] for index in taken]


def _inside(space: Space) -> list[LinePoint]:
    """All networks of the line inside the budget, by cost, each once."""
    network = REFERENCES[OF].architecture(space.classes)
    assert network is not None
    step = space.file.widths.step
    widths = module_widths(network, sum(space.file.network.stages))
    low, high = step / (2 * widths.max()), 1.0
    most = space.budget.max_params
    while space.shapes.architecture(_scaled(widths, high, step)).params < most:
        high *= 2
    found: dict[str, LinePoint] = {}
    before = None
    for multiplier in np.geomspace(low, high, MULTIPLES).tolist():
        scaled = _scaled(widths, multiplier, step)
        if before is not None and (scaled == before).all():
            continue
        before = scaled
        architecture = space.shapes.architecture(scaled)
        if space.budget.holds(architecture.params, architecture.macs):
            found.setdefault(architecture.key, LinePoint(multiplier, architecture))
    return sorted(found.values(), key=lambda point: (space.cost_of(point.architecture), point.multiplier))


def _scaled(widths: np.ndarray, multiplier: float, step: int) -> np.ndarray:
    return np.maximum(np.floor(widths * multiplier / step + 0.5), 1).astype(np.int64) * step
