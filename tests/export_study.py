"""A study with one network on its front, to take away: nothing is trained, but its batch norm has statistics."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from nas.architecture import Architecture
from nas.data import Dataset, load_dataset, normalise
from nas.models import build
from nas.outcome import Outcome
from nas.records import Records
from nas.study_folder import StudyFolder
from tests.fake_study import architecture, rows, write_study

TRIAL = 3


@cache
def digits() -> Dataset:
    return load_dataset("digits", input_shape=(1, 8, 8))


def network(found: Architecture, seed: int = 0) -> nn.Module:
    """With first weights of a seed and statistics of some images, in evaluation mode."""
    torch.manual_seed(seed)
    made = build(found)
    images = normalise(digits().train.images[:256], digits().mean, digits().std)
    with torch.no_grad():
        for _ in range(20):
            made(images)
    return made.eval()


def contiguous(made: nn.Module) -> dict[str, torch.Tensor]:
    """As the search keeps weights: safetensors takes no channels_last."""
    return {name: tensor.contiguous() for name, tensor in made.state_dict().items()}


def accuracy_of(made: nn.Module) -> float:
    """On the validation images."""
    with torch.inference_mode():
        found = made(normalise(digits().validation.images, digits().mean, digits().std)).argmax(1)
    return int((found == digits().validation.labels).sum()) / len(found)


def export_study(studies_dir: Path, found: Architecture | None = None, **changed: Any) -> StudyFolder:
    """A study whose trial 3 is its front: the cheapest, and no other is complete.

    Args:
        found: the network of trial 3.
        changed: fields of its row.
    """
    made = network(found or architecture(1.0))
    shape = found or architecture(1.0)
    reached = accuracy_of(made)
    lines = [replace(row, state="pruned") if row.trial != TRIAL else row for row in rows(12)]
    given: dict[str, Any] = {
        "state": "complete", "architecture": shape, "key": shape.key, "params": shape.params, "macs": shape.macs,
        "cost": shape.params, "val_accuracy": reached, "curve": ((1, reached, 2.0),),
    }  # fmt: skip
    lines[TRIAL] = replace(lines[TRIAL], **{**given, **changed})
    folder = write_study(
        studies_dir, "fake", lines, digests=(digits().digest, digits().split_digest), classes=list(digits().classes)
    )
    folder.weights(shape.key).parent.mkdir()
    save_file(contiguous(made), folder.weights(shape.key))
    return folder


def outcome_of(folder: StudyFolder) -> Outcome:
    records = Records(folder.url)
    found = Outcome.read(records, "fake")
    records.close()
    return found
