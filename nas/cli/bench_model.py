"""`nas bench-model`: what exported networks cost on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nas.deployed.bench import Cell

Models = Annotated[
    list[Path],
    typer.Argument(
        help="Folders that [b]nas export[/] made, or files of them. A model.pt2 is a program: measure what you trust.",
        metavar="MODEL...",
    ),
]
Batch = Annotated[str, typer.Option(help="Images in a pass, one or several sizes: [b]1,32[/].", metavar="SIZES")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of a pass.")]
Seconds = Annotated[float, typer.Option(help="Of timed passes of each model, format and size of batch.")]
References = Annotated[
    bool, typer.Option(help="Measure the reference networks too, untrained, beside an exported folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
LARGEST = 65_536
PACKAGES = ("nas", "torch", "onnxruntime", "numpy")


def bench_model(
    models: Models,
    batch: Batch = "1,32",
    threads: Threads = 1,
    seconds: Seconds = 2.0,
    references: References = True,
    json: Json = False,
) -> None:
    """Measure latency, throughput and memory of exported networks, every format that is there.

    Each number is from a fresh process on the CPU; reading and decoding images is not in it.
    """
    from nas.cli.output import print_json, say
    from nas.deployed.bench import bench, beside, subjects
    from nas.deployed.measure import LEAST_RUNS
    from nas.errors import ExportError

    sizes = _sizes(batch)
    if not 0 < seconds <= 3600:
        raise ExportError(f"--seconds {seconds:g}: give more than 0 and at most 3600")
    found = [subject for model in models for subject in subjects(model)]
    machine = _machine()
    say(
        f"{machine['hardware']}, {threads} thread{'s' * (threads != 1)}, "
        + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        + f"; load average {machine['load_average']:.1f} before this"
    )
    known = beside(models) if references else []
    if known:
        say(f"Beside them {len(known)} reference networks, each for its own input; --no-references leaves them out.")
    found += known
    cells: list[Cell] = []
    for cell in bench(found, sizes, threads=threads, seconds=seconds):
        cells.append(cell)
        if cell.measured is None:
            say(f"nas: {cell.subject.file}, batch {cell.batch}: {cell.error}")
            continue
        done = f"{len(cells)} of {len(found) * len(sizes)}"
        say(f"[{done}] {cell.subject.file}, batch {cell.batch}: {cell.measured.median_ms:.3f} ms")
        if cell.measured.runs < LEAST_RUNS:
            say(f"{cell.subject.file}, batch {cell.batch}: only {cell.measured.runs} passes; give more --seconds")
    if json:
        print_json({**machine, "threads": threads, "seconds": seconds, "cells": [_plain(cell) for cell in cells]})
    else:
        _print([cell for cell in cells if cell.measured is not None])
    if any(cell.measured is None for cell in cells):
        raise typer.Exit(1)


def _sizes(text: str) -> list[int]:
    from nas.errors import ExportError

    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdecimal() and 0 < int(part) <= LARGEST for part in parts):
        raise ExportError(f"--batch {text!r}: give one or several numbers of images from 1 to {LARGEST}, as in 1,32")
    return list(dict.fromkeys(map(int, parts)))


def _machine() -> dict[str, Any]:
    import os
    import sys
    from importlib.metadata import version

    import torch

    from nas.search.hardware import hardware

    return {
        "hardware": hardware(torch.device("cpu")),
        "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in PACKAGES},
        "load_average": os.getloadavg()[0],
    }


def _plain(cell: Cell) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": cell.subject.model,
        "runtime": cell.subject.runtime,
        "file": cell.subject.file,
        "batch": cell.batch,
        **({"error": cell.error} if cell.measured is None else asdict(cell.measured)),
    }


def _print(cells: list[Cell]) -> None:
    from nas.cli.output import print_table

    lines = []
    for cell in cells:
        assert cell.measured is not None
        one, name = cell.measured, Path(cell.subject.file).name
        lines.append(
            [
                *(cell.subject.model, cell.subject.runtime, name, str(cell.batch)),
                *(f"{one.median_ms:.3f}", f"{one.p95_ms:.3f}", f"{one.images_per_s:,.0f}"),
                *(f"{one.runs:,}", f"{one.peak_mb:,.0f}", f"{one.model_mb:,.1f}"),
            ]
        )
    print_table(
        ["model", "runtime", "file", "batch", "median ms", "p95 ms", "images/s", "passes", "peak MiB", "of the model"],
        lines,
        left=["model", "runtime", "file"],
    )
