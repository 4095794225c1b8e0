"""How long a search should take: the arithmetic and its words, and that taking times changes no trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.data import Dataset, load_dataset
from nas.evaluation import evaluate
from nas.search.estimate import LONG_S, Memory, Plan, Sized, Smaller, search_seconds, trial_seconds, words
from nas.search.measure import STEPS, estimate, measure
from nas.search.options import SearchOptions
from nas.space import load_space
from tests.searches import rows, search

CPU = torch.device("cpu")
SIZES = (Sized(1_000, 10_000, 1e-4, 2e-5, 0.1), Sized(4_000, 40_000, 2e-4, 4e-5), Sized(16_000, 160_000, 6e-4, 1e-4))
PLAN = Plan(
    trials=100,
    done=0,
    epochs=10,
    train_images=10_000,
    classes=10,
    refresh_images=1024,
    validation_images=976,
    params=(900, 16_000),
    workers=2,
    at_once=2,
    pruned=True,
)
MEMORY = Memory(500.0, 2, 8192.0)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", input_shape=(1, 8, 8))


def test_a_trial_is_its_epochs_with_their_readings() -> None:
    # 0.1 s and 0.1 s once; an epoch is 10,000 images at 1e-4 s, 2,000 read at 2e-5 s, and 0.02 s
    assert trial_seconds(SIZES[0], PLAN) == pytest.approx(0.2 + 10 * (1.0 + 0.04 + 0.02))
    few = replace(PLAN, train_images=100)
    assert trial_seconds(SIZES[0], few) == pytest.approx(0.2 + 10 * (0.01 + 1076 * 2e-5 + 0.02))
    assert trial_seconds(SIZES[0], replace(PLAN, load_s=1e-3)) == pytest.approx(0.2 + 10 * (1.06 + 12))


def test_a_search_is_the_mean_over_the_sizes_times_its_trials() -> None:
    flat = (SIZES[1],) * 3
    assert search_seconds(flat, PLAN) == pytest.approx(100 * trial_seconds(SIZES[1], PLAN) / 2)
    small, middle, large = (trial_seconds(size, PLAN) for size in SIZES)
    assert small < search_seconds(SIZES, PLAN) / 50 < large
    assert search_seconds(SIZES, PLAN) == pytest.approx(50 * (small + 4 * middle + large) / 6)
    assert search_seconds(SIZES, replace(PLAN, trials=25)) == pytest.approx(search_seconds(SIZES, PLAN) / 4)
    assert search_seconds(SIZES, replace(PLAN, at_once=1)) == pytest.approx(search_seconds(SIZES, PLAN) * 2)


def test_words_say_time_parameters_and_memory() -> None:
    said = words(SIZES, PLAN, MEMORY)
    assert len(said) == 2
    assert said[0] == (
        "100 trials of 900 to 16,000 parameters on 2 workers: up to 22 min, less what pruning saves. "
        "A whole one takes 11 s at 1,000, 21 s at 4,000, 62 s at 16,000."
    )
    assert said[1] == "Memory: 500 MB a worker at its largest network, 1.0 GB of the 8.0 GB of this machine."
    assert "on 2 workers: about 22 min. A" in words(SIZES, replace(PLAN, pruned=False), MEMORY)[0]
    assert words(SIZES, replace(PLAN, done=40), MEMORY)[0].startswith("100 more trials (40 are done) of")


def test_workers_that_do_not_fit_are_warned_of() -> None:
    assert words(SIZES, PLAN, Memory(500.0, 2, 1000.0)) != []
    assert not any("Warning" in line for line in words(SIZES, PLAN, Memory(500.0, 2, 1000.0)))
    (warning,) = words(SIZES, PLAN, Memory(500.0, 3, 1499.0))[2:]
    assert warning.startswith("Warning: 3 workers may not fit into the memory of this machine: take --workers 2, or ")
    (warning,) = words(SIZES, PLAN, Memory(2000.0, 1, 1499.0))[2:]
    assert warning.startswith("Warning: 1 worker may not fit")
    assert "--workers" not in warning


SMALLER = (Smaller((3, 28, 28), (0.75, 0.75, 0.75)), Smaller((3, 16, 16), (0.25, 0.25, 0.25)))


def test_above_two_hours_each_way_out_is_one_that_works_alone() -> None:
    long = replace(PLAN, trials=800, smaller=SMALLER)
    assert LONG_S < search_seconds(SIZES, long) < 2 * LONG_S
    (advice,) = words(SIZES, long, MEMORY)[2:]
    assert advice == (
        "Over 2 h. Each of these alone brings it under: --train-limit 6700; --epochs 6; "
        "input = [3, 16, 16] in a copy of the space (`nas spaces show`)."
    )
    assert search_seconds(SIZES, replace(long, train_images=6700)) <= LONG_S
    assert search_seconds(SIZES, replace(long, train_images=6900)) > LONG_S
    assert search_seconds(SIZES, replace(long, epochs=6)) <= LONG_S < search_seconds(SIZES, replace(long, epochs=7))
    assert words(SIZES, replace(long, done=3), MEMORY)[2].endswith(
        "and another --study, since these make it another one."
    )


def test_no_way_out_is_proposed_that_does_not_lead_out() -> None:
    # an epoch of a hundred images takes too long already, and one epoch of all of them as well
    (advice,) = words(SIZES, replace(PLAN, trials=10_000_000, smaller=SMALLER), MEMORY)[2:]
    assert advice == "Over 2 h, and no one setting brings it under: take fewer --trials or smaller networks."
    (advice,) = words(SIZES, replace(PLAN, trials=8_000), MEMORY)[2:]
    assert "--epochs" not in advice
    assert "--train-limit" in advice
    assert "input" not in advice


def test_a_timeout_is_what_counts() -> None:
    timed = replace(PLAN, trials=800, timeout=600.0)
    said = words(SIZES, timed, MEMORY)
    assert ": 10 min by --timeout, without it up to 2 h 55 min, less" in said[0]
    assert len(said) == 2
    assert "--timeout" not in words(SIZES, replace(PLAN, timeout=7200.0), MEMORY)[0]


def test_times_are_taken_of_the_real_training_and_touch_nothing(digits: Dataset) -> None:
    space = load_space("tiny")
    network = space.decode([0.5] * len(space.coordinates))
    recipe = space.recipe.model_copy(update={"learning_rate": 1e30, "epochs": 1})  # a trial of it would fail
    steps: list[int] = []
    torch.manual_seed(5)
    state = torch.get_rng_state()
    before = evaluate(network, digits, space.recipe, seed=3, device=CPU)
    for count in (1, 2, STEPS, 30):  # 30 steps are more than an epoch
        taken = len(steps)
        size = measure(network, digits, recipe, device=CPU, steps=count, interrupt=lambda: steps.append(0))
        assert len(steps) - taken >= count
        assert (size.params, size.macs) == (network.params, network.macs)
        assert size.train_s > 0
        assert size.read_s >= 0
        assert size.start_s > 0
    assert torch.equal(torch.get_rng_state(), state)
    after = evaluate(network, digits, space.recipe, seed=3, device=CPU)
    assert [(p.val_accuracy, p.train_loss) for p in after.curve] == [
        (p.val_accuracy, p.train_loss) for p in before.curve
    ]


def test_an_interrupt_passes_through(digits: Dataset) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        estimate(SearchOptions(space="tiny"), load_space("tiny"), digits, CPU, done=0, interrupt=stop)


def test_nothing_is_measured_where_nothing_is_left(digits: Dataset) -> None:
    def never() -> None:
        raise AssertionError

    said = estimate(SearchOptions(space="tiny", trials=5), load_space("tiny"), digits, CPU, done=7, interrupt=never)
    assert said == ["All 5 trials are done already."]


def test_a_network_that_does_not_fit_is_said_and_ends_nothing(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("nas.training.build", full)
    (said,) = estimate(SearchOptions(space="tiny"), load_space("tiny"), digits, CPU, done=0)
    assert said.startswith("Warning: a network of ")
    assert "out of memory: Unable to allocate 9 GiB" in said


def test_a_dry_run_says_it_all_and_leaves_nothing(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    said = search(studies, "--trials", "7", "--workers", "2", "--dry-run").splitlines()
    assert said[0].startswith("digits: 10 classes")
    assert said[1].startswith("7 trials of 900 to 4,000 parameters on 2 workers: up to ")
    assert said[2].startswith("Memory: ")
    assert len(said) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_knows_the_study(tmp_path: Path) -> None:
    said = search(tmp_path, "--trials", "2", "--epochs", "1")
    assert "\n2 trials of 900 to 4,000 parameters on 1 worker: " in said
    files = sorted(path for path in tmp_path.rglob("*") if not path.name.startswith("study.db-"))
    before = rows(tmp_path)
    assert "3 more trials (2 are done) of 900" in search(tmp_path, "--trials", "5", "--epochs", "1", "--dry-run")
    refused = search(tmp_path, "--trials", "5", "--epochs", "2", "--dry-run", code=1)
    assert "epochs = 1, this command says 2" in refused
    assert len(refused.strip().splitlines()) == 1
    assert rows(tmp_path) == before
    assert sorted(path for path in tmp_path.rglob("*") if not path.name.startswith("study.db-")) == files
