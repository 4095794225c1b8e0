"""The report's part on the front: the figure, and the networks of the front with the commands that export them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape

from nas.headline import Headline, said
from nas.held import Held
from nas.outcome import Outcome
from nas.records import Row
from nas.report.figures import front_figure
from nas.report.section import Section


def front_section(outcome: Outcome, known: Sequence[Held], advantage: Headline | None) -> Section:
    """Cost against accuracy.

    Args:
        known: networks that no search proposed.
        advantage: how far the front is above the line; None where there is no line.
    """
    html = (
        "<h2>Front</h2>\n<p>Each mark is one network: up is more accurate, left is smaller. No network to the left of "
        "the line is as accurate. The knee is where more size begins to buy less. Pruned networks stand where they "
        f"were stopped.</p>\n{'' if advantage is None else _advantage(outcome, advantage)}\n"
        '<p><button id="zoom" type="button">Zoom to the front</button></p>\n<div class="figure" id="front"></div>'
    )
    return Section(html, {"front": front_figure(outcome, known)}, {"zoom": _front_range(outcome)})


def front_table_section(outcome: Outcome, options: str) -> Section:
    """A line for each network of the front.

    Args:
        options: for the page's commands.
    """
    return Section(f"<h2>Networks of the front</h2>\n{_warm_start(outcome)}\n{_front_table(outcome, options)}")


def _warm_start(outcome: Outcome) -> str:
    """The trials that a warm start began with, and the references that they are nearest to."""
    named = [(row, outcome.nearest_to(row)) for row in outcome.rows]
    words = [
        f"trial {row.trial} to {' and '.join(names)} ({row.cost:,} {outcome.cost}, {row.state})"
        for row, names in named
        if names
    ]
    said = f"Warm start, the networks of the space nearest to known ones: {'; '.join(words)}."
    return f'<p class="warm-start">{escape(said)}</p>' if words else ""


def _advantage(outcome: Outcome, found: Headline) -> str:
    text = " ".join(said(found, outcome.study))
    # what the lines set in backticks is a command
    parts = [f"<code>{escape(part)}</code>" if n % 2 else escape(part) for n, part in enumerate(text.split("`"))]
    return f'<p class="advantage">{"".join(parts)}</p>'


def _front_table(outcome: Outcome, options: str) -> str:
    if not outcome.front:
        return "<p>No trial is complete yet, so there is no front.</p>"
    head = ("trial", "params", "MACs", f"val {outcome.metric_words}", "seconds", "shares by depth", "", "take it away")
    body = "".join(_front_line(row, outcome, options) for row in outcome.front)
    cells = "".join(f"<th>{name}</th>" for name in head)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _front_line(row: Row, outcome: Outcome, options: str) -> str:
    marks = [name for name, marked in (("knee", outcome.knee), ("best", outcome.best)) if row is marked]
    shares = " ".join(f"{float(share):.2f}" for share in row.architecture.shares)
    command = f"nas export {shlex.quote(outcome.study)} --pick trial:{row.trial}{options}"
    cells = (str(row.trial), f"{row.params:,}", f"{row.macs:,}", f"{row.val_accuracy:.4f}", f"{row.seconds:.1f}")
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    badges = "".join(f'<span class="badge">{mark}</span>' for mark in marks)
    return f"<tr>{numbers}<td>{shares}</td><td>{badges}</td><td><code>{escape(command)}</code></td></tr>"


def _front_range(outcome: Outcome) -> list[float] | None:
    """Accuracies from just under the front to just over it, for the button that zooms; None without a front."""
    accuracies = [row.val_accuracy for row in outcome.front if row.val_accuracy is not None]
    if not accuracies:
        return None
    room = max(0.02, 0.25 * (max(accuracies) - min(accuracies)))
    return [min(accuracies) - room / 2, max(accuracies) + room]
