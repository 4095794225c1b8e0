"""When each worker trained what: seconds of searching without the search's pauses, and a figure of lanes."""

from __future__ import annotations

import re
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from nas.records import Row
from nas.report.figures import FAILED, LINE, PRUNED

FloatArray = NDArray[np.float64]

PAUSE = 60.0
"""Seconds without any worker from which on the whole search counts as paused; less is a restart."""
SLACK = 1.0
"""Seconds by which a trial may have lasted longer than it took before it counts as set aside in between."""
STATES = {"complete": "#1b9aa0", "pruned": PRUNED, "paused": "#d9951a", "failed": FAILED}
UNITS = ((7200.0, 3600.0, "hours"), (300.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
UNNAMED = "not recorded"
_WORKER = re.compile(r"(?P<host>.+)-\d+-[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A trial in a worker's hands; `begin` and `end` in seconds since 1970."""

    row: Row
    worker: str
    begin: float
    end: float


@dataclass(frozen=True)
class Clock:
    """Seconds of searching: since the first trial's start, the pauses of the whole search left out.

    Args:
        start: seconds since 1970.
        pauses: (begin, end) in seconds since 1970, rising and apart.
    """

    start: float
    pauses: tuple[tuple[float, float], ...] = ()

    def at(self, moments: ArrayLike) -> FloatArray:
        """Seconds of searching at moments in seconds since 1970; one within a pause counts as at its begin."""
        when = np.asarray(moments, dtype=np.float64)
        away = sum((np.clip(when, begin, end) - begin for begin, end in self.pauses), np.zeros_like(when))
        return np.asarray(when - away - self.start)

    @property
    def since(self) -> str:
        """The start for a person."""
        return f"{datetime.fromtimestamp(self.start, UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True)
class Lane:
    """One worker, and those that came after it in its place.

    Args:
        workers: names, each with when its first stretch began and its last one ended, in seconds since 1970.
        host: where they ran; empty where their names do not tell.
    """

    workers: tuple[tuple[str, float, float], ...]
    host: str


def host_of(worker: str) -> str:
    """The host in a worker's name as `nas search` makes them, HOST-PROCESS-LETTERS; empty of any other name."""
    found = _WORKER.fullmatch(worker)
    return found["host"] if found else ""


def stretches(rows: Iterable[Row]) -> list[Stretch]:
    """What each worker had in its hands, by begin.

    A trial that was set aside and taken up again is recorded with its first start, its last end and its seconds in
    all. Its last stretch is put before its end, not before the end of its worker's trial before; the rest of its
    seconds, one stretch, at its first start: with a worker that was free then, since which one is not recorded, or
    else with one whose name begins with `UNNAMED`.
    """
    by_worker: dict[str, list[Row]] = {}
    for row in rows:
        by_worker.setdefault(row.worker, []).append(row)
    found, earlier = list[Stretch](), list[tuple[float, float, Row]]()
    for worker, mine in by_worker.items():
        free = -np.inf
        for row in sorted(mine, key=lambda row: (row.finished_at, row.trial)):
            begin, end = row.started_at.timestamp(), row.finished_at.timestamp()
            if end - begin > row.seconds + SLACK:
                first = row.seconds / (row.curve[-1][0] if row.curve else 1)  # stopped after an epoch at the earliest
                last = min(max(end - row.seconds + first, free), end)
                earlier.append((begin, row.seconds - (end - last), row))
                begin = last
            found.append(Stretch(row, worker, begin, end))
            free = end
    return sorted([*found, *_placed(earlier, found)], key=lambda one: (one.begin, one.row.trial))


def _placed(earlier: Iterable[tuple[float, float, Row]], known: Iterable[Stretch]) -> list[Stretch]:
    """First stretches, (begin, seconds, row), each with the worker that was free and is nearest in time."""
    busy: dict[str, list[tuple[float, float]]] = {}
    for one in sorted(known, key=lambda one: one.begin):
        busy.setdefault(one.worker, []).append((one.begin, one.end))
    found = []
    for begin, seconds, row in sorted(earlier, key=lambda one: one[0]):
        best: tuple[float, str, float] | None = None
        for worker, spans in busy.items():
            place = bisect_right(spans, (begin, np.inf))
            before = spans[place - 1][1] if place else -np.inf
            after = spans[place][0] if place < len(spans) else np.inf
            away = min(begin - before, max(after - begin - seconds, 0.0))
            if before <= begin < after and away < PAUSE:
                best = min(best or (np.inf, "", 0.0), (away, worker, min(begin + seconds, after)))
        _, worker, end = best or (0.0, f"{UNNAMED}, {len(busy) + 1}", begin + seconds)
        insort(busy.setdefault(worker, []), (begin, end))
        found.append(Stretch(row, worker, begin, end))
    return found


def clock_of(found: Sequence[Stretch]) -> Clock:
    """The clock of a search: paused while no worker lived for `PAUSE` seconds. A worker lives from its first to last.

    Args:
        found: at least one.
    """
    pauses = []
    lives = sorted((begin, end) for _, begin, end in _lives(found))
    until = lives[0][1]
    for begin, end in lives:
        if begin - until >= PAUSE:
            pauses.append((until, begin))
        until = max(until, end)
    return Clock(lives[0][0], tuple(pauses))


def lanes_of(found: Sequence[Stretch]) -> list[Lane]:
    """Workers in lanes: one that began after another of its host had ended takes its place. By host, then by begin."""
    lanes: list[tuple[str, list[tuple[str, float, float]]]] = []
    for worker, begin, end in sorted(_lives(found), key=lambda life: (life[1], life[0])):
        host = host_of(worker)
        free = (mine for where, mine in lanes if where == host and mine[-1][2] <= begin)
        lane = next(free, None)
        if lane is None:
            lane = []
            lanes.append((host, lane))
        lane.append((worker, begin, end))
    return [Lane(tuple(mine), host) for host, mine in sorted(lanes, key=lambda lane: (lane[0], lane[1][0][1]))]


def _lives(found: Sequence[Stretch]) -> list[tuple[str, float, float]]:
    lives: dict[str, tuple[float, float]] = {}
    for one in found:
        begin, end = lives.get(one.worker, (one.begin, one.end))
        lives[one.worker] = min(begin, one.begin), max(end, one.end)
    return [(worker, begin, end) for worker, (begin, end) in lives.items()]


def unit_of(seconds: float) -> tuple[float, str]:
    """(length in seconds, name) of the unit in which so long a time is read easily."""
    return next((length, name) for least, length, name in UNITS if seconds >= least)


def add_pauses(figure: go.Figure, clock: Clock, unit: float, end: float) -> None:
    """Mark the pauses of a search in a figure over its seconds, counted in `unit`, with their lengths where there is
    room; the longest first. The figure ends at `end`, in units."""
    named: list[float] = []
    for begin, over in sorted(clock.pauses, key=lambda pause: pause[0] - pause[1]):
        place = float(clock.at(begin)) / unit
        figure.add_vline(place, line={"color": LINE, "width": 1.4, "dash": "dot"})
        if all(abs(place - other) > 0.26 * end for other in named):
            named.append(place)
            figure.add_annotation(
                x=place,
                y=1,
                yref="paper",
                yanchor="top",
                xanchor="left" if place < 0.6 * end else "right",
                text=f"pause {lasting(over - begin)}",
                showarrow=False,
                font={"size": 10},
            )


def lasting(seconds: float) -> str:
    """A time for a person, to two places."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    days, hours, minutes = seconds / 86400, seconds / 3600, seconds / 60
    for value, name in ((days, "days"), (hours, "h"), (minutes, "min")):
        if value >= 1:
            return f"{value:.1f} {name}" if value < 10 else f"{value:.0f} {name}"
    return "1 min"


def timeline_figure(found: Sequence[Stretch], clock: Clock, lanes: Sequence[Lane]) -> go.Figure:
    """A lane a worker from the top, a bar a stretch in the colour of how the trial ended; what is empty was idle.

    Bars carry the trial's number.

    Args:
        found, clock, lanes: of one search; nothing is drawn of nothing.
    """
    figure = go.Figure()
    if not found:
        return figure
    place = {worker: number for number, lane in enumerate(lanes, start=1) for worker, _, _ in lane.workers}
    ends = clock.at([one.end for one in found])
    begins = clock.at([one.begin for one in found])
    unit, name = unit_of(float(ends.max()))
    states = np.array([one.row.state for one in found])
    trials = np.array([one.row.trial for one in found])
    where = np.array([place[one.worker] for one in found])
    for state, shade in STATES.items():
        mine = np.flatnonzero(states == state)
        if len(mine):
            figure.add_bar(
                orientation="h",
                base=begins[mine] / unit,
                x=(ends[mine] - begins[mine]) / unit,
                y=where[mine],
                width=0.72,
                customdata=trials[mine],
                name=f"{state} ({len(np.unique(trials[mine])):,})",
                marker={"color": shade, "line": {"width": 0}},
                hovertemplate=f"<b>trial %{{customdata}}</b>, {state}<br>"
                f"from %{{base:.4~g}} to %{{x:.4~g}} {name}<extra></extra>",
            )
    add_pauses(figure, clock, unit, float(ends.max()) / unit)
    figure.update_layout(barmode="overlay", bargap=0.2, showlegend=True)
    figure.update_xaxes(title=f"{name} of searching", rangemode="tozero", showgrid=True)
    figure.update_yaxes(
        title="worker", tickvals=list(range(1, len(lanes) + 1)), range=[len(lanes) + 0.5, 0.5], showgrid=False
    )
    return figure


def busy(found: Sequence[Stretch], lanes: Sequence[Lane]) -> list[float]:
    """Of each lane the part of its workers' lives in which they had a trial in hand, 0..1; 1 of a life of no length."""
    worked: dict[str, float] = {}
    for one in found:
        worked[one.worker] = worked.get(one.worker, 0.0) + one.end - one.begin
    parts = []
    for lane in lanes:
        lived = sum(end - begin for _, begin, end in lane.workers)
        parts.append(min(sum(worked[name] for name, _, _ in lane.workers) / lived, 1.0) if lived > 0 else 1.0)
    return parts
