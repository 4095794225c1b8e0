"""A network that no Architecture describes, trained by a study's recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from nas.errors import DataError, SpaceError
from nas.models import build
from nas.training import Prebuilt, Training
from tests.training_inputs import CLASSES, RECIPE, dataset, network

DATA = dataset()


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 18, 3, padding=1),
        nn.BatchNorm2d(18),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(18, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(32, CLASSES),
    )


PLAIN = Prebuilt("plain", (1, 8, 8), CLASSES, plain)


def training(what: Any = PLAIN, **changes: Any) -> Training:
    return Training(what, DATA, changes.pop("recipe", RECIPE), seed=5, device="cpu", **changes)


def curve(one: Training) -> list[tuple[float, float]]:
    return [(result.val_accuracy, result.train_loss) for result in one.fit()]


def test_an_architecture_that_comes_prebuilt_trains_to_the_same_bits() -> None:
    architecture = network(dropout=0.3)
    given = training(Prebuilt(architecture.key, architecture.input_shape, CLASSES, lambda: build(architecture)))
    own = training(architecture)
    assert curve(given) == curve(own)
    assert all(
        torch.equal(a, b) for a, b in zip(given.averaged_state().values(), own.averaged_state().values(), strict=True)
    )


def test_a_plain_network_learns_and_goes_on_from_a_checkpoint_to_the_same_bits() -> None:
    through = training()
    whole = curve(through)
    assert whole[-1][0] > 0.6
    first, second = training(), training()
    for result in first.fit():
        if result.epoch == 2:
            break
    second.restore(first.checkpoint())
    assert curve(second) == whole[2:]
    fresh = plain()
    fresh.load_state_dict(second.averaged_state())


def test_its_first_convolution_is_whitened() -> None:
    one = training(recipe=RECIPE.model_copy(update={"whiten": True, "epochs": 1}))
    list(one.fit())
    weight = one.averaged_state()["0.weight"]
    assert torch.equal(weight[:9], -weight[9:])  # patterns and their negatives, as they were set


def test_one_without_a_convolution_cannot_be_whitened() -> None:
    dense = Prebuilt("dense", (1, 8, 8), CLASSES, lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)))
    with pytest.raises(SpaceError, match="whiten"):
        training(dense, recipe=RECIPE.model_copy(update={"whiten": True}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_shape": (3, 8, 8)}, "images of 'bars' are 1x8x8, the network reads 3x8x8"),
        ({"classes": 5}, "'bars' has 4 classes, the network 5"),
    ],
)
def test_images_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        training(replace(PLAIN, **change))
