"""An exported network answers as the trained one did, or nothing is written."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from nas.architecture import Architecture
from nas.cli import main
from nas.data import Dataset, load_dataset, normalise
from nas.errors import DataError, ExportError, NasError, StudyError
from nas.export import bundle, export_network
from nas.models import build
from nas.outcome import Outcome
from nas.records import Records, Row
from nas.study_folder import StudyFolder
from tests.fake_study import architecture, rows, write_study
from tests.pictures import pictures

TRIAL = 3


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", input_shape=(1, 8, 8))


def contiguous(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As the search keeps weights: safetensors takes no channels_last."""
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def predictions(network: torch.nn.Module, digits: Dataset) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network(normalise(digits.validation.images, digits.mean, digits.std)).argmax(1)
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> StudyFolder:
    """A study whose trial 3 is its front's best; its network is not trained, but its batch norm has statistics."""
    torch.manual_seed(0)
    network = build(architecture(1.0))
    images = normalise(digits.train.images[:256], digits.mean, digits.std)
    for _ in range(20):
        network(images)
    network.eval()
    accuracy = float((predictions(network, digits) == digits.validation.labels).float().mean())
    made = rows(12)
    # Beaten by nothing: trial 3 is the cheapest and no other is complete.
    made = [replace(row, state="pruned") if row.trial != TRIAL else row for row in made]
    found = network.architecture
    made[TRIAL] = replace(
        made[TRIAL], state="complete", architecture=found, key=found.key, params=found.params, macs=found.macs,
        cost=found.params, val_accuracy=accuracy, curve=((1, accuracy, 2.0),),
    )  # fmt: skip
    folder = write_study(
        tmp_path_factory.mktemp("studies"), "fake", made, digests=(digits.digest, digits.split_digest),
        classes=list(digits.classes),
    )  # fmt: skip
    folder.weights(found.key).parent.mkdir()
    save_file(contiguous(network), folder.weights(found.key))
    return folder


@pytest.fixture
def outcome(study: StudyFolder) -> Outcome:
    return Outcome.read(Records(study.url), "fake")


