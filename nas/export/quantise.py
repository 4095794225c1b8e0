"""A network in 8-bit whole numbers, by ONNX Runtime's static quantisation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from nas.data import Part
from nas.export.onnx_file import INPUT

CALIBRATION = 256
"""Training images that the ranges of the activations come from, at most."""
BATCH = 32


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """Evenly spread training images, as the graph takes them."""

    def __init__(self, train: Part, *, pixels: bool) -> None:
        few = min(len(train), CALIBRATION)
        rows = torch.arange(few) * len(train) // few
        self._parts = self._read(train, rows, pixels)

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        """One batch, or None after the last."""
        return next(self._parts, None)

    @staticmethod
    def _read(train: Part, rows: torch.Tensor, pixels: bool) -> Iterator[dict[str, NDArray[np.generic]]]:
        for images, _ in train.batches(torch.split(rows, BATCH)):
            if pixels:
                yield {INPUT: images.permute(0, 2, 3, 1).contiguous().numpy()}
            else:
                yield {INPUT: images.contiguous().numpy().astype(np.float32) / np.float32(255)}


def write_int8(source: Path, path: Path, train: Part, metadata: Mapping[str, str], *, pixels: bool) -> int:
    """Write a graph with 8-bit weights (one scale a channel) and activations, calibrated on training images.

    Args:
        source: the float graph of `write_onnx`.
        path: the file to write.
        train: the training images.
        metadata: kept in the file's own metadata.
        pixels: the graph takes uint8 images.

    Returns:
        How many images it was calibrated on.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        # the exporter has folded batch norm into the convolutions already
        quant_pre_process(source, prepared, skip_symbolic_shape=True, skip_optimization=True)
        quantize_static(
            prepared,
            path,
            _Images(train, pixels=pixels),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, dict(metadata))
    path.write_bytes(proto.SerializeToString())
    return min(len(train), CALIBRATION)
