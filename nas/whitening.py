"""A first convolution that needs no training: the strongest patterns of the images' patches, each at equal strength.

Early in a training the first convolution is busy learning what the statistics of the images say at once. Setting it to
the principal components of their patches, divided by their spread, and leaving it so, is from Jordan 2024 (arXiv
2404.00498, section 3.2); the next layers then read decorrelated inputs from the first step on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.data import Dataset, normalise

IMAGES = 1024
"""Training images that the patches come from, at most; evenly spread."""

EPS = 5e-3
"""Added to a pattern's variance (pixels have variance 1), so that noise is not blown up."""

FLOATS = 2**23
"""Of patches, held at a time."""


def whiten(conv: nn.Conv2d, dataset: Dataset) -> None:
    """Set a convolution's weights to whitened principal patches of the training images, and freeze them.

    Half the output channels are the patterns with the largest variance, the other half their negatives, since ReLU
    keeps one sign only. Channels beyond twice the number of pixels in a patch keep the weights that they have.

    Args:
        conv: its input is normalised images of the dataset; on the images' device. Its bias still trains.
        dataset: at least one training image, as large as the kernel.
    """
    weight = conv.weight
    variances, patterns = torch.linalg.eigh(_covariance(conv, dataset))  # ascending
    half = min(weight.shape[0] // 2, len(variances))
    strongest = (patterns / (variances + EPS).sqrt()).T.flip(0)[:half]
    # an eigenvector's sign is the solver's choice: a rule of ours makes it the same everywhere
    largest = strongest.gather(1, strongest.abs().argmax(1, keepdim=True))
    strongest = strongest * largest.sign()
    with torch.no_grad():
        weight[: 2 * half] = torch.cat([strongest, -strongest]).to(weight).view(-1, *weight.shape[1:])
    weight.requires_grad_(False)


def _covariance(conv: nn.Conv2d, dataset: Dataset) -> Tensor:
    """(d, d) mean product of the d pixels of a patch, in double precision on the CPU; d = channels x kernel area."""
    images = len(dataset.train)
    few = min(images, IMAGES)
    rows = torch.arange(few, device=dataset.train.labels.device) * images // few
    kernel, stride = (conv.kernel_size[0], conv.kernel_size[1]), (conv.stride[0], conv.stride[1])
    dims = conv.weight[0].numel()
    _, height, width = dataset.train.images.shape[1:]
    at_once = max(1, FLOATS // (dims * height * width // (stride[0] * stride[1])))
    total, patches = torch.zeros(dims, dims, dtype=torch.float64), 0
    for batch, _ in dataset.train.batches(torch.split(rows, at_once)):
        pixels = normalise(batch, dataset.mean, dataset.std)
        found = nn.functional.unfold(pixels, kernel, stride=stride).transpose(1, 2).reshape(-1, dims)
        total += (found.T @ found).double().cpu()
        patches += len(found)
    return total / patches
