"""The report's figures. Colours are mid-tones that can be read on white and on black; the page sets the rest."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from nas.held import Held
from nas.outcome import Outcome
from nas.records import Row

# Blue to red over teal and amber: lightness stays in the middle, so no end vanishes on either background.
SCALE = ((0.0, "#2f6fdb"), (0.35, "#1b9aa0"), (0.7, "#d9951a"), (1.0, "#d2452d"))
LINE, PRUNED, FAILED = "#7183a6", "#8d939e", "#d03b63"
KNOWN, WIDTHS = "#9a5fd0", "#4f9a4a"
"""Of known networks, and of one network's proportions at several widths."""


def front_figure(outcome: Outcome, known: Sequence[Held] = ()) -> go.Figure:
    """Cost (log) against the validation metric: complete; pruned and paused at their last rung; failed; the picks.

    A failed trial without a reading stands at the bottom of the plot; its hover says so.

    Args:
        known: networks that no search proposed, each at the mean over its seeds: references as diamonds, filled by
            their published recipe and open by the study's; a line of widths as a line.
    """
    figure = go.Figure()
    complete = [row for row in outcome.rows if row.state == "complete"]
    pruned = [row for row in outcome.rows if row.state == "pruned" and row.val_accuracy is not None]
    paused = [row for row in outcome.rows if row.state == "paused" and row.val_accuracy is not None]
    failed = [row for row in outcome.rows if row.state == "failed"]
    figure.add_scatter(
        x=[row.cost for row in outcome.front],
        y=[row.val_accuracy for row in outcome.front],
        name="front",
        mode="lines",
        line={"shape": "hv", "color": LINE, "width": 2},
        hoverinfo="skip",
    )
    bottom = min((row.val_accuracy for row in outcome.rows if row.val_accuracy is not None), default=0.0)
    figure.add_scatter(
        **_points(failed, outcome, "failed", lowest=bottom),
        marker={"symbol": "x", "size": 9, "color": FAILED},
    )
    figure.add_scatter(
        **_points(pruned, outcome, "pruned"),
        marker={"symbol": "triangle-down-open", "size": 7, "color": PRUNED, "line": {"width": 1.2}},
    )
    if paused:
        figure.add_scatter(
            **_points(paused, outcome, "paused"),
            marker={"symbol": "square-open", "size": 7, "color": PRUNED, "line": {"width": 1.2}},
        )
    figure.add_scatter(
        **_points(complete, outcome, "complete"),
        marker={**_coloured([row.macs for row in complete], "MACs"), "size": 8},
    )
    references = sorted((one for one in known if one.first.kind == "reference"), key=lambda one: one.mean)
    highest = {one.first.name: one for one in references}  # a network is named once
    for name, symbol in (("published", "diamond"), ("study", "diamond-open")):
        these = [one for one in references if one.first.recipe_name == name]
        if these:
            figure.add_scatter(
                **_known(these, outcome, f"known networks, {name} recipe"),
                mode="markers+text",
                marker={"symbol": symbol, "size": 10, "color": KNOWN, "line": {"width": 1.6, "color": KNOWN}},
                text=[html.escape(one.first.name) if one is highest[one.first.name] else "" for one in these],
                textposition="top center",
                textfont={"size": 10},
            )
    lines = [one for one in known if one.first.kind == "line"]
    for recipe in dict.fromkeys(one.first.recipe_hash for one in lines):
        line = [one for one in lines if one.first.recipe_hash == recipe]
        figure.add_scatter(
            **_known(
                sorted(line, key=lambda one: one.first.cost(outcome.cost)),
                outcome,
                f"GoogLeNet's proportions, {line[0].first.epochs} epochs",
            ),
            mode="lines+markers",
            line={"color": WIDTHS, "width": 1.6, "dash": "dash"},
            marker={"symbol": "square", "size": 6, "color": WIDTHS},
        )
    figure.update_layout(annotations=_labels(outcome))
    costs = [row.cost for row in outcome.rows] + [one.first.cost(outcome.cost) for one in known]
    figure.update_xaxes(title=cost_name(outcome.cost), type="log", tickformat="~s", dtick=_log_step(costs))
    figure.update_yaxes(title=f"validation {outcome.metric_words}")
    return figure


