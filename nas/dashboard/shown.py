"""What a study with records shows beyond Optuna's tables: figures, notes and files, kept until a record comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, thread_time
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from plotly.io.json import to_json_plotly

from nas.architecture import Architecture
from nas.baseline_rows import baselines
from nas.dashboard.artifacts import CURVE, confusion_csv, curve_csv
from nas.dashboard.figures import CURVES, Plot, figures, with_running
from nas.dashboard.notes import running_note, study_note, trial_note
from nas.held import held, held_in_full
from nas.metric import metric_of
from nas.outcome import Outcome
from nas.records import Records, Row, evaluation_table
from nas.refined import Refined, networks, refinements
from nas.search.notes import note
from nas.tables import baseline_table, refinement_table, study_table

Line = tuple[int, float]
"""A line of a table: its id, which may come again when it is replaced, and the moment at which its training ended."""
FEW = 500
"""Up to so many new evaluations are read by their numbers; and so many of the last trials always have a note."""
MANY = 2000
"""Trials from which on not every one has a note."""
QUICK, PACE = 0.2, 10
"""What takes more processor seconds than `QUICK` to make again is kept, whatever comes, for `PACE` times as many: a
search on the same processors needs them more."""


@dataclass
class _Kept:
    """What was made of a study, and what of it can be taken again.

    Args:
        token: all that it was made of, in short.
        rows: evaluations by their lines.
        figures: by their ids, as text.
        curves: the learning curves, to which running trials are added.
        note: the study's.
        until: this moment of the clock it is kept though a record has come.
        notes: of trials by their lines: what is shown, and what the search itself wrote.
    """

    token: object
    rows: dict[Line, Row]
    outcome: Outcome
    refined: dict[int, Refined]
    figures: dict[str, str]
    curves: Plot
    note: str
    until: float
    notes: dict[Line, tuple[str, str]] = field(default_factory=dict)


class Shown:
    """What is shown of each study in a database; not for several threads at once.

    A record is read once. All that is asked of the database at a look are the ids of the records.

    Args:
        records: of the database; never written to.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._kept: dict[str, _Kept] = {}
        self._there: set[str] = set()

    def numbers(self) -> dict[str, int]:
        """The studies that have records, with their numbers; none in another program's database."""
        if not self._has(study_table):
            return {}
        with self._records.reading() as connection:
            found = connection.execute(sa.select(study_table.c.name, study_table.c.id)).all()
        return {str(name): int(number) for name, number in found}

    def answered(self, study: int) -> set[int]:
        """Trials of the study with this number whose confusion matrix is on record."""
        table = evaluation_table.c
        with self._records.reading() as connection:
            there = {column["name"] for column in sa.inspect(connection).get_columns(evaluation_table.name)}
            if table.confusion.name not in there:  # an older layout
                return set()
            query = sa.select(table.trial).where(table.study == study, table.confusion.is_not(None))
            return {int(trial) for trial in connection.execute(query).scalars()}

    def attributes(self, name: str, trials: Sequence[FrozenTrial], stored: Mapping[str, Any]) -> dict[str, Any]:
        """A study's attributes with figures, and with notes where no person wrote one.

        optuna-dashboard looks through all attributes once for each trial, so of a study with more than `MANY` trials
        only those of the front, those trained in full and the last ones have notes, besides what a person wrote.

        Args:
            name: the study's.
            trials: all of Optuna's.
            stored: its attributes in the database.

        Raises:
            StudyError: the database is out of reach, or damaged.
        """
        kept = self._current(name)
        seen = {row.trial: len(row.curve) for row in kept.outcome.rows}
        # A trial that was set aside is running to Optuna: it is for us once it has read on.
        running = [
            trial
            for trial in trials
            if trial.state == TrialState.RUNNING and len(trial.intermediate_values) > seen.get(trial.number, -1)
        ]
        made = dict(stored) | {f"{PLOT}{figure}:0": text for figure, text in kept.figures.items()}
        if any(trial.intermediate_values for trial in running):
            made[f"{PLOT}{CURVES}:0"] = to_json_plotly(with_running(kept.curves, running))
        if not _body(stored, None):
            made |= _noted(stored, None, kept.note)
        ids = {trial.number: trial._trial_id for trial in trials}
        last = len(trials) - FEW if len(trials) > MANY else 0
        for row, text, automatic in self._notes(kept, last):
            number = ids.get(row.trial)
            if number is None or not _same(_body(stored, number), automatic):
                continue
            if text is None:
                for key in _noted(stored, number, ""):
                    made.pop(key, None)
            else:
                made |= _noted(stored, number, text)
        for trial in running:
            network = trial.user_attrs.get("architecture")
            if trial.number not in seen and network is not None and not _body(stored, trial._trial_id):
                made |= _noted(stored, trial._trial_id, running_note(kept.outcome, Architecture.from_json(network)))
        return made

    def artifact(self, name: str, trial: FrozenTrial, kind: str) -> bytes | None:
        """A file of a trial; None where its record does not hold it."""
        row = next(iter(self._records.rows(name, [trial.number], confusions=True)), None)
        settings = self._records.study(name).settings
        if kind == CURVE:
            return curve_csv(metric_of(settings), row, trial)
        return None if row is None or row.confusion is None else confusion_csv(settings["classes"], row.confusion)

    def _current(self, name: str) -> _Kept:
        """What is kept of a study, made anew where a record has come."""
        study = self._records.study(name)
        lines = self._lines(study.id, evaluation_table)
        trained = self._lines(study.id, refinement_table)
        token = (lines, trained, self._lines(study.id, baseline_table), study)
        kept = self._kept.get(name)
        if kept is not None and (kept.token == token or monotonic() < kept.until):
            return kept
        began = thread_time()
        before = {} if kept is None else kept.rows
        new = [trial for line, trial in lines.items() if line not in before]
        found = {row.trial: row for row in self._records.rows(name, new if len(new) <= FEW else None)}
        rows = {line: before[line] if line in before else found.get(trial) for line, trial in lines.items()}
        rows_there = {line: row for line, row in rows.items() if row is not None}
        outcome = Outcome.of(study, sorted(rows_there.values(), key=lambda row: row.trial))
        trainings = refinements(self._records, study.id) if trained else []
        refined, beside = networks(outcome.rows, trainings), baselines(self._records, study.id)
        plots = figures(outcome, (*held(beside), *held_in_full(beside, trainings)), refined)
        drawn = {name: to_json_plotly(plot) for name, plot in plots.items()}
        notes = {} if kept is None else {line: text for line, text in kept.notes.items() if line in rows_there}
        by_trial = {one.row.trial: one for one in refined}
        about = study_note(outcome, refined)
        took = 0.0 if not before else thread_time() - began  # the first time loads plotly's parts
        until = monotonic() + PACE * took if took > QUICK else 0.0
        kept = _Kept(token, rows_there, outcome, by_trial, drawn, plots[CURVES], about, until, notes)
        self._kept[name] = kept
        return kept

    def _notes(self, kept: _Kept, last: int) -> Iterator[tuple[Row, str | None, str]]:
        """Each recorded trial with its note and the one that the search itself wrote; None for a note that is left out.

        Args:
            last: trials from this one on have notes, whatever they came to.
        """
        front = {row.trial for row in kept.outcome.front}
        for line, row in kept.rows.items():
            if line not in kept.notes:
                kept.notes[line] = trial_note(kept.outcome, row, None), note(row)
            text, automatic = kept.notes[line]
            if row.trial in front or row.trial in kept.refined:
                yield row, trial_note(kept.outcome, row, kept.refined.get(row.trial)), automatic
            else:
                yield row, text if row.trial >= last else None, automatic

    def _lines(self, study: int, table: sa.Table) -> dict[Line, int]:
        """The lines of a table that belong to the study with this number, with their trials; -1 where it has none."""
        if not self._has(table):
            return {}
        trial = table.c.trial if "trial" in table.c else sa.literal(-1)
        query = sa.select(table.c.id, table.c.finished_at, trial).where(table.c.study == study)
        with self._records.reading() as connection:
            return {(int(number), float(at)): int(one) for number, at, one in connection.execute(query)}

    def _has(self, table: sa.Table) -> bool:
        if table.name not in self._there:
            with self._records.reading() as connection:
                if not sa.inspect(connection).has_table(table.name):
                    return False
            self._there.add(table.name)
        return True


