"""Optuna's storage as optuna-dashboard reads it: with what `shown` adds, made when it is looked at, never written."""

from __future__ import annotations

import copy
import logging
import re
import threading
from collections.abc import Callable, Container, ItemsView, Iterator, Mapping
from functools import cache, cached_property, partial
from typing import Any

import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from nas.dashboard.artifacts import trial_artifacts
from nas.dashboard.figures import FAULTS
from nas.dashboard.shown import Shown
from nas.records import Records
from nas.search.evidence import LOSSES
from nas.search.storage import SearchStorage
from nas.search.study import set_aside

CONSTRAINTS = "constraints"
"""Where optuna-dashboard looks for a list of them; Optuna keeps each by its name, as ``constraints:NAME``."""
LONG = frozenset({"architecture", LOSSES})
"""Attributes of a trial that its note and its artifacts say better than a cell of a table."""

_OF_TRIAL = re.compile(r"dashboard:(?:artifacts:)?(\d+):")

_log = logging.getLogger(__name__)


class DashboardStorage(SearchStorage):
    """As the database has it, and for a study with records more than that; see `Shown`.

    Trials have their constraints where optuna-dashboard reads them, and artifacts that nobody wrote; those that are
    set aside wait. Reading goes through the cache of `SearchStorage`: a trial that has ended, or is set aside, is read
    once. Safe from any thread.

    Args:
        tables: Optuna's side of the database.
        records: ours.
    """

    def __init__(self, tables: RDBStorage, records: Records) -> None:
        super().__init__(tables, dict)
        self.engine = tables.engine
        self._records = records
        self._shown = Shown(records)
        self._lock = threading.RLock()
        self._each: dict[int, BaseStorage] = {}
        self._trials: dict[int, tuple[FrozenTrial, FrozenTrial]] = {}

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()
        self._records.close()

    def get_all_studies(self) -> list[Any]:
        """As Optuna's; the attributes of a study with records are made when they are asked for."""
        studies = sorted(super().get_all_studies(), key=lambda study: study._study_id)
        for study in studies:
            study.system_attrs = self._filled(study._study_id, study.study_name, study.system_attrs)
        return studies

    def get_study_system_attrs(self, study_id: int) -> Any:
        """As Optuna's, with what `Shown` adds; a mapping, and a dict only where there are no records."""
        stored = super().get_study_system_attrs(study_id)
        return self._filled(study_id, self.get_study_name_from_id(study_id), stored)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's; see the class."""
        number = self._number(self.get_study_name_from_id(study_id))
        if number is None:
            with self._lock:
                return super().get_all_trials(study_id, deepcopy, states)
        with self._lock:
            answered = cache(lambda: self._shown.answered(number))
            aside = set_aside(self._records, number)
            trials = [self._dressed(trial, answered, trial.number in aside) for trial in self._read(study_id, number)]
        found = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's; see the class."""
        trial = super().get_trial(trial_id)
        place = self._place(trial_id)
        number = None if place is None else self._number(place)
        if number is None:
            return trial
        with self._lock:
            aside = trial.number in set_aside(self._records, number)
            return copy.deepcopy(self._dressed(trial, lambda: self._shown.answered(number), aside))

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Of the trial as `get_trial` gives it."""
        return self.get_trial(trial_id).system_attrs

    def artifact(self, kind: str, trial_id: int) -> bytes | None:
        """An artifact that `trial_artifacts` named; None where there is none."""
        place = self._place(trial_id)
        if place is None or self._number(place) is None:
            return None
        return self._shown.artifact(place, super().get_trial(trial_id), kind)

    def _filled(self, study_id: int, name: str, stored: Mapping[str, Any]) -> Mapping[str, Any]:
        number = self._number(name)
        return stored if number is None else Filled(stored, partial(self._made, study_id, name, number, stored))

    def _made(self, study_id: int, name: str, number: int, stored: Mapping[str, Any]) -> Mapping[str, Any]:
        """A study's attributes with what is added; as they are, with a word in the terminal, where that fails."""
        try:
            with self._lock:
                return self._shown.attributes(name, self._read(study_id, number), stored)
        except FAULTS:
            _log.exception("study %r is shown without what nas adds", name)
            return stored

    def _read(self, study_id: int, number: int) -> list[FrozenTrial]:
        """All trials of a study with records, as Optuna has them."""
        if study_id not in self._each:
            self._each[study_id] = SearchStorage(self._tables, partial(set_aside, self._records, number))
        return self._each[study_id].get_all_trials(study_id, deepcopy=False)

    def _number(self, name: str) -> int | None:
        """The study's number in the records; None where it has none."""
        return self._shown.numbers().get(name)

    def _place(self, trial_id: int) -> str | None:
        """The name of the study that a trial is in."""
        trials = sa.table("trials", sa.column("trial_id"), sa.column("study_id"))
        studies = sa.table("studies", sa.column("study_id"), sa.column("study_name"))
        query = sa.select(studies.c.study_name).join(trials, trials.c.study_id == studies.c.study_id)
        with self.engine.connect() as connection:
            found = connection.execute(query.where(trials.c.trial_id == trial_id)).scalar()
        return None if found is None else str(found)

    def _dressed(self, trial: FrozenTrial, answered: Callable[[], Container[int]], aside: bool) -> FrozenTrial:
        """A trial as it is shown; the trial itself is left as it is, others hold it.

        Args:
            answered: trials that have a confusion matrix; asked for trials that were not seen ended before.
            aside: it was set aside. Optuna knows only that it has not ended, and would draw it as busy.
        """
        before = self._trials.get(trial._trial_id)
        if before is not None and before[0] is trial:
            return before[1]
        dressed = copy.copy(trial)
        attrs = {key: value for key, value in trial.system_attrs.items() if not key.startswith(f"{CONSTRAINTS}:")}
        if trial.constraints:
            attrs[CONSTRAINTS] = [value for _, value in sorted(trial.constraints.items())]
        attrs |= trial_artifacts(trial, trial.state == TrialState.COMPLETE and trial.number in answered())
        dressed.system_attrs = attrs
        dressed.user_attrs = {name: value for name, value in trial.user_attrs.items() if name not in LONG}
        if aside and trial.state == TrialState.RUNNING:
            dressed.state = TrialState.WAITING
        if trial.state.is_finished():
            self._trials[trial._trial_id] = trial, dressed
        return dressed


class Filled(Mapping[str, Any]):
    """A study's attributes, with more that are made at the first look beyond what a list of studies asks for.

    Args:
        stored: as the database has them.
        make: all of them, with what is added.
    """

    def __init__(self, stored: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> None:
        self._stored = stored
        self._make = make

    @cached_property
    def _whole(self) -> dict[str, Any]:
        return dict(self._make())

    @cached_property
    def _of_trials(self) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for key, value in self._whole.items():
            if (about := _OF_TRIAL.match(key)) is not None:
                found.setdefault(int(about[1]), {})[key] = value
        return found

    def of_trial(self, trial_id: int) -> Mapping[str, Any]:
        """Those about one trial: its note and its files."""
        return self._of_trials.get(trial_id, {})

    def __getitem__(self, key: str) -> Any:
        if key.startswith("preference:"):  # a list of studies asks this of each, and nothing that is made answers it
            return self._stored[key]
        return self._whole[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)

    def items(self) -> ItemsView[str, Any]:
        """A dict's, which optuna-dashboard goes through for each trial."""
        return self._whole.items()