def shares_figure(outcome: Outcome) -> go.Figure:
    """Share of 3x3 and 5x5 filters by depth: the front's networks coloured by cost over all other complete ones."""
    figure = go.Figure()
    on_front = {row.trial for row in outcome.front}
    others = [row for row in outcome.rows if row.state == "complete" and row.trial not in on_front]
    if others:
        figure.add_scatter(
            **_lines(others, [_shares(row) for row in others], [_short(row, outcome.cost) for row in others]),
            name="other complete",
            line={"color": PRUNED, "width": 0.8},
            opacity=0.35,
        )
    if outcome.front:
        costs = [row.cost for row in outcome.front]
        low, high = log_range(costs)
        for row in outcome.front:
            figure.add_scatter(
                **_lines([row], [_shares(row)], [_short(row, outcome.cost)]),
                line={"color": colour((math.log10(row.cost) - low) / (high - low)), "width": 2.2},
                showlegend=False,
            )
        figure.add_scatter(**colour_key(costs, cost_name(outcome.cost)))
    figure.update_xaxes(title="module, from the input", dtick=1)
    figure.update_yaxes(title="share of 3x3 and 5x5", range=[0, 1])
    return figure


def _points(rows: Sequence[Row], outcome: Outcome, name: str, lowest: float | None = None) -> dict[str, Any]:
    return {
        "x": [row.cost for row in rows],
        "y": [lowest if row.val_accuracy is None else row.val_accuracy for row in rows],
        "name": f"{name} ({len(rows)})",
        "mode": "markers",
        "hovertext": [_long(row, outcome.metric_words) for row in rows],
        "hoverinfo": "text",
    }


def _known(these: Sequence[Held], outcome: Outcome, name: str) -> dict[str, Any]:
    return {
        "x": [one.first.cost(outcome.cost) for one in these],
        "y": [one.mean for one in these],
        "name": f"{name} ({len(these)})",
        "hovertext": [_of_known(one, outcome) for one in these],
        "hoverinfo": "text",
    }


def _of_known(one: Held, outcome: Outcome) -> str:
    first, seeds = one.first, len(one.trainings)
    spread = "" if seeds == 1 else f" ± {one.std:.4f} between seeds"
    lines = [
        f"<b>{html.escape(first.name)}</b>, {one.words(outcome)}",
        f"{first.params:,} parameters, {first.macs:,} MACs",
        f"validation {outcome.metric_words} {one.mean:.4f}{spread}",
        f"{first.epochs} epochs, {seeds} seed{'s' * (seeds != 1)}",
    ]
    return "<br>".join(lines)


