"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.errors import written


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A place for a file beside `path`, gone at the end: write there, then ``replace(path)``.

    Whoever reads `path` sees the old file or the new one, never a half. Its folder is made where missing.

    Raises:
        NasError: the folder cannot be made.
        OSError: `path` is a folder, the folder cannot be written, or the disk is full; named `path`.
    """
    with written(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        target = path.absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            yield aside
        finally:
            aside.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether there is a process of this number on this machine: what it writes beside a path is not left behind."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True
