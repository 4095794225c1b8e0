"""The contract of every pruner: it runs over PRUNERS, so that a new rule is tested by its line there."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from nas.search.pruners import PRUNERS, NonePruner, Verdict
from tests.pruner_studies import LAST, SEEDS, STEPS, random_records, record, study_of, verdict_of

NEVER_LOOKS = {"none"}
# These stop networks on the front of their rung, by what they are; their own tests show one.
STOP_THE_FRONT = {"asha", "moasha"}


def over(names):
    return pytest.mark.parametrize("kind", [PRUNERS[name] for name in names], ids=names)


EVERY = over(list(PRUNERS))
KEEP_THE_FRONT = over([name for name in PRUNERS if name not in STOP_THE_FRONT])
LOOKING = over([name for name in PRUNERS if name not in NEVER_LOOKS])
RANKED = over([name for name in PRUNERS if name not in NEVER_LOOKS | {"conformal", "conformal-stop"}])


# ---- what is never stopped


@KEEP_THE_FRONT
@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_on_the_front_of_its_rung_is_never_pruned(kind, seed):
    records = random_records(seed)
    study = study_of(records)
    asking = records[-1]
    step = max(asking["curve"])
    smaller = [
        one["curve"][step]
        for one in records[:-1]
        if one["state"] != TrialState.FAIL and one["attrs"]["cost"] <= asking["attrs"]["cost"] and step in one["curve"]
    ]
    if all(value <= asking["curve"][step] for value in smaller):
        assert not kind().prune(study, study.trials[-1])
    # The same trial lifted to the best of the smaller ones: a tie is on the front.
    tied = {**asking, "curve": {**asking["curve"], step: max(smaller, default=0.0)}}
    study = study_of([*records[:-1], tied])
    assert not kind().prune(study, study.trials[-1])


def completed(count=12):
    """So many completed trials, one above the other at every step: only the first and cheapest is on the front."""
    return [
        record(10 + i, dict.fromkeys((*STEPS, LAST), 0.8 - 0.01 * i), TrialState.COMPLETE, 0.8, key=f"done {i}")
        for i in range(count)
    ]


@EVERY
def test_nothing_is_pruned_before_a_value_or_between_rungs(kind):
    for curve in ({}, {2: 0.0}, {1: 0.0, 2: 0.0}, {LAST: 0.0}, {LAST + 12: 0.0}):
        study = study_of([*completed(), record(99, curve)])
        verdict = verdict_of(kind(), study)
        assert (verdict.prune, verdict.rung, verdict.words) == (False, None, "")


@LOOKING
@pytest.mark.parametrize("step", STEPS)
def test_a_hopeless_network_is_pruned_at_every_rung(kind, step):
    study = study_of([*completed(), record(99, {s: 0.0 for s in STEPS if s <= step})])
    verdict = verdict_of(kind(), study)
    assert verdict.prune
    assert (verdict.rung, verdict.dominated_by) == (step, 0)


@EVERY
def test_nothing_is_pruned_before_there_is_anything_to_compare_with(kind):
    alone = [record(5, {1: 0.1})]
    unlike = [{**one, "state": TrialState.FAIL, "values": None} for one in completed()]
    elsewhere = [{**one, "curve": {LAST: 0.9}} for one in completed()]
    running = [{**one, "state": TrialState.RUNNING, "values": None} for one in completed()]
    for others in ([], unlike, elsewhere, running):
        study = study_of([*others, *alone])
        assert not kind().prune(study, study.trials[-1])


@LOOKING
def test_equal_networks_are_decided_alike(kind):
    """And where all are equal nobody stops."""
    for seed in range(20):
        records = random_records(seed)
        records[-2:] = [{**records[-1], "attrs": {**records[-1]["attrs"], "key": key}} for key in ("a", "b")]
        study = study_of(records)
        first, second = (dataclasses.replace(verdict_of(kind(), study, number), audited=False) for number in (-2, -1))
        assert first == second
    study = study_of([record(5, dict.fromkeys((*STEPS, LAST), 0.5), TrialState.COMPLETE, 0.5) for _ in range(30)])
    assert not any(verdict_of(kind(), study, number).prune for number in range(30))


# ---- what a decision depends on


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    storage = f"sqlite:///{tmp_path_factory.mktemp('stored') / 'study.db'}"
    return study_of(random_records(0), storage=storage), storage


@EVERY
def test_a_restart_from_the_storage_changes_no_decision(kind, stored):
    study, storage = stored
    rule = kind()
    before = [verdict_of(rule, study, trial.number) for trial in study.trials]
    study = optuna.load_study(study_name="study", storage=storage)
    assert [verdict_of(kind(), study, trial.number) for trial in study.trials] == before
    # Nor does it matter what else the same object was asked in between, and in which order.
    assert [verdict_of(rule, study, trial.number) for trial in reversed(study.trials)] == before[::-1]


@EVERY
@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_the_trials_changes_no_decision(kind, seed):
    records = random_records(seed)
    by_key = []
    for order in (range(len(records)), np.random.default_rng(seed).permutation(len(records))):
        study = study_of([records[i] for i in order])
        verdicts = {}
        for trial in study.trials:
            verdict = verdict_of(kind(), study, trial.number)
            named = None if verdict.dominated_by is None else study.trials[verdict.dominated_by].user_attrs["key"]
            verdicts[trial.user_attrs["key"]] = dataclasses.replace(verdict, dominated_by=None), named
        by_key.append(verdicts)
    assert by_key[0] == by_key[1]


@EVERY
def test_asking_writes_nothing(kind):
    study = study_of(random_records(0))
    before = study.get_trials()
    kind().prune(study, study.trials[-1])
    assert study.get_trials() == before


@RANKED
@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"state": TrialState.RUNNING}, True),
        ({"state": TrialState.PRUNED, "constraints": {"pruned": 1.0}}, True),
        ({"state": TrialState.COMPLETE, "values": [0.9, 1.0], "constraints": {"memory": 1.0}}, False),
        ({"state": TrialState.FAIL}, False),
        ({"attrs": {}}, False),
        ({"attrs": {"cost": math.nan}}, False),
        ({"attrs": {"cost": math.inf}}, False),
        ({"curve": {1: math.nan}}, False),
        ({"curve": {1: math.inf}}, False),
        ({"curve": {1: -math.inf}}, False),
        ({"curve": {2: 0.9}}, False),
    ],
)
def test_which_trials_are_evidence(kind, change, counts):
    """Forty rivals ahead in everything, or forty that are left out: then the decision is that without them."""
    ahead = [{**record(1, {1: 0.9 - 0.001 * i}), **change} for i in range(40)]
    done = [record(50, dict.fromkeys((*STEPS, LAST), 0.1 - 0.001 * i), TrialState.COMPLETE, 0.1) for i in range(12)]
    asking = record(40, {1: 0.3})
    alone, among = study_of([asking, *done]), study_of([asking, *done, *ahead])
    assert not verdict_of(kind(), alone, 0).prune
    assert verdict_of(kind(), among, 0).prune == counts
    assert (verdict_of(kind(), among, 0) == verdict_of(kind(), alone, 0)) == (not counts)


@LOOKING
def test_a_minimised_loss_is_judged_as_its_negative(kind):
    stopped = 0
    for seed in range(8):
        records = random_records(seed)
        losses = [
            {
                **one,
                "curve": {step: -value for step, value in one["curve"].items()},
                "values": one["values"] and [-one["values"][0], one["values"][1]],
            }
            for one in records
        ]
        up, down = study_of(records), study_of(losses, directions=["minimize", "minimize"])
        verdicts = [verdict_of(kind(), up, number) for number in range(len(records))]
        assert [verdict_of(kind(), down, number) for number in range(len(records))] == verdicts
        stopped += sum(verdict.prune for verdict in verdicts)
    assert stopped > 0


@LOOKING
def test_the_trial_that_is_handed_in_counts_not_the_stored_one(kind):
    study = study_of([*completed(), record(99, {1: 0.9})])
    stale = study.trials[-1]
    assert not kind().prune(study, stale)
    stale.intermediate_values = {1: 0.0}
    assert kind().prune(study, stale)
    # Nor is it its own rival.
    assert kind().explain(study, stale).dominated_by == 0


# ---- what is refused


@LOOKING
@pytest.mark.parametrize(
    ("directions", "message"),
    [
        (
            ["maximize"],
            'needs two objectives, this study has 1: create it with directions=\\["maximize", "minimize"\\]',
        ),
        (["maximize", "minimize", "minimize"], "needs two objectives, this study has 3"),
        (["maximize", "maximize"], "objective 1 to be a minimised cost, here it is maximised"),
    ],
)
def test_a_study_of_another_kind_is_refused(kind, directions, message):
    study = study_of([record(5, {1: 0.1})], directions=directions)
    with pytest.raises(ValueError, match=message):
        kind().prune(study, study.trials[0])


@LOOKING
@pytest.mark.parametrize("cost", [None, -1, math.nan, math.inf, "5", True])
def test_a_trial_without_a_usable_cost_is_refused_at_every_step(kind, cost):
    for curve in ({}, {1: 0.5}, {2: 0.5}):
        study = study_of([{**record(1, curve), "attrs": {} if cost is None else {"cost": cost}}])
        with pytest.raises(
            ValueError, match=r"has no cost to compare by: call trial\.set_user_attr|a finite number >= 0"
        ):
            kind().prune(study, study.trials[0])


@LOOKING
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(kind, value):
    study = study_of([*random_records(0)[:-1], record(5, {1: value})])
    with pytest.raises(ValueError, match=f"reported {value} at step 1: a training that is not finite has failed"):
        kind().prune(study, study.trials[-1])


# ---- what is said


BEHIND = "55.0 points behind trial 0, which is no larger, at epoch 1, more than the margin of 14.2"
WORDS = {
    PRUNERS["conformal"]: BEHIND,
    PRUNERS["conformal-stop"]: BEHIND,
    PRUNERS["rank-median"]: "rank 13 of 13 fronts among 13 trials at epoch 1; those up to 7, the median, go on",
    PRUNERS["moasha"]: "rank 13 of 13 fronts among 13 trials at epoch 1; the best 4 go on",
    PRUNERS["asha"]: "rank 13 by value alone among 13 trials at epoch 1; the best 4 go on",
}


@LOOKING
def test_a_pruned_trial_is_told_why_in_one_line(kind):
    study = study_of([*completed(), record(99, {1: 0.25})])
    verdict = verdict_of(kind(), study)
    assert verdict.prune
    assert verdict.words == WORDS.get(kind, verdict.words)
    assert len(verdict.words.splitlines()) == 1
    assert verdict.grounds == {
        "rung": 1,
        "deficit": verdict.deficit,
        "margin": verdict.margin,
        "dominated_by": 0,
    }


@RANKED
def test_deficit_margin_and_audit_are_the_conformal_rules_own(kind):
    for seed in range(5):
        study = study_of(random_records(seed))
        verdicts = [verdict_of(kind(), study, number) for number in range(60)]
        assert {(one.deficit, one.margin, one.audited, one.spared) for one in verdicts} == {(0.0, None, False, False)}


def test_words_of_a_deficit():
    assert Verdict().words == ""
    assert Verdict(rung=3).words == "not behind any network that is no larger, at epoch 3"
    behind = {"rung": 3, "deficit": 0.031, "dominated_by": 12}
    said = "3.1 points behind trial 12, which is no larger, at epoch 3"
    assert Verdict(**behind).words == said
    assert Verdict(**behind, margin=0.02).words == f"{said}, more than the margin of 2.0"
    assert Verdict(**behind, margin=0.04).words == f"{said}, within the margin of 4.0"
    assert Verdict(**behind, margin=0.031).words == f"{said}, within the margin of 3.1"


# ---- how it is set up


@EVERY
def test_a_search_can_set_it_up(kind):
    study = study_of([*completed(), record(99, dict.fromkeys((1, 3), 0.0), key="asking")])
    rule = kind.for_search(seed=3, last_step=3, validation_images=100)
    assert type(rule) is kind
    assert not rule.prune(study, study.trials[-1]), "step 3 is the last of a training, and no rung"
    rule = kind.for_search(seed=3, last_step=LAST, validation_images=100)
    assert rule.prune(study, study.trials[-1]) == (kind is not NonePruner)


@EVERY
def test_importing_it_does_not_import_torch(kind):
    code = f"import sys, {kind.__module__}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@LOOKING
def test_a_last_step_that_is_none_is_refused(kind):
    for last_step in (0, -3):
        with pytest.raises(ValueError, match=f"last_step must be > 0, got {last_step}"):
            kind(last_step=last_step)


def test_none_never_prunes_and_never_looks():
    assert NonePruner().explain(None, None) == Verdict()
