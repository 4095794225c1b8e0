"""What `nas doctor` finds: one line for each kind of thing that it looks at, and what is wrong with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Mend = Callable[[], str]
"""Repairs, and says in one line what it did."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not whole.

    Args:
        words: one line that names the thing and what is wrong with it.
        mend: what `--repair` does about it; None where nothing but a copy helps.
    """

    words: str
    mend: Mend | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what came of it.

    Args:
        what: a kind of thing, such as ``trials``.
        words: one line: how many there are, and what was compared with what.
        problems: what is wrong.
        notes: what is not wrong and worth a line: files that carry no sum, weights that are not here.
    """

    what: str
    words: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
