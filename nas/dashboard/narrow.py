"""optuna-dashboard looks for each trial's note and files among all attributes of the study; here, among that trial's.

With a note for every trial that grows with the square of the trials: a look at a study of 1,500, most of them sent anew
since one of the first was set aside, took 2.4 s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from optuna.trial import FrozenTrial

from nas.dashboard.storage import Filled

Attributes = Mapping[str, Any]


def narrow() -> None:
    """Have optuna-dashboard's functions asked about one trial's attributes, in this process; once is enough.

    They answer the same. A release that has not these functions goes its own way.
    """
    from optuna_dashboard import _note, _serializer

    note = getattr(_note, "get_note_from_system_attrs", None)
    if note is not None and not hasattr(note, "__wrapped__"):
        _note.get_note_from_system_attrs = _of_one_note(note)
    files = getattr(_serializer, "list_trial_artifacts", None)
    if files is not None and not hasattr(files, "__wrapped__"):
        _serializer.list_trial_artifacts = _of_one_trials_files(files)


def _of_one_note(note: Callable[[Attributes, int | None], Any]) -> Callable[[Attributes, int | None], Any]:
    @wraps(note)
    def asked(attributes: Attributes, trial_id: int | None) -> Any:
        if isinstance(attributes, Filled) and trial_id is not None:
            attributes = attributes.of_trial(trial_id)
        return note(attributes, trial_id)

    return asked


def _of_one_trials_files(
    files: Callable[[Attributes, Attributes, FrozenTrial], Any],
) -> Callable[[Attributes, Attributes, FrozenTrial], Any]:
    @wraps(files)
    def asked(attributes: Attributes, trial_attributes: Attributes, trial: FrozenTrial) -> Any:
        if isinstance(attributes, Filled):
            attributes = attributes.of_trial(trial._trial_id)
        return files(attributes, trial_attributes, trial)

    return asked
