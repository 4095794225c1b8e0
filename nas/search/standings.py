"""What a contest came to, as a table and as JSON, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nas.search.contest import Contest, Setting, near
from nas.search.score import LEVELS, Score, mean_interval, paired, part_interval, reached
from nas.search.table import Table

MEASURES: dict[str, Callable[[Score], float]] = {
    "epochs": lambda score: score.epochs_part,
    "recall": lambda score: score.recall,
    "found": lambda score: score.found,
    "hypervolume": lambda score: score.hypervolume,
    "ratio": lambda score: score.ratio,
}
COLUMNS = ("sampler", "pruner", *MEASURES, "false prunes", "epochs to 99 %", "p hypervolume", "p epochs")


def standings(table: Table, scores: Mapping[Setting, Sequence[Score]]) -> tuple[Sequence[str], list[list[str]]]:
    """Columns and rows: a line a setting; mean and 95 % interval by bootstrap over seeds."""
    first = next(iter(scores.values()))
    whole = table.hypervolume(list(table.keys))
    lines = []
    for setting, runs in scores.items():
        cells = [_cell(mean_interval([measure(run) for run in runs])) for measure in MEASURES.values()]
        lost, low, high = part_interval(sum(run.lost for run in runs), sum(run.near for run in runs))
        there = [point.epochs for run in runs if (point := reached(run.history, 0.99 * whole))]
        middle = f"{sorted(there)[len(there) // 2]:,} ({len(there)}/{len(runs)})" if there else f"- (0/{len(runs)})"
        ps = ["", ""] if runs is first else [_p(first, runs, name) for name in ("hypervolume", "epochs")]
        lines.append([setting.sampler, setting.pruner, *cells, f"{lost:.3f} [{low:.3f}, {high:.3f}]", middle, *ps])
    return COLUMNS, lines


def notes(contest: Contest, table: Table, scores: Mapping[Setting, Sequence[Score]]) -> list[str]:
    """What the columns mean, and on what they were measured."""
    networks, several = len(table.rows), sum(len(by_seed) > 1 for by_seed in table.rows.values())
    a, b = table.epoch_seconds
    return [
        f"{table.name}: {networks} networks (rule {table.rule}), {several} of them trained more than once; true front "
        f"{len(table.front(list(table.keys)))}; {contest.seeds} searches a setting, {contest.trials} trials, "
        f"{contest.workers} workers. An epoch takes {a:.3f} + {b * 1e6:.3f} a million MACs seconds.",
        "epochs: part of those of all trials, audits included. recall: part of the true front of the trials that was "
        "completed; found: of the whole table's. ratio: hypervolume against the same trials unpruned.",
        f"false prunes: part of the trials that end within {100 * near(table):.2f} points of the front, on the curves "
        "that the search saw (Clopper-Pearson over all searches). epochs to 99 %: median, of the table's hypervolume. "
        "p: Wilcoxon's signed-rank test against the first line, paired by seed.",
    ]


def as_json(contest: Contest, table: Table, scores: Mapping[Setting, Sequence[Score]]) -> dict[str, Any]:
    """All of it, each search too."""
    whole = table.hypervolume(list(table.keys))
    return {
        "table": str(contest.table),
        "rule": contest.rule,
        "networks": len(table.rows),
        "trials": contest.trials,
        "workers": contest.workers,
        "seeds": contest.seeds,
        "near": near(table),
        "hypervolume": whole,
        "settings": [
            {
                "sampler": setting.sampler,
                "pruner": setting.pruner,
                **{name: list(mean_interval([m(run) for run in runs])) for name, m in MEASURES.items()},
                "false_prunes": list(part_interval(sum(r.lost for r in runs), max(1, sum(r.near for r in runs)))),
                "runs": [_run(run, whole) for run in runs],
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
            level: None if point is None else {"trials": point.trials, "epochs": point.epochs, "seconds": point.seconds}
            for level, point in there.items()
        },
        "history": [[point.trials, point.epochs, round(point.seconds, 3), point.hypervolume] for point in run.history],
    }


def _cell(interval: tuple[float, float, float]) -> str:
    mean, low, high = interval
    return f"{mean:.4f} [{low:.4f}, {high:.4f}]" if mean > 0.99 else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _p(first: Sequence[Score], runs: Sequence[Score], name: str) -> str:
    measure = MEASURES[name]
    return f"{paired([measure(run) for run in first], [measure(run) for run in runs]):.2g}"
