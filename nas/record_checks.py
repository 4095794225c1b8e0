"""What must be true of a study's evaluations, so that a file of them may become a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from statistics import fmean
from typing import Any

from nas.architecture import RULES
from nas.baseline_rows import Baseline
from nas.errors import ArchitectureError, StudyError, choices
from nas.metric import METRICS, Metric, metric_of
from nas.records import Row
from nas.refined import Refinement
from nas.seeds import training_seed


def check(name: str, identity: Mapping[str, Any], settings: Mapping[str, Any], rows: Sequence[tuple[int, Row]]) -> None:
    """Hold a study's evaluations to all that must be true of them.

    Args:
        name: of the file, for a person.
        identity, settings: the study's.
        rows: (study seed, evaluation).

    Raises:
        StudyError: one line with the file, the row, counted from 1, and what is wrong.
    """
    with at(f"{name}, header"):
        _check_header(identity, settings)
    cost, epochs, classes = settings["cost"], settings["epochs"], len(settings["classes"])
    metric = metric_of(settings)
    trials: set[tuple[int, int]] = set()
    ended: set[tuple[int, str]] = set()
    for number, (seed, row) in enumerate(rows, start=1):
        with at(f"{name}, row {number}"):
            _check_row(seed, row, cost, epochs, classes)
            _check_answers(row, classes, metric)
            if (seed, row.trial) in trials:
                raise ValueError(f"trial {row.trial} of study seed {seed} is there twice")
            trials.add((seed, row.trial))
            if row.state != "failed":  # one that was killed may have been tried again
                if (seed, row.key) in ended:
                    raise ValueError(f"network {row.key} of study seed {seed} ended twice")
                ended.add((seed, row.key))


def wrong(row: Row, identity: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """What contradicts itself in one evaluation of a study, paused ones included; None where nothing does.

    Args:
        identity, settings: the study's, as `check` takes them.
    """
    ended = replace(row, state="pruned", reason=row.reason or "set aside") if row.state == "paused" else row
    try:
        _check_row(identity["seed"], ended, settings["cost"], settings["epochs"], len(settings["classes"]))
        _check_answers(row, len(settings["classes"]), metric_of(settings))
    except ValueError as error:
        return str(error)
    return None


def check_complete(name: str, identity: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Hold a study to what all its commands need, beyond what a table of recorded trainings has to say.

    Args:
        name: of the file, for a person.

    Raises:
        StudyError: something is missing.
    """
    data = identity["data"]
    lacks = [f"identity.data.{part}" for part in ("images", "split") if data.get(part) is None]
    lacks += [f"settings.{part}" for part in NEEDED if settings.get(part) is None]
    if lacks:
        raise StudyError(
            f"{name} makes no study: its header lacks {', '.join(lacks)}; `nas records export` writes them"
        )


def _check_header(identity: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """What the front, the report and a resume read without asking."""
    space, classes = identity.get("space"), settings.get("classes")
    data, given = identity.get("data"), space.get("input") if isinstance(space, Mapping) else None
    for what, good in (
        ("identity.space", isinstance(space, Mapping) and space.get("cost") == settings.get("cost")),
        ("identity.space.input", given is None or (_all(given, 3, _size) and len(given) == 3)),
        ("identity.data", isinstance(data, Mapping) and all(_text(data.get(part, "")) for part in ("images", "split"))),
        ("identity.seed", _whole(identity.get("seed"), 0)),
        ("settings.cost", settings.get("cost") in ("params", "macs")),
        ("settings.rule", settings.get("rule") in RULES),
        ("settings.epochs", _whole(settings.get("epochs"), 1)),
        ("settings.metric", metric_of(settings) in METRICS),
        ("settings.classes", _all(classes, 2, _text)),
        ("settings.cost_range", _range(settings.get("cost_range"))),
    ):
        if not good:
            raise ValueError(f"{what} is missing or out of range")
    for where, told, known in (
        ("identity.space", space or {}, {"recipe": _table, "widths": _table, "budget": _table}),
        ("identity", identity, dict.fromkeys(("split_seed", "train_limit", "training_version"), _count)),
        ("settings", settings, _SETTINGS),
    ):
        for name, fits in known.items():
            if told.get(name) is not None and not fits(told[name]):
                raise ValueError(f"{where}.{name} is of another kind than `nas records export` writes")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= 2**53


def _count(value: Any) -> bool:
    return _whole(value, 0)


def _size(value: Any) -> bool:
    return _whole(value, 1)


def _range(value: Any) -> bool:
    return _all(value, 2, _size) and len(value) == 2 and value[0] <= value[1]


def _text(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= half <= "\udfff" for half in value)


def _moment(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).utcoffset() is not None
    except (TypeError, ValueError):
        return False


def _table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _words(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_text, value.values()))


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_number, value))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300


def _all(values: Any, least: int, good: Callable[[Any], bool]) -> bool:
    return isinstance(values, list) and len(values) >= least and all(map(good, values))


