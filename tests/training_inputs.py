"""Small inputs for the tests of training: pictures that a small network learns in seconds, and such networks."""

from __future__ import annotations

import torch

from nas.architecture import Architecture, Conv, InceptionWidths, MaxPool
from nas.data import Dataset, Part
from nas.recipe import Augmentation, Recipe

CLASSES = 4
RECIPE = Recipe(
    epochs=4,
    batch=32,
    learning_rate=0.02,
    weight_decay=0.01,
    label_smoothing=0.1,
    augmentation=Augmentation(crop=1, erase=0.2),
)


def network(
    *, dropout: float = 0.0, auxiliary: tuple[int, ...] = (), batch_norm: bool = True, size: int = 8
) -> Architecture:
    """Two small modules with a pool between them."""
    stem = (Conv(8, batch_norm=batch_norm), MaxPool()) if not auxiliary else (Conv(8, batch_norm=batch_norm),)
    return Architecture(
        (1, size, size),
        CLASSES,
        stem,
        ((InceptionWidths(4, 2, 4, 2, 2, 2),), (InceptionWidths(4, 4, 6, 2, 4, 2),)),
        (MaxPool(),),
        batch_norm=batch_norm,
        conv_bias=not batch_norm,
        dropout=dropout,
        auxiliary=auxiliary,
    )


def part(images: int, seed: int, size: int = 8) -> Part:
    """A bright bar on noise; its class is its quarter turn and half: easy, but not for a constant answer."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % CLASSES
    pixels = torch.randint(0, 120, (images, size, size), generator=draws)
    for row, label in enumerate(labels.tolist()):
        at = int(torch.randint(0, size // 2 - 1, (), generator=draws)) + (size // 2 if label % 2 else 0)
        if label < 2:
            pixels[row, at, :] += 130
        else:
            pixels[row, :, at] += 130
    return Part(pixels.to(torch.uint8)[..., None].permute(0, 3, 1, 2), labels)


def dataset(train: int = 134, validation: int = 60, size: int = 8) -> Dataset:
    """By default 134 training images: with a batch of 32 the last one holds six."""
    sides = part(train, 1, size), part(validation, 2, size)
    pixels = sides[0].images / 255 if train else torch.zeros(2)
    classes = tuple("abcd")
    mean, std = (pixels.mean().item(),), (pixels.std().item(),)
    return Dataset("bars", classes, *sides, test_size=0, mean=mean, std=std, digest="d", split_digest="s")
