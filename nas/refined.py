"""Full trainings of a study's networks with fresh seeds: their records, and what they say of each network together."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import sqlalchemy as sa

from nas import pareto
from nas.context import canonical
from nas.errors import StudyError
from nas.outage import repeated
from nas.outcome import Outcome, pick_of
from nas.records import Records, Row
from nas.tables import refinement_table

ENOUGH = 5
"""Trainings of one network from which its mean is compared with any other's: the usual number of a refinement."""
_MOMENTS = ("started_at", "finished_at")


@dataclass(frozen=True, slots=True)
class Refinement:
    """One full training.

    Args:
        trial: the study's, whose network this is.
        key: the network's.
        replicate: which of its fresh seeds, from 1; 0 was the search's.
        recipe: all that it was trained by, as JSON: a `nas.recipe.Recipe`, its epochs those of the refinement.
        seed: of the training.
        val_accuracy: the study's metric at the last epoch, never at the best, 0..1.
        curve: (epoch from 1, validation accuracy 0..1, training loss).
        seconds: of training.
        weights_sha256: of the file with its averaged weights.
        started_at, finished_at: UTC.
        versions: of nas, python, torch and so on.
    """

    trial: int
    key: str
    replicate: int
    recipe: Mapping[str, Any]
    seed: int
    val_accuracy: float
    curve: tuple[tuple[int, float, float], ...]
    seconds: float
    device: str
    threads: int
    weights_sha256: str
    started_at: datetime
    finished_at: datetime
    versions: Mapping[str, str] | None = None

    @property
    def epochs(self) -> int:
        """Of the training."""
        return int(self.recipe["epochs"])

    @property
    def recipe_hash(self) -> str:
        """What its recipe is found by; see `recipe_hash`."""
        return recipe_hash(self.recipe)


def half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean, by Student's t over the values; NaN of fewer than two."""
    from scipy.special import stdtrit  # takes a tenth of a second to load, which most commands need not wait for

    n = len(values)
    return float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan


def recipe_hash(recipe: Mapping[str, Any]) -> str:
    """SHA-256 in hexadecimal of a recipe's canonical JSON."""
    return hashlib.sha256(canonical(dict(recipe)).encode()).hexdigest()


@repeated
def add_refinement(records: Records, study: int, refinement: Refinement) -> None:
    """Write one full training of the study with this number; one that was done again replaces the earlier one.

    Raises:
        StudyError: the database is out of reach.
    """
    values = {name: getattr(refinement, name) for name in Refinement.__dataclass_fields__}
    values |= {
        "recipe": canonical(dict(refinement.recipe)),
        "recipe_hash": refinement.recipe_hash,
        "curve": canonical([list(point) for point in refinement.curve]),
        "versions": None if refinement.versions is None else canonical(dict(refinement.versions)),
    }
    for name in _MOMENTS:
        values[name] = values[name].timestamp()
    table = refinement_table
    same = [table.c[name] == values[name] for name in ("key", "recipe_hash", "replicate")]
    with records.writing() as connection:
        connection.execute(table.delete().where(table.c.study == study, *same))
        connection.execute(table.insert().values(study=study, **values))


@repeated
def refinements(records: Records, study: int) -> list[Refinement]:
    """The full trainings of the study with this number, in the order of trials, recipes and replicates.

    A database of an older layout has none.
    """
    table = refinement_table.c
    with records.reading() as connection:
        if not sa.inspect(connection).has_table(refinement_table.name):
            return []
        query = sa.select(refinement_table).where(table.study == study)
        found = connection.execute(query.order_by(table.trial, table.recipe_hash, table.replicate)).mappings().all()
    made = []
    for line in found:
        given: dict[str, Any] = {name: line[name] for name in Refinement.__dataclass_fields__}
        given["recipe"] = json.loads(line["recipe"])
        given["curve"] = tuple((int(e), float(a), float(loss)) for e, a, loss in json.loads(line["curve"]))
        given["versions"] = None if line["versions"] is None else json.loads(line["versions"])
        for name in _MOMENTS:
            given[name] = datetime.fromtimestamp(line[name], UTC)
        made.append(Refinement(**given))
    return made


