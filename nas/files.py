"""A study's files outside its folder: at a URL that its machines share, and how a machine knows that it has its own.

Weights, checkpoints and what `nas refine` keeps lie in the study's folder. Machines that share no folder search with
``--files URL``, which the study's settings keep: what is written goes there as well, and what is missing is fetched.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.beside import beside
from nas.errors import StudyError
from nas.study_folder import StudyFolder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss", "oci"}
"""Stores without folders, where a file is there whole or not at all. Elsewhere one is written aside and then named."""
WANTED = ("weights", "refined")
"""Parts of the folder that are put there later where they could not be at once: what was trained, and is not redone."""
OF_ONE_FOLDER = ("folder", "files")
"""Settings that are no part of what was searched: a copy and a file of records leave them out."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s?#]+)")


def check_url(url: str) -> None:
    """Look a URL over without asking what is there.

    Raises:
        StudyError: it is none, says a password, or its kind of store is unknown or wants a package that is not here.
    """
    import fsspec

    found = _URL.fullmatch(url)
    if "@" in url and ":" in url.rpartition("@")[0].partition("://")[2]:
        protocol = url.partition("://")[0]
        raise StudyError(
            f"--files {protocol}://***@{re.split('[?#]', url.rpartition('@')[2])[0]}: the study keeps this URL, so "
            f"leave the password out; fsspec takes it from the environment, such as FSSPEC_{protocol.upper()}_PASSWORD"
        )
    if found is None:
        raise StudyError(
            f"--files {re.split('[?#]', url)[0]!r}: it must be PROTOCOL://PLACE, such as s3://bucket/nas or "
            "file:///mnt/shared, with nothing after ? or #"
        )
    try:
        fsspec.get_filesystem_class(found[1])
    except ImportError as error:  # fsspec names the package
        raise StudyError(f"--files {url}: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise StudyError(
            f"--files {url}: fsspec knows no {found[1]}://; take s3://, gs://, sftp:// or file://"
        ) from error


def _on_stderr(line: str) -> None:
    print(line, file=sys.stderr)


