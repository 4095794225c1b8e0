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
from nas.refined import Refined
from nas.refined import front as full_front

# Blue to red over teal and amber: lightness stays in the middle, so no end vanishes on either background.
SCALE = ((0.0, "#2f6fdb"), (0.35, "#1b9aa0"), (0.7, "#d9951a"), (1.0, "#d2452d"))
LINE, PRUNED, FAILED = "#7183a6", "#8d939e", "#d03b63"
KNOWN, WIDTHS = "#9a5fd0", "#4f9a4a"
"""Of known networks, and of one network's proportions at several widths."""


def front_figure(
    outcome: Outcome, known: Sequence[Held] = (), *, refined: Sequence[Refined] = (), hover: bool = True
) -> go.Figure:
    """Cost (log) against the validation metric: complete; pruned and paused at their last rung; failed; the picks.

    A failed trial without a reading stands at the bottom of the plot; its hover says so. What is known from several
    seeds stands at its mean, with 95 % of the mean by Student's t.

    Args:
        known: networks that no search proposed: references as diamonds, filled by their published recipe and open by
            the study's; a line of widths as a line.
        refined: networks of the study that were trained in full.
        hover: every trial carries its own text; without it only its number, from which the page makes the text.
    """
    figure = go.Figure()
    by_state = {state: [row for row in outcome.rows if row.state == state] for state in ("pruned", "paused")}
    complete = [row for row in outcome.rows if row.state == "complete"]
    failed = [row for row in outcome.rows if row.state == "failed"]
    figure.add_scatter(
        x=[row.cost for row in outcome.front],
        y=[row.val_accuracy for row in outcome.front],
        name="front",
        mode="lines",
        line={"shape": "hv", "color": LINE, "width": 2},
        hoverinfo="skip",
        zorder=1,  # over the crowd
        meta={"line": "front"},
    )
    bottom = min((row.val_accuracy for row in outcome.rows if row.val_accuracy is not None), default=0.0)
    figure.add_scatter(
        **_points(failed, outcome, "failed", hover, lowest=bottom),
        marker={"symbol": "x", "size": 9, "color": FAILED},
    )
    for state, symbol in (("pruned", "triangle-down-open"), ("paused", "square-open")):
        rows = [row for row in by_state[state] if row.val_accuracy is not None]
        if rows or state == "pruned":
            figure.add_scatter(
                **_points(rows, outcome, state, hover),
                marker={"symbol": symbol, "size": 7, "color": PRUNED, "line": {"width": 1.2}},
            )
    colours = _coloured([row.macs for row in complete], "MACs")
    size = 8 if len(complete) <= 500 else 6 if len(complete) <= 2000 else 4
    figure.add_scatter(**_points(complete, outcome, "complete", hover), marker={**colours, "size": size})
    references = sorted((one for one in known if one.first.kind == "reference"), key=lambda one: one.mean)
    highest = {one.first.name: one for one in references}  # a network is named once
    costs = [row.cost for row in outcome.rows] + [one.first.cost(outcome.cost) for one in known]
    middle = sum(log_range(costs)) / 2  # names lean to it, so that none is cut at an end
    for name, symbol in (("published", "diamond"), ("study", "diamond-open")):
        these = [one for one in references if one.first.recipe_name == name]
        if these:
            figure.add_scatter(
                **_known(these, outcome, f"known networks, {name} recipe", KNOWN),
                mode="markers+text",
                marker={"symbol": symbol, "size": 10, "color": KNOWN, "line": {"width": 1.6, "color": KNOWN}},
                text=[html.escape(one.first.name) if one is highest[one.first.name] else "" for one in these],
                textposition=[
                    "top left" if math.log10(one.first.cost(outcome.cost)) > middle else "top right" for one in these
                ],
                textfont={"size": 10},
            )
    lines = [one for one in known if one.first.kind == "line"]
    longest = max((one.first.epochs for one in lines), default=0)
    for recipe in dict.fromkeys(one.first.recipe_hash for one in lines):
        line = [one for one in lines if one.first.recipe_hash == recipe]
        figure.add_scatter(
            **_known(
                sorted(line, key=lambda one: one.first.cost(outcome.cost)),
                outcome,
                f"GoogLeNet's proportions, {line[0].first.epochs} epochs",
                WIDTHS,
            ),
            opacity=1.0 if line[0].first.epochs == longest else 0.5,
            mode="lines+markers",
            line={"color": WIDTHS, "width": 1.6, "dash": "dash"},
            marker={"symbol": "square", "size": 6, "color": WIDTHS},
        )
    if refined:
        _add_refined(figure, refined, outcome, hover, colours)
    figure.update_layout(annotations=labels(outcome))
    figure.update_xaxes(title=cost_name(outcome.cost), type="log", tickformat="~s", dtick=log_step(costs))
    figure.update_yaxes(title=f"validation {outcome.metric_words}")
    return figure


