"""What a file of records holds beside evaluations: known networks and full trainings, a line of JSON each. Torch-free.

A line is ``# `` and ``{"baseline": {...}}`` or ``{"refinement": {...}}``, so that readers of the table pass it over.
Weights are not in a file: the sums of those that there were are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from nas.architecture import Architecture
from nas.baseline_rows import RECIPES, Baseline, Kind
from nas.context import canonical
from nas.errors import choices
from nas.metric import metric_of
from nas.record_cells import deep, parsed, value_of
from nas.record_checks import at, check_confusion, check_curve, check_times
from nas.records import Row
from nas.references import REFERENCES
from nas.refined import Refinement
from nas.seeds import training_seed

OUTSIDE = -1
"""Trial of a full training whose network no trial proposed: a point of the line."""
AGAIN = 0.01
"""By how much a known network's confusion matrix may differ from its accuracy: it is read once more from the weights,
and on a GPU an image at the border may then be answered otherwise."""
KINDS: dict[str, type[Baseline] | type[Refinement]] = {"baseline": Baseline, "refinement": Refinement}
_TEXTS = ("kind", "name", "key", "recipe_name", "device", "dataset", "split", "weights_sha256")
_OPTIONAL = {"baseline": ("architecture", "confusion", "weights_sha256", "versions"), "refinement": ("versions",)}


def line_of(one: Baseline | Refinement) -> str:
    """A training as a line of a file, without its end."""
    kind = "baseline" if isinstance(one, Baseline) else "refinement"
    return f"# {canonical({kind: {name: _plain(getattr(one, name)) for name in KINDS[kind].__dataclass_fields__}})}"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Architecture):
        return value.to_json()
    return dict(value) if isinstance(value, Mapping) else value


def training_of(line: str) -> Baseline | Refinement:
    """What a line says.

    Raises:
        ValueError, ArchitectureError: it is no line of `line_of`.
    """
    given = parsed(line.removeprefix("# "))
    kind = next(iter(given), None) if isinstance(given, dict) and len(given) == 1 else None
    if kind not in KINDS or not isinstance(given[kind], dict) or deep(given):
        raise ValueError("neither a baseline nor a refinement")
    made, fields = KINDS[kind], given[kind]
    for name in fields:
        if name not in made.__dataclass_fields__:
            raise ValueError(choices("field", name, made.__dataclass_fields__))
    missing = [name for name in made.__dataclass_fields__ if name not in fields]
    if missing:
        raise ValueError(f"field {missing[0]!r} is missing")
    values: dict[str, Any] = {
        name: None if value is None and name in _OPTIONAL[kind] else _value(name, value)
        for name, value in fields.items()
    }
    return made(**values)


def _value(name: str, value: Any) -> Any:
    if name in _TEXTS:
        if not isinstance(value, str) or any("\ud800" <= half <= "\udfff" for half in value):
            raise ValueError(f"{name} is not text")
        return value
    if name == "trial" and value == OUTSIDE:
        return OUTSIDE
    if name == "architecture":
        return Architecture.from_json(value)
    return value_of(name, value if isinstance(value, str) else canonical(value))


def check_trainings(
    path: str,
    identity: Mapping[str, Any],
    settings: Mapping[str, Any],
    rows: Sequence[tuple[int, Row]],
    trainings: Sequence[Baseline | Refinement],
) -> None:
    """Hold known networks and full trainings to all that must be true of them beside a study.

    Args:
        path: of the file, for a person.
        identity, settings, rows: the study's, as `nas.record_checks.check` has passed them.

    Raises:
        StudyError: one line with the file, the training, counted from 1, and what is wrong.
    """
    networks = {row.trial: row.key for _, row in rows}
    points = {one.key for one in trainings if isinstance(one, Baseline) and one.kind == "line"}
    seen: set[tuple[object, ...]] = set()
    for number, one in enumerate(trainings, start=1):
        with at(f"{path}, training {number}"):
            _check(one, identity)
            if isinstance(one, Baseline):
                _check_baseline(one, identity["data"], settings)
                name: tuple[object, ...] = (one.kind, one.name, one.key, one.input_shape)
            else:
                name = (one.key,)
                if one.key not in points if one.trial == OUTSIDE else networks.get(one.trial) != one.key:
                    raise ValueError(f"trial {one.trial} has no network {one.key} in this file")
            name = (type(one), *name, one.recipe_hash, one.replicate)
            if name in seen:
                raise ValueError("it is there twice")
            seen.add(name)


def _check(one: Baseline | Refinement, identity: Mapping[str, Any]) -> None:
    epochs = one.recipe.get("epochs")
    if type(epochs) is not int or not 1 <= epochs <= 2**53:
        raise ValueError("its recipe has no number of epochs")
    seed = training_seed(identity["seed"], one.key, one.replicate)
    if one.seed != seed:
        raise ValueError(f"seed is {one.seed}, it should be {seed}")
    last = check_curve(one.curve, epochs)
    if last != epochs:
        raise ValueError(f"its curve ends at epoch {last}, not {epochs}")
    if one.val_accuracy != one.curve[-1][1]:
        raise ValueError(f"val_accuracy is {one.val_accuracy}, it should be {one.curve[-1][1]}")
    check_times(one)


def _check_baseline(one: Baseline, data: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    classes = len(settings["classes"])
    words: list[tuple[str, str, Sequence[str]]] = [
        ("kind", one.kind, get_args(Kind)),
        ("recipe_name", one.recipe_name, RECIPES),
    ]
    for what, said, allowed in words:
        if said not in allowed:
            raise ValueError(choices(what, said, allowed))
    known = REFERENCES.get(one.name) if one.kind == "reference" else None
    at_side = None if known is None else known.at(one.input_shape[1])
    network = one.architecture if at_side is None else at_side.network(classes)
    wanted: list[tuple[str, Any, Any]] = [
        ("dataset", one.dataset, data.get("images")),
        ("split", one.split, data.get("split")),
    ]
    if at_side is not None:
        wanted += [("input_shape", one.input_shape, at_side.input_shape)]
    if network is not None:
        wanted += [("params", one.params, network.params), ("macs", one.macs, network.macs)]
    if one.architecture is not None:
        wanted += [
            ("key", one.key, one.architecture.key),
            ("input_shape", one.input_shape, one.architecture.input_shape),
            ("number of classes", one.architecture.classes, classes),
        ]
    for what, given, true in wanted:
        if true is not None and given != true:
            raise ValueError(f"{what} is {given}, it should be {true}")
    if one.confusion is not None:
        check_confusion(one.confusion, classes, metric_of(settings), one.val_accuracy, AGAIN)


def read_lines(path: str, lines: Sequence[str]) -> tuple[Baseline | Refinement, ...]:
    """The trainings of a file's lines, in their order.

    Raises:
        StudyError: one line with the file, the training, counted from 1, and what is wrong.
    """
    found = []
    for number, line in enumerate(lines, start=1):
        with at(f"{path}, training {number}"):
            found.append(training_of(line))
    return tuple(found)
