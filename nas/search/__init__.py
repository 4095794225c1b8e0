"""The search: proposals, pruning, workers. Importing it does not import torch.

Called, it searches: `from nas import search` is this package and `nas.library.search` in one.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from nas.search import pruners
from nas.search.reporting import pruned, report, should_prune

__all__ = ["pruned", "pruners", "report", "should_prune"]


class _Search(ModuleType):
    """A package whose name is a verb too: Python gives `nas.search` to the package, whoever imports it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `nas.library.search`."""
        from nas.library import search

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Search
