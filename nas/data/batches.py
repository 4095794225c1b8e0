"""Batches on the device: order, augmentation and normalisation, without a loop over images or a wait for the device.

The order is fixed: `augment` the stored bytes, then `normalise`, so that padding and erased parts are black.
Every draw comes from the caller's generator, whose device should be the images' own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from nas.recipe import Augmentation

ERASE_AREA = (0.02, 0.33)  # part of the image, as in Zhong et al. 2017, table 1
ERASE_RATIO = (0.3, 1 / 0.3)  # height / width


def shuffled(n: int, batch: int, generator: Generator) -> Iterator[Tensor]:
    """Row numbers 0..n-1 in a random order, `batch` at a time, int64 on the generator's device.

    The last batch has what is left; where that is a single image it joins the batch before, since batch norm on a
    1x1 map cannot train on one.
    """
    order = torch.randperm(n, generator=generator, device=generator.device)
    sizes = [batch] * (n // batch) + ([n % batch] if n % batch else [])
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [batch + 1]
    yield from torch.split(order, sizes)


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """(x / 255 - mean) / std per channel: (N, C, H, W) uint8 -> the same shape in `dtype`, channels_last.

    Args:
        images: pixels 0..255, uint8 or float.
        mean, std: C numbers each, of pixels in 0..1; std above 0.
    """
    # one multiplication and one addition; worked out in Python so that nothing but two short rows goes to the device
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32).to(images.device, non_blocking=True)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).to(images.device, non_blocking=True)
    pixels = images.to(torch.float32, memory_format=torch.channels_last)
    return torch.addcmul(shift.view(1, -1, 1, 1), pixels, scale.view(1, -1, 1, 1)).to(dtype)


def augment(images: Tensor, augmentation: Augmentation, generator: Generator) -> Tensor:
    """Flip, shifted crop and erase, each image by its own draws: (N, C, H, W) -> the same shape, dtype and device.

    The input is left as it is. Without any augmentation it is returned itself, and nothing is drawn.

    Args:
        images: uint8 or float, before `normalise`: 0 is black.
        augmentation: `flip` mirrors left and right with probability 1/2; `crop` p pads p black pixels on each side
            and crops back at one of (2p + 1)^2 places; `erase` blackens, with this probability, a rectangle of 2 to
            33 % of the image and a height of 0.3 to 3.3 times its width, cut to fit the image.
        generator: of the images' device, or of the CPU.
    """
    if augmentation.flip or augmentation.crop:
        images = _flip_and_crop(images, augmentation.flip, augmentation.crop, generator)
    return _erase(images, augmentation.erase, generator) if augmentation.erase else images


def _flip_and_crop(images: Tensor, flip: bool, pad: int, generator: Generator) -> Tensor:
    """One gather for both. Draws, in this order: rows down, columns right, who is mirrored; n of each."""
    n, _, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(n, height)
    columns = torch.arange(width, device=images.device).expand(n, width)
    padded = images.permute(0, 2, 3, 1)  # (N, H, W, C): a gather copies whole pixels
    if pad:
        padded = F.pad(padded, (0, 0, pad, pad, pad, pad))
        rows = rows + _whole(n, 2 * pad + 1, generator, images.device)
        columns = columns + _whole(n, 2 * pad + 1, generator, images.device)
    if flip:  # the crop is drawn on the picture as it was, then mirrored: the same distribution as the other order
        mirrored = _uniform(n, generator, images.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n, device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _erase(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Draws, in this order, n each: whether, area, ratio, top, left."""
    n, _, height, width = images.shape
    device = images.device
    chosen = _uniform(n, generator, device) < probability
    area = height * width * _between(ERASE_AREA, _uniform(n, generator, device))
    ratio = _between((math.log(ERASE_RATIO[0]), math.log(ERASE_RATIO[1])), _uniform(n, generator, device)).exp()
    tall = (area * ratio).sqrt().round().clamp(1, height)
    wide = (area / ratio).sqrt().round().clamp(1, width)
    top = (_uniform(n, generator, device) * (height - tall + 1)).floor()
    left = (_uniform(n, generator, device) * (width - wide + 1)).floor()
    row = torch.arange(height, device=device)
    column = torch.arange(width, device=device)
    rows = (row >= top) & (row < top + tall)  # (N, H)
    columns = (column >= left) & (column < left + wide)  # (N, W)
    erased = (chosen & rows)[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(erased, 0)


def _between(bounds: tuple[float, float], unit: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * unit


def _uniform(n: int, generator: Generator, device: torch.device) -> Tensor:
    """(n, 1) in [0, 1)."""
    return torch.rand(n, 1, generator=generator, device=generator.device).to(device, non_blocking=True)


def _whole(n: int, stop: int, generator: Generator, device: torch.device) -> Tensor:
    """(n, 1) int64 in 0..stop - 1."""
    return torch.randint(stop, (n, 1), generator=generator, device=generator.device).to(device, non_blocking=True)
