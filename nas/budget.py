"""What networks of a search may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """What a network may cost, ends included; None is no bound. The maxima are hard, the minima met where possible."""

    min_params: int
    max_params: int
    min_macs: int | None = None
    max_macs: int | None = None

    def holds(self, params: int, macs: int) -> bool:
        """All four bounds are kept."""
        return (
            self.min_params <= params <= self.max_params
            and (self.min_macs is None or self.min_macs <= macs)
            and (self.max_macs is None or macs <= self.max_macs)
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user asks of the budget; None leaves a bound to the file."""

    min_params: int | None = None
    max_params: int | None = None
    min_macs: int | None = None
    max_macs: int | None = None
