"""The report's part on redundant channels: a heat map of each module that `nas redundancy` measured, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate, pairwise

import numpy as np
import plotly.graph_objects as go

from nas.redundancy import (
    BRANCH_COLUMNS,
    REDUCTION_COLUMNS,
    Redundancy,
    branch_rows,
    legend,
    notes,
    reduction_rows,
)
from nas.report.figures import LINE
from nas.report.section import Section

# No correlation is no colour, so that the page's own background shows; both ends are seen on white and on black.
SCALE = ((0.0, "#2f6fdb"), (0.5, "rgba(128,128,128,0)"), (0.85, "#d9951a"), (1.0, "#d2452d"))
MOST_CELLS = 3_000_000
"""Of all heat maps of a page, a byte and a third each; what was measured earlier is left out beyond."""
LEAST_LABEL = 0.05
"""Part of the side that a branch must take to be labelled beside it; hovering names every one."""


def heat_maps(found: Sequence[Redundancy]) -> list[tuple[str, go.Figure]]:
    """A name for a person and a figure for each module of each network; as many as a page bears, in their order.

    A module without a living channel has none.
    """
    made: list[tuple[str, go.Figure]] = []
    cells = 0
    for one in found:
        for number in range(1, len(one.modules) + 1):
            size = sum(len(branch.ordered) for branch in one.branches[number - 1][1:])
            cells += size**2
            if cells > MOST_CELLS:
                return made
            if size:
                about = one.about
                name = f"Trial {about['trial']}, module {number} ({about['weights']}; {about['measured_at']:.10})"
                made.append((name, heat_map(one, number)))
    return made


def heat_map(found: Redundancy, number: int) -> go.Figure:
    """Pearson's r in percent between all living channels of a module, counted from 1.

    Branch by branch, and within a branch in the order of its dendrogram: a cluster is a block on the diagonal, with a
    frame about it where it has two channels or more.
    """
    module, branches = found.modules[number - 1], found.branches[number - 1][1:]
    starts = [0, *accumulate(module.widths)]
    order = [start + channel for start, one in zip(starts, branches, strict=False) for channel in one.ordered]
    names = [f"{one.name}, channel {channel}" for one in branches for channel in one.ordered]
    edges = [0, *accumulate(len(one.ordered) for one in branches)]
    total = len(order)
    figure = go.Figure()
    figure.add_heatmap(
        z=np.round(100 * module.correlation[np.ix_(order, order)]).astype(np.int8),
        x=names,
        y=names,
        zmin=-100,
        zmax=100,
        colorscale=SCALE,
        colorbar={"title": {"text": "r, %"}, "outlinewidth": 0, "tickvals": [-100, -50, 0, 50, 100]},
        hovertemplate="%{y}<br>%{x}<br>r = %{z} %<extra></extra>",
    )
    shapes = [_line(at, total, upright) for at in edges[1:-1] for upright in (True, False)]
    for start, one in zip(edges, branches, strict=False):
        for cluster in one.clusters:
            if len(cluster) > 1:
                shapes.append(_frame(start, start + len(cluster)))
            start += len(cluster)
    middles = [
        ((low + high - 1) / 2, one.name)
        for (low, high), one in zip(pairwise(edges), branches, strict=True)
        if high - low >= max(1, LEAST_LABEL * total)
    ]
    axis = {"type": "category", "showgrid": False, "constrain": "domain", "ticks": ""}
    figure.update_xaxes(**axis, showticklabels=False, range=[-0.5, total - 0.5])
    figure.update_yaxes(
        **axis,
        range=[total - 0.5, -0.5],
        scaleanchor="x",
        automargin=True,
        tickvals=[at for at, _ in middles],
        ticktext=[name for _, name in middles],
    )
    figure.update_layout(shapes=shapes)
    return figure


def redundancy_section(found: Sequence[Redundancy], broken: Sequence[str]) -> Section | None:
    """A section of the page: the choice among heat maps, and each network's tables; None of nothing.

    Args:
        broken: a line for each file that could not be read.
    """
    if not (found or broken):
        return None
    maps = heat_maps(found)
    parts = [
        "<h2>Redundancy of channels</h2>",
        "<p>Correlation between the channels of a module on validation images, as the next layer reads them: what is "
        "red is nearly a copy, and a cluster is framed. Filters that always fire together could be fewer, and a "
        "reduction need be no wider than what it carries.</p>",
    ]
    if maps:
        options = "".join(f'<option value="{number}">{escape(name)}</option>' for number, (name, _) in enumerate(maps))
        parts += [
            f'<p><select id="heat-map" aria-label="Network and module">{options}</select></p>',
            '<div class="figure" id="redundancy"></div>',
        ]
    for number, one in enumerate(found):
        lines = "".join(f"<p>{escape(line)}</p>" for line in (*notes(one), legend(one)))
        parts.append(
            f"<details{' open' * (number == 0)}><summary>{escape(one.title)}; {escape(one.words)}</summary>"
            "<p>Width that each reduction has, that would carry what it writes, and all that it reads:</p>"
            f"{_table(REDUCTION_COLUMNS, reduction_rows(one), ('branch',))}"
            f"{_table(BRANCH_COLUMNS, branch_rows(one), ('branch', 'dead'))}{lines}</details>"
        )
    parts += [f"<p>{escape(line)}</p>" for line in broken]
    return Section("".join(parts), data={"heat_maps": [figure for _, figure in maps]})


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> str:
    kinds = ["" if column in left else ' class="number"' for column in columns]
    head = "".join(f"<th{kind}>{escape(column)}</th>" for kind, column in zip(kinds, columns, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="branches"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _line(at: int, total: int, upright: bool) -> dict[str, object]:
    along, across = (-0.5, total - 0.5), (at - 0.5, at - 0.5)
    (x0, x1), (y0, y1) = (across, along) if upright else (along, across)
    return {"type": "line", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "line": {"color": LINE, "width": 1}}


def _frame(start: int, stop: int) -> dict[str, object]:
    low, high = start - 0.5, stop - 0.5
    line = {"color": LINE, "width": 2}
    return {"type": "rect", "x0": low, "x1": high, "y0": low, "y1": high, "line": line}
