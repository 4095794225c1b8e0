"""The report's part on the front: the figure with what a reader chooses by, and a table of its networks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape

from nas import pareto
from nas.headline import Headline, said
from nas.held import Held
from nas.outcome import Outcome
from nas.records import Row
from nas.refined import Refined
from nas.report.axes import axes, budget, choices
from nas.report.figures import front_figure
from nas.report.latency import Latency
from nas.report.section import Section
from nas.report.trials import columns, full_trainings, latencies, sides_of

SLIDER = (
    '<div class="budget"><label for="budget">A budget of <b id="most"></b></label> <span id="bought"></span>'
    '<input type="range" id="budget" min="0" max="1000" step="1"><div id="buy"></div></div>'
)
"""Its ends and its words are the script's."""


def front_section(
    outcome: Outcome,
    known: Sequence[Held],
    advantage: Headline | None,
    refined: Sequence[Refined],
    latency: Latency | None,
    options: str,
) -> Section:
    """The figure of the front with what a reader chooses by: the cost that it stands over, a budget, the knee.

    Args:
        known: networks that no search proposed.
        advantage: how far the front is above the line; None where there is no line.
        refined: networks that were trained in full.
        latency: what was measured; None where nothing was.
        options: for the page's commands.
    """
    ms: Mapping[str, float] = {} if latency is None else latency.ms
    over = axes(outcome, refined, ms)
    buys = budget(outcome, refined)
    parts = [
        "<h2>Front</h2>",
        f"<p>{_reading(bool(refined))}</p>",
        "" if advantage is None else _advantage(outcome, advantage),
        '<div class="beside"><div class="stay">',
        f'<div class="controls">{_switch(over, outcome.cost)}<button id="zoom" type="button">Zoom to the front</button>'
        "</div>",
        '<div class="over"><div class="figure" id="front"></div><div id="marks" aria-hidden="true"></div></div>',
        "" if buys is None else SLIDER,
        '<p id="knee"></p>',
    ]
    if latency is not None and "latency" in over:
        there = sum(row.key in ms for row in outcome.rows)
        parts.append(f'<p id="measured" hidden>Latency of {there:,} networks: {escape(latency.words)}.</p>')
    parts.append("</div></div>")
    data = {
        "front": {"cost": outcome.cost, "axes": over},
        "budget": buys,
        "zoom": _front_range(outcome, refined),
        "sides": sides_of(outcome),
        "trials": columns(outcome),
        "full": full_trainings(refined),
        "latency": latencies(outcome, ms),
        "metric": outcome.metric_words,
        "commands": {
            "study": shlex.quote(outcome.study),
            "options": options,
            "front": [row.trial for row in outcome.front],
        },
    }
    return Section("\n".join(parts), {"front": front_figure(outcome, known, refined=refined, hover=False)}, data)


def _reading(refined: bool) -> str:
    stars = " Stars are means of full trainings, with 95 % of the mean." if refined else ""
    return (
        "Each mark is one network: up is more accurate, left costs less. No network to the left of the line is as "
        f"accurate. Pruned and paused networks stand where they were stopped.{stars} Click a mark to see its network."
    )


def _switch(over: Mapping[str, object], cost: str) -> str:
    words = {"params": "parameters", "macs": "MACs", "latency": "latency"}
    buttons = "".join(
        f'<label><input type="radio" name="axis" value="{name}"{" checked" * (name == cost)}><span>{words[name]}</span>'
        "</label>"
        for name in over
    )
    return f'<fieldset class="switch"><legend>Cost</legend>{buttons}</fieldset>'


def front_table_section(outcome: Outcome, refined: Sequence[Refined]) -> Section:
    """A line for each network of the front, and for each that was trained in full."""
    return Section(f"<h2>Networks of the front</h2>\n{_warm_start(outcome)}\n{_front_table(outcome, refined)}")


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


def _front_table(outcome: Outcome, refined: Sequence[Refined]) -> str:
    if not outcome.front:
        return "<p>No trial is complete yet, so there is no front.</p>"
    full = {one.row.trial: one for one in refined}
    rows = {row.trial: row for row in (*outcome.front, *(one.row for one in refined))}
    offered = choices(outcome, refined)
    costs, accuracies = [one.row.cost for one in offered], [one.accuracy for one in offered]
    marks = {
        "knee": offered[pareto.knee(costs, accuracies)].row.trial,
        "best": offered[pareto.best(costs, accuracies)].row.trial,
    }
    head = ["trial", "params", "MACs", f"val {outcome.metric_words}", *(["in full, 95 %"] if refined else [])]
    cells = "".join(f'<th class="number">{name}</th>' for name in (*head, "seconds"))
    body = "".join(
        _front_line(row, full, refined, [name for name, trial in marks.items() if trial == row.trial])
        for row in sorted(rows.values(), key=lambda row: (row.cost, row.trial))
    )
    return (
        "<p>A trial's number opens its modules, its learning curve and the command that exports it.</p>"
        '<div class="scroll">'
        f'<table class="front"><thead><tr>{cells}<th>shares by depth</th><th></th></tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _front_line(row: Row, full: Mapping[int, Refined], refined: Sequence[Refined], marks: Sequence[str]) -> str:
    shares = " ".join(f"{float(share):.2f}" for share in row.architecture.shares)
    cells = [f"{row.params:,}", f"{row.macs:,}", f"{row.val_accuracy:.4f}"]
    if refined:
        cells.append(_in_full(full[row.trial]) if row.trial in full else "")
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in (*cells, f"{row.seconds:.1f}"))
    button = f'<button type="button" class="trial" data-trial="{row.trial}">{row.trial}</button>'
    badges = "".join(f'<span class="badge">{mark}</span>' for mark in marks)
    return f'<tr><td class="number">{button}</td>{numbers}<td>{shares}</td><td>{badges}</td></tr>'


def _in_full(one: Refined) -> str:
    return f"{one.mean:.4f}" + ("" if len(one.trainings) == 1 else " ({:.4f} to {:.4f})".format(*one.interval))


def _front_range(outcome: Outcome, refined: Sequence[Refined]) -> list[float] | None:
    """Accuracies from just under the front to just over it, for the button that zooms; None without a front."""
    accuracies = [row.val_accuracy for row in outcome.front if row.val_accuracy is not None]
    accuracies += [one.mean for one in refined]
    if not accuracies:
        return None
    room = max(0.02, 0.25 * (max(accuracies) - min(accuracies)))
    return [min(accuracies) - room / 2, max(accuracies) + room]
