"""Exported models against each other on this machine: every format of each, at several sizes of batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.data.files import shown
from nas.deployed.measure import Measured
from nas.errors import ExportError
from nas.references import REFERENCES

FORMATS = (("model.safetensors", "torch eager"), (".pt2", "torch export"), (".onnx", "ONNX Runtime"))
"""Ends of file names, and the runtime that runs them; a model.safetensors needs the model.json beside it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing to measure.

    Args:
        model: what its lines are called by: the folder or file that was named, or the reference network and its input.
        runtime: of `runtimes.RUNTIMES`.
        file: what the runtime opens; the name of a reference network.
        like: for a reference network, the model.json whose classes it has.
    """

    model: str
    runtime: str
    file: str
    like: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A subject with one size of batch; `error` is one line where it could not be measured."""

    subject: Subject
    batch: int
    measured: Measured | None
    error: str | None = None


def subjects(model: Path) -> list[Subject]:
    """Every format that is there: of a folder that `nas export` made, or one file of it.

    Raises:
        ExportError: there is nothing there that could be measured.
    """
    if not model.exists():
        raise ExportError(
            f"there is no model {shown(str(model))}: give folders that `nas export` made, or files of them"
        )
    files = sorted(model.iterdir()) if model.is_dir() else [model]
    found = [
        Subject(str(model), runtime, str(file))
        for end, runtime in FORMATS
        for file in files
        if file.name.endswith(end) and file.is_file()
    ]
    if not found:
        ends = ", ".join(end for end, _ in FORMATS)
        raise ExportError(
            f"{shown(str(model))} holds nothing to measure: give folders that `nas export` made, or files of them "
            f"({ends})"
        )
    return found


def beside(models: Sequence[Path]) -> list[Subject]:
    """The reference networks, each for its own input, with the classes of the first model that says its own; or none.

    The two single modules stand in their wrapper.
    """
    cards = [model / "model.json" for model in models if (model / "model.json").is_file()]
    if not cards:
        return []
    return [
        Subject(
            f"{one.name} at {'x'.join(map(str, one.input_shape))}", "torch eager, reference", one.name, str(cards[0])
        )
        for one in REFERENCES.values()
    ]


def bench(found: Sequence[Subject], batches: Sequence[int], *, threads: int, seconds: float) -> Iterator[Cell]:
    """Measure every subject with every size of batch, one after the other, each in a fresh process.

    Args:
        batches: images in a pass, each at least 1.
        threads: of a pass, at least 1.
        seconds: of timed passes of each, above 0.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    for subject in found:
        for batch in batches:
            order: dict[str, Any] = {
                "runtime": subject.runtime, "file": subject.file, "batch": batch, "threads": threads,
                "seconds": seconds, "like": subject.like,
            }  # fmt: skip
            command = [sys.executable, "-m", "nas.deployed.measure", json.dumps(order)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            yield _cell(subject, batch, done)


def _cell(subject: Subject, batch: int, done: subprocess.CompletedProcess[str]) -> Cell:
    if done.returncode < 0:
        why = "not enough memory?" if done.returncode == -9 else f"signal {-done.returncode}"
        return Cell(subject, batch, None, f"the process that measured it was killed: {why}")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Cell(subject, batch, None, f"the process that measured it failed: {shown(last)[:200]}")
    said = json.loads(done.stdout.splitlines()[-1])
    if "error" in said:
        return Cell(subject, batch, None, said["error"])
    return Cell(subject, batch, Measured(**said))
