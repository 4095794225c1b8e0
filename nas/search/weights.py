"""A network's own averaged weights, kept for as long as it is on the front: what `nas export` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nas.beside import beside
from nas.checksums import packed
from nas.files import Files
from nas.pareto import front
from nas.records import Row
from nas.search.study import OpenStudy
from nas.study_folder import StudyFolder


class FrontWeights:
    """The `weights` folder of one study.

    Args:
        folder: the study's folder.
        opened: the study.
        files: where they are kept as well.
    """

    def __init__(self, folder: StudyFolder, opened: OpenStudy, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._there: set[str] | None = None
        self._removed: set[str] = set()
        self._records = opened.records
        self._number = opened.record.id

    def wants(self, row: Row) -> bool:
        """Whether a network that is about to be recorded is on the front; one that is not will never be."""
        return row.key in _front([*self._records.complete(self._number), (row.key, row.cost, row.val_accuracy or 0.0)])

    def keep(self, row: Row, weights: Mapping[str, Tensor] | Path) -> None:
        """Write the weights of a network that is about to be recorded, if it is on the front; whole or not at all.

        Args:
            weights: a state, or the file with one.

        Raises:
            OSError, NasError: see `beside`.
        """
        if not self.wants(row):
            return
        path = self._folder.weights(row.key)
        with beside(path) as aside:
            aside.write_bytes(weights.read_bytes() if isinstance(weights, Path) else packed(weights))
            aside.replace(path)
        self._files.put(path)
        if self._there is not None:
            self._there.add(row.key)

    def drop_beaten(self) -> None:
        """Remove the weights of networks that are recorded and no longer on the front.

        A network without a row is another worker's that is about to write one, and stays.
        """
        complete = self._records.complete(self._number)
        on_front = _front(complete)
        beaten = {key for key, _, _ in complete} - on_front
        for key in beaten - self._removed:  # what is beaten stays so
            self._folder.weights(key).unlink(missing_ok=True)
        self._removed |= beaten
        # Each removal at the URL is a question there: of those alone that were there at first, or on the front since.
        if self._there is None:
            self._there = {name.partition(".")[0] for name in self._files.names("weights")}
        for key in self._there & beaten:
            self._files.drop(self._folder.weights(key))
        self._there = (self._there | on_front) - beaten


def _front(complete: list[tuple[str, int, float]]) -> set[str]:
    on_front = front([cost for _, cost, _ in complete], [accuracy for _, _, accuracy in complete])
    return {complete[index][0] for index in on_front}
