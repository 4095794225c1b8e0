"""A first look at images before there is a space for them: how many of which class, their sizes, grey or colour."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nas.data.dataset import load_dataset
from nas.data.files import BROKEN, picture, shown
from nas.data.folder import _listed
from nas.errors import DataError

# Input shapes of the data sets that are no folder, and whether a mirrored image of theirs is still one of its class.
KNOWN: dict[str, tuple[tuple[int, int, int], bool]] = {
    "digits": ((1, 8, 8), False),
    "cifar10": ((3, 32, 32), True),
    "cifar100": ((3, 32, 32), True),
    "fashion-mnist": ((1, 28, 28), True),
    "svhn": ((3, 32, 32), False),
}


@dataclass(frozen=True, slots=True)
class Survey:
    """What images are like.

    Args:
        spec: the data set as `load_dataset` takes it.
        classes: images that can be opened, by class, in the order of the labels.
        sizes: (width, height) of every image, by rising short side.
        channels: 1 where all images are grey, else 3.
        flip: a mirrored image is likely still one of its class.
        broken: names of files that cannot be opened.
    """

    spec: str
    classes: Mapping[str, int]
    sizes: Sequence[tuple[int, int]]
    channels: int
    flip: bool
    broken: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """All that can be opened."""
        return sum(self.classes.values())

    @property
    def median_side(self) -> int:
        """Short side of the median image."""
        return min(self.sizes[len(self.sizes) // 2])


def survey(spec: str) -> Survey:
    """Look at a data set. Of a folder only the files' heads are read, and pixels until one of them has a colour.

    Raises:
        DataError: an unknown data set, no such folder, one class only, no image that can be opened.
    """
    name, _, path = spec.partition(":")
    if name != "folder" or not path:
        shape, flip = KNOWN.get(name, ((1, 8, 8), False))
        data = load_dataset(spec, input_shape=shape)
        labels = np.concatenate([data.train.labels.numpy(), data.validation.labels.numpy()])
        counts = np.bincount(labels, minlength=len(data.classes)).tolist()
        sizes = [(shape[2], shape[1])] * (len(labels) + data.test_size)
        return Survey(spec, dict(zip(data.classes, counts, strict=True)), sizes, shape[0], flip)
    classes, files = _listed(Path(os.path.expanduser(path)).absolute())
    grey = True
    sizes, broken = [], []
    found: Counter[int] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata in a file whose pixels are fine
        for file in files:
            try:
                with Image.open(file.path) as image:
                    sizes.append(image.size)
                if grey:
                    grey = _is_grey(picture(file.path))
            except BROKEN:
                broken.append(shown(file.path))
                continue
            found[file.label] += 1
    for label, class_name in enumerate(classes):
        if not found[label]:
            raise DataError(f"no image of class {shown(class_name)!r} in {shown(path)} can be read: mend them")
    by_class = {shown(class_name): found[label] for label, class_name in enumerate(classes)}
    # a grey picture is more often a sign, a letter or a scan than a photograph
    return Survey(spec, by_class, sorted(sizes, key=min), 1 if grey else 3, not grey, tuple(broken))


def _is_grey(image: Image.Image) -> bool:
    """All three channels are equal everywhere, or there is only one."""
    if image.mode == "L":
        return True
    pixels = np.asarray(image)
    return bool((pixels == pixels[..., :1]).all())
