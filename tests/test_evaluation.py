from pathlib import Path

import pytest
import torch
from torch import nn

from nas.costs import latency_ms, peak_memory_mb
from nas.errors import TrialFailed
from nas.evaluation import Evaluation, evaluate, training_seed
from nas.models import build
from nas.reading import accuracy
from nas.training import EpochResult, Training
from tests.training_inputs import RECIPE, dataset, network

DATA = dataset()


def test_an_evaluation_says_what_the_training_gave():
    asked: list[int] = []

    def should_stop(curve: tuple[EpochResult, ...]) -> bool:
        asked.append(curve[-1].epoch)
        assert [result.epoch for result in curve] == list(range(1, len(curve) + 1))
        return False

    evaluation = evaluate(network(), DATA, RECIPE, seed=3, device="cpu", should_stop=should_stop)
    assert asked == [1, 2, 3]  # never after the last
    assert not evaluation.stopped
    direct = list(Training(network(), DATA, RECIPE, seed=3, device="cpu").fit())
    assert [(r.epoch, r.val_accuracy, r.train_loss) for r in evaluation.curve] == [
        (r.epoch, r.val_accuracy, r.train_loss) for r in direct
    ]
    assert evaluation.val_accuracy == direct[-1].val_accuracy
    assert (evaluation.params, evaluation.macs) == (network().params, network().macs)
    assert (evaluation.seed, evaluation.device, evaluation.threads) == (3, "cpu", torch.get_num_threads())
    assert evaluation.seconds >= sum(result.seconds for result in evaluation.curve)
    fresh = build(network())
    fresh.load_state_dict(evaluation.weights)
    assert accuracy(fresh, DATA.validation, DATA.mean, DATA.std) == evaluation.val_accuracy


def test_the_accuracy_is_the_last_epochs_never_the_best_ones():
    curve = tuple(EpochResult(epoch, accuracy, 1.0, 0.1) for epoch, accuracy in enumerate([0.2, 0.9, 0.4], start=1))
    evaluation = Evaluation(curve, 1, 1, 1.0, 0, "cpu", 1, weights={}, stopped=False)
    assert evaluation.val_accuracy == 0.4


def test_stopping_ends_the_training_there():
    batches = 0

    def count() -> None:
        nonlocal batches
        batches += 1

    evaluation = evaluate(
        network(), DATA, RECIPE, seed=3, device="cpu", should_stop=lambda c: len(c) == 2, interrupt=count
    )
    assert evaluation.stopped
    assert len(evaluation.curve) == 2
    assert batches == 10
    assert evaluation.val_accuracy == evaluation.curve[1].val_accuracy


def test_what_interrupts_or_fails_passes_through():
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(network(), DATA, RECIPE, seed=3, device="cpu", interrupt=interrupt)
    wild = RECIPE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(TrialFailed, match="epoch 1: the training loss is"):
        evaluate(network(), DATA, wild, seed=3, device="cpu")


def test_a_training_seed_follows_from_study_key_and_replicate_alone():
    key = network().key
    seeds = [training_seed(0, key), training_seed(1, key), training_seed(0, key, 1), training_seed(0, key[::-1])]
    assert len(set(seeds)) == 4
    assert training_seed(0, key) == training_seed(0, key, 0)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_latency_is_the_median_of_the_runs_after_warm_up(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0, 100, 0, 100, 0, 0.002, 0, 0.009, 0, 0.003])  # start and end of each run, in seconds
    monkeypatch.setattr("nas.costs.time.perf_counter", lambda: next(clock))
    shapes = []

    class Network(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            shapes.append(tuple(x.shape))
            return x

    model = Network()
    assert latency_ms(model, (3, 4, 5), device="cpu", runs=3, warmup=2) == pytest.approx(3)
    assert shapes == [(1, 3, 4, 5)] * 5
    assert model.training
    with pytest.raises(ValueError, match="runs must be at least 1, got 0"):
        latency_ms(model, (3, 4, 5), device="cpu", runs=0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to compare with")
def test_peak_memory_is_what_the_kernel_says():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert peak_memory_mb() == pytest.approx(int(lines["VmHWM"].split()[0]) / 1024, rel=0.01)
