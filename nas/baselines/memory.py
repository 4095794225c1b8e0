"""Whether a device can hold a step of a recipe at all, said before hours of waiting or a kill by the system."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.baseline_rows import RecipeName
from nas.data import streaming
from nas.errors import DeviceError
from nas.models.local_response_norm import LocalResponseNorm
from nas.training import Prebuilt

_KEPT = (nn.Conv2d, nn.Linear, _BatchNorm, LocalResponseNorm)
"""Layers whose output the backward pass needs; a ReLU or dropout after one may write over it."""


def check_memory(network: Prebuilt, recipe: RecipeName, batch: int, images: int, device: torch.device) -> None:
    """Refuse a step that cannot fit.

    Args:
        recipe: a published one is followed to the number; under the study's, CUDA computes in two bytes, and a batch
            that does not fit is trained in halves.
        batch: images of a step.
        images: that there are.

    Raises:
        DeviceError: what the step needs at least is more than the device has.
    """
    cuda, there = device.type == "cuda", device_memory(device)
    each, part = (2, 2) if cuda and recipe == "study" else (4, 1)
    needed = each * kept_numbers(network) * -(-min(batch, images) // part)
    if needed > there:
        side = "x".join(map(str, network.input_shape))
        raise DeviceError(
            f"the {recipe} recipe's batches of {batch} images at {side} need at least {needed / 1e9:.3g} GB of memory, "
            f"and {device.type} has {there / 1e9:.3g}: take a smaller --resize, or a device with more memory"
        )


def device_memory(device: torch.device) -> int:
    """Bytes of memory that a training may come to use there."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else streaming.memory()


def kept_numbers(network: Prebuilt) -> int:
    """Numbers that a training step keeps for each image, at least: outputs of convolutions, norms and linear layers."""
    total = 0

    def count(module: nn.Module, given: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel()

    with torch.device("meta"):  # shapes alone: nothing is computed, no memory is taken
        made = network.build().eval()  # batch norm would want several images
        for module in made.modules():
            if isinstance(module, _KEPT):
                module.register_forward_hook(count)
        made(torch.empty(1, *network.input_shape))
    return total
