"""A program of its own that answers by exported files alone. `nas.export.verify` starts it; nothing imports it.

It refuses to import `nas`, and what else it is told to, so that the files prove that they need none of it. Standard
input: a line of JSON, then batches of pixels; standard output: the logits of each file for each batch.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Refused(importlib.abc.MetaPathFinder):
    """Packages that this process must do without.

    Args:
        names: of top-level packages.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Nothing, so that others look; ImportError for what is refused."""
        if fullname.partition(".")[0] in self._names:
            raise ImportError(f"{fullname} is not there for whoever uses the exported files")


def answerer(path: Path, code: Path, threads: int) -> Answer:
    """(N, H, W, C) uint8 -> logits (N, classes), by one exported file.

    Args:
        path: the file.
        code: the folder with predict.py or model.py.
        threads: of ONNX Runtime and torch.
    """
    if path.suffix == ".onnx":
        answer: Answer = _module(code / "predict.py").Model(path, threads).logits
        return answer
    import torch

    torch.set_num_threads(threads)

    def by(network: Callable[..., Any], prepare: Callable[..., Any]) -> Answer:
        def answer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            with torch.inference_mode():
                found: NDArray[np.float32] = network(prepare(torch.from_numpy(pixels).permute(0, 3, 1, 2))).numpy()
            return found

        return answer

    if path.suffix == ".pt2":
        return by(torch.export.load(path).module(), lambda pixels: pixels.contiguous().float() / 255)
    module = _module(code / "model.py")
    if path.suffix == ".py":
        return by(module.load(), module.normalise)
    from safetensors.torch import load_file

    network = module.Network()
    network.load_state_dict(load_file(path))
    return by(network.eval(), module.normalise)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Read the order, then answer batch after batch until there are no more."""
    given = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no logit
    order = json.loads(given.readline())
    sys.dont_write_bytecode = True
    sys.path += [entry for entry in order["path"] if entry not in sys.path]
    sys.meta_path.insert(0, Refused(order["refused"]))
    code, shape = Path(order["code"]), order["shape"]
    networks = [answerer(Path(path), code, order["threads"]) for path in order["files"]]
    while len(head := given.read(4)) == 4:
        count = int.from_bytes(head, "little")
        pixels = np.frombuffer(bytearray(given.read(count * int(np.prod(shape)))), np.uint8).reshape(count, *shape)
        for network in networks:
            answers.write(np.ascontiguousarray(network(pixels), np.float32).tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
