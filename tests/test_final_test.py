"""`nas test`: the sealed images are read for the networks named, on record before a number is shown."""

from __future__ import annotations

import ast
import hashlib
import json
import pickle
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import nas
from nas import final_test, refined, seal
from nas.cli import main
from nas.data import Dataset, Part, load_dataset, load_test, normalise
from nas.models import build
from nas.records import Records
from nas.refined import Refinement, add_refinement
from nas.seal import Reading
from nas.study_folder import StudyFolder
from tests.fake_study import architecture, rows, write_study
from tests.pictures import pictures

SHAPE = (1, 8, 8)
SMALL, LARGE, LOST = 3, 4, 5
"""Complete trials: two on the front with weights, one off it without."""
RECIPE = {"epochs": 60}
REPLICATES = (0.91, 0.95, 0.93)
Run = Callable[..., int]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", input_shape=SHAPE)


@pytest.fixture(scope="module")
def images() -> Part:
    return load_test("digits", input_shape=SHAPE)


@lru_cache
def network(digits: Dataset, scale: float, seed: int) -> torch.nn.Module:
    """Not trained, but its batch norm has statistics, so that it answers differently from image to image."""
    torch.manual_seed(seed)
    made = build(architecture(scale))
    for _ in range(5):
        made(normalise(digits.train.images[:256], digits.mean, digits.std))
    return made.eval()


def write(made: torch.nn.Module, path: Path) -> str:
    path.parent.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in made.state_dict().items()}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def study(tmp_path: Path, digits: Dataset) -> StudyFolder:
    """Trials SMALL and LARGE on the front with weights, LOST complete behind it."""
    made = [replace(row, state="pruned") for row in rows(8)]
    for trial, scale, accuracy in ((SMALL, 0.7, 0.9), (LARGE, 1.0, 0.94), (LOST, 1.3, 0.8)):
        found = architecture(scale)
        made[trial] = replace(
            made[trial], state="complete", architecture=found, key=found.key, params=found.params, macs=found.macs,
            cost=found.params, val_accuracy=accuracy, curve=((1, accuracy, 2.0),),
        )  # fmt: skip
    folder = write_study(
        tmp_path / "studies", "fake", made, digests=(digits.digest, digits.split_digest), classes=list(digits.classes)
    )
    for scale in (0.7, 1.0):
        write(network(digits, scale, 0), folder.weights(architecture(scale).key))
    return folder


@pytest.fixture
def refinements(study: StudyFolder, digits: Dataset) -> list[Refinement]:
    """LARGE trained fully three times; the middle one is replicate 3."""
    made = []
    with closing(Records(study.url)) as records:
        for replicate, accuracy in enumerate(REPLICATES, start=1):
            key, begun = architecture(1.0).key, datetime(2026, 5, 5, tzinfo=UTC) + timedelta(hours=replicate)
            path = study.refined(key, refined.recipe_hash(RECIPE), replicate)
            one = Refinement(
                trial=LARGE, key=key, replicate=replicate, recipe=RECIPE, seed=replicate, val_accuracy=accuracy,
                curve=((60, accuracy, 0.1),), seconds=1.0, device="cpu", threads=1,
                weights_sha256=write(network(digits, 1.0, replicate), path), started_at=begun, finished_at=begun,
            )  # fmt: skip
            add_refinement(records, records.study("fake").id, one)
            made.append(one)
    return made


@pytest.fixture
def run(study: StudyFolder) -> Run:
    return lambda *words: main(["test", "fake", "--studies-dir", str(study.studies_dir), *words])


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """The parts of test images that were opened."""
    opened: list[Part] = []

    def watched(*words: Any, **options: Any) -> Part:
        opened.append(load_test(*words, **options))
        return opened[-1]

    monkeypatch.setattr(final_test, "load_test", watched)
    return opened


def recorded(study: StudyFolder) -> list[Reading]:
    with closing(Records(study.url)) as records:
        return seal.readings(records, records.study("fake").id)


def right(digits: Dataset, images: Part, scale: float, seed: int) -> torch.Tensor:
    """Which test images the network answers rightly, by torch itself."""
    with torch.inference_mode():
        logits = network(digits, scale, seed)(normalise(images.images, digits.mean, digits.std))  # type: ignore[arg-type]
    return logits.argmax(1) == images.labels


