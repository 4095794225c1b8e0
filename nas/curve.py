"""One reading of a training: what a learning curve is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EpochResult:
    """One reading.

    Args:
        epoch: counted from 1.
        val_accuracy: the study's metric (accuracy, or balanced accuracy) of the averaged weights on all validation
            images, 0..1.
        train_loss: mean over the epoch's images of the loss that is minimised: with label smoothing, auxiliary heads
            and augmentation, at the weights that train. Finite.
        seconds: wall clock of the epoch, its reading included.
    """

    epoch: int
    val_accuracy: float
    train_loss: float
    seconds: float
