"""`svhn`: 99,289 digits cut from photographs of house numbers, 32x32 RGB (Netzer et al. 2011), from torchvision."""

from __future__ import annotations

import numpy as np

from nas.data.downloads import Checked, explained, root
from nas.data.source import Arrays


def read() -> Arrays:
    """The 73,257 training and the 26,032 official test images; the 531,131 easier `extra` ones are left out.

    Raises:
        DataError: not there, or damaged, and not to be downloaded.
    """
    from torchvision.datasets import SVHN  # seconds, and 100 MB, that other sources do not pay

    folder = root()
    listed = [SVHN.split_list[part] for part in ("train", "test")]
    files = [Checked(folder / file, md5) for _, file, md5 in listed]
    with explained("svhn", listed[0][0].rpartition("/")[0] + "/", files):
        train, test = (SVHN(folder, split=part, download=True) for part in ("train", "test"))
    labels = np.concatenate([train.labels, test.labels])
    return Arrays(
        "svhn",
        tuple("0123456789"),
        np.concatenate([train.data, test.data]).transpose(0, 2, 3, 1),
        labels,
        np.arange(len(labels)) >= len(train.labels),
    )
