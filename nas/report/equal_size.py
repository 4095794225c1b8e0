"""Accuracy at equal size against what else a network is: mean share, its slope, reduce ratios, MACs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from scipy.special import stdtrit

from nas.records import Row
from nas.report.figures import LINE, PRUNED, SCALE

LEAST = 12
"""Complete trials under which no trend is drawn."""
DEGREE = 3
"""Of the polynomial in log10 cost that says what accuracy is usual at a size."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rank:
    """Spearman's rank correlation.

    Args:
        rho: -1..1; NaN where one side never varies.
        low, high: 95 % by Fisher's z with the variance of Bonett and Wright (2000), doi 10.1007/BF02294183.
        p: two-sided, of rho = 0, by Student's t.
    """

    rho: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Panel:
    """One property of the complete networks.

    Args:
        name: of its figure's place.
        title: of the axis.
        x: (n,).
    """

    name: str
    title: str
    x: Floats


def widths(rows: Sequence[Row]) -> Floats:
    """(n, modules, 6) channels in the order of `InceptionWidths`; all rows have as many modules."""
    return np.array(
        [
            [
                (m.out_1x1, m.reduce_3x3, m.out_3x3, m.reduce_5x5, m.out_5x5, m.out_pool)
                for m in row.architecture.modules
            ]
            for row in rows
        ],
        dtype=np.float64,
    )


def panels(rows: Sequence[Row], cost: str) -> list[Panel]:
    """What accuracy at equal size is held against; the last is the cost that the study does not search by.

    Args:
        rows: at least one.
        cost: of the study, ``params`` or ``macs``.
    """
    one, reduce_3, three, reduce_5, five, pool = np.moveaxis(widths(rows), 2, 0)
    share = (three + five) / (one + three + five + pool)
    depth = np.arange(share.shape[1]) - (share.shape[1] - 1) / 2
    slope = share @ depth / max(float(depth @ depth), 1.0)
    costs = np.array([row.cost for row in rows], dtype=np.float64)
    words = "MACs" if cost == "params" else "parameters"
    log = np.log10([float(row.macs if cost == "params" else row.params) for row in rows])
    return [
        Panel("equal-share", "mean share of 3x3 and 5x5", share.mean(axis=1)),
        Panel("equal-slope", "slope of that share, a module", slope),
        Panel("equal-reduce-3x3", "mean ratio of 3x3 reductions", (reduce_3 / three).mean(axis=1)),
        Panel("equal-reduce-5x5", "mean ratio of 5x5 reductions", (reduce_5 / five).mean(axis=1)),
        Panel("equal-cost", f"{words}, times the usual at that size", 10 ** unusual(costs, log)),
    ]


def unusual(costs: Floats, values: Floats) -> Floats:
    """(n,): what is left of `values` after the least-squares cubic in log10 cost; of few costs a simpler polynomial."""
    log = np.log10(costs)
    degree = min(DEGREE, len(np.unique(log)) - 1)
    return np.asarray(values - np.polynomial.Polynomial.fit(log, values, degree)(log))


def spearman(x: Floats, y: Floats) -> Rank:
    """Rank correlation of (n,) against (n,), n >= 4; ties get their mean rank."""
    from scipy.stats import spearmanr  # half a second to load

    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Rank(math.nan, math.nan, math.nan, math.nan)
    found = spearmanr(x, y)
    rho = float(found.statistic)
    if abs(rho) > 1 - 1e-12:
        return Rank(round(rho), round(rho), round(rho), 0.0)
    half = 1.959964 * math.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    z = math.atanh(rho)
    return Rank(rho, math.tanh(z - half), math.tanh(z + half), float(found.pvalue))


def trend(x: Floats, y: Floats, at: Floats) -> tuple[Floats, Floats]:
    """(the least-squares parabola at `at`, half of the 95 % interval of its height there).

    A parabola, as a share may be best in the middle. Of two distinct x a line, of one the mean.
    """
    scaled, where = ((values - x.mean()) / (x.std() or 1.0) for values in (x, at))
    degree = min(2, len(np.unique(x)) - 1)
    design, wanted = (np.vander(values, degree + 1) for values in (scaled, where))
    found, *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(x) - degree - 1
    variance = float(((y - design @ found) ** 2).sum()) / freedom
    spread = np.einsum("ij,jk,ik->i", wanted, np.linalg.pinv(design.T @ design), wanted)
    return wanted @ found, stdtrit(freedom, 0.975) * np.sqrt(variance * spread)


def panel_figure(
    panel: Panel, y: Floats, numbers: Floats, drawn: NDArray[np.int64], on_front: NDArray[np.bool_]
) -> go.Figure:
    """Points that answer clicks, those of the front in colour, under the trend of all with its interval.

    Args:
        y: (n,), accuracy above the usual at each network's size, percentage points.
        numbers: (n,), of the trials.
        drawn: indices of those that are drawn.
        on_front: (n,).
    """
    figure = go.Figure()
    at = np.linspace(panel.x.min(), panel.x.max(), 41)
    middle, half = trend(panel.x, y, at)
    for mask, colour, name, size in ((~on_front, PRUNED, "complete", 4), (on_front, SCALE[0][1], "on the front", 6)):
        these = drawn[mask[drawn]]
        figure.add_scatter(
            x=panel.x[these].astype(np.float32),
            y=y[these].astype(np.float32),
            customdata=numbers[these].astype(np.int32),
            mode="markers",
            name=name,
            marker={"size": size, "color": colour, "opacity": 0.55 if size == 4 else 0.95},
            meta={"hover": "trials"},
            hovertemplate="trial %{customdata}<extra></extra>",
        )
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(x=at, y=middle - half, **band)
    figure.add_scatter(x=at, y=middle + half, fill="tonexty", fillcolor="rgba(210,69,45,0.18)", **band)
    figure.add_scatter(x=at, y=middle, mode="lines", line={"color": SCALE[-1][1], "width": 2}, hoverinfo="skip")
    low, high = reach(y)
    figure.update_xaxes(title=panel.title, nticks=6)
    figure.update_yaxes(range=[low, high], zeroline=True, title="points", nticks=7)
    figure.update_layout(showlegend=False, shapes=[_zero()])
    return figure


def reach(y: Floats) -> tuple[float, float]:
    """The heights that are drawn: a network that failed to learn would press all others together."""
    low, high = np.quantile(y, [0.02, 0.98])
    room = max(high - low, 0.5)
    return max(float(y.min()), low - room) - 0.05 * room, min(float(y.max()), high + room) + 0.05 * room


def _zero() -> dict[str, object]:
    """What is usual at a size."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": 0,
        "y1": 0,
        "line": {"color": LINE, "dash": "dot", "width": 1},
    }
