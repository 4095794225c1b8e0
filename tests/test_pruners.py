"""The conformal rule by hand, against a brute-force oracle, and its coverage."""

import itertools
import math

import numpy as np
import pytest
from optuna.trial import TrialState
from scipy.stats import beta
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nas.search.pruners import ConformalPruner, Verdict, prediction
from nas.search.pruners.conformal import is_audited, margins
from nas.search.pruners.rungs import Curves
from tests.pruner_studies import LAST, SEEDS, STEPS, random_records, record, study_of, verdict_of

# ---- what the conformal rule refuses


def decide(curves, column, **arguments):
    """The asking trial's deficit and the margin, at one rung."""
    deficits, found = margins(curves, **arguments)
    return float(deficits[curves.row, column]), None if found is None else float(found[column])


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("alpha", [0, 1, -0.1, math.nan]),
        ("rho", [-0.1, 1.1, math.nan]),
        ("rungs", [(), (3, 1), (1, 1), (-1, 3)]),
        ("last_step", [0, -3]),
        ("validation_images", [0, -1]),
        ("seed_std", [-0.1, math.nan, math.inf]),
        ("scale", [0, -1, math.nan, math.inf]),
    ],
)
def test_arguments_out_of_range_are_refused(argument, values):
    for value in values:
        with pytest.raises(ValueError, match=f"{argument} must be"):
            ConformalPruner(**{argument: value})


# ---- the conformal rule, by hand


def near_front(count, deficit_at_1=0.0, key="near"):
    """Completed trials that end on the front, each `deficit_at_1` times its place behind one cheap early starter."""
    early = record(1, {1: 0.5, 3: 0.5, LAST: 0.5}, TrialState.PRUNED, key="early")
    return [early] + [
        record(10 + i, {1: 0.5 - deficit_at_1 * i, 3: 0.6 + 0.01 * i, LAST: 0.7 + 0.01 * i}, TrialState.COMPLETE,
               0.7 + 0.01 * i, key=f"{key} {i}")
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e-4])
def test_fewer_than_eight_to_calibrate_on_never_prune_at_any_scale(scale):
    def ask(count):
        records = [*near_front(count), record(50, {1: 0.0})]
        for one in records:
            one["curve"] = {step: value * scale for step, value in one["curve"].items()}
            one["values"] = one["values"] and [one["values"][0] * scale, one["values"][1]]
        study = study_of(records)
        return verdict_of(ConformalPruner(rho=0, scale=scale), study)

    assert ask(7) == Verdict(rung=1, deficit=0.5 * scale, margin=None, dominated_by=0)
    assert ask(8).prune
    assert ask(8).margin == pytest.approx(0.005 * scale)


def test_margin_of_few_is_a_quarter_wider_than_all_that_was_seen():
    study = study_of([*near_front(18, 0.01), record(50, {1: 0.3})])
    verdict = verdict_of(ConformalPruner(rho=0), study)
    # Scores at step 1 are 0, .01, ..., .17; at step 3 none is behind.
    assert verdict.margin == pytest.approx(1.25 * 0.17 + 0.005)
    assert verdict == Verdict(rung=1, deficit=0.2, margin=verdict.margin, dominated_by=0, prune=False)
    study = study_of([*near_front(18, 0.01), record(50, {1: 0.28})])
    assert verdict_of(ConformalPruner(rho=0), study).prune


@pytest.fixture
def unpredicted(monkeypatch):
    """Deficits as they are at the rung, however many trials have ended: the margins' own arithmetic."""
    monkeypatch.setattr(prediction, "ENDED", 10**9)


@pytest.mark.parametrize(
    ("count", "alpha", "rank"), [(19, 0.05, 19), (38, 0.05, 38), (39, 0.05, 38), (9, 0.1, 9), (49, 0.42, 29)]
)
def test_margin_is_the_conformal_quantile_as_soon_as_it_exists(unpredicted, count, alpha, rank):
    study = study_of([*near_front(count, 0.01), record(99, {1: 0.1})])
    assert verdict_of(ConformalPruner(rho=0, alpha=alpha), study).margin == pytest.approx(0.01 * (rank - 1))


