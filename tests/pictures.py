"""Small folders of pictures with made-up pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(seed: int, height: int = 9, width: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def picture(path: Path, seed: int, height: int = 9, width: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, height, width)).save(path)
    return path


def pictures(root: Path, counts: Mapping[str, int], start: int = 0) -> Path:
    """`counts` PNG files a class folder, all of different content."""
    seed = start
    for name, count in counts.items():
        for number in range(count):
            picture(root / name / f"{number:03}.png", seed)
            seed += 1
    return root
