"""Records against Optuna's trials, one by one, and the claims that belong to them; each side repairs the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa
from optuna.trial import FrozenTrial
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from nas.doctor.findings import Finding, Mend, Problem
from nas.doctor.sides import DAMAGED, Line, Sides, Trial, differences, has_network, number_of, read, rebuilt
from nas.record_checks import wrong
from nas.records import Records, Row, claim_table, evaluation_table
from nas.search.liveness import workers
from nas.search.recovery import recover
from nas.search.restore import gap, trial_of
from nas.search.study import make_optuna_study, open_study, optuna_explained, rdb_storage

_COLUMNS = ("trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete")
_TRIALS = sa.table("trials", *map(sa.column, _COLUMNS))
_CHILDREN = tuple(
    sa.table(f"trial_{name}", sa.column("trial_id"))
    for name in ("values", "intermediate_values", "params", "user_attributes", "system_attributes", "heartbeats")
)
_CLAIMED = {"complete": "done", "pruned": "done", "paused": "paused", "failed": "failed"}
_JUMP = 1_000
"""A trial's number that is so far above the number of trials has a wrong bit in it."""


@dataclass(frozen=True)
class Trials:
    """Looks at one study's trials and claims.

    Args:
        records: of the study.
        url: of its database.
        study: its name.
        sides: what was read.
        before: workers that lived before that was read.
    """

    records: Records
    url: str
    study: str
    sides: Sides
    before: frozenset[str]

    @classmethod
    def of(cls, records: Records, url: str, study: str) -> Trials:
        """Raises as `read`."""
        before = frozenset(worker.id for worker in workers(records, number_of(records, study)) if worker.is_alive())
        return cls(records, url, study, read(records, study), before)

    def living(self) -> set[str]:
        """Workers that lived before the database was read, or live now: all that may have been at work in between."""
        now = {worker.id for worker in workers(self.records, self.sides.number) if worker.is_alive()}
        return now | self.before

    def look_over(self) -> list[Finding]:
        """Trials, what still runs, and claims."""
        alive = self.living()
        owners = {line.trial: line.worker for line in self.sides.claims if line.state == "held"}
        held = {trial for trial, worker in owners.items() if worker in alive}
        problems = [*self._whole_study(), *(self._each(held) if self.sides.trials is not None else ())]
        count = len(self.sides.rows) + len(self.sides.unreadable)
        words = f"{count:,} evaluations, each by itself and against Optuna's trial"
        return [Finding("trials", words, tuple(problems)), self._running(held, alive), self._claims(alive)]

    def _whole_study(self) -> Iterator[Problem]:
        if self.sides.trials is None:
            yield Problem("Optuna's tables have no study of this name", self._make_study)
            return
        for number in self.sides.twice:
            yield Problem(f"Optuna has several trials of number {number}")

    def _each(self, held: set[int | None]) -> Iterator[Problem]:
        rows, unreadable, trials = self.sides.rows, self.sides.unreadable, self.sides.trials or {}
        known = {*range(max(trials, default=-1) + 1), *rows, *unreadable}
        for number in sorted(known - held - set(self.sides.twice)):  # without what is at work
            row, trial = rows.get(number), trials.get(number)
            if number > len(known) + _JUMP or number < 0:
                yield Problem(f"an evaluation is recorded as trial {number}", self._dropper(number))
                continue
            problem = self._row(number, row, trial) if row is not None else self._no_row(number, trial)
            if problem is not None:
                yield problem

    def _row(self, number: int, row: Row, trial: Trial | None) -> Problem | None:
        bad = wrong(row, self.sides.identity, self.sides.settings)
        if bad is None and row.coordinates is not None and row.coordinates.keys() != self._names:
            bad = f"coordinates of other names, {', '.join(sorted(row.coordinates.keys() ^ self._names))}"
        if bad is not None:
            return self._bad_row(number, f"trial {number}: its record contradicts itself ({bad})", trial)
        if trial is None:
            return Problem(f"trial {number}: recorded, and not among Optuna's trials", lambda: self._put(row, None))
        found = differences(row, trial)
        if not found or (trial.state == "RUNNING" and row.state != "paused"):
            return None  # the second is what `recover` tells
        words = f"trial {number}: its record and Optuna differ in {', '.join(found)}"
        if self._valid(trial) is None or (row.coordinates is not None and trial.params.keys() != self._names):
            return Problem(words, lambda: self._put(row, trial))
        return Problem(f"{words}; either may be right, so only a copy tells")

    def _no_row(self, number: int, trial: Trial | None) -> Problem | None:
        if number in self.sides.unreadable:
            why = self.sides.unreadable[number]
            return self._bad_row(number, f"trial {number}: its record cannot be read ({why})", trial)
        if trial is None:
            return Problem(f"trial {number}: neither recorded nor among Optuna's trials", lambda: self._fill(number))
        if not has_network(trial):
            return None  # it ended, or its worker died, before it had one
        if trial.state == "RUNNING" and number not in self._set_aside():
            return None  # what `recover` fails
        return self._bad_row(number, f"trial {number}: Optuna has it, and it is not recorded", trial)

    def _bad_row(self, number: int, words: str, trial: Trial | None) -> Problem:
        row = None if trial is None else self._valid(trial)
        if row is not None:
            return Problem(words, lambda: self._record(row))
        return Problem(f"{words}, nor does Optuna's side tell it whole", lambda: self._give_up(number, trial))

    @cached_property
    def _names(self) -> Set[str]:
        """Of the coordinates that most evaluations have, which are the same in all."""
        found = Counter(frozenset(row.coordinates) for row in self.sides.rows.values() if row.coordinates is not None)
        return found.most_common(1)[0][0] if found else frozenset()

    def _valid(self, trial: Trial) -> Row | None:
        """The evaluation that Optuna's side tells, where that does not contradict itself."""
        try:
            row = rebuilt(trial)
        except DAMAGED:
            return None
        return row if wrong(row, self.sides.identity, self.sides.settings) is None else None

    def _set_aside(self) -> set[int | None]:
        return {line.trial for line in self.sides.claims if line.state == "paused"}

    def _running(self, held: set[int | None], alive: set[str]) -> Finding:
        trials = self.sides.trials or {}
        aside = {trial for trial in self._set_aside() if trial in self.sides.rows}
        running = [number for number, trial in sorted(trials.items()) if trial.state == "RUNNING"]
        asking = any(line.trial is None and line.worker in alive for line in self.sides.claims)
        left = [number for number in running if number not in held | aside]
        if asking:  # perhaps the trial that a living worker has just asked for
            left = [number for number in left if has_network(trials[number])]
        dead = [worker for worker in workers(self.records, self.sides.number) if worker.id not in alive]
        problems = [
            *(Problem(f"trial {number}: open, and no living worker has it", self._recover) for number in left),
            *(Problem(f"worker {worker.id} ended without a word", self._recover) for worker in dead),
        ]
        words = f"{len(alive)} alive, {len(running)} open trials, {len(aside)} of them set aside"
        return Finding("workers", words, tuple(problems))

    def _claims(self, alive: set[str]) -> Finding:
        problems = []
        by_trial = {line.trial: line for line in self.sides.claims}
        rows = {trial: row for trial, row in self.sides.rows.items() if row.state in _CLAIMED}
        for line in self.sides.claims:
            row = rows.get(-1 if line.trial is None else line.trial)
            if line.state == "held":
                if line.worker not in alive:
                    words = f"the place of {'no trial' if line.trial is None else f'trial {line.trial}'} is held by "
                    problems.append(Problem(f"{words}{line.worker}, which is dead", self._recover))
            elif row is None:
                words = f"a place is taken by trial {line.trial}, which is not recorded"
                problems.append(Problem(words, self._claim_dropper(line)))
            elif (line.key, line.state) != (row.key, _CLAIMED[row.state]):
                words = (
                    f"trial {row.trial}, {row.state}, of network {row.key} has its place as {line.state}, {line.key}"
                )
                problems.append(Problem(words, self._claimer(row, line)))
        for row in self.sides.rows.values():
            if row.state in ("complete", "pruned", "paused") and row.trial not in by_trial:
                words = f"trial {row.trial}, {row.state}, has no place: its network could be trained again"
                problems.append(Problem(words, self._claimer(row, None)))
        return Finding("places", f"{len(self.sides.claims):,}, each against its evaluation", tuple(problems))

    # ---- repairs

    def _recover(self) -> str:
        found = recover(open_study(self.url, self.study))
        return f"open trials without a worker: {found.told} told as recorded, {found.failed} failed as killed"

    def _record(self, row: Row) -> str:
        with self.records.writing() as connection:
            self._drop(row.trial, connection)
            self.records.add(self.sides.number, row, connection)
        return f"trial {row.trial}: recorded as Optuna has it"

    def _put(self, row: Row, trial: Trial | None) -> str:
        self._replace(row.trial, trial, trial_of(row))
        return f"trial {row.trial}: given to Optuna as it is recorded"

    def _fill(self, number: int) -> str:
        self._replace(number, None, gap())
        return f"trial {number}: nothing is known of it; a failed trial stands in its place"

    def _give_up(self, number: int, trial: Trial | None) -> str:
        with self.records.writing() as connection:
            self._drop(number, connection)
            mine = sa.and_(claim_table.c.study == self.sides.number, claim_table.c.trial == number)
            connection.execute(claim_table.delete().where(mine))
        self._replace(number, trial, gap("its record was damaged"))
        return f"trial {number}: given up as failed, neither side being whole; its network may be tried again"

    def _dropper(self, number: int) -> Mend:
        def mend() -> str:
            with self.records.writing() as connection:
                self._drop(number, connection)
            return f"the evaluation of trial {number} was removed"

        return mend

    def _drop(self, number: int, connection: Connection) -> None:
        mine = sa.and_(evaluation_table.c.study == self.sides.number, evaluation_table.c.trial == number)
        connection.execute(evaluation_table.delete().where(mine))

    def _replace(self, number: int, trial: Trial | None, made: FrozenTrial) -> None:
        """Put a trial of this number into Optuna's tables, in the place of one that is there.

        It gets the id that the other has, or had: notes go by ids, and ids rise with numbers.
        """
        storage = rdb_storage(self.url)
        try:
            with optuna_explained(self.url):
                new = storage.create_new_trial(storage.get_study_id_from_name(self.study), made)
                with storage.engine.begin() as connection:
                    # Optuna numbers a new trial by how many there are.
                    connection.execute(sa.update(_TRIALS).where(_TRIALS.c.trial_id == new).values(number=number))
                    if trial is not None:
                        for table in (*_CHILDREN, _TRIALS):
                            connection.execute(sa.delete(table).where(table.c.trial_id == trial.id))
                    true_id = _free_id(connection, new, number) if trial is None else trial.id
                    if true_id is not None:
                        _give_id(connection, new, true_id)
        finally:
            storage.engine.dispose()

    def _make_study(self) -> str:
        rows = self.sides.rows
        storage = rdb_storage(self.url)
        try:
            with optuna_explained(self.url):
                made = make_optuna_study(storage, self.study, self.sides.identity)
                numbers = range(max(rows, default=-1) + 1)
                made.add_trials([trial_of(rows[number]) if number in rows else gap() for number in numbers])
        finally:
            storage.engine.dispose()
        return f"Optuna's side was made anew of {len(rows):,} evaluations"

    def _claimer(self, row: Row, line: Line | None) -> Mend:
        def mend() -> str:
            values = {"key": row.key, "trial": row.trial, "state": _CLAIMED[row.state]}
            try:
                with self.records.writing() as connection:
                    if line is None:
                        new = claim_table.insert().values(study=self.sides.number, worker=row.worker, **values)
                        connection.execute(new)
                    else:
                        connection.execute(claim_table.update().where(claim_table.c.id == line.id).values(**values))
            except IntegrityError:
                return f"trial {row.trial}: another has the place of its network {row.key}; nothing was changed"
            return f"trial {row.trial}: its place is as its evaluation says"

        return mend

    def _claim_dropper(self, line: Line) -> Mend:
        def mend() -> str:
            with self.records.writing() as connection:
                connection.execute(claim_table.delete().where(claim_table.c.id == line.id))
            return f"the place of trial {line.trial}, which is not recorded, was given back"

        return mend


