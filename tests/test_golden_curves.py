"""The same network, images, recipe and seed give the curve that is kept under this `TRAINING_VERSION`."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nas.recipe import Augmentation, Recipe
from nas.training import TRAINING_VERSION
from tests import golden

KEPT = json.loads(golden.FILE.read_text())
WHAT_TO_DO = (
    "training has changed: recorded results stand for another one. Take the change back, or raise TRAINING_VERSION, "
    "run `python -m tests.golden`, and say in the README what changed"
)
# Instruction sets (AVX-512, AVX2, SSE) moved the first epoch's loss by 2e-7 of itself, the third's by 6e-4, the
# weights by 4e-5: batch norm over the maps of few images magnifies what rounding differs in.
NEAR = {"train_loss": (1e-5, 1e-3, 4e-3), "weights": (2e-5, 5e-5, 3e-4), "statistics": (1e-3, 2e-3, 2e-2)}


def changes(name: str, found: list[dict[str, float]]) -> Iterator[str]:
    """What is not as it was kept."""
    for epoch, (now, then) in enumerate(zip(found, KEPT["curves"][name], strict=True)):
        for key, near in NEAR.items():
            if now[key] != pytest.approx(then[key], rel=near[epoch]):
                yield f"epoch {epoch + 1}: {key} {now[key]} instead of {then[key]}"
        if abs(now["val_accuracy"] - then["val_accuracy"]) > 0.03:
            yield f"epoch {epoch + 1}: val_accuracy {now['val_accuracy']} instead of {then['val_accuracy']}"


def test_the_kept_curves_are_of_this_version() -> None:
    assert KEPT["training_version"] == TRAINING_VERSION, WHAT_TO_DO
    assert set(KEPT["curves"]) == set(golden.cases())


def test_training_gives_the_kept_curves() -> None:
    for name, found in golden.curves().items():
        assert not list(changes(name, found)), WHAT_TO_DO


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0201},
        {"weight_decay": 0.051},
        {"label_smoothing": 0.101},
        {"warmup": 0.12},
        {"batch": 33},
        {"augmentation": Augmentation(flip=True, crop=1, erase=0.29)},
        {"augmentation": Augmentation(flip=False, crop=1, erase=0.3)},
        {"clip_norm": 1.0},
    ],
    ids=str,
)
def test_a_slight_change_of_training_is_seen(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    name = "batch norm, augmentation"
    architecture, images, recipe = golden.cases()[name]
    other: Recipe = recipe.model_copy(update=change)
    monkeypatch.setattr(golden, "cases", lambda: {name: (architecture, images, other)})
    assert list(changes(name, golden.curves()[name]))
