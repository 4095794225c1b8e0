"""Trainings that were set aside, one file each, from which the same curve goes on."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch

from nas.study_folder import StudyFolder
from nas.training import Training


class Checkpoints:
    """The `paused` folder of one study. A file that is lost costs time and changes nothing: the seed is the same.

    Args:
        folder: the study's folder.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    def keep(self, training: Training, key: str) -> None:
        """Write a training as it stands, whole or not at all."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            torch.save(training.checkpoint(), aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def restore(self, training: Training, key: str) -> None:
        """Put a new training where the kept one stood; where its file is missing or damaged, leave it at its start."""
        try:
            training.restore(torch.load(self._path(key), map_location="cpu", weights_only=True))
        except (FileNotFoundError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
            return

    def drop(self, key: str) -> None:
        """Forget one that has ended."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder.paused(key)