def _free_id(connection: Connection, new: int, number: int) -> int | None:
    """The id between those of the trials around this number; None where there is none to be had."""
    study = sa.select(_TRIALS.c.study_id).where(_TRIALS.c.trial_id == new).scalar_subquery()
    ids = _TRIALS.c.trial_id
    others = sa.and_(_TRIALS.c.study_id == study, ids != new)
    below = connection.execute(sa.select(sa.func.max(ids)).where(others, _TRIALS.c.number < number)).scalar()
    above = connection.execute(sa.select(sa.func.min(ids)).where(others, _TRIALS.c.number > number)).scalar()
    if above is None:
        return None  # it is the last, as its id is
    found = above - 1 if below is None else below + 1
    taken = connection.execute(sa.select(ids).where(ids == found)).first()
    return found if taken is None and 0 < found < above else None


def _give_id(connection: Connection, new: int, true_id: int) -> None:
    """Another id for a trial that was just made; what refers to it is moved, which the database checks."""
    columns = [sa.literal(true_id) if name == "trial_id" else _TRIALS.c[name] for name in _COLUMNS]
    again = sa.select(*columns).where(_TRIALS.c.trial_id == new)
    for table in _CHILDREN:  # left by a trial that is gone
        connection.execute(sa.delete(table).where(table.c.trial_id == true_id))
    connection.execute(sa.insert(_TRIALS).from_select(list(_COLUMNS), again))
    for table in _CHILDREN:
        connection.execute(sa.update(table).where(table.c.trial_id == new).values(trial_id=true_id))
    connection.execute(sa.delete(_TRIALS).where(_TRIALS.c.trial_id == new))
