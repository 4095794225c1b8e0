"""A study whose networks can be trained again: real images, a whole recipe, and made-up results of brief training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from nas.data import load_dataset
from nas.recipe import Recipe
from nas.records import Records, Row
from nas.refined import Refinement, refinements
from nas.study_folder import StudyFolder
from nas.training import TRAINING_VERSION
from tests.fake_study import STARTED, rows, settings

RECIPE = Recipe(epochs=2, batch=32, learning_rate=0.05, weight_decay=0.01, label_smoothing=0.1)
LIMIT = 120
POINTS = ((1_000, 0.70), (2_000, 0.80), (3_000, 0.90), (4_000, 0.60))
"""Cost and brief accuracy of the networks; the last one is far behind the front."""


def networks(points: Sequence[tuple[int, float]] = POINTS) -> list[Row]:
    """Complete trials from 0 on, of different networks, at (cost, accuracy)."""
    return [
        replace(
            row,
            trial=trial,
            state="complete",
            reason=None,
            stopped=None,
            cost=cost,
            val_accuracy=accuracy,
            curve=((1, accuracy / 2, 2.0), (2, accuracy, 1.0)),
            seconds=1.0,
        )
        for trial, (row, (cost, accuracy)) in enumerate(zip(rows(len(points)), points, strict=True))
    ]


def write(
    studies: Path,
    name: str = "s",
    evaluations: Sequence[Row] | None = None,
    *,
    url: str | None = None,
    recipe: Recipe = RECIPE,
    dataset: str = "digits",
    metric: str = "accuracy",
    limit: int | None = LIMIT,
    **identity: Any,
) -> StudyFolder:
    """The records of a study; `identity` replaces parts of what it is."""
    folder = StudyFolder(studies, name)
    folder.path.mkdir(parents=True)
    images = load_dataset(dataset, input_shape=(1, 8, 8), train_limit=limit)
    records = Records(url or folder.url)
    records.create()
    record = records.add_study(
        name,
        {
            "space": {"recipe": recipe.model_dump(mode="json")},
            "data": {"images": images.digest, "split": images.split_digest},
            "seed": 3,
            "metric": metric,
            "train_limit": limit,
            "training_version": TRAINING_VERSION,
            **identity,
        },
        {
            **settings(name),
            "dataset": dataset,
            "metric": metric,
            "train_limit": limit,
            "classes": list(images.classes),
            "validation_images": len(images.validation),
            "epochs": recipe.epochs,
        },
    )
    for row in networks() if evaluations is None else evaluations:
        records.add(record.id, row)
    records.close()
    return folder


def recorded(folder: StudyFolder, url: str | None = None) -> list[Refinement]:
    records = Records(url or folder.url)
    found = refinements(records, records.study(folder.name).id)
    records.close()
    return found


def same(trainings: Sequence[Refinement]) -> list[Refinement]:
    """Without what a clock or another installation decides: equal for equal results, weights included."""
    return [replace(one, seconds=0, started_at=STARTED, finished_at=STARTED, versions=None) for one in trainings]


def refinement(row: Row, accuracy: float, replicate: int = 1, *, epochs: int = 8) -> Refinement:
    """A full training that was never done."""
    return Refinement(
        trial=row.trial,
        key=row.key,
        replicate=replicate,
        recipe={**RECIPE.model_dump(mode="json"), "epochs": epochs},
        seed=100 + replicate,
        val_accuracy=accuracy,
        curve=((1, accuracy / 2, 1.5), (epochs, accuracy, 0.5)),
        seconds=2.5,
        device="cpu",
        threads=1,
        weights_sha256="ab" * 32,
        started_at=STARTED,
        finished_at=STARTED + timedelta(seconds=epochs),
        versions={"nas": "0.1.0"},
    )
