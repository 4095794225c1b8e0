"""Pruners for studies with two objectives: one that training shows bit by bit, and a cost known before it."""

from nas.search.pruners.base import FrontPruner, Verdict
from nas.search.pruners.conformal import ConformalPruner
from nas.search.pruners.none import NonePruner

PRUNERS: dict[str, type[FrontPruner]] = {
    "conformal": ConformalPruner,
    "none": NonePruner,
}
"""Every rule by its name; each can be constructed without arguments."""

__all__ = ["PRUNERS", "ConformalPruner", "FrontPruner", "NonePruner", "Verdict"]
