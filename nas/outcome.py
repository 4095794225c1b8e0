"""What a study found, from its records: the front, the knee, the best, and how one network of it is named."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nas import pareto
from nas.architecture import Architecture, Rule, first_fall
from nas.errors import StudyError, choices
from nas.metric import Metric, in_words, metric_of
from nas.records import Point, Records, Row, State, StudyRecord

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kKmM]?)")
_SCALES = {"": 1, "k": 1_000, "m": 1_000_000}


@dataclass(frozen=True)
class Outcome:
    """A study as it stands; while it runs, a later one may hold more.

    Args:
        study: its name.
        identity: what the study is, as its records keep it.
        settings: how it was run, as its records keep it.
        rows: every evaluation in the order of trials.
        front: the non-dominated complete rows, smallest cost first; empty before the first complete trial.
    """

    study: str
    identity: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    front: tuple[Row, ...]

    @classmethod
    def read(cls, records: Records, study: str) -> Outcome:
        """Read a study's records.

        Raises:
            StudyError: there is no such study, or its database is out of reach.
        """
        return cls.of(records.study(study), records.rows(study))

    @classmethod
    def of(cls, study: StudyRecord, rows: Sequence[Row]) -> Outcome:
        """A study and its evaluations, in the order of their trials."""
        complete = [row for row in rows if row.state == "complete"]
        front = tuple(complete[i] for i in pareto.front(*_axes(complete))) if complete else ()
        return cls(study.name, study.identity, study.settings, tuple(rows), front)

    def count(self, state: State) -> int:
        """Number of evaluations that ended so."""
        return Counter(row.state for row in self.rows)[state]

    @property
    def headline(self) -> str:
        """One line for a person: the study and how its trials ended."""
        return _headline(self.study, Counter(row.state for row in self.rows), len(self.front))

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width) that the study's networks read; None where neither space nor trial tells it."""
        given = self.identity.get("space", {}).get("input")
        if given is not None:
            channels, height, width = given
            return channels, height, width
        return self.rows[0].architecture.input_shape if self.rows else None

    @property
    def rule(self) -> Rule:
        """The growth rule that every network of the study keeps."""
        rule: Rule = self.settings["rule"]
        return rule

    @property
    def cost(self) -> Literal["params", "macs"]:
        """What the study searches to make small."""
        cost: Literal["params", "macs"] = self.settings["cost"]
        return cost

    def nearest_to(self, row: Row) -> tuple[str, ...]:
        """Names of the reference networks that a warm start took this one for; see `nas.projection`."""
        return tuple(name for name, key in self.settings.get("warm_start", {}).items() if key == row.key)

    @property
    def metric(self) -> Metric:
        """What every `val_accuracy` of the study measures."""
        return metric_of(self.settings)

    @property
    def metric_words(self) -> str:
        """The metric for a person: ``accuracy`` or ``balanced accuracy``, without ``validation``."""
        return in_words(self.metric)

    @property
    def hypervolume(self) -> float | None:
        """Part of the space's box that the front dominates, 0..1, see `pareto.hypervolume`; None of a single cost."""
        low, high = self.settings["cost_range"]
        if low == high:  # a budget that leaves one cost: the box has no width
            return None
        return pareto.hypervolume(*_axes(self.front), cost_range=(low, high), classes=len(self.settings["classes"]))

    @property
    def epochs_used(self) -> int:
        """Epochs trained by complete, pruned and paused trials."""
        return sum(row.curve[-1][0] for row in self.rows if row.state != "failed" and row.curve)

    @property
    def epochs_unpruned(self) -> int:
        """Epochs that the same trials would have taken without a pruner."""
        return int(self.settings["epochs"]) * sum(row.state != "failed" for row in self.rows)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds from the first trial's start to the last one's end, pauses included; 0 of nothing."""
        if not self.rows:
            return 0.0
        first, last = min(row.started_at for row in self.rows), max(row.finished_at for row in self.rows)
        return (last - first).total_seconds()

    @property
    def best(self) -> Row | None:
        """Highest value of the metric, ties to the cheaper; None where the front is empty."""
        return self.front[pareto.best(*_axes(self.front))] if self.front else None

    @property
    def knee(self) -> Row | None:
        """Farthest above the chord between the front's ends; None where the front is empty."""
        return self.front[pareto.knee(*_axes(self.front))] if self.front else None

    def trial(self, number: int) -> Row:
        """The evaluation of one trial.

        Raises:
            StudyError: the study has no finished trial of this number.
        """
        found = next((row for row in self.rows if row.trial == number), None)
        if found is None:
            there = f"0 to {self.rows[-1].trial}" if self.rows else "none yet"
            raise StudyError(f"study {self.study!r} has no finished trial {number}; finished are {there}")
        return found

    def pick(self, text: str) -> Row:
        """The complete network that `text` names: ``trial:N``, or what `pick_of` takes.

        Raises:
            StudyError: another word, a trial that did not complete, or nothing that it names.
        """
        word, _, argument = text.partition(":")
        if word == "trial" and argument.isascii() and argument.isdecimal():
            row = self.trial(int(argument.lstrip("0")[:20] or "0"))  # Python makes no number of thousands of digits
            if row.state != "complete":
                raise StudyError(f"trial {row.trial} is {row.state} and has no final network; pick one of `nas front`")
            return row
        return self.front[pick_of(self.study, *_axes(self.front), text)]


