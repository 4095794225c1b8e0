"""What the front's figure can stand over (parameters, MACs, latency), and which network a budget buys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas import pareto
from nas.outcome import Outcome
from nas.records import Row
from nas.refined import Refined, settled
from nas.report.figures import arrows, cost_name, log_step, refined_words, si


@dataclass(frozen=True, slots=True)
class Choice:
    """A network that `nas export` chooses among, and the accuracy that it chooses by, 0..1."""

    row: Row
    accuracy: float


def choices(outcome: Outcome, refined: Sequence[Refined]) -> list[Choice]:
    """What ``best``, ``knee`` and ``under:P`` choose among: refined ones by their means, else the search's front."""
    if refined:
        return [Choice(one.row, one.mean) for one in settled(refined)]
    return [Choice(row, row.val_accuracy) for row in outcome.front if row.val_accuracy is not None]


def axes(outcome: Outcome, refined: Sequence[Refined], latency: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """What the script needs to draw the figure over each cost: JSON data by ``params``, ``macs`` and ``latency``.

    Fronts, knee and best are found anew for each: the network of fewest parameters is not that of fewest MACs.

    Args:
        latency: milliseconds by network key; without any there is no such axis.
    """
    found = {name: _axis(name, outcome, refined, latency) for name in ("params", "macs")}
    if any(row.key in latency for row in outcome.rows):
        found["latency"] = _axis("latency", outcome, refined, latency)
    return found


def _axis(name: str, outcome: Outcome, refined: Sequence[Refined], latency: Mapping[str, float]) -> dict[str, Any]:
    def cost(row: Row) -> float | None:
        return latency.get(row.key) if name == "latency" else getattr(row, name)

    complete = [
        (row, at, row.val_accuracy)
        for row in outcome.rows
        if row.state == "complete" and row.val_accuracy is not None and (at := cost(row)) is not None
    ]
    full = [(one.row, at, one.mean) for one in settled(refined) if (at := cost(one.row)) is not None]
    brief_front, full_front = _front(complete), _front(full)
    return {
        "title": "latency of one image, ms" if name == "latency" else cost_name(name),
        "dtick": log_step([at for row in outcome.rows if (at := cost(row)) is not None]),
        "front": _line(brief_front),
        "refined": _line(full_front),
        "labels": _arrows(full_front or brief_front),
        "knee": _explained(full_front or brief_front, name, bool(full_front)),
    }


Point = tuple[Row, float, float]
"""A network, its cost on the axis and its accuracy."""


def _front(points: Sequence[Point]) -> list[Point]:
    chosen = pareto.front([at for _, at, _ in points], [accuracy for _, _, accuracy in points])
    return [points[index] for index in chosen]


def _line(front: Sequence[Point]) -> dict[str, list[float]]:
    return {"x": [at for _, at, _ in front], "y": [accuracy for _, _, accuracy in front]}


def _picks(front: Sequence[Point]) -> tuple[Point, Point]:
    costs, accuracies = [at for _, at, _ in front], [accuracy for _, _, accuracy in front]
    return front[pareto.knee(costs, accuracies)], front[pareto.best(costs, accuracies)]


def _arrows(front: Sequence[Point]) -> list[dict[str, Any]]:
    if not front:
        return []
    knee, best = ((row.trial, at, accuracy) for row, at, accuracy in _picks(front))
    return arrows(knee, best)


def _explained(front: Sequence[Point], name: str, full: bool) -> str:
    """The knee in words, with its numbers; plain text."""
    if not front:
        return ""
    (knee, at, accuracy), (best, best_at, best_accuracy) = _picks(front)
    by = f" of the front of the refined, {len(front)} networks" if full else ""
    if len({(cost, accuracy) for _, cost, accuracy in front}) < 3:
        return f"A front of fewer than three networks has no bend: its knee is its best one, trial {knee.trial}{by}."
    (first, low, least), (last, high, most) = front[0], front[-1]
    straight = least + (most - least) * (math.log(at) - math.log(low)) / (math.log(high) - math.log(low))
    ends = (
        f"the straight line between the front's ends (trial {first.trial}: {least:.4f} at {_words(low, name)}; trial "
        f"{last.trial}: {most:.4f} at {_words(high, name)}; cost on its log scale)"
    )
    if knee is first:
        return f"Knee{by}: trial {knee.trial}. The front nowhere rises above {ends}, so its cheaper end is taken."
    rest = (
        f"From there to the best, trial {best.trial}, {100 * (best_accuracy - accuracy):.1f} points more cost "
        f"{best_at / at:.1f} times as much."
    )
    return (
        f"Knee{by}: trial {knee.trial}, {accuracy:.4f} at {_words(at, name)}. It is the network farthest above {ends}: "
        f"by {100 * (accuracy - straight):.1f} points. {rest}"
    )


def _words(cost: float, name: str) -> str:
    return f"{cost:.3g} ms" if name == "latency" else f"{si(cost)} {cost_name(name)}"


def budget(outcome: Outcome, refined: Sequence[Refined]) -> dict[str, Any] | None:
    """What a budget of the study's cost buys, as JSON data: the same answer as ``nas export --pick under:N``.

    ``steps``, cheapest first: a budget buys the last step that costs no more. None where there is nothing to choose.
    """
    offered = choices(outcome, refined)
    if not offered:
        return None
    costs, accuracies = [one.row.cost for one in offered], [one.accuracy for one in offered]
    full = {one.row.trial: one for one in refined}
    steps: list[dict[str, Any]] = []
    for limit in sorted(set(costs)):
        index = pareto.under(costs, accuracies, limit)
        assert index is not None  # the cheapest one is never above the limit
        row, accuracy = offered[index].row, offered[index].accuracy
        if not steps or steps[-1]["trial"] != row.trial:
            said = refined_words(full[row.trial]) if row.trial in full else f"{accuracy:.4f}"
            steps.append({"cost": row.cost, "trial": row.trial, "accuracy": accuracy, "words": said})
    knee = offered[pareto.knee(costs, accuracies)].row
    return {"unit": cost_name(outcome.cost), "low": min(costs), "high": max(costs), "at": knee.cost, "steps": steps}
