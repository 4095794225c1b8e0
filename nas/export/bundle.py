"""The folder that `nas export` writes: model.onnx, model.safetensors, model.json, checked before it is there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas.data import Dataset, normalise
from nas.errors import ExportError, written
from nas.export.onnx_file import INPUT, OPSET, OUTPUT, Deployed, run_onnx, write_onnx
from nas.metric import Metric, in_words
from nas.models import build
from nas.outcome import Outcome
from nas.reading import score
from nas.records import Row
from nas.study_folder import StudyFolder
from nas.study_images import load_images

FILES = ("model.onnx", "model.safetensors", "model.json")
TIE = 1e-4
"""Where the two highest logits are closer than this, rounding may decide, and either answer is right."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Args:
        path: the folder.
        row: the network's record.
        val_accuracy: the study's metric of the ONNX file on the validation images, 0..1.
        images: how many these are.
        difference: largest between a logit of the ONNX file and of the network in torch.
    """

    path: Path
    row: Row
    val_accuracy: float
    images: int
    difference: float


def export_network(
    folder: StudyFolder,
    outcome: Outcome,
    pick: str,
    *,
    output: Path | None = None,
    overwrite: bool = False,
    dataset: str | None = None,
    cache: Path | None = None,
) -> Exported:
    """Write a network of a study as ONNX, safetensors and JSON; whole and checked, or not at all.

    Args:
        folder: the study's folder, with its `weights`.
        outcome: the study's records.
        pick: as `Outcome.pick` takes it.
        output: the folder to make. None: `export/` and the pick in the study's folder, where an earlier export of
            the same pick is replaced without asking, because nas made that folder.
        overwrite: replace an earlier export at `output`. A folder that holds anything else is never touched.
        dataset: where the study's images are now, as `load_dataset` takes it; None: where they were.
        cache: where decoded images are kept.

    Raises:
        StudyError: the pick names no complete network.
        ExportError: no weights are kept for it; `output` is in the way; or the written file does not give the accuracy
            on record.
        DataError: the study's images are gone or broken, or are not those of the study.
        OSError: `output` cannot be written, or the disk is full.
        NasError: its folder cannot be made.
    """
    row = outcome.pick(pick)
    own = output is None
    target = folder.export / pick.replace(":", "-") if output is None else output
    _check_free(target, replace=own or overwrite)
    weights = _weights(folder, row)
    images = load_images(outcome, input_shape=row.architecture.input_shape, moved=dataset, cache=cache)

    with written(target):
        place = target.absolute()  # `.` has no name to put a folder beside
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{place.name}.{os.getpid()}")
        aside.mkdir()
        try:
            exported = _write(aside, target, outcome, row, weights, images)
            _swap(aside, place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return exported


def _check_free(target: Path, *, replace: bool) -> None:
    if target.exists() and not target.is_dir():
        raise ExportError(f"{target} is a file; choose another --output")
    there = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    foreign = [name for name in there if name not in FILES]
    if foreign:
        raise ExportError(f"{target} holds {foreign[0]!r}, which no export wrote; choose another --output")
    if there and not replace:
        raise ExportError(
            f"{target} holds an earlier export; add --overwrite to replace it, or choose another --output"
        )


def _weights(folder: StudyFolder, row: Row) -> dict[str, Tensor]:
    path = folder.weights(row.key)
    if not path.is_file():
        raise ExportError(
            f"trial {row.trial} has no weights at {path}: a study keeps those of its front only, on the machine that "
            "trained them; pick a network of `nas front`"
        )
    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise ExportError(f"{path} is damaged ({error}); pick another network of `nas front`") from error


def _write(
    aside: Path, target: Path, outcome: Outcome, row: Row, weights: dict[str, Tensor], dataset: Dataset
) -> Exported:
    network = build(row.architecture)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ExportError(f"the weights of trial {row.trial} are of another network: {_line(error)}") from error
    network.eval()
    with torch.inference_mode():
        parts = _validation(dataset)
        expected = torch.cat([network(normalise(part, dataset.mean, dataset.std)) for part in parts])

    card = _card(outcome, row, dataset)
    metadata = {name: json.dumps(card[name]) for name in ("study", "trial", "key", "classes", "input", "output")}
    write_onnx(Deployed(network, dataset.mean, dataset.std), row.architecture.input_shape, aside / FILES[0], metadata)
    found = torch.from_numpy(run_onnx(aside / FILES[0], _validation(dataset)))
    accuracy = _check(row, dataset.validation.labels, expected, found, outcome.metric)

    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, aside / FILES[1])
    card["val_accuracy"]["exported"] = accuracy
    card["sha256"] = {name: hashlib.sha256((aside / name).read_bytes()).hexdigest() for name in FILES[:2]}
    (aside / FILES[2]).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Exported(target, row, accuracy, len(found), float((found - expected).abs().max()))


def _validation(dataset: Dataset) -> Iterator[Tensor]:
    """Its images, 256 at a time, since those of a large folder are decoded as they are asked for."""
    part = dataset.validation
    return (images for images, _ in part.batches(torch.split(torch.arange(len(part)), 256)))


def _check(row: Row, labels: Tensor, expected: Tensor, found: Tensor, metric: Metric = "accuracy") -> float:
    """The metric of the file's answers, once they are those of torch and of the record."""
    top = expected.topk(2, dim=1).values
    tied = (top[:, 0] - top[:, 1]) < TIE
    differs = (expected.argmax(1) != found.argmax(1)) & ~tied
    if differs.any():
        raise ExportError(
            f"ONNX Runtime answers otherwise than torch on {int(differs.sum())} of {len(labels)} validation images; "
            "nothing was written"
        )
    right = found.argmax(1) == labels
    reached, recorded = score(right, labels, metric), row.val_accuracy or 0.0
    weights = _weights_of_images(labels, metric)
    # A GPU reads accuracies in bfloat16: there a few images near a boundary fall to the other side.
    room = (
        0.5 * float(weights.min())
        + float(weights[tied].sum())
        + (0 if row.device == "cpu" else 0.005 + float(weights.max()))
    )
    if abs(reached - recorded) > room:
        raise ExportError(
            f"the exported network is right on {int(right.sum())} of {len(labels)} validation images, "
            f"{in_words(metric)} {reached:.4f}; the record of trial {row.trial} says {recorded:.4f}; "
            "nothing was written"
        )
    return reached


