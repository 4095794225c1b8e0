"""The member of a space that is nearest to a network from elsewhere: where a search may begin. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nas.architecture import Architecture
from nas.references import REFERENCES
from nas.rule import Floats, Ints
from nas.space import Space


@dataclass(frozen=True, slots=True)
class Member:
    """A network of a space, and where it is.

    Args:
        vector: one number in [0, 1] for each of `Space.coordinates`; `Space.decode` makes the network of it.
    """

    vector: tuple[float, ...]
    architecture: Architecture


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The network of a space that is nearest to some reference networks.

    Args:
        names: of the references, at least one.
    """

    names: tuple[str, ...]
    member: Member


def spread(count: int, modules: int) -> tuple[int, ...]:
    """Which of `count` modules, from 0, stands for each of `modules`: round((count - 1) k / (modules - 1)).

    The first for the first and the last for the last; halves are rounded up. One module takes the first.
    """
    last = modules - 1
    return tuple((2 * (count - 1) * k + last) // (2 * last) if last else 0 for k in range(modules))


def module_widths(architecture: Architecture, modules: int) -> Ints:
    """(modules, 6) channels of so many modules of a network, each at least 1, chosen by `spread`.

    A branch without a reduce, and a pool without a projection, count by the channels that pass: the module's input.
    """
    rows = [
        (
            module.out_1x1,
            module.reduce_3x3 or channels,
            module.out_3x3,
            module.reduce_5x5 or channels,
            module.out_5x5,
            module.out_pool or channels,
        )
        for module, (channels, _, _) in zip(architecture.modules, architecture.module_inputs(), strict=False)
    ]
    return np.array([rows[index] for index in spread(len(rows), modules)], dtype=np.int64)


def nearest(space: Space, architecture: Architecture) -> Member | None:
    """The network of the space that is nearest to another one, inside the rule, the ranges and the budget.

    Stem, pools and classes are the space's. A network with another number of modules is taken as `module_widths` says.
    Nearest is least in the sum of squares over what the space lets vary: relative widths, shares and parts of each
    module, each as a part of its range (`Shapes.realised`), and the cost as a part of the space's range on a log
    scale. The shape is the nearest one exactly, before rounding to channel steps; of its 256 sizes inside the budget
    the nearest is taken.

    Returns:
        None where none of these sizes is inside the budget.
    """
    widths = module_widths(architecture, sum(space.file.network.stages))
    shape = space.shapes.nearest(widths)
    wanted = np.array([_size(space, space.cost_of(architecture)), *space.shapes.realised(widths)])
    if space.levels[0] is not None:
        level = min(max(math.floor(wanted[0] * (space.levels[0] - 1) + 0.5), 0), space.levels[0] - 1)
        return _member(space, (level + 0.5) / space.levels[0], shape)
    found = space.shapes.candidates(shape)
    costs = found.params if space.cost == "params" else found.macs
    inside = [row for row in range(len(costs)) if space.budget.holds(int(found.params[row]), int(found.macs[row]))]

    def distance(row: int) -> float:
        there = np.array([_size(space, int(costs[row])), *space.shapes.realised(found.widths[row])])
        return float(((there - wanted) ** 2).sum())

    # `decode` takes the highest cost that is at most the target, so a row's own cost names it
    members = (_member(space, _size(space, int(costs[row])), shape) for row in sorted(inside, key=distance))
    return next((member for member in members if member is not None), None)


def warm_starts(space: Space) -> tuple[list[WarmStart], list[str]]:
    """The members nearest to the Inception references, in the order of `REFERENCES`, each network once.

    Returns:
        them, and the names of the references for which the space has none.
    """
    found: dict[str, WarmStart] = {}
    without = []
    for name, reference in REFERENCES.items():
        architecture = reference.architecture(space.classes)
        if architecture is None:
            continue
        member = nearest(space, architecture)
        if member is None:
            without.append(name)
            continue
        key = member.architecture.key
        before = found[key].names if key in found else ()
        found[key] = WarmStart((*before, name), found[key].member if before else member)
    return list(found.values()), without


def _member(space: Space, size: float, shape: Floats) -> Member | None:
    vector = (min(max(size, 0.0), 1.0), *shape.tolist())
    architecture = space.decode(vector)
    return Member(vector, architecture) if space.allows(architecture) else None


def _size(space: Space, cost: int) -> float:
    """Where a cost lies in the space's range on a log scale: 0 and 1 are its ends; 0 of a range that is one cost."""
    low, high = space.cost_range
    return math.log(cost / low) / math.log(high / low) if high > low else 0.0
