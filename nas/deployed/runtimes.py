"""Ways to run an exported network: torch from its parts, torch's exported program, ONNX Runtime.

Each imports its runtime when it is called, and gives what then loads the model: what the one takes of memory is not the
other's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture
from nas.data.files import shown
from nas.errors import ArchitectureError, ExportError

if TYPE_CHECKING:
    from torch import Tensor

Pass = Callable[[], object]
Load = Callable[[int], tuple[Pass, int]]
"""Images in a batch -> one pass over made-up ones, and its threads as the runtime says."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a model.json says that torch needs to build the network: the architecture, and the pixels' mean and std."""

    architecture: Architecture
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, file: Path) -> Card:
        """From the file.

        Raises:
            ExportError: it is not there, or says something else.
        """
        try:
            card = json.loads(file.read_bytes())
            mean, std = (tuple(map(float, card["input"][name])) for name in ("mean", "std"))
            return cls(Architecture.from_json(card["architecture"]), mean, std)
        except (OSError, ValueError, KeyError, TypeError, ArchitectureError) as error:
            raise ExportError(
                f"{shown(str(file))} does not say what its network is ({error}); export it again"
            ) from error


def onnx(file: str, threads: int, _: str | None = None) -> Load:
    """ONNX Runtime on the CPU, with a session of so many threads."""
    from nas.deployed.onnx_model import OnnxModel

    def load(batch: int) -> tuple[Pass, int]:
        model = OnnxModel.open(Path(file), threads=threads)
        channels, height, width = model.input_shape
        session = model.session
        feed = {
            session.get_inputs()[0].name: np.ascontiguousarray(model.inputs(_pixels(batch, (height, width, channels))))
        }
        return lambda: session.run(None, feed), session.get_session_options().intra_op_num_threads

    return load


def pt2(file: str, threads: int, _: str | None = None) -> Load:
    """torch's exported program."""
    import torch
    import torch.export

    from nas.deployed.pt2 import load_pt2

    torch.set_num_threads(threads)

    def load(batch: int) -> tuple[Pass, int]:
        program = load_pt2(Path(file))
        (name,) = program.graph_signature.user_inputs
        value = next(node for node in program.graph.nodes if node.name == name).meta["val"]
        pixels = torch.from_numpy(_pixels(batch, tuple(map(int, value.shape[1:]))))
        images = pixels if value.dtype == torch.uint8 else pixels.to(value.dtype) / 255
        return _in_torch(program.module(), images), torch.get_num_threads()

    return load


def eager(file: str, threads: int, _: str | None = None) -> Load:
    """torch as it trains: the network of a model.json with the weights in a model.safetensors beside it."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from nas.models import build

    torch.set_num_threads(threads)

    def load(batch: int) -> tuple[Pass, int]:
        card = Card.read(Path(file).with_name("model.json"))
        network = build(card.architecture).eval()
        try:
            network.load_state_dict(load_file(file))
        except (SafetensorError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise ExportError(
                f"{shown(file)} does not hold the weights of its model.json ({said}); export it again"
            ) from error
        mean, std = (torch.tensor(row).view(1, -1, 1, 1) for row in (card.mean, card.std))
        images = torch.from_numpy(_pixels(batch, card.architecture.input_shape)) / 255
        return _in_torch(lambda images: network((images - mean) / std), images), torch.get_num_threads()

    return load


def reference(name: str, threads: int, like: str | None = None) -> Load:
    """A reference network in torch, not trained, for its own input and the classes of the model.json `like`."""
    import torch

    from nas import references
    from nas.models import build_reference

    one = references.reference(name)
    torch.set_num_threads(threads)

    def load(batch: int) -> tuple[Pass, int]:
        classes = Card.read(Path(str(like))).architecture.classes
        network = build_reference(one, classes).eval()
        images = torch.from_numpy(_pixels(batch, one.input_shape)) / 255
        return _in_torch(network, images), torch.get_num_threads()

    return load


RUNTIMES: dict[str, Callable[[str, int, str | None], Load]] = {
    "torch eager": eager,
    "torch export": pt2,
    "ONNX Runtime": onnx,
    "torch eager, reference": reference,
}


def _pixels(batch: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Made-up images, the same every time; random, because zeros are multiplied faster on some processors."""
    return np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)


def _in_torch(network: Callable[[Tensor], Tensor], images: Tensor) -> Pass:
    import torch

    def run() -> Tensor:
        with torch.inference_mode():
            return network(images)

    return run
