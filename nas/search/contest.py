"""Samplers and pruners against each other on one table: each setting replayed under the same seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import optuna

from nas.errors import StudyError, choices
from nas.search.loop import Plan
from nas.search.pruners import PRUNERS
from nas.search.pruners.base import FrontPruner
from nas.search.pruners.conformal import near_front
from nas.search.pruners.one_epoch import OneEpochPruner
from nas.search.replay import Moment, replay
from nas.search.samplers import DRAWS, SAMPLERS
from nas.search.score import Score, score
from nas.search.table import Table

REPLAY_PRUNERS: dict[str, type[FrontPruner]] = {**PRUNERS, "one-epoch": OneEpochPruner}
"""Every pruner of a search, and a schedule that no search should take."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is replayed."""

    sampler: str
    pruner: str

    def __str__(self) -> str:
        return f"{self.sampler} {self.pruner}"


@dataclass(frozen=True, slots=True)
class Contest:
    """What all settings have in common.

    Args:
        table: the file.
        rule: networks that break it are left out of the table.
        trials: of each search.
        workers: that train at once.
        seeds: searches of each setting, with seeds 0, 1, ...
    """

    table: Path
    rule: str = "off"
    trials: int = 200
    workers: int = 4
    seeds: int = 20

    def check(self, settings: Sequence[Setting]) -> Table:
        """Look the whole over; the table.

        Raises:
            StudyError: a number is out of range, a name unknown, the file damaged, a sampler where the table has no
                grid, or more trials than networks.
        """
        for option, value in (("--trials", self.trials), ("--workers", self.workers), ("--seeds", self.seeds)):
            if value < 1:
                raise StudyError(f"{option} {value}: it must be a whole number of at least 1")
        table = _table(self.table, self.rule)
        for setting in settings:
            if setting.sampler not in SAMPLERS:
                raise StudyError(choices("--sampler", setting.sampler, tuple(SAMPLERS)))
            if setting.pruner not in REPLAY_PRUNERS:
                raise StudyError(choices("--pruner", setting.pruner, tuple(REPLAY_PRUNERS)))
            if setting.sampler != "random" and not table.is_grid:
                raise StudyError(
                    f"--sampler {setting.sampler}: {table.name} is no whole grid ({table.no_grid}), so that only "
                    "random can be replayed on it; take --sampler random"
                )
        if self.trials > len(table.rows):
            raise StudyError(
                f"--trials {self.trials}: {table.name} has {len(table.rows)} networks"
                + (f" that keep the rule {self.rule}" if self.rule != "off" else "")
                + "; take at most so many"
            )
        return table


def play(contest: Contest, settings: Sequence[Setting], jobs: int) -> dict[Setting, list[Score]]:
    """Replay every setting under every seed, in processes.

    Raises:
        StudyError: see `Contest.check`.
    """
    contest.check(settings)
    tasks = [(contest, setting, seed) for setting in settings for seed in range(contest.seeds)]
    if jobs == 1:
        scores = [one(*task) for task in tasks]
    else:
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        os.environ.update({name: os.environ.get(name, value) for name, value in threads.items()})
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            scores = list(pool.map(one, *zip(*tasks, strict=True), chunksize=1))
    return {
        setting: scores[place * contest.seeds : (place + 1) * contest.seeds] for place, setting in enumerate(settings)
    }


def one(contest: Contest, setting: Setting, seed: int) -> Score:
    """One replayed search, measured."""
    table = _table(contest.table, contest.rule)
    moments = searched(contest, setting, seed)
    if not moments:
        raise StudyError(f"seed {seed}: no network of {table.name} was found in {DRAWS} draws; take a wider --rule")
    return score(table, moments, seed, near(table))


def searched(contest: Contest, setting: Setting, seed: int) -> list[Moment]:
    """One replayed search: see `replay`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = _table(contest.table, contest.rule)
    pruner = REPLAY_PRUNERS[setting.pruner].for_search(
        seed=seed, last_step=table.epochs, validation_images=table.validation_images
    )
    plan = Plan(
        study="replay",
        coordinates=table.coordinates,
        trials=contest.trials,
        epochs=table.epochs,
        seed=seed,
        sampler=setting.sampler,
        reference=table.reference,
    )
    return replay(plan, table.networks(seed), pruner, workers=contest.workers)


def near(table: Table) -> float:
    """Final deficit up to which a network of the table counts as near the front: what its noise cannot tell apart."""
    return max(near_front(table.validation_images), seed_std(table))


def seed_std(table: Table) -> float:
    """Standard deviation of final accuracy between trainings of one network; 0 where none was trained twice."""
    variances = [
        np.var([row.curve[-1][1] for row in by_seed.values()], ddof=1)
        for by_seed in table.rows.values()
        if len(by_seed) > 1
    ]
    return float(np.mean(variances)) ** 0.5 if variances else 0.0


@lru_cache(maxsize=4)
def _table(path: Path, rule: str) -> Table:
    table = Table.read(path)
    return table if rule == "off" else table.under(rule)
