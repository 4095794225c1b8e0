"""A search on a Ray cluster: what the user says about it, whether the cluster serves, how it is joined and left."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

import nas
from nas.errors import StudyError, choices
from nas.search.machine import cores
from nas.search.options import SearchOptions
from nas.search.ray_crew import RayCrew, last_words
from nas.space import Space

ENGINES = ("local", "ray")
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody is told what runs here
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of a word to a worker that has just died: its death is heard all the same
    "RAY_SCHEDULER_EVENTS": "0",  # who waits for room is said by the search
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do from some version on, and warns of until then
}
QUIET: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
STORE = 80 * 2**20
"""Bytes of shared memory for Ray's objects, about the least that it takes: events are all that is passed."""
ANSWER_S = 60.0
"""Seconds in which a node says what is installed there."""
INSTALLED = """
import hashlib, importlib.metadata, importlib.util, pathlib

spec = importlib.util.find_spec("nas")
if spec is None or spec.origin is None:
    print("none")
else:
    files, folder = hashlib.sha256(), pathlib.Path(spec.origin).parent
    for path in sorted(folder.rglob("*.py")):
        files.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    print(importlib.metadata.version("nas"), "with files", files.hexdigest()[:12])
"""
"""Says which nas a process there would run: its version, and its files, which differ between checkouts of one version.

It is run as a worker is, since Ray's own processes look for packages in more places.
"""
SHORT = 30
"""Characters of a folder in which Ray's sockets may lie: their paths, longer by 80, may have 107."""
REACH_S = 5.0
"""Seconds for a connection to a cluster; Ray itself tries for minutes."""


