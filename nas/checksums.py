"""Files that carry their own SHA-256: a lost end or one flipped bit is noticed before anything is done with them."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_SIZE = hashlib.sha256().digest_size
_BLANK = b"0" * (2 * _SIZE)
_LENGTH = 8
"""Bytes at the start of a safetensors file that say how long its header is."""

_NO_ZIP = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)
"""What zipfile raises of damaged bytes: a flipped flag means encryption, others an unknown method or a huge size."""


def summed(content: bytes) -> bytes:
    """The SHA-256 of some bytes, and the bytes: what `unsummed` takes back."""
    return hashlib.sha256(content).digest() + content


def unsummed(content: bytes) -> bytes | None:
    """What `summed` was given; None where a bit of it is another."""
    inner = content[_SIZE:]
    return inner if hashlib.sha256(inner).digest() == content[:_SIZE] else None


def packed(state: Mapping[str, Tensor]) -> bytes:
    """A safetensors file of tensors, of any device and memory format, with the SHA-256 of all of it in its metadata.

    The sum is taken with zeros in its own place, so that it covers the header as well.
    """
    from safetensors.torch import save  # loads torch, which those who only check do without

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    content = save(tensors, metadata={"sha256": _BLANK.decode()})
    return content.replace(_BLANK, hashlib.sha256(content).hexdigest().encode(), 1)


def intact(content: bytes) -> bool | None:
    """Whether a file that `packed` wrote is as it was written; None of one without a sum, as older nas wrote them."""
    header = content[_LENGTH : _LENGTH + int.from_bytes(content[:_LENGTH], "little")]
    # Two marks, since one of them may be what is damaged; the metadata come first in the header.
    if b"__metadata__" not in content[:200] and b"sha256" not in content[:200]:
        return None
    found = re.search(rb'"sha256":"([0-9a-f]{64})"', header)
    if found is None:
        return False
    digest = hashlib.sha256(content[: _LENGTH + found.start(1)])
    digest.update(_BLANK)
    digest.update(content[_LENGTH + found.end(1) :])
    return digest.hexdigest() == found[1].decode()


def whole_zip(file: Path | IO[bytes]) -> bool:
    """Whether a ZIP file can be read, each member with the CRC that is written beside it."""
    try:
        with zipfile.ZipFile(file) as packed:
            return packed.testzip() is None
    except _NO_ZIP:
        return False
