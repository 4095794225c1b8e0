"""The report's part on the sealed test images: who read them, when, and what was found."""

from __future__ import annotations

from html import escape

from nas.outcome import Outcome
from nas.seal import Reading, Seal

HEAD = ("read", "study", "trial", "weights", "right", "images", "test accuracy", "95 %, Wilson")


def readings_section(outcome: Outcome, seal: Seal) -> str:
    """A section of the page: how often the seal was broken, over all studies, and a line for each reading."""
    balanced = outcome.metric == "balanced-accuracy"
    parts = [
        "<h2>Test images</h2>",
        "<p>Sealed: search, pruning and choice see none of them. A number that one chose by is no longer honest, so "
        "every reading is on record and counted, over all studies of the same images.</p>",
        f"<p>The test images of {escape(outcome.settings['dataset'])}: <b>{escape(seal.words)}</b>.</p>",
    ]
    if seal.readings:
        names = (*HEAD, "test balanced accuracy", "95 %") if balanced else HEAD
        head = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(_line(study, reading, balanced) for study, reading in seal.readings)
        parts.append(
            f'<div class="scroll"><table class="readings"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )
    return f"<section>\n{''.join(parts)}\n</section>"


def _line(study: str, reading: Reading, balanced: bool) -> str:
    words = "".join(f"<td>{escape(cell)}</td>" for cell in (f"{reading.read_at:%Y-%m-%d %H:%M} UTC", study))
    numbers = [f"{reading.correct:,}", f"{reading.images:,}", f"{reading.accuracy:.4f}", _span(reading.interval)]
    numbers += [f"{reading.balanced_accuracy:.4f}", _span(reading.balanced_interval)] if balanced else []
    return (
        f'<tr>{words}<td class="number">{reading.trial}</td><td>{escape(reading.weights)}</td>'
        + "".join(f'<td class="number">{cell}</td>' for cell in numbers)
        + "</tr>"
    )


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"
