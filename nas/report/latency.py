"""Measured latency of a study's networks: taken once, kept in its folder, read again without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nas.architecture import Architecture
from nas.beside import beside
from nas.errors import StudyError
from nas.outcome import Outcome
from nas.refined import Refinement

THREADS = 1
RUNS = 50


@dataclass(frozen=True, slots=True)
class Latency:
    """What was measured, and on what.

    Args:
        ms: median milliseconds of one image through the network in torch on the CPU, by the network's key.
        hardware: processor and cores.
        threads: of torch.
        runs: that each is the median of.
        versions: of nas, python, torch and so on.
    """

    ms: Mapping[str, float]
    hardware: str
    threads: int
    runs: int
    versions: Mapping[str, str]

    @property
    def words(self) -> str:
        """How it was measured, for a person; plain text."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        runs = f"median of {self.runs} run{'s' * (self.runs != 1)}"
        return f"one image, torch {self.versions.get('torch', '?')}, {threads}, {runs}, {self.hardware}"


def worth_measuring(outcome: Outcome, trainings: Sequence[Refinement]) -> list[Architecture]:
    """The networks of the front and those trained in full, each once."""
    wanted = {one.trial for one in trainings} | {row.trial for row in outcome.front}
    return [row.architecture for row in outcome.rows if row.trial in wanted]


def read_latency(path: Path, study: str) -> Latency | None:
    """What an earlier report measured; None where none did.

    Raises:
        StudyError: the file is damaged.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        ms = {str(key): float(value) for key, value in raw["ms"].items()}
        if not all(0 < value < float("inf") for value in ms.values()):
            raise ValueError("a latency is not above 0")
        versions = {str(name): str(value) for name, value in raw["versions"].items()}
        return Latency(ms, str(raw["hardware"]), int(raw["threads"]), int(raw["runs"]), versions)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(f"{type(error).__name__} {error}".split())[:120]
        raise StudyError(
            f"{path} is damaged ({said}): delete it, and measure anew with `nas report {study} --latency`"
        ) from error


def measure_latency(path: Path, study: str, networks: Sequence[Architecture]) -> Latency:
    """Measure those of these networks that were not yet, on the CPU with one thread, and keep the answers.

    What was measured on another machine, or by other versions, is measured anew: their times do not compare.

    Raises:
        StudyError: the file is damaged.
        OSError: it cannot be written.
    """
    import torch

    from nas.costs import latency_ms
    from nas.models import build
    from nas.search.hardware import hardware, versions

    known: dict[str, float] = {}
    found = Latency(known, hardware(torch.device("cpu")), THREADS, RUNS, versions())
    earlier = read_latency(path, study)
    if earlier is not None and replace(earlier, ms=known) == found:
        known.update(earlier.ms)
    missing = {one.key: one for one in networks if one.key not in known}
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        for key, architecture in missing.items():
            network = build(architecture).to(memory_format=torch.channels_last)
            known[key] = latency_ms(network, architecture.input_shape, device="cpu", runs=RUNS)
    finally:
        torch.set_num_threads(threads)
    if missing:
        _write(path, asdict(found))
    return found


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with beside(path) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        aside.replace(path)
