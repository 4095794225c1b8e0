"""What decides a training beside its network and seed: where this is equal, one study may answer for another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.metric import Metric, metric_of


@dataclass(frozen=True, slots=True)
class Context:
    """A study's identity as hashes, one for each column of an evaluation: SHA-256 in hexadecimal of canonical JSON.

    Args:
        space: the whole space, as it was narrowed, recipe included.
        dataset: the images' content and labels.
        split: which images train, validate and test.
        recipe: the space's recipe, the limit on training images, the metric and the version of training.
        training_version: None where the study says none.
        metric: what a reading measures.

    A hash is None where the identity lacks that part; nothing is equal to it then, see `trains_as`.
    """

    space: str | None
    dataset: str | None
    split: str | None
    recipe: str | None
    training_version: int | None
    metric: Metric

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> Context:
        """The context of a study; an identity of another shape gives None for what is not there."""
        space, data = _mapping(identity.get("space")), _mapping(identity.get("data"))
        recipe = space.get("recipe")
        training = {
            "recipe": recipe,
            "train_limit": identity.get("train_limit"),
            "metric": metric_of(identity),
            "training_version": identity.get("training_version"),
        }
        return cls(
            space=_hash(space or None),
            dataset=_hash(data.get("images")),
            split=_hash(data.get("split")),
            recipe=None if recipe is None else _hash(training),
            training_version=identity.get("training_version"),
            metric=metric_of(identity),
        )

    def trains_as(self, other: Context) -> bool:
        """Whether a network trains alike in both, given seed, device and threads: the space does not matter."""
        mine, others = (self.dataset, self.split, self.recipe), (other.dataset, other.split, other.recipe)
        return None not in mine and mine == others

    @property
    def columns(self) -> dict[str, str | None]:
        """The hashes by their columns' names."""
        return {"space": self.space, "dataset": self.dataset, "split": self.split, "recipe": self.recipe}


def canonical(value: Any) -> str:
    """JSON that is equal for equal content.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(value: Any) -> str | None:
    return None if value is None else hashlib.sha256(canonical(value).encode()).hexdigest()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
