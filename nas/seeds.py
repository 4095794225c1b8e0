"""Seeds from what they are for: the same everywhere, unrelated for parts that differ."""

from __future__ import annotations

import hashlib


def hashed(*parts: object) -> int:
    """A seed in 0..2**63 - 1 from the parts' text: the same everywhere, unrelated for parts that differ."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def training_seed(study_seed: int, key: str, replicate: int = 0) -> int:
    """The seed of a network's training, 0..2**63 - 1: the same in whatever order a study meets the network.

    Args:
        study_seed: of the study.
        key: the architecture's.
        replicate: 0 for the search; retraining with other seeds counts up.
    """
    return hashed(study_seed, key, replicate)