@dataclass(frozen=True)
class Glance:
    """A study without the networks and curves off its front, of which 10,000 take seconds to read.

    Args:
        points: every evaluation in the order of trials.
        outcome: of the front; its rows are those of the front alone, so nothing of the whole study is asked of it.
    """

    points: tuple[Point, ...]
    outcome: Outcome

    @classmethod
    def read(cls, records: Records, study: str) -> Glance:
        """Read a study's records.

        Raises:
            StudyError: there is no such study, or its database is out of reach.
        """
        record = records.study(study)
        points = tuple(records.points(study))
        complete = [point for point in points if point.state == "complete"]
        trials = [complete[i].trial for i in pareto.front(*_axes(complete))] if complete else []
        rows = {row.trial: row for row in records.rows(study, trials)}
        # a search that runs may take up a trial anew between the two readings
        front = tuple(rows[trial] for trial in trials if trial in rows)
        return cls(points, Outcome(study, record.identity, record.settings, front, front))

    @property
    def headline(self) -> str:
        """As `Outcome.headline`."""
        return _headline(self.outcome.study, Counter(point.state for point in self.points), len(self.outcome.front))


def _headline(study: str, ended: Mapping[State, int], front: int) -> str:
    states: tuple[State, ...] = ("complete", "pruned", *(("paused",) if ended.get("paused") else ()), "failed")
    ends = ", ".join(f"{ended.get(state, 0)} {state}" for state in states)
    return f"Study {study}: {ends}; {front} on the front."


def pick_of(study: str, costs: Sequence[int], accuracies: Sequence[float], text: str) -> int:
    """Index of the network that `text` names: ``best``, ``knee``, ``under:P`` or ``smallest:A``.

    ``under:P`` is the best with at most P of the study's cost; P may end in k or M (``under:500k``). ``smallest:A`` is
    the cheapest with at least that accuracy, 0..1 (``smallest:0.95``).

    Raises:
        StudyError: another word, or nothing that it names; `study` is said then.
    """
    word, _, argument = text.partition(":")
    if not (text in ("best", "knee") or (word in ("under", "smallest") and argument)):
        raise StudyError(choices("pick", text, ("best", "knee", "trial:N", "under:500k", "smallest:0.95")))
    if not costs:
        raise StudyError(f"study {study!r} has no complete trial to pick from yet; run `nas search` longer")
    if word == "under":
        limit = count_of(argument)
        small = pareto.under(costs, accuracies, limit)
        if small is None:
            raise StudyError(
                f"no network of study {study!r} costs at most {limit:,}; its smallest complete one costs {min(costs):,}"
            )
        return small
    if word == "smallest":
        least = part_of(argument)
        good = [index for index, accuracy in enumerate(accuracies) if accuracy >= least]
        if not good:
            raise StudyError(
                f"no network of study {study!r} reaches {least:g}; its best one has {max(accuracies):.4f}: ask for "
                "less, or search longer"
            )
        return min(good, key=lambda index: (costs[index], -accuracies[index]))
    return pareto.best(costs, accuracies) if word == "best" else pareto.knee(costs, accuracies)


def part_of(text: str) -> float:
    """An accuracy that a person wrote, 0..1.

    Raises:
        StudyError: anything else; a percentage is answered with what was meant.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 1 < value <= 100:
        raise StudyError(f"{text!r} is no accuracy in 0..1; for {value:g} % write {value / 100:g}")
    if not 0 <= value <= 1:
        raise StudyError(f"{text[:40]!r} is no accuracy; write a number in 0..1, such as 0.95")
    return value


def count_of(text: str) -> int:
    """A whole number that a person wrote: ``200000``, ``200k``, ``1.5M``, ``200_000``.

    Raises:
        StudyError: anything else, less than 1, or more than 2**53, beyond which floats leave numbers out.
    """
    found = _NUMBER.fullmatch(text.strip().replace("_", "").replace(",", ""))
    value = float(found[1]) * _SCALES[found[2].lower()] if found else 0.0
    if value > 2**53:
        short = text if len(text) <= 40 else f"{text[:37]}..."
        raise StudyError(f"{short!r} is too large a count; write a whole number such as 200000, 200k or 1.5M")
    if value < 1 or value != int(value):
        raise StudyError(f"{text!r} is not a count; write a whole number of at least 1, such as 200000, 200k or 1.5M")
    return int(value)


def _axes(rows: Sequence[Row] | Sequence[Point]) -> tuple[list[int], list[float]]:
    # A complete row always has a reading; records of another program might not, and NaN is refused by pareto.
    accuracies = [float("nan") if row.val_accuracy is None else row.val_accuracy for row in rows]
    return [row.cost for row in rows], accuracies


MODULE_COLUMNS = ("module", "input", "1x1", "reduce 3x3", "3x3", "reduce 5x5", "5x5", "pool", "out", "share")


def modules_table(architecture: Architecture) -> list[list[str]]:
    """One line a module under `MODULE_COLUMNS`; modules count from 1, input is channels x height x width."""
    return [
        [
            str(number),
            "x".join(map(str, shape)),
            *(str(width) for width in (m.out_1x1, m.reduce_3x3, m.out_3x3, m.reduce_5x5, m.out_5x5, m.out_pool)),
            str(m.out_channels(shape[0])),
            f"{float(share):.3f}",
        ]
        for number, (m, shape, share) in enumerate(
            zip(architecture.modules, architecture.module_inputs(), architecture.shares, strict=False), start=1
        )
    ]


def rule_verdict(architecture: Architecture, rule: Rule) -> str:
    """One line: whether the growth rule that the study asks for holds, and at which module not."""
    if rule == "off":
        return "Rule off: the shares may fall."
    fall = first_fall(architecture, rule)
    return f"Rule {rule}: " + ("holds." if fall is None else f"broken, the share falls at module {fall + 1}.")