def _weights_of_images(labels: Tensor, metric: Metric) -> Tensor:
    """What one image more or less changes the metric by: (N,) float64, of sum 1."""
    if metric == "accuracy":
        return torch.full((len(labels),), 1 / len(labels), dtype=torch.float64)
    images = torch.bincount(labels).double()
    return 1 / (images[labels] * int((images > 0).sum()))


def _card(outcome: Outcome, row: Row, dataset: Dataset) -> dict[str, Any]:
    channels, height, width = row.architecture.input_shape
    colours = "grey" if channels == 1 else "RGB"
    return {
        "format": 1,
        "study": outcome.study,
        "trial": row.trial,
        "key": row.key,
        "classes": list(dataset.classes),
        "input": {
            "name": INPUT,
            "shape": ["batch", channels, height, width],
            "type": "float32",
            "range": [0, 1],
            "meaning": f"{colours} pixels divided by 255; the graph normalises them itself",
            "mean": list(dataset.mean),
            "std": list(dataset.std),
        },
        "output": {"name": OUTPUT, "shape": ["batch", len(dataset.classes)], "meaning": "highest is the class"},
        "val_accuracy": {
            "metric": outcome.metric,
            "recorded": row.val_accuracy,
            "images": len(dataset.validation),
            "split_seed": outcome.settings["split_seed"],
            "dataset": dataset.name,
        },
        "parameters": row.params,
        "macs": row.macs,
        "trained": {"epochs": len(row.curve), "seed": row.seed, "device": row.device, "threads": row.threads},
        "onnx_opset": OPSET,
        "weights": "model.safetensors holds the network without its normalisation, as nas.models.build names it",
        "architecture": row.architecture.to_json(),
        "versions": {name: version(name) for name in ("nas", "torch", "onnx", "onnxruntime", "safetensors")},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _swap(aside: Path, target: Path) -> None:
    """Put the finished folder in place; an earlier one goes only once the new one can no longer fail."""
    if not target.exists():
        aside.rename(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