NEEDED = (
    "created_at", "dataset", "mean", "skip_broken", "space", "space_toml", "split_seed", "std", "validation_images"
)  # fmt: skip
# What a study may say of itself; a table of recorded trainings may leave it out.
_SETTINGS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("hardware", "pruner", "sampler", "space", "space_toml"), _text),
    "created_at": _moment,
    **dict.fromkeys(("command", "dataset"), lambda value: isinstance(value, str)),  # a folder's bytes may be no text
    **dict.fromkeys(("train_images", "validation_images", "test_images", "skipped_images", "train_limit"), _count),
    **dict.fromkeys(("seed", "split_seed", "trials", "validation_limit", "workers"), _count),
    **dict.fromkeys(("epoch_seconds", "mean", "std"), _numbers),
    **dict.fromkeys(("versions", "warm_start"), _words),
    "options": _table,
    "skip_broken": lambda value: isinstance(value, bool),
}
# Of a trial's verdict: what a pruner may have written.
_STOPPED: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("rung", "dominated_by"), _count),
    **dict.fromkeys(("deficit", "margin"), _number),
    "spared": lambda value: isinstance(value, bool),
}


def _check_row(study_seed: int, row: Row, cost: str, epochs: int, classes: int) -> None:
    """All that must hold within a row; ValueError says what does not."""
    network = row.architecture
    true_cost = network.params if cost == "params" else network.macs
    for what, given, true in (
        ("key", row.key, network.key),
        ("params", row.params, network.params),
        ("macs", row.macs, network.macs),
        ("cost", row.cost, true_cost),
        ("number of classes", network.classes, classes),
        ("seed", row.seed, training_seed(study_seed, row.key)),
        ("val_accuracy", row.val_accuracy, row.curve[-1][1] if row.curve else None),
    ):
        if given != true:
            raise ValueError(f"{what} is {given}, it should be {true}")
    last = check_curve(row.curve, epochs)
    if row.state not in ("complete", "pruned", "failed"):
        raise ValueError(choices("state", row.state, ("complete", "pruned", "failed")))
    if (row.state == "complete") != (row.reason is None):
        raise ValueError(f"a {row.state} one has {'no reason' if row.reason is None else 'a reason'}")
    if row.killed and row.state != "failed":
        raise ValueError(f"a killed one is failed, not {row.state}")
    if row.state == "complete" and last != epochs:
        raise ValueError(f"a complete one ends at epoch {epochs}, not {last}")
    if row.state == "pruned" and not row.curve:
        raise ValueError("a pruned one has a curve")
    check_times(row)
    for name, fits in _STOPPED.items():
        if (row.stopped or {}).get(name) is not None and not fits((row.stopped or {})[name]):
            raise ValueError(f"stopped: {name} is of another kind than a pruner writes")
    for name, value in (row.coordinates or {}).items():
        if not 0 <= value <= 1:
            raise ValueError(f"coordinate {name} is {value}, not in 0..1")


def _check_answers(row: Row, classes: int, metric: Metric) -> None:
    if row.confusion is None:
        return
    if row.state != "complete":
        raise ValueError(f"a {row.state} one has no confusion matrix")
    check_confusion(row.confusion, classes, metric, row.val_accuracy)


def check_curve(curve: Sequence[tuple[int, float, float]], epochs: int) -> int:
    """Hold a learning curve to what must be true of it; its last epoch, 0 of none.

    Raises:
        ValueError: what is not.
    """
    before = 0
    for epoch, accuracy, loss in curve:
        if not before < epoch <= epochs:
            raise ValueError(f"the curve's epochs must rise from 1 to {epochs} at most, {epoch} follows {before}")
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy {accuracy} at epoch {epoch} is not in 0..1")
        if not math.isfinite(loss):
            raise ValueError(f"training loss {loss} at epoch {epoch} is not finite")
        before = epoch
    return before


def check_times(one: Row | Baseline | Refinement) -> None:
    """Refuse a training that took a time or was at a time that nothing takes or is at.

    Raises:
        ValueError: which.
    """
    if not (math.isfinite(one.seconds) and one.seconds >= 0):
        raise ValueError(f"{one.seconds} seconds")
    if not 1970 <= min(one.started_at, one.finished_at).year <= max(one.started_at, one.finished_at).year < 9999:
        raise ValueError(f"it began {one.started_at} and ended {one.finished_at}")


def check_confusion(
    matrix: Sequence[Sequence[int]], classes: int, metric: Metric, val_accuracy: float | None, off: float = 0.0
) -> None:
    """Hold a confusion matrix to the reading that it says more of.

    Args:
        off: by how much they may differ.

    Raises:
        ValueError: what is wrong.
    """
    if len(matrix) != classes or any(len(line) != classes for line in matrix):
        raise ValueError(f"the confusion matrix is not {classes} x {classes}")
    images = [sum(line) for line in matrix]
    right = [line[label] for label, line in enumerate(matrix)]
    if not sum(images):
        raise ValueError("the confusion matrix has no images")
    read = sum(right) / sum(images)
    if metric == "balanced-accuracy":
        read = fmean(hits / there for hits, there in zip(right, images, strict=True) if there)
    if val_accuracy is None or abs(read - val_accuracy) > off:
        raise ValueError(f"val_accuracy is {val_accuracy}, its confusion matrix says {read}")


@contextmanager
def at(place: str) -> Iterator[None]:
    """Say where it is wrong."""
    try:
        yield
    except (ValueError, ArchitectureError) as error:
        raise StudyError(f"{place}: {error}") from error
