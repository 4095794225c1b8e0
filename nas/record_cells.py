"""What a value of a file of records is as text, and back: each is refused where it is not of its kind. Torch-free."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn


def value_of(name: str, cell: str) -> Any:
    """What the text of a value says, by the reader of its name; the text itself where it has none.

    Raises:
        ValueError: one line with the name, the text and what is wrong.
    """
    try:
        return READERS.get(name, str)(cell)
    except (ValueError, TypeError, OverflowError) as error:  # the last: a whole number too large for a float
        short = cell if len(cell) <= 60 else f"{cell[:57]}..."
        raise ValueError(f"{name} {short!r}: {error}") from error


def deep(value: Any, most: int = 50) -> bool:
    """Whether JSON data has lists or objects in each other more than `most` times: Python writes no 1,000."""
    inside = [value]
    for _ in range(most):
        nested = [item.values() if isinstance(item, dict) else item for item in inside if isinstance(item, dict | list)]
        inside = [item for items in nested for item in items]
    return bool(inside)


def _integer(cell: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", cell) or int(cell) >= 2**63:
        raise ValueError("not a whole number in 0..2**63 - 1")
    return int(cell)


def _number(cell: str) -> float:
    if not re.fullmatch(r"[-+.0-9eE]+", cell):
        raise ValueError("not a number")
    return float(cell)


def _boolean(cell: str) -> bool:
    if cell not in ("true", "false"):
        raise ValueError("neither true nor false")
    return cell == "true"


def _moment(cell: str) -> datetime:
    moment = datetime.fromisoformat(cell)
    if moment.utcoffset() != timedelta(0):
        raise ValueError("not in UTC")
    return moment.astimezone(UTC)


def _points(cell: str) -> tuple[tuple[int, float, float], ...]:
    points = []
    for point in parsed(cell):
        epoch, accuracy, loss = point
        if isinstance(epoch, bool) or not isinstance(epoch, int):
            raise ValueError("an epoch is a whole number")
        points.append((epoch, _real(accuracy), _real(loss)))
    return tuple(points)


def _matrix(cell: str) -> tuple[tuple[int, ...], ...]:
    lines = tuple(map(tuple, parsed(cell)))
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for line in lines for n in line):
        raise ValueError("numbers of images are whole and at least 0")
    return lines


def _shape(cell: str) -> tuple[int, int, int]:
    sizes = parsed(cell)
    if not (isinstance(sizes, list) and len(sizes) == 3 and all(type(n) is int and 0 < n < 2**31 for n in sizes)):
        raise ValueError("not [channels, height, width]")
    return sizes[0], sizes[1], sizes[2]


def _object(cell: str) -> dict[str, Any]:
    value = parsed(cell)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _coordinates(cell: str) -> dict[str, float]:
    return {name: _real(value) for name, value in _object(cell).items()}


def _versions(cell: str) -> dict[str, str]:
    value = _object(cell)
    if not all(isinstance(number, str) for number in value.values()):
        raise ValueError("a version is text")
    return value


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def parsed(text: str) -> Any:
    """JSON of finite numbers and whole characters.

    Raises:
        ValueError: it is none, or nested too deep.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a finite number")

    try:
        value = json.loads(text, parse_constant=refuse)
        if "\\u" in text:  # it may be half a character, which can be written nowhere; some stand for a path's bytes
            json.dumps(value, ensure_ascii=False).encode(errors="surrogateescape")
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


READERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("study_seed", "trial", "params", "macs", "cost", "seed", "threads", "replicate"), _integer),
    **dict.fromkeys(("val_accuracy", "seconds"), _number),
    **dict.fromkeys(("started_at", "finished_at"), _moment),
    "killed": _boolean,
    "curve": _points,
    "confusion": _matrix,
    **dict.fromkeys(("stopped", "recipe"), _object),
    "coordinates": _coordinates,
    "versions": _versions,
    "input_shape": _shape,
}
"""By what a value is called: columns of an evaluation, and fields of a training beside a study."""
