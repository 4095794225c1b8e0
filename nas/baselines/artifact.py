"""What a trained network answered, class by class: a table in the study's folder, and in optuna-dashboard."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import optuna
import sqlalchemy as sa
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from nas.baseline_rows import Baseline
from nas.refine.checkpoints import write_whole
from nas.search.study import optuna_explained, rdb_storage
from nas.study_folder import StudyFolder


def write_artifact(url: sa.URL, folder: StudyFolder, classes: Sequence[str], row: Baseline, path: Path) -> None:
    """Write a row's confusion matrix and the accuracy of each class, unless they are there.

    Rows are true classes, columns answers. optuna-dashboard gets a copy of its own, among the study's artifacts.

    Args:
        url: of the study's database.
        classes: the study's, in their order.
        path: of the CSV file.

    Raises:
        OSError, NasError: it cannot be written.
    """
    if path.is_file() or row.confusion is None:
        return
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["true class", "images", "right", "accuracy", *(f"answer {name}" for name in classes)])
    for label, (name, counts, accuracy) in enumerate(zip(classes, row.confusion, row.class_accuracies, strict=True)):
        lines.writerow([name, sum(counts), counts[label], "" if accuracy is None else f"{accuracy:.6f}", *counts])
    write_whole(path, text.getvalue().encode())
    _show(url.render_as_string(hide_password=False), folder, path)


def _show(url: str, folder: StudyFolder, path: Path) -> None:
    storage = rdb_storage(url)
    try:
        with optuna_explained(url):
            if folder.name not in optuna.get_all_study_names(storage):
                return
            study = optuna.load_study(study_name=folder.name, storage=storage)
            folder.artifacts.mkdir(parents=True, exist_ok=True)
            store = FileSystemArtifactStore(folder.artifacts)
            upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study, mimetype="text/csv")
    finally:
        storage.engine.dispose()