def test_the_reading_is_torchs_and_on_record(
    run: Run,
    study: StudyFolder,
    digits: Dataset,
    images: Part,
    capsys: pytest.CaptureFixture[str],
    sealed: list[Part],
) -> None:
    assert run("--pick", "knee", "--pick", "trial:3", "--pick", "best", "--json") == 0
    said = capsys.readouterr()
    given = json.loads(said.out)
    assert len(sealed) == 1
    assert given["classes"] == list(digits.classes)
    assert (given["readings_before"], given["readings"]) == (0, 1)
    named = {entry["trial"]: entry["picks"] for entry in given["networks"]}
    assert named == {LARGE: ["knee", "best"], SMALL: ["trial:3"]}
    kept = recorded(study)
    assert [one.trial for one in kept] == [LARGE, SMALL]
    assert len({one.read_at for one in kept}) == 1
    for entry, one, scale in zip(given["networks"], kept, (1.0, 0.7), strict=True):
        correct = right(digits, images, scale, 0)
        assert one.images == entry["images"] == len(images) == digits.test_size
        assert one.correct == entry["correct"] == int(correct.sum())
        assert entry["test_accuracy"] == one.correct / one.images
        assert entry["interval"] == list(seal.wilson(one.correct, one.images))
        assert one.confusion == tuple(map(tuple, entry["confusion"]))
        for label, by_class in enumerate(entry["by_class"]):
            mine = images.labels == label
            assert (by_class["images"], by_class["correct"]) == (int(mine.sum()), int(correct[mine].sum()))
            assert sum(entry["confusion"][label]) == by_class["images"]  # rows are true classes
        assert one.weights == entry["weights"] == "search"
        assert one.weights_sha256 == hashlib.sha256(study.weights(one.key).read_bytes()).hexdigest()
        assert one.dataset == digits.digest
        assert one.command is not None
        assert one.command.startswith("nas test fake")


