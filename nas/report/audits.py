"""The pruner's error as its audits measure it: what became of trials that went on although it would have stopped them.

A false prune is a stopped trial whose network ends near the front. Of a trial that was stopped nobody knows the end, so
the pruner leaves a part of all networks alone, drawn by a hash (see `nas.search.pruners.conformal`), and notes which of
these it would have stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas import pareto
from nas.outcome import Outcome
from nas.records import Row

FloatArray = NDArray[np.float64]
MANY = 50


@dataclass(frozen=True, slots=True)
class Audits:
    """What the audits of a study say, each count out of another.

    Args:
        near: the final deficit up to which a network ends near the front, in accuracy: behind the best completed one
            with at most its cost.
        audited: completed trials that nothing would have stopped; None where the records do not tell which these were.
        good: of them, near the front in the end.
        flagged: completed trials that would have been stopped but were audited.
        lost: of them, near the front in the end: the false prunes.
        flagged_for_good, lost_for_good: the same of a pruner that sets aside: those of `flagged` and `lost` that are
            outside the margins still by what is known now, so that they would not have been taken up again. None of a
            pruner that ends trials.
    """

    near: float
    audited: int | None
    good: int | None
    flagged: int
    lost: int
    flagged_for_good: int | None
    lost_for_good: int | None


def audits_of(outcome: Outcome) -> Audits | None:
    """The audits of a study; None of a pruner without any, and of a study that has no trace of one.

    Which trials were audited follows from the study's seed and the networks' keys, as `nas search` sets the pruner up.
    Where the records contradict that (another pruner or program had a part in the study) it is not told.
    """
    from nas.search.pruners import PRUNERS, ConformalPruner  # loads Optuna
    from nas.search.pruners.conformal import RHO, is_audited, near_front

    rule = PRUNERS.get(str(outcome.settings.get("pruner")))
    complete = [row for row in outcome.rows if row.state == "complete"]
    flagged = {row.trial for row in complete if row.stopped and row.stopped.get("spared")}
    if not flagged and not (rule is not None and issubclass(rule, ConformalPruner)):
        return None
    near = near_front(outcome.settings.get("validation_images") or None)
    behind = pareto.behind([row.cost for row in complete], [row.val_accuracy or 0.0 for row in complete])
    good = {row.trial for row, deficit in zip(complete, behind.tolist(), strict=True) if deficit <= near + 1e-12}
    seed = outcome.settings.get("seed")
    drawn = set() if seed is None else {row.trial for row in outcome.rows if is_audited(row.key, seed=seed, rho=RHO)}
    stopped = {row.trial for row in outcome.rows if row.state in ("pruned", "paused")}
    told = seed is not None and flagged <= drawn and not drawn & stopped
    audited = drawn & {row.trial for row in complete}
    for_good = None
    if rule is not None and rule.pauses:
        for_good = _outside(outcome, [row for row in complete if row.trial in flagged], good, near)
    return Audits(
        near=near,
        audited=len(audited) if told else None,
        good=len(audited & good) if told else None,
        flagged=len(flagged),
        lost=len(flagged & good),
        flagged_for_good=None if for_good is None else len(for_good),
        lost_for_good=None if for_good is None else len(for_good & good),
    )


def _outside(outcome: Outcome, flagged: Sequence[Row], good: Collection[int], near: float) -> set[int]:
    """Of trials that would have been set aside, those that are outside the margins by what is known now.

    At the rung where they would have been set aside first, or at a later one. Each is judged without its own end,
    which would not be known had it been stopped; of many, those only whose ends the margins are calibrated with, since
    the others' hardly tell in so large a study.
    """
    from nas.search.pruners.conformal import ALPHA, FLOOR, SLACK, margins
    from nas.search.pruners.rungs import Curves, is_rung

    if not flagged:
        return set()
    rows = [row for row in outcome.rows if row.state != "failed"]
    readings = [{epoch: value for epoch, value, _ in row.curve} for row in rows]
    last = int(outcome.settings["epochs"])
    steps = tuple(sorted({step for curve in readings for step in curve if step < last and is_rung(step)}))
    values = np.array([[curve.get(step, np.nan) for step in steps] for curve in readings]).reshape(
        len(rows), len(steps)
    )
    finals = np.array([row.val_accuracy if row.state == "complete" else np.nan for row in rows], dtype=np.float64)
    floor = max(FLOOR, 1 / (outcome.settings.get("validation_images") or np.inf))
    place = {row.trial: number for number, row in enumerate(rows)}
    costs = np.array([float(row.cost) for row in rows])
    keys, numbers = tuple(row.key for row in rows), tuple(row.trial for row in rows)

    def judged(ends: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        curves = Curves(costs, steps, values, ends, keys, numbers, row=0)
        return margins(curves, alpha=ALPHA, near=near, floor=floor, slack=SLACK)

    together = judged(finals) if len(flagged) > MANY else None
    aside = set()
    for row in flagged:
        deficits, found = together or (finals, None)
        if together is None or row.trial in good:
            without = finals.copy()
            without[place[row.trial]] = np.nan
            deficits, found = judged(without)
        later = np.array(steps) >= int((row.stopped or {}).get("rung") or 0)
        # With too few to calibrate with, everything that was set aside is taken up again.
        if found is not None and (deficits[place[row.trial]] > found)[later].any():
            aside.add(row.trial)
    return aside
