"""Where images come from: a dataset for a search, with its test images left out, and the one way to those."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data import cifar, digits, fashion_mnist, folder, streaming, svhn
from nas.data.files import Files
from nas.data.source import Arrays, Source, check_input_shape, fitted, misfit
from nas.data.splits import KNOWN, split
from nas.data.streaming import Loader, Streamed
from nas.errors import DataError, choices


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Images and labels of one side of a split.

    Args:
        images: (N, C, H, W) uint8 in channels_last memory format, or what decodes the same from files.
        labels: (N,) int64, always in memory.
    """

    images: Tensor | Streamed
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each group of row numbers, in their order, on the part's device.

        The same bits wherever the images lie. Streamed, the groups are all drawn before the first is given, and one
        part of a dataset is read at a time.

        Raises:
            DataError: an image file is no longer what it was.
            TrialFailed: a process that decodes was killed.
        """
        if isinstance(self.images, Streamed):
            for some, images in self.images.batches(rows):
                yield images, self.labels[some]
        else:
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
        misfit: one line where the images are of another kind than the space's input, or far smaller.
        own_shape: (channels, height, width) of a typical image as it came; None where it is not known.
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
    misfit: str = ""
    own_shape: tuple[int, int, int] | None = None

    def to(self, device: torch.device | str) -> Dataset:
        """The same with its images on a device."""
        return replace(self, train=self.train.to(device), validation=self.validation.to(device))

    @property
    def streamed(self) -> Loader | None:
        """What decodes the images during a search; None where they are in memory."""
        return self.train.images.loader if isinstance(self.train.images, Streamed) else None

    @property
    def streaming(self) -> str:
        """One line that says why images are streamed and what it costs; empty where they are in memory."""
        sides = [part.images for part in (self.train, self.validation)]
        rows = [images.rows for images in sides if isinstance(images, Streamed)]
        return self.streamed.words(np.concatenate(rows)) if self.streamed else ""

    def close(self) -> None:
        """End the processes that decode streamed images, or they end with this one; a later use starts others."""
        if self.streamed:
            self.streamed.close()


# path, input shape, skip_broken, cache, room for decoded images in bytes
Reader = Callable[[str, tuple[int, int, int], bool, Path | None, int], Source]


def _whole(read: Callable[[], Arrays]) -> Reader:
    """For data that is read into memory whole; its shape is checked against all of it."""
    return lambda path, shape, skip_broken, cache, room: fitted(read(), shape, streaming.memory())


SOURCES: dict[str, Reader] = {
    "digits": _whole(digits.read),
    "cifar10": _whole(lambda: cifar.read("cifar10")),
    "cifar100": _whole(lambda: cifar.read("cifar100")),
    "fashion-mnist": _whole(fashion_mnist.read),
    "svhn": _whole(svhn.read),
    "folder": lambda path, shape, skip_broken, cache, room: folder.read(
        path, shape, skip_broken=skip_broken, cache_folder=cache, room=room
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
    room: int | None = None,
) -> Dataset:
    """Training and validation images of a dataset, at a space's input size.

    Args:
        spec: a name of SOURCES; `folder:PATH` for a folder.
        input_shape: (channels, height, width); 1 channel makes images grey, 3 make them RGB.
        split_seed: chooses the validation images; the test images depend on nothing but the images.
        train_limit: keep this many training images, stratified, the same for every seed of training.
        skip_broken: leave out images that cannot be decoded, and count them, instead of refusing the folder.
        cache: a folder for decoded images; the first call writes there (hundreds of MB for 50,000 images of 32x32),
            later ones map the file and check its sum. Of a streamed folder it keeps hashes and sums.
        room: bytes that decoded images may take in this process; a folder whose images need more stays in its files
            and is streamed. None: `streaming.MEMORY_SHARE` of the machine's memory. The images, their order, the split
            and every number are the same either way.

    Raises:
        DataError: an unknown dataset; images that are missing, broken, or too few; an input that is not grey or RGB,
            or too large for a dataset that is read whole.
    """
    room = streaming.room() if room is None else room
    source = _read(spec, input_shape, skip_broken, cache, room)
    parts = split(source, seed=split_seed, train_limit=train_limit)
    loader = _loader(source, room)
    mean, std = _mean_and_std(source.pixels[parts.train])
    digest = source.digest
    return Dataset(
        name=KNOWN[digest].name if digest in KNOWN else source.name,
        classes=source.classes,
        train=_part(source, parts.train, loader),
        validation=_part(source, parts.validation, loader),
        test_size=len(parts.test),
        mean=mean,
        std=std,
        digest=digest,
        split_digest=parts.digest,
        skipped=source.skipped,
        dropped=parts.dropped,
        path=source.path,
        misfit=misfit(source.own_shape, input_shape) if source.own_shape else "",
        own_shape=source.own_shape,
    )


def load_test(
    spec: str,
    *,
    input_shape: tuple[int, int, int],
    skip_broken: bool = False,
    cache: Path | None = None,
    room: int | None = None,
) -> Part:
    """The sealed test images, for networks that a user names. Nothing in a search calls this.

    Arguments and errors as for `load_dataset`; they do not depend on a seed or a limit.
    """
    room = streaming.room() if room is None else room
    source = _read(spec, input_shape, skip_broken, cache, room)
    return _part(source, split(source).test, _loader(source, room))


def _read(spec: str, input_shape: tuple[int, int, int], skip_broken: bool, cache: Path | None, room: int) -> Source:
    check_input_shape(input_shape)
    name, colon, path = spec.partition(":")
    if name not in SOURCES or bool(colon) != (name == "folder"):
        hint = f"; for the images in {spec} write folder:{spec}" if Path(spec).is_dir() else ""
        named = [f"{known}:PATH" if known == "folder" else known for known in SOURCES]
        raise DataError(choices("dataset", spec, named) + hint)
    return SOURCES[name](path, input_shape, skip_broken, cache, room)


def _loader(source: Source, room: int) -> Loader | None:
    """One for all parts; as many processes as this one has threads, which is its share of the cores."""
    if not isinstance(source.pixels, Files):
        return None
    return Loader(source.pixels, min(torch.get_num_threads(), os.cpu_count() or 1), room)


def _part(source: Source, rows: NDArray[np.int64], loader: Loader | None) -> Part:
    labels = torch.from_numpy(source.labels[rows])
    if loader is not None:
        return Part(Streamed(loader, rows), labels)
    pixels = source.pixels[rows]
    assert not isinstance(pixels, Files)  # they have a loader
    return Part(torch.from_numpy(pixels).permute(0, 3, 1, 2), labels)


def _mean_and_std(pixels: NDArray[np.uint8] | Files) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """From sums in whole numbers, so that they depend on neither order nor machine: (n, H, W, C) -> one each a channel.

    The numbers nearest to the exact ones, up to the root's rounding.
    """
    if isinstance(pixels, Files):
        channels, height, width = pixels.input_shape
        count = len(pixels) * height * width
        sums = pixels.sums.sum(axis=0).tolist()
    else:
        channels = pixels.shape[-1]
        count = pixels[..., 0].size
        levels = np.zeros((channels, 256), np.int64)
        for start in range(0, len(pixels), 1024):
            for channel in range(channels):
                levels[channel] += np.bincount(pixels[start : start + 1024, ..., channel].ravel(), minlength=256)
        sums = [(levels @ np.arange(256)).tolist(), (levels @ np.arange(256) ** 2).tolist()]
    mean = tuple(total / (255 * count) for total in sums[0])
    # Python's whole numbers have no end, and its division rounds once
    variance = [(count * squares - total**2) / (255 * count) ** 2 for total, squares in zip(*sums, strict=True)]
    return mean, tuple(max(math.sqrt(value), 1 / 255) for value in variance)
