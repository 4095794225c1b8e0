"""Optuna's storage in a worker, which knows the trial that it works on and need not ask the database for it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from nas.outage import repeated
from nas.search.storage import SearchStorage, Seen
from nas.search.trial_rows import TRIALS, TrialWriter


class WorkerStorage(SearchStorage):
    """`SearchStorage` of a process that alone writes to the trials which it made or holds, until they end.

    Such a trial is remembered with all that was written to it, instead of being read again. Whoever takes this process
    for dead may end its trials: then the next write says so, as Optuna's does, and nothing of it is written.

    Args:
        tables, still: see `SearchStorage`.
    """

    def __init__(self, tables: RDBStorage, still: Callable[[], Mapping[int, object]]) -> None:
        super().__init__(tables, still)
        self._own: dict[int, FrozenTrial] = {}
        self._study_of: dict[int, int] = {}
        self._late: tuple[int, TrialWriter] | None = None
        self._kinds: dict[int, dict[str, BaseDistribution]] = {}
        self._names: dict[str, int] = {}
        self.owner: str | None = None
        """The worker whose trials these are. A trial says so from its first moment, before its place does, so that the
        trial of a worker that dies in between is known as its."""

    @repeated
    def hold(self, trial_id: int) -> None:
        """From now on nobody else writes to this trial, which has not ended.

        Raises:
            KeyError: there is no such trial.
        """
        with self._tables.engine.connect() as connection:
            query = sa.select(TRIALS.c.study_id).where(TRIALS.c.trial_id == trial_id)
            study_id = connection.execute(query).scalar()
        if study_id is None:
            raise KeyError(f"No trial with trial-id {trial_id} found.")
        self.let_go(trial_id)
        self._study_of[trial_id] = int(study_id)
        self._own[trial_id] = super().get_trial(trial_id)

    def let_go(self, trial_id: int) -> None:
        """Others may write to this trial again; harmless where it was not held."""
        self._own.pop(trial_id, None)
        self._study_of.pop(trial_id, None)

    @contextmanager
    def at_once(self, trial_id: int) -> Iterator[None]:
        """Keep what is written to a trial that is held, and write it at the block's end in one transaction.

        Where the block raises, nothing of it is written. Its state is not set within.
        """
        assert self._late is None
        assert trial_id in self._own
        writer = TrialWriter()
        self._late = trial_id, writer
        try:
            yield
        finally:
            self._late = None
        self._write(trial_id, writer)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's."""
        if trial_id not in self._own:
            return super().get_trial(trial_id)
        trial = self._now(trial_id)
        return _with(trial, TrialWriter())  # `optuna.Trial` changes what it is given

    def get_study_id_from_name(self, study_name: str) -> int:
        """As Optuna's; a worker's study keeps its name."""
        if study_name not in self._names:
            self._names[study_name] = super().get_study_id_from_name(study_name)
        return self._names[study_name]

    def delete_study(self, study_id: int) -> None:
        """Optuna's."""
        super().delete_study(study_id)
        self._names = {name: number for name, number in self._names.items() if number != study_id}
        self._kinds.pop(study_id, None)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Optuna's; one without a template runs here, and is held."""
        if template_trial is not None:
            return super().create_new_trial(study_id, template_trial)
        trial_id = super().create_new_trial(study_id, None if self.owner is None else _begun(self.owner))
        self.hold(trial_id)
        return trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """As Optuna's."""
        if trial_id not in self._own:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
            return
        check_distribution_compatibility(self._kind(trial_id, param_name, distribution), distribution)
        with self._writer(trial_id) as writer:
            writer.params[param_name] = param_value_internal, distribution

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Optuna's; a trial that has ended is not held any more."""
        try:
            return super().set_trial_state_values(trial_id, state, values)
        finally:
            if state.is_finished():
                self.let_go(trial_id)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """As Optuna's."""
        if trial_id not in self._own:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        elif math.isfinite(intermediate_value):
            with self._writer(trial_id) as writer:
                writer.readings[step] = float(intermediate_value)
        else:  # Optuna has a code for each of these; a search reports none
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
            self.hold(trial_id)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        if trial_id not in self._own:
            super().set_trial_user_attr(trial_id, key, value)
            return
        with self._writer(trial_id) as writer:
            writer.user[key] = json.dumps(value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        if trial_id not in self._own:
            super().set_trial_system_attr(trial_id, key, value)
            return
        with self._writer(trial_id) as writer:
            writer.system[key] = json.dumps(value)

    @contextmanager
    def _writer(self, trial_id: int) -> Iterator[TrialWriter]:
        """What takes a write to a trial that is held: that of `at_once`, or one for this write alone."""
        if self._late is not None and self._late[0] == trial_id:
            yield self._late[1]
            return
        writer = TrialWriter()
        yield writer
        self._write(trial_id, writer)

    def _write(self, trial_id: int, writer: TrialWriter) -> None:
        state = self._written(trial_id, writer)
        if state is None or state.is_finished():
            self.let_go(trial_id)
            self.check_trial_is_updatable(trial_id, super().get_trial(trial_id).state)  # raises, or there is no trial
        self._own[trial_id] = _with(self._own[trial_id], writer)

    @repeated
    def _written(self, trial_id: int, writer: TrialWriter) -> TrialState | None:
        """Done again it sets the same values; nobody else ends a trial that is held, but who takes this for dead."""
        with self._tables.engine.connect() as connection:
            return writer.write(connection, trial_id)

    def _now(self, trial_id: int) -> FrozenTrial:
        """A trial that is held, with what is still to be written."""
        trial = self._own[trial_id]
        return _with(trial, self._late[1]) if self._late is not None and self._late[0] == trial_id else trial

    def _kind(self, trial_id: int, name: str, kind: BaseDistribution) -> BaseDistribution:
        """What the study's first trial with this parameter drew it from; `kind` where this is the first."""
        study_id = self._study_of[trial_id]
        known = self._kinds.setdefault(study_id, {})
        if name not in known:
            for trial in self.get_all_trials(study_id, deepcopy=False):
                for other, drawn in trial.distributions.items():
                    known.setdefault(other, drawn)
        return known.setdefault(name, kind)

    def _asks_still(self, seen: Seen) -> bool:
        return not seen.trials or any(seen.trials[number]._trial_id not in self._own for number in seen.open)

    def _fetch(self, ids: Sequence[int]) -> list[FrozenTrial]:
        others = {trial._trial_id: trial for trial in super()._fetch([one for one in ids if one not in self._own])}
        found = ((self._now(one) if one in self._own else others.get(one)) for one in ids)
        return [trial for trial in found if trial is not None]


def _begun(owner: str) -> FrozenTrial:
    """A new trial as Optuna makes it, but with its worker; the database gives it its number and id."""
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={"worker": owner},
        system_attrs={},
        intermediate_values={},
    )


def _with(trial: FrozenTrial, writer: TrialWriter) -> FrozenTrial:
    """A trial as it is once this is written; the one that is given stays as it is."""
    made = copy.copy(trial)
    new = {name: given for name, given in writer.params.items() if name not in trial.params}
    made.distributions = {**trial.distributions, **{name: kind for name, (_, kind) in new.items()}}
    made.params = {**trial.params, **{name: kind.to_external_repr(value) for name, (value, kind) in new.items()}}
    made.intermediate_values = {**trial.intermediate_values, **writer.readings}
    made.user_attrs = {**trial.user_attrs, **{key: json.loads(text) for key, text in writer.user.items()}}
    made.system_attrs = {**trial.system_attrs, **{key: json.loads(text) for key, text in writer.system.items()}}
    return made
