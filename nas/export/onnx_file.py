"""A network as ONNX, its preprocessing inside the graph, and what ONNX Runtime makes of the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

OPSET = 18
INPUT, OUTPUT = "images", "logits"


class Deployed(nn.Module):
    """A trained network with its normalisation in front: float images (N, C, H, W) in 0..1 -> logits (N, classes)."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def write_onnx(model: nn.Module, input_shape: tuple[int, int, int], path: Path, metadata: Mapping[str, str]) -> None:
    """Write `model` in evaluation mode, with a free batch size, weights inside the file.

    Args:
        model: (N, C, H, W) -> (N, classes).
        input_shape: (C, H, W).
        path: the file to write.
        metadata: kept in the file's own metadata.
    """
    model = model.eval().cpu().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, *input_shape)
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    assert program is not None  # None is for the old exporter writing to a file
    proto = program.model_proto
    # The exporter notes the stack of every operation, with the paths of this machine; a file given away needs none.
    for entry in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        entry.ClearField("metadata_props")
    for weight in proto.graph.initializer:
        weight.ClearField("metadata_props")
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def run_onnx(path: Path, batches: Iterable[Tensor]) -> NDArray[np.float32]:
    """Logits (N, classes) that ONNX Runtime gives on the CPU.

    Args:
        batches: images (n, C, H, W) uint8, N in all; divided by 255 here, as whoever uses the file does.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = []
    for part in batches:
        pixels = part.contiguous().numpy().astype(np.float32) / np.float32(255)
        found.append(session.run([OUTPUT], {INPUT: pixels})[0])
    return np.concatenate(found)