def test_a_margin_of_nothing_prunes_what_is_behind_by_anything_but_never_a_tie():
    tie = verdict_of(ConformalPruner(rho=0), study_of([*near_front(19), record(99, {1: 0.5})]))
    assert tie == Verdict(rung=1, deficit=0.0, margin=0.0, dominated_by=None, prune=False)
    behind = verdict_of(ConformalPruner(rho=0), study_of([*near_front(19), record(99, {1: 0.4999})]))
    assert (behind.margin, behind.prune) == (0.0, True)


def test_validation_images_and_seed_noise_widen_what_is_near(unpredicted):
    # 20 trials that end .02 under one that is cheaper than them all: near only where .02 is noise.
    records = [record(1, {1: 0.9, LAST: 0.9}, TrialState.COMPLETE, 0.9)]
    records += [record(2, {1: 0.88, LAST: 0.88}, TrialState.COMPLETE, 0.88) for _ in range(20)]
    study = study_of([*records, record(3, {1: 0.5})])
    assert verdict_of(ConformalPruner(rho=0), study).margin is None
    assert verdict_of(ConformalPruner(rho=0, validation_images=76), study).margin is None
    assert verdict_of(ConformalPruner(rho=0, validation_images=74), study).margin == pytest.approx(0.02)
    assert verdict_of(ConformalPruner(rho=0, seed_std=0.021), study).margin == pytest.approx(0.02)
    assert verdict_of(ConformalPruner(rho=0, scale=4.1), study).margin == pytest.approx(0.02)
    # Behind by exactly what is near is near.
    exact = [{**one, "values": [0.75 if one["values"][1] == 1 else 0.5, 1.0]} for one in records]
    study = study_of([*exact, record(3, {1: 0.5})])
    assert verdict_of(ConformalPruner(rho=0, seed_std=0.25), study).margin is not None
    assert verdict_of(ConformalPruner(rho=0, seed_std=0.24), study).margin is None


def test_a_rung_is_scaled_by_its_median_but_never_by_less_than_the_floor(unpredicted):
    # Behind by .04 (median) at step 1 and by nothing at step 3, where the floor of .01, or an image of .05, scales.
    def margin_at_3(**arguments):
        trials = [
            record(10 + i, {1: 0.46, 3: 0.6 + 0.01 * i, LAST: 0.7 + 0.01 * i}, TrialState.COMPLETE, 0.7 + 0.01 * i)
            for i in range(20)
        ]
        early = record(1, {1: 0.5}, TrialState.PRUNED)
        study = study_of([early, *trials, record(99, {1: 0.5, 3: 0.1})])
        return verdict_of(ConformalPruner(rho=0, **arguments), study).margin

    assert margin_at_3() == pytest.approx(0.01 * 0.04 / 0.04)
    assert margin_at_3(validation_images=20) == pytest.approx(0.05 * 0.04 / 0.05)


def test_a_minimised_loss_is_judged_as_its_negative():
    records = random_records(3)
    losses = [
        {
            **one,
            "curve": {step: -value for step, value in one["curve"].items()},
            "values": one["values"] and [-one["values"][0], one["values"][1]],
        }
        for one in records
    ]
    up, down = study_of(records), study_of(losses, directions=["minimize", "minimize"])
    verdicts = [verdict_of(ConformalPruner(rho=0), up, number) for number in range(len(records))]
    assert [verdict_of(ConformalPruner(rho=0), down, number) for number in range(len(records))] == verdicts
    assert any(verdict.prune for verdict in verdicts)


