"""Front-conformal dominance: prune what is farther behind the smaller networks than the front's own ever were."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.search.pruners import rungs as reading
from nas.search.pruners.base import FrontPruner, Verdict
from nas.search.pruners.prediction import can_predict, predicted_ends
from nas.search.pruners.rungs import Curves, FloatArray, Kept

# In accuracy, 0..1: how near the front counts as on it, at least, and in validation images; the least scale of a rung;
# the slack of a margin from few.
NEAR = 0.005
IMAGES = 1.5
FLOOR = 0.01
SLACK = 0.005
WIDER = 1.25
FEWEST = 8
ALPHA = RHO = 0.05


class ConformalPruner(FrontPruner):
    """Prune a trial that is behind the best network no larger than it by more than a calibrated margin.

    "This trial will end on the front" means that its final value beats that of every network with at most its cost. So
    the evidence against a trial is its *deficit* at a rung: the best value there among the networks no larger than it,
    less its own. How large a deficit a network may have and still end near the front is learned from the completed
    trials that did, as a split-conformal quantile over all rungs at once: of the trials that would end near the
    front, about a part `alpha` is pruned at most, if curves are exchangeable. (Strictly: if all of these complete.
    Pruning takes the late bloomers out of later calibrations; the audited trials keep some in.)

    From 20 completed trials on, a trial's deficit is not what it is behind at the rung but what its value there and its
    cost let expect at the end, see `nas.search.pruners.prediction`: larger networks are ahead early on, and that says
    little. Margins are calibrated on these in the same way.

    A trial on the front of its rung is never pruned. With fewer than 8 completed trials near the front nothing is
    pruned, whatever the values' scale; until the quantile exists (19 of them at alpha .05) the margin is a quarter
    wider than all that was seen. Decisions depend on the set of trials alone, not on their order or numbers.

    Serves any Optuna study whose objective 0 is what trials report (maximised or minimised) and whose objective 1 is a
    minimised cost known before training and given in each trial's user attribute ``cost``; see `nas.search.report`.

    Args:
        alpha: the part of front networks that may be lost, in (0, 1).
        rho: the part of trials that is audited, i.e. never pruned, in 0..1: decided by `seed` and the network's key
            (user attribute ``key``, or else a hash of the trial's parameters) alone, so that a resumed or a parallel
            search audits the same networks.
        seed: of the audit.
        rungs: rising steps >= 0 at which trials are compared; None is 1, 3, 9, 27, ... Steps that no completed trial
            has reported, and those at or after the last step, are no rungs.
        last_step: the last step of a training, > 0; None learns it as the last that a completed trial reported.
        validation_images: how many images a value is an average over; differences below one of them are noise.
        seed_std: standard deviation of the final value between trainings of one network, in the units of the values.
        scale: the span of objective 0: 1 for accuracies in 0..1, 100 for percent, and for a loss the difference
            between a useless and a good one. What counts as near the front, 0.005, is a part of it. A span that is too
            large only makes the rule prune less.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        alpha: float = ALPHA,
        rho: float = RHO,
        seed: int = 0,
        rungs: Sequence[int] | None = None,
        last_step: int | None = None,
        validation_images: int | None = None,
        seed_std: float | None = None,
        scale: float = 1.0,
    ) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
        if not 0 <= rho <= 1:
            raise ValueError(f"rho must be in 0..1, got {rho}")
        if rungs is not None and (len(rungs) == 0 or rungs[0] < 0 or any(a >= b for a, b in pairwise(rungs))):
            raise ValueError(f"rungs must be rising steps >= 0, at least one, got {list(rungs)}")
        if last_step is not None and last_step <= 0:
            raise ValueError(f"last_step must be > 0, got {last_step}")
        if validation_images is not None and validation_images <= 0:
            raise ValueError(f"validation_images must be > 0, got {validation_images}")
        if seed_std is not None and not 0 <= seed_std < math.inf:
            raise ValueError(f"seed_std must be finite and >= 0, got {seed_std}")
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be finite and > 0, got {scale}")
        image = 0.0 if validation_images is None else 1 / validation_images
        self._alpha = alpha
        self._rho = rho
        self._seed = seed
        self._rungs = None if rungs is None else frozenset(rungs)
        self._last_step = last_step
        self._near = max(near_front(validation_images) * scale, seed_std or 0.0)
        self._floor = max(FLOOR, image) * scale
        self._slack = SLACK * scale
        self._kept = Kept()

    @classmethod
    def for_search(
        cls, *, seed: int, last_step: int, validation_images: int, seed_std: float | None = None
    ) -> ConformalPruner:
        """The rule with what a search knows: see `FrontPruner.for_search`."""
        return cls(seed=seed, last_step=last_step, validation_images=validation_images, seed_std=seed_std)

    def explain(self, study: Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial by its last reported value; see the class.

        Raises:
            ValueError: the study has not two objectives, the second a minimised cost; the trial's ``cost`` is missing
                or no finite number >= 0; its last value is not finite.
        """
        reading.check(study)
        reading.cost_of(trial)
        last = reading.last_of(trial)
        audited = is_audited(reading.key_of(trial), seed=self._seed, rho=self._rho)
        if last is None or not self._is_rung(last[0]):
            return Verdict(audited=audited)
        # Only now the storage is read: between rungs an answer costs nothing.
        rung = last[0]
        curves = self._read(study, trial)
        if curves is None or rung not in curves.steps:
            return Verdict(audited=audited)
        column = curves.steps.index(rung)
        deficits, margins = self._margins(curves)
        deficit, margin = float(deficits[curves.row, column]), None if margins is None else float(margins[column])
        return Verdict(
            rung=rung,
            deficit=deficit,
            margin=margin,
            dominated_by=_dominator(curves, column) if deficit > 0 else None,
            audited=audited,
            prune=not audited and margin is not None and deficit > margin,
            expected=can_predict(curves),
        )

    def _read(self, study: Study, trial: FrozenTrial) -> Curves | None:
        return reading.read(study, trial, self._is_rung, self._last_step, kept=self._kept)

    def _margins(self, curves: Curves) -> tuple[FloatArray, FloatArray | None]:
        return margins(curves, alpha=self._alpha, near=self._near, floor=self._floor, slack=self._slack)

    def _is_rung(self, step: int) -> bool:
        if self._rungs is not None:
            return step in self._rungs
        return reading.is_rung(step)


def margins(
    curves: Curves, *, alpha: float, near: float, floor: float, slack: float
) -> tuple[FloatArray, FloatArray | None]:
    """Every trial's deficit at every rung, and the margins there; arithmetic only, O(n log n).

    Args:
        curves: what the study has seen.
        alpha: the part of front networks that may be lost, in (0, 1).
        near: the final deficit up to which a completed trial counts as on the front.
        floor: the least scale of a rung.
        slack: added to the margins while the quantile does not exist yet.

    Returns:
        deficits (n, K) >= 0, NaN where a trial has no value; margins (K,) >= 0, or None with fewer than 8 trials to
        calibrate them.
    """
    deficits = expected_deficits(curves)
    final = _deficits(curves.costs, curves.finals[:, None])[:, 0]
    # A trial that skipped a rung cannot say how far behind it was there. Comparing with NaN is false.
    scores = deficits[(final <= near) & ~np.isnan(deficits).any(axis=1)]
    count = len(scores)
    if count < FEWEST:
        return deficits, None
    scales = np.maximum(np.median(scores, axis=0), floor)
    worst = np.sort((scores / scales).max(axis=1))
    rank = math.ceil(round((count + 1) * (1 - alpha), 9))  # 50 * (1 - 0.42) is a hair over 29
    if rank <= count:
        return deficits, np.asarray(scales * worst[rank - 1])
    return deficits, np.asarray(WIDER * scales * worst[-1] + slack)


def expected_deficits(curves: Curves) -> FloatArray:
    """How far each trial is expected to end behind the best of those with at most its cost: (n, K) >= 0, or NaN.

    While too few trials have ended to predict from, how far it is behind at the rung. 0 on the front of the rung.
    """
    behind = _deficits(curves.costs, curves.values)
    ends = predicted_ends(curves)
    if ends is None:
        return behind
    return np.where(behind == 0, 0.0, _deficits(curves.costs, ends))


def near_front(validation_images: int | None) -> float:
    """The final deficit up to which a network counts as near the front, in accuracy 0..1, of these many images > 0.

    Where the standard deviation between trainings of one network is known and larger, it is that.
    """
    return NEAR if validation_images is None else max(NEAR, IMAGES / validation_images)


def is_audited(key: str, *, seed: int, rho: float) -> bool:
    """Whether a network is never pruned: true for a part `rho` of all keys, by a hash of the seed and the key."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < rho * 2**64


def _deficits(costs: FloatArray, values: FloatArray) -> FloatArray:
    """How far each trial is behind the best of those with at most its cost: (n, K) >= 0, NaN where it has no value.

    A trial is among its own peers, which changes nothing: beside itself alone it is behind by 0.
    """
    order = np.argsort(costs, kind="stable")
    best = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values)[order], axis=0)
    # Equal costs see each other: each looks up the last position of its cost.
    last = np.searchsorted(costs[order], costs, side="right") - 1
    return np.asarray(best[last] - values)


def _dominator(curves: Curves, column: int) -> int:
    values = curves.values[:, column]
    peers = np.flatnonzero((curves.costs <= curves.costs[curves.row]) & ~np.isnan(values))
    best = peers[values[peers] == values[peers].max()]
    chosen: tuple[float, str, int] = min((curves.costs[row], curves.keys[row], curves.numbers[row]) for row in best)
    return chosen[2]
