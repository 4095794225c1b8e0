"""Decoded images kept in a file, so that only the first worker decodes 50,000 files."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nas.errors import DataError

Decoded = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # pixels (n, H, W, C), hashes (n, 32); all 0 for a broken image


def file_of(folder: Path, identity: object) -> Path:
    """The file that holds the images of this identity, which is plain data for JSON."""
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]
    return folder / f"images-{key}.safetensors"


def load(file: Path) -> Decoded | None:
    """What `save` wrote, the pixels mapped from the file; None where there is no such file or its checksum fails."""
    try:
        with safe_open(file, framework="pt") as stored:
            checksum = (stored.metadata() or {}).get("sha256")
            pixels, hashes = stored.get_tensor("pixels").numpy(), stored.get_tensor("hashes").numpy()
    except (OSError, SafetensorError):
        return None
    return (pixels, hashes) if checksum == _checksum(pixels, hashes) else None


def save(file: Path, pixels: NDArray[np.uint8], hashes: NDArray[np.uint8]) -> None:
    """Write aside, then rename: a reader sees all or nothing, also when several workers write at once.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            tensors = {"pixels": torch.from_numpy(pixels), "hashes": torch.from_numpy(hashes)}
            save_file(tensors, aside, metadata={"sha256": _checksum(pixels, hashes)})
            os.replace(aside, file)
        finally:
            aside.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        size = (pixels.nbytes + hashes.nbytes) / 1e6
        raise DataError(
            f"decoded images ({size:.0f} MB) cannot be kept in {file.parent} ({error}): free space or allow writing"
        ) from error


def _checksum(pixels: NDArray[np.uint8], hashes: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape} {hashes.dtype} {hashes.shape} ".encode())
    for array in (pixels, hashes):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