def test_the_dominating_trial_is_the_cheapest_of_the_best_then_by_key():
    base = near_front(8)
    rivals = [record(cost, {1: 0.8}, TrialState.PRUNED, key=key) for cost, key in [(40, "a"), (30, "c"), (30, "b")]]
    study = study_of([*base, *rivals, record(60, {1: 0.1})])
    assert verdict_of(ConformalPruner(rho=0), study).dominated_by == len(base) + 2
    assert study.trials[len(base) + 2].user_attrs["key"] == "b"


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"state": TrialState.RUNNING}, True),
        ({"state": TrialState.PRUNED}, True),
        ({"state": TrialState.PRUNED, "constraints": {"pruned": 1.0}}, True),
        ({"state": TrialState.COMPLETE, "values": [0.9, 20.0]}, True),
        ({"state": TrialState.COMPLETE, "values": [0.9, 20.0], "constraints": {"memory": -1.0}}, True),
        ({"state": TrialState.COMPLETE, "values": [0.9, 20.0], "constraints": {"memory": 1.0}}, False),
        ({"state": TrialState.RUNNING, "constraints": {"memory": 1.0}}, False),
        ({"state": TrialState.FAIL}, False),
        ({"attrs": {"cost": 61}}, False),
        ({"attrs": {"cost": 60}}, True),
        ({"attrs": {}}, False),
        ({"attrs": {"cost": math.nan}}, False),
        ({"curve": {1: math.nan}}, False),
        ({"curve": {1: math.inf}}, False),
        ({"curve": {2: 0.9}}, False),
    ],
)
def test_which_trials_are_evidence(change, counts):
    rival = {**record(20, {1: 0.9}), **change}
    study = study_of([*near_front(8), rival, record(60, {1: 0.6})])
    assert verdict_of(ConformalPruner(rho=0), study).deficit == pytest.approx(0.3 if counts else 0.0)


def test_a_trial_that_skipped_a_rung_is_not_calibrated_on():
    skipping = near_front(9)
    del skipping[4]["curve"][3]
    study = study_of([*skipping, record(50, {1: 0.0})])
    assert verdict_of(ConformalPruner(rho=0), study).margin is not None
    del skipping[5]["curve"][3]
    study = study_of([*skipping, record(50, {1: 0.0})])
    assert verdict_of(ConformalPruner(rho=0), study).margin is None


def test_rungs_can_be_given_and_a_study_may_count_from_zero():
    records = near_front(8)
    for one in records:
        one["curve"] = {0 if step == 1 else step + 1: value for step, value in one["curve"].items()}
    study = study_of([*records, record(50, {0: 0.0})])
    assert not ConformalPruner(rho=0).prune(study, study.trials[-1])
    assert ConformalPruner(rho=0, rungs=[0, 4]).prune(study, study.trials[-1])


def test_the_last_step_is_learned_from_completed_trials_or_given():
    study = study_of([*near_front(8), record(50, {1: 0.0, 3: 0.0})])
    assert ConformalPruner(rho=0).prune(study, study.trials[-1])
    assert ConformalPruner(rho=0, last_step=4).prune(study, study.trials[-1])
    assert not ConformalPruner(rho=0, last_step=3).prune(study, study.trials[-1])
    # Before anything has completed there is no last step to be before.
    study = study_of([record(1, {1: 0.9, 3: 0.9}), record(2, {1: 0.1})])
    assert verdict_of(ConformalPruner(rho=0), study) == Verdict()


def test_the_trial_that_is_handed_in_counts_not_the_stored_one():
    study = study_of([*near_front(8), record(50, {1: 0.5})])
    stale = study.trials[-1]
    stale.intermediate_values = {1: 0.0}
    assert not ConformalPruner(rho=0).prune(study, study.trials[-1])
    assert ConformalPruner(rho=0).prune(study, stale)

    # Nor is it its own rival.
    study = study_of([*near_front(8), record(50, {1: 0.9})])
    stale = study.trials[-1]
    stale.intermediate_values = {1: 0.6}
    assert verdict_of(ConformalPruner(rho=0), study).deficit == 0
    assert ConformalPruner(rho=0).explain(study, stale).deficit == 0


