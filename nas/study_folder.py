"""Where a study lives on disk: `studies/<name>/` with its database, weights, report and export."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nas.database import sqlite_url
from nas.errors import StudyError, choices

_NAME = re.compile(r"[\w][\w .+-]{0,99}", re.UNICODE)
_LONGEST = 255  # bytes, of Linux's file systems


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The folder of one study. Making this object touches no disk.

    Args:
        studies_dir: the folder that holds all studies.
        name: up to 100 letters, digits, spaces and ``_ . + -``, beginning with a letter or digit, so that it never
            leaves `studies_dir`.

    Raises:
        StudyError: a name that could not be a folder of its own.
    """

    studies_dir: Path
    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.endswith((" ", ".")):
            raise StudyError(
                f"study name {self.name[:120]!r}: allowed are up to 100 letters, digits, spaces and _ . + -, "
                "beginning with a letter or digit; choose another --study"
            )
        if len(self.name.encode()) > _LONGEST:
            raise StudyError(
                f"study name {self.name!r}: {len(self.name.encode())} bytes in UTF-8 are more than the {_LONGEST} that "
                "a folder's name may have; choose another --study"
            )

    @classmethod
    def existing(cls, studies_dir: Path, name: str) -> StudyFolder:
        """The folder of a study that has a database.

        Raises:
            StudyError: there is none; the nearest study's name and all names are said.
        """
        folder = cls(studies_dir, name)
        if not folder.database.is_file():
            known = sorted(p.parent.name for p in studies_dir.glob("*/study.db"))
            if not known:
                raise StudyError(f"no study {name!r}: {studies_dir} holds none; start one with `nas search`")
            raise StudyError(choices("study", name, known) + f" (in {studies_dir})")
        return folder

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.studies_dir / self.name

    @property
    def database(self) -> Path:
        """SQLite file with Optuna's tables and ours."""
        return self.path / "study.db"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of `database`; `StudyError` where its path cannot be one."""
        return sqlite_url(self.database)

    @property
    def artifacts(self) -> Path:
        """What optuna-dashboard shows as artifacts."""
        return self.path / "artifacts"

    @property
    def workers(self) -> Path:
        """One lock file for each worker that runs or ran."""
        return self.path / "workers"

    @property
    def mark(self) -> Path:
        """By which the folder is known, see `nas.files`."""
        return self.path / "folder.id"

    @property
    def report(self) -> Path:
        """The page that `nas report` writes."""
        return self.path / "report.html"

    @property
    def latency(self) -> Path:
        """What `nas report --latency` measured."""
        return self.path / "latency.json"

    @property
    def export(self) -> Path:
        """Where `nas export` writes by default."""
        return self.path / "export"

    @property
    def redundancy(self) -> Path:
        """What `nas redundancy` measured, a file for each network and its weights."""
        return self.path / "redundancy"

    def weights(self, key: str) -> Path:
        """Averaged weights of the network with this key; there while it is on the front."""
        return self.path / "weights" / f"{key}.safetensors"

    def paused(self, key: str) -> Path:
        """Checkpoint of the training of the network with this key; there while its trial is paused."""
        return self.path / "paused" / f"{key}.pt"

    def refined(self, key: str, recipe_hash: str, replicate: int) -> Path:
        """Averaged weights of one full training of the network with this key."""
        return self.path / "refined" / f"{key}-{recipe_hash[:16]}-{replicate}.safetensors"

    def refining(self, key: str, recipe_hash: str, replicate: int) -> Path:
        """Checkpoint of a full training of the network with this key; there until it is done."""
        return self.path / "refining" / f"{key}-{recipe_hash[:16]}-{replicate}.pt"


@contextmanager
def aside(folder: StudyFolder, done: str) -> Iterator[Path]:
    """A hidden folder beside the study's, for one command at a time, gone at the end with what is left in it.

    What a killed command left is removed first. No study is found in it: a database would lie a folder too deep.

    Args:
        folder: the study's; `studies_dir` is made where missing.
        done: what is done there, such as ``imported``.

    Raises:
        StudyError: another command does the same.
        OSError: it cannot be made.
    """
    path = folder.studies_dir / f".{done}-{folder.name}"
    path.mkdir(parents=True, exist_ok=True)
    held = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(f"study {folder.name!r} is being {done} by another command: wait for that") from error
        try:
            for left in path.iterdir():
                shutil.rmtree(left)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(held)
