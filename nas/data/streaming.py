"""Images that do not fit into memory: decoded from their files, batch by batch, by processes beside the training."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nas.data.files import Files
from nas.errors import DataError, TrialFailed

MEMORY_SHARE = 0.25
"""Of the machine's memory, what decoded images may take; networks, their activations and copies need the rest."""

AHEAD = 2
"""Batches that each process decodes ahead."""

TIMED = 64
"""Images that are decoded to tell how long all of them take."""

Rows = NDArray[np.int64]


def memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may come to use: the machine's, or its control group's where that is less.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    groups = root / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        # version 1 and 2 differ in the folder and the file; a container may see its own group as the uppermost
        top, name = ("memory", "memory.limit_in_bytes") if controllers else (".", "memory.max")
        place = Path(path.lstrip("/"))
        for group in (place, *place.parents):
            limit = root / "sys/fs/cgroup" / top / group / name
            if limit.exists() and (text := limit.read_text().strip()).isdecimal():
                limits.append(int(text))
    return min(limits)


def room(share: float | None = None, *, workers: int = 1, device: torch.device | None = None) -> int:
    """Bytes that one worker's decoded images may take.

    Args:
        share: of the memory, 0..1; 0 streams every folder; None is `MEMORY_SHARE`.
        workers: that share the machine, each with its own copy.
        device: a GPU whose memory is the limit where it is less than the machine's.
    """
    limits = [memory()]
    if device is not None and device.type == "cuda":
        limits.append(torch.cuda.get_device_properties(device).total_memory)
    return int((MEMORY_SHARE if share is None else share) * min(limits) / workers)


class Decoder(Dataset[Tensor | str]):
    """In a decoding process: row numbers -> pixels (n, H, W, C), or one line about a file that cannot be read.

    A line and no exception, since torch would hand that on with a traceback for a message.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    def __getitem__(self, rows: Rows) -> Tensor | str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata in a file whose pixels are fine
            try:
                return torch.from_numpy(self._files.decode(rows))
            except DataError as error:
                return str(error)


class _Order(Sampler[Rows]):
    """The batches of the next pass: what a loader with lasting processes lets its caller change."""

    def __init__(self) -> None:
        self.groups: list[Rows] = []

    def __iter__(self) -> Iterator[Rows]:
        return iter(self.groups)


class Loader:
    """Processes that decode, started by the first batch, kept over all passes, ended by `close` or with this process.

    They are forked by a server process of their own and not by this one: a worker of a search holds threads, locks on
    files and a database, which a copy of it would hold on to after its end.

    Args:
        files: of all parts of a dataset.
        processes: at least 1.
        room: bytes that the images would have had to fit into.
    """

    def __init__(self, files: Files, processes: int, room: int) -> None:
        self.files = files
        self._processes = processes
        self._room = room
        self._order = _Order()
        self._loader: DataLoader[Any] | None = None
        self._batches: Iterator[Tensor | str] | None = None
        self._pass = 0

    def pixels(self, groups: list[Rows], *, pin: bool) -> Iterator[Tensor]:
        """The images of each group of rows, (n, H, W, C) uint8 on the CPU, in the order of the groups.

        A pass may be left early; beginning another ends it.

        Args:
            pin: into memory from which a GPU copies by itself; decided by the first pass.

        Raises:
            DataError: a file is no longer what it was.
            TrialFailed: a decoding process was killed; the next pass starts others.
            RuntimeError: another pass was begun since.
        """
        self._pass += 1
        mine = self._pass
        with self._alive():
            self._begin(groups, pin)
        for _ in groups:
            if mine != self._pass or self._batches is None:
                raise RuntimeError("another pass over these images was begun, or they were closed")
            with self._alive():
                batch = next(self._batches)
            if isinstance(batch, str):
                raise DataError(batch)
            yield batch

    def words(self, rows: Rows) -> str:
        """One line for whoever waits: why images are streamed, and what that costs; it times a few.

        Args:
            rows: that an epoch reads, at least one.

        Raises:
            DataError: an image file is no longer what it was.
        """
        few = rows[np.linspace(0, len(rows) - 1, TIMED, dtype=np.int64)]
        start = time.perf_counter()
        if isinstance(said := Decoder(self.files)[few], str):
            raise DataError(said)
        seconds = (time.perf_counter() - start) / TIMED * len(rows) / self._processes
        need = len(self.files) * math.prod(self.files.input_shape)
        return (
            f"Images are streamed from their files: {len(self.files):,} decoded ones are {_size(need)}, more than the "
            f"{_size(self._room)} for them in each worker (--memory-share). Every epoch decodes {len(rows):,} again, "
            f"in {self._processes} process(es) beside each worker: about {seconds:,.0f} s of work for each of them."
        )

    def close(self) -> None:
        """End the processes; a later pass starts others."""
        self._batches = self._loader = None  # torch ends them with the last reference

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            self.close()
            # torch's own words are lines of advice and a traceback
            raise TrialFailed(
                "a process that decodes images was killed: not enough memory, or not enough in /dev/shm",
                deterministic=False,
            ) from None

    def _begin(self, groups: list[Rows], pin: bool) -> None:
        self._order.groups = groups
        self._batches = None
        if self._loader is None:
            context = multiprocessing.get_context("forkserver")
            main = getattr(sys.modules["__main__"], "__spec__", None)
            # what each process would import for itself otherwise, in seconds
            context.set_forkserver_preload([__name__] if main is None else [__name__, main.name])
            self._loader = DataLoader(
                Decoder(self.files),
                batch_size=None,  # a row of the order is a batch already
                sampler=self._order,
                collate_fn=_as_it_is,
                num_workers=self._processes,
                worker_init_fn=_end_with_parent,
                prefetch_factor=AHEAD,
                persistent_workers=True,
                multiprocessing_context=context,
                pin_memory=pin,
                generator=torch.Generator(),  # or it would draw from torch's own, which dropout uses
            )
        self._batches = iter(self._loader)


def _size(count: int) -> str:
    """Bytes, for a person."""
    unit, name = (1e9, "GB") if count >= 1e9 else (1e6, "MB") if count >= 1e6 else (1e3, "kB")
    return f"{count / unit:,.1f} {name}"


def _end_with_parent(_: int) -> None:
    """In a decoding process: end when the process that it decodes for is gone, however it went.

    torch's own watch looks at the process that forked this one: the server, which lives as long as this does.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None  # it was started by one

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _as_it_is(batch: Any) -> Any:
    return batch


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """Images of one part, in place of its tensor: (N, C, H, W), decoded as they are asked for.

    Args:
        loader: shared by the parts of a dataset, of which one is read at a time.
        rows: (N,) of the loader's files.
        device: where batches go.
    """

    loader: Loader
    rows: Rows
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def shape(self) -> torch.Size:
        """As of the tensor."""
        return torch.Size((len(self.rows), *self.loader.files.input_shape))

    def to(self, device: torch.device | str) -> Streamed:
        """The same with its batches on a device."""
        return Streamed(self.loader, self.rows, torch.device(device))

    def batches(self, rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Each group of row numbers with its images, (n, C, H, W) uint8 in channels_last, on the device.

        Raises: as `Loader.pixels`.
        """
        groups = list(rows)
        pin = self.device.type == "cuda"
        wanted = [self.rows[group.numpy(force=True)] for group in groups]
        for group, pixels in zip(groups, self.loader.pixels(wanted, pin=pin), strict=True):
            yield group, pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