def _add_refined(
    figure: go.Figure, refined: Sequence[Refined], outcome: Outcome, hover: bool, colours: dict[str, Any]
) -> None:
    """Means of full trainings as stars with their intervals, in the colours of the other networks, and their front."""
    best = full_front(refined)
    figure.add_scatter(
        x=[one.row.cost for one in best],
        y=[one.mean for one in best],
        name="front of the refined",
        mode="lines",
        line={"shape": "hv", "color": LINE, "width": 1.6, "dash": "dot"},
        hoverinfo="skip",
        zorder=1,
        meta={"line": "refined"},
    )
    drawn = _points([one.row for one in refined], outcome, "refined, mean", hover)
    if hover:
        drawn["hovertext"] = [
            f"{text}<br>{refined_words(one)}" for text, one in zip(drawn["hovertext"], refined, strict=True)
        ]
    drawn["y"] = [one.mean for one in refined]
    drawn["error_y"] = _error_bars([(one.mean, one.interval) for one in refined], LINE)
    marker = {**colours, "color": [math.log10(one.row.macs) for one in refined], "showscale": False}
    figure.add_scatter(
        **drawn, zorder=2, marker={**marker, "symbol": "star", "size": 12, "line": {"width": 1, "color": LINE}}
    )


def refined_words(one: Refined) -> str:
    """What its full trainings say of a network, in a line."""
    seeds, low_high = len(one.trainings), one.interval
    spread = "" if seeds == 1 else f", 95 % {low_high[0]:.4f} to {low_high[1]:.4f}"
    many = "1 full training" if seeds == 1 else f"{seeds} full trainings"
    return f"{one.mean:.4f}, mean of {many} of {one.trainings[0].epochs} epochs{spread}"


def _error_bars(each: Sequence[tuple[float, tuple[float, float]]], colour: str) -> dict[str, Any]:
    """From means and intervals; an interval of NaN is no bar."""
    bars = [(high - mean, mean - low) for mean, (low, high) in each]
    return {
        "type": "data",
        "symmetric": False,
        "array": [None if math.isnan(up) else up for up, _ in bars],
        "arrayminus": [None if math.isnan(down) else down for _, down in bars],
        "color": colour,
        "thickness": 1.2,
        "width": 3,
    }


def _points(
    rows: Sequence[Row], outcome: Outcome, name: str, hover: bool, lowest: float | None = None
) -> dict[str, Any]:
    return {
        "x": [row.cost for row in rows],
        "y": [lowest if row.val_accuracy is None else row.val_accuracy for row in rows],
        "name": f"{name} ({len(rows)})",
        "mode": "markers",
        "customdata": [row.trial for row in rows],
        **(
            {"hovertext": [_long(row, outcome.metric_words) for row in rows], "hoverinfo": "text"}
            if hover
            else {"meta": {"hover": "trials"}}
        ),
    }


def _known(these: Sequence[Held], outcome: Outcome, name: str, colour: str) -> dict[str, Any]:
    several = any(len(one.trainings) > 1 for one in these)
    return {
        "x": [one.first.cost(outcome.cost) for one in these],
        "y": [one.mean for one in these],
        **({"error_y": _error_bars([(one.mean, one.interval) for one in these], colour)} if several else {}),
        "name": f"{name} ({len(these)})",
        "hovertext": [_of_known(one, outcome) for one in these],
        "hoverinfo": "text",
        "meta": {"x": {cost: [one.first.cost(cost) for one in these] for cost in ("params", "macs")}},
    }


def _of_known(one: Held, outcome: Outcome) -> str:
    first, seeds = one.first, len(one.trainings)
    spread = "" if seeds == 1 else f" ± {one.std:.4f} between seeds"
    lines = [
        f"<b>{html.escape(first.name)}</b>, {one.words(outcome)}",
        f"{first.counted}; {first.macs:,} MACs",
        f"validation {outcome.metric_words} {one.mean:.4f}{spread}",
        f"{first.epochs} epochs, {seeds} seed{'s' * (seeds != 1)}",
    ]
    return "<br>".join(lines)


def labels(outcome: Outcome) -> list[dict[str, Any]]:
    """Arrows to the search's knee and best."""
    knee, best = outcome.knee, outcome.best
    if knee is None or best is None or knee.val_accuracy is None or best.val_accuracy is None:
        return []
    return arrows((knee.trial, knee.cost, knee.val_accuracy), (best.trial, best.cost, best.val_accuracy))


def arrows(knee: tuple[int, float, float], best: tuple[int, float, float]) -> list[dict[str, Any]]:
    """Arrows to (trial, cost, accuracy) of knee and best, away from the front and from each other; one arrow where
    they are one network."""
    marks = [("knee and best", best, -44, -30)] if knee == best else [("knee", knee, -52, -34), ("best", best, 0, -34)]
    return [
        {
            "x": math.log10(cost),
            "y": accuracy,
            "text": f"<b>{name}</b>, trial {trial}",
            "ax": ax,
            "ay": ay,
            "showarrow": True,
            "arrowhead": 2,
            "arrowsize": 0.9,
            "arrowwidth": 1.4,
            "standoff": 6,
        }
        for name, (trial, cost, accuracy), ax, ay in marks
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


def log_range(values: Sequence[float]) -> tuple[float, float]:
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


def log_step(costs: Sequence[float]) -> str | int:
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
