"""Samplers propose joint, new networks; the wrapper passes Optuna's own contract over every base."""

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase
from optuna.trial import TrialState

from nas.search.samplers import DRAWS, SAMPLERS, SETTLED, DistinctSampler, SpaceExhausted

SPACE = {name: FloatDistribution(0, 1) for name in ("size", "width", "share")}


TRIALS = {"gp": 15}
"""Of a sampler that takes seconds a proposal: a few more than the start-up, in which it draws at random."""


class Keys:
    """Claims as a search makes them, without a database: the unit cube cut into cells, each a network."""

    def __init__(self, levels):
        self.levels = levels
        self.taken = {}
        self.offered = []

    def __call__(self, number, params):
        key = tuple(min(int(value * self.levels), self.levels - 1) for value in params.values())
        self.offered.append(params)
        return self.taken.setdefault(key, number) == number


class Stuck(BaseSampler):
    """Knows one point and proposes it for ever."""

    def __init__(self, point):
        self.point = point
        self.log = []

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        self.log.append("draw")
        return dict(self.point)

    def sample_independent(self, study, trial, param_name, param_distribution):
        return "alone"

    def before_trial(self, study, trial):
        self.log.append("before")

    def after_trial(self, study, trial, state, values):
        self.log.append("after")

    def reseed_rng(self):
        self.log.append("reseed")


def study_with(sampler):
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def propose(study, space=SPACE):
    trial = study.ask()
    return trial, [trial.suggest_float(name, 0, 1) for name in space]


def run(study, trials):
    points = []
    for number in range(trials):
        trial, point = propose(study)
        points.append(point)
        if number % 4 == 3:
            trial.set_constraint("pruned", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [point[0] - (point[1] - 0.3) ** 2, point[0] + point[2]])
    return points


@pytest.fixture(params=SAMPLERS, ids=str)
def name(request):
    return request.param


class TestContractOfTheWrapper(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self, name):
        return lambda: DistinctSampler(SAMPLERS[name](0), {}, lambda number, params: False, seed=0)


def test_no_network_twice(name):
    trials = TRIALS.get(name, 40)
    keys = Keys(levels=3 if trials < 27 else 5)
    points = run(study_with(DistinctSampler(SAMPLERS[name](0), SPACE, keys, seed=0)), trials)
    assert sorted(keys.taken.values()) == list(range(trials))
    # The claim saw what the trial got, and was offered some that it refused.
    assert len(keys.offered) > trials
    assert all(dict(zip(SPACE, point, strict=True)) in keys.offered for point in points)


def test_same_seed_same_proposals(name):
    def points(seed):
        sampler = DistinctSampler(SAMPLERS[name](seed), SPACE, Keys(levels=20), seed=seed)
        return run(study_with(sampler), TRIALS.get(name, 30))

    assert points(3) == points(3)
    assert points(3) != points(4)


@pytest.mark.parametrize("model", ["tpe", "nsga2"])
def test_the_model_is_asked_again_and_draws_something_else(model):
    keys = Keys(levels=10**6)
    study = study_with(DistinctSampler(SAMPLERS[model](0), SPACE, keys, seed=0))
    run(study, 60)
    base = SAMPLERS[model](1)
    drawn = []

    def spy(study, trial, space, sample=base.sample_relative):
        drawn.append(sample(study, trial, space))
        return drawn[-1]

    base.sample_relative = spy
    offered = []
    study.sampler = DistinctSampler(base, SPACE, lambda number, params: offered.append(params) or len(offered) == 20)
    _, point = propose(study)
    assert dict(zip(SPACE, point, strict=True)) == offered[19]
    assert len({tuple(params.values()) for params in offered}) > 10
    assert len(drawn) == SETTLED
    # What the base says is what is offered; NSGA-II leaves mutated parameters open.
    assert all(offer.items() >= params.items() for offer, params in zip(offered[:SETTLED], drawn, strict=True))
    assert any(len(params) == len(SPACE) for params in drawn)


def test_space_exhausted_after_all_is_taken(name):
    space = {"size": FloatDistribution(0, 1)}
    study = study_with(DistinctSampler(SAMPLERS[name](0), space, Keys(levels=4), seed=0))
    for _ in range(4):
        trial, (size,) = propose(study, space)
        study.tell(trial, [size, size])
    trial = study.ask()
    with pytest.raises(SpaceExhausted, match=f"nothing new in {DRAWS} draws: the space is exhausted; widen"):
        trial.suggest_float("size", 0, 1)
    study.tell(trial, state=TrialState.FAIL)
    assert len(study.get_trials(states=[TrialState.RUNNING])) == 0


def test_a_settled_model_is_searched_around_and_then_left():
    keys, base = Keys(levels=8), Stuck({"size": 0.99, "width": 0.99, "share": 0.99})
    study = study_with(DistinctSampler(base, SPACE, keys, seed=0))
    assert propose(study)[1] == [0.99, 0.99, 0.99]
    base.log.clear()
    _, point = propose(study)
    assert sum(value != 0.99 for value in point) == 1
    assert base.log.count("draw") == SETTLED
    # The longer nothing is new, the less of the model's proposal is left; in the end all is drawn anew.
    offered = []
    study.sampler = DistinctSampler(base, SPACE, lambda number, params: offered.append(params), seed=0)
    with pytest.raises(SpaceExhausted):
        propose(study)
    changed = [sum(value != 0.99 for value in params.values()) for params in offered]
    assert changed[:SETTLED] == [0] * SETTLED
    assert changed == sorted(changed)
    assert changed[SETTLED] == 1
    assert changed[-DRAWS // 4 :] == [3] * (DRAWS // 4)


def test_what_the_base_leaves_open_is_drawn_uniformly():
    keys = Keys(levels=10**6)
    study = study_with(DistinctSampler(Stuck({"width": 0.5}), SPACE, keys, seed=0))
    points = [propose(study)[1] for _ in range(200)]
    assert {point[1] for point in points} == {0.5}
    for place in (0, 2):
        values = [point[place] for point in points]
        assert len(set(values)) == 200
        assert 0 <= min(values) < 0.1
        assert 0.9 < max(values) <= 1


def test_the_rest_of_a_sampler_is_the_bases():
    base = Stuck({"size": 0.1, "width": 0.2, "share": 0.3})
    sampler = DistinctSampler(base, SPACE, lambda number, params: True, seed=0)
    study = study_with(sampler)
    trial, point = propose(study)
    assert point == [0.1, 0.2, 0.3]
    assert trial.suggest_categorical("stem", ["alone", "other"]) == "alone"
    study.tell(trial, [0.0, 0.0])
    assert base.log == ["before", "draw", "after"]
    sampler.reseed_rng()
    assert base.log[-1] == "reseed"


def test_reseeding_changes_the_uniform_draws():
    def first_after(reseed):
        sampler = DistinctSampler(Stuck({}), SPACE, lambda number, params: True, seed=0)
        if reseed:
            sampler.reseed_rng()
        return propose(study_with(sampler))[1]

    assert first_after(False) == first_after(False) != first_after(True)


def test_an_error_in_the_claim_is_not_swallowed():
    def claim(number, params):
        raise OSError("the database is gone")

    with pytest.raises(OSError, match="the database is gone"):
        propose(study_with(DistinctSampler(SAMPLERS["tpe"](0), SPACE, claim)))
