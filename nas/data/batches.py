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
    sizes = [batch] * (n // batch)
    if sizes and n % batch == 1:
        sizes[-1] += 1
    elif n % batch:
        sizes.append(n % batch)
    yield from torch.split(order, sizes)


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """(x / 255 - mean) / std per channel: (N, C, H, W) uint8 -> the same shape in `dtype`, channels_last.

    Args:
        images: pixels 0..255, uint8 or float.
        mean, std: C numbers each, of pixels in 0..1; std above 0.
    """
    n, channels, height, width = images.shape
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32)
    # as long rows of all pixels, which the CPU adds 2.5 times as fast as channels of three; only these cross over
    scale, shift = (row.to(images.device, non_blocking=True).repeat(height * width) for row in (scale, shift))
    pixels = _rows(images).flatten(1).to(torch.float32)
    return torch.addcmul(shift, pixels, scale).to(dtype).view(n, height, width, channels).permute(0, 3, 1, 2)


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
    if not (augmentation.flip or augmentation.crop or augmentation.erase):
        return images
    n, channels, height, width = images.shape
    rows = _rows(images)
    if augmentation.crop:
        rows = _crop(rows, channels, augmentation.crop, generator)
    if augmentation.flip:
        rows = _flip(rows, channels, generator)
    if augmentation.erase:
        rows = _erase(rows, channels, augmentation.erase, generator)
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


# Below, images are (N, H, W * C): a row of pixels is one run of memory, and copying runs of 96 bytes instead of 3 took
# a fifth of the time on a CPU.


def _rows(images: Tensor) -> Tensor:
    n, channels, height, width = images.shape
    return images.permute(0, 2, 3, 1).contiguous().view(n, height, width * channels)


def _crop(rows: Tensor, channels: int, pad: int, generator: Generator) -> Tensor:
    """One gather among all windows of the padded image. Draws n places down, then n to the right."""
    n, height, run = rows.shape
    windows = F.pad(rows, (pad * channels, pad * channels, pad, pad)).unfold(1, height, 1).unfold(2, run, channels)
    down = _whole(n, 2 * pad + 1, generator, rows.device)
    right = _whole(n, 2 * pad + 1, generator, rows.device)
    return windows[torch.arange(n, device=rows.device), down, right]


def _flip(rows: Tensor, channels: int, generator: Generator) -> Tensor:
    """Draws n: mirrored under 1/2."""
    n, height, run = rows.shape
    mirrored = _uniform(n, generator, rows.device) < 0.5
    other = rows.view(n, height, run // channels, channels).flip(2)
    return torch.where(mirrored, other.flatten(1), rows.flatten(1)).view(n, height, run)


def _erase(rows: Tensor, channels: int, probability: float, generator: Generator) -> Tensor:
    """Draws, in this order, n each: whether, area, ratio, top, left."""
    n, height, run = rows.shape
    width, device = run // channels, rows.device
    chosen = _uniform(n, generator, device) < probability
    area = height * width * _between(ERASE_AREA, _uniform(n, generator, device))
    ratio = _between((math.log(ERASE_RATIO[0]), math.log(ERASE_RATIO[1])), _uniform(n, generator, device)).exp()
    tall = (area * ratio).sqrt().round().clamp(1, height)
    wide = (area / ratio).sqrt().round().clamp(1, width)
    top = (_uniform(n, generator, device) * (height - tall + 1)).floor()
    left = (_uniform(n, generator, device) * (width - wide + 1)).floor()
    row = torch.arange(height, device=device)
    column = torch.arange(run, device=device) // channels
    inside = (row >= top) & (row < top + tall) & chosen  # (N, H)
    across = (column >= left) & (column < left + wide)  # (N, W * C)
    return rows.masked_fill(inside[:, :, None] & across[:, None, :], 0)


def _between(bounds: tuple[float, float], unit: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * unit


def _uniform(n: int, generator: Generator, device: torch.device) -> Tensor:
    """(n, 1) in [0, 1)."""
    return torch.rand(n, 1, generator=generator, device=generator.device).to(device, non_blocking=True)


def _whole(n: int, stop: int, generator: Generator, device: torch.device) -> Tensor:
    """(n,) int64 in 0..stop - 1."""
    return torch.randint(stop, (n,), generator=generator, device=generator.device).to(device, non_blocking=True)
