"""What the shipped spaces say beside their widths: images that exist, augmentation that suits, an epoch that runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.data import SOURCES, Dataset, Part, load_dataset
from nas.recipe import Augmentation
from nas.space import list_spaces, load_space
from nas.training import Training
from tests.archives import ARCHIVES

SPACES = list_spaces()


@pytest.mark.parametrize("name", SPACES)
def test_one_epoch_of_a_middle_network(name: str) -> None:
    """Three images of 224x224 in batches of two, or fewer than a batch where they are small."""
    space = load_space(name)
    network = space.decode([0.5] * len(space.coordinates))
    pixels = torch.randint(
        0, 256, (5, *space.input_shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.tensor([0, 1, space.classes - 1, 0, 1])
    train, validation = (Part(pixels[rows], labels[rows]) for rows in (slice(3), slice(3, 5)))
    grey = (0.5,) * space.input_shape[0]
    classes = tuple(str(label) for label in range(space.classes))
    data = Dataset("noise", classes, train, validation, 0, mean=grey, std=grey, digest="d", split_digest="s")
    recipe = space.recipe.model_copy(update={"epochs": 1, "batch": 2})
    (result,) = Training(network, data, recipe, seed=0, device="cpu").fit()
    assert np.isfinite(result.train_loss)


@pytest.mark.parametrize("name", SPACES)
def test_the_space_fits_its_own_data_set(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space(name)
    kind = space.dataset.partition(":")[0]
    assert kind in SOURCES
    if kind in ARCHIVES:
        ARCHIVES[kind](tmp_path, monkeypatch)
        data = load_dataset(kind, input_shape=space.input_shape)
        assert data.misfit == ""


def test_augmentation_by_space() -> None:
    """Mirrored, a digit is another one or none; photographs and clothes are what they were."""
    given = {name: load_space(name).recipe.augmentation for name in SPACES}
    assert given == {
        "digits": Augmentation(crop=1),
        "bench": Augmentation(crop=1),
        "bench-wide": Augmentation(crop=1),
        "bench-cifar10": Augmentation(flip=True, crop=2),
        "bench-wide-cifar10": Augmentation(flip=True, crop=2),
        "tiny": Augmentation(),
        "svhn": Augmentation(crop=2),
        "fashion-mnist": Augmentation(flip=True, crop=2),
        "cifar10": Augmentation(flip=True, crop=4),
        "cifar100": Augmentation(flip=True, crop=4, erase=0.25),
        "imagenet": Augmentation(flip=True, crop=28, erase=0.25),
    }
