"""What a reading measures on the validation images: the plain accuracy, or the one that weighs all classes alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Metric = Literal["accuracy", "balanced-accuracy"]
METRICS: tuple[Metric, ...] = ("accuracy", "balanced-accuracy")
SKEWED = 3
"""A largest class of more than so many times the smallest one's images is warned about."""


def in_words(metric: Metric) -> str:
    """The metric as a person reads it, without ``validation``."""
    return metric.replace("-", " ")


def metric_of(kept: Mapping[str, Any]) -> Metric:
    """The metric in a study's identity or settings; studies made before there was a choice measured accuracy."""
    metric: Metric = kept.get("metric", "accuracy")
    return metric


def noise_images(metric: Metric, images: Sequence[int]) -> int:
    """So many images, read by plain accuracy, give a reading as uncertain as the metric on these.

    One image of a class with n images weighs 1 / (classes * n) in balanced accuracy, so its readings have no one
    step: the finest, of the largest class, is far below their noise, which the smallest class makes. Where each class
    is right equally often, the variance is that of a plain accuracy over classes * (the harmonic mean of n) images:
    all of them where the classes are equally large, and fewer the more they differ.

    Args:
        images: validation images of each class; classes without any are left out, as they are of the metric.

    Returns:
        rounded down, at least 1.
    """
    there = [number for number in images if number]
    if metric == "accuracy" or not there:
        return max(1, sum(there))
    return max(1, math.floor(len(there) ** 2 / sum(1 / number for number in there) + 1e-9))


def skewed(images: Mapping[str, int]) -> str | None:
    """One line of warning for plain accuracy where the classes differ by more than `SKEWED` times; else None.

    Args:
        images: training images by class, at least one class.
    """
    largest, smallest = max(images, key=lambda name: images[name]), min(images, key=lambda name: images[name])
    if images[largest] <= SKEWED * images[smallest]:
        return None
    return (
        f"Warning: class {largest!r} has {images[largest]:,} training images, class {smallest!r} only "
        f"{images[smallest]:,}; accuracy hardly sees the small classes: --metric balanced-accuracy weighs all alike."
    )
