"""What every source of images gives: decoded pixels at the space's input size, labels, and a hash of each content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas.errors import DataError

if TYPE_CHECKING:
    from nas.data.files import Files


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """A data set that is read whole, at its own size.

    Args:
        name, classes, labels, official_test: as of a `Source`.
        images: (n, H, W) grey or (n, H, W, 3) RGB, uint8.
    """

    name: str
    classes: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    official_test: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """All images that a source holds, before any split.

    Args:
        name: for tables and reports; no path in it.
        classes: one name a label, in the order of the labels.
        pixels: (n, H, W, C) uint8 at the space's input size, grey (C = 1) or RGB (C = 3); may be mapped from a file,
            or be the files themselves where they are larger than memory.
        labels: (n,) int64 in 0..len(classes) - 1.
        hashes: n of `content_hash`, of the images at their own size.
        official_test: (n,) bool, True for an image of the source's own test set; None where it has none.
        path: where the images lie, for a source that reads a folder.
        skipped: broken images that were left out on request.
        own_shape: (channels, height, width) of a typical image as it came, before it was fitted.
    """

    name: str
    classes: tuple[str, ...]
    pixels: NDArray[np.uint8] | Files
    labels: NDArray[np.int64]
    hashes: tuple[bytes, ...]
    official_test: NDArray[np.bool_] | None = None
    path: str | None = None
    skipped: int = 0
    own_shape: tuple[int, int, int] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of every image's content, class and side (official test or not), in any order of the images."""
        side = np.zeros(len(self.labels), np.bool_) if self.official_test is None else self.official_test
        rows = sorted(zip(side.tolist(), self.labels.tolist(), self.hashes, strict=True))
        digest = hashlib.sha256(repr((self.classes, self.official_test is not None)).encode())
        for test, label, content in rows:
            digest.update(b"%d %d " % (test, label) + content)
        return digest.hexdigest()


def content_hash(image: Image.Image) -> bytes:
    """SHA-256 of mode, size and pixels: equal for equal pictures, whatever file they came from."""
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height} ".encode())
    digest.update(image.tobytes())
    return digest.digest()


def upright(image: Image.Image) -> Image.Image:
    """The picture as a viewer shows it, in mode L or RGB: turned as EXIF says, on white where it is transparent.

    Sixteen bits of grey keep their upper eight. Of an animation this is the first frame.

    Raises:
        ValueError: pixels without a known range (floating point).
        OSError: the file ends early or is damaged.
    """
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow's own conversion would clip at 255
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((deep >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def fit(image: Image.Image, input_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Resize so that the short side fits, crop the centre: an L or RGB image -> (H, W, C) uint8.

    One bilinear resampling (over all covered pixels when shrinking) reads the crop from the picture directly, so an
    image that has the right size already keeps every bit.
    """
    channels, height, width = input_shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        scale = min(Fraction(image.width, width), Fraction(image.height, height))  # source pixels for one of ours
        across, down = float(scale * width), float(scale * height)
        left, top = (image.width - across) / 2, (image.height - down) / 2
        box = (left, top, min(left + across, image.width), min(top + down, image.height))
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).reshape(height, width, channels)


def fitted(arrays: Arrays, input_shape: tuple[int, int, int], memory: int) -> Source:
    """Images that came as one array, at the space's input size.

    Args:
        input_shape: (channels, height, width).
        memory: bytes that there are; a dataset holds the images once, and its two sides once more while it is made.

    Raises:
        DataError: there is not enough memory.
    """
    channels, height, width = input_shape
    images = arrays.images
    own_shape = (3 if images.ndim == 4 else 1, *images.shape[1:3])
    needed = 2 * len(images) * channels * height * width
    if needed > memory:
        own, ours = ("x".join(map(str, shape)) for shape in (own_shape, input_shape))
        raise DataError(
            f"{arrays.name}: {len(images):,} images of {own} at an input of {ours} need {needed / 1e9:.3g} GB "
            f"of memory, and there are {memory / 1e9:.3g}: take a space with a smaller input, or a smaller --resize"
        )
    pixels = np.empty((len(images), height, width, channels), np.uint8)
    hashes = []
    for row, image in enumerate(images):
        picture = Image.fromarray(image)
        pixels[row] = fit(picture, input_shape)
        hashes.append(content_hash(picture))
    return Source(
        arrays.name, arrays.classes, pixels, arrays.labels, tuple(hashes), arrays.official_test, own_shape=own_shape
    )


def misfit(own_shape: tuple[int, int, int], input_shape: tuple[int, int, int]) -> str:
    """What `fit` does to images of one shape that is worth a word, both (channels, height, width); or nothing.

    Shrinking is what an input size is for. Enlarging from under half of it makes up three pixels in four.
    """
    said = []
    if own_shape[0] != input_shape[0]:
        said.append("colour becomes grey" if input_shape[0] == 1 else "grey becomes three equal channels")
    factor = max(ours / own for ours, own in zip(input_shape[1:], own_shape[1:], strict=True))
    if factor > 2:
        said.append(f"they are enlarged {factor:.1f} times, which costs time and shows no more")
    own, ours = ("x".join(map(str, shape)) for shape in (own_shape, input_shape))
    return f"Images of {own} do not fit the space's input of {ours}: {' and '.join(said)}." if said else ""


def check_input_shape(input_shape: tuple[int, int, int]) -> None:
    """Refuse an input that images cannot have.

    Raises:
        DataError: not grey or RGB.
    """
    if input_shape[0] not in (1, 3):
        raise DataError(f"images have 1 channel (grey) or 3 (RGB), the space's input has {input_shape[0]}: change it")
