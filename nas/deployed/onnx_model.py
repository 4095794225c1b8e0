"""A model.onnx that `nas export` wrote, opened by ONNX Runtime; all that it takes to use it is in the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as refusals

from nas.data.files import shown
from nas.errors import ExportError

NAME = "model.onnx"
# onnxruntime's errors have no base of their own
REFUSED = (
    refusals.EPFail,
    refusals.Fail,
    refusals.InvalidArgument,
    refusals.InvalidGraph,
    refusals.InvalidProtobuf,
    refusals.NoModel,
    refusals.NoSuchFile,
    refusals.NotImplemented,
    refusals.RuntimeException,
)


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """A classifier of images.

    Args:
        path: the file.
        classes: names in the order of the outputs.
        input_shape: (channels, height, width); 1 channel is grey, 3 are RGB.
        takes_bytes: the input is (N, H, W, C) uint8; otherwise (N, C, H, W) float32 in 0..1.
        session: of ONNX Runtime, on the CPU.
    """

    path: Path
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    takes_bytes: bool
    session: onnxruntime.InferenceSession

    @classmethod
    def open(cls, path: Path, *, threads: int = 0) -> OnnxModel:
        """Open a model.

        Args:
            path: the file, or the folder of an export, whose ``model.onnx`` is taken.
            threads: that share one image's work; 0 leaves it to ONNX Runtime: one a core.

        Raises:
            ExportError: there is no such file, it is no ONNX file, or no export of nas.
        """
        session = _session(_file(path), threads)
        (first, *_), (output, *_) = session.get_inputs(), session.get_outputs()
        classes = _classes(session.get_modelmeta().custom_metadata_map.get("classes"))
        takes_bytes = first.type == "tensor(uint8)"
        channels, height, width = _input(first.shape, takes_bytes)
        alone = len(session.get_inputs()) == 1
        if not (alone and classes and channels in (1, 3) and list(output.shape[1:]) == [len(classes)]):
            raise ExportError(
                f"{shown(str(path))} was not written by `nas export`: it needs class names in its metadata, one input "
                "of grey or RGB images and one output a class; export the network with nas"
            )
        return cls(_file(path), classes, (channels, height, width), takes_bytes, session)

    def inputs(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """What the session takes for images (N, H, W, C) uint8."""
        if self.takes_bytes:
            return pixels
        return pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, classes), each row of sum 1, of images (N, H, W, C) uint8 at the input's size."""
        name = self.session.get_inputs()[0].name
        logits = self.session.run(None, {name: self.inputs(pixels)})[0].astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _file(path: Path) -> Path:
    if path.is_dir():
        if not (path / NAME).is_file():
            raise ExportError(
                f"folder {shown(str(path))} holds no {NAME}: give the folder that `nas export` made, or an ONNX file"
            )
        return path / NAME
    if not path.is_file():
        raise ExportError(
            f"there is no model {shown(str(path))}: give the folder that `nas export` made, or an ONNX file"
        )
    return path


def _session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised too
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except REFUSED as error:
        said = shown(" ".join(str(error).split()))[:200]
        raise ExportError(f"{shown(str(file))} cannot be read as an ONNX model ({said}); export it again") from error


def _classes(text: str | None) -> tuple[str, ...]:
    """The names in the metadata; empty where they are not there."""
    try:
        names = json.loads(text or "[]")
    except ValueError:
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _input(shape: list[Any], takes_bytes: bool) -> tuple[int, int, int]:
    """(channels, height, width); zeros where it is not the shape of images."""
    if len(shape) != 4 or not all(isinstance(side, int) and side > 0 for side in shape[1:]):
        return 0, 0, 0
    first, second, third = shape[1:]
    return (third, first, second) if takes_bytes else (first, second, third)
