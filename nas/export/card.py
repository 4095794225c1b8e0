"""What is said of an exported network: model.json for programs, MODEL_CARD.md for people. No path of this machine."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from nas.data import Dataset
from nas.export.onnx_file import INPUT, OUTPUT
from nas.export.pick import Picked
from nas.outcome import Outcome
from nas.seal import Reading, wilson

PICTURE = (
    "turned as EXIF says, transparency on white, 16-bit grey by its upper 8 bits; resized so that the short side fits "
    "(bilinear), the centre cropped"
)


def input_of(dataset: Dataset, input_shape: tuple[int, int, int], *, pixels: bool) -> dict[str, Any]:
    """What a file takes.

    Args:
        input_shape: (channels, height, width).
        pixels: the picture's bytes as they are decoded; otherwise floats in 0..1.
    """
    channels, height, width = input_shape
    colours = "grey" if channels == 1 else "RGB"
    return {
        "name": INPUT,
        "layout": "NHWC" if pixels else "NCHW",
        "shape": ["batch", height, width, channels] if pixels else ["batch", channels, height, width],
        "type": "uint8" if pixels else "float32",
        "range": [0, 255] if pixels else [0, 1],
        "meaning": f"{colours} pixels{'' if pixels else ' divided by 255'}; the graph normalises them itself",
        "picture": PICTURE,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
    }


def output_of(dataset: Dataset) -> dict[str, Any]:
    """What a file gives."""
    return {"name": OUTPUT, "shape": ["batch", len(dataset.classes)], "meaning": "highest is the class"}


def study_of(outcome: Outcome, picked: Picked, dataset: Dataset) -> dict[str, Any]:
    """Where the network comes from: what is known before any file is written."""
    row, settings = picked.row, outcome.settings
    return {
        "format": 2,
        "study": outcome.study,
        "trial": row.trial,
        "key": row.key,
        "weights": {
            "which": picked.words,
            "epochs": picked.epochs,
            "seed": picked.seed,
            "device": picked.device,
            "threads": picked.threads,
            "sha256": picked.sha256,
            "names": "as nas.models.build has them; auxiliary heads, which only train, are left out",
        },
        "refined": None if picked.refined is None else _refined(picked),
        "data": {
            "name": dataset.name,
            "digest": dataset.digest,
            "split": dataset.split_digest,
            "split_seed": settings["split_seed"],
            "train_images": len(dataset.train),
            "validation_images": len(dataset.validation),
            "test_images": dataset.test_size,
        },
        "classes": list(dataset.classes),
        "parameters": row.params,
        "macs": row.macs,
        "architecture": replace(row.architecture, auxiliary=()).to_json(),  # the key is of the one that trained
        "recipe": dict(picked.recipe),
        "search": _search(outcome),
    }


def accuracy_of(metric: str, recorded: float, reached: float, right: int, images: int) -> dict[str, Any]:
    """The accuracy on the validation images, with Wilson's interval of the plain one."""
    low, high = wilson(right, images)
    return {
        "metric": metric,
        "recorded": recorded,
        "exported": reached,
        "right": right,
        "images": images,
        "accuracy": right / images,
        "interval": [low, high],
        "split": "validation",
        "note": "the network was chosen on these images, so the accuracy on others is likely to be a little lower",
    }


def tests_of(readings: Sequence[Reading], sha256: str | None) -> list[dict[str, Any]]:
    """What readings of the sealed test images by these weights found: once for each result, with how often."""
    found: dict[tuple[tuple[int, ...], ...], list[Reading]] = {}
    for reading in readings:
        if reading.weights_sha256 == sha256:
            found.setdefault(reading.confusion, []).append(reading)
    return [
        {
            "read_at": reading.read_at.isoformat(timespec="seconds"),
            "times": len(alike),
            "right": reading.correct,
            "images": reading.images,
            "accuracy": reading.accuracy,
            "interval": list(reading.interval),
            "balanced_accuracy": reading.balanced_accuracy,
            "split": "test",
        }
        for alike in found.values()
        for reading in [min(alike, key=lambda one: one.read_at)]
    ]


