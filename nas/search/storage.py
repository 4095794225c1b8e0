"""Optuna's storage of a search, which reads a trial that is set aside once and not at every look.

Optuna reads every unfinished trial anew whenever trials are asked for, which samplers and pruners do several times a
trial. Paused trials are unfinished and do not change: with 200 of them a look took 155 ms of processor time in SQLite,
the trials having 19 parameters each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class SearchStorage(BaseStorage):
    """Optuna's own storage of a database, but for `get_all_trials`.

    Args:
        tables: of the database.
        still: by trial number, something that changes whenever a trial that was set aside was worked on since; only
            trials that nobody works on.
    """

    def __init__(self, tables: RDBStorage, still: Callable[[], Mapping[int, object]]) -> None:
        self._tables = tables
        self._inner = get_storage(tables)
        self._still = still
        self._known: dict[int, dict[int, tuple[FrozenTrial, object]]] = {}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's: all trials in the order of their numbers, as the database has them now."""
        known = self._known.get(study_id)
        still = self._still()  # before the trials: what is resumed in between is read once too often, not too seldom
        if known is None:
            every = self._inner.get_all_trials(study_id, deepcopy=False)  # raises where there is no such study
            known = {trial.number: (trial, still.get(trial.number)) for trial in every}
            self._known[study_id] = known
        else:
            for trial_id, number in self._open(study_id, known):
                before = known.get(number)
                token = still.get(number)
                if before is None or token is None or before[1] != token:
                    known[number] = self._inner.get_trial(trial_id), token
        trials = [known[number][0] for number in sorted(known)]
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _open(self, study_id: int, known: Mapping[int, tuple[FrozenTrial, object]]) -> list[tuple[int, int]]:
        """(id, number) of the trials that are new, or had not finished when they were last read."""
        trials = sa.table("trials", sa.column("trial_id"), sa.column("number"), sa.column("study_id"))
        finished = {number for number, (trial, _) in known.items() if trial.state.is_finished()}
        # Numbers rise from 0, so below the first that is open nothing can be new.
        first = next((number for number in range(len(known)) if number not in finished), len(known))
        query = sa.select(trials.c.trial_id, trials.c.number).where(
            trials.c.study_id == study_id, trials.c.number >= first
        )
        with self._tables.engine.connect() as connection:
            listed = connection.execute(query).all()
        return [(int(trial_id), int(number)) for trial_id, number in listed if number not in finished]

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Optuna's."""
        return self._inner.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """Optuna's."""
        self._inner.delete_study(study_id)
        self._known.pop(study_id, None)

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
        """Optuna's."""
        self._inner.set_trial_param(trial_id, param_name, param_value_internal, distribution)

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

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Optuna's."""
        return self._inner.get_trial(trial_id)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Optuna's, which remembers where `BaseStorage` would read all trials."""
        return self._inner.get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def remove_session(self) -> None:
        """Optuna's."""
        self._inner.remove_session()
