"""What a person sees while a search runs: a live line a worker in a terminal, a plain line a trial elsewhere.

Words go to standard error, so that standard output stays for data.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nas.outage import Waiting
from nas.pareto import front
from nas.records import Point

STEP_S = 0.25
"""Seconds between two drawings of the live lines."""


class Display:
    """The words of one search, from its workers' events.

    Args:
        total: trials that the study ends with.
        epochs: epochs of a whole training.
        workers: how many lines there are.
        metric: its name, for a person.
        console: where to write; None is standard error.
    """

    def __init__(self, total: int, epochs: int, workers: int, metric: str, console: Console | None = None) -> None:
        self.study_ready = False
        """Whether a worker has opened or made the study."""
        self._total, self._epochs, self._metric = total, epochs, metric
        self._console = console or Console(stderr=True, highlight=False)
        self._lines: dict[int, dict[str, Any]] = {number: {} for number in range(workers)}
        self._states: Counter[str] = Counter()
        self._found: list[tuple[int, float]] = []
        self._ended = 0
        self._began = time.monotonic()
        self._peak_mb = 0.0
        self._seconds = self._machinery = 0.0
        self._why: str | None = None
        self._waiting = Waiting(self.say, "the search")
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> Display:
        with _nobody_there():
            if self._console.is_terminal:
                self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _nobody_there():
            self._live.stop()

    def say(self, words: str) -> None:
        """One line that stays."""
        with _nobody_there():
            self._console.print(escape(words), soft_wrap=True)

    def happened(self, number: int, event: dict[str, Any]) -> None:
        """Take one event of worker `number`."""
        kind = event["event"]
        if kind == "ready" and not self.study_ready:
            self.study_ready = True
            self._states.update(event["states"])
            self._found = [(int(cost), float(accuracy)) for cost, accuracy in event["found"]]
            self._began = time.monotonic()
            self.say(event["words"])
        elif kind in ("preview", "said"):
            self.say(event["words"])
        elif kind == "trial":
            self._lines[number] = event
            self._states["paused"] -= bool(event["resumed"])
        elif kind == "epoch":
            self._lines[number] = self._lines[number] | event
        elif kind == "end":
            self._trial_ended(event)
        elif kind == "outage":
            self._waiting.heard(number, event["words"])
        elif kind == "over":
            self._peak_mb = max(self._peak_mb, event["peak_mb"])
            self._seconds += event.get("seconds", 0.0)
            self._machinery += event.get("machinery", 0.0)
            if event["why"] in ("exhausted", "timeout"):
                self._why = event["why"]
        self.refresh(force=kind == "end")

    def gone(self, number: int) -> None:
        """Worker `number` has ended."""
        self._lines[number] = {}
        self._waiting.gone(number)
        self.refresh()

    def refresh(self, force: bool = False) -> None:
        """Draw the live lines anew, at most every `STEP_S`."""
        now = time.monotonic()
        if self._live.is_started and (force or now - self._drawn >= STEP_S):
            self._drawn = now
            with _nobody_there():
                self._live.update(self._picture(), refresh=True)

    def settled(self, points: Iterable[Point]) -> None:
        """Take what the study holds at the end, with the trials of other launchers, whose events are not heard here."""
        ended = list(points)
        self._states = Counter(point.state for point in ended)
        self._found = [(one.cost, one.val_accuracy or 0.0) for one in ended if one.state == "complete"]

    def end(self, study: str, where: str) -> None:
        """Last words: how many trials ended how, in what time, and where they are."""
        if not self.study_ready:
            return
        if self._why == "exhausted":
            self.say("The space is exhausted: 200 draws brought no network that the study does not have.")
        elif self._why == "timeout":
            self.say("The time given by --timeout is over.")
        seconds = time.monotonic() - self._began
        self.say(
            f"Study {study}: {self._tally()} in {clock(seconds)}, peak memory of a worker {self._peak_mb:,.0f} MB"
            f"{self._share()}; kept in {where}."
        )

    def _share(self) -> str:
        """What the workers' time went to beside training, of those that lived to tell it."""
        if not self._seconds:
            return ""
        return f", machinery {100 * self._machinery / self._seconds:.1f} % of the workers' time"

    def _trial_ended(self, event: dict[str, Any]) -> None:
        self._states[event["state"]] += 1
        self._ended += event["state"] != "paused"
        if event["state"] == "complete":
            self._found.append((event["cost"], event["accuracy"]))
            self._found = self._front()  # what is beaten stays so
        if self._live.is_started and event["state"] != "failed":
            return
        accuracy = "" if event["accuracy"] is None else f"  {self._metric} {event['accuracy']:.4f}"
        reason = f"  ({event['reason']})" if event["reason"] else ""
        reason += f"  (from study {event['source']})" if event["source"] else ""
        self.say(
            f"trial {event['trial']:>4}  {event['state']:<8}  {event['cost']:>11,}{accuracy}  {event['seconds']:.1f} s"
            f"{reason}  [{self._tally()}, {self._left()}]"
        )

    def _tally(self) -> str:
        states = self._states
        paused = f"{self._paused} paused, " if self._paused else ""
        return (
            f"{states['complete'] + states['pruned']}/{self._total} trials, {states['pruned']} pruned, {paused}"
            f"{states['failed']} failed, front {len(self._front())}"
        )

    @property
    def _paused(self) -> int:
        """Trials set aside, as far as is heard here: what another launcher set aside may be taken up here."""
        return max(0, self._states["paused"])

    def _left(self) -> str:
        done, paused = self._states["complete"] + self._states["pruned"], self._paused
        if done >= self._total:
            return "0:00 left"
        if done + paused >= self._total:
            return "finishing those near the front"
        if not self._ended:
            return "time left unknown"
        # Counting what is paused as done: most of it stays as it is.
        pace = (time.monotonic() - self._began) / (self._ended + paused)
        left = clock(pace * (self._total - done - paused))
        return f"{left} until the last has begun" if paused else f"{left} left"

    def _front(self) -> list[tuple[int, float]]:
        costs, accuracies = [cost for cost, _ in self._found], [accuracy for _, accuracy in self._found]
        return [self._found[index] for index in front(costs, accuracies)]

    def _picture(self) -> Group:
        lines = Table.grid(padding=(0, 2))
        for number, line in self._lines.items():
            if "trial" not in line:
                lines.add_row(f"worker {number + 1}", Text("starting" if not self.study_ready else "-", style="dim"))
                continue
            epoch = int(line.get("epoch", 0))
            bar = "━" * round(20 * epoch / self._epochs)
            accuracy = f"{line['accuracy']:.4f}" if "accuracy" in line else ""
            lines.add_row(
                f"worker {number + 1}",
                f"trial {line['trial']}",
                f"{line['params']:,} params",
                f"{line['macs']:,} MACs",
                Text.assemble((bar, "cyan"), ("╌" * (20 - len(bar)), "dim"), f" epoch {epoch}/{self._epochs}"),
                accuracy,
            )
        best = "   ".join(f"{cost:,} → {accuracy:.4f}" for cost, accuracy in _spread(self._front(), 6))
        words = [Text(f"{self._tally()}, {self._left()}", style="bold")]
        if best:
            words.append(Text(f"front, {self._metric}  {best}", style="green"))
        return Group(lines, *words)


@contextmanager
def _nobody_there() -> Iterator[None]:
    """A terminal that was closed, or a pipe that nobody reads, is no reason for a search to break down."""
    try:
        yield
    except OSError:
        pass


def _spread(points: list[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most `most` of the points, evenly over the front, both ends kept."""
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def clock(seconds: float) -> str:
    """``M:SS``, or ``H:MM:SS`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
