"""What a worker of a search is told, has in its hands, and says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from optuna.trial import Trial

from nas.architecture import Architecture
from nas.curve import EpochResult
from nas.errors import NasError
from nas.records import Row, State
from nas.search.pruners.base import Verdict


@dataclass(frozen=True, slots=True)
class Step:
    """Where the loop gives control back to whoever drives it.

    Args:
        seconds: of training that the next reading took; None where there is nothing to do until another worker has
            done something.
    """

    seconds: float | None


@dataclass(slots=True)
class Run:
    """A trial in a worker's hands.

    Args:
        began: when this worker took it.
        curve: readings so far.
        before: what is recorded of it, where it was paused; else None.
        source: where its readings come from, if it is not trained here.
        confusion: of its last reading, where that is the last epoch's.
    """

    claim: int
    trial: Trial
    architecture: Architecture
    seed: int
    began: datetime
    curve: list[EpochResult] = field(default_factory=list)
    before: Row | None = None
    source: str | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a training ended: `again` where the network may be tried again, `killed` where it was ended from outside.

    `error` ends the search, once the trial is told.
    """

    state: State
    reason: str | None = None
    verdict: Verdict | None = None
    again: bool = False
    killed: bool = False
    error: NasError | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What all workers of a study are told alike.

    Args:
        study: the study's name in the storage.
        coordinates: names of the numbers in [0, 1] that are proposed.
        trials: the study ends with so many complete or pruned.
        epochs: of a whole training.
        seed: of the study.
        sampler: a name of SAMPLERS.
        reference: (accuracy, cost) that bounds the hypervolume: chance, and the space's upper cost.
        first: numbers at `coordinates` that are proposed before the sampler is asked, in this order; a network that
            the study has already is left out.
    """

    study: str
    coordinates: tuple[str, ...]
    trials: int
    epochs: int
    seed: int
    sampler: str
    reference: tuple[float, float]
    first: tuple[tuple[float, ...], ...] = ()