class Files:
    """What a study keeps at the URL of its settings. Of a study without one, every method sees the folder alone.

    A store that does not answer costs a line, said once until it answers again, and never what is in the folder.

    Args:
        folder: the study's.
        settings: the study's: `files` is the URL, `folder` the mark by which the study's place there is named.
        say: takes a line for a person; None is standard error.
    """

    def __init__(
        self, folder: StudyFolder, settings: Mapping[str, Any], say: Callable[[str], None] | None = None
    ) -> None:
        self.folder = folder
        self._say = say or _on_stderr
        self.url: str | None = settings.get("files")
        """None where there is none."""
        self._mark = str(settings["folder"]["id"]) if self.url is not None else ""
        self._place = f"{folder.name}-{self._mark[:12]}"
        self._owed: dict[Path, None] = {}
        self._folders: set[str] = set()
        self._down = False

    def put(self, path: Path) -> None:
        """Put a file of the folder there too, and with it what could not be put before."""
        if self.url is None:
            return
        self._owed.setdefault(path)
        for one in list(self._owed):
            if not self._tried(partial(self._upload, one), f"{one} is kept here alone"):
                return
            del self._owed[one]
        if self._down:  # nothing but a write proves it: some stores call a file missing when they cannot look
            self._say(f"{self.url} serves again.")
        self._down = False

    def fetch(self, path: Path, *, anew: bool = False) -> bool:
        """Have a file in the folder: whether it is there now.

        Args:
            anew: take the one at the URL where there is one, though there is one here.
        """
        if self.url is not None and (anew or not path.is_file()):
            self._tried(partial(self._download, path), f"{path} cannot be fetched")
        return path.is_file()

    def drop(self, path: Path) -> None:
        """Remove a file, here and there."""
        path.unlink(missing_ok=True)
        self._owed.pop(path, None)
        if self.url is not None:
            self._tried(partial(self._remove, path), f"{path.name} is left there")

    def names(self, part: str) -> set[str]:
        """Names of the files in a part of the folder there, ``weights`` for one; empty where it does not answer."""
        found: list[set[str]] = []
        if self.url is not None:
            self._tried(lambda: found.append(self._listed(part)), "what is there is not known")
        return found[0] if found else set()

    def catch_up(self) -> None:
        """Put there what is in the folder alone: of a study that got its URL late, or whose store was down."""
        if self.url is None:
            return
        if self.folder.mark.is_file():
            if not is_marked(self.folder, self._mark):
                return  # another study of this name left it
            self.put(self.folder.mark)
        for part in WANTED:
            there = self.names(part)
            for path in sorted((self.folder.path / part).glob("*.safetensors")):
                if path.name not in there and not self._down:
                    self.put(path)

    def close(self) -> None:
        """Say what is still owed."""
        left = sum(path.is_file() for path in self._owed)
        if left:
            self._say(
                f"{left} files are in {self.folder.path} alone: the next `nas search` here puts them at {self.url}"
            )

    @property
    def is_marked(self) -> bool:
        """Whether the study's place is there, as its first search made it; True where it does not answer."""
        found: list[bool] = []
        if self.url is not None:
            self._tried(lambda: found.append(self._is_there(self.folder.mark)), "what is there is not known")
        return all(found)

    def probe(self) -> None:
        """Write a file there and remove it.

        Raises:
            StudyError: one of both is refused.
        """
        place = f"{self._base}/.probe-{uuid.uuid4().hex}"
        try:
            self._make(self._base)
            self._system.pipe_file(place, b"nas")
            self._system.rm_file(place)
        except Exception as error:  # each kind of store has errors of its own
            raise StudyError(
                f"--files {self.url}: files cannot be written there ({_short(error)}); check the place, and that you "
                "may write and delete in it"
            ) from error

    @cached_property
    def _system(self) -> AbstractFileSystem:
        return self._opened[0]

    @property
    def _base(self) -> str:
        return f"{self._opened[1].rstrip('/')}/{self._place}"

    @cached_property
    def _opened(self) -> tuple[AbstractFileSystem, str]:
        import fsspec

        assert self.url is not None
        opened: tuple[AbstractFileSystem, str] = fsspec.core.url_to_fs(self.url)
        return opened

    def _at(self, path: Path) -> str:
        return f"{self._base}/{path.relative_to(self.folder.path).as_posix()}"

    def _is_there(self, path: Path) -> bool:
        self._system.invalidate_cache()
        try:
            self._system.info(self._at(path))  # `exists` takes any failure for a no
        except FileNotFoundError:
            return False
        return True

    def _upload(self, path: Path) -> None:
        if not path.is_file():  # it was dropped since
            return
        place = self._at(path)
        if self._is_object_store:
            self._system.put_file(str(path), place)
            return
        parent, _, name = place.rpartition("/")
        self._make(parent)
        aside = f"{parent}/.{name}.{socket.gethostname()}.{os.getpid()}"
        self._system.put_file(str(path), aside)
        self._system.mv(aside, place)

    def _make(self, place: str) -> None:
        if not self._is_object_store and place not in self._folders:
            self._system.makedirs(place, exist_ok=True)
            self._folders.add(place)

    def _download(self, path: Path) -> None:
        with beside(path) as aside:
            try:
                self._system.get_file(self._at(path), str(aside))
            except FileNotFoundError:
                return
            aside.replace(path)

    def _remove(self, path: Path) -> None:
        try:
            self._system.rm_file(self._at(path))
        except FileNotFoundError:
            pass  # another worker was first, or it never was there

    def _listed(self, part: str) -> set[str]:
        self._system.invalidate_cache()  # other machines write there too
        try:
            found = self._system.ls(f"{self._base}/{part}", detail=False)
        except FileNotFoundError:
            return set()
        return {name for name in (str(place).rpartition("/")[2] for place in found) if not name.startswith(".")}

    @property
    def _is_object_store(self) -> bool:
        names = self._system.protocol
        return bool(OBJECT_STORES & ({names} if isinstance(names, str) else set(names)))

    def _tried(self, action: Callable[[], None], otherwise: str) -> bool:
        """Do it; whether the store answered."""
        try:
            action()
        except Exception as error:  # each kind of store has errors of its own
            if not self._down:
                self._say(f"{self.url} does not serve ({_short(error)}): {otherwise}; what runs goes on.")
            self._down = True
            return False
        return True


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def new_mark(folder: StudyFolder) -> dict[str, str]:
    """What a new study's settings keep of the folder that it is made in."""
    return {"id": uuid.uuid4().hex, "host": socket.gethostname(), "path": str(folder.path.absolute())}


def mark(folder: StudyFolder, settings: Mapping[str, Any], made: Mapping[str, str]) -> None:
    """Write the mark into the folder of a study that was made here, so that the folder is known wherever it is moved.

    Args:
        settings: the study's.
        made: `new_mark` of this command: the study's own where this command made it.
    """
    kept = settings["folder"]
    of_this = kept["id"] == made["id"] or (kept["host"], kept["path"]) == (made["host"], made["path"])
    if of_this and not is_marked(folder, kept["id"]):
        with beside(folder.mark) as aside:
            aside.write_text(f"{kept['id']}\n", encoding="ascii")
            aside.replace(folder.mark)


def elsewhere(folder: StudyFolder, settings: Mapping[str, Any]) -> str | None:
    """One line where a study's weights are kept in another folder than this one, and at no URL; else None.

    Args:
        settings: the study's; one that was made before there were marks is taken to be here.
    """
    kept = settings.get("folder")
    if not isinstance(kept, Mapping) or settings.get("files") is not None:
        return None
    if is_marked(folder, str(kept.get("id"))):
        return None
    return (
        f"{str(folder.path)!r} on {socket.gethostname()} is not the folder where {kept.get('host')} keeps the weights "
        f"of study {folder.name!r} ({kept.get('path')}): trials that were paused there are trained anew here, and "
        "`nas export` and `nas refine` find only what was trained in their own folder. Share one folder (NFS or the "
        "like) as --studies-dir, or give `nas search --files URL`."
    )


def is_marked(folder: StudyFolder, known: str) -> bool:
    """Whether the folder carries this mark."""
    try:
        return folder.mark.read_text(encoding="ascii").strip() == known
    except (OSError, UnicodeDecodeError):
        return False
