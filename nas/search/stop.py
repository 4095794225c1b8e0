"""How a search is asked to stop."""

from __future__ import annotations

from dataclasses import dataclass


class Interrupted(KeyboardInterrupt):
    """The search was asked to stop: the running trial is marked and the worker ends."""


@dataclass(slots=True)
class Stop:
    """Set from outside (a signal, the end of standard input), looked at once a batch and between trials."""

    asked: bool = False

    def ask(self, *_: object) -> None:
        """Ask; also a signal's handler."""
        self.asked = True

    def check(self) -> None:
        """Raise `Interrupted` where it was asked."""
        if self.asked:
            raise Interrupted
