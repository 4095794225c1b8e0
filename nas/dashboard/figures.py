"""The report's figures in optuna-dashboard's cards: with a title, and readable in both of its themes."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Sequence

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

FAULTS = (ArithmeticError, AttributeError, LookupError, NasError, TypeError, ValueError)
"""What a figure that cannot be made of a study's records raises, be it the records' fault or ours."""

INK, GRID = "#808a9a", "rgba(128,138,154,0.28)"
"""A middle grey: optuna-dashboard's page is white or nearly black, and a figure does not learn which."""

RUNNING = "#d03b90"

_log = logging.getLogger(__name__)


def figures(outcome: Outcome, known: Sequence[Held], refined: Sequence[Refined]) -> dict[str, go.Figure]:
    """Figures by their ids in the page: one that cannot be made says so in its place, and the others are there.

    Args:
        outcome: the study as it stands.
        known: networks that no search proposed.
        refined: networks that were trained in full.
    """
    return {
        FRONT: _dressed("Front", lambda: front_figure(outcome, known, refined=refined)),
        **learning_curves(outcome),
        HYPERVOLUME: _dressed("Hypervolume of the front", lambda: hypervolume_figure(outcome)),
        SHARES: _dressed("Share of 3x3 and 5x5 filters by depth", lambda: shares_figure(outcome)),
    }


def learning_curves(outcome: Outcome, running: Sequence[FrozenTrial] = ()) -> dict[str, go.Figure]:
    """The one figure that changes with every epoch.

    Args:
        running: trials that are being trained.
    """

    def make() -> go.Figure:
        epochs = int(outcome.settings["epochs"])
        figure = _with_running(curves_figure(outcome), running)
        return figure.update_xaxes(range=[0.5, epochs + 0.5], tick0=1, dtick=-(-epochs // 8))

    return {CURVES: _dressed("Learning curves", make)}


def _with_running(figure: go.Figure, running: Sequence[FrozenTrial]) -> go.Figure:
    """The curves of trials that are being trained, as far as they are."""
    each = [trial for trial in running if trial.intermediate_values]
    if each:
        points = [
            (step, value, trial.number) if step is not None else (None, None, None)
            for trial in each
            for step, value in [*sorted(trial.intermediate_values.items()), (None, None)]
        ]
        xs, ys, numbers = zip(*points, strict=True)
        figure.add_scatter(
            x=xs,
            y=ys,
            customdata=numbers,
            name=f"running ({len(each)})",
            mode="lines+markers",
            line={"color": RUNNING, "width": 2},
            marker={"size": 5},
            hovertemplate="<b>trial %{customdata}</b>, running<br>epoch %{x}: %{y:.4f}<extra></extra>",
        )
    return figure


def _dressed(title: str, make: Callable[[], go.Figure]) -> go.Figure:
    try:
        figure = make()
    except FAULTS as fault:
        _log.exception("the figure %r cannot be drawn", title)
        figure = go.Figure()
        words = f"This figure cannot be drawn ({type(fault).__name__}); the terminal of nas dashboard says why."
        figure.add_annotation(text=html.escape(words), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
    figure.update_layout(
        template=go.layout.Template(),
        title={
            "text": f"<b>{title}</b>",
            "x": 0.02,
            "xanchor": "left",
            "y": 0.98,
            "yanchor": "top",
            "font": {"size": 16},
        },
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12},
        margin={"l": 60, "r": 16, "t": 48, "b": 48},
        modebar={
            "bgcolor": "rgba(0,0,0,0)",
            "color": INK,
            "activecolor": LINE,
            "remove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
        },
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.18, "yanchor": "top", "font": {"size": 11}},
        hovermode="closest",
        uirevision="nas",  # the page draws the figure anew whenever it polls: what was zoomed stays so
    )
    # A bar's title above it would stand in its highest label.
    bars = {"title": {"side": "right"}, "thickness": 14, "len": 0.9}
    figure.update_traces(marker={"colorbar": bars}, selector=lambda trace: bool(trace.marker.colorbar.title.text))
    figure.for_each_trace(_see_through)
    figure.update_annotations(arrowcolor=INK)
    # What points from the left would be cut where the card is as narrow as a phone.
    figure.for_each_annotation(lambda one: one.update(ax=30) if (one.ax or 0) < 0 else None)
    figure.update_xaxes(gridcolor=GRID, zeroline=False, linecolor=GRID, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=GRID, automargin=True)
    return figure


def _see_through(trace: go.Scatter) -> None:
    """Faint by the line's own colour: layers that are faint as a whole darken a dark page beneath them."""
    colour = trace.line.color or ""
    if trace.mode == "lines" and trace.opacity is not None and colour.startswith("rgb("):
        trace.update(line={"color": f"rgba({colour[4:-1]},{trace.opacity})"}, opacity=None)