def test_an_infinite_objective_is_no_front_to_be_near_to():
    endless = record(2, {1: 0.5, 3: 0.5, LAST: 0.5}, TrialState.COMPLETE, math.inf)
    study = study_of([endless, *near_front(8), record(50, {1: 0.0})])
    assert verdict_of(ConformalPruner(rho=0), study).margin is not None


# ---- audits


def test_audits_are_a_part_rho_of_the_keys_and_depend_on_the_seed():
    keys = [f"network {number}" for number in range(4000)]
    audited = [is_audited(key, seed=0, rho=0.05) for key in keys]
    assert 160 < sum(audited) < 240
    assert audited != [is_audited(key, seed=1, rho=0.05) for key in keys]
    assert not any(is_audited(key, seed=0, rho=0) for key in keys)
    assert all(is_audited(key, seed=0, rho=1) for key in keys)
    # Written down: an audit must not move between versions of this package, or a resumed study changes.
    assert [number for number, yes in enumerate(audited[:100]) if yes] == [10, 89]


def test_an_audited_trial_goes_on_and_it_shows():
    study = study_of([*near_front(8), record(50, {1: 0.0}, key="network")])
    pruned = verdict_of(ConformalPruner(rho=0), study)
    spared = verdict_of(ConformalPruner(rho=1), study)
    assert pruned.prune
    assert not pruned.spared
    assert not spared.prune
    assert spared.audited
    assert spared.spared
    assert (spared.rung, spared.deficit, spared.margin, spared.dominated_by) == (1, 0.5, pruned.margin, 0)
    assert not verdict_of(ConformalPruner(rho=1), study_of([record(5, {1: 0.5})])).spared


def test_without_a_key_the_parameters_decide_whatever_their_order():
    seeds = range(300)

    def audits(**attrs):
        found = []
        for params in ({"a": 0.25, "b": 0.5}, {"b": 0.5, "a": 0.25}, {"a": 0.25, "b": 0.75}):
            study = study_of([{**record(5, {1: 0.5}, **attrs), "params": params}])
            found.append([verdict_of(ConformalPruner(seed=s, rho=0.5), study).audited for s in seeds])
        return found

    one, same, other = audits()
    assert one == same != other
    one, same, other = audits(key="network")
    assert one == same == other == [is_audited("network", seed=s, rho=0.5) for s in seeds]


# ---- the arithmetic against an oracle


def expected_ends(curves, column):
    """Final values by scikit-learn's ridge regression on value and log cost; None where fewer than 20 can tell."""
    rows = [i for i, value in enumerate(curves.values[:, column]) if not math.isnan(value)]
    known = [i for i in rows if not math.isnan(curves.finals[i])]
    if len(known) < 20:
        return None
    model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
    features = np.column_stack([curves.values[:, column], np.log(1 + curves.costs)])
    model.fit(features[known], curves.finals[known])
    ends = np.full(len(curves.costs), np.nan)
    ends[rows] = model.predict(features[rows])
    return ends


