"""Where images come from: a dataset for a search, with its test images left out, and the one way to those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data import cifar10, digits, folder
from nas.data.source import Source, check_input_shape
from nas.data.splits import KNOWN, split
from nas.errors import DataError, choices


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Images and labels of one side of a split, in memory.

    Args:
        images: (N, C, H, W) uint8 in channels_last memory format.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each group of row numbers, in their order, on the part's device."""
        for some in rows:
            yield self.images[some], self.labels[some]

    def to(self, device: torch.device | str) -> Part:
        """The same on a device."""
        return Part(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What a search may see: training and validation images, and of the test images their number only.

    Equal images give equal tensors, whatever their files are called: both sides are in the order of content hashes.

    Args:
        name: for tables; no path in it.
        classes: names in the order of the labels.
        mean, std: of the training part, one a channel, pixels in 0..1; std at least 1/255, as for a constant channel.
        digest: SHA-256 of all images' contents and classes, before any limit.
        split_digest: SHA-256 of which image is on which side, after the limit on training images.
        skipped: broken images left out on request.
        dropped: training images left out because they are exact duplicates of official test images.
        path: the folder, for a dataset that is one.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    validation: Part
    test_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    split_digest: str
    skipped: int = 0
    dropped: int = 0
    path: str | None = None

    def to(self, device: torch.device | str) -> Dataset:
        """The same with its images on a device."""
        return replace(self, train=self.train.to(device), validation=self.validation.to(device))


Reader = Callable[[str, tuple[int, int, int], bool, Path | None], Source]  # path, input shape, skip_broken, cache

SOURCES: dict[str, Reader] = {
    "digits": lambda path, shape, skip_broken, cache: digits.read(shape),
    "cifar10": lambda path, shape, skip_broken, cache: cifar10.read(shape),
    "folder": lambda path, shape, skip_broken, cache: folder.read(
        path, shape, skip_broken=skip_broken, cache_folder=cache
    ),
}


def load_dataset(
    spec: str,
    *,
    input_shape: tuple[int, int, int],
    split_seed: int = 0,
    train_limit: int | None = None,
    skip_broken: bool = False,
    cache: Path | None = None,
) -> Dataset:
    """Training and validation images of a dataset, at a space's input size.

    Args:
        spec: `digits`, `cifar10`, or `folder:PATH`.
        input_shape: (channels, height, width); 1 channel makes images grey, 3 make them RGB.
        split_seed: chooses the validation images; the test images depend on nothing but the images.
        train_limit: keep this many training images, stratified, the same for every seed of training.
        skip_broken: leave out images that cannot be decoded, and count them, instead of refusing the folder.
        cache: a folder for decoded images; the first call writes there (hundreds of MB for 50,000 images of 32x32),
            later ones map the file and check its sum.

    Raises:
        DataError: an unknown dataset; images that are missing, broken, or too few; an input that is not grey or RGB.
    """
    source = _read(spec, input_shape, skip_broken, cache)
    parts = split(source, seed=split_seed, train_limit=train_limit)
    train = source.pixels[parts.train]
    mean, std = _mean_and_std(train)
    digest = source.digest
    return Dataset(
        name=KNOWN[digest].name if digest in KNOWN else source.name,
        classes=source.classes,
        train=_part(train, source.labels[parts.train]),
        validation=_part(source.pixels[parts.validation], source.labels[parts.validation]),
        test_size=len(parts.test),
        mean=mean,
        std=std,
        digest=digest,
        split_digest=parts.digest,
        skipped=source.skipped,
        dropped=parts.dropped,
        path=source.path,
    )


def load_test(
    spec: str, *, input_shape: tuple[int, int, int], skip_broken: bool = False, cache: Path | None = None
) -> Part:
    """The sealed test images, for networks that a user names. Nothing in a search calls this.

    Arguments and errors as for `load_dataset`; they do not depend on a seed or a limit.
    """
    source = _read(spec, input_shape, skip_broken, cache)
    rows = split(source).test
    return _part(source.pixels[rows], source.labels[rows])


def _read(spec: str, input_shape: tuple[int, int, int], skip_broken: bool, cache: Path | None) -> Source:
    check_input_shape(input_shape)
    name, colon, path = spec.partition(":")
    if name not in SOURCES or bool(colon) != (name == "folder"):
        hint = f"; for the images in {spec} write folder:{spec}" if Path(spec).is_dir() else ""
        named = [f"{known}:PATH" if known == "folder" else known for known in SOURCES]
        raise DataError(choices("dataset", spec, named) + hint)
    return SOURCES[name](path, input_shape, skip_broken, cache)


def _part(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> Part:
    return Part(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels))


def _mean_and_std(pixels: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Exact sums in whole numbers, so that they do not depend on the machine: (n, H, W, C) -> one each a channel."""
    channels = pixels.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(pixels), 1024):
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[start : start + 1024, ..., channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    variance = np.maximum(counts @ levels**2 / total - mean**2, 0.0)
    return tuple(mean.tolist()), tuple(np.maximum(np.sqrt(variance), 1 / 255).tolist())
