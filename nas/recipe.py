"""How a trial trains, as data: what a space's TOML states and a study keeps as a part of its identity."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

TRAINING_VERSION = 1
"""Which training a recorded curve came from.

Raise it with every change after which the same network, images, recipe and seed give another curve; the golden curves
in the tests notice one. It is a part of a study's identity and of what a recorded evaluation is looked up by: results
under an older version are kept and shown, but no longer stand for new ones, and a study is not gone on with under
another. 0 was unfrozen.
"""

WHITEN_NEEDS = "whiten = true needs a convolution as the stem's first layer"


class Augmentation(BaseModel):
    """What happens to a batch of training images, on the device. The neutral values do nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = False
    crop: int = Field(default=0, ge=0, description="pixels of zero padding before a crop back to the input's size")
    erase: float = Field(default=0.0, ge=0, le=1, description="probability of erasing a rectangle")


class Recipe(BaseModel):
    """The numbers of a brief training, all finite. Weight decay is decoupled and spares biases and norms."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = Field(ge=1)
    batch: int = Field(ge=2, description="batch norm needs two images")
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float = Field(default=5.0, gt=0, description="largest global norm of the gradients")
    warmup: float = Field(default=0.1, ge=0, le=1, description="part of all steps with a rising learning rate")
    whiten: bool = Field(default=False, description="the stem's first convolution is fixed: whitened principal patches")
    augmentation: Augmentation = Augmentation()
