"""What workers that were killed left half done in a study's folder."""

from __future__ import annotations

import sqlalchemy as sa

from nas.records import Records, evaluation_table
from nas.search.liveness import workers
from nas.study_folder import StudyFolder


def sweep(folder: StudyFolder, records: Records, study: int) -> None:
    """Remove half-written files, checkpoints of trials that are not paused and weights of networks without a row.

    Nothing is removed while a worker lives, on whatever machine: it may be about to write the row.

    Args:
        records, study: of this folder; recovered, so that the trials of the dead are settled.
    """
    # Listed first: who begins to work after the question below has written none of these.
    there = [path for name in ("paused", "weights") for path in (folder.path / name).glob("*")]
    if not there or any(worker.is_alive() for worker in workers(records, study)):
        return
    columns = evaluation_table.c
    with records.reading() as connection:
        rows = connection.execute(sa.select(columns.key, columns.state).where(columns.study == study)).all()
    wanted = {folder.paused(key) for key, state in rows if state == "paused"}
    wanted |= {folder.weights(key) for key, state in rows if state == "complete"}
    for path in there:
        if path not in wanted:
            path.unlink(missing_ok=True)
