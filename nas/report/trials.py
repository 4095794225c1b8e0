"""What the page's script knows of every trial: columns, so that 10,000 trials stay small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.outcome import Outcome
from nas.refined import Refined
from nas.report.figures import refined_words


def columns(outcome: Outcome) -> dict[str, list[Any]]:
    """One list a column, trials in the rows' order; JSON data, nothing escaped: a script must set it as text.

    ``number``, ``state``, ``params``, ``macs``, ``accuracy`` (0..1, the last reading; None where none was taken),
    ``seconds``, ``reason`` (None of a complete one), ``stem`` (channels that the first module reads), ``sides`` (index
    into the list of `sides`), ``widths`` (six a module in the order of `InceptionWidths`, module after module),
    ``epochs`` and ``curve`` (of every reading; ``epochs`` is None where they are 1, 2, 3 and so on).
    """
    rows = outcome.rows
    shapes = _shapes(outcome)
    where = {sides: index for index, sides in enumerate(sides_of(outcome))}
    return {
        "number": [row.trial for row in rows],
        "state": [row.state for row in rows],
        "params": [row.params for row in rows],
        "macs": [row.macs for row in rows],
        "accuracy": [None if row.val_accuracy is None else round(row.val_accuracy, 6) for row in rows],
        "seconds": [round(row.seconds, 1) for row in rows],
        "reason": [row.reason for row in rows],
        "stem": [channels for channels, _ in shapes],
        "sides": [where[sides] for _, sides in shapes],
        "widths": [
            [
                width
                for m in row.architecture.modules
                for width in (m.out_1x1, m.reduce_3x3, m.out_3x3, m.reduce_5x5, m.out_5x5, m.out_pool)
            ]
            for row in rows
        ],
        "epochs": [_epochs(row.curve) for row in rows],
        "curve": [[round(accuracy, 4) for _, accuracy, _ in row.curve] for row in rows],
    }


def sides_of(outcome: Outcome) -> list[tuple[tuple[int, int], ...]]:
    """(height, width) of the map that each module reads: the distinct ones among the trials, usually one."""
    return list(dict.fromkeys(sides for _, sides in _shapes(outcome)))


def _shapes(outcome: Outcome) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
    """Of each row: channels that the first module reads, and the side of each module's map."""
    made = []
    for row in outcome.rows:
        inputs = row.architecture.module_inputs()[:-1]
        made.append((inputs[0][0], tuple((height, width) for _, height, width in inputs)))
    return made


def full_trainings(refined: Sequence[Refined]) -> dict[str, dict[str, Any]]:
    """By trial: a line about its full trainings, their mean, and the curve of each as the study's metric by epoch."""
    return {
        str(one.row.trial): {
            "words": refined_words(one),
            "mean": one.mean,
            "curves": [
                [[epoch, round(accuracy, 4)] for epoch, accuracy, _ in training.curve] for training in one.trainings
            ],
        }
        for one in refined
    }


def latencies(outcome: Outcome, latency: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds by trial, of those that were measured.

    Args:
        latency: by network key.
    """
    return {str(row.trial): round(latency[row.key], 4) for row in outcome.rows if row.key in latency}


def _epochs(curve: tuple[tuple[int, float, float], ...]) -> list[int] | None:
    epochs = [epoch for epoch, _, _ in curve]
    return None if epochs == list(range(1, len(epochs) + 1)) else epochs
