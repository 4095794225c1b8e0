"""Optuna's tables of a database whose connections may break: what was broken off is done again, see `nas.outage`."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from nas.outage import lost, repeated

READS = (
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial_id_from_study_id_trial_number",
    "get_trial",
    "get_all_trials",
    "_get_trials",  # of Optuna's cache
)
SETS = (
    "set_study_user_attr",
    "set_study_system_attr",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "set_trial_intermediate_value",
    "set_trial_param",
    "_set_trial_param",  # of Optuna's cache
)
"""These set a name, or a step, to a value: a second time to the same. A parameter that is there stays as it is."""
MAKES = ("_create_new_trial",)
"""A trial that was made without an answer stays empty: no claim holds it, so `recover` ends it as failed."""


class OptunaTables(RDBStorage):
    """Optuna's own, but that a lost connection ends nothing. A study is made, or removed, once only, as there."""

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Optuna's. Done again it finds the trial ended, and as it should be: then the first time was kept.

        Raises:
            UpdateFinishedTrialError: it was ended by somebody else.
        """
        write = super().set_trial_state_values
        try:
            return write(trial_id, state, values)
        except StorageInternalError as error:
            if not lost(error):
                raise
        try:
            return repeated(write)(trial_id, state, values)
        except UpdateFinishedTrialError:
            trial = self.get_trial(trial_id)
            if trial.state != state or trial.values != (None if values is None else list(values)):
                raise
            return True


for _name in READS + SETS + MAKES:
    setattr(OptunaTables, _name, repeated(getattr(RDBStorage, _name)))
