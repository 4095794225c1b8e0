"""Which weights are exported: refined ones where there are, the search's own as asked, or trained again."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nas import refined
from nas.cli import main
from nas.data import load_dataset
from nas.errors import ExportError, NasError, StudyError, TrialFailed
from nas.evaluation import evaluate
from nas.export import export_network, pick
from nas.export.pick import pick_network, read_weights
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.records import Records, Row
from nas.refined import Refined, Refinement, add_refinement, recipe_hash
from nas.search.hardware import hardware, versions
from nas.seeds import training_seed
from nas.study_folder import StudyFolder
from nas.training import TRAINING_VERSION
from tests.export_study import TRIAL, accuracy_of, contiguous, digits, export_study, network, outcome_of
from tests.fake_study import architecture, rows, write_study

RECIPE = {"epochs": 60, "batch": 64, "learning_rate": 0.04}


def refine(folder: StudyFolder, row: Row, seeds: int) -> list[float]:
    """Full trainings of trial 3, each a network of its own; their accuracies by replicate."""
    records = Records(folder.url)
    reached = []
    for replicate in range(1, seeds + 1):
        made = network(row.architecture, seed=100 + replicate)
        path = folder.refined(row.key, recipe_hash(RECIPE), replicate)
        path.parent.mkdir(exist_ok=True)
        save_file(contiguous(made), path)
        reached.append(accuracy_of(made))
        now = datetime.now(UTC)
        add_refinement(
            records,
            records.study("fake").id,
            Refinement(
                trial=row.trial, key=row.key, replicate=replicate, recipe=RECIPE, seed=replicate,
                val_accuracy=reached[-1], curve=((60, reached[-1], 0.1),), seconds=60.0, device="cpu", threads=1,
                weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest(), started_at=now, finished_at=now,
            ),
        )  # fmt: skip
    records.close()
    return reached


def found_in(folder: StudyFolder) -> list[Refined]:
    records = Records(folder.url)
    found = refined.networks(outcome_of(folder).rows, refined.refinements(records, records.study("fake").id))
    records.close()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return export_study(tmp_path / "studies")


def test_the_training_of_median_accuracy_stands_for_a_refined_network(folder: StudyFolder, tmp_path: Path) -> None:
    outcome = outcome_of(folder)
    reached = refine(folder, outcome.trial(TRIAL), seeds=3)
    found = found_in(folder)
    said: list[str] = []
    done = export_network(
        folder, outcome, "best", refined=found, formats=["safetensors"], output=tmp_path / "model", say=said.append
    )
    middle = sorted(range(3), key=lambda number: reached[number])[1]
    assert done.val_accuracy == reached[middle]
    assert done.weights == f"refined, 60 epochs, replicate {middle + 1}"
    kept = load_file(folder.refined(done.row.key, recipe_hash(RECIPE), middle + 1))
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(kept[name], written[name]) for name in kept)
    assert said == [
        f"Trial {TRIAL}, refined: of 3 full trainings (mean validation accuracy {found[0].mean:.4f}, 95 % "
        f"{found[0].interval[0]:.4f} to {found[0].interval[1]:.4f}) the one of median accuracy; 60 epochs."
    ]
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    assert card["refined"]["val_mean"] == found[0].mean
    assert card["refined"]["trainings"] == 3
    assert card["recipe"] == RECIPE
    page = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert f"{found[0].mean:.4f}, 95 %" in page
    assert f"| refined, 60 epochs, replicate {middle + 1}; seed {middle + 1}, on cpu |" in page


def test_as_is_takes_the_searchs_own(folder: StudyFolder, tmp_path: Path) -> None:
    outcome = outcome_of(folder)
    refine(folder, outcome.trial(TRIAL), seeds=1)
    said: list[str] = []
    done = export_network(
        folder, outcome, "best", refined=found_in(folder), as_is=True, formats=["safetensors"],
        output=tmp_path / "model", say=said.append,
    )  # fmt: skip
    assert done.val_accuracy == outcome.trial(TRIAL).val_accuracy
    assert done.weights == "search"
    assert said == [f"Trial {TRIAL}: the search's own weights, trained briefly (1 epoch), as asked."]


def test_one_training_has_no_interval(folder: StudyFolder, tmp_path: Path) -> None:
    outcome = outcome_of(folder)
    refine(folder, outcome.trial(TRIAL), seeds=1)
    export_network(
        folder, outcome, "best", refined=found_in(folder), formats=["safetensors"], output=tmp_path / "model"
    )
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    assert (card["refined"]["val_std"], card["refined"]["val_interval"]) == (None, None)


def test_a_trial_that_is_not_refined_counts_by_its_own_weights(folder: StudyFolder) -> None:
    outcome = outcome_of(folder)
    row = outcome.trial(TRIAL)
    other = Refined(replace(row, trial=99, cost=1), (replace(_training(row), trial=99),))
    assert pick_network(folder, outcome, [other], f"trial:{TRIAL}").words == "search"
    with pytest.raises(StudyError, match=r"among the refined networks: no network .* reaches 0\.99.*; --as-is picks"):
        pick_network(folder, outcome, [other], "smallest:0.99")


def _training(row: Row) -> Refinement:
    now = datetime.now(UTC)
    return Refinement(row.trial, row.key, 1, RECIPE, 1, 0.5, ((60, 0.5, 0.1),), 1.0, "cpu", 1, "0", now, now)


def test_refined_weights_that_are_gone_or_others_are_said(folder: StudyFolder, tmp_path: Path) -> None:
    outcome = outcome_of(folder)
    row = outcome.trial(TRIAL)
    refine(folder, row, seeds=1)
    found = found_in(folder)
    path = folder.refined(row.key, recipe_hash(RECIPE), 1)
    save_file(contiguous(network(row.architecture, seed=7)), path)
    with pytest.raises(StudyError, match="is not the file that the training wrote"):
        export_network(folder, outcome, "best", refined=found, output=tmp_path / "model")
    path.unlink()
    with pytest.raises(StudyError, match=r"replicate 1, are not at .* --as-is"):
        export_network(folder, outcome, "best", refined=found, output=tmp_path / "model")
    assert not (tmp_path / "model").exists()


class Payload:
    """A pickle of it makes a file wherever it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pickle", "torch.save", "old torch.save"])
