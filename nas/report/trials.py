"""What the page's script knows of every trial: columns, so that 10,000 trials stay small."""

from __future__ import annotations

from typing import Any

from nas.outcome import Outcome


def columns(outcome: Outcome) -> dict[str, list[Any]]:
    """One list a column, trials in the rows' order; JSON data, nothing escaped: a script must set it as text.

    ``number``, ``state``, ``params``, ``macs``, ``accuracy`` (0..1, the last reading; None where none was taken),
    ``seconds``, ``reason`` (None of a complete one), ``stem`` (channels that the first module reads), ``widths`` (six
    a module in the order of `InceptionWidths`, module after module), ``epochs`` and ``curve`` (of every reading;
    ``epochs`` is None where they are 1, 2, 3 and so on).
    """
    rows = outcome.rows
    return {
        "number": [row.trial for row in rows],
        "state": [row.state for row in rows],
        "params": [row.params for row in rows],
        "macs": [row.macs for row in rows],
        "accuracy": [row.val_accuracy for row in rows],
        "seconds": [round(row.seconds, 1) for row in rows],
        "reason": [row.reason for row in rows],
        "stem": [row.architecture.module_inputs()[0][0] for row in rows],
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


def _epochs(curve: tuple[tuple[int, float, float], ...]) -> list[int] | None:
    epochs = [epoch for epoch, _, _ in curve]
    return None if epochs == list(range(1, len(epochs) + 1)) else epochs
