"""Search Inception-module widths for small, accurate image classifiers.

From Python: `from nas import search, load_study`; see `nas.library`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.library import load_study as load_study
    from nas.library import search as search

__version__ = "0.1.0"


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # Later than this module: the command line answers at once because nothing is imported before it is needed.
        # `search` is also the package of that name, which calls the same function.
        if name == "load_study":
            from nas.library import load_study

            return load_study
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
