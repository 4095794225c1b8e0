"""`cifar10` and `cifar100`: 60,000 photographs each, 32x32 RGB (Krizhevsky 2009), downloaded once by torchvision."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from nas.data.downloads import Checked, explained, root
from nas.data.source import Arrays


def read(name: Literal["cifar10", "cifar100"]) -> Arrays:
    """All 60,000 images; the official 10,000 test images are the test set. CIFAR-100 has its hundred fine classes.

    Every file's MD5 is checked before it is unpickled; damaged ones are unpacked again from the archive, which is
    downloaded again where it is damaged itself.

    Raises:
        DataError: not there, or damaged, and not to be downloaded.
    """
    from torchvision.datasets import CIFAR10, CIFAR100  # seconds, and 100 MB, that other sources do not pay
    from torchvision.datasets.utils import download_and_extract_archive

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    folder = root()
    archive = Checked(folder / kind.filename, kind.tgz_md5)
    listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    unpacked = [Checked(folder / kind.base_folder / file, md5) for file, md5 in listed]
    with explained(name, kind.url.rpartition("/")[0] + "/", [archive], unpacked), warnings.catch_warnings():
        # pickled by a NumPy of 2009, which 2.4.0 to 2.4.4 deprecate and later ones do not (numpy, pull 31177)
        warnings.filterwarnings("ignore", message=r".*align should be passed", category=Warning)
        # torchvision's own download=True does the same, but never mends the file of the classes' names
        if any(file.content() is None for file in unpacked):
            download_and_extract_archive(kind.url, folder, filename=kind.filename, md5=kind.tgz_md5)
        train, test = kind(folder, train=True), kind(folder, train=False)
    labels = np.array([*train.targets, *test.targets], np.int64)
    return Arrays(
        name,
        tuple(train.classes),
        np.concatenate([train.data, test.data]),
        labels,
        np.arange(len(labels)) >= len(train.targets),
    )