@dataclass(frozen=True)
class Refined:
    """One network with all its full trainings by one recipe.

    Args:
        row: its record in the search.
        trainings: at least one, by replicate.
    """

    row: Row
    trainings: tuple[Refinement, ...]

    @cached_property
    def mean(self) -> float:
        """Of the trainings' last accuracies, 0..1."""
        return float(np.mean([training.val_accuracy for training in self.trainings]))

    @cached_property
    def std(self) -> float:
        """Between seeds, with n - 1; NaN of one training."""
        values = [training.val_accuracy for training in self.trainings]
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % of the mean by Student's t, cut at 0 and 1; (NaN, NaN) of one training."""
        half = half_interval([training.val_accuracy for training in self.trainings])
        return (math.nan, math.nan) if math.isnan(half) else (max(0.0, self.mean - half), min(1.0, self.mean + half))

    @property
    def middle(self) -> Refinement:
        """The training of median accuracy (the lower one of an even number): what stands for the network.

        The best one's own accuracy would be high by luck alone.
        """
        return sorted(self.trainings, key=lambda one: (one.val_accuracy, one.replicate))[(len(self.trainings) - 1) // 2]


def networks(rows: Sequence[Row], trainings: Sequence[Refinement]) -> list[Refined]:
    """What full trainings say of each network, in the order of trials; empty of none.

    A network that was trained by several recipes counts by the one of most trainings, up to `ENOUGH` (of equals the
    one of most epochs, then the last one trained): one that is not done yet takes no other's place.
    """
    by_trial = {row.trial: row for row in rows}
    found = []
    for trial in sorted({one.trial for one in trainings} & set(by_trial)):
        mine = [one for one in trainings if one.trial == trial]
        many = Counter(one.recipe_hash for one in mine)
        best = max(mine, key=lambda one: (min(many[one.recipe_hash], ENOUGH), one.epochs, one.finished_at)).recipe_hash
        alike = sorted((one for one in mine if one.recipe_hash == best), key=lambda one: one.replicate)
        found.append(Refined(by_trial[trial], tuple(alike)))
    return found


def settled(found: Sequence[Refined]) -> list[Refined]:
    """Those that are chosen from: with `ENOUGH` trainings, or as many as any of them has.

    A mean of fewer may be high by luck alone. A network that is named by its trial counts in any case.
    """
    most = max((len(one.trainings) for one in found), default=0)
    return [one for one in found if len(one.trainings) >= min(most, ENOUGH)]


def front(found: Sequence[Refined]) -> list[Refined]:
    """The non-dominated ones of those `settled`, by their means, smallest cost first."""
    ready = settled(found)
    return [ready[i] for i in pareto.front([one.row.cost for one in ready], [one.mean for one in ready])]


def pick(outcome: Outcome, found: Sequence[Refined], text: str) -> Refined:
    """The network that `text` names among the refined ones, by their means; see `Outcome.pick` for the words.

    All but ``trial:N`` choose among those `settled`.

    Raises:
        StudyError: another word, or nothing refined that it names.
    """
    if not found:
        raise StudyError(f"no network of study {outcome.study!r} is refined yet; run `nas refine {outcome.study}`")
    word, _, argument = text.partition(":")
    if word == "trial" and argument.isascii() and argument.isdecimal():
        row = outcome.pick(text)
        there = next((one for one in found if one.row.trial == row.trial), None)
        if there is None:
            raise StudyError(
                f"trial {row.trial} of study {outcome.study!r} is not refined; run `nas refine {outcome.study} "
                f"--pick {text}`, or take the search's own weights with --as-is"
            )
        return there
    ready = settled(found)
    return ready[pick_of(outcome.study, [one.row.cost for one in ready], [one.mean for one in ready], text)]


def seed_std(found: Sequence[Refined]) -> float | None:
    """Standard deviation between trainings of one network, pooled over the networks; None where none has two."""
    several = [one for one in found if len(one.trainings) > 1]
    freedom = sum(len(one.trainings) - 1 for one in several)
    if not freedom:
        return None
    return math.sqrt(sum(one.std**2 * (len(one.trainings) - 1) for one in several) / freedom)


def measured_seed_std(records: Records, study: str) -> float | None:
    """`seed_std` of a study's refinements so far; None where none tells it.

    Raises:
        StudyError: there is no such study.
    """
    trainings = refinements(records, records.study(study).id)
    return seed_std(networks(records.rows(study), trainings)) if trainings else None