@dataclass(frozen=True, slots=True)
class RayOptions:
    """What a search on Ray is told beside `SearchOptions`.

    Args:
        address: ``auto`` or ``HOST:PORT`` of a cluster that this machine is a node of; None starts Ray on this machine,
            for this search alone.
        workers: at least 1; None is as many as the cluster has room for.
        cpus: cores of each worker, and its threads, at least 1.
        gpus: of each worker, 0..1, where 0.25 lets four share one; None is 1 on a cluster with GPUs, unless the search
            is to use the CPU, else 0.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    gpus: float | None = None

    def check(self, device: str) -> None:
        """Look over all that needs no cluster.

        Args:
            device: as in `SearchOptions`.

        Raises:
            StudyError: a value is out of range, or the device contradicts it.
        """
        for name, value in (("--workers", self.workers), ("--cpus-per-worker", self.cpus)):
            if value is not None and value < 1:
                raise StudyError(f"{name} {value}: it must be a whole number of at least 1")
        if self.gpus is not None and not 0 <= self.gpus <= 1:
            raise StudyError(f"--gpus-per-worker {self.gpus:g}: it must be in 0..1; a worker trains on one GPU at most")
        if ":" in device:
            raise StudyError(f"--device {device}: Ray gives each worker its GPU; use --device cuda")
        if device == "cuda" and self.gpus == 0:
            raise StudyError(
                "--device cuda with --gpus-per-worker 0: give the workers a part of a GPU, or --device cpu"
            )
        if device == "cpu" and self.gpus:
            raise StudyError(f"--device cpu with --gpus-per-worker {self.gpus:g}: leave one of them out")
        if self.address not in (None, "auto"):
            _host_and_port(str(self.address))


def ray_options(engine: str, device: str, per_gpu: str | None, **given: Any) -> RayOptions | None:
    """What the command line says about Ray; None where the search is to run on this machine.

    Args:
        engine: one of ENGINES.
        device: as in `SearchOptions`.
        per_gpu: ``--workers-per-gpu``, which is for one machine.
        given: what `RayOptions` takes; of those left out by the user: None.

    Raises:
        StudyError: an unknown engine, or options that do not go together.
    """
    if engine not in ENGINES:
        raise StudyError(choices("--engine", engine, ENGINES))
    if engine == "local":
        for name, option in (("address", "--address"), ("cpus", "--cpus-per-worker"), ("gpus", "--gpus-per-worker")):
            if given[name] is not None:
                raise StudyError(
                    f"{option} {given[name]}: it is for a search on Ray; add --engine ray, or leave it out"
                )
        return None
    if per_gpu is not None:
        raise StudyError(
            f"--workers-per-gpu {per_gpu}: on Ray say what part of a GPU a worker gets, as in --gpus-per-worker 0.25"
        )
    asked = RayOptions(**{name: value for name, value in given.items() if value is not None})
    asked.check(device)
    return asked


@contextlib.contextmanager
def on_ray(
    asked: RayOptions, options: SearchOptions, space: Space, url: URL
) -> Iterator[tuple[SearchOptions, RayCrew]]:
    """The options as they hold on every node, and the crew, while Ray is connected.

    Args:
        space: of the options.
        url: of the study's database.

    Raises:
        StudyError: Ray or the cluster is not there, has no room for a worker, holds several nodes beside a SQLite
            database, or a node has another nas.
    """
    with _connected(asked.address) as ray, open(os.devnull, "w") as nowhere:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        gpus = asked.gpus
        if gpus is None:
            gpus = float(options.device != "cpu" and any(node["Resources"].get("GPU", 0) for node in nodes))
        rooms = {node["NodeID"]: _room(node["Resources"], asked.cpus, gpus) for node in nodes}
        room = sum(rooms.values())
        if not room:
            raise StudyError(
                f"no node of the Ray cluster has room for a worker of {asked.cpus} CPU(s) and {gpus:g} GPU(s), so it "
                f"would wait for ever: the nodes have {_shown(nodes)}; give less to --cpus-per-worker or "
                "--gpus-per-worker, or start a larger node"
            )
        here = ray.get_runtime_context().get_node_id()
        used = {here} | {name for name, number in rooms.items() if number}
        pinned = None
        if url.get_backend_name() == "sqlite":
            if len(used) > 1:
                raise StudyError(
                    f"the Ray cluster has {len(used)} nodes and the study is in SQLite, whose locks do not hold "
                    "between machines: the file would be damaged; use --storage postgresql+psycopg://USER@HOST/NAME"
                )
            pinned = here  # whatever nodes come later
        _same_nas(ray, [node for node in nodes if node["NodeID"] in used - {here}])
        workers = asked.workers or room
        words = (
            f"Ray: {len(nodes)} node{'s' * (len(nodes) != 1)} with {_shown(nodes)}; {min(workers, room)} of {workers} "
            f"workers of {asked.cpus} CPU(s) and {gpus:g} GPU(s) at once"
            + (", the others wait for room." if workers > room else ".")
        )
        options = replace(
            options,
            workers=workers,
            workers_per_gpu=math.floor(1 / gpus + 1e-9) if gpus else None,
            device="cuda" if gpus else "cpu",
            studies_dir=str(Path(options.studies_dir).absolute()),
            space=space.name,
            space_toml=space.toml,
            dataset=_everywhere(options.dataset or space.dataset),
            storage=None if options.storage is None else _storage(url),
        )
        crew = RayCrew(ray, asked.cpus, gpus, pinned, words)
        # What Ray prints by itself goes to standard output, which is for data.
        with contextlib.redirect_stdout(nowhere):
            yield options, crew


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster; one that is started for the context is gone after it, with its files."""
    os.environ.update(ENVIRONMENT)
    try:
        import ray
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise StudyError("--engine ray: Ray is not installed; pip install 'nas[ray]'") from error
    where = tempfile.gettempdir() if len(tempfile.gettempdir()) < SHORT else "/tmp"  # noqa: S108  (a new folder in it)
    with tempfile.TemporaryDirectory(prefix="nas-ray-", dir=where, ignore_cleanup_errors=True) as folder:
        try:
            if address is None:
                alone = {"num_cpus": cores(), "include_dashboard": False, "object_store_memory": STORE}
                _begin(ray, address="local", _temp_dir=folder, **alone)
            else:
                _begin(ray, address=_reachable(address))
            yield ray
        finally:
            ray.shutdown()


