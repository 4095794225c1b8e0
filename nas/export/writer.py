"""The files of one export: written, checked in fresh processes, described."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from nas import costs
from nas.data import Dataset
from nas.errors import ExportError
from nas.export import card as cards
from nas.export import onnx_file
from nas.export.formats import CARD, FORMATS, INT8, PAGE, PREDICT, WHAT
from nas.export.pick import Picked
from nas.export.program import Deployed, DeployedPixels, to_program, write_program
from nas.export.quantise import write_int8
from nas.export.source_file import source_of
from nas.export.verify import Checked, agreed, answers_of, as_recorded, compared
from nas.models import build
from nas.outcome import Outcome
from nas.seal import Reading
from nas.search.hardware import hardware


class Writer:
    """One export, into a folder beside the place where it will be: `write`, then `check`, then `describe`.

    Args:
        aside: the folder; empty.
        outcome: the study's records.
        picked: the network.
        weights: its state, auxiliary heads included where it has them.
        images: of the study.
        pixels: the ONNX files take uint8 pictures.

    Raises:
        ExportError: the weights are of another network.
    """

    def __init__(
        self,
        aside: Path,
        outcome: Outcome,
        picked: Picked,
        weights: Mapping[str, Tensor],
        images: Dataset,
        pixels: bool,
    ) -> None:
        self._aside, self._outcome, self._picked, self._images = aside, outcome, picked, images
        self._pixels = pixels
        self._shape = picked.row.architecture.input_shape
        self._threads = torch.get_num_threads()
        self._network = build(picked.row.architecture)
        try:
            self._network.load_state_dict(dict(weights))
        except RuntimeError as error:
            said = " ".join(str(error).split())[:200]
            raise ExportError(f"the weights of trial {picked.row.trial} are of another network: {said}") from error
        self._network.eval()
        self._files: list[str] = []
        self._calibration = 0
        self._card = {
            **cards.study_of(outcome, picked, images),
            "input": cards.input_of(images, self._shape, pixels=pixels),
            "output": cards.output_of(images),
        }

    def write(self, formats: Sequence[str], *, int8: bool) -> None:
        """The network's files."""
        names = [FORMATS[name][0] for name in FORMATS if name in formats]
        weights, code = FORMATS["safetensors"][0], FORMATS["source"][0]
        if code in names and weights not in names:
            names.insert(names.index(code), weights)
        self._write_programs(names)
        if weights in names:
            # auxiliary heads live in training only
            state = {k: v.contiguous() for k, v in self._network.state_dict().items() if not k.startswith("auxiliary.")}
            (self._aside / weights).write_bytes(save(state))
            # the weights cannot answer alone; without --format source this goes again
            (self._aside / code).write_text(self._source(), encoding="utf-8")
        self._files = names
        if int8:
            name = FORMATS["onnx"][0]
            self._calibration = write_int8(
                self._aside / name, self._aside / INT8, self._images.train, self._metadata(), pixels=self._pixels
            )
            self._files = [*names, INT8]

    def check(self) -> tuple[Checked, ...]:
        """What each file answers in a fresh process."""
        labels, metric = self._images.validation.labels, self._outcome.metric
        expected, found = answers_of(
            self._network,
            [self._aside / name for name in self._files],
            self._aside,
            self._images,
            input_shape=self._shape,
            threads=self._threads,
        )
        row = self._picked.row
        checked = []
        for name in self._files:
            if name == INT8:
                checked.append(compared(name, expected, found[name], labels, metric))
                continue
            checked.append(agreed(name, expected, found[name], labels, metric))
            device = self._picked.device
            as_recorded(row.trial, self._picked.recorded, device, expected, found[name], labels, metric)
        code = FORMATS["source"][0]
        if code not in self._files:
            (self._aside / code).unlink(missing_ok=True)
        return tuple(checked)

    def describe(self, checked: Sequence[Checked], readings: Sequence[Reading], command: str) -> Mapping[str, Any]:
        """model.json and MODEL_CARD.md; what they say of the accuracy."""
        card, first = self._card, checked[0]
        card["val_accuracy"] = cards.accuracy_of(
            self._outcome.metric, self._picked.recorded, first.accuracy, first.right, first.images
        )
        card["test"] = cards.tests_of(readings, self._picked.sha256)
        by_name = {one.file: one for one in checked}
        if INT8 in by_name:
            eight = by_name[INT8]
            card["int8"] = {
                "val_accuracy": eight.accuracy,
                "right": eight.right,
                "same": eight.same,
                "calibration_images": self._calibration,
            }
        card["latency_ms"] = self._latency()
        names = sorted(path.name for path in self._aside.iterdir())
        card["files"] = {
            name: {
                "what": WHAT[name],
                "bytes": (self._aside / name).stat().st_size,
                "sha256": _sum(self._aside / name),
                "largest_difference": by_name[name].difference if name in by_name else None,
                "val_accuracy": by_name[name].accuracy if name in by_name else None,
            }
            for name in names
        }
        card["sha256"] = {name: entry["sha256"] for name, entry in card["files"].items()}
        card["onnx_opset"] = onnx_file.OPSET if FORMATS["onnx"][0] in names else None
        card["command"] = cards.public(command)
        card["versions"] = {name: version(name) for name in ("nas", "torch", "onnx", "onnxruntime", "safetensors")}
        card["created_at"] = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (self._aside / CARD).write_text(text, encoding="utf-8", errors="backslashreplace")
        sums = {**card["sha256"], CARD: _sum(self._aside / CARD)}
        (self._aside / PAGE).write_text(cards.page(card, sums), encoding="utf-8", errors="backslashreplace")
        accuracy: Mapping[str, Any] = card["val_accuracy"]
        return accuracy

    def _write_programs(self, names: Sequence[str]) -> None:
        """model.pt2 and model.onnx, of one program where they take the same input."""
        channels, height, width = self._shape
        graph, program_file = FORMATS["onnx"][0], FORMATS["pt2"][0]
        floats = None
        if program_file in names or (graph in names and not self._pixels):
            floats = to_program(self._deployed(), torch.zeros(2, channels, height, width))
        if program_file in names:
            assert floats is not None
            write_program(floats, self._aside / program_file)
        if graph in names:
            if self._pixels:
                example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
                program = to_program(DeployedPixels(self._deployed()), example)
            else:
                assert floats is not None
                program = floats
            onnx_file.write_onnx(program, self._aside / graph, self._metadata())
            shutil.copyfile(Path(__file__).with_name(PREDICT), self._aside / PREDICT)

    def _deployed(self) -> Deployed:
        network: nn.Module = copy.deepcopy(self._network)
        return Deployed(network, self._images.mean, self._images.std)

    def _metadata(self) -> dict[str, str]:
        kept = ("study", "trial", "key", "classes", "input", "output")
        return {name: json.dumps(self._card[name]) for name in kept}

    def _source(self) -> str:
        row, images = self._picked.row, self._images
        return source_of(
            row.architecture,
            title=f"The network of trial {row.trial} of study {self._outcome.study}, for {images.name}, by nas.",
            classes=images.classes,
            mean=images.mean,
            std=images.std,
        )

    def _latency(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "batch": 1,
            "runs": 50,
            "threads": self._threads,
            "hardware": hardware(torch.device("cpu")),
            "torch": costs.latency_ms(self._network, self._shape, device="cpu", runs=50),
        }
        for name, file in (("onnxruntime", FORMATS["onnx"][0]), ("onnxruntime_int8", INT8)):
            if (self._aside / file).is_file():
                found[name] = onnx_file.latency_ms(self._aside / file, threads=self._threads, runs=50)
        return found


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