@pytest.fixture(scope="module")
def exported(study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> bundle.Exported:
    output = tmp_path_factory.mktemp("out") / "model"
    return export_network(study, Outcome.read(Records(study.url), "fake"), f"trial:{TRIAL}", output=output)


def test_the_file_answers_as_the_network_did(exported: bundle.Exported, digits: Dataset, outcome: Outcome) -> None:
    session = onnxruntime.InferenceSession(exported.path / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = digits.validation.images.contiguous().numpy().astype(np.float32) / 255
    (logits,) = session.run(None, {"images": pixels})  # any batch: here all at once
    accuracy = float((logits.argmax(1) == digits.validation.labels.numpy()).mean())
    assert accuracy == pytest.approx(outcome.trial(TRIAL).val_accuracy, abs=0.5 / len(pixels))
    assert exported.val_accuracy == accuracy
    assert exported.images == len(pixels)
    assert exported.difference < 1e-4
    (one,) = session.run(None, {"images": pixels[:1]})
    np.testing.assert_allclose(one, logits[:1], atol=1e-5)


def test_the_folder_says_what_it_holds(exported: bundle.Exported, digits: Dataset, outcome: Outcome) -> None:
    row = outcome.trial(TRIAL)
    assert sorted(path.name for path in exported.path.iterdir()) == ["model.json", "model.onnx", "model.safetensors"]
    card = json.loads((exported.path / "model.json").read_text())
    assert Architecture.from_json(card["architecture"]) == row.architecture
    assert card["classes"] == list(digits.classes)
    assert card["input"]["mean"] == list(digits.mean)
    assert (card["study"], card["trial"], card["parameters"]) == ("fake", TRIAL, row.params)
    assert card["val_accuracy"]["recorded"] == row.val_accuracy
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((exported.path / name).read_bytes()).hexdigest() == digest
    network = build(row.architecture)
    network.load_state_dict(load_file(exported.path / "model.safetensors"))
    accuracy = (predictions(network.eval(), digits) == digits.validation.labels).float().mean()
    assert float(accuracy) == pytest.approx(row.val_accuracy)


def test_the_onnx_file_carries_its_use_and_nothing_of_this_machine(exported: bundle.Exported) -> None:
    model = onnx.load(exported.path / "model.onnx")
    props = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert props["classes"] == [str(digit) for digit in range(10)]
    assert props["input"]["range"] == [0, 1]
    assert props["trial"] == TRIAL
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    content = (exported.path / "model.onnx").read_bytes()
    assert str(Path(bundle.__file__).parents[1]).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_the_command_says_one_line_and_replaces_its_own_folder(study: StudyFolder, outcome: Outcome) -> None:
    assert export_network(study, outcome, "best").path == study.export / "best"
    words = ["export", "fake", "--pick", "best", "--studies-dir", str(study.studies_dir)]
    done = subprocess.run([sys.executable, "-m", "nas", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{study.export / 'best'}\n"
    assert done.stderr.startswith(f"Trial {TRIAL}: ")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in study.export.iterdir()] == ["best"]


def test_an_earlier_export_and_foreign_files_are_kept(study: StudyFolder, outcome: Outcome, tmp_path: Path) -> None:
    output = tmp_path / "model"
    output.mkdir()
    (output / "model.json").write_text("mine")
    with pytest.raises(ExportError, match="holds an earlier export; add --overwrite"):
        export_network(study, outcome, "best", output=output)
    (output / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"holds 'thesis\.txt', which no export wrote"):
        export_network(study, outcome, "best", output=output, overwrite=True)
    assert (output / "model.json").read_text() == "mine"
    with pytest.raises(ExportError, match=r"thesis\.txt is a file; choose another --output"):
        export_network(study, outcome, "best", output=output / "thesis.txt")
    (output / "thesis.txt").unlink()
    assert export_network(study, outcome, "best", output=output, overwrite=True).path == output
    assert json.loads((output / "model.json").read_text())["trial"] == TRIAL
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_earlier_one(
    study: StudyFolder, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    output.mkdir()
    (output / "model.json").write_text("mine")
    rename = Path.rename

    def fails_for_the_new_one(path: Path, target: Path) -> Path:
        if path.name.startswith(".model.") and not path.name.endswith(".old"):
            raise PermissionError(13, "denied", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(PermissionError):
        export_network(study, outcome, "best", output=output, overwrite=True)
    assert (output / "model.json").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def changed(outcome: Outcome, **changes: object) -> Outcome:
    """The same study with another record of trial 3."""
    there = [replace(row, **changes) if row.trial == TRIAL else row for row in outcome.rows]  # type: ignore[arg-type]
    return replace(outcome, rows=tuple(there), front=(there[TRIAL],))


def test_an_accuracy_that_is_not_the_recorded_one_is_refused(
    study: StudyFolder, outcome: Outcome, digits: Dataset, tmp_path: Path
) -> None:
    row = outcome.trial(TRIAL)
    assert row.val_accuracy is not None
    two_images = row.val_accuracy + 2 / len(digits.validation)
    with pytest.raises(ExportError, match=rf"the record of trial {TRIAL} says .*; nothing was written"):
        export_network(study, changed(outcome, val_accuracy=two_images), "best", output=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_answers_otherwise_is_refused(
    study: StudyFolder, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bundle.run_onnx
    monkeypatch.setattr(bundle, "run_onnx", lambda path, images: run(path, images)[:, ::-1].copy())
    with pytest.raises(ExportError, match=r"ONNX Runtime answers otherwise than torch on .* validation images"):
        export_network(study, outcome, "best", output=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def logits(*rows: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(rows)


def record(val_accuracy: float, device: str) -> Row:
    return replace(rows(1)[0], val_accuracy=val_accuracy, device=device)


def test_a_tie_may_fall_either_way() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    expected = logits((1, 0), (0.50001, 0.5), (0, 1), (0, 1))
    found = logits((1, 0), (0.5, 0.50001), (0, 1), (0, 1))
    assert bundle._check(record(1.0, "cpu"), labels, expected, found) == 0.75
    with pytest.raises(ExportError, match="on 1 of 4"):
        bundle._check(record(1.0, "cpu"), labels, logits((1, 0), (0.6, 0.5), (0, 1), (0, 1)), found)


def test_a_gpu_record_may_differ_by_half_a_percent_and_a_cpu_record_not() -> None:
    labels = torch.zeros(1000, dtype=torch.int64)
    answers = logits(*[(1, 0)] * 995, *[(0, 1)] * 5)
    assert bundle._check(record(1.0, "NVIDIA H200"), labels, answers, answers) == 0.995
    with pytest.raises(
        ExportError, match=r"right on 995 of 1000 .* accuracy 0\.9950; the record of trial 0 says 1\.0000"
    ):
        bundle._check(record(1.0, "cpu"), labels, answers, answers)
    with pytest.raises(ExportError, match="right on 995"):
        bundle._check(record(0.988, "NVIDIA H200"), labels, answers, answers)


def test_other_images_are_refused(study: StudyFolder, outcome: Outcome, tmp_path: Path) -> None:
    other = replace(outcome, identity={**outcome.identity, "data": {"images": "other", "split": "other"}})
    with pytest.raises(DataError, match="the images of digits are not those that study 'fake' was made from"):
        export_network(study, other, "best", output=tmp_path / "model")


def test_moved_images_are_named_and_still_checked(study: StudyFolder, outcome: Outcome, tmp_path: Path) -> None:
    gone = {**outcome.settings, "dataset": f"folder:{tmp_path}/gone"}
    moved = replace(outcome, settings=gone)
    with pytest.raises(DataError, match=r"gone does not exist: .*; name images that were moved with --dataset$"):
        export_network(study, moved, "best", output=tmp_path / "model")
    done = export_network(study, moved, "best", output=tmp_path / "model", dataset="digits")
    assert done.val_accuracy == pytest.approx(outcome.trial(TRIAL).val_accuracy)
    other = pictures(tmp_path / "other", {str(digit): 5 for digit in range(10)})
    with pytest.raises(DataError, match=r"the images of folder:.*other are not those that study 'fake'"):
        export_network(study, moved, "best", output=tmp_path / "model", overwrite=True, dataset=f"folder:{other}")


def test_the_command_hands_dataset_on(study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "fake", "--pick", "best", "--studies-dir", str(study.studies_dir)]
    assert main([*words, "--dataset", f"folder:{tmp_path}/nowhere"]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def test_an_output_that_has_no_name_of_its_own(
    study: StudyFolder, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export_network(study, outcome, "best", output=Path()).path == Path()
    assert (tmp_path / "model.onnx").is_file()
    assert not [path for path in tmp_path.parent.iterdir() if path.name.startswith(f".{tmp_path.name}")]
    with pytest.raises(ExportError, match=r"^/ holds .*, which no export wrote"):
        export_network(study, outcome, "best", output=Path("/"))
    with pytest.raises(ExportError, match=r"^\.\. holds .*, which no export wrote"):
        export_network(study, outcome, "best", output=Path(".."))


def test_what_the_machine_refuses_names_the_users_path(
    study: StudyFolder, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NasError, match=r"^cannot use '/proc/x/model': no folder can be made there$"):
        export_network(study, outcome, "best", output=Path("/proc/x/model"))
    mkdir = Path.mkdir

    def fails_for_the_new_one(path: Path, *args: Any, **options: Any) -> None:
        if path.name.startswith(".model."):
            raise PermissionError(13, "Permission denied", str(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", fails_for_the_new_one)
    with pytest.raises(PermissionError) as said:
        export_network(study, outcome, "best", output=tmp_path / "model")
    assert said.value.filename == str(tmp_path / "model")


def test_weights_that_are_missing_damaged_or_of_another_network_are_said(
    study: StudyFolder, outcome: Outcome, tmp_path: Path
) -> None:
    elsewhere = StudyFolder(tmp_path, "fake")
    with pytest.raises(ExportError, match=r"trial 3 has no weights at .* pick a network of `nas front`"):
        export_network(elsewhere, outcome, "best")
    path = elsewhere.weights(outcome.trial(TRIAL).key)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x80\x04\x95 a pickle, never loaded")
    with pytest.raises(ExportError, match="is damaged"):
        export_network(elsewhere, outcome, "best")
    save_file(contiguous(build(architecture(2.0))), path)
    with pytest.raises(ExportError, match="the weights of trial 3 are of another network"):
        export_network(elsewhere, outcome, "best")
    assert not elsewhere.export.exists() or list(elsewhere.export.iterdir()) == []


def test_a_pick_that_names_nothing_is_said(study: StudyFolder, outcome: Outcome) -> None:
    with pytest.raises(StudyError, match="trial 5 is pruned and has no final network"):
        export_network(study, outcome, "trial:5")
