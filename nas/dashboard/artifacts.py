"""Files of a trial that nobody wrote: listed with the trial, made when they are opened."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import FrozenTrial

from nas.metric import Metric, in_words
from nas.records import Row

CURVE, CONFUSION = "c0", "cf"
_NAMES = {CURVE: "learning-curve.csv", CONFUSION: "confusion-matrix.csv"}
_ID = re.compile(r"(c0|cf)-([0-9a-f]{1,16})")
"""Optuna's own ids have five groups."""


def trial_artifacts(trial: FrozenTrial, answered: bool) -> dict[str, str]:
    """System attributes that list a trial's files in optuna-dashboard.

    Args:
        trial: with its id.
        answered: its confusion matrix is on record.
    """
    kinds = [CURVE] * bool(trial.intermediate_values) + [CONFUSION] * answered
    listed = {}
    for kind in kinds:
        name = f"{kind}-{trial._trial_id:x}"
        about = {"artifact_id": name, "filename": f"trial-{trial.number}-{_NAMES[kind]}"}
        listed[f"artifacts:{name}"] = json.dumps({**about, "mimetype": "text/csv", "encoding": None})
    return listed


class Artifacts:
    """An artifact store of Optuna's kind: what `trial_artifacts` lists, and what lies in a folder.

    Args:
        made: the bytes of a kind of file of the trial with this id; None where there are none.
        folder: of the study's artifacts; made when the first one is written.
    """

    def __init__(self, made: Callable[[str, int], bytes | None], folder: Path | None) -> None:
        self._made = made
        self._folder = folder

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open one for reading.

        Raises:
            ArtifactNotFound: there is none of this id.
        """
        found = _ID.fullmatch(artifact_id)
        if found is None:
            return self._store.open_reader(artifact_id)
        made = self._made(found[1], int(found[2], 16))
        if made is None:
            raise ArtifactNotFound("not found")
        return io.BytesIO(made)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write one into the folder."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._store.write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove one from the folder.

        Raises:
            ArtifactNotFound: there is none of this id in it.
        """
        self._store.remove(artifact_id)

    @property
    def _store(self) -> FileSystemArtifactStore:
        if self._folder is None:
            raise ArtifactNotFound("not found")
        return FileSystemArtifactStore(self._folder)


def curve_csv(metric: Metric, row: Row | None, trial: FrozenTrial) -> bytes:
    """Epoch, validation metric 0..1 and training loss; of a trial that has no record yet, its readings alone."""
    seen: dict[int, tuple[float, float | str]] = {
        step: (value, "") for step, value in trial.intermediate_values.items()
    }
    if row is not None:
        seen |= {epoch: (accuracy, loss) for epoch, accuracy, loss in row.curve}
    name = f"validation {in_words(metric)}"
    return _csv(["epoch", name, "training loss"], [[epoch, *seen[epoch]] for epoch in sorted(seen)])


def confusion_csv(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> bytes:
    """A line a true class: its images, how many of them are right, and how many got each answer."""
    head = ["true class", "images", "right", *(f"answer {name}" for name in classes)]
    lines = [
        [name, sum(line), line[label], *line] for label, (name, line) in enumerate(zip(classes, confusion, strict=True))
    ]
    return _csv(head, lines)


def _csv(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return text.getvalue().encode()
