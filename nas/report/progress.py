"""The report's part on how the search went: hypervolume over trials and time, what pruning saved, who worked when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

import numpy as np
import plotly.graph_objects as go

from nas import pareto
from nas.interval import part_interval
from nas.outcome import Outcome
from nas.records import Row
from nas.report.audits import Audits, audits_of
from nas.report.figures import SCALE, cost_name
from nas.report.section import Section
from nas.report.timeline import (
    PAUSE,
    UNNAMED,
    Clock,
    FloatArray,
    Lane,
    Stretch,
    add_pauses,
    busy,
    clock_of,
    lanes_of,
    lasting,
    stretches,
    timeline_figure,
    unit_of,
)

FOLDED = 8
"""Workers from which on their table folds away."""
Line = tuple[str, ...]


def progress_section(outcome: Outcome) -> Section:
    """Hypervolume, pruning and workers of a search; of a study without trials only that there are none."""
    head = "<h2>How the search went</h2>"
    if not outcome.rows:
        return Section(f"{head}\n<p>No trial has ended yet.</p>")
    found = stretches(outcome.rows)
    clock, lanes = clock_of(found), lanes_of(found)
    ended, history = hypervolume_history(outcome)
    figures = {"workers": timeline_figure(found, clock, lanes)}
    parts = [head, f"<p>{escape(_hypervolume_words(outcome, ended, history))}</p>"]
    if len(history):
        figures["hypervolume"] = hypervolume_figure(outcome)
        figures["hypervolume-time"] = hypervolume_figure(outcome, clock)
        places = "".join(f'<div class="figure low" id="{name}"></div>' for name in ("hypervolume", "hypervolume-time"))
        parts.append(f'<div class="pair">{places}</div>')
    parts += [
        f"<p>{escape(_clock_words(clock))}</p>",
        "<h3>What pruning saved</h3>",
        f"<p>{escape(_saved_words(outcome))}</p>",
        *_false_prunes(outcome),
        "<h3>Workers</h3>",
        f"<p>{escape(_worker_words(found, lanes))}</p>",
        f'<div class="figure" id="workers" style="height:{190 + min(30 * len(lanes), 600)}px"></div>',
        _worker_table(found, lanes),
    ]
    return Section("\n".join(parts), figures)


def hypervolume_history(outcome: Outcome) -> tuple[list[Row], FloatArray]:
    """The trials that ended, as they ended, and the front's hypervolume after each: (n,), 0..1.

    Both are empty of a study with one cost only.
    """
    low, high = outcome.settings["cost_range"]
    if low == high:
        return [], np.zeros(0)
    ended = in_order(outcome)
    return ended, hypervolume_after(ended, (low, high), len(outcome.settings["classes"]))


def in_order(outcome: Outcome) -> list[Row]:
    """The complete and pruned trials as they ended; failed ones and those that are set aside do not count."""
    ended = [row for row in outcome.rows if row.state in ("complete", "pruned")]
    return sorted(ended, key=lambda row: (row.finished_at, row.trial))


def hypervolume_after(ended: Sequence[Row], costs: tuple[int, int], classes: int) -> FloatArray:
    """(n,), 0..1: the front's hypervolume after each of these trials, in the box of `pareto.hypervolume`."""
    complete = np.array([row.state == "complete" for row in ended], dtype=bool)
    whole = [row for row in ended if row.state == "complete"]
    accuracies = [row.val_accuracy or 0.0 for row in whole]
    after = pareto.hypervolumes([row.cost for row in whole], accuracies, cost_range=costs, classes=classes)
    return np.asarray(np.append(0.0, after)[np.cumsum(complete)])