def _lines(rows: Sequence[Row], lines: Sequence[Sequence[tuple[int, float]]], texts: Sequence[str]) -> dict[str, Any]:
    """Many lines as one trace, with a gap after each."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    hover: list[str] = []
    for line, text in zip(lines, texts, strict=True):
        for x, y in line:
            xs.append(x)
            ys.append(y)
            hover.append(f"{text}<br>{x}: {y:.4f}")
        xs.append(None)
        ys.append(None)
        hover.append("")
    # A trial stopped at its first rung is a single point, which a line alone would not show.
    mode = "lines+markers" if any(len(line) == 1 for line in lines) else "lines"
    return {
        "x": xs, "y": ys, "hovertext": hover, "hoverinfo": "text", "mode": mode, "marker": {"size": 3}
    }  # fmt: skip


def _shares(row: Row) -> list[tuple[int, float]]:
    return [(number, float(share)) for number, share in enumerate(row.architecture.shares, start=1)]


def _labels(outcome: Outcome) -> list[dict[str, Any]]:
    """Arrows to knee and best, away from the front and from each other; one arrow where they are one network."""
    knee, best = outcome.knee, outcome.best
    if knee is None or best is None:
        return []
    marks = [("knee and best", best, -44, -30)] if knee is best else [("knee", knee, -52, -34), ("best", best, 0, -34)]
    return [
        {
            "x": math.log10(row.cost),
            "y": row.val_accuracy,
            "text": f"<b>{name}</b>, trial {row.trial}",
            "ax": ax,
            "ay": ay,
            "showarrow": True,
            "arrowhead": 2,
            "arrowsize": 0.9,
            "arrowwidth": 1.4,
            "standoff": 6,
        }
        for name, row, ax, ay in marks
    ]


def _long(row: Row, metric: str) -> str:
    """What hovering over a trial shows; whatever comes from outside is escaped, plotly reads tags."""
    lines = [f"<b>trial {row.trial}</b>, {row.state}", f"{row.params:,} parameters, {row.macs:,} MACs"]
    if row.curve:
        lines.append(f"validation {metric} {row.val_accuracy:.4f} at epoch {row.curve[-1][0]}")
    else:
        lines.append("no reading")
    lines.append(f"{row.seconds:.1f} s")
    lines.append("shares " + " ".join(f"{float(share):.2f}" for share in row.architecture.shares))
    if row.reason:
        lines += [html.escape(part) for part in _wrapped(row.reason)]
    return "<br>".join(lines)


def _short(row: Row, cost: str) -> str:
    return f"<b>trial {row.trial}</b>, {row.state}<br>{row.cost:,} {cost}"


def _wrapped(text: str, width: int = 60) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width)[:4]


def _coloured(values: Sequence[int], title: str) -> dict[str, Any]:
    low, high = log_range(values)
    ticks = _ticks(low, high)
    return {
        "color": [math.log10(value) for value in values],
        "colorscale": SCALE,
        "cmin": low,
        "cmax": high,
        "colorbar": {
            "title": {"text": title},
            "tickvals": [math.log10(tick) for tick in ticks],
            "ticktext": [si(tick) for tick in ticks],
            "outlinewidth": 0,
        },
    }


def colour_key(values: Sequence[int], title: str) -> dict[str, Any]:
    """A trace of nothing that carries the colour bar of lines."""
    return {
        "x": [None],
        "y": [None],
        "mode": "markers",
        "marker": {**_coloured(values, title), "color": [log_range(values)[0]], "showscale": True},
        "showlegend": False,
        "hoverinfo": "skip",
    }


def log_range(values: Sequence[int]) -> tuple[float, float]:
    """log10 of the least and the greatest, at least a hundredth apart; (0, 1) of nothing."""
    if not values:
        return 0.0, 1.0
    low, high = math.log10(min(values)), math.log10(max(values))
    return (low, high) if high - low > 0.01 else (low - 0.05, high + 0.05)


def _ticks(low: float, high: float) -> list[int]:
    """Ends of a range of log10, and the numbers 1, 2, 5 times a power of ten that are not too near to them."""
    room = 0.1 * (high - low)
    inside = [
        digit * 10**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for digit in (1, 2, 5)
        if low + room < math.log10(digit * 10**power) < high - room
    ]
    return [round(10**low), *inside, round(10**high)]


def _log_step(costs: Sequence[int]) -> str | int:
    """Labels at each digit of a decade, at 1, 2, 5, or at each decade: as few as the range needs."""
    low, high = log_range(costs)
    return "D1" if high - low < 0.8 else "D2" if high - low < 2.5 else 1


def colour(at: float) -> str:
    """The scale's colour at 0..1."""
    at = min(max(at, 0.0), 1.0)
    (left, low), (right, high) = next(pair for pair in pairwise(SCALE) if at <= pair[1][0])
    part = (at - left) / (right - left)
    return "rgb({},{},{})".format(*(round(a + (b - a) * part) for a, b in zip(_rgb(low), _rgb(high), strict=True)))


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def cost_name(cost: str) -> str:
    return {"params": "parameters", "macs": "MACs"}.get(cost, cost)


def si(value: float) -> str:
    """A count in short: 1.2k, 350k, 2M."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g}{letter}"
    return f"{value:.3g}"
