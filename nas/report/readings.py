"""The report's part on the sealed test images: who read them, when, and what was found."""

from __future__ import annotations

from html import escape

from nas.outcome import Outcome
from nas.report.section import Section
from nas.seal import Reading, Seal


def readings_section(outcome: Outcome, seal: Seal) -> Section:
    """A section of the page: how often the seal was broken, over all studies, and a line for each reading."""
    balanced = outcome.metric == "balanced-accuracy"
    parts = [
        "<h2>Test images</h2>",
        "<p>Sealed: search, pruning and choice see none of them. A number that one chose by is no longer honest, so "
        "every reading is on record and counted, over all studies of the same images.</p>",
        f"<p>The test images of {escape(outcome.settings['dataset'])}: <b>{escape(seal.words)}</b>.</p>",
    ]
    if seal.readings:
        lines = [_line(study, reading, balanced) for study, reading in seal.readings]
        head = "".join(f"<th{_kind(number)}>{name}</th>" for name, _, number in lines[0])
        body = "".join(
            "<tr>" + "".join(f"<td{_kind(number)}>{escape(cell)}</td>" for _, cell, number in line) + "</tr>"
            for line in lines
        )
        parts.append(
            f'<div class="scroll"><table class="readings"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )
    return Section("".join(parts))


def _line(study: str, reading: Reading, balanced: bool) -> list[tuple[str, str, bool]]:
    """(column, cell, whether it is a number): what matters first, since a phone shows three columns and scrolls."""
    return [
        ("trial", str(reading.trial), True),
        *(
            [
                ("test balanced accuracy", f"{reading.balanced_accuracy:.4f}", True),
                ("95 %", _span(reading.balanced_interval), True),
            ]
            if balanced
            else []
        ),
        ("test accuracy", f"{reading.accuracy:.4f}", True),
        ("95 %, Wilson", _span(reading.interval), True),
        ("weights", reading.weights, False),
        ("right", f"{reading.correct:,}", True),
        ("images", f"{reading.images:,}", True),
        ("study", study, False),
        ("read", f"{reading.read_at:%Y-%m-%d %H:%M} UTC", False),
    ]


def _kind(number: bool) -> str:
    return ' class="number"' if number else ""


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"
