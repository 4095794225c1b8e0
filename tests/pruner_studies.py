"""Studies as data, for the tests of pruners: trials with curves and costs, in every state."""

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

STEPS = (1, 3, 9)
LAST = 15


def record(cost, curve, state=TrialState.RUNNING, final=None, **attrs):
    """A trial as data: `curve` is step -> value; a complete one has a final value."""
    user_attrs = {"cost": cost, **attrs} if cost is not None else attrs
    complete = state == TrialState.COMPLETE
    return {
        "curve": curve,
        "state": state,
        "values": [final, float(cost or 1)] if complete else None,
        "attrs": user_attrs,
    }


def study_of(records, directions=("maximize", "minimize"), storage=None):
    study = optuna.create_study(directions=directions, storage=storage, study_name="study")
    for one in records:
        study.add_trial(
            optuna.create_trial(
                state=one["state"],
                values=one["values"],
                params=one.get("params", {}),
                distributions={name: FloatDistribution(0, 1) for name in one.get("params", {})},
                user_attrs=one["attrs"],
                intermediate_values=one["curve"],
                constraints=one.get("constraints"),
            )
        )
    return study


def random_records(seed, size=60):
    """Curves rounded until ties are common, in every state, with a last trial that asks at some rung."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(size):
        cost = int(rng.integers(1, 20))
        final = 0.5 + 0.02 * cost - rng.exponential(0.03)
        curve = {s: round(final - rng.uniform(0.1, 0.3) / s**0.5, 2) for s in (*STEPS, LAST)}
        states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL]
        state = states[rng.choice(4, p=[0.6, 0.2, 0.1, 0.1])]
        if number == size - 1:
            state = TrialState.RUNNING
        if state != TrialState.COMPLETE:
            reached = int(rng.integers(1, 4))
            curve = {s: curve[s] for s in STEPS[:reached]}
        records.append(record(cost, curve, state, round(final, 2), key=f"network {number}"))
    return records


SEEDS = range(60)


def verdict_of(pruner, study, number=-1):
    return pruner.explain(study, study.trials[number])
