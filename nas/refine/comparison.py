"""What full trainings change: the order of the networks against brief training, and the front. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas import pareto, refined
from nas.refined import Refined

FEWEST = 3
"""Networks below which an order says nothing."""
DRAWS = 4000
"""Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class Tau:
    """Kendall's tau-b of two orders of `n` networks, -1..1, and its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Brief and full training of the same networks.

    Args:
        networks: that are compared.
        unfinished: those with too few trainings for that.
        tau: between the brief accuracies and the means; None where it cannot be told.
        brief_front: trials on the front of these networks by their brief accuracies, smallest cost first.
        front: the same by the means of the full trainings.
        seed_std: pooled over the networks; None where no network has two trainings.
        seed_networks, seed_trainings: that it comes from.
    """

    networks: int
    unfinished: int
    tau: Tau | None
    brief_front: tuple[int, ...]
    front: tuple[int, ...]
    seed_std: float | None
    seed_networks: int
    seed_trainings: int

    @property
    def left(self) -> tuple[int, ...]:
        """Trials on the brief front only."""
        return tuple(trial for trial in self.brief_front if trial not in self.front)

    @property
    def came(self) -> tuple[int, ...]:
        """Trials on the refined front only."""
        return tuple(trial for trial in self.front if trial not in self.brief_front)


def compare(found: Sequence[Refined]) -> Comparison:
    """Compare; of nothing everything is empty. Order and fronts are of those that are `nas.refined.settled`."""
    ready = refined.settled(found)
    brief = [float(one.row.val_accuracy or 0.0) for one in ready]
    before = pareto.front([one.row.cost for one in ready], brief)
    several = [one for one in found if len(one.trainings) > 1]
    return Comparison(
        networks=len(ready),
        unfinished=len(found) - len(ready),
        tau=kendall(brief, [one.mean for one in ready]),
        brief_front=tuple(ready[index].row.trial for index in before),
        front=tuple(one.row.trial for one in refined.front(found)),
        seed_std=refined.seed_std(found),
        seed_networks=len(several),
        seed_trainings=sum(len(one.trainings) for one in several),
    )


def kendall(before: Sequence[float], after: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> Tau | None:
    """Kendall's tau-b of two values of the same networks, with a percentile bootstrap over the networks.

    None with fewer than `FEWEST` networks, or where all values of one side are equal. Values that differ by less than
    1e-9 count as equal: means of the same accuracies may round apart. Draws of networks that are all tied tell no
    order and are left out of the interval.

    Args:
        before, after: (n,), finite.
        draws: of the bootstrap, at least 1.
        seed: of the draws; the same values always give the same interval.
    """
    n = len(before)
    if n != len(after):
        raise ValueError(f"two values of each network are compared, got {n} and {len(after)}")
    if n < FEWEST:
        return None
    one, other = _signs(before), _signs(after)
    # How often each network is drawn is all that counts: every pair weighs by the product of its two counts.
    rng = np.random.default_rng(seed)
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=draws)])
    agreed, apart, apart_other = (
        np.einsum("di,ij,dj->d", weights, pairs, weights, optimize=True) for pairs in (one * other, one**2, other**2)
    )
    untied = (apart > 0) & (apart_other > 0)
    if not untied[0]:
        return None
    taus = np.clip(agreed[untied] / np.sqrt(apart[untied] * apart_other[untied]), -1, 1)
    low, high = np.quantile(taus[1:] if len(taus) > 1 else taus, (0.025, 0.975))
    return Tau(float(taus[0]), float(low), float(high), n)


def _signs(values: Sequence[float]) -> NDArray[np.float64]:
    """(n, n): whether the one is above (1), level with (0) or below (-1) the other."""
    numbers = np.asarray(values, dtype=np.float64)
    differences = numbers[:, None] - numbers[None, :]
    return np.where(np.abs(differences) < 1e-9, 0.0, np.sign(differences))


def said(comparison: Comparison) -> list[str]:
    """Lines for a person."""
    tau, n = comparison.tau, comparison.networks
    if tau is None:
        few = f"of {n} network{'s' * (n != 1)}" if n < FEWEST else "of networks that are all level"
        order = f"How far brief training told their order cannot be said {few}."
    else:
        order = (
            f"Order against brief training: Kendall's tau {tau.value:.2f} (95 % interval {tau.low:.2f} to "
            f"{tau.high:.2f}, bootstrap over {tau.n} networks)."
        )
    if comparison.seed_std is None:
        seeds = "Standard deviation between seeds: unknown, no network has two trainings."
    else:
        many = comparison.seed_networks
        seeds = (
            f"Standard deviation between seeds: {100 * comparison.seed_std:.2f} points, pooled over {many} "
            f"network{'s' * (many != 1)} with {comparison.seed_trainings} trainings."
        )
    moved = [
        f"{verb} trial{'s' * (len(trials) != 1)} {', '.join(map(str, trials))}"
        for verb, trials in (("without", comparison.left), ("now with", comparison.came))
        if trials
    ]
    change = f"{', '.join(moved)} against brief training" if moved else "the same as by brief training"
    left = comparison.unfinished
    unfinished = (
        f"{left} network{'s' * (left != 1)} with fewer trainings than the others: not compared, not chosen from."
    )
    return ([unfinished] if left else []) + [
        order,
        seeds,
        f"Front by the means: {len(comparison.front)} of the {n}, {change}.",
    ]
