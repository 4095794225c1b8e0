"""The report's figures in optuna-dashboard's cards: with a title, and readable in both of its themes."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from nas.errors import NasError
from nas.held import Held
from nas.outcome import Outcome
from nas.refined import Refined
from nas.report.curves import curves_figure
from nas.report.figures import LINE, front_figure
from nas.report.progress import hypervolume_figure
from nas.report.shares import shares_figure

FRONT, CURVES, HYPERVOLUME, SHARES = ORDER = ("nas-front", "nas-learning-curves", "nas-hypervolume", "nas-shares")
"""Ids of the figures, as they follow each other in the page."""

FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NasError, TypeError, ValueError)
"""What a figure that cannot be made of a study's records raises, be it the records' fault or ours."""

INK, GRID = "#808a9a", "rgba(128,138,154,0.28)"
"""A middle grey: optuna-dashboard's page is white or nearly black, and a figure does not learn which."""

RUNNING = "#d03b90"
TEXTS = 2000
"""Up to so many trials the front's points say all of a trial: the page asks for every figure every few seconds."""

Plot = dict[str, Any]
"""A figure as plotly's JSON has it, ``data`` and ``layout``: plotly's own objects take most of a look's time."""

_log = logging.getLogger(__name__)


def figures(outcome: Outcome, known: Sequence[Held], refined: Sequence[Refined]) -> dict[str, Plot]:
    """Figures by their ids in the page: one that cannot be made says so in its place, and the others are there.

    Args:
        outcome: the study as it stands.
        known: networks that no search proposed.
        refined: networks that were trained in full.
    """
    few = len(outcome.rows) <= TEXTS
    made = {
        FRONT: _dressed("Front", lambda: front_figure(outcome, known, refined=refined, hover=few)),
        CURVES: _dressed("Learning curves", lambda: curves_figure(outcome)),
        HYPERVOLUME: _dressed("Hypervolume of the front", lambda: hypervolume_figure(outcome)),
        SHARES: _dressed("Share of 3x3 and 5x5 by depth", lambda: shares_figure(outcome)),
    }
    if not few:
        for trace in made[FRONT]["data"]:
            if "customdata" in trace:
                trace["hovertemplate"] = "<b>trial %{customdata}</b><br>%{x:,}: %{y:.4f}<extra></extra>"
    curves, epochs = made[CURVES]["layout"], int(outcome.settings["epochs"])
    curves["xaxis"] |= {"range": [0.5, epochs + 0.5], "tick0": 1, "dtick": -(-epochs // 8)}
    if made[CURVES]["data"] and curves.pop("annotations", None):  # rungs at 1 and 3 have no room for their names here
        curves["title"]["text"] += " (dotted: rungs)"
    return made


def with_running(curves: Plot, running: Sequence[FrozenTrial]) -> Plot:
    """The learning curves, and those of trials that are being trained as far as they are."""
    each = [trial for trial in running if trial.intermediate_values]
    if not each:
        return curves
    points: list[tuple[int | None, float | None, int | None]] = []
    for trial in each:
        points += [(step, value, trial.number) for step, value in sorted(trial.intermediate_values.items())]
        points.append((None, None, None))  # a gap
    steps, values, numbers = zip(*points, strict=True)
    trace = {
        "type": "scatter",
        "x": steps,
        "y": values,
        "customdata": numbers,
        "name": f"running ({len(each)})",
        "mode": "lines+markers",
        "line": {"color": RUNNING, "width": 2},
        "marker": {"size": 5},
        "hovertemplate": "<b>trial %{customdata}</b>, running<br>epoch %{x}: %{y:.4f}<extra></extra>",
    }
    return {"data": [*curves["data"], trace], "layout": {**curves["layout"], "showlegend": True}}


def _dressed(title: str, make: Callable[[], go.Figure]) -> Plot:
    try:
        plot: Plot = make().to_plotly_json()
    except FAULTS as fault:
        _log.exception("the figure %r cannot be drawn", title)
        words = f"This figure cannot be drawn ({type(fault).__name__}); the terminal of nas dashboard says why."
        place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
        axes: dict[str, Any] = {"xaxis": {"visible": False}, "yaxis": {"visible": False}}
        plot = {"data": [], "layout": {**axes, "annotations": [{"text": html.escape(words), **place}]}}
    layout = plot["layout"]
    layout |= {
        "template": {},
        "title": {"text": f"<b>{title}</b>", "x": 0.02, "xanchor": "left", "y": 0.98, "yanchor": "top"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 12},
        "margin": {"l": 60, "r": 16, "t": 48, "b": 48},
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": INK,
            "activecolor": LINE,
            "remove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
        },
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.18, "yanchor": "top", "font": {"size": 11}},
        "hovermode": "closest",
        "uirevision": "nas",  # the page draws the figure anew whenever it polls: what was zoomed stays so
    }
    layout["title"]["font"] = {"size": 16}
    for name in ("xaxis", "yaxis"):
        layout[name] = {**layout.get(name, {}), "gridcolor": GRID, "zeroline": False, "linecolor": GRID}
        layout[name]["automargin"] = True
    for arrow in layout.get("annotations", ()):
        arrow["arrowcolor"] = INK
        if arrow.get("ax", 0) < 0:  # what points from the left would be cut in a card as narrow as a phone
            arrow["ax"] = 30
    for trace in plot["data"]:
        _fit(trace)
    return plot


def _fit(trace: dict[str, Any]) -> None:
    bar = trace.get("marker", {}).get("colorbar")
    if bar is not None:  # a title above it would stand in its highest label
        bar |= {"title": {**bar.get("title", {}), "side": "right"}, "thickness": 14, "len": 0.9}
    line = trace.get("line", {})
    colour = str(line.get("color", ""))
    if trace.get("mode") == "lines" and "opacity" in trace and colour.startswith("rgb("):
        # Faint by the line's own colour: layers that are faint as a whole darken a dark page beneath them.
        line["color"] = f"rgba({colour[4:-1]},{trace.pop('opacity')})"
