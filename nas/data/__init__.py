"""Images for a search, and batches of them.

What is named here is imported when it is first asked for: reading pictures (`files`, `walk`) needs no torch, which
takes seconds to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.data.batches import augment, normalise, shuffled
    from nas.data.dataset import SOURCES, Dataset, Part, load_dataset, load_test

__all__ = ["SOURCES", "Dataset", "Part", "augment", "load_dataset", "load_test", "normalise", "shuffled"]
_OF_BATCHES = ("augment", "normalise", "shuffled")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("nas.data.batches" if name in _OF_BATCHES else "nas.data.dataset"), name)
