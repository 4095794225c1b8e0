"""The reference networks' own recipes as data, each as its source states it. Torch-free."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from nas.errors import StudyError
from nas.references import REFERENCES, reference

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100_MEAN, CIFAR100_STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)


class OneCycle(BaseModel):
    """Learning rate by the step (Smith and Topin 2018): up to the recipe's rate and down again, along cosines.

    It begins at rate / div and ends at rate / div / final_div. AdamW's first beta goes the other way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    warmup: float = 0.3
    div: float = 25.0
    final_div: float = 1000.0
    high_beta: float = 0.95
    low_beta: float = 0.85


class Published(BaseModel):
    """How a known network was trained where it was published; every number is its source's.

    Args:
        epochs: published; a training may have others.
        weight_decay: of all weights, biases and norms too. Adam adds it to the gradient (L2), AdamW decouples it.
        one_cycle: None keeps the learning rate.
        clip_norm: largest global norm of the gradients; None clips nothing.
        initialisation: as `nas.references.Reference` has it.
        crop: pixels of black padding before a crop back to the input's size.
        jitter: brightness, contrast, saturation and hue, as torchvision's ColorJitter takes them; None: none.
        mean, std: of a channel, pixels in 0..1; 0 and 1 leave pixels in 0..1.
        erase: probability of erasing a rectangle, after normalising.
        tf32: CUDA may round the inputs of products to 19 bits.
        trained_on: the part of its source's training images that trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int
    batch: int
    optimiser: Literal["adam", "adamw"]
    learning_rate: float
    weight_decay: float = 0.0
    one_cycle: OneCycle | None = None
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    initialisation: Literal["default", "kaiming-normal"] = "default"
    crop: int = 0
    flip: bool = False
    jitter: tuple[float, float, float, float] | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    erase: float = 0.0
    tf32: bool = False
    trained_on: str


_ALL = "all 50,000 training images"
_ALEXNET_AND_NIN = Published(
    epochs=10,
    batch=126,
    optimiser="adam",
    learning_rate=1e-3,
    weight_decay=5e-4,
    crop=4,
    flip=True,
    mean=CIFAR10_MEAN,
    std=CIFAR10_STD,
    trained_on=_ALL,
)
PUBLISHED: dict[str, Published] = {
    "inception-cifar": Published(
        epochs=40,
        batch=1024,
        optimiser="adamw",
        learning_rate=1e-2,
        weight_decay=1e-4,
        one_cycle=OneCycle(),
        label_smoothing=0.1,
        clip_norm=5.0,
        crop=4,
        flip=True,
        jitter=(0.2, 0.2, 0.2, 0.1),
        mean=CIFAR100_MEAN,
        std=CIFAR100_STD,
        erase=0.25,
        tf32=True,
        trained_on="the first 45,000 training images and validated on the last 5,000",
    ),
    "small-googlenet": Published(
        epochs=30,
        batch=256,
        optimiser="adam",
        learning_rate=1e-3,
        initialisation=REFERENCES["small-googlenet"].initialisation,
        trained_on=_ALL,
    ),
    "alexnet-cifar-plain": _ALEXNET_AND_NIN,
    "alexnet-cifar": _ALEXNET_AND_NIN,
    "nin-cifar": _ALEXNET_AND_NIN,
}
"""By the network's name. The single modules have none, and GoogLeNet's of ImageNet is not written down here."""


def published_recipe(name: str) -> Published:
    """The recipe of a reference network.

    Raises:
        ArchitectureError: there is no such network; the nearest name is said.
        StudyError: it has no published recipe that is known here; says what to do.
    """
    one = reference(name)
    if name in PUBLISHED:
        return PUBLISHED[name]
    why = (
        "a single module has no published recipe"
        if one.module is not None
        else f"the recipe that {name} was published with is for ImageNet and is not kept here"
    )
    raise StudyError(f"{why}: train it with --recipe study")


def as_json(recipe: Published, epochs: int) -> dict[str, Any]:
    """The recipe with another number of epochs, for the record."""
    return {**recipe.model_dump(mode="json"), "epochs": epochs}
