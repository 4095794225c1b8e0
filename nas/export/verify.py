"""Written files, loaded back in fresh processes and held against the network in torch on the validation images."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.data import Dataset, normalise
from nas.errors import ExportError
from nas.metric import Metric, in_words
from nas.reading import READ_BATCH, score

TIE = 1e-4
"""Where the two highest logits are closer than this, rounding may decide, and either answer is right."""

PROGRAM = Path(__file__).with_name("fresh.py")


@dataclass(frozen=True, slots=True)
class Checked:
    """What one file answered.

    Args:
        file: its name.
        images: validation images.
        right: how many of them it gets right.
        accuracy: the study's metric, 0..1.
        same: on how many its answer is that of torch.
        difference: largest between one of its logits and torch's.
    """

    file: str
    images: int
    right: int
    accuracy: float
    same: int
    difference: float


def answers_of(
    network: nn.Module,
    files: Sequence[Path],
    code: Path,
    dataset: Dataset,
    *,
    input_shape: tuple[int, int, int],
    threads: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits (N, classes) on the validation images: of the network in torch, and of each file by its name.

    The images are decoded once. The ONNX files are answered by a process that has neither `nas` nor torch, with the
    predict.py in `code`; the others by one without `nas`.

    Args:
        network: in evaluation mode, on the CPU.
        files: model.onnx, model.pt2, model.py (with the weights beside it), model.safetensors.
        code: the folder with predict.py and model.py.
        dataset: with its images on the CPU.
        input_shape: of them, (channels, height, width).
        threads: of each process.

    Raises:
        ExportError: a file cannot be loaded back.
    """
    classes, (channels, height, width) = len(dataset.classes), input_shape
    with ExitStack() as stack:
        processes = [
            (mine, stack.enter_context(_fresh(mine, code, refused, (height, width, channels), threads)))
            for mine, refused in (
                ([path for path in files if path.suffix == ".onnx"], ("nas", "torch")),
                ([path for path in files if path.suffix != ".onnx"], ("nas",)),
            )
            if mine
        ]
        expected: list[Tensor] = []
        found: dict[str, list[Tensor]] = {path.name: [] for path in files}
        part = dataset.validation
        for images, _ in part.batches(torch.split(torch.arange(len(part)), READ_BATCH)):
            pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
            for _, process in processes:
                process.give(pixels)
            with torch.inference_mode():
                expected.append(network(normalise(images, dataset.mean, dataset.std)))
            for mine, process in processes:
                for path in mine:
                    found[path.name].append(torch.from_numpy(process.take(len(pixels), classes)))
    return torch.cat(expected), {name: torch.cat(parts) for name, parts in found.items()}


def compared(file: str, expected: Tensor, found: Tensor, labels: Tensor, metric: Metric) -> Checked:
    """What a file's logits (N, classes) are worth beside torch's."""
    right = found.argmax(1) == labels
    return Checked(
        file=file,
        images=len(labels),
        right=int(right.sum()),
        accuracy=score(right, labels, metric),
        same=int((expected.argmax(1) == found.argmax(1)).sum()),
        difference=float((found - expected).abs().max()),
    )


def agreed(file: str, expected: Tensor, found: Tensor, labels: Tensor, metric: Metric) -> Checked:
    """`compared`, where every answer has to be that of torch; ties may fall either way.

    Raises:
        ExportError: an answer is another one, or a logit is not finite.
    """
    differs = (expected.argmax(1) != found.argmax(1)) & ~tied(expected)
    if not found.isfinite().all():
        raise ExportError(f"{file} gives logits that are not finite; nothing was written")
    if differs.any():
        raise ExportError(
            f"{file} answers otherwise than the network in torch on {int(differs.sum())} of {len(labels)} validation "
            "images; nothing was written"
        )
    return compared(file, expected, found, labels, metric)


def as_recorded(
    trial: int, recorded: float, device: str, expected: Tensor, found: Tensor, labels: Tensor, metric: Metric
) -> float:
    """The metric of the answers, 0..1, once it is that of the record.

    Args:
        trial: for the message.
        recorded: what the training read at its end.
        device: that it ran on: a GPU reads in bfloat16, where a few images near a boundary fall to the other side.
        expected, found: logits of torch and of a file, (N, classes).

    Raises:
        ExportError: it is not.
    """
    right = found.argmax(1) == labels
    reached = score(right, labels, metric)
    weights = _weights(labels, metric)
    room = (
        0.5 * float(weights.min())
        + float(weights[tied(expected)].sum())
        + (0 if device == "cpu" else 0.005 + float(weights.max()))
    )
    if abs(reached - recorded) > room:
        raise ExportError(
            f"the exported network is right on {int(right.sum())} of {len(labels)} validation images, "
            f"{in_words(metric)} {reached:.4f}; the record of trial {trial} says {recorded:.4f}; nothing was written"
        )
    return reached


def tied(logits: Tensor) -> Tensor:
    """(N, classes) -> (N,) bool: whether rounding may decide; never with a single class."""
    if logits.shape[1] < 2:
        return torch.zeros(len(logits), dtype=torch.bool)
    top = logits.topk(2, dim=1).values
    return (top[:, 0] - top[:, 1]) < TIE


class _Process:
    """One that runs `fresh.py`."""

    def __init__(self, running: subprocess.Popen[bytes], files: Sequence[Path], said: Path) -> None:
        self._running = running
        self._names = ", ".join(path.name for path in files)
        self._said = said

    def give(self, pixels: NDArray[np.uint8]) -> None:
        """Hand it a batch (n, H, W, C)."""
        self.say(len(pixels).to_bytes(4, "little") + pixels.tobytes())

    def say(self, content: bytes) -> None:
        """Write to its standard input."""
        assert self._running.stdin is not None
        try:
            self._running.stdin.write(content)
            self._running.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def take(self, count: int, classes: int) -> NDArray[np.float32]:
        """The logits (count, classes) of its next file."""
        assert self._running.stdout is not None
        content = self._running.stdout.read(4 * count * classes)
        if len(content) != 4 * count * classes:
            raise self._failed()
        return np.frombuffer(bytearray(content), np.float32).reshape(count, classes)

    def _failed(self) -> ExportError:
        self._running.wait()
        lines = self._said.read_text(errors="replace").strip().splitlines()
        said = lines[-1][:300] if lines else f"it ended with {self._running.returncode}"
        return ExportError(f"a fresh process cannot answer by {self._names} ({said}); nothing was written")


@contextmanager
def _fresh(
    files: Sequence[Path], code: Path, refused: Sequence[str], shape: Sequence[int], threads: int
) -> Iterator[_Process]:
    """A process without the environment of this one, that loads the files; ended at the end."""
    order = {
        "path": [entry for entry in sys.path if entry],
        "refused": list(refused),
        "files": [str(path) for path in files],
        "code": str(code),
        "shape": list(shape),
        "threads": threads,
    }
    with tempfile.NamedTemporaryFile() as said:
        running = subprocess.Popen(
            [sys.executable, "-I", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        )
        process = _Process(running, files, Path(said.name))
        try:
            process.say(json.dumps(order).encode() + b"\n")
            yield process
        finally:
            running.kill()
            running.communicate()


def _weights(labels: Tensor, metric: Metric) -> Tensor:
    """What one image more or less changes the metric by: (N,) float64, of sum 1."""
    if metric == "accuracy":
        return torch.full((len(labels),), 1 / len(labels), dtype=torch.float64)
    images = torch.bincount(labels).double()
    return 1 / (images[labels] * int((images > 0).sum()))
