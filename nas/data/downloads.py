"""Files that torchvision downloads once: where they are kept, whether they are whole, and what to do where not."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from nas.errors import DataError

FAILURES = (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError, pickle.UnpicklingError, zlib.error)


def root() -> Path:
    """Where downloads are kept: the folder named by NAS_DATA, or .cache/nas in the user's home.

    Raises:
        DataError: there is no such home, as in a container that runs under a number alone.
    """
    named = os.environ.get("NAS_DATA") or "~/.cache/nas"
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError as error:
        raise DataError(f"the home of {named!r} is not known: name another folder for downloads in NAS_DATA") from error


@dataclass(frozen=True, slots=True)
class Checked:
    """A file whose content is known.

    Args:
        path: where it is, or would be.
        md5: of the file, or of what it unpacks to where `packed`; against damage, not against malice.
        packed: a gzip file, whose own bytes differ with the name and time in its header.
    """

    path: Path
    md5: str
    packed: bool = False

    def content(self) -> bytes | None:
        """All of it, unpacked; None where it is not whole."""
        try:
            content = self.path.read_bytes()
            content = gzip.decompress(content) if self.packed else content
        except (OSError, EOFError, zlib.error):
            return None
        return content if _md5(content) == self.md5 else None

    def damage(self) -> str | None:
        """What is wrong with the file, in words; None where it is whole, or is not there to be read."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        if self.packed:
            try:
                content = gzip.decompress(content)
            except (OSError, EOFError, zlib.error) as error:
                return (
                    f"it has {len(content):,} bytes of MD5 {_md5(content)} and does not unpack to {self.md5}: {error}"
                )
        found = _md5(content)
        what = "unpacked, its MD5" if self.packed else "its MD5"
        return None if found == self.md5 else f"{what} is {found}, not {self.md5}"


@contextmanager
def explained(
    name: str, url: str, files: Sequence[Checked], beside: Sequence[Checked] = (), hint: str = ""
) -> Iterator[None]:
    """Say in one line why a download failed, and which file that is there is damaged.

    Args:
        name: of the dataset.
        url: the folder that `files` come from.
        files: what is downloaded.
        beside: further files that a damage may be in: unpacked ones, or those of another place.
        hint: another thing that helps, ending in a comma and a space.

    Raises:
        DataError: for any failure of the network, the disk or an archive.
    """
    try:
        yield
    except FAILURES as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        lost = [file for file in files if file.content() is None] or files
        damages = ((file.path, file.damage()) for file in (*files, *beside))
        damaged = next((f"{path} is damaged ({what})" for path, what in damages if what), None)
        state = f"{name}: {damaged}, and a new copy" if damaged else f"{name} is not in {root()} and"
        raise DataError(
            f"{state} cannot be downloaded ({reason}): put {', '.join(file.path.name for file in lost)} from {url} "
            f"into {lost[0].path.parent}, name another folder in NAS_DATA, {hint}or use --dataset folder:PATH"
        ) from error


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
