"""Workers of a search on a Ray cluster: each an actor that runs the very process that a search on one machine runs.

The actor is `Processes` with one process, so an event, a word to a worker and its end are the same here and there. A
crash of native code takes the process alone; when the actor dies, the process's standard input closes and it ends.
Where a worker lands, and on which part of which GPU, is Ray's; what it does is kept in the study's database, so a node
that dies takes nothing along but the trials that were running there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any

from nas.search.processes import Processes, signals_to

HEARD_S = 0.25
"""Seconds that an actor waits for an event before it answers that there is none; a word to it waits so long."""
ENDING_S = 5.0
"""Seconds that a worker that is killed, or has ended, is waited for."""


class _Seat(Processes):
    """One worker process on a node: what Ray makes an actor of."""

    def begin(self, order: Mapping[str, Any]) -> str:
        """Start the process; the id of the node it is on."""
        import ray

        self.start(0, order)
        return str(ray.get_runtime_context().get_node_id())


class RayCrew:
    """Actors by number, with the methods of `Processes`.

    Args:
        ray: the module, connected.
        cpus: cores and threads of each worker.
        gpus: part of a GPU that each gets.
        pinned: the only node that workers may be on; None for any.
        words: about the cluster, for a person.
        module: what a worker runs.
    """

    def __init__(
        self,
        ray: Any,
        cpus: int,
        gpus: float,
        pinned: str | None = None,
        words: str = "",
        module: str = "nas.search.worker",
    ) -> None:
        self.words = words
        self._module = module
        self._ray = ray
        self._threads = cpus
        # An actor that died is made anew by the launcher, which has to tell it its order again.
        needs: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0}
        if pinned is not None:
            on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
            needs["scheduling_strategy"] = on(pinned, soft=False)
        self._actor = ray.remote(_Seat).options(**needs)
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, int] = {}
        self._nodes: dict[int, str] = {}
        self._lost: dict[int, str] = {}
        self._events: SimpleQueue[tuple[int, dict[str, Any] | None]] = SimpleQueue()

    @property
    def numbers(self) -> list[int]:
        """Of the workers that have not been reported gone by `ended`, those that wait for room too."""
        return list(self._actors)

    def start(self, number: int, order: Mapping[str, Any]) -> None:
        """Start a worker as soon as the cluster has room for it, and say its order."""
        actor = self._actors[number] = self._actor.remote(self._module, self._threads)
        self._asked[actor.begin.remote(dict(order))] = number

    def say(self, number: int, line: str) -> None:
        """A line for a worker; one that waits for room hears it when it has begun."""
        self._actors[number].say.remote(0, line)

    def next(self, timeout: float) -> tuple[int, dict[str, Any] | None] | None:
        """The next event and whose it is; see `Processes.next`."""
        if self._events.empty():
            if not self._asked:
                with contextlib.suppress(Empty):
                    return self._events.get(timeout=timeout)
                return None
            answered, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=timeout)
            for answer in answered:
                self._take(answer)
        with contextlib.suppress(Empty):
            return self._events.get_nowait()
        return None

    def ended(self, number: int) -> str:
        """Forget a worker that has ended; how it ended."""
        actor = self._actors.pop(number)
        how = self._lost.pop(number, None)
        self._nodes.pop(number, None)
        if how is None:
            try:
                how = self._ray.get(actor.ended.remote(0), timeout=ENDING_S)
            except self._ray.exceptions.RayError as error:
                how = last_words(error)
        self._ray.kill(actor)  # its room is for another
        return str(how)

    def ask_to_end(self) -> None:
        """Close the standard input of each; who waits for room waits no longer."""
        for number, actor in self._actors.items():
            if number in self._nodes:
                actor.ask_to_end.remote()
            else:
                self._ray.kill(actor)

    def kill(self, *, wait: bool = True) -> None:
        """End whatever still runs, at once; `wait` until it is gone, for at most `ENDING_S`."""
        ends = [actor.kill.remote() for number, actor in self._actors.items() if number in self._nodes]
        if ends and wait:
            self._ray.wait(ends, num_returns=len(ends), timeout=ENDING_S)
        for actor in self._actors.values():
            self._ray.kill(actor)

    def heard(self) -> contextlib.AbstractContextManager[None]:
        """SIGINT, SIGTERM and SIGHUP as events of number -1, while the context lasts."""
        return signals_to(self._events)

    def _take(self, answer: Any) -> None:
        """What an actor answered, or that it never will; a living one is asked again."""
        number = self._asked.pop(answer)
        if number not in self._actors:
            return
        try:
            said = self._ray.get(answer)
        except self._ray.exceptions.ActorUnavailableError:
            # Its answer, perhaps an event, is lost with the connection, so it goes, whatever broke that.
            self._ray.kill(self._actors[number])
            self._lost[number] = self._why(number, "it or its node is out of reach")
            self._events.put((number, None))
            return
        except self._ray.exceptions.RayError as error:
            self._lost[number] = self._why(number, last_words(error))
            self._events.put((number, None))
            return
        if number not in self._nodes:
            self._nodes[number] = said
        elif said is not None:
            event = said[1]
            self._events.put((number, event))
            if event is None:
                return
            if event["event"] == "over":
                self._dismiss()
        self._asked[self._actors[number].next.remote(HEARD_S)] = number

    def _dismiss(self) -> None:
        """A search that is over needs nobody who still waits for room."""
        for number, actor in self._actors.items():
            if number not in self._nodes:
                self._ray.kill(actor)
                self._events.put((number, {"event": "over", "why": "done", "peak_mb": 0.0}))

    def _why(self, number: int, otherwise: str) -> str:
        for node in self._ray.nodes():
            if node["NodeID"] == self._nodes.get(number) and not node["Alive"]:
                return f"its node {node['NodeManagerAddress']} is gone"
        return otherwise


def last_words(error: Exception) -> str:
    """What Ray says, for a line of ours: why an actor died, or else the first line; at most 200 characters."""
    lines = str(error).strip().splitlines()
    why = [line for line in lines if line.startswith("The actor ")]
    return (why or lines or [type(error).__name__])[-1 if why else 0][:200]
