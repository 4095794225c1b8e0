"""A network as ONNX, its preprocessing inside the graph, and what ONNX Runtime makes of the file."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch.export import ExportedProgram

from nas.export.program import Deployed

__all__ = ["INPUT", "OPSET", "OUTPUT", "Deployed", "latency_ms", "write_onnx"]

OPSET = 18
INPUT, OUTPUT = "images", "logits"
BATCH = "batch"


def write_onnx(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a program of one input and one output, with a free batch size, weights inside the file.

    Args:
        program: of `to_program`.
        path: the file to write.
        metadata: kept in the file's own metadata.
    """
    made = torch.onnx.export(
        program,
        (),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    assert made is not None  # None is for the old exporter writing to a file
    proto = made.model_proto
    # The exporter notes the stack of every operation, with the paths of this machine; a file given away needs none.
    for entry in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        entry.ClearField("metadata_props")
    for weight in proto.graph.initializer:
        weight.ClearField("metadata_props")
    free = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param  # a symbol of torch's, such as s34
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == free:
                size.dim_param = BATCH
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def latency_ms(path: Path, *, threads: int, runs: int = 50, warmup: int = 10) -> float:
    """Median milliseconds that ONNX Runtime takes for one image on the CPU.

    Args:
        path: of `write_onnx`, or quantised.
        threads: of ONNX Runtime.
        runs: measured, at least 1.
        warmup: runs before these, that are not counted.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    kind = np.uint8 if given.type == "tensor(uint8)" else np.float32
    feed = {INPUT: np.zeros((1, *given.shape[1:]), kind)}
    times = []
    for _ in range(warmup + runs):
        start = time.perf_counter()
        session.run([OUTPUT], feed)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[warmup:])