def oracle(curves, column, *, alpha, near, floor, slack):
    """The sheet's sentences, one by one, in plain Python."""
    n, rungs = curves.values.shape

    def deficit(values, i):
        peers = [values[j] for j in range(n) if curves.costs[j] <= curves.costs[i] and not math.isnan(values[j])]
        return max(0.0, max(peers) - values[i])

    calibration = [
        i
        for i in range(n)
        if not math.isnan(curves.finals[i])
        and not any(math.isnan(value) for value in curves.values[i])
        and deficit(curves.finals, i) <= near
    ]
    ends = [expected_ends(curves, k) for k in range(rungs)]
    predicts = all(found is not None for found in ends)

    def behind(k, i):
        """At a rung: expected at the end, where the trials can tell; on the front of the rung it is 0."""
        now = deficit(curves.values[:, k], i)
        return deficit(ends[k], i) if predicts and now > 0 else now

    mine = behind(column, curves.row)
    if len(calibration) < 8:
        return mine, None
    scores = [[behind(k, i) for k in range(rungs)] for i in calibration]
    scales = [max(float(np.median([row[k] for row in scores])), floor) for k in range(rungs)]
    worst = sorted(max(score / scale for score, scale in zip(row, scales, strict=True)) for row in scores)
    # At alpha .05, in integers: the ceil(.95 (n + 1))-th smallest.
    rank = -(-(len(worst) + 1) * 19 // 20) if alpha == 0.05 else -(-(len(worst) + 1) * 4 // 5)
    if rank <= len(worst):
        return mine, scales[column] * worst[rank - 1]
    return mine, 1.25 * scales[column] * worst[-1] + slack


@pytest.mark.parametrize("seed", range(150))
def test_decisions_equal_the_oracle(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 90))
    costs = rng.integers(1, 12, n).astype(float)
    values = np.round(0.4 + 0.03 * costs[:, None] - rng.exponential(0.04, (n, 3)), 2)
    finals = np.round(0.6 + 0.03 * costs - rng.exponential(0.02, n), 2)
    stopped = rng.random(n) < 0.3
    finals[stopped] = np.nan
    values[stopped, 1:] = np.nan
    values[rng.random((n, 3)) < 0.03] = np.nan
    row, column = n - 1, int(rng.integers(0, 3))
    values[row, column] = 0.5
    curves = Curves(costs, STEPS, values, finals, ("",) * n, tuple(range(n)), row)
    for alpha, near in itertools.product((0.05, 0.2), (0.005, 0.05)):
        arguments = {"alpha": alpha, "near": near, "floor": 0.01, "slack": 0.005}
        deficit, margin = decide(curves, column, **arguments)
        expected_deficit, expected_margin = oracle(curves, column, **arguments)
        assert deficit == pytest.approx(expected_deficit, abs=1e-12)
        assert margin == (None if expected_margin is None else pytest.approx(expected_margin, abs=1e-12))


def test_the_oracle_saw_every_kind_of_margin():
    kinds = set()
    for seed in SEEDS:
        records = random_records(seed, size=int(np.random.default_rng(seed).integers(5, 150)))
        study = study_of(records)
        kinds.add(
            (verdict_of(ConformalPruner(rho=0), study).margin is None, verdict_of(ConformalPruner(rho=0), study).prune)
        )
    assert kinds == {(True, False), (False, False), (False, True)}


# ---- coverage


def networks(rng, n):
    """Costs, values at three rungs and finals of n networks of one kind: exchangeable, noisy, some late bloomers."""
    costs = rng.integers(1, 1000, n).astype(float)
    true = 0.7 + 0.0002 * costs - rng.exponential(0.02, n)
    slowness = np.exp(rng.normal(0, 0.4, n))
    values = np.stack([true - 0.3 * slowness / s**0.7 + rng.normal(0, 0.01, n) for s in STEPS], axis=1)
    return costs, values, true + rng.normal(0, 0.003, n)


def test_of_the_networks_that_end_near_the_front_about_alpha_are_pruned():
    """Interval by Clopper-Pearson, 99 %: its lower end may not be above alpha. And hopeless networks are pruned."""
    arguments = {"alpha": 0.1, "near": 0.005, "floor": 0.01, "slack": 0.005}
    near, lost, hopeless, stopped = 0, 0, 0, 0
    rng = np.random.default_rng(0)
    for _ in range(1500):
        costs, values, finals = networks(rng, 120)
        behind = finals[costs <= costs[-1]].max() - finals[-1]
        curves = Curves(costs, STEPS, values, np.append(finals[:-1], np.nan), (), (), 119)
        judged = [decide(curves, column, **arguments) for column in range(3)]
        pruned = any(margin is not None and deficit > margin for deficit, margin in judged)
        near, lost = near + (behind <= 0.005), lost + (behind <= 0.005 and pruned)
        hopeless, stopped = hopeless + (behind > 0.05), stopped + (behind > 0.05 and pruned)
    assert near > 150
    assert beta.ppf(0.005, lost, near - lost + 1) <= 0.1
    assert lost / near > 0.02, "a rule that never prunes would pass the line above"
    assert stopped / hopeless > 0.4
