"""The report's learning curves, and how far behind each trial was that the pruner would not let go on."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from nas.outcome import Outcome
from nas.records import Row
from nas.report.figures import FAILED, LINE, PRUNED, colour, colour_key, cost_name, log_range
from nas.report.section import Section

BINS = 12
"""Curves are drawn as so many traces, one a colour: one a trial takes a browser seconds at 1,000 trials."""
AUDITED, MARGIN = "#9a5fd0", "#1b9aa0"
WENT_ON = "audited, went on"


def curves_section(outcome: Outcome) -> Section:
    """Learning curves by cost with the rungs; below them deficits and margins, where a rule of margins stopped any."""
    if not any(row.curve for row in outcome.rows):
        return Section("<h2>Learning curves</h2>\n<p>No trial has a reading yet.</p>")
    rungs = rungs_of(outcome)
    judged = [row for row in outcome.rows if _grounds(row) is not None]
    parts = [
        "<h2>Learning curves</h2>",
        f"<p>{escape(_reading(outcome, rungs))}</p>",
        '<div class="figure" id="curves"></div>',
    ]
    figures = {"curves": curves_figure(outcome)}
    if judged:
        parts += [
            "<h3>Why the pruner stopped them</h3>",
            f"<p>{escape(_judged(judged))}</p>",
            '<div class="figure low" id="margins"></div>',
        ]
        figures["margins"] = margins_figure(outcome)
    return Section("\n".join(parts), figures)


def rungs_of(outcome: Outcome) -> list[int]:
    """Epochs at which the study's pruner compares trials, rising; none of `none` and of a rule that is not known here.

    The rungs of a recorded stop are among them, whatever the rule.
    """
    from nas.search.pruners import PRUNERS  # loads Optuna
    from nas.search.pruners.rungs import is_rung

    name = str(outcome.settings.get("pruner"))
    epochs = range(1, int(outcome.settings["epochs"])) if name in PRUNERS and name != "none" else range(0)
    stopped = {int(row.stopped["rung"]) for row in outcome.rows if row.stopped and row.stopped.get("rung") is not None}
    return sorted(stopped | {epoch for epoch in epochs if is_rung(epoch)})


def curves_figure(outcome: Outcome) -> go.Figure:
    """The validation metric at each epoch read, one line a trial, coloured by cost; those of the front are thick.

    Dotted lines are rungs. A curve that ended early has a mark at its end: pruned, paused or failed. Points carry the
    trial's number.
    """
    figure = go.Figure()
    rows = [row for row in outcome.rows if row.curve]
    if not rows:
        return figure
    low, high = log_range([row.cost for row in rows])
    at = (np.log10([row.cost for row in rows]) - low) / (high - low)
    bins = np.clip((at * BINS).astype(int), 0, BINS - 1)
    front = {row.trial for row in outcome.front}
    thick = np.array([row.trial in front for row in rows])
    faint = 0.75 if len(rows) <= 100 else 0.45 if len(rows) <= 400 else 0.3
    for on_front in (False, True):
        for number in range(BINS):
            members = [rows[i] for i in np.flatnonzero((bins == number) & (thick == on_front))]
            # A single reading is no line. Of a trial that ended early it has its mark; of a study of one epoch, here.
            for mode, these in (
                ("lines", [row for row in members if len(row.curve) > 1]),
                ("markers", [row for row in members if len(row.curve) == 1 and row.state == "complete"]),
            ):
                if these:
                    figure.add_scatter(
                        **_lines(these),
                        mode=mode,
                        line={"color": colour((number + 0.5) / BINS), "width": 2.6 if on_front else 1.1},
                        marker={"size": 8 if on_front else 5},
                        opacity=1.0 if on_front else faint,
                        showlegend=False,
                    )
    for state, symbol, shade in (
        ("pruned", "triangle-down-open", PRUNED),
        ("paused", "square-open", PRUNED),
        ("failed", "x", FAILED),
    ):
        ended = [row for row in rows if row.state == state]
        if ended:
            figure.add_scatter(
                x=np.array([row.curve[-1][0] for row in ended]),
                y=np.array([row.curve[-1][1] for row in ended], dtype=np.float32),
                customdata=np.array([row.trial for row in ended]),
                mode="markers",
                name=f"{state} ({len(ended):,})",
                marker={"symbol": symbol, "size": 7, "color": shade, "line": {"width": 1.4, "color": shade}},
                hovertemplate=f"<b>trial %{{customdata}}</b>, {state}<br>epoch %{{x}}: %{{y:.4f}}<extra></extra>",
            )
    figure.add_scatter(**colour_key([row.cost for row in rows], cost_name(outcome.cost)))
    last = max(row.curve[-1][0] for row in rows)
    for rung in rungs_of(outcome):
        figure.add_vline(rung, line={"color": LINE, "width": 1.8, "dash": "dot"}, layer="below")
        figure.add_annotation(
            x=rung, y=0, yref="paper", yanchor="bottom", text=f"rung {rung}", showarrow=False, font={"size": 10}
        )
    figure.update_layout(showlegend=any(row.state != "complete" for row in rows))
    figure.update_xaxes(title="epoch", dtick=1 if last <= 15 else None)  # no half epochs
    figure.update_yaxes(title=f"validation {outcome.metric_words}")
    return figure


def margins_figure(outcome: Outcome) -> go.Figure:
    """How far behind each trial was that the rule would not let go on, at its rung, against the margin of that moment.

    A band a rung; within it trials stand in their order. Trials without a recorded margin are left out. Points carry
    the trial's number.
    """
    figure = go.Figure()
    judged = [(row, found) for row in outcome.rows if (found := _grounds(row)) is not None]
    if not judged:
        return figure
    rungs = sorted({rung for _, (rung, _, _) in judged})
    most = max(row.trial for row in outcome.rows)
    kinds = (
        ("pruned", "triangle-down", PRUNED),
        ("set aside", "square-open", PRUNED),
        (WENT_ON, "circle", AUDITED),
    )
    for place, rung in enumerate(rungs):
        here = [(row, margin) for row, (at, _, margin) in judged if at == rung]
        figure.add_scatter(
            x=np.array([_place(place, row.trial, most) for row, _ in here]),
            y=np.array([100 * margin for _, margin in here]),
            mode="lines" if len(here) > 1 else "markers",
            line={"color": MARGIN, "width": 2, "shape": "hv"},
            marker={"size": 5, "color": MARGIN},
            name="margin",
            legendgroup="margin",
            showlegend=place == 0,
            customdata=np.array([row.trial for row, _ in here]),
            hovertemplate="margin %{y:.2f} points at trial %{customdata}<extra></extra>",
        )
    for name, symbol, shade in kinds:
        these = [(row, found) for row, found in judged if _kind(row) == name]
        if these:
            figure.add_scatter(
                x=np.array([_place(rungs.index(rung), row.trial, most) for row, (rung, _, _) in these]),
                y=np.array([100 * deficit for _, (_, deficit, _) in these]),
                customdata=np.array([row.trial for row, _ in these]),
                mode="markers",
                name=f"{name} ({len(these):,})",
                marker={"symbol": symbol, "size": 8, "color": shade, "line": {"width": 1.4, "color": shade}},
                text=[f"trial {row.stopped.get('dominated_by')}" for row, _ in these if row.stopped],
                hovertemplate=f"<b>trial %{{customdata}}</b>, {name}<br>"
                "%{y:.2f} points behind %{text}<extra></extra>",
            )
    read = {rung: sum(bool(row.curve) and row.curve[-1][0] >= rung for row in outcome.rows) for rung in rungs}
    count = {rung: sum(at == rung and _kind(row) != WENT_ON for row, (at, _, _) in judged) for rung in rungs}
    figure.update_xaxes(
        tickvals=list(range(len(rungs))),
        ticktext=[f"epoch {rung}<br>{count[rung]:,} of {read[rung]:,} stopped" for rung in rungs],
        range=[-0.5, len(rungs) - 0.5],
        showgrid=False,
    )
    for edge in range(1, len(rungs)):
        figure.add_vline(edge - 0.5, line={"color": LINE, "width": 1, "dash": "dot"}, layer="below")
    figure.update_yaxes(title="points behind", rangemode="tozero")
    return figure


def _grounds(row: Row) -> tuple[int, float, float] | None:
    """(rung, deficit, margin) by which the trial was stopped or would have been; None of any other."""
    found = row.stopped or {}
    rung, deficit, margin = (found.get(name) for name in ("rung", "deficit", "margin"))
    return None if rung is None or deficit is None or margin is None else (int(rung), float(deficit), float(margin))


def _kind(row: Row) -> str:
    if row.stopped and row.stopped.get("spared"):
        return WENT_ON
    return "set aside" if row.state == "paused" else "pruned"


def _place(band: int, trial: int, most: int) -> float:
    """Where in its rung's band a trial stands."""
    return band + 0.84 * (trial / max(most, 1) - 0.5)


