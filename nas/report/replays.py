"""The page of a contest: hypervolume against trials, epochs and seconds, and the fronts that are attained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nas.beside import beside
from nas.report.attainment import COLOURS, attained
from nas.search.contest import Contest, Setting
from nas.search.lines import like_googlenet
from nas.search.score import Point, Score
from nas.search.table import Table

MULTIPLIER = {"color": "#333", "dash": "dash", "width": 1}
GRID = 200
AXES: dict[str, Callable[[Point], float]] = {
    "trials ended": lambda point: point.trials,
    "epochs trained": lambda point: point.epochs,
    "seconds by the simulated clock": lambda point: point.seconds,
}


def check_place(path: Path) -> None:
    """Whether a page can be written there; its folder is made.

    Raises:
        NasError, OSError: its folder cannot be made or written, or there is a folder of that name.
    """
    with beside(path) as aside:
        aside.touch()


def write_page(path: Path, contest: Contest, table: Table, scores: Mapping[Setting, Sequence[Score]]) -> None:
    """Write one self-contained HTML file, whole or not at all.

    Raises:
        NasError, OSError: see `check_place`.
    """
    figure = replay_figure(contest, table, scores)
    with beside(path) as aside:
        aside.write_text(figure.to_html(include_plotlyjs=True, full_html=True), encoding="utf-8")
        aside.replace(path)


def replay_figure(contest: Contest, table: Table, scores: Mapping[Setting, Sequence[Score]]) -> go.Figure:
    """Four plots: hypervolume against trials, epochs and seconds (median, and 25 to 75 % of the searches as a band),
    as the part of the whole table's; and the front that 25, 50 and 75 % of the searches attain.

    Where the table is a grid, what needs no search stands beside them: GoogLeNet's proportions at every size."""
    titles = [f"hypervolume against {name}" for name in AXES]
    titles += ["front attained by 25 % (dotted), 50 % and 75 % (dashed) of the searches"]
    figure = make_subplots(rows=2, cols=2, subplot_titles=titles, horizontal_spacing=0.09, vertical_spacing=0.13)
    whole = table.hypervolume(list(table.keys))
    lowest = _width_multiplier(figure, table, scores, whole)
    for (setting, runs), colour in zip(scores.items(), _cycle(len(scores)), strict=True):
        for place, (name, measure) in enumerate(AXES.items()):
            row, column = place // 2 + 1, place % 2 + 1
            x, levels = bands([run.history for run in runs], measure, whole)
            lowest = min(lowest, float(levels[0][GRID // 10]))
            draw_band(figure, x, levels, str(setting), colour, row, column)
            figure.update_xaxes(title=name, tickformat=",", row=row, col=column)
            figure.update_yaxes(title="part of the table's", row=row, col=column)
        _attained(figure, runs, max(table.costs.values()), str(setting), colour)
    front = table.front(list(table.keys))
    ends = [table.truth[key] for key in front]
    figure.add_scatter(
        x=[table.costs[key] for key in front],
        y=ends,
        mode="markers",
        marker={"symbol": "circle-open", "color": "#333", "size": 9, "line": {"width": 1.5}},
        name="true front of the table",
        row=2,
        col=2,
    )
    for place in range(3):
        figure.update_yaxes(range=[max(0.0, lowest - 0.01), 1.003], row=place // 2 + 1, col=place % 2 + 1)
    figure.update_xaxes(title=table.space.cost, type="log", tickformat="~s", dtick="D2", row=2, col=2)
    # What a search finds far below the front is of no interest, and would press the rest together.
    span = max(ends) - min(ends) or 0.05
    figure.update_yaxes(
        title="accuracy, mean over seeds", range=[max(ends) - 2 * span, max(ends) + 0.05 * span], row=2, col=2
    )
    few = "" if contest.seeds > 1 else " (one search: no band)"
    figure.update_layout(
        title=f"{table.name}: {contest.seeds} searches a setting, {contest.trials} trials, {contest.workers} workers. "
        f"Lines: medians; bands: 25 to 75 % of the searches{few}",
        title_font_size=16,
        template="plotly_white",
        height=900,
        width=1250,
        legend={"orientation": "h", "y": -0.09},
    )
    return figure


def _width_multiplier(
    figure: go.Figure, table: Table, scores: Mapping[Setting, Sequence[Score]], whole: float
) -> float:
    """Draw its hypervolume and its front, where the table has such networks; the hypervolume, or 1."""
    line = list(like_googlenet(table))
    if not line:
        return 1.0
    part = table.hypervolume(line) / (whole or 1.0)
    name = f"one width multiplier ({len(line)} trainings)"
    common = {"mode": "lines", "name": name, "legendgroup": name}
    for place, measure in enumerate(AXES.values()):
        most = max(measure(run.history[-1]) for runs in scores.values() for run in runs)
        where = {"row": place // 2 + 1, "col": place % 2 + 1}
        figure.add_scatter(x=[0, most], y=[part, part], line=MULTIPLIER, showlegend=place == 0, **common, **where)
    front = table.front(line)
    figure.add_scatter(
        x=[*(table.costs[key] for key in front), max(table.costs.values())],
        y=[*(table.truth[key] for key in front), table.truth[front[-1]]],
        line=MULTIPLIER | {"shape": "hv"},
        showlegend=False,
        row=2,
        col=2,
        **common,
    )
    return part


def bands(
    histories: Sequence[Sequence[Point]], measure: Callable[[Point], float], whole: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(x, [25 %, 50 %, 75 %]) over searches of the hypervolume, as a step over what `measure` counts.

    Args:
        histories: of each search, at least one, each of at least one point.
        measure: what the x axis counts, growing along a history.
        whole: the hypervolume that counts as 1.
    """
    most = max(measure(history[-1]) for history in histories)
    x = np.linspace(0, most, GRID)
    curves = []
    for history in histories:
        at = np.array([measure(point) for point in history])
        height = np.array([0.0, *(point.hypervolume for point in history)]) / (whole or 1.0)
        curves.append(height[np.searchsorted(at, x, side="right")])
    return x, list(np.quantile(np.array(curves), [0.25, 0.5, 0.75], axis=0))


def draw_band(
    figure: go.Figure, x: np.ndarray, levels: Sequence[np.ndarray], name: str, colour: str, row: int, col: int
) -> None:
    """Add a median with its band, as `bands` gave them, to one plot; the first one stands in the legend."""
    common = {"x": x, "legendgroup": name, "row": row, "col": col}
    low, middle, high = levels
    edge = {"width": 0, "shape": "hv"}
    figure.add_scatter(y=low, line=edge, mode="lines", hoverinfo="skip", showlegend=False, **common)
    fill = {"fill": "tonexty", "fillcolor": f"rgba{(*_rgb(colour), 0.13)}"}
    figure.add_scatter(y=high, line=edge, mode="lines", hoverinfo="skip", showlegend=False, **fill, **common)
    line = {"color": colour, "width": 2, "shape": "hv"}
    figure.add_scatter(y=middle, mode="lines", name=name, showlegend=(row, col) == (1, 1), line=line, **common)


def _attained(figure: go.Figure, runs: Sequence[Score], most: int, name: str, colour: str) -> None:
    surfaces = attained([run.points for run in runs])
    for percentile, dash in ((25, "dot"), (50, "solid"), (75, "dash")):
        surface = surfaces.get(percentile)
        if surface is None:  # too few searches completed anything
            continue
        figure.add_scatter(
            x=[*surface[:, 0], most],  # what is attained at a cost is attained above it
            y=[*surface[:, 1], surface[-1, 1]],
            mode="lines",
            line={"shape": "hv", "color": colour, "dash": dash, "width": 2 if percentile == 50 else 1},
            name=f"{name} {percentile} %",
            legendgroup=name,
            showlegend=False,
            row=2,
            col=2,
        )


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]
