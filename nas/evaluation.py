"""Architecture -> Evaluation: a brief training, asked on the way whether it should stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nas.architecture import Architecture
from nas.data import Dataset
from nas.metric import Metric
from nas.recipe import Recipe
from nas.seeds import training_seed
from nas.training import EpochResult, Training

__all__ = ["Evaluation", "evaluate", "training_seed"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a training gave.

    Args:
        curve: one reading an epoch, from epoch 1 on; at least one.
        params, macs: of the inference network.
        seconds: wall clock, building the network included.
        seed: of the training.
        device: kind of device, ``cpu`` or ``cuda``.
        threads: torch's threads on the CPU.
        weights: of the last reading, averaged, with batch-norm statistics; on the CPU, a state for `build`.
        stopped: `should_stop` said so before the last epoch.
    """

    curve: tuple[EpochResult, ...]
    params: int
    macs: int
    seconds: float
    seed: int
    device: str
    threads: int
    weights: Mapping[str, Tensor] = field(repr=False, compare=False)
    stopped: bool

    @property
    def val_accuracy(self) -> float:
        """The study's metric at the last epoch, never at the best, 0..1."""
        return self.curve[-1].val_accuracy


def evaluate(
    architecture: Architecture,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    device: str | torch.device = "auto",
    should_stop: Callable[[Sequence[EpochResult]], bool] = lambda curve: False,
    interrupt: Callable[[], None] = lambda: None,
    metric: Metric = "accuracy",
) -> Evaluation:
    """Train a network and say what it came to.

    Args:
        should_stop: asked with the curve so far after every epoch but the last.
        interrupt: called once a batch; what it raises passes through.
        metric: what a reading measures.

    The other arguments and errors are `Training`'s.

    Raises:
        TrialFailed: a loss or an output that is not finite, or not enough memory.
    """
    start = time.perf_counter()
    training = Training(architecture, dataset, recipe, seed=seed, device=device, interrupt=interrupt, metric=metric)
    curve: list[EpochResult] = []
    stopped = False
    for result in training.fit():
        curve.append(result)
        if result.epoch < recipe.epochs and should_stop(tuple(curve)):
            stopped = True
            break
    weights = training.averaged_state()
    return Evaluation(
        curve=tuple(curve),
        params=architecture.params,
        macs=architecture.macs,
        seconds=time.perf_counter() - start,
        seed=seed,
        device=training.device.type,
        threads=torch.get_num_threads(),
        weights=weights,
        stopped=stopped,
    )
