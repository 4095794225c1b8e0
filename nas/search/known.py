"""What a search knows of a network before it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a proposal before it is tried.

    Args:
        cost: what objective 1 will be, finite.
        amounts: more finite numbers > 0 that the value may depend on, such as multiply-adds: always as many.
        key: two proposals with one key are the same; None says so by what the model sees of them.
        shape: finite numbers, about 0..1, by which the model sees it in place of its parameters: always as many. For
            parameters that are moved, rounded or repaired before they are what is tried.
    """

    cost: float
    amounts: tuple[float, ...] = ()
    key: str | None = None
    shape: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class KnownOf:
    """What is known of proposals, for a sampler that asks for many of them at once.

    Args:
        one: what is known of parameters; None where a study cannot take them.
        many: the same of each of several.
    """

    one: Callable[[dict[str, Any]], Known | None]
    many: Callable[[Sequence[dict[str, Any]]], Sequence[Known | None]]

    def __call__(self, params: dict[str, Any]) -> Known | None:
        """`one`."""
        return self.one(params)
