"""Full trainings under way, one file each, and the one way that this package writes files: whole or not at all."""

from __future__ import annotations

import io
import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from nas.beside import beside
from nas.checksums import summed, unsummed
from nas.curve import EpochResult


class UnderWay(Protocol):
    """A training that can be kept after an epoch, and gone on with."""

    def checkpoint(self) -> dict[str, Any]:
        """All that the rest of it depends on."""

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there; ValueError where it is another training's."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of a training under way beside its weights.

    Args:
        curve: one reading an epoch, from epoch 1 on.
        seconds: trained so far.
        started_at: seconds since 1970.
    """

    curve: tuple[EpochResult, ...]
    seconds: float
    started_at: float


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for a part of it, not even after a power cut.

    Raises:
        OSError: the disk is full or refuses; nothing is left then.
        NasError: its folder cannot be made.
    """
    with beside(path) as aside:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


def keep(path: Path, training: UnderWay, progress: Progress) -> None:
    """Write a training as it stands after an epoch: a SHA-256 sum, and torch's own format.

    Raises:
        OSError, NasError: see `write_whole`.
    """
    stream = io.BytesIO()
    known = asdict(progress) | {"curve": [asdict(point) for point in progress.curve]}
    torch.save({"training": training.checkpoint(), "progress": known}, stream)
    write_whole(path, summed(stream.getvalue()))


def restore(path: Path, training: UnderWay) -> Progress | str | None:
    """Put a new training where the kept one stood.

    Returns:
        how far it is; None where none was kept; or one line about a file that does not serve: the training is then at
        its start, where it leads to the same result.
    """
    try:
        content = unsummed(path.read_bytes())
    except FileNotFoundError:
        return None
    if content is None:
        return f"{path} is damaged; that training begins anew"
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        known = found["progress"]
        curve = tuple(EpochResult(**point) for point in known["curve"])
        progress = Progress(curve, float(known["seconds"]), float(known["started_at"]))
        training.restore(found["training"])
    except (RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        why = " ".join(str(error).split())[:200]
        return f"{path} is no checkpoint of this training ({why}); it begins anew"
    return progress
