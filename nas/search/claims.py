"""Places and networks, claimed in the database so that a study of N trials has exactly N and no network twice.

A claim is a row: first a place (so many are held or done, never more than the total), then, when the sampler has
proposed, a network's key, unique within the study. Both are refused by the database itself, not by looking first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from nas.errors import StudyError
from nas.outage import lost, repeated
from nas.records import Records, Row, claim_table, evaluation_table, study_table, worker_table
from nas.search.places import FAILURES, TakenAway


@dataclass(frozen=True, slots=True)
class Claim:
    """A place.

    Args:
        trial: None until the trial's network is claimed.
        state: ``held``, ``paused``, ``done`` or ``failed``.
    """

    trial: int | None
    worker: str
    state: str


class Claims:
    """The claims of one worker in one study.

    Each method is one transaction, which is done again where its connection broke (`repeated`): one that only reads,
    deletes, or sets what it is given is the same twice, the others say why they are.

    Args:
        records: the study's records.
        study: its number there.
        worker: this worker's id.
    """

    def __init__(self, records: Records, study: int, worker: str) -> None:
        self._records = records
        self._study = study
        self._worker = worker
        self._mine = claim_table.c.study == study
        self._asking = False
        self._first: int | None = None
        """The last line of any evaluation when `failures_in_a_row` was first asked."""

    @repeated
    def place(self, total: int) -> int | Literal["full", "done"]:
        """Claim one of `total` places.

        Done again, no answer having come, it finds the place of the first time: what this worker holds without a trial.

        Returns:
            the claim's number; ``full`` where the last places are held by trials that may still fail, or paused;
            ``done`` where `total` trials have ended.
        """
        with self._records.writing() as connection:
            # On PostgreSQL this row is the lock that SQLite's BEGIN IMMEDIATE is: counting and claiming are one.
            connection.execute(sa.select(study_table.c.id).where(study_table.c.id == self._study).with_for_update())
            kept = self._unanswered(connection) if self._asking else None
            self._asking = True
            place = self._place(connection, total) if kept is None else kept
        self._asking = False  # the answer is here
        return place

    def _unanswered(self, connection: Connection) -> int | None:
        bare = sa.and_(self._mine, claim_table.c.worker == self._worker, claim_table.c.trial.is_(None))
        found = connection.execute(sa.select(claim_table.c.id).where(bare, claim_table.c.state == "held")).scalar()
        return None if found is None else int(found)

    def _place(self, connection: Connection, total: int) -> int | Literal["full", "done"]:
        counted = sa.select(claim_table.c.state, sa.func.count()).where(self._mine).group_by(claim_table.c.state)
        states = {state: int(number) for state, number in connection.execute(counted)}
        done = states.get("done", 0)
        if done >= total:
            return "done"
        if done + states.get("held", 0) + states.get("paused", 0) >= total:
            return "full"
        row = claim_table.insert().values(study=self._study, worker=self._worker, state="held")
        return int(connection.execute(row.returning(claim_table.c.id)).scalar_one())

    @repeated
    def network(self, claim: int, trial: int, key: str) -> bool:
        """Claim the network for the trial; False where the study has it already.

        Raises:
            TakenAway: here, in `finish` and in `pause`, see there.
        """
        try:
            with self._records.writing() as connection:
                self._set(connection, claim, trial=trial, key=key)
        except IntegrityError:
            return False
        return True

    @repeated
    def finish(self, claim: int, row: Row, *, again: bool = False) -> None:
        """Write the evaluation and settle its claim in one transaction.

        A complete or pruned network keeps its place; a failed one gives the place back and keeps its key, since it
        would fail again; one that may be tried `again` gives both back.
        """
        with self._records.writing() as connection:
            if again:  # twice: the first time has deleted it
                connection.execute(claim_table.delete().where(claim_table.c.id == claim))
            else:
                self._set(connection, claim, state="failed" if row.state == "failed" else "done")
            self._replace(row, connection)

    @repeated
    def pause(self, claim: int, row: Row) -> None:
        """Write what is known of a trial that is set aside; it keeps its place and its network, and nobody holds it.

        Done twice it finds its own, or `TakenAway` where another worker has taken it up since: then that is right.
        """
        with self._records.writing() as connection:
            self._set(connection, claim, state="paused")
            self._replace(row, connection)

    def _set(self, connection: Connection, claim: int, **values: object) -> None:
        """Change a claim, if it is still this worker's."""
        mine = sa.and_(claim_table.c.id == claim, claim_table.c.worker == self._worker)
        if connection.execute(claim_table.update().where(mine).values(**values)).rowcount == 0:
            raise TakenAway

    @repeated
    def paused(self) -> list[int]:
        """Numbers of the paused trials."""
        query = sa.select(claim_table.c.trial).where(self._mine, claim_table.c.state == "paused")
        with self._records.reading() as connection:
            return [int(trial) for trial in connection.execute(query).scalars()]

    def resume(self, trial: int) -> tuple[int, Row] | None:
        """Hold a paused trial: (claim, its row). None where another worker was first, or it is being trained.

        Where the answer of a first time was lost, this worker may hold it by now.

        Raises:
            StudyError: the paused trial has no row; the database was changed by another program.
        """
        paused = claim_table.c.state == "paused"
        try:
            return self._hold(trial, paused)
        except StudyError as error:
            if not lost(error):
                raise
        mine = sa.and_(claim_table.c.state == "held", claim_table.c.worker == self._worker)
        return repeated(self._hold)(trial, sa.or_(paused, mine))

    def _hold(self, trial: int, free: sa.ColumnElement[bool]) -> tuple[int, Row] | None:
        with self._records.writing() as connection:
            there = sa.and_(self._mine, claim_table.c.trial == trial, free)
            taken = claim_table.update().where(there).values(state="held", worker=self._worker)
            claim = connection.execute(taken.returning(claim_table.c.id)).scalar()
            if claim is None:
                return None
            row = self._records.row(self._study, trial, connection)
            if row is None:
                raise StudyError(f"trial {trial} is paused and has no record; restore the study from a copy")
            return int(claim), row

    @repeated
    def busy(self) -> bool:
        """Whether any place is held by a trial that is being trained."""
        query = sa.select(claim_table.c.id).where(self._mine, claim_table.c.state == "held").limit(1)
        with self._records.reading() as connection:
            return connection.execute(query).first() is not None

    def _replace(self, row: Row, connection: Connection) -> None:
        old = sa.and_(evaluation_table.c.study == self._study, evaluation_table.c.trial == row.trial)
        connection.execute(evaluation_table.delete().where(old))
        self._records.add(self._study, row, connection)

    @repeated
    def give_back(self, claim: int) -> None:
        """Forget a claim that came to nothing."""
        with self._records.writing() as connection:
            connection.execute(claim_table.delete().where(claim_table.c.id == claim))

    @repeated
    def exhausted(self) -> bool:
        """Whether a worker has found that the space has no new network."""
        with self._records.reading() as connection:
            query = sa.select(study_table.c.exhausted).where(study_table.c.id == self._study)
            return bool(connection.execute(query).scalar_one())

    @repeated
    def set_exhausted(self, exhausted: bool = True) -> None:
        """Tell all workers that the space has no new network, or that it is to be tried again."""
        with self._records.writing() as connection:
            connection.execute(study_table.update().where(study_table.c.id == self._study).values(exhausted=exhausted))

    @repeated
    def failures_in_a_row(self) -> list[str]:
        """Reasons of the last evaluations, newest first, for as long as they failed by themselves, at most `FAILURES`.

        Only those that were written after this was first asked count, so that a search can be started again. What is
        first and last goes by their lines: clocks are set back.
        """
        line = evaluation_table.c.id
        with self._records.reading() as connection:
            if self._first is None:
                self._first = int(connection.execute(sa.select(sa.func.max(line))).scalar() or 0)
            of_study = sa.and_(evaluation_table.c.study == self._study, line > self._first)
            query = (
                sa.select(evaluation_table.c.state, evaluation_table.c.reason)
                .where(of_study, evaluation_table.c.killed.is_(False))
                .order_by(line.desc())
                .limit(FAILURES)
            )
            reasons: list[str] = []
            for state, reason in connection.execute(query):
                if state != "failed":
                    break
                reasons.append(str(reason))
            return reasons

    @repeated
    def all(self) -> list[Claim]:
        """Every claim of the study."""
        query = sa.select(claim_table.c.trial, claim_table.c.worker, claim_table.c.state).where(self._mine)
        with self._records.reading() as connection:
            return [Claim(trial, worker, state) for trial, worker, state in connection.execute(query)]

    @repeated
    def bury(self, worker: str) -> None:
        """Give back what a dead worker held, paused trials as they were set aside, and forget the worker."""
        with self._records.writing() as connection:
            held = sa.and_(claim_table.c.worker == worker, claim_table.c.state == "held")
            of_study = sa.and_(evaluation_table.c.study == self._study, evaluation_table.c.state == "paused")
            paused = sa.select(evaluation_table.c.trial).where(of_study)
            connection.execute(
                claim_table.update().where(held, self._mine, claim_table.c.trial.in_(paused)).values(state="paused")
            )
            connection.execute(claim_table.delete().where(held))
            connection.execute(worker_table.delete().where(worker_table.c.id == worker))
