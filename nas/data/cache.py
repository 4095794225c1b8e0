"""What was decoded, kept in a file, so that only the first worker decodes 50,000 files."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nas.errors import DataError

Arrays = Mapping[str, NDArray[Any]]


def file_of(folder: Path, kind: str, identity: object) -> Path:
    """The file that holds what was made of the images of this identity, which is plain data for JSON."""
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]
    return folder / f"{kind}-{key}.safetensors"


def load(file: Path, names: Collection[str]) -> dict[str, NDArray[Any]] | None:
    """What `save` wrote, mapped from the file; None where there is no such file or its checksum fails."""
    try:
        with safe_open(file, framework="pt") as stored:
            checksum = (stored.metadata() or {}).get("sha256")
            arrays = {name: stored.get_tensor(name).numpy() for name in names}
    except (OSError, SafetensorError):
        return None
    return arrays if checksum == _checksum(arrays) else None


def save(file: Path, arrays: Arrays) -> None:
    """Write aside, then rename: a reader sees all or nothing, also when several workers write at once.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            save_file(tensors, aside, metadata={"sha256": _checksum(arrays)})
            os.replace(aside, file)
        finally:
            aside.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        size = sum(array.nbytes for array in arrays.values()) / 1e6
        raise DataError(
            f"decoded images ({size:.0f} MB) cannot be kept in {file.parent} ({error}): free space or allow writing"
        ) from error


def _checksum(arrays: Arrays) -> str:
    ordered = [array for _, array in sorted(arrays.items(), reverse=True)]  # pixels before hashes, as in older files
    digest = hashlib.sha256("".join(f"{array.dtype} {array.shape} " for array in ordered).encode())
    for array in ordered:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