def public(command: str) -> str:
    """A command without the folders and the database's address that it was given; empty where it is none."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    kept: list[str] = []
    for before, word in pairwise(["", *words]):
        if before in _PLACES or word.partition("=")[0] in _PLACES or "://" in word:
            continue
        kept.append(re.sub(r"[^=:]*/", "", word.rstrip("/")))
    return " ".join(shlex.join(kept).split())


_PLACES = ("--storage", "--studies-dir", "--output")


def page(card: Mapping[str, Any], sums: Mapping[str, str]) -> str:
    """MODEL_CARD.md.

    Args:
        card: what model.json holds.
        sums: SHA-256 of every other file, by name.
    """
    shape = card["input"]["shape"]
    data, weights, latency = card["data"], card["weights"], card["latency_ms"]
    lines = [
        f"# Trial {card['trial']} of study {_text(card['study'])}",
        "",
        f"An image classifier of {len(card['classes']):,} classes by `nas`: an Inception network of "
        f"{card['parameters']:,} parameters and {card['macs']:,} multiply-adds an image.",
        "",
        *_table(
            ["", ""],
            [
                ["images", f"{_text(data['name'])}: {data['train_images']:,} to train, {data['validation_images']:,} "
                           f"to validate, {data['test_images']:,} sealed for the test"],
                ["weights", f"{_which(weights)}; seed {weights['seed']}, on {_text(weights['device'])}"],
                *_accuracies(card),
                ["input", f"`{INPUT}`, {card['input']['type']} {card['input']['layout']} "
                          f"({', '.join(map(str, shape))}), {card['input']['meaning']}"],
                ["a picture before", card["input"]["picture"]],
                ["output", f"`{OUTPUT}` (batch, {len(card['classes'])}); {card['output']['meaning']}"],
                ["one image takes", _latency(latency)],
            ],
        ),
        "",
        "## Files",
        "",
        *_table(
            ["file", "what", "largest difference of a logit to torch", "SHA-256"],
            [
                [f"`{name}`", card["files"].get(name, {}).get("what", "this network for programs"),
                 _difference(card["files"].get(name, {})), f"`{digest}`"]
                for name, digest in sums.items()
            ],
        ),
        "",
        f"Each network file was loaded back in a fresh process and answered all {card['val_accuracy']['images']:,} "
        "validation images"
        + (" as torch does; model-int8.onnx with the accuracy above." if "int8" in card else " as torch does."),
        *_use(card),
        "",
        "## Classes",
        "",
        ", ".join(_text(name) for name in card["classes"]),
        "",
        "## Made by",
        "",
        *(f"    {command}" for command in (card["search"]["command"], card["command"]) if command),
        "",
        ", ".join(f"{name} {number}" for name, number in card["versions"].items()) + f"; {card['created_at']}",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _refined(picked: Picked) -> dict[str, Any]:
    refined = picked.refined
    assert refined is not None
    numbers = {"mean": refined.mean, "std": refined.std, "low": refined.interval[0], "high": refined.interval[1]}
    finite = {name: None if math.isnan(value) else value for name, value in numbers.items()}
    return {
        "trainings": len(refined.trainings),
        "replicate": refined.middle.replicate,
        "val_mean": finite["mean"],
        "val_std": finite["std"],
        "val_interval": None if finite["low"] is None else [finite["low"], finite["high"]],
    }


def _search(outcome: Outcome) -> dict[str, Any]:
    given = outcome.settings
    names = ("space", "rule", "cost", "sampler", "pruner", "seed")
    return {name: given.get(name) for name in names} | {"command": public(str(given.get("command") or ""))}


def _accuracies(card: Mapping[str, Any]) -> list[list[str]]:
    found, refined = card["val_accuracy"], card["refined"]
    low, high = found["interval"]
    plain = f"{found['accuracy']:.4f}, 95 % {low:.4f} to {high:.4f} (Wilson), {found['right']:,} of {found['images']:,}"
    lines = [["validation accuracy", f"{plain}; {found['note']}"]]
    if found["metric"] != "accuracy":
        lines.append([f"validation {found['metric'].replace('-', ' ')}", f"{found['exported']:.4f}"])
    if refined is not None:
        span = refined["val_interval"]
        sure = "" if span is None else f", 95 % {span[0]:.4f} to {span[1]:.4f} (Student's t)"
        lines.append(
            [
                f"mean over {refined['trainings']} seeds",
                f"validation {found['metric'].replace('-', ' ')} {refined['val_mean']:.4f}{sure}; the training of "
                "median accuracy is the one in this folder",
            ]
        )
    if "int8" in card:
        eight = card["int8"]
        lines.append(
            [
                "in 8 bits",
                f"validation {found['metric'].replace('-', ' ')} {eight['val_accuracy']:.4f}; the answers are the same "
                f"on {eight['same']:,} of {found['images']:,}; calibrated on {eight['calibration_images']} training "
                "images",
            ]
        )
    for reading in card["test"]:
        low, high = reading["interval"]
        often = "read" if reading["times"] == 1 else f"read {reading['times']} times, first"
        lines.append(
            [
                "test accuracy",
                f"{reading['accuracy']:.4f}, 95 % {low:.4f} to {high:.4f} (Wilson), {reading['right']:,} of "
                f"{reading['images']:,}, {often} on {reading['read_at'][:10]}",
            ]
        )
    if not card["test"]:
        lines.append(["test accuracy", "not read for these weights"])
    return lines


def _latency(latency: Mapping[str, Any]) -> str:
    times = ", ".join(f"{latency[name]:.3g} ms by {words}" for name, words in _RUNNERS.items() if name in latency)
    return f"{times} (median of {latency['runs']}, {latency['threads']} thread(s), {_text(latency['hardware'])})"


_RUNNERS = {"torch": "torch", "onnxruntime": "ONNX Runtime", "onnxruntime_int8": "ONNX Runtime in 8 bits"}


def _difference(entry: Mapping[str, Any]) -> str:
    return "" if entry.get("largest_difference") is None else f"{entry['largest_difference']:.1e}"


def _use(card: Mapping[str, Any]) -> list[str]:
    lines = []
    if "predict.py" in card["files"]:
        lines += ["", "    pip install onnxruntime pillow", "    python predict.py picture.jpg"]
    if "model.py" in card["files"]:
        lines += ["", "In Python with torch, from this folder: `from model import load, normalise`."]
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _text(name: str) -> str:
    """Any text as plain words of a Markdown table."""
    printable = "".join(char if char.isprintable() else " " for char in name)
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", printable)


def _which(weights: Mapping[str, Any]) -> str:
    """The words for refined weights say their epochs already."""
    if weights["which"].startswith("refined"):
        return str(weights["which"])
    return f"{weights['which']}, {weights['epochs']} epoch{'s' * (weights['epochs'] != 1)}"
