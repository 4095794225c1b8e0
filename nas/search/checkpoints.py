"""Trainings that were set aside, one file each, from which the same curve goes on."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import torch

from nas.beside import beside
from nas.checksums import summed, unsummed, whole_zip
from nas.files import Files
from nas.study_folder import StudyFolder
from nas.training import Training


class Checkpoints:
    """The `paused` folder of one study. A file that is lost costs time and changes nothing: the seed is the same.

    Args:
        folder: the study's folder.
        files: where they are kept as well.
    """

    def __init__(self, folder: StudyFolder, files: Files | None = None) -> None:
        self._folder = folder
        self._files = files or Files(folder, {})

    def keep(self, training: Training, key: str) -> None:
        """Write a training as it stands, whole or not at all: a SHA-256 sum, and torch's own format.

        Raises:
            OSError, NasError: see `beside`.
        """
        content = io.BytesIO()
        torch.save(training.checkpoint(), content)
        path = self._path(key)
        with beside(path) as aside:
            aside.write_bytes(summed(content.getvalue()))
            aside.replace(path)
        self._files.put(path)

    def restore(self, training: Training, key: str) -> str | None:
        """Put a new training where the kept one stood.

        Returns:
            None, or one line about a file that does not serve: the training is then at its start, where it leads to
            the same curve.
        """
        path = self._path(key)
        self._files.fetch(path, anew=True)  # another machine may have gone on with it since
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return f"the checkpoint {path} is not there: that training begins anew"
        inner = unspoilt(content)
        if inner is None:
            return f"the checkpoint {path} is damaged: that training begins anew"
        try:
            training.restore(torch.load(io.BytesIO(inner), map_location="cpu", weights_only=True))
        except (EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            why = " ".join(str(error).split())[:200]
            return f"the checkpoint {path} is not of this training ({why}): that training begins anew"
        return None

    def drop(self, key: str, *, was_paused: bool) -> None:
        """Forget one that has ended.

        Args:
            was_paused: else there is none at the study's URL, which is then not asked.
        """
        if was_paused:
            self._files.drop(self._path(key))
        else:
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder.paused(key)


def unspoilt(content: bytes) -> bytes | None:
    """What torch wrote of a checkpoint; None where a bit of the file is another.

    `torch.load` looks at no sum of its ZIP file, so the older ones, which begin with it, are looked over here.
    """
    if not content.startswith(b"PK\x03\x04"):
        return unsummed(content)
    return content if whole_zip(io.BytesIO(content)) else None
