"""What the tests of spaces share: vectors, an edited file, and an oracle of the rule."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from nas.architecture import Architecture
from nas.space import Space, list_spaces, load_space

TINY = load_space("tiny").toml
GRIDS = ["bench", "bench-cifar10"]
"""Spaces of a few levels in every direction, with no ranges of their own for `growing-each`."""
DRAWN = ["bench-wide", "bench-wide-cifar10"]
"""Spaces of the recorded networks at random: every direction free, and no ranges for `growing-each` either."""
SPACES = [name for name in list_spaces() if name not in (*GRIDS, *DRAWN)]


def edited_tiny(folder: Path, *changes: tuple[str, str], name: str = "mine") -> Path:
    """The tiny space with some of its text replaced."""
    text = TINY
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def vectors(space: Space, count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Uniform ones, and one in eight with numbers at the very ends."""
    random = np.random.default_rng(seed)
    for number in range(count):
        vector = random.random(len(space.coordinates))
        if number % 8 == 0:
            ends = random.random(vector.size) < 0.5
            vector[ends] = random.integers(0, 2, vector.size)[ends]
        yield vector


def keeps(network: Architecture, rule: str, step: int) -> bool:
    """The rule and the steps, from the JSON alone, in whole numbers."""
    modules = [module for stage in network.to_json()["stages"] for module in stage]
    rows = []
    for m in modules:
        if any(width < step or width % step for width in m.values()):
            return False
        if m["reduce_3x3"] > m["out_3x3"] or m["reduce_5x5"] > m["out_5x5"]:
            return False
        total = m["out_1x1"] + m["out_3x3"] + m["out_5x5"] + m["out_pool"]
        if total % (2 * step):
            return False
        rows.append((total, m["out_3x3"], m["out_5x5"]))
    if rule == "growing":
        return all((b3 + b5) * n >= (a3 + a5) * m for (n, a3, a5), (m, b3, b5) in pairwise(rows))
    if rule == "growing-each":
        return all(b3 * n >= a3 * m and b5 * n >= a5 * m for (n, a3, a5), (m, b3, b5) in pairwise(rows))
    return True
