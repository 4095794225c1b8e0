"""The downloaded data sets as they lie on disk, 100 training and 20 test images of ten classes with made-up pixels.

Each maker writes the official files' form under `root`, names it in NAS_DATA, and puts its own sums in place of the
official ones. It returns the files that are downloaded.
"""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, CIFAR100, SVHN, FashionMNIST

from nas.data import fashion_mnist

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE_CLASSES = ["apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle"]
COARSE_CLASSES = ["fish", "fruit_and_vegetables", "people"]


class OldDtype:
    """Makes every NumPy from 2.4 on warn as 2.4.0 to 2.4.4 do of the official files, whose last number is 1."""

    def __reduce__(self) -> tuple[type, tuple[str, int, int]]:
        return np.dtype, ("u1", 0, 0)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def images(n: int, *shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """cifar-10-python.tar.gz: five training batches and a test batch."""
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    batches = {
        name: {
            "batch_label": name,
            "labels": [n % 10 for n in range(20)],
            "data": images(20, 3072, seed=number),
            "filenames": [f"{n}.png" for n in range(20)],
            "dtype": OldDtype(),
        }
        for number, name in enumerate(names)
    }
    meta: dict[str, object] = {"label_names": CIFAR_CLASSES, "num_cases_per_batch": 20, "num_vis": 3072}
    return [_cifar(CIFAR10, root, monkeypatch, batches, meta)]


def cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """cifar-100-python.tar.gz, whose images have a fine and a coarse label."""
    batches = {
        name: {
            "filenames": [f"{n}.png" for n in range(count)],
            "batch_label": name,
            "fine_labels": [n % 10 for n in range(count)],
            "coarse_labels": [n % 3 for n in range(count)],
            "data": images(count, 3072, seed=count),
        }
        for name, count in (("train", 100), ("test", 20))
    }
    meta: dict[str, object] = {"fine_label_names": FINE_CLASSES, "coarse_label_names": COARSE_CLASSES}
    return [_cifar(CIFAR100, root, monkeypatch, batches, meta)]


def _cifar(
    kind: type[CIFAR10],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    batches: dict[str, dict[str, object]],
    meta: dict[str, object],
) -> Path:
    folder = root / "made" / kind.base_folder
    folder.mkdir(parents=True)
    sums: dict[str, str] = {}
    for name, content in {**batches, kind.meta["filename"]: meta}.items():
        data = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(data)
        sums[name] = md5(data)
    archive = root / kind.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=kind.base_folder)
    monkeypatch.setattr(kind, "tgz_md5", md5(archive.read_bytes()))
    *train, test = [[name, sums[name]] for name in batches]
    monkeypatch.setattr(kind, "train_list", train)
    monkeypatch.setattr(kind, "test_list", [test])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[kind.meta["filename"]]})
    monkeypatch.setenv("NAS_DATA", str(root))
    return archive


def fashion_files(folder: Path) -> dict[str, bytes]:
    """The four gz files, written; their unpacked contents by name."""
    folder.mkdir(parents=True)
    contents = {}
    for part, count in (("train", 100), ("t10k", 20)):
        labels = bytes(n % 10 for n in range(count))
        contents[f"{part}-images-idx3-ubyte.gz"] = (
            struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + images(count, 28, 28, seed=count).tobytes()
        )
        contents[f"{part}-labels-idx1-ubyte.gz"] = struct.pack(">4BI", 0, 0, 8, 1, count) + labels
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(content, mtime=0))
    return contents


def fashion_mnist_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Four gz files of idx form, where torchvision puts them; no Debian package."""
    folder = root / "FashionMNIST" / "raw"
    contents = fashion_files(folder)
    monkeypatch.setattr(fashion_mnist, "SUMS", {name: md5(content) for name, content in contents.items()})
    packed = [(name, md5((folder / name).read_bytes())) for name in contents]
    monkeypatch.setattr(FashionMNIST, "resources", packed)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", root / "no-package")
    monkeypatch.setenv("NAS_DATA", str(root))
    return [folder / name for name in contents]


def svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two .mat files of MATLAB's form 5: X (32, 32, 3, n), y (n, 1) with 10 for the digit 0."""
    root.mkdir(exist_ok=True)
    listed, files = {}, []
    for part, count in (("train", 100), ("test", 20)):
        url, name, _ = SVHN.split_list[part]
        labels = np.array([n % 10 or 10 for n in range(count)], np.uint8)[:, None]
        pixels = images(count, 32, 32, 3, seed=count).transpose(1, 2, 3, 0)
        scipy.io.savemat(root / name, {"X": pixels, "y": labels}, do_compression=True)
        listed[part] = [url, name, md5((root / name).read_bytes())]
        files.append(root / name)
    monkeypatch.setattr(SVHN, "split_list", {**SVHN.split_list, **listed})
    monkeypatch.setenv("NAS_DATA", str(root))
    return files


# A new download: one more line, named as in SOURCES.
ARCHIVES: dict[str, Callable[[Path, pytest.MonkeyPatch], list[Path]]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "fashion-mnist": fashion_mnist_files,
    "svhn": svhn,
}
