"""Starts the workers of this machine, shows what they do, and settles what they leave.

The launcher imports no torch: each worker does, at the same time, while the first one makes the study.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from nas.database import parse_url, shown
from nas.errors import StudyError
from nas.metric import in_words
from nas.search.display import Display
from nas.search.gpus import placed
from nas.search.machine import threads
from nas.search.options import SearchOptions
from nas.search.processes import Processes
from nas.search.recovery import recover
from nas.search.study import open_study, optuna_explained
from nas.space import Space

DEATHS = 10
"""So many workers killed without a trial ended in between end the search: the machine does not let them live."""


def launch(options: SearchOptions) -> int:
    """Run a search to its end on this machine.

    Returns:
        0 where it ended well; 130 where it was interrupted, with its running trials marked.

    Raises:
        NasError: what the user can mend; running trials are marked first.
    """
    space = options.check()
    folder = options.folder(space)
    url = options.storage or folder.url
    parse_url(url)
    with Display(options.trials, space.recipe.epochs, options.workers, in_words(options.checked_metric)) as display:
        crew = _Crew(options, space, display)
        try:
            code = crew.run()
        finally:
            crew.kill()
            if display.study_ready:
                try:
                    with optuna_explained(url):
                        recover(open_study(url, folder.name))
                except StudyError as error:  # whatever ended the search is what is said last
                    display.say(f"Running trials are marked by the next command: {error}")
        display.end(folder.name, shown(parse_url(url)))
    return code


class _Crew:
    """The worker processes of one launcher."""

    def __init__(self, options: SearchOptions, space: Space, display: Display) -> None:
        self._options = options
        self._processes = Processes("nas.search.worker", threads(space.input_shape, options.workers))
        self._display = display
        self._deadline = None if options.timeout is None else time.monotonic() + options.timeout
        self._waiting: set[int] = set()
        self._deaths = 0
        self._over: set[int] = set()
        self._errors: list[str] = []
        self._stopping = 0

    def run(self) -> int:
        """Start all, follow their events until the last one has ended."""
        with self._processes.heard():
            for number in range(1 if self._options.dry_run else self._options.workers):
                self._start(number)
            self._go(0)
            while self._processes.numbers:
                heard = self._processes.next(timeout=0.25)
                if heard is None:
                    self._display.refresh()
                    continue
                number, event = heard
                if number < 0:
                    self._stop()
                elif event is None:
                    self._ended(number)
                else:
                    self._happened(number, event)
        if self._errors:
            raise StudyError(self._errors[0])
        return 130 if self._stopping else 0

    def kill(self) -> None:
        """End whatever still runs, at once."""
        self._processes.kill()

    def _start(self, number: int) -> None:
        self._waiting.add(number)
        device, environment = placed(self._options.device, number)
        order = {
            "options": asdict(self._options) | {"device": device},
            "number": number,
            # on the clock as it stands now: it may have been set back since the search began
            "deadline": None if self._deadline is None else time.time() + self._deadline - time.monotonic(),
            # whoever joins a search begins at once: how long it takes was said where it was begun
            "known": self._display.study_ready,
            "measure": number == 0 and not self._display.study_ready and not self._options.joins,
        }
        self._processes.start(number, order, environment)

    def _go(self, number: int) -> None:
        if number in self._waiting:
            self._waiting.discard(number)
            self._processes.say(number, "go")

    def _stop(self) -> None:
        """Once: each worker ends its trial and itself. Twice: killed, and `recover` marks what they held."""
        self._stopping += 1
        if self._stopping == 1:
            self._display.say("stopping: running trials are marked and can be taken up again; Ctrl-C again kills")
        self._processes.ask_to_end()
        if self._stopping > 1:
            self._processes.kill(wait=False)

    def _happened(self, number: int, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "error":
            self._fail(event["message"])
            return
        if kind == "words":
            self._fail("a worker broke down, which is a fault of nas:\n" + "".join(event["lines"][-40:]))
            return
        if kind == "ready":
            for other in sorted(self._waiting):
                self._go(other)
        elif kind == "over":
            self._over.add(number)
        elif kind == "end":
            self._deaths = 0
        self._display.happened(number, event)

    def _fail(self, message: str) -> None:
        self._errors.append(message)
        self._processes.ask_to_end()

    def _ended(self, number: int) -> None:
        code = self._processes.ended(number)
        self._waiting.discard(number)
        self._display.gone(number)
        if number in self._over or self._errors or self._stopping:
            return
        self._deaths += 1
        if self._deaths >= DEATHS:
            self._fail(f"{DEATHS} workers were killed with no trial ended in between (exit code {code})")
            return
        self._display.say(f"worker {number + 1} was killed (exit code {code}); another takes its place")
        self._start(number)
        self._go(number)
