"""The figures that compare several studies: their fronts, and their hypervolume as the searches went on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from nas.held import Held, held
from nas.report.attainment import COLOURS, attained
from nas.report.compare import Floats, History, Setting, band
from nas.report.figures import cost_name, log_step


def fronts_figure(settings: Sequence[Setting]) -> go.Figure:
    """Every front over the cost (log); of settings with several seeds the attained ones over them.

    Beside it each setting's reference line in its colour, in long dashes; of several seeds the means over them.
    """
    outcomes = [entry.outcome for setting in settings for entry in setting.entries]
    most = max((outcome.front[-1].cost for outcome in outcomes if outcome.front), default=1)
    figure = go.Figure()
    lines: list[int] = []
    for setting, colour in zip(settings, _colours(settings), strict=True):
        alone = len(setting.entries) == 1
        name = escape(setting.words)
        for number, entry in enumerate(setting.entries):
            front = entry.outcome.front
            figure.add_scatter(
                x=[*(row.cost for row in front), *([most] if front else [])],
                y=[*(row.val_accuracy for row in front), *([front[-1].val_accuracy] if front else [])],
                mode="lines+markers",
                line={"shape": "hv", "color": colour, "width": 2 if alone else 0.8},
                marker={"size": [*([8 if alone else 5] * len(front)), 0], "color": colour},
                opacity=1 if alone else 0.4,
                name=name,
                legendgroup=name,
                showlegend=alone and number == 0,
                hovertext=[
                    *(
                        f"<b>{escape(entry.name)}</b>, trial {row.trial}<br>{row.cost:,} {entry.outcome.cost}<br>"
                        f"{row.val_accuracy:.4f}"
                        for row in front
                    ),
                    "",
                ],
                hoverinfo="text",
            )
        if not alone:
            runs = [[(row.cost, row.val_accuracy or 0.0) for row in entry.outcome.front] for entry in setting.entries]
            for percentile, surface in attained(runs).items():
                figure.add_scatter(
                    x=[*surface[:, 0], max(most, surface[-1, 0])],
                    y=[*surface[:, 1], surface[-1, 1]],
                    mode="lines",
                    line={
                        "shape": "hv",
                        "color": colour,
                        "width": 2.2 if percentile == 50 else 1.4,
                        "dash": {25: "dot", 50: "solid", 75: "dash"}[percentile],
                    },
                    name=name,
                    legendgroup=name,
                    showlegend=percentile == 50,
                    hoverinfo="skip",
                )
        line = line_of(setting)
        if line:
            x = [one.first.cost(outcomes[0].cost) for one in line]
            lines += x
            figure.add_scatter(
                x=x,
                y=[one.mean for one in line],
                mode="lines+markers",
                line={"color": colour, "width": 1.4, "dash": "longdash"},
                marker={"symbol": "square-open", "size": 6, "color": colour},
                name=f"{name}: GoogLeNet's proportions",
                legendgroup=name,
                hovertext=[
                    f"<b>{name}</b>, {escape(one.first.name)} of the line<br>{at:,} {outcomes[0].cost}<br>"
                    f"{one.mean:.4f}{'' if len(one.trainings) == 1 else f', mean of {len(one.trainings)} seeds'}"
                    for at, one in zip(x, line, strict=True)
                ],
                hoverinfo="text",
            )
    cost = outcomes[0].cost
    costs = [row.cost for outcome in outcomes for row in outcome.front] + lines
    figure.update_xaxes(title=cost_name(cost), type="log", tickformat="~s", dtick=log_step(costs))
    figure.update_yaxes(title=f"validation {outcomes[0].metric_words}")
    return figure


def line_of(setting: Setting) -> list[Held]:
    """The networks of a setting's reference line by cost, each with its trainings in all of the setting's studies."""
    found = held([one for entry in setting.entries for one in entry.line])
    return sorted(found, key=lambda one: one.first.cost(setting.entries[0].outcome.cost))


def hypervolume_figure(
    settings: Sequence[Setting], histories: Mapping[str, History], measure: Callable[[History], Floats], title: str
) -> go.Figure:
    """Hypervolume of every search over what `measure` counts; of settings with several seeds also mean and interval."""
    figure = go.Figure()
    lowest = 1.0
    for setting, colour in zip(settings, _colours(settings), strict=True):
        alone = len(setting.entries) == 1
        name = escape(setting.words)
        mine = [(entry.name, histories[entry.name]) for entry in setting.entries if len(histories[entry.name].trials)]
        for number, (study, one) in enumerate(mine):
            x = measure(one)
            lowest = min(lowest, one.at(measure, float(x[-1]) / 2))
            grew = np.diff(one.hypervolume, prepend=-1) > 0  # a step between two of these says nothing
            grew[-1] = True
            figure.add_scatter(
                x=x[grew],
                y=one.hypervolume[grew],
                mode="lines",
                line={"shape": "hv", "color": colour, "width": 2 if alone else 0.8},
                opacity=1 if alone else 0.4,
                name=name,
                legendgroup=name,
                showlegend=alone and number == 0,
                hovertemplate=f"<b>{escape(study)}</b><br>%{{x:.4~g}}: %{{y:.4f}}<extra></extra>",
            )
        if len(mine) > 1:
            x, mean, low, high = band([one for _, one in mine], measure)
            edge = {"x": x, "mode": "lines", "legendgroup": name, "showlegend": False, "hoverinfo": "skip"}
            fill = f"rgba({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))}, 0.15)"
            figure.add_scatter(y=low, line={"width": 0, "shape": "hv"}, **edge)
            figure.add_scatter(y=high, line={"width": 0, "shape": "hv"}, fill="tonexty", fillcolor=fill, **edge)
            line = {"shape": "hv", "color": colour, "width": 2.4}
            figure.add_scatter(**{**edge, "showlegend": True}, y=mean, line=line, name=name)
    figure.update_xaxes(title=title, rangemode="tozero", tickformat=",~g")
    best = max((float(one.hypervolume[-1]) for one in histories.values() if len(one.trials)), default=1.0)
    figure.update_yaxes(title="hypervolume", range=[max(0.0, lowest - 0.02), min(1.0, best + 0.01)])
    return figure


def _colours(settings: Sequence[Setting]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(settings))]
