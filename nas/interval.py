"""Intervals of parts: how sure a count out of so many makes one."""

from __future__ import annotations

from scipy.special import betaincinv  # scipy.stats takes half a second to load


def part_interval(hits: int, of: int) -> tuple[float, float, float]:
    """(part, low, high): Clopper-Pearson, 95 %; of nothing NaN, 0, 1.

    Args:
        hits: 0..of.
        of: of how many, >= 0.
    """
    if of == 0:
        return float("nan"), 0.0, 1.0
    low = 0.0 if hits == 0 else float(betaincinv(hits, of - hits + 1, 0.025))
    high = 1.0 if hits == of else float(betaincinv(hits + 1, of - hits, 0.975))
    return hits / of, low, high
