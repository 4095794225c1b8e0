"""Small ONNX files made by hand: a linear classifier of images, with as much about itself as is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def weights(shape: tuple[int, int, int], classes: int) -> NDArray[np.float32]:
    """(channels * height * width, classes)"""
    return np.random.default_rng(0).normal(size=(int(np.prod(shape)), classes)).astype(np.float32)


def linear(
    path: Path,
    classes: Sequence[str] = ("cat", "dog", "eel"),
    shape: tuple[int, int, int] = (3, 6, 5),
    *,
    takes_bytes: bool = False,
    outputs: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write pixels / 255, channels first, times `weights`; `metadata` instead of the classes, where given."""
    channels, height, width = shape
    outputs = len(classes) if outputs is None else outputs
    sides = (height, width, channels) if takes_bytes else shape
    kind = TensorProto.UINT8 if takes_bytes else TensorProto.FLOAT
    first = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "white"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["pixels"], perm=[0, 3, 1, 2]),
    ]
    graph = helper.make_graph(
        [
            *(first if takes_bytes else []),
            helper.make_node("Flatten", ["pixels" if takes_bytes else "images"], ["rows"]),
            helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("images", kind, ["batch", *sides])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
        [
            numpy_helper.from_array(weights(shape, outputs), "weights"),
            numpy_helper.from_array(np.array(255, np.float32), "white"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"classes": json.dumps(list(classes))} if metadata is None else dict(metadata))
    onnx.save(model, path)
    return path
