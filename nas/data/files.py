"""One image file -> one picture, the words for one that cannot be read, and files that stand where pixels would."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nas.data.source import fit, upright
from nas.errors import DataError

# What Pillow's readers raise on damaged files: its own Image.open counts the middle four as "cannot identify"
BROKEN = (OSError, SyntaxError, IndexError, TypeError, struct.error, ValueError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Images that stay in their files, with what a split and a training must know of them.

    Arrays, not objects: a million paths are 100 MB here, and cross to another process as one run of memory.

    Args:
        input_shape: (channels, height, width) that they are decoded to.
        paths: (n,) bytes, as the file system has them.
        sizes, changed_ns: (n,) int64, when their contents were read.
        sums: (n, 2, C) int64: of each image's pixels at the input shape, and of their squares.
    """

    input_shape: tuple[int, int, int]
    paths: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    changed_ns: NDArray[np.int64]
    sums: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: NDArray[np.int64]) -> Files:
        return Files(self.input_shape, self.paths[rows], self.sizes[rows], self.changed_ns[rows], self.sums[rows])

    def decode(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels of some: (n, H, W, C).

        Raises:
            DataError: a file is not what it was when it was listed.
        """
        channels, height, width = self.input_shape
        pixels = np.empty((len(rows), height, width, channels), np.uint8)
        for place, row in enumerate(rows):
            path = os.fsdecode(self.paths[row])
            try:
                status = os.stat(path)
                if (status.st_size, status.st_mtime_ns) != (self.sizes[row], self.changed_ns[row]):
                    raise ValueError("it was written since")
                pixels[place] = fit(picture(path), self.input_shape)
            except BROKEN as error:
                raise DataError(
                    f"image {shown(path)} is no longer what it was when it was first read ({why(error, path)}): bring "
                    "it back and give the same command again, or begin another study with the images as they are now"
                ) from error
        return pixels


def picture(path: str) -> Image.Image:
    """What a file shows, `upright`.

    Raises:
        One of `BROKEN`: it is not there, or cannot be decoded.
    """
    with Image.open(path) as image:
        return upright(image)


def why(error: BaseException, path: str) -> str:
    """What is wrong with a file, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "cannot identify image file"  # Pillow's own words name the path again, as its repr
    return shown(str(error).replace(path, "file"))[:200] or type(error).__name__


def shown(text: str) -> str:
    """A name for one line of a terminal: what cannot be printed, or is no Unicode, as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
