"""Image files under a folder, found by their suffixes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from nas.data.files import shown
from nas.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, hidden files and the shadow folders of other systems left out.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith((".", "__MACOSX", "@eaDir"))]
    except OSError as error:
        raise DataError(
            f"folder {shown(str(folder))} cannot be read: {error.strerror}; check its permissions"
        ) from error


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file with an image's suffix."""
    # a dangling symlink counts: it is reported as broken, not passed over
    return os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.is_dir()


def images_under(folder: str | Path, refused: Callable[[DataError], None] | None = None) -> Iterator[str]:
    """Paths of all images under a folder; a symlink that leads into its own parents is read once.

    Args:
        refused: told of a folder that cannot be read, and the others are gone through; None raises.

    Raises:
        DataError: a folder cannot be read.
    """
    seen: set[str] = set()
    todo = [str(folder)]
    while todo:
        place = todo.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        try:
            there = entries(place)
        except DataError as error:
            if refused is None:
                raise
            refused(error)
            continue
        for entry in there:
            if entry.is_dir():
                todo.append(entry.path)
            elif is_image(entry):
                yield entry.path
