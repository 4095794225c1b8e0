"""Parameters as places in their ranges, for a model, and back."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


def unit_inputs(kind: BaseDistribution, value: Any) -> list[float]:
    """A parameter for the model: its place in its range, in 0..1; of categories one number each, 1 for its own."""
    if isinstance(kind, CategoricalDistribution):
        place = kind.to_internal_repr(value)
        return [float(place == index) for index in range(len(kind.choices))]
    assert isinstance(kind, FloatDistribution | IntDistribution)
    low, high = float(kind.low), float(kind.high)
    if high == low:
        return [0.5]
    if kind.log:
        return [math.log(float(value) / low) / math.log(high / low)]
    return [(float(value) - low) / (high - low)]


def parameter_at(kind: BaseDistribution, unit: float) -> Any:
    """The parameter at a place in its range, which is 0..1; whole numbers and steps have equal parts of it."""
    if isinstance(kind, CategoricalDistribution):
        return kind.choices[min(int(unit * len(kind.choices)), len(kind.choices) - 1)]
    assert isinstance(kind, FloatDistribution | IntDistribution)
    low, high, step = float(kind.low), float(kind.high), float(kind.step or 0)
    if kind.log:
        low, high = (low - step / 2, high + step / 2) if step else (low, high)
        number = low * (high / low) ** unit
    elif step:
        number = low + step * min(int(unit * (round((high - low) / step) + 1)), round((high - low) / step))
    else:
        number = low + unit * (high - low)
    if isinstance(kind, IntDistribution):
        return min(max(round(number), kind.low), kind.high)
    return min(max(number, float(kind.low)), float(kind.high))


def magnitude(amount: float) -> float:
    """An amount by its order of magnitude where it is positive, as it is elsewhere."""
    return math.log10(amount) if amount > 0 else amount


def van_der_corput(number: int) -> float:
    """The `number`-th of a sequence in (0, 1) whose every beginning is spread evenly: 1/2, 1/4, 3/4, 1/8, ...

    Args:
        number: from 1.
    """
    value, place = 0.0, 0.5
    while number:
        value += place * (number & 1)
        number >>= 1
        place /= 2
    return value
