"""A network as a program of torch's own: what model.pt2 holds, and what the ONNX file is made from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram


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


class DeployedPixels(nn.Module):
    """The same for pictures as they are decoded: uint8 (N, H, W, C) of 0..255 -> logits (N, classes)."""

    def __init__(self, deployed: Deployed) -> None:
        super().__init__()
        self.deployed = deployed

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.deployed(images.permute(0, 3, 1, 2).to(torch.float32) / 255)
        return logits


def to_program(model: nn.Module, example: Tensor) -> ExportedProgram:
    """`model` in evaluation mode with a free batch size, without a trace of this machine's paths.

    Args:
        model: changed: its parameters need no gradient and lie in contiguous memory afterwards.
        example: an input with a batch of two.
    """
    model = model.eval().cpu().requires_grad_(False).to(memory_format=torch.contiguous_format)
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        for name in ("stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node"):
            node.meta.pop(name, None)
    return program


def write_program(program: ExportedProgram, path: Path) -> None:
    """Write model.pt2; `torch.export.load(path).module()` gives it back."""
    content = io.BytesIO()
    torch.export.save(program, content)
    path.write_bytes(content.getvalue())  # so that a full disk is an OSError