def _lines(rows: Sequence[Row]) -> dict[str, object]:
    """Many curves as one trace, with a gap after each."""
    lengths = [len(row.curve) + 1 for row in rows]
    ends = [(row.curve, (row.curve[-1][0], np.nan, np.nan)) for row in rows]
    x, y, _ = np.array([point for curve, gap in ends for point in (*curve, gap)]).T
    return {
        "x": x.astype(np.int32),
        "y": y.astype(np.float32),
        "customdata": np.repeat([row.trial for row in rows], lengths),
        "hovertemplate": "<b>trial %{customdata}</b><br>epoch %{x}: %{y:.4f}<extra></extra>",
    }


def _reading(outcome: Outcome, rungs: Sequence[int]) -> str:
    words = "One line a trial, coloured by its cost; thick ones are on the front."
    if not rungs:
        return f"{words} The pruner {outcome.settings.get('pruner')} compares trials at no epoch that is known here."
    return f"{words} At the dotted lines, the rungs, the pruner compares trials; a line that ends early has a mark."


def _judged(judged: Sequence[Row]) -> str:
    stopped = sum(_kind(row) != WENT_ON for row in judged)
    words = [
        "A mark is a trial at the rung that judged it: how many points it was behind the best network no larger; from "
        "20 completed trials on, behind at the end, as far as the rung lets expect. The line is the margin of that "
        f"moment: {stopped:,} trial{'s' * (stopped != 1)} above it {'was' if stopped == 1 else 'were'} stopped."
    ]
    if stopped < len(judged):
        words.append("Audited ones went on, so that the pruner's error can be measured.")
    words.append("Within a rung time runs from left to right. A trial that was taken up again is not here.")
    return " ".join(words)
