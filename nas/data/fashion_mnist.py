"""`fashion-mnist`: 70,000 articles of clothing, 28x28 grey, in ten classes (Xiao, Rasul and Vollgraf 2017)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data.downloads import Checked, explained, root
from nas.data.source import Arrays

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of Debian's and Ubuntu's package dataset-fashion-mnist
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# MD5 of the unpacked files. Debian's gz files lack the name and time in the authors' headers; with these put back they
# have the MD5s of the authors' own gz files, so that both unpack to the same.
SUMS = {
    "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
}


def read() -> Arrays:
    """All 70,000 images; the official 10,000 test images are the test set.

    The first place whose four files are whole is read: NAS_DATA, as for all downloads, so that a user can always put
    good files before others; then Debian's package, which needs no network; then torchvision downloads into NAS_DATA.
    The sums are of the content, so a study is the same from any of them.

    Raises:
        DataError: in neither place whole, and not to be downloaded.
    """
    own = [Checked(root() / "FashionMNIST" / "raw" / file, md5, packed=True) for file, md5 in SUMS.items()]
    debian = [Checked(DEBIAN / file, md5, packed=True) for file, md5 in SUMS.items()]
    contents = _whole(own) or _whole(debian) or _downloaded(own, debian)
    train_images, train_labels, test_images, test_labels = contents
    labels = np.concatenate([_idx(train_labels), _idx(test_labels)]).astype(np.int64)
    return Arrays(
        "fashion-mnist",
        CLASSES,
        np.concatenate([_idx(train_images), _idx(test_images)]),
        labels,
        np.arange(len(labels)) >= len(_idx(train_labels)),
    )


def _whole(files: list[Checked]) -> list[bytes] | None:
    contents: list[bytes] = []
    for file in files:
        content = file.content()
        if content is None:
            return None
        contents.append(content)
    return contents


def _downloaded(own: list[Checked], debian: list[Checked]) -> list[bytes]:
    from torchvision.datasets import FashionMNIST  # seconds, and 100 MB, that the other places do not cost
    from torchvision.datasets.utils import download_url

    url = FashionMNIST.mirrors[0]
    packed = dict(FashionMNIST.resources)
    hint = "install Debian's package dataset-fashion-mnist, "
    with explained("fashion-mnist", url, own, debian, hint):
        for file in own:
            if file.content() is None:
                download_url(url + file.path.name, file.path.parent, file.path.name, packed[file.path.name])
        contents = _whole(own)
        if contents is None:
            raise RuntimeError("the files changed while they were read")
    return contents


def _idx(content: bytes) -> NDArray[np.uint8]:
    """Bytes in the form of their header: 0, 0, 8 for uint8, the number of dimensions, and each as 4 bytes."""
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape.tolist())