# How optuna-dashboard keeps a figure and a note among a study's attributes; its functions for that write to a storage.

PLOT = "dashboard:plot_data:"


def _about(trial_id: int | None) -> str:
    return "dashboard:" if trial_id is None else f"dashboard:{trial_id}:"


def _body(stored: Mapping[str, Any], trial_id: int | None) -> str:
    """The text of a note that is kept, in pieces; empty where there is none."""
    about = _about(trial_id)
    pieces: list[str] = []
    while (piece := stored.get(f"{about}note_str:{len(pieces)}")) is not None:
        pieces.append(piece)
    return "".join(pieces)


def _noted(stored: Mapping[str, Any], trial_id: int | None, text: str) -> dict[str, Any]:
    """Attributes of a note in the place of the one that is kept, whose version a person's edit has to follow."""
    about = _about(trial_id)
    made: dict[str, Any] = {f"{about}note_ver": stored.get(f"{about}note_ver", 0), f"{about}note_str:0": text}
    further = 1
    while f"{about}note_str:{further}" in stored:
        made[f"{about}note_str:{further}"] = ""
        further += 1
    return made


def _same(body: str, automatic: str) -> bool:
    """Whether a note is none, or what a search wrote; earlier ones wrote reasons without backslashes."""
    return not body or body.replace("\\", "") == automatic.replace("\\", "")