def test_a_planted_pickle_is_refused_and_never_run(
    kind: str, folder: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, ran = folder.weights(outcome_of(folder).trial(TRIAL).key), tmp_path / "it ran"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(ran)))
    else:
        torch.save({"stem": Payload(ran)}, path, _use_new_zipfile_serialization=kind == "torch.save")
    words = ["export", "fake", "--pick", "best", "--studies-dir", str(folder.studies_dir)]
    assert main([*words, "--output", str(tmp_path / "model")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "is a pickle, which could run any code: it was not loaded" in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["studies"]
    if kind == "pickle":
        pickle.loads(path.read_bytes())  # noqa: S301  (what nas does not do, shown to be harmful)
        assert ran.exists()  # so it would have been seen


def test_a_damaged_file_is_said(folder: StudyFolder) -> None:
    outcome = outcome_of(folder)
    path = folder.weights(outcome.trial(TRIAL).key)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ExportError, match=r"\.safetensors is damaged \(.*restore it from a copy"):
        read_weights(pick_network(folder, outcome, [], "best"))


LIMIT, SPACE = 200, {"epochs": 2, "batch": 50, "learning_rate": 0.04}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study with two complete trials that were trained: 0 is beaten, so it has no weights; 1 has."""
    dataset = load_dataset("digits", input_shape=(1, 8, 8), train_limit=LIMIT)
    recipe, made = Recipe.model_validate(SPACE), []
    for trial, scale in enumerate((1.0, 0.5)):
        found = architecture(scale)
        seed = training_seed(0, found.key)
        result = evaluate(found, dataset, recipe, seed=seed, device="cpu")
        curve = tuple((one.epoch, one.val_accuracy, one.train_loss) for one in result.curve)
        row = replace(
            rows(1)[0], trial=trial, key=found.key, architecture=found, state="complete", curve=curve, seed=seed,
            val_accuracy=result.val_accuracy, params=found.params, macs=found.macs, cost=1000 - trial,
            threads=torch.get_num_threads(), versions=versions(), seconds=12.3,
        )  # fmt: skip
        made.append(row)
    best = max(row.val_accuracy or 0 for row in made)
    made[1] = replace(made[1], val_accuracy=best, curve=((1, best, 1.0),))  # on the front alone, whatever it reached
    return write_study(
        tmp_path_factory.mktemp("studies"), "fake", made, digests=(dataset.digest, dataset.split_digest),
        classes=list(dataset.classes), train_limit=LIMIT, hardware=hardware(torch.device("cpu")),
    )  # fmt: skip


def as_trained(folder: StudyFolder, **changed: Any) -> Outcome:
    """The study with a recipe and a version in its identity, and other fields of trial 0's row."""
    outcome = outcome_of(folder)
    identity = {
        **outcome.identity,
        "space": {**outcome.identity["space"], "recipe": SPACE},
        "training_version": TRAINING_VERSION,
    }
    first, *rest = outcome.rows
    return replace(outcome, identity=identity, rows=(replace(first, **changed), *rest))


def test_a_network_off_the_front_is_trained_again_to_the_same_accuracy(trained: StudyFolder, tmp_path: Path) -> None:
    outcome, said = as_trained(trained), list[str]()
    done = export_network(
        trained, outcome, "trial:0", formats=["safetensors"], output=tmp_path / "model", say=said.append
    )
    assert done.val_accuracy == outcome.trial(0).val_accuracy
    assert done.weights == "search, trained again"
    assert said == [
        "Trial 0 has no weights here: a search keeps those of its front. Training it again as the search did "
        "(2 epochs); that took 12 s."
    ]
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    assert card["weights"]["which"] == "search, trained again"
    assert len(card["weights"]["sha256"]) == 64


def test_a_training_that_gives_something_else_is_refused_or_said(trained: StudyFolder, tmp_path: Path) -> None:
    there = as_trained(trained).trial(0).val_accuracy
    assert there is not None
    other = there - 5 / len(digits().validation)
    with pytest.raises(ExportError, match=r"trained again reads accuracy .* and nothing that decides a training"):
        export_network(trained, as_trained(trained, val_accuracy=other), "trial:0", output=tmp_path / "model")
    assert not (tmp_path / "model").exists()
    said: list[str] = []
    old = as_trained(trained, val_accuracy=other, versions={"torch": "1.0"})
    done = export_network(trained, old, "trial:0", formats=["safetensors"], output=tmp_path / "model", say=said.append)
    assert done.val_accuracy == there
    assert said[1] == f"Trained again it reads accuracy {there:.4f}; the record says {other:.4f}."


def test_a_training_is_repeated_on_as_many_threads(
    trained: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, before = list[int](), torch.get_num_threads()

    def fails(*args: Any, **options: Any) -> None:
        seen.append(torch.get_num_threads())
        raise TrialFailed("enough")

    monkeypatch.setattr(pick, "evaluate", fails)
    with pytest.raises(TrialFailed, match="enough"):
        export_network(trained, as_trained(trained, threads=before + 1), "trial:0", output=tmp_path / "model")
    assert (seen, torch.get_num_threads()) == ([before + 1], before)
    assert not (tmp_path / "model").exists()


def test_a_place_that_cannot_be_written_is_said_before_a_training(
    trained: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trains(*args: Any, **options: Any) -> None:
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]  # what was tried has gone
        raise TrialFailed("it trained")

    monkeypatch.setattr(pick, "evaluate", trains)
    (tmp_path / "file").touch()
    outcome = as_trained(trained)
    with pytest.raises(NasError, match=r"^cannot use '/proc/x/model': no folder can be made there$"):
        export_network(trained, outcome, "trial:0", output=Path("/proc/x/model"))
    with pytest.raises(OSError, match="Not a directory"):
        export_network(trained, outcome, "trial:0", output=tmp_path / "file" / "x" / "model")
    with pytest.raises(TrialFailed, match="it trained"):
        export_network(trained, outcome, "trial:0", output=tmp_path / "a" / "b" / "model")


def test_what_cannot_be_trained_again_is_said(trained: StudyFolder, tmp_path: Path) -> None:
    outcome = as_trained(trained)
    for identity, said in (
        (
            {**outcome.identity, "training_version": 0},
            "cannot be trained again: the study is of training version 0, this nas of 1",
        ),
        ({**outcome.identity, "space": {}}, "the study does not say how it was trained"),
    ):
        with pytest.raises(ExportError, match=said):
            export_network(trained, replace(outcome, identity=identity), "trial:0", output=tmp_path / "model")
    assert not (tmp_path / "model").exists()
