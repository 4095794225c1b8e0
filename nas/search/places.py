"""Who may train what: what every worker of a study must agree on, in a database or in memory."""

from __future__ import annotations

from typing import Literal, Protocol

from nas.records import Row

FAILURES = 10
"""So many failures in a row end a search: by then it is the set-up, not the networks."""


class TakenAway(Exception):  # noqa: N818  (not a fault of the program)
    """A claim is no longer this worker's: another host took it for dead, and settled its trial."""


class Places(Protocol):
    """Who may train what: places of a study, each network in one of them at most. Several workers share them."""

    def place(self, total: int) -> int | Literal["full", "done"]:
        """A claim to one of `total` places; ``full`` where all are taken, ``done`` where all have ended."""

    def network(self, claim: int, trial: int, key: str) -> bool:
        """Claim the network for the trial; False where the study has it already."""

    def give_back(self, claim: int) -> None:
        """Forget a claim that came to nothing."""

    def busy(self) -> bool:
        """Whether any place is held by a trial that is being trained."""

    def paused(self) -> list[int]:
        """Numbers of the paused trials."""

    def resume(self, trial: int) -> tuple[int, Row] | None:
        """Take a paused trial: its claim and what is known of it; None where another worker was first."""

    def exhausted(self) -> bool:
        """Whether a worker has found that the space has no new network."""

    def set_exhausted(self) -> None:
        """Tell all workers so."""

    def failures_in_a_row(self) -> list[str]:
        """Reasons of the last evaluations since this was first asked, newest first, while they failed by themselves."""
