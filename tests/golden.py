"""Short trainings whose numbers are kept: what `TRAINING_VERSION` stands for.

python -m tests.golden      # writes golden_curves.json anew, after TRAINING_VERSION was raised
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from nas.architecture import Architecture, Conv, InceptionWidths, LocalResponseNorm, MaxPool
from nas.data import Dataset, Part
from nas.recipe import Augmentation, Recipe
from nas.training import TRAINING_VERSION, Training
from tests.training_inputs import CLASSES, dataset, network

FILE = Path(__file__).parent / "golden_curves.json"


def cases() -> dict[str, tuple[Architecture, Dataset, Recipe]]:
    """Between them: batch norm and none, every augmentation, dropout, heads, local response norm, a whitened stem."""
    grey = dataset(train=300, validation=100, size=16)
    colour = replace(
        grey,
        train=_coloured(grey.train),
        validation=_coloured(grey.validation),
        mean=grey.mean * 3,
        std=grey.std * 3,
    )
    moved = Augmentation(flip=True, crop=1, erase=0.3)
    normed = replace(network(size=16), input_shape=(3, 16, 16))
    still = Recipe(epochs=2, batch=50, learning_rate=0.01, whiten=True)
    headed = Architecture(
        (1, 16, 16),
        CLASSES,
        (Conv(8, batch_norm=False), LocalResponseNorm(size=3, alpha=0.1), MaxPool()),
        ((InceptionWidths(4, 2, 4, 2, 2, 2), InceptionWidths(4, 4, 6, 2, 4, 2)),),
        (),
        batch_norm=False,
        conv_bias=True,
        dropout=0.3,
        auxiliary=(0,),
    )
    return {
        "batch norm, augmentation": (
            normed,
            colour,
            Recipe(epochs=3, batch=60, learning_rate=0.01, weight_decay=0.05, label_smoothing=0.1, augmentation=moved),
        ),
        "whitened stem": (normed, colour, still),
        "heads, dropout, local response norm": (
            headed,
            grey,
            Recipe(epochs=3, batch=32, learning_rate=0.005, weight_decay=0.02, clip_norm=1.0, warmup=0.3),
        ),
    }


def _coloured(part: Part) -> Part:
    """Three channels, each of another brightness."""
    pixels = torch.cat([part.images, part.images // 2, 255 - part.images], 1)
    return Part(pixels.to(memory_format=torch.channels_last), part.labels)


def curves() -> dict[str, list[dict[str, float]]]:
    """An epoch at a time: the loss, the accuracy, and the length of all averaged weights and of all statistics."""
    found: dict[str, list[dict[str, float]]] = {}
    for name, (architecture, images, recipe) in cases().items():
        training = Training(architecture, images, recipe, seed=7, device="cpu")
        found[name] = []
        for result in training.fit():
            state = training.averaged_state()
            weights = [value for key, value in state.items() if "running" not in key and "num_batches" not in key]
            statistics = [value for key, value in state.items() if "running" in key]
            found[name].append(
                {
                    "train_loss": result.train_loss,
                    "val_accuracy": result.val_accuracy,
                    "weights": _length(weights),
                    "statistics": _length(statistics),
                }
            )
    return found


def _length(tensors: list[torch.Tensor]) -> float:
    return float(sum((tensor.double() ** 2).sum() for tensor in tensors) ** 0.5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    FILE.write_text(json.dumps({"training_version": TRAINING_VERSION, "curves": curves()}, indent=1) + "\n")
