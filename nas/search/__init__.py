"""The search: proposals, pruning, workers. Importing it does not import torch."""

from nas.search import pruners
from nas.search.reporting import pruned, report, should_prune

__all__ = ["pruned", "pruners", "report", "should_prune"]
