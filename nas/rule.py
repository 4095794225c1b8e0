"""The growth rule: shares that never fall with depth, drawn without rejection and kept exactly when rounded.

A share is the part of a module's output channels that looks at neighbours (3x3 and 5x5). Here widths are counted in
channel steps, as whole numbers, so that the rule is compared without floats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def growing(u: Floats) -> Floats:
    """A sequence in [0, 1] that never falls, from independent numbers in [0, 1]; both along the last axis.

    For uniform `u` the result is distributed exactly as as many uniform draws, sorted: uniform over all growing
    sequences. Unlike sorting, each `u[k]` keeps its meaning (where between the one before and 1 the next one lies),
    which a sampler that models each coordinate can learn.
    """
    count = u.shape[-1]
    out = np.empty_like(u)
    before = np.zeros(u.shape[:-1])
    for k in range(count):
        # The least of the m = count - k draws left is distributed as 1 - (1 - u)^(1/m) of what is left of [0, 1].
        before = np.clip(before + (1 - before) * (1 - (1 - u[..., k]) ** (1 / (count - k))), before, 1)
        out[..., k] = before
    return out


def ungrown(shares: Floats) -> Floats:
    """Numbers `u` in [0, 1] for which `growing(u)` is `shares`, a sequence in [0, 1] that never falls; last axis.

    After a share of 1 any number leads to 1 again: 0 is given.
    """
    count = shares.shape[-1]
    before = np.concatenate([np.zeros_like(shares[..., :1]), shares[..., :-1]], axis=-1)
    left = 1 - before
    part = np.divide(shares - before, left, out=np.zeros_like(shares), where=left > 0).clip(0, 1)
    return np.asarray(1 - (1 - part) ** np.arange(count, 0, -1))


def nearest_growing(values: Floats) -> Floats:
    """The sequence that never falls with the least sum of squared distances to `values`, (n,).

    Pooling of adjacent violators (Barlow et al. 1972): where a value falls below the mean before it, both are pooled.
    """
    means: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        mean, size = value, 1
        while means and means[-1] > mean:
            mean = (means[-1] * sizes[-1] + mean * size) / (sizes[-1] + size)
            size += sizes.pop()
            means.pop()
        means.append(mean)
        sizes.append(size)
    return np.repeat(means, sizes)


def repair(totals: Ints, shares: Floats, *, least: int = 2, spare: int = 2) -> Ints:
    """Whole numbers a_k nearest to `shares` whose exact shares a_k / n_k never fall, by dynamic programming.

    Args:
        totals: (rows, modules), n_k, each at least least + spare.
        shares: (rows, modules) or (1, modules), the drawn shares in [0, 1].
        least: smallest a_k.
        spare: a_k is at most n_k - spare.

    Returns:
        (rows, modules), the a_k with the least sum of (a_k / n_k - share_k)^2 under a_k n_(k-1) >= a_(k-1) n_k.
        There is always one if a common share fits every module (1/2 for even n_k and least = spare).
    """
    shares = np.broadcast_to(shares, totals.shape)
    nearest = np.clip(np.floor(shares * totals + 0.5).astype(np.int64), least, totals - spare)
    falls = (nearest[:, 1:] * totals[:, :-1] < nearest[:, :-1] * totals[:, 1:]).any(axis=1)
    if falls.any():  # rounding that already obeys is the optimum: nothing is nearer
        nearest[falls] = _chain(totals[falls], shares[falls], least, spare)
    return nearest


def _chain(totals: Ints, shares: Floats, least: int, spare: int) -> Ints:
    rows, modules = totals.shape
    states = np.arange(totals.max() - spare + 1, dtype=np.int64)
    costs: list[Floats] = []  # costs[k][row, a]: least sum over modules 0..k that ends in a_k = a
    limits: list[Ints] = []  # limits[k][row, a]: the largest a_(k-1) that a_k = a allows
    for k in range(modules):
        n = totals[:, k, None]
        cost = (states / n - shares[:, k, None]) ** 2
        cost[(states < least) | (states > n - spare)] = np.inf
        if k:
            limit = np.minimum(states * totals[:, k - 1, None] // n, states[-1])
            cost += np.take_along_axis(np.minimum.accumulate(costs[-1], axis=1), limit, axis=1)
            limits.append(limit)
        costs.append(cost)
    chosen = np.empty_like(totals)
    chosen[:, -1] = costs[-1].argmin(axis=1)
    every = np.arange(rows)
    for k in range(modules - 1, 0, -1):
        limit = limits[k - 1][every, chosen[:, k], None]
        chosen[:, k - 1] = np.where(states <= limit, costs[k - 1], np.inf).argmin(axis=1)
    return chosen


def repair_each(totals: Ints, shares_3: Floats, shares_5: Floats) -> tuple[Ints, Ints]:
    """As `repair`, for two chains at once: 3x3's and 5x5's exact shares each never fall, and 1x1 and pool keep a step.

    Args:
        totals: (rows, modules), n_k, multiples of four: then 1/4 and 1/4 always fit.
        shares_3: (rows, modules) or (1, modules), the drawn shares of 3x3.
        shares_5: the same for 5x5.

    Returns:
        a_k of 3x3 and of 5x5, each at least 1, their sum at most n_k - 2, with the least sum of squared distances.
    """
    shares_3, shares_5 = np.broadcast_to(shares_3, totals.shape), np.broadcast_to(shares_5, totals.shape)
    three, five = (repair(totals, shares, least=1, spare=3) for shares in (shares_3, shares_5))
    # The two chains meet only in their sum. Where it fits, the two optima are the joint optimum.
    over = (three + five > totals - 2).any(axis=1)
    for row in np.flatnonzero(over):
        three[row], five[row] = _joint(totals[row], shares_3[row], shares_5[row])
    return three, five


def _joint(totals: Ints, shares_3: Floats, shares_5: Floats) -> tuple[Ints, Ints]:
    """The exact joint optimum of one row, over all pairs (a of 3x3, a of 5x5)."""
    costs: list[Floats] = []  # costs[k][a3, a5]
    limits: list[Ints] = []
    for k, n in enumerate(totals):
        states = np.arange(n - 2, dtype=np.int64)
        three, five = states[:, None], states[None, :]
        cost = (three / n - shares_3[k]) ** 2 + (five / n - shares_5[k]) ** 2
        cost[(three < 1) | (five < 1) | (three + five > n - 2)] = np.inf
        if k:
            limit = np.minimum(states * totals[k - 1] // n, totals[k - 1] - 3)
            best = np.minimum.accumulate(np.minimum.accumulate(costs[-1], axis=0), axis=1)
            cost += best[np.ix_(limit, limit)]
            limits.append(limit)
        costs.append(cost)
    pair = np.unravel_index(costs[-1].argmin(), costs[-1].shape)
    pairs = [pair]
    for k in range(len(totals) - 1, 0, -1):
        limit_3, limit_5 = (limits[k - 1][a] for a in pair)
        allowed = costs[k - 1][: limit_3 + 1, : limit_5 + 1]
        pair = np.unravel_index(allowed.argmin(), allowed.shape)
        pairs.append(pair)
    chosen = np.array(pairs[::-1], dtype=np.int64)
    return chosen[:, 0], chosen[:, 1]
