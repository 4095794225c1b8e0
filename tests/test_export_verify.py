"""The check of written files: every answer is torch's, and the accuracy is the record's."""

from __future__ import annotations

import pytest
import torch

from nas.errors import ExportError
from nas.export.verify import agreed, as_recorded
from nas.metric import Metric


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
