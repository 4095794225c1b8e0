"""What killed workers left half done goes at the next start of a search, and nothing else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from nas.search.liveness import Worker
from nas.search.study import open_study
from nas.search.sweep import sweep
from nas.study_folder import StudyFolder
from tests.searches import rows, search

HALF = (".half.pt.123", "half.pt")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    search(folder, "--trials", "3", "--epochs", "1", "--train-limit", "200", "--pruner", "none")
    return folder


def leave(folder: StudyFolder) -> list[Path]:
    left = [folder.path / name / file for name in ("paused", "weights") for file in HALF]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    return left


def test_half_written_files_go_and_weights_stay(studies: Path) -> None:
    folder = StudyFolder(studies, "tiny")
    kept = sorted((folder.path / "weights").iterdir())
    assert kept
    left = leave(folder)
    search(studies, "--trials", "3", "--epochs", "1", "--train-limit", "200", "--pruner", "none")
    assert not any(path.exists() for path in left)
    assert sorted((folder.path / "weights").iterdir()) == kept


def test_while_a_worker_lives_nothing_goes(studies: Path) -> None:
    folder = StudyFolder(studies, "tiny")
    left = leave(folder)
    opened = open_study(folder.url, "tiny")
    with closing(opened.records) as records:
        with Worker(records, opened.record.id, folder.workers):
            sweep(folder, records, opened.record.id)
            assert all(path.exists() for path in left)
        sweep(folder, records, opened.record.id)
    assert not any(path.exists() for path in left)


def test_checkpoints_of_paused_trials_stay(studies: Path) -> None:
    folder = StudyFolder(studies, "tiny")
    row = rows(studies)[0]
    opened = open_study(folder.url, "tiny")
    path = folder.paused(row.key)
    with closing(opened.records) as records:
        for state, stays in (("paused", True), ("complete", False)):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"whole")
            with records.writing() as connection:
                connection.exec_driver_sql(f"UPDATE nas_evaluation SET state = '{state}' WHERE trial = {row.trial}")
            sweep(folder, records, opened.record.id)
            assert path.exists() == stays