def _begin(ray: Any, **how: Any) -> None:
    # Ray's processes, and the workers under them, outlive a closed terminal, so that the search can end in order.
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ray.init(**how, **QUIET)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise StudyError(f"Ray cannot begin at {how['address']} ({last_words(error)})") from error
    finally:
        signal.signal(signal.SIGHUP, hangup)


def _reachable(address: str) -> str:
    """``HOST:PORT`` of a cluster, which answers there."""
    where = address
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        try:
            where = str(canonicalize_bootstrap_address("auto"))
        except (ConnectionError, ValueError) as error:
            raise StudyError(
                "--address auto: this machine is no node of a Ray cluster; make it one (ray start --address "
                "HOST:PORT), or leave --address out to use this machine alone"
            ) from error
    host, port = _host_and_port(where)
    try:
        socket.create_connection((host, port), timeout=REACH_S).close()
    except OSError as error:
        raise StudyError(
            f"--address {address}: no Ray cluster answers at {where} ({error.strerror or error}); start it with "
            "ray start --head, and see that its port is open"
        ) from error
    return where


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise StudyError(f"--address {address!r}: it must be auto or HOST:PORT, as ray start --head says it")
    return host.strip("[]"), int(port)


def _room(resources: Mapping[str, float], cpus: int, gpus: float) -> int:
    """Workers that a node has room for."""
    room = int(resources.get("CPU", 0) // cpus)
    # Ray never gives a worker parts of two GPUs.
    return min(room, int(resources.get("GPU", 0)) * math.floor(1 / gpus + 1e-9)) if gpus else room


def _shown(nodes: Sequence[Mapping[str, Any]]) -> str:
    """What the nodes have, for a person."""
    have = (node["Resources"] for node in nodes)
    return ", ".join(f"{one.get('CPU', 0):g} CPU(s) and {one.get('GPU', 0):g} GPU(s)" for one in have)


def _everywhere(dataset: str) -> str:
    """A dataset by a path that does not depend on where a process runs."""
    if not dataset.startswith("folder:"):
        return dataset
    return f"folder:{Path(dataset.removeprefix('folder:')).expanduser().absolute()}"


def _storage(url: URL) -> str:
    """A database's URL, for its file by its whole path; with its password."""
    if url.get_backend_name() == "sqlite":
        url = url.set(database=str(Path(str(url.database)).absolute()))
    return url.render_as_string(hide_password=False)


def _same_nas(ray: Any, nodes: Sequence[Mapping[str, Any]]) -> None:
    """See that nodes have the nas that runs here.

    Raises:
        StudyError: one has another or none, or does not answer.
    """

    def installed(folder: str | None) -> str:  # goes to a node as it is, whatever is installed there
        import subprocess
        import sys

        done = subprocess.run([sys.executable, "-c", INSTALLED], capture_output=True, text=True, cwd=folder)
        return (done.stdout or done.stderr).strip().splitlines()[-1]

    if not nodes:
        return
    on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    ask = ray.remote(installed)
    asked = [
        ask.options(num_cpus=0, max_retries=0, scheduling_strategy=on(node["NodeID"], soft=False)).remote(None)
        for node in nodes
    ]
    here = installed(str(Path(nas.__file__).parents[1]))
    for node, answer in zip(nodes, asked, strict=True):
        name = node["NodeManagerAddress"]
        try:
            there = ray.get(answer, timeout=ANSWER_S)
        except ray.exceptions.RayError as error:
            raise StudyError(f"node {name} of the Ray cluster does not answer ({last_words(error)})") from error
        if there != here:
            raise StudyError(
                f"node {name} of the Ray cluster has another nas: {there}, this machine {here}; install the same "
                "everywhere"
            )
