"""What a person sees while networks are refined: a live line a worker in a terminal, a plain line a training elsewhere.

Words go to standard error, so that standard output stays for data.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nas.refine.plan import Plan, Task
from nas.search.display import STEP_S, clock


@dataclass(slots=True)
class _Line:
    """A training in a worker's hands."""

    task: Task
    epoch: int = 0
    accuracy: float | None = None


class Display:
    """The words of one refinement, from its workers' events.

    Args:
        plan: what is done.
        workers: how many lines there are.
        metric: its name, for a person.
        console: where to write; None is standard error.
    """

    def __init__(self, plan: Plan, workers: int, metric: str, console: Console | None = None) -> None:
        self._plan, self._metric = plan, metric
        self._console = console or Console(stderr=True, highlight=False)
        self._lines: dict[int, _Line | None] = dict.fromkeys(range(workers))
        self._total = len(plan.networks) * plan.seeds
        self._done = self._total - len(plan.tasks)
        # In epochs times MACs: networks differ tenfold in what an epoch takes.
        self._left = float(sum(task.row.macs for task in plan.tasks) * plan.epochs)
        self._worked = 0.0
        self._began: float | None = None
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, words: str) -> None:
        """One line that stays."""
        self._console.print(escape(words), soft_wrap=True)

    def begun(self, number: int, task: Task, epoch: int) -> None:
        """Worker `number` trains, from after this epoch on."""
        self._began = self._began or time.monotonic()
        self._lines[number] = _Line(task, epoch)
        self._left -= epoch * task.row.macs
        if epoch:
            self.say(f"{task.name}  seed {task.replicate}  goes on after epoch {epoch}")
        self.refresh()

    def epoch(self, number: int, epoch: int, accuracy: float) -> None:
        """Worker `number` has read its network after this epoch."""
        line = self._lines[number]
        assert line is not None
        line.epoch, line.accuracy = epoch, accuracy
        self._left -= line.task.row.macs
        self._worked += line.task.row.macs
        self.refresh()

    def done(self, number: int, task: Task, accuracy: float, seconds: float) -> None:
        """Worker `number` has ended a training."""
        self._lines[number] = None
        self._done += 1
        self.say(
            f"{task.name}  seed {task.replicate}  {self._plan.epochs} epochs  {self._metric} "
            f"{accuracy:.4f}  {seconds:.1f} s  [{self._tally()}]"
        )
        self.refresh(force=True)

    def given_up(self, number: int, task: Task) -> None:
        """Worker `number` has left a training: failed, killed or stopped."""
        line = self._lines[number]
        if line is not None:  # what it still had to do, or has to do again
            self._left += line.epoch * task.row.macs
        self._lines[number] = None
        self.refresh(force=True)

    def dropped(self, task: Task) -> None:
        """A training is not tried again."""
        self._left -= task.row.macs * self._plan.epochs

    def refresh(self, force: bool = False) -> None:
        """Draw the live lines anew, at most every `STEP_S`."""
        now = time.monotonic()
        if self._live.is_started and (force or now - self._drawn >= STEP_S):
            self._drawn = now
            self._live.update(self._picture(), refresh=True)

    def _tally(self) -> str:
        return f"{self._done}/{self._total} trainings, {self._time_left()}"

    def _time_left(self) -> str:
        if self._left <= 0:
            return "0:00 left"
        if self._began is None or not self._worked:
            return "time left unknown"
        return f"{clock((time.monotonic() - self._began) * self._left / self._worked)} left"

    def _picture(self) -> Group:
        lines = Table.grid(padding=(0, 2))
        for number, line in self._lines.items():
            if line is None:
                lines.add_row(f"worker {number + 1}", Text("starting" if self._began is None else "-", style="dim"))
                continue
            bar = "━" * round(20 * line.epoch / self._plan.epochs)
            lines.add_row(
                f"worker {number + 1}",
                " ".join(line.task.name.split()),
                f"seed {line.task.replicate}/{self._plan.seeds}",
                f"{line.task.row.params:,} params",
                Text.assemble(
                    (bar, "cyan"), ("╌" * (20 - len(bar)), "dim"), f" epoch {line.epoch}/{self._plan.epochs}"
                ),
                "" if line.accuracy is None else f"{line.accuracy:.4f}",
            )
        return Group(lines, Text(self._tally(), style="bold"))