def hypervolume_figure(outcome: Outcome, clock: Clock | None = None) -> go.Figure:
    """Hypervolume of the front as a step over the trials ended, or over a clock's time; a mark where it grew.

    Marks carry the number of the trial that made it grow. Nothing is drawn where there is no history.
    """
    figure = go.Figure()
    ended, history = hypervolume_history(outcome)
    if not ended:
        return figure
    unit, name, after = 1.0, "trials ended, complete or pruned", "trials"
    at = np.arange(1, len(ended) + 1, dtype=np.float64)
    if clock is not None:
        at = clock.at([row.finished_at.timestamp() for row in ended])
        unit, after = unit_of(float(at.max()))
        name = f"{after} of searching"
    at = at / unit
    grew = np.flatnonzero(np.diff(history, prepend=0.0) > 0)
    corners = np.append(grew, len(ended) - 1)
    figure.add_scatter(
        x=np.concatenate([[0.0], at[corners]]),
        y=np.concatenate([[0.0], history[corners]]),
        mode="lines",
        line={"shape": "hv", "color": SCALE[0][1], "width": 2},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=at[grew],
        y=history[grew],
        customdata=np.array([ended[i].trial for i in grew]),
        mode="markers",
        marker={"size": 5, "color": SCALE[0][1]},
        hovertemplate="<b>trial %{customdata}</b><br>hypervolume %{y:.4f}<br>"
        f"after %{{x:.4~g}} {after}<extra></extra>",
    )
    if clock is not None:
        add_pauses(figure, clock, unit, float(at.max()))
    # The first few trials make most of it; what comes after them could not be told apart above zero.
    early, last = float(history[min(len(history) - 1, len(history) // 20)]), float(history[-1])
    room = max(0.08 * (last - early), 0.002)
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title=name, rangemode="tozero")
    figure.update_yaxes(title="hypervolume", range=[max(0.0, early - room) if last > early else 0.0, last + room])
    return figure


def _hypervolume_words(outcome: Outcome, ended: Sequence[Row], history: FloatArray) -> str:
    low, high = outcome.settings["cost_range"]
    if low == high:
        return "The study's budget leaves a single cost, so there is no hypervolume."
    classes, cost, metric = len(outcome.settings["classes"]), cost_name(outcome.cost), outcome.metric_words
    words = (
        f"Hypervolume: the part of the possible that the front dominates, over log10 of {cost} and validation "
        f"{metric}. The reference point is {high:,} {cost} at {metric} {1 / classes:.4g}, chance among {classes} "
        f"classes; 1 would be {metric} 1 at {low:,} {cost}."
    )
    if not len(history) or history[-1] == 0:
        return f"{words} No completed network is better than the reference point yet."
    whole = float(history[-1])
    reached = [int(np.argmax(history >= part * whole - 1e-12)) + 1 for part in (0.95, 0.99, 1.0)]
    trial = ended[reached[2] - 1].trial
    return (
        f"{words} Of the final {whole:.4f}, 95 % were there after {_trials(reached[0])} and 99 % after "
        f"{_trials(reached[1])}; trial {trial} enlarged it last, when {reached[2]:,} of the {len(ended):,} had ended."
    )


def _trials(number: int) -> str:
    return "1 trial" if number == 1 else f"{number:,} trials"


def _clock_words(clock: Clock) -> str:
    words = f"Time counts from the first trial's start, {clock.since};"
    if not clock.pauses:
        return f"{words} the search was never without a worker."
    away = sum(end - begin for begin, end in clock.pauses)
    many, are = ("one pause", "is") if len(clock.pauses) == 1 else (f"{len(clock.pauses):,} pauses", "are")
    return (
        f"{words} {many} of the whole search (no worker for {PAUSE:.0f} s or longer; {lasting(away)} in all) {are} "
        "left out, at the dotted lines."
    )


def _saved_words(outcome: Outcome) -> str:
    """Epochs that stopped trials did not train, and what these would have taken."""
    whole = int(outcome.settings["epochs"])
    ends = {state: [row for row in outcome.rows if row.state == state] for state in ("pruned", "paused")}
    stopped = [*ends["pruned"], *ends["paused"]]
    pruner = outcome.settings.get("pruner")
    if not stopped:
        return f"Nothing: in the end pruner {pruner} had stopped no trial."
    left = sum(whole - _epochs(row) for row in stopped)
    aside = f" and {len(ends['paused']):,} set aside so far" if ends["paused"] else ""
    words = [
        f"Pruner {pruner}: {_trials(len(ends['pruned']))} pruned{aside}, so {left:,} of {outcome.epochs_unpruned:,} "
        f"epochs were not trained ({_percent(left / outcome.epochs_unpruned)})."
    ]
    timed = [row for row in stopped if row.source is None and _epochs(row)]
    if timed:
        seconds = sum(row.seconds / _epochs(row) * (whole - _epochs(row)) for row in timed)
        trained = sum(row.seconds for row in outcome.rows if row.state != "failed" and row.source is None)
        words.append(
            f"That is about {lasting(seconds)} of a worker's time, beside {lasting(trained)} spent: the epochs that "
            "each stopped trial did not train, times its own measured seconds an epoch (its start-up within, so rather "
            "too much)."
        )
    spared = [row for row in outcome.rows if row.state == "complete" and row.stopped and row.stopped.get("spared")]
    if spared:
        extra = sum(whole - int(row.stopped["rung"]) for row in spared if row.stopped)
        words.append(f"Audits cost {extra:,} epochs: {_trials(len(spared))} went on that would have been stopped.")
    return " ".join(words)


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _epochs(row: Row) -> int:
    return row.curve[-1][0] if row.curve else 0


def _false_prunes(outcome: Outcome) -> list[str]:
    audits = audits_of(outcome)
    pruner = outcome.settings.get("pruner")
    if audits is None:
        from nas.search.pruners import PRUNERS

        if pruner == "none":
            return ["<p>Where nothing is stopped there are no false prunes.</p>"]
        known = f"The pruner {pruner} audits no trial" if pruner in PRUNERS else f"No trial of {pruner} was audited"
        return [f"<p>{escape(known)}, so its false-prune rate was not measured: there is none to tell here.</p>"]
    images = outcome.settings.get("validation_images")
    why = f" ({audits.near * images:.3g} of the {images:,} validation images)" if images else ""
    words = (
        "A false prune is a stopped trial whose network would have ended near the front: at most "
        f"{100 * audits.near:.2f} points{why} behind the best completed network no larger. Audits measure them: about "
        "one network in twenty, drawn by a hash, is never stopped, and it is noted whether it would have been."
    )
    if audits.flagged_for_good is not None:
        words += (
            " This pruner sets aside first; for good are those outside the margins still by what is known now, the "
            "others would have been taken up again."
        )
    if not audits.flagged and audits.good == 0:
        none = "None of them has completed yet"
        if audits.audited:
            none = (
                f"Of the {audits.audited:,} that completed none would have been stopped and none ended near the front"
            )
        none += ", so there is no rate to tell."
        return [f"<p>{escape(words)} {escape(none)}</p>"]
    rows = "".join(
        f"<tr>{''.join(f'<td{CLASS[place > 0]}>{escape(cell)}</td>' for place, cell in enumerate(line))}</tr>"
        for line in rates(audits)
    )
    head = "".join(
        f"<th{CLASS[place > 0]}>{cell}</th>"
        for place, cell in enumerate(("completed audited trials", "false prunes", "rate, with 95 % interval"))
    )
    return [
        f"<p>{escape(words)}</p>",
        f'<div class="scroll"><table class="audits"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>',
        "<p>The pruner is calibrated for the first kind of rate, at most about 5 %. Intervals: Clopper and Pearson's."
        "</p>",
    ]


CLASS = {False: "", True: ' class="number"'}


def rates(audits: Audits) -> list[Line]:
    """Lines of a table: whose rate, false prunes of how many, the rate with its 95 % interval."""
    aside = audits.lost_for_good is not None
    kinds = [("set aside at first" if aside else "stopped", audits.lost, audits.flagged)]
    if audits.lost_for_good is not None and audits.flagged_for_good is not None:
        kinds.append(("stopped for good", audits.lost_for_good, audits.flagged_for_good))
    lines = [_rate(f"of those near the front: {name}", lost, audits.good) for name, lost, _ in kinds]
    lines += [_rate(f"of those {name}: near the front", lost, flagged) for name, lost, flagged in kinds]
    return lines


def _rate(whose: str, lost: int, of: int | None) -> Line:
    if of is None:
        return (whose, "not known", "no rate: another pruner had a part")
    if of == 0:
        return (whose, "0 of 0", "no rate")
    part, low, high = part_interval(lost, of)
    return (whose, f"{lost:,} of {of:,}", f"{_percent(part)} ({100 * low:.1f} to {_percent(high)})")


def _worker_words(found: Sequence[Stretch], lanes: Sequence[Lane]) -> str:
    workers = sum(len(lane.workers) for lane in lanes)
    words = [
        "A lane is a worker, a bar a trial; between bars it was idle or asked for its next one. Trials still in "
        "training are not here."
    ]
    if workers > len(lanes):
        words.append("A worker that began when another one of its host had ended follows in that one's lane.")
    if len(found) > len({one.row.trial for one in found}):
        words.append(
            "A trial that was set aside and taken up again has two bars; place and length of the first one are "
            "inferred, not recorded."
        )
    return " ".join(words)


def _worker_table(found: Sequence[Stretch], lanes: Sequence[Lane]) -> str:
    trials = Counter(one.worker for one in found)
    lines = []
    for number, (lane, part) in enumerate(zip(lanes, busy(found, lanes), strict=True), start=1):
        for worker, begin, end in lane.workers:
            host = lane.host or ("" if worker.startswith(UNNAMED) else "not known")
            cells = (
                str(number),
                worker,
                host,
                f"{trials[worker]:,}",
                f"{100 * part:.0f} %",
                _moment(begin),
                _moment(end),
            )
            lines.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    names = ("lane", "worker", "host", "trials in hand", "lane busy", "first trial (UTC)", "last end (UTC)")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    table = (
        f'<div class="scroll"><table class="workers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
    if len(lines) < FOLDED:
        return table
    return f"<details><summary>{len(lines):,} workers</summary>{table}</details>"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
