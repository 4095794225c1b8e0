"""The report's part on what matters: for reaching the front, at equal size, and the widths that came out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from nas.outcome import Outcome
from nas.records import Row
from nas.report import equal_size
from nas.report.equal_size import Panel, Rank, panel_figure, panels, spearman, unusual
from nas.report.figures import LINE, PRUNED, SCALE
from nas.report.importance import LEAST, Importance, importance
from nas.report.section import Section

SHOWN = 12
"""Coordinates that have a bar of their own."""
DRAWN = 1000
"""Networks that are drawn where there are more: a browser takes seconds over ten thousand."""
MANY = 200
"""Networks from which on, coloured all at once, none can be followed."""
QUANTITIES = ("width", "share", "1x1", "3x3", "5x5", "pool", "reduce 3x3", "reduce 5x5")
_WORDS = {
    "width": "width relative to the other modules'",
    "share": "share of 3x3 and 5x5 filters",
    "share_3x3": "share of 3x3 filters",
    "share_5x5": "share of 5x5 filters",
    "five": "5x5's part of 3x3 and 5x5",
    "pool": "the pool's part of what is not 3x3 or 5x5",
    "reduce_3x3": "3x3 reduction, as a part of the 3x3 filters",
    "reduce_5x5": "5x5 reduction, as a part of the 5x5 filters",
}


def matters_section(outcome: Outcome) -> Section | None:
    """Importance of the coordinates, accuracy at equal size, and parallel coordinates; None of no complete trial."""
    rows = [row for row in outcome.rows if row.state == "complete" and row.val_accuracy is not None]
    if not rows:
        return None
    front = {row.trial for row in outcome.front}
    found = importance(rows)
    near = front | set(found.near if found else ())
    drawn = shown(rows, near)
    figures: dict[str, go.Figure] = {}
    parts = [
        "<h2>What matters</h2>",
        f"<p>From the {len(rows):,} complete trials. A search proposes where it expects gains: its trials are no "
        "random sample, so these are hints at what to try, not the effects of a controlled comparison. What the search "
        "settled early hardly varies in it and shows little.</p>",
        "<h3>For reaching the front</h3>",
        _importance_words(rows, found),
    ]
    if found is not None:
        figures["importance"] = importance_figure(found)
        parts.append('<div class="figure" id="importance"></div>')
    parts += ["<h3>Accuracy at equal size</h3>", *_at_equal_size(outcome, rows, drawn, front, figures)]
    parts += ["<h3>Widths that came out</h3>", _parallel(len(rows), len(drawn), outcome.metric_words)]
    figures["parallel"] = parallel_figure(rows, outcome.metric_words)
    places = {row.trial: place for place, row in enumerate(outcome.rows)}
    chosen = [places[rows[index].trial] for index in drawn]
    close = sorted(places[number] for number in near)
    return Section("\n".join(parts), figures, {"parallel": {"drawn": chosen, "near": close}})


def shown(rows: Sequence[Row], wanted: set[int]) -> NDArray[np.int64]:
    """Indices of the rows that are drawn: those wanted, and evenly by trial number as many others as make 1,000."""
    mine = np.array([row.trial in wanted for row in rows])
    others = np.flatnonzero(~mine)
    room = max(0, DRAWN - int(mine.sum()))
    if len(others) > room:
        others = others[np.linspace(0, len(others) - 1, room).round().astype(np.int64)]
    return np.sort(np.concatenate([np.flatnonzero(mine), others]))


def coordinate_words(name: str) -> str:
    """What a coordinate is, for a person: ``m3.share`` is the share of 3x3 and 5x5 filters of module 3."""
    if name == "size":
        return "size: where the cost lies in the space's range"
    module = re.fullmatch(r"m([0-9]+)\.(\w+)", name)
    return f"module {module[1]}: {_WORDS.get(module[2], module[2])}" if module else name


def _importance_words(rows: Sequence[Row], found: Importance | None) -> str:
    with_coordinates = sum(row.coordinates is not None for row in rows)
    if found is None and with_coordinates < LEAST:
        without = len(rows) - with_coordinates
        lost = f" {without:,} have none on record (imported, or from an earlier nas)." if without else ""
        return (
            f"<p>Not said: it takes {LEAST} complete trials with coordinates, here are {with_coordinates:,}.{lost}</p>"
        )
    if found is None:
        return "<p>Not said: more than half of the complete trials are near the front, so they are not told apart.</p>"
    above = [name for name, part in zip(found.names, found.parts, strict=True) if part > found.noise]
    verdict = (
        f"Beyond chance: {', '.join(above)}."
        if above
        else "No coordinate stands out from chance with this many trials."
    )
    left = len(found.names) - SHOWN
    rest = f" The other {left} coordinates have {sum(found.parts[SHOWN:]):.0%} together." if left > 0 else ""
    missing = f" {len(rows) - found.trials:,} trials without coordinates are left out." * (found.trials < len(rows))
    return (
        f"<p><b>{escape(verdict)}</b> PED-ANOVA: how far apart the {len(found.near)} networks near the front (the best "
        f"ranks that hold a tenth of {found.trials:,}) lie from all of them along each coordinate, as parts of one. "
        "Lines: 95 % intervals, jackknife over trials. If nothing mattered, even the greatest part would stay left of "
        f"the dashed line in 95 of 100 draws.{rest}{missing}</p>"
    )


def importance_figure(found: Importance) -> go.Figure:
    """A bar for each of the first coordinates, with its interval; grey where chance alone comes as far."""
    names, parts = found.names[:SHOWN], np.array(found.parts[:SHOWN])
    figure = go.Figure()
    figure.add_bar(
        x=parts,
        y=[escape(name) for name in names],
        orientation="h",
        marker={"color": [SCALE[0][1] if part > found.noise else PRUNED for part in parts]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": np.array(found.high[:SHOWN]) - parts,
            "arrayminus": parts - np.array(found.low[:SHOWN]),
            "color": LINE,
            "thickness": 1.5,
            "width": 3,
        },
        hovertext=[
            f"{escape(coordinate_words(name))}<br>{part:.3f} ({low:.3f} to {high:.3f})"
            for name, part, low, high in zip(names, parts, found.low, found.high, strict=False)
        ],
        hoverinfo="text",
        showlegend=False,
    )
    noise = {"x0": found.noise, "x1": found.noise, "yref": "paper", "y0": 0, "y1": 1}
    figure.update_layout(
        shapes=[{"type": "line", **noise, "line": {"color": SCALE[-1][1], "dash": "dash", "width": 1.5}}]
    )
    most = max(*found.high[:SHOWN], found.noise)
    figure.update_xaxes(title="part of the importance", range=[0, 1.04 * most], tickformat=".0%")
    figure.update_yaxes(autorange="reversed", automargin=True, ticks="")
    figure.update_layout(showlegend=False)
    return figure


def _at_equal_size(
    outcome: Outcome, rows: Sequence[Row], drawn: NDArray[np.int64], front: set[int], figures: dict[str, go.Figure]
) -> list[str]:
    if len(rows) < equal_size.LEAST:
        return [f"<p>Not said: it takes {equal_size.LEAST} complete trials, here are {len(rows)}.</p>"]
    costs = np.array([row.cost for row in rows], dtype=np.float64)
    y = 100 * unusual(costs, np.array([row.val_accuracy for row in rows], dtype=np.float64))
    numbers = np.array([row.trial for row in rows])
    on_front = np.isin(numbers, list(front))
    found: list[tuple[Panel, Rank]] = []
    for panel in panels(rows, outcome.cost):
        found.append((panel, spearman(panel.x, y)))
        figures[panel.name] = panel_figure(panel, y, numbers, drawn, on_front)
    low, high = equal_size.reach(y)
    outside = int(((y < low) | (y > high)).sum())
    words = {"params": "parameters", "macs": "MACs"}[outcome.cost]
    few = f" {len(drawn):,} of {len(rows):,} networks are drawn; the numbers are of all." * (len(drawn) < len(rows))
    far = f" {outside} lie outside of what is drawn." if outside else ""
    places = "".join(f'<div class="figure" id="{panel.name}"></div>' for panel, _ in found)
    return [
        f"<p>Points of {escape(outcome.metric_words)} above what is usual at a network's {words}: the least-squares "
        "cubic in their logarithm over the complete trials. Blue: the front. Red: the parabola through all of them, "
        f"with the 95 % interval of its height.{few}{far}</p>",
        f'<div class="beside"><div class="stay panels">{places}{_ranks_table(found, len(rows))}</div></div>',
    ]


def _ranks_table(found: Sequence[tuple[Panel, Rank]], n: int) -> str:
    lines = "".join(
        f'<tr><td>{escape(panel.title)}</td><td class="number">{_signed(rank.rho)}</td>'
        f'<td class="number">{_signed(rank.low)} to {_signed(rank.high)}</td><td class="number">{_p(rank.p)}</td></tr>'
        if rank.rho == rank.rho
        else f'<tr><td>{escape(panel.title)}</td><td colspan="3">never varies</td></tr>'
        for panel, rank in found
    )
    head = '<th></th><th class="number">rho</th><th class="number">95 %</th><th class="number">p</th>'
    return (
        f"<div><p>Spearman's rank correlation with accuracy at equal size, n = {n:,}. Each p is of one test, and "
        f'{len(found)} were made.</p><div class="scroll"><table class="ranks"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></div>"
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}".replace("e-0", "e-") if value > 1e-99 else "0"


def _parallel(complete: int, drawn: int, metric: str) -> str:
    quantities = "".join(f'<option value="{name}">{name} of each module</option>' for name in QUANTITIES)
    few = f" {drawn:,} of {complete:,} are drawn: those near the front, and others evenly by number." * (
        drawn < complete
    )
    return (
        f"<p>One line a complete network, coloured by {escape(metric)}, the best on top; modules from the input on, "
        f"all on one scale. A click on a coloured line's corner opens its network.{few}</p>"
        f'<p><select id="parallel-quantity" aria-label="What the axes show">{quantities}</select> '
        '<select id="parallel-which" aria-label="Which networks are coloured"><option value="all">all networks</option>'
        f'<option value="near"{" selected" * (complete > MANY)}>near the front, over the others</option></select></p>'
        '<div class="figure" id="parallel"></div>'
    )


def parallel_figure(rows: Sequence[Row], metric: str) -> go.Figure:
    """The frame of the parallel coordinates, with the colours' key; the page's script draws the lines.

    plotly's own parcoords compiles its shaders by eval, which the page's policy does not allow.
    """
    accuracies = np.array([row.val_accuracy for row in rows], dtype=np.float64)
    low, high = float(np.quantile(accuracies, 0.05)), float(accuracies.max())
    if high - low < 1e-6:
        low = high - 0.01
    figure = go.Figure()
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={
            "color": [low],
            "colorscale": SCALE,
            "cmin": low,
            "cmax": high,
            "showscale": True,
            "colorbar": {"title": {"text": metric}, "tickformat": ".3f", "nticks": 5, "outlinewidth": 0},
        },
        showlegend=False,
        hoverinfo="skip",
    )
    figure.update_layout(showlegend=False)
    figure.update_yaxes(visible=False, range=[-0.08, 1.08], fixedrange=True)
    figure.update_xaxes(showgrid=True, zeroline=False, fixedrange=True)
    return figure
