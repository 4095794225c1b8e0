"""Pruners for studies with two objectives: one that training shows bit by bit, and a cost known before it."""

from nas.search.pruners.asha import AshaPruner
from nas.search.pruners.base import FrontPruner, Verdict
from nas.search.pruners.conformal import ConformalPruner
from nas.search.pruners.moasha import MoashaPruner
from nas.search.pruners.none import NonePruner
from nas.search.pruners.pausing import PausingPruner
from nas.search.pruners.rank_median import RankMedianPruner

PRUNERS: dict[str, type[FrontPruner]] = {
    "conformal": PausingPruner,
    "conformal-stop": ConformalPruner,
    "rank-median": RankMedianPruner,
    "moasha": MoashaPruner,
    "asha": AshaPruner,
    "none": NonePruner,
}
"""Every rule by its name; each can be constructed without arguments."""

__all__ = [
    "PRUNERS",
    "AshaPruner",
    "ConformalPruner",
    "FrontPruner",
    "MoashaPruner",
    "NonePruner",
    "PausingPruner",
    "RankMedianPruner",
    "Verdict",
]
