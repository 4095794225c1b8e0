"""Optuna's storage of a search: its tables, read and written in fewer steps.

Optuna reads every unfinished trial anew whenever trials are asked for, which samplers and pruners do several times a
trial, and writes each parameter and attribute in a transaction of its own, through an object for every line of a table.
With a space of 19 parameters that was two thirds of what a trial cost beside its training (`scripts/bench_overhead`).
What the database holds afterwards is the same, and so is what is read: the tests compare both with Optuna's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.outage import repeated
from nas.search.trial_rows import TRIALS, read_trials


@dataclass(slots=True)
class Seen:
    """What was read of a study.

    Args:
        trials: by number, in rising order.
        open: by number, of those that had not ended: what `still` said when they were read.
        last: the highest id.
    """

    trials: dict[int, FrozenTrial] = field(default_factory=dict)
    open: dict[int, object] = field(default_factory=dict)
    last: int = -1


class SearchStorage(BaseStorage):
    """Optuna's own storage of a database, but that a trial which has ended, or is set aside, is read once.

    Paused trials are unfinished and do not change: with 200 of them a look took 155 ms of processor time in SQLite.

    Args:
        tables: of the database.
        still: by trial number, something that changes whenever a trial that was set aside was worked on since; only
            trials that nobody works on.
    """

    def __init__(self, tables: RDBStorage, still: Callable[[], Mapping[int, object]]) -> None:
        self._tables = tables
        self._inner = get_storage(tables)
        self._still = still
        self._seen: dict[int, Seen] = {}
        self._ended: dict[int, FrozenTrial] = {}

    @repeated
    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's: all trials in the order of their numbers, as the database has them now."""
        seen = self._seen.get(study_id)
        if seen is None:
            self._tables.get_study_directions(study_id)  # raises where there is no such study
            seen = self._seen[study_id] = Seen()
        # Before the trials: what is resumed in between is read once too often, not too seldom.
        still = self._still() if self._asks_still(seen) else {}
        ids = [
            seen.trials[number]._trial_id
            for number, token in seen.open.items()
            if token is None or still.get(number) != token
        ]
        new = sa.select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id, TRIALS.c.trial_id > seen.last)
        with self._tables.engine.connect() as connection:
            ids += connection.execute(new.order_by(TRIALS.c.trial_id)).scalars()
        for trial in self._fetch(ids):
            seen.trials[trial.number] = trial
            seen.last = max(seen.last, trial._trial_id)
            if trial.state.is_finished():
                seen.open.pop(trial.number, None)
                self._ended[trial._trial_id] = trial
            else:
                seen.open[trial.number] = still.get(trial.number)
        trials = list(seen.trials.values())
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    @repeated
    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's."""
        ended = self._ended.get(trial_id)
        if ended is not None:
            return ended
        found = self._fetch([trial_id])
        if not found:
            raise KeyError(f"No trial with trial-id {trial_id} found.")
        return found[0]

    def _asks_still(self, seen: Seen) -> bool:
        """Whether any trial that was seen may have been set aside."""
        return bool(seen.open) or not seen.trials

    @repeated
    def _fetch(self, ids: Sequence[int]) -> list[FrozenTrial]:
        """Trials by their ids, in that order, as they are now; those that are not there are left out."""
        if not ids:
            return []
        with self._tables.engine.connect() as connection:
            return read_trials(connection, ids)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Optuna's."""
        return self._inner.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """Optuna's."""
        self._inner.delete_study(study_id)
        seen = self._seen.pop(study_id, Seen())
        for trial in seen.trials.values():
            self._ended.pop(trial._trial_id, None)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._inner.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._inner.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Optuna's."""
        return self._inner.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Optuna's."""
        return self._inner.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Optuna's."""
        return self._inner.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Optuna's."""
        return self._inner.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Optuna's."""
        return self._inner.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[Any]:
        """Optuna's."""
        return self._inner.get_all_studies()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Optuna's."""
        return self._inner.create_new_trial(study_id, template_trial)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Optuna's, without its cache, which knows only the trials that it read itself."""
        self._tables.set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Optuna's."""
        return self._inner.set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Optuna's."""
        self._inner.set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._inner.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._inner.set_trial_system_attr(trial_id, key, value)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Optuna's, which remembers where `BaseStorage` would read all trials."""
        seen = self._seen.get(study_id)
        if seen is not None and trial_number in seen.trials:
            return int(seen.trials[trial_number]._trial_id)
        return self._inner.get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def remove_session(self) -> None:
        """Optuna's."""
        self._inner.remove_session()
