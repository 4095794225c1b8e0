"""`cifar10`: 60,000 photographs, 32x32 RGB, in ten classes (Krizhevsky 2009), downloaded once by torchvision."""

from __future__ import annotations

import os
import pickle
import tarfile
import warnings
from pathlib import Path

import numpy as np

from nas.data.source import Source, from_arrays
from nas.errors import DataError


def root() -> Path:
    """Where the archive is kept: the folder named by NAS_DATA, or .cache/nas in the user's home."""
    return Path(os.environ.get("NAS_DATA") or Path.home() / ".cache" / "nas").expanduser().absolute()


def read(input_shape: tuple[int, int, int]) -> Source:
    """All 60,000 images; the official 10,000 test images are the test set.

    Raises:
        DataError: not there and not to be downloaded, or damaged.
    """
    from torchvision.datasets import CIFAR10  # seconds, and 100 MB, that other sources do not pay

    folder = root()
    try:
        with warnings.catch_warnings():
            # pickled by a NumPy of 2009, which 2.4.0 to 2.4.4 deprecate and later ones do not (numpy, pull 31177)
            warnings.filterwarnings("ignore", message=r".*align should be passed", category=Warning)
            train = CIFAR10(folder, train=True, download=True)
            test = CIFAR10(folder, train=False)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"cifar10 is not in {folder} and cannot be downloaded ({reason}): put {CIFAR10.filename} from "
            f"{CIFAR10.url} there, name its folder in NAS_DATA, or use --dataset folder:PATH"
        ) from error
    labels = np.array([*train.targets, *test.targets], np.int64)
    return from_arrays(
        "cifar10",
        tuple(train.classes),
        np.concatenate([train.data, test.data]),
        labels,
        input_shape,
        np.arange(len(labels)) >= len(train.targets),
    )
