"""What a contest came to, as tables and as JSON, with 95 % intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from nas.interval import part_interval
from nas.search.contest import Contest, Setting, near
from nas.search.score import LEVELS, Point, Score, mean_interval, paired, reached
from nas.search.table import Table

MEASURES: dict[str, Callable[[Score], float]] = {
    "epochs": lambda score: score.epochs_part,
    "recall": lambda score: score.recall,
    "found": lambda score: score.found,
    "hypervolume": lambda score: score.hypervolume,
    "ratio": lambda score: score.ratio,
}
COMPARED = ("epochs", "hypervolume")
"""Measures in which settings are compared by pairs of seeds."""
SHOWN = (0.95, 0.98, 0.99)
"""Of LEVELS, those that are printed."""
COUNTED: dict[str, Callable[[Point], float]] = {
    "trials": lambda point: point.trials,
    "epochs": lambda point: point.epochs,
    "seconds": lambda point: point.seconds,
}

Lines = tuple[tuple[str, ...], list[list[str]]]


def standings(table: Table, scores: Mapping[Setting, Sequence[Score]]) -> list[Lines]:
    """Two tables, each (columns, rows) with a row a setting: what was spent and kept; how high it came, and when."""
    first = next(iter(scores.values()))
    kept: list[list[str]] = []
    high: list[list[str]] = []
    for setting, runs in scores.items():
        cells = {name: _cell(runs, name, 4 if name == "hypervolume" else 3) for name in MEASURES}
        p = {name: "" if runs is first else f"{_p(first, runs, name):.2g}" for name in COMPARED}
        lost, low, upper = part_interval(sum(run.lost for run in runs), sum(run.near for run in runs))
        pruned = f"{lost:.3f} ({low:.3f} to {upper:.3f})"
        name = [setting.sampler, setting.pruner]
        kept.append([*name, cells["epochs"], p["epochs"], cells["recall"], cells["found"], pruned])
        times = [_times(runs, level * _whole(table)) for level in SHOWN]
        high.append([*name, cells["hypervolume"], p["hypervolume"], *times])
    names = ("sampler", "pruner")
    return [
        ((*names, "epochs", "p", "front kept", "front found", "false prunes"), kept),
        ((*names, "hypervolume", "p", *(f"to {100 * level:g} %" for level in SHOWN)), high),
    ]


def notes(contest: Contest, table: Table, scores: Mapping[Setting, Sequence[Score]]) -> list[str]:
    """What the columns mean, and on what they were measured."""
    networks, several = len(table.rows), sum(len(by_seed) > 1 for by_seed in table.rows.values())
    a, b = table.epoch_seconds
    short = sum(run.trials < contest.trials for runs in scores.values() for run in runs)
    lines = [
        f"{table.name}: {_number(networks, 'network')} (rule {table.rule}), {several:,} of them trained more than "
        f"once; true front {len(table.front(list(table.keys))):,}, hypervolume {_whole(table):.4f}. "
        f"{_number(contest.seeds, 'search', 'searches')} a setting, {_number(contest.trials, 'trial')}, "
        f"{_number(contest.workers, 'worker')}; an epoch takes {a:.3f} s and {b * 1e6:.3f} s a million MACs.",
        "Mean ± half of the 95 % bootstrap interval over searches. p: Wilcoxon's signed-rank test of the column before "
        "it against the first line, paired by seed.",
        "epochs: trained, audits included, as a part of those of whole trainings. front kept: completed, of the true "
        "front of the networks that were begun; front found: of the whole table's. Truth is the mean over the table's "
        "seeds; a search sees one.",
        f"false prunes: pruned, of the networks that end within {100 * near(table):.2f} points of the front on the "
        "curves that the search saw, with Clopper and Pearson's 95 % interval over all searches.",
        "to 95 %: trials / epochs until the completed networks have so much of the table's hypervolume, each the "
        "median over searches; in brackets how many came there, if not all; never: less than half of them.",
    ]
    if short:
        lines.append(f"{_number(short, 'search', 'searches')} ended with fewer trials: nothing new was found any more.")
    return lines


def as_json(contest: Contest, table: Table, scores: Mapping[Setting, Sequence[Score]]) -> dict[str, Any]:
    """All of it, each search too; null where there is no number. Intervals are [mean, low, high]."""
    first = next(iter(scores.values()))
    return {
        "table": str(contest.table),
        "rule": contest.rule,
        "networks": len(table.rows),
        "true_front": len(table.front(list(table.keys))),
        "trials": contest.trials,
        "workers": contest.workers,
        "seeds": contest.seeds,
        "near": near(table),
        "hypervolume": _whole(table),
        "settings": [
            {
                "sampler": setting.sampler,
                "pruner": setting.pruner,
                **{name: list(mean_interval([m(run) for run in runs])) for name, m in MEASURES.items()},
                "false_prunes": _no_nan(part_interval(sum(run.lost for run in runs), sum(run.near for run in runs))),
                "reached": {f"{level:g}": _medians(runs, level * _whole(table)) for level in LEVELS},
                "p": {name: None if runs is first else _p(first, runs, name) for name in COMPARED},
                "runs": [_run(run, _whole(table)) for run in runs],
            }
            for setting, runs in scores.items()
        ],
    }


def _run(run: Score, whole: float) -> dict[str, Any]:
    there = {f"{level:g}": reached(run.history, level * whole) for level in LEVELS}
    return {
        **{name: getattr(run, name) for name in ("trials", "complete", "epochs", "seconds", "near", "lost")},
        **{name: measure(run) for name, measure in MEASURES.items() if name != "epochs"},
        "epochs_part": run.epochs_part,
        "reached": {
            level: None if point is None else {name: count(point) for name, count in COUNTED.items()}
            for level, point in there.items()
        },
        "history": [[point.trials, point.epochs, round(point.seconds, 3), point.hypervolume] for point in run.history],
    }


def _medians(runs: Sequence[Score], hypervolume: float) -> dict[str, float | None]:
    """When half of the searches had come to a hypervolume; null where fewer ever did."""
    points = [reached(run.history, hypervolume) for run in runs]
    found: dict[str, float | None] = {"searches": sum(point is not None for point in points)}
    for name, count in COUNTED.items():
        middle = median(math.inf if point is None else count(point) for point in points)
        found[name] = middle if math.isfinite(middle) else None
    return found


def _times(runs: Sequence[Score], hypervolume: float) -> str:
    found = _medians(runs, hypervolume)
    some = "" if found["searches"] == len(runs) else f" ({found['searches']} of {len(runs)})"
    if found["trials"] is None or found["epochs"] is None:
        return f"never{some}"
    return f"{found['trials']:,.0f} / {found['epochs']:,.0f}{some}"


def _cell(runs: Sequence[Score], name: str, digits: int) -> str:
    mean, low, high = mean_interval([MEASURES[name](run) for run in runs])
    return f"{mean:.{digits}f}" + (f" ±{(high - low) / 2:.{digits}f}" if len(runs) > 1 else "")


def _p(first: Sequence[Score], runs: Sequence[Score], name: str) -> float:
    measure = MEASURES[name]
    return paired([measure(run) for run in first], [measure(run) for run in runs])


def _whole(table: Table) -> float:
    return table.hypervolume(list(table.keys))


def _no_nan(interval: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(number) else number for number in interval]


def _number(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"
