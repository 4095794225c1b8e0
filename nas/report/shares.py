"""The report's part on shares: how much of each module looks at neighbours, by depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from nas.outcome import Outcome
from nas.records import Row
from nas.report.figures import PRUNED, colour, colour_key, cost_name, log_range
from nas.report.section import Section


def shares_section(outcome: Outcome) -> Section:
    """Share of 3x3 and 5x5 filters by depth."""
    html = (
        "<h2>Share of 3x3 and 5x5 filters by depth</h2>\n<p>Thick lines are the networks of the front.</p>\n"
        '<div class="figure" id="shares"></div>'
    )
    return Section(html, {"shares": shares_figure(outcome)})


def shares_figure(outcome: Outcome) -> go.Figure:
    """Share of 3x3 and 5x5 filters by depth: the front's networks coloured by cost over all other complete ones.

    Points carry the trial's number.
    """
    figure = go.Figure()
    on_front = {row.trial for row in outcome.front}
    others = [row for row in outcome.rows if row.state == "complete" and row.trial not in on_front]
    if others:
        figure.add_scatter(
            **_lines(others),
            name="other complete",
            line={"color": PRUNED, "width": 0.8},
            opacity=0.35,
        )
    if outcome.front:
        costs = [row.cost for row in outcome.front]
        low, high = log_range(costs)
        for row in outcome.front:
            figure.add_scatter(
                **_lines([row]),
                line={"color": colour((math.log10(row.cost) - low) / (high - low)), "width": 2.2},
                showlegend=False,
            )
        figure.add_scatter(**colour_key(costs, cost_name(outcome.cost)))
    figure.update_xaxes(title="module, from the input", dtick=1)
    figure.update_yaxes(title="share of 3x3 and 5x5", range=[0, 1])
    return figure


def _lines(rows: Sequence[Row]) -> dict[str, Any]:
    """Lines of shares as one trace, with a gap after each; a module alone is a point, which a line would not show."""
    each = [[float(share) for share in row.architecture.shares] for row in rows]
    return {
        "x": np.concatenate([[*range(1, len(shares) + 1), np.nan] for shares in each]),
        "y": np.concatenate([[*shares, np.nan] for shares in each]).astype(np.float32),
        "customdata": np.repeat([row.trial for row in rows], [len(shares) + 1 for shares in each]),
        "mode": "lines+markers" if any(len(shares) == 1 for shares in each) else "lines",
        "marker": {"size": 3},
        "hovertemplate": "<b>trial %{customdata}</b><br>module %{x}: %{y:.3f}<extra></extra>",
    }
