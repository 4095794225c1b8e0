"""A study from a file of records: both sides of its database, as a search would have left them."""

from __future__ import annotations

import os
from contextlib import closing

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.baseline_rows import Baseline, add_baseline
from nas.errors import StudyError
from nas.files import OF_ONE_FOLDER
from nas.record_checks import check_complete
from nas.record_file import RecordFile
from nas.records import Records, Row, claim_table
from nas.refined import add_refinement
from nas.search.evidence import LOSSES
from nas.search.loop import STATES
from nas.search.reporting import MARK, trial_attributes
from nas.search.study import make_optuna_study, rdb_storage
from nas.study_folder import StudyFolder, aside

GAPS = 100_000
"""So many trials without a record are filled in at most; a file with more has a wrong number in it."""


def restore(file: RecordFile, folder: StudyFolder) -> None:
    """Make a study of a file's rows, aside, and give it its name when it is whole.

    Its front, report and further search are those of the study that was exported; weights are not in a file. A network
    that failed by itself counts as one that would fail again, whatever the reason was.

    Args:
        file: of one study seed, as `record_file.read` checked it.
        folder: the new study's; nothing may be there.

    Raises:
        StudyError: there is a study of this name, or rows of several study seeds.
        OSError: the folder cannot be written.
    """
    if len(file.study_seeds) > 1 or file.study_seeds[0] != file.identity["seed"]:
        raise StudyError(f"study {file.name!r} has study seeds {', '.join(map(str, file.study_seeds))}: choose one")
    check_complete(f"study {file.name!r}", file.identity, file.settings)
    last = max((row.trial for _, row in file.rows), default=-1)
    if last + 1 - len(file.rows) > GAPS:
        raise StudyError(f"trial {last} of {len(file.rows)} rows: the file's trial numbers leave more than {GAPS} out")
    _refuse_existing(folder)
    with aside(folder, "imported") as place:
        made = StudyFolder(place, folder.name)
        made.path.mkdir()
        _write_records(file, made)
        _write_optuna(file, made)
        _refuse_existing(folder)
        made.path.rename(folder.path)


def _refuse_existing(folder: StudyFolder) -> None:
    if os.path.lexists(folder.path):
        raise StudyError(f"{str(folder.path)!r} is there already and is left alone: choose another --study")


def _write_records(file: RecordFile, folder: StudyFolder) -> None:
    with closing(Records(folder.url)) as records:
        records.create()
        settings = {name: value for name, value in file.settings.items() if name not in OF_ONE_FOLDER}
        study = records.add_study(folder.name, file.identity, settings)
        claimed = {row.key for _, row in file.rows if row.state != "failed"}
        with records.writing() as connection:
            for _, row in file.rows:
                records.add(study.id, row, connection)
                if row.state == "failed" and (row.killed or row.key in claimed):
                    continue  # it may be tried again, or was
                claimed.add(row.key)
                claim = {"study": study.id, "key": row.key, "trial": row.trial, "worker": row.worker}
                state = "failed" if row.state == "failed" else "done"
                connection.execute(claim_table.insert().values(**claim, state=state))
        for one in file.trainings:
            if isinstance(one, Baseline):
                add_baseline(records, study.id, one)
            else:
                add_refinement(records, study.id, one)


def _write_optuna(file: RecordFile, folder: StudyFolder) -> None:
    storage = rdb_storage(folder.url)
    loudness = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # that a study was made aside is no news
    try:
        study = make_optuna_study(storage, folder.name, file.identity)
        rows = {row.trial: row for _, row in file.rows}
        # A trial that ended before it had a network has no record; without it the numbers would shift.
        study.add_trials(
            [trial_of(rows[number]) if number in rows else gap() for number in range(max(rows, default=-1) + 1)]
        )
    finally:
        optuna.logging.set_verbosity(loudness)
        storage.engine.dispose()


def gap(reason: str = "it ended without a record") -> FrozenTrial:
    """A trial that stands where nothing is known of one, so that the numbers of the others stay."""
    return create_trial(state=TrialState.FAIL, user_attrs={"reason": reason})


def trial_of(row: Row) -> FrozenTrial:
    """The trial of an evaluation, with the attributes that a worker gives it; of a paused one it is open."""
    attributes = trial_attributes(
        row.architecture, cost=row.cost, seed=row.seed, device=row.device, threads=row.threads, worker=row.worker
    ) | {"seconds": row.seconds, LOSSES: [loss for _, _, loss in row.curve]}
    if row.reason is not None:
        attributes["reason"] = row.reason
    coordinates = dict(row.coordinates or {})
    trial = create_trial(
        state=TrialState.RUNNING if row.state == "paused" else STATES[row.state],
        values=[float(row.val_accuracy or 0.0), float(row.cost)] if row.state == "complete" else None,
        params=coordinates,
        distributions={name: FloatDistribution(0, 1) for name in coordinates},
        user_attrs=attributes,
        intermediate_values={epoch: accuracy for epoch, accuracy, _ in row.curve},
        constraints={MARK: 1.0} if row.state == "pruned" else None,
    )
    # Optuna keeps local times without a zone.
    trial.datetime_start = row.started_at.astimezone().replace(tzinfo=None)
    if trial.state.is_finished():
        trial.datetime_complete = row.finished_at.astimezone().replace(tzinfo=None)
    return trial