def test_the_middle_of_the_full_trainings_stands_for_a_refined_network(
    run: Run, study: StudyFolder, refinements: list[Refinement], digits: Dataset, images: Part,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run("--pick", "best") == 0
    said = capsys.readouterr()
    (one,) = recorded(study)
    assert (one.trial, one.weights) == (LARGE, "refined, 60 epochs, replicate 3")
    assert one.weights_sha256 == refinements[2].weights_sha256
    assert one.correct == int(right(digits, images, 1.0, 3).sum())
    assert "0.9300" in said.out  # its validation accuracy, beside the test's
    assert "the search's own weights" not in said.err


def test_all_seeds_are_read_and_recorded_and_their_mean_is_told(
    run: Run, study: StudyFolder, refinements: list[Refinement], digits: Dataset, images: Part,
    capsys: pytest.CaptureFixture[str], sealed: list[Part],
) -> None:  # fmt: skip
    assert run("--pick", "best", "--all-seeds", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["networks"]
    expected = [float(right(digits, images, 1.0, seed).float().mean()) for seed in (3, 1, 2)]
    assert [one.accuracy for one in recorded(study)] == pytest.approx(expected)
    assert len(sealed) == 1
    assert entry["test_accuracy"] == pytest.approx(expected[0])
    assert entry["val_mean"] == pytest.approx(0.93)
    spread = torch.tensor(expected, dtype=torch.float64).std()
    half = 4.302653 * float(spread) / 3**0.5  # Student's t of 2 degrees of freedom
    mean = sum(expected) / 3
    assert entry["seeds"]["mean"] == pytest.approx(mean)
    assert entry["seeds"]["interval"] == pytest.approx([mean - half, mean + half], abs=1e-6)
    assert run("--pick", "best", "--all-seeds") == 0
    said = capsys.readouterr()
    assert f"all 3 full trainings: mean test accuracy {mean:.4f}" in said.out
    assert "these weights were read before; this is one reading more" in said.out
    assert "read 2 times, for 3 trained networks, by fake (2 times)" in said.err


def test_as_is_reads_the_searchs_own(run: Run, study: StudyFolder, refinements: list[Refinement]) -> None:
    assert run("--pick", "trial:3", "--pick", "best", "--as-is") == 0
    assert [(one.trial, one.weights) for one in recorded(study)] == [(SMALL, "search"), (LARGE, "search")]


def test_the_seal_is_told_before_and_after(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--pick", "best") == 0
    first = capsys.readouterr()
    assert first.err.splitlines() == [
        "Test images of digits, before this: never read.",
        "No network of study fake is refined: the search's own weights are read.",
        "Test images of digits, with this: read once, for 1 trained network, by fake (once).",
    ]
    assert "read before" not in first.out
    assert run("--pick", "best") == 0
    second = capsys.readouterr()
    assert "before this: read once, for 1 trained network, by fake (once)." in second.err
    assert "Trial 4: these weights were read before; this is one reading more." in second.out


def test_the_tables_say_what_is_in_the_rows(run: Run, study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--pick", "best") == 0
    out = capsys.readouterr().out.splitlines()
    (one,) = recorded(study)
    low, high = one.interval
    numbers = ["0.9400", f"{one.accuracy:.4f}", f"{low:.4f}", "to", f"{high:.4f}", str(one.correct), "of", "359"]
    assert out[2].split()[-8:] == numbers
    start = next(place for place, line in enumerate(out) if "true class (rows)" in line)
    matrix = [line.split() for line in out[start + 3 : start + 13]]
    assert [line[0] for line in matrix] == [str(digit) for digit in range(10)]
    assert [[int(cell.replace(".", "0")) for cell in line[1:]] for line in matrix] == [list(r) for r in one.confusion]


def test_many_classes_show_their_largest_confusions(
    study: StudyFolder, digits: Dataset, monkeypatch: pytest.MonkeyPatch, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nas.cli.test.FEW", 9)
    assert run("--pick", "best") == 0
    out = capsys.readouterr().out
    (one,) = recorded(study)
    worst = max((n, t, a) for t, row in enumerate(one.confusion) for a, n in enumerate(row) if t != a)
    lines = out[out.index("the largest of") :].splitlines()
    assert lines[3].split()[:3] == [str(worst[1]), str(worst[2]), str(worst[0])]
    assert "true class (rows)" not in out


def test_a_balanced_study_tells_both(
    tmp_path: Path, digits: Dataset, study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    balanced = write_study(
        study.studies_dir, "balanced", [replace(row, trial=0) for row in rows(8)][:1],
        digests=(digits.digest, digits.split_digest), classes=list(digits.classes), metric="balanced-accuracy",
    )  # fmt: skip
    write(build(rows(8)[0].architecture), balanced.weights(rows(8)[0].key))
    assert main(["test", "balanced", "--pick", "best", "--studies-dir", str(study.studies_dir)]) == 0
    out = capsys.readouterr().out
    assert "val balanced accuracy" in out
    assert "test balanced" in out
    assert "test accuracy" in out


def refused(run: Run, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """One line on stderr beside what was said before, nothing on stdout."""
    assert run(*words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith("nas: ")]
    assert said.err.splitlines()[-1:] == lines
    return lines[0]


def test_mistakes_are_said_and_leave_the_seal_whole(
    run: Run, study: StudyFolder, sealed: list[Part], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "unknown pick 'nope'" in refused(run, capsys, "--pick", "nope")
    assert "run `nas refine fake --pick trial:5`" in refused(run, capsys, "--pick", f"trial:{LOST}")
    assert "is pruned and has no final network" in refused(run, capsys, "--pick", "trial:0")
    assert "run `nas refine fake` first" in refused(run, capsys, "--pick", "best", "--all-seeds")
    assert "'--pick'" in refused(run, capsys)
    assert "unknown device 'tpu'" in refused(run, capsys, "--pick", "best", "--device", "tpu")
    gone = f"folder:{tmp_path}/gone"
    assert "gone does not exist" in refused(run, capsys, "--pick", "best", "--dataset", gone)
    other = pictures(tmp_path / "other", {str(digit): 5 for digit in range(10)})
    assert "are not those that study 'fake' was made from" in refused(
        run, capsys, "--pick", "best", "--dataset", f"folder:{other}"
    )
    assert sealed == []
    assert recorded(study) == []


def test_weights_are_checked_before_the_images_are_opened(
    run: Run, study: StudyFolder, refinements: list[Refinement], digits: Dataset, sealed: list[Part],
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    own = study.weights(architecture(1.0).key)
    planted = tmp_path / "planted"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (planted,))

    own.write_bytes(pickle.dumps(Evil()))
    assert "is damaged" in refused(run, capsys, "--pick", "best", "--as-is")
    assert not planted.exists()
    write(network(digits, 0.7, 0), own)
    assert "holds the weights of another network than trial 4's" in refused(run, capsys, "--pick", "best", "--as-is")
    middle = study.refined(refinements[2].key, refinements[2].recipe_hash, 3)
    write(network(digits, 1.0, 9), middle)
    assert "is not the file that the training wrote" in refused(run, capsys, "--pick", "best")
    middle.unlink()
    assert "replicate 3, are not at" in refused(run, capsys, "--pick", "best")
    assert sealed == []
    assert recorded(study) == []


def test_no_number_is_shown_where_it_cannot_be_recorded(
    run: Run, study: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise nas.errors.StudyError("study.db cannot be written: the disk is full")

    monkeypatch.setattr(seal, "add", full)
    assert "the disk is full" in refused(run, capsys, "--pick", "best")
    assert recorded(study) == []


def test_data_without_test_images(
    run: Run, digits: Dataset, monkeypatch: pytest.MonkeyPatch, sealed: list[Part], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(final_test, "load_images", lambda *_, **__: replace(digits, test_size=0))
    assert "have no test part; there is nothing to read" in refused(run, capsys, "--pick", "best")
    assert sealed == []


def test_nothing_else_opens_the_test_images() -> None:
    package = Path(nas.__file__).parent
    naming = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and any(alias.name == "load_test" for alias in node.names))
        or (isinstance(node, ast.Attribute) and node.attr == "load_test")
    }
    assert naming == {"data/__init__.py", "final_test.py"}
