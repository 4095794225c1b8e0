"""Worker processes of one launcher: started, spoken to and listened to in lines of JSON, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import IO, Any

from nas.search.machine import ALLOCATOR

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Processes:
    """Processes by number, each ``python -m MODULE``.

    What each writes to standard output is its events. It has to end when its standard input closes, as that does
    however the launcher ends.

    Args:
        module: what a worker runs.
        threads: of each worker's arithmetic, at least 1.
    """

    def __init__(self, module: str, threads: int) -> None:
        self._module = module
        self._environment = ALLOCATOR | os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self._events: SimpleQueue[tuple[int, dict[str, Any] | None]] = SimpleQueue()
        self._processes: dict[int, subprocess.Popen[str]] = {}

    @property
    def numbers(self) -> list[int]:
        """Of the processes that have not been reported gone by `ended`."""
        return list(self._processes)

    def start(self, number: int, order: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        """Start a process and say its order, as JSON in one line; `environment` is added to its own."""
        # The workers ignore Ctrl-C and a closed terminal from their first instruction: these reach the whole group, and
        # the launcher asks.
        handlers = {name: signal.signal(name, signal.SIG_IGN) for name in (signal.SIGINT, signal.SIGHUP)}
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self._environment | dict(environment or {}),
            )
        finally:
            for name, handler in handlers.items():
                signal.signal(name, handler)
        self._processes[number] = process
        self.say(number, json.dumps(order))
        said: list[str] = []
        words = threading.Thread(target=_collect, args=(process.stderr, said), daemon=True)
        words.start()
        threading.Thread(target=self._listen, args=(number, process, words, said), daemon=True).start()

    def say(self, number: int, line: str) -> None:
        """A line for a process; one that has ended hears nothing, and says so by the end of its output."""
        pipe = self._processes[number].stdin
        assert pipe is not None
        try:
            pipe.write(line + "\n")
            pipe.flush()
        except (BrokenPipeError, ValueError):
            pass

    def next(self, timeout: float) -> tuple[int, dict[str, Any] | None] | None:
        """The next event and whose it is; None in place of an event where that process has ended: see `ended`.

        Number -1 is a signal of `heard`. A process that broke down says ``{"event": "words", "lines": [...]}`` before
        its end. None where nothing happens within `timeout` seconds.
        """
        try:
            return self._events.get(timeout=timeout)
        except Empty:
            return None

    def ended(self, number: int) -> str:
        """Forget a process that has ended; how it ended, for a person: its exit code."""
        process = self._processes.pop(number)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # something was still to be written
                process.stdin.close()
        return f"exit code {process.wait()}"

    def ask_to_end(self) -> None:
        """Close the standard input of each."""
        for process in self._processes.values():
            if process.stdin is not None and not process.stdin.closed:
                try:
                    process.stdin.close()
                except BrokenPipeError:
                    pass

    def kill(self, *, wait: bool = True) -> None:
        """End whatever still runs, at once."""
        for process in self._processes.values():
            process.kill()
            if wait:
                process.wait()

    def heard(self) -> contextlib.AbstractContextManager[None]:
        """See `signals_to`."""
        return signals_to(self._events)

    def _listen(self, number: int, process: subprocess.Popen[str], words: threading.Thread, said: list[str]) -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                self._events.put((number, json.loads(line)))
            process.wait()
            words.join()
            if process.returncode > 0 and said:
                self._events.put((number, {"event": "words", "lines": said}))
        finally:
            process.stdout.close()
            self._events.put((number, None))  # without it the launcher would wait for ever


@contextlib.contextmanager
def signals_to(events: SimpleQueue[tuple[int, dict[str, Any] | None]]) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP as events of number -1, while the context lasts.

    What is ignored already stays so: ``nohup`` means that a closed terminal is no reason to stop.
    """

    def put(*_: object) -> None:
        events.put((-1, None))

    heard = [name for name in SIGNALS if signal.getsignal(name) is not signal.SIG_IGN]
    before = {name: signal.signal(name, put) for name in heard}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _collect(pipe: IO[str] | None, lines: list[str]) -> None:
    """Keep the last words of a worker, for a breakdown."""
    if pipe is None:
        return
    with pipe:
        for line in pipe:
            lines.append(line)
            del lines[:-200]
