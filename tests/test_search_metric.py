"""A search by balanced accuracy, from the command line to the exported network."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from nas.cli import main
from nas.errors import StudyError
from nas.outcome import Outcome
from nas.records import Records
from nas.report.page import page
from nas.search.study import create_study
from nas.study_folder import StudyFolder
from tests.pictures import pictures
from tests.searches import search


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Uneven images: of the cats 34 train and 6 validate, of the dogs 7 and 1."""
    path = tmp_path_factory.mktemp("uneven")
    pictures(path / "images", {"cat": 50, "dog": 10})
    return path


def run(place: Path, *options: str, study: str, code: int = 0) -> str:
    words = ["--trials", "1", "--epochs", "1", "--dataset", f"folder:{place / 'images'}", "--study", study]
    return search(place / "studies", *words, *options, code=code)


def test_balanced_accuracy_is_read_kept_and_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(place, "--metric", "balanced-accuracy", study="even")
    assert "balanced accuracy is read." in said
    assert "Warning" not in said
    folder = StudyFolder(place / "studies", "even")
    records = Records(folder.url)
    outcome = Outcome.read(records, "even")
    records.close()
    assert outcome.identity["metric"] == outcome.settings["metric"] == outcome.metric == "balanced-accuracy"
    (row,) = outcome.rows
    assert row.val_accuracy is not None
    assert row.val_accuracy * 12 == pytest.approx(round(row.val_accuracy * 12))  # (k/6 + 0 or 1) / 2
    assert f"balanced accuracy {row.val_accuracy:.4f}" in said
    assert "val balanced accuracy" in said  # the front

    studies = ["--studies-dir", str(place / "studies")]
    assert main(["show", "even", "--trial", "0", *studies]) == 0
    assert f"validation balanced accuracy {row.val_accuracy:.4f} at epoch 1" in capsys.readouterr().out
    assert main(["show", "even", "--trial", "0", "--json", *studies]) == 0
    assert json.loads(capsys.readouterr().out)["metric"] == "balanced-accuracy"
    html = page(outcome)
    assert ">val balanced accuracy</th>" in html
    assert "validation balanced accuracy" in html
    assert "validation accuracy" not in html
    storage = optuna.storages.RDBStorage(folder.url)
    assert optuna.load_study(study_name="even", storage=storage).metric_names == ["val_balanced_accuracy", "params"]
    storage.engine.dispose()

    assert main(["export", "even", "--pick", "best", *studies]) == 0
    said = f"validation balanced accuracy {row.val_accuracy:.4f} as recorded (95 % interval of the plain accuracy"
    assert said in capsys.readouterr().err
    card = json.loads((folder.export / "best" / "model.json").read_text())
    assert card["val_accuracy"]["metric"] == "balanced-accuracy"
    assert card["val_accuracy"]["exported"] == pytest.approx(row.val_accuracy)


def test_uneven_classes_are_warned_of(place: Path) -> None:
    said = run(place, study="plain")
    assert "Warning: class 'cat' has 34 training images, class 'dog' only 7" in said
    assert "--metric balanced-accuracy" in said
    assert "; accuracy is read." in said


def test_a_study_made_before_there_was_a_metric_measured_accuracy(tmp_path: Path) -> None:
    url = StudyFolder(tmp_path, "old").url
    before: dict[str, object] = {"space": {"cost": "params"}}
    create_study(url, "old", before, {}).records.close()
    opened = create_study(url, "old", before | {"metric": "accuracy"}, {})
    assert opened.study.metric_names == ["val_accuracy", "params"]
    assert Outcome.read(opened.records, "old").metric == "accuracy"
    opened.records.close()
    with pytest.raises(StudyError, match="metric = 'accuracy', this command says 'balanced-accuracy'"):
        create_study(url, "old", before | {"metric": "balanced-accuracy"}, {})
