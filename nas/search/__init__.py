"""The search: proposals, pruning, workers. Importing it imports neither torch nor Optuna.

Called, it searches: `from nas import search` is this package and `nas.library.search` in one.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.search import pruners
    from nas.search.reporting import pruned, report, should_prune

__all__ = ["pruned", "pruners", "report", "should_prune"]


def __getattr__(name: str) -> Any:
    """What is exported, once it is asked for: it loads Optuna, which reading a study does without."""
    if name == "pruners":
        return import_module("nas.search.pruners")
    if name in __all__:
        return getattr(import_module("nas.search.reporting"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Search(ModuleType):
    """A package whose name is a verb too: Python gives `nas.search` to the package, whoever imports it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `nas.library.search`."""
        from nas.library import search

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Search
