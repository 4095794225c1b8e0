"""Small folders of pictures, and CIFAR-10 as it lies on disk, with made-up pixels."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class OldDtype:
    """Makes every NumPy from 2.4 on warn as 2.4.0 to 2.4.4 do of the official files, whose last number is 1."""

    def __reduce__(self) -> tuple[type, tuple[str, int, int]]:
        return np.dtype, ("u1", 0, 0)


def pixels(seed: int, height: int = 9, width: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def picture(path: Path, seed: int, height: int = 9, width: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, height, width)).save(path)
    return path


def pictures(root: Path, counts: Mapping[str, int], start: int = 0) -> Path:
    """`counts` PNG files a class folder, all of different content."""
    seed = start
    for name, count in counts.items():
        for number in range(count):
            picture(root / name / f"{number:03}.png", seed)
            seed += 1
    return root


def cifar_archive(root: Path, monkeypatch: pytest.MonkeyPatch, each: int = 20) -> Path:
    """cifar-10-python.tar.gz in the official form: five training batches and one test batch of `each` images."""
    folder = root / "made" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    sums: dict[str, str] = {}

    def write(name: str, content: dict[str, object]) -> None:
        data = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data, usedforsecurity=False).hexdigest()

    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        data = rng.integers(0, 256, (each, 3072), np.uint8)
        labels = [n % 10 for n in range(each)]
        names = [f"{n}.png" for n in labels]
        write(name, {"batch_label": name, "labels": labels, "data": data, "filenames": names, "dtype": OldDtype()})
    write("batches.meta", {"label_names": CIFAR_CLASSES, "num_cases_per_batch": each, "num_vis": 3072})
    root.mkdir(exist_ok=True)
    archive = root / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="cifar-10-batches-py")
    sums["archive"] = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(CIFAR10, "tgz_md5", sums["archive"])
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{n}", sums[f"data_batch_{n}"]] for n in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    monkeypatch.setenv("NAS_DATA", str(root))
    return archive
