"""The check of written files: every answer is torch's, the accuracy is the record's, and the files stand alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nas.errors import ExportError
from nas.export import FORMATS, export_network
from nas.export.verify import agreed, answers_of, as_recorded
from nas.metric import Metric
from tests.export_study import digits, export_study, network, outcome_of
from tests.fake_study import architecture


def logits(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows)


def recorded(
    value: float, device: str, expected: torch.Tensor, labels: torch.Tensor, metric: Metric = "accuracy"
) -> float:
    return as_recorded(0, value, device, expected, expected, labels, metric)


def test_a_tie_may_fall_either_way() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    expected = logits((1, 0), (0.50001, 0.5), (0, 1), (0, 1))
    found = logits((1, 0), (0.5, 0.50001), (0, 1), (0, 1))
    checked = agreed("model.onnx", expected, found, labels, "accuracy")
    assert (checked.right, checked.same, checked.accuracy) == (3, 3, 0.75)
    assert checked.difference == pytest.approx(1e-5, rel=0.01)
    assert as_recorded(0, 1.0, "cpu", expected, found, labels, "accuracy") == 0.75
    with pytest.raises(ExportError, match=r"model\.onnx answers otherwise than the network in torch on 1 of 4"):
        agreed("model.onnx", logits((1, 0), (0.6, 0.5), (0, 1), (0, 1)), found, labels, "accuracy")


def test_a_logit_that_is_no_number_is_refused() -> None:
    broken = logits((1, float("nan")))
    with pytest.raises(ExportError, match=r"model\.pt2 gives logits that are not finite"):
        agreed("model.pt2", logits((1, 0)), broken, torch.tensor([0]), "accuracy")


def test_a_gpu_record_may_differ_by_half_a_percent_and_a_cpu_record_not() -> None:
    labels = torch.zeros(1000, dtype=torch.int64)
    answers = logits(*[(1.0, 0.0)] * 995, *[(0.0, 1.0)] * 5)
    assert recorded(1.0, "NVIDIA H200", answers, labels) == 0.995
    with pytest.raises(
        ExportError, match=r"right on 995 of 1000 .* accuracy 0\.9950; the record of trial 0 says 1\.0000"
    ):
        recorded(1.0, "cpu", answers, labels)
    with pytest.raises(ExportError, match="right on 995"):
        recorded(0.988, "NVIDIA H200", answers, labels)


def test_a_network_of_one_class_has_no_ties() -> None:
    answers, labels = torch.ones(3, 1), torch.zeros(3, dtype=torch.int64)
    assert agreed("model.py", answers, answers, labels, "accuracy").accuracy == 1.0
    assert recorded(1.0, "cpu", answers, labels) == 1.0


def test_balanced_accuracy_is_checked_as_such() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    answers = logits((1, 0), (1, 0), (1, 0), (1, 0))
    assert recorded(0.5, "cpu", answers, labels, "balanced-accuracy") == 0.5
    with pytest.raises(ExportError, match=r"balanced accuracy 0\.5000; the record of trial 0 says 0\.7500"):
        recorded(0.75, "cpu", answers, labels, "balanced-accuracy")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every format."""
    folder = export_study(tmp_path_factory.mktemp("studies"))
    output = tmp_path_factory.mktemp("out") / "model"
    return export_network(folder, outcome_of(folder), "best", output=output).path


def damaged(content: bytes) -> bytes:
    return content[: len(content) // 2]


def before(line: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(b"import json", line.encode() + b"\nimport json", 1)


@pytest.mark.parametrize(
    ("file", "harmed", "change", "said"),
    [
        *((name, name, damaged, name) for name, _ in FORMATS.values() if name != "model.py"),
        ("model.py", "model.safetensors", damaged, r"model\.py \("),
        ("model.py", "model.py", before("import nas"), "nas is not there for whoever uses the exported files"),
        ("model.onnx", "predict.py", before("import torch"), "torch is not there for whoever uses"),
        ("model.onnx", "predict.py", before("import nas.data"), "nas is not there for whoever uses"),
    ],
)
def test_a_file_that_cannot_stand_alone_is_refused(
    file: str, harmed: str, change: Callable[[bytes], bytes], said: str, written: Path, tmp_path: Path
) -> None:
    for path in written.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(change(content) if path.name == harmed else content)
    assert (tmp_path / harmed).read_bytes() != (written / harmed).read_bytes()
    with pytest.raises(ExportError, match=f"a fresh process cannot answer by .*{said}"):
        answers_of(network(architecture(1.0)), [tmp_path / file], tmp_path, digits(), input_shape=(1, 8, 8), threads=1)


def test_a_fresh_process_leaves_the_folder_as_it_is(written: Path) -> None:
    assert not (written / "__pycache__").exists()
