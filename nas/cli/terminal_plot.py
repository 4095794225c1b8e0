"""Points in a terminal: a log scale of costs, one mark a kind, in columns of text.

Why no library: uniplot tells kinds apart by colour alone, which a pipe does not have, and writes 10^3.5 at its ticks;
plotext takes 0.15 s to load and is untyped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

NARROWEST, WIDEST = 30, 100
"""Columns."""
_PLAIN = str.maketrans("●○·◆□■▲│┤└─┬", "*o.#%@^|+`-+")


@dataclass(frozen=True)
class Kind:
    """Points of one kind.

    Args:
        name: in the legend.
        mark: one character, of those that have a plain one beside them.
        style: rich's.
        points: (cost above 0, accuracy 0..1).
    """

    name: str
    mark: str
    style: str
    points: Sequence[tuple[float, float]]


def draw(
    kinds: Sequence[Kind],
    *,
    width: int,
    height: int,
    low: float,
    title: str,
    encoding: str,
) -> list[Text]:
    """Lines of at most `width` columns: a title, `height` of points, the scale of costs, the legend.

    Args:
        kinds: later ones lie over earlier ones; one without a point in the plot is not in the legend.
        width: at least `NARROWEST`.
        height: at least 2.
        low: points of a lower accuracy are left out.
        encoding: of the output; where it has no such characters as ●, plain ones stand for all.

    Returns:
        No line where no point is left.
    """
    from rich.text import Text

    shown = [(kind, [(math.log10(x), y) for x, y in kind.points if y >= low]) for kind in kinds]
    shown = [(kind, points) for kind, points in shown if points]
    if not shown:
        return []
    xs, ys = ([point[axis] for _, points in shown for point in points] for axis in (0, 1))
    left, right = _room(min(xs), max(xs), 0.02)
    bottom, top = _room(min(ys), max(ys), 0.002)
    step, decimals = _step(top - bottom, max(2, height // 3))
    ticks = [n * step for n in range(math.ceil(bottom / step), math.floor(top / step) + 1)]
    margin = max((len(f"{tick:.{decimals}f}") for tick in ticks), default=0) + 1
    columns = width - margin - 1

    def column(x: float) -> int:
        return min(columns - 1, int((x - left) / (right - left) * columns))

    def line(y: float) -> int:
        return height - 1 - min(height - 1, int((y - bottom) / (top - bottom) * height))

    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for kind, points in shown:
        for x, y in points:
            cells[line(y), column(x)] = kind.mark, kind.style
    at = {line(tick): f"{tick:.{decimals}f}" for tick in ticks}
    lines = [Text(title[:width])]
    for n in range(height):
        lines.append(Text(f"{at.get(n, ''):>{margin - 1}} {'┤' if n in at else '│'}"))
        for m in range(columns):
            lines[-1].append(*cells.get((n, m), (" ", "")))
        lines[-1].rstrip()
    rule, labels = ["─"] * columns, [" "] * (columns + margin + 1)
    free = 0
    for cost, label in _costs(left, right, columns):
        m = column(cost)
        start = min(m + margin + 1 - len(label) // 2, len(labels) - len(label))
        if start >= free:
            rule[m] = "┬"
            labels[start : start + len(label)] = label
            free = start + len(label) + 2
    lines += [Text(" " * margin + "└" + "".join(rule)), Text("".join(labels).rstrip())]
    lines += _legend([kind for kind, _ in shown], width)
    return lines if _written("".join(line.plain for line in lines), encoding) else [_plain(line) for line in lines]


def _room(low: float, high: float, least: float) -> tuple[float, float]:
    """A little more than what is drawn, so that no range is empty."""
    more = max(least, 0.02 * (high - low))
    return low - more, high + more


def _step(span: float, most: int) -> tuple[float, int]:
    """A round step that takes at most `most` ticks over `span`, and its decimals."""
    power = math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10):
        if span / (factor * 10.0**power) <= most:
            break
    return factor * 10.0**power, max(0, -power - (factor == 10))


def _costs(left: float, right: float, columns: int) -> Iterable[tuple[float, str]]:
    """Where costs are written and how: round ones, as many as there is room for."""
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        costs = [factor * 10.0**power for power in range(math.floor(left), math.ceil(right)) for factor in factors]
        inside = [cost for cost in costs if left <= math.log10(cost) <= right]
        if len(inside) <= columns // 10:
            break
    if len(inside) < 2:  # less than from one round number to the next
        inside = [10 ** (left + (right - left) * part) for part in (0.1, 0.9)]
    return [(math.log10(cost), _short(cost)) for cost in inside]


def _short(cost: float) -> str:
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if cost >= scale:
            return f"{cost / scale:.3g}{letter}"
    return f"{cost:.3g}"


def _legend(kinds: Iterable[Kind], width: int) -> list[Text]:
    from rich.text import Text

    lines = [Text()]
    for kind in kinds:
        entry = Text.assemble((kind.mark, kind.style), f" {kind.name}")
        if lines[-1] and len(lines[-1]) + len(entry) + 3 > width:
            lines.append(Text())
        lines[-1].append("   " if lines[-1] else "").append_text(entry)
    for line in lines:
        line.truncate(width)
    return lines


def _written(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _plain(line: Text) -> Text:
    plain = line.copy()
    plain.plain = line.plain.translate(_PLAIN)  # one character for another, so the styles stay where they are
    return plain
