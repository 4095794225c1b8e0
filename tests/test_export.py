"""An exported network is there whole and checked, or not at all, and nothing of the user's is touched."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from nas.cli import main
from nas.errors import DataError, ExportError, NasError, StudyError
from nas.export import Exported, export_network, writer
from nas.models import build
from nas.outcome import Outcome
from nas.study_folder import StudyFolder
from tests.export_study import TRIAL, contiguous, digits, export_study, outcome_of
from tests.fake_study import architecture
from tests.pictures import pictures

QUICK = ("safetensors",)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return export_study(tmp_path_factory.mktemp("studies"))


@pytest.fixture
def outcome(study: StudyFolder) -> Outcome:
    return outcome_of(study)


def export(study: StudyFolder, outcome: Outcome, pick: str = "best", **options: Any) -> Exported:
    """The fastest format alone: what holds for a folder holds whatever is in it."""
    return export_network(study, outcome, pick, **{"formats": QUICK, **options})


def test_the_command_says_what_was_written_and_replaces_its_own_folder(
    study: StudyFolder, outcome: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(study, outcome).path == study.export / "best"
    pycache = study.export / "best" / "__pycache__"
    pycache.mkdir()  # as whoever imports model.py leaves it
    words = ["export", "fake", "--pick", "best", "--studies-dir", str(study.studies_dir), "--format", "source"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == f"{study.export / 'best'}\n"
    lines = said.err.splitlines()
    assert lines[0] == (
        f"Trial {TRIAL}: the search's own weights, trained briefly (1 epoch); `nas refine fake` trains networks fully."
    )
    for line, name in zip(lines[1:3], ("model.safetensors", "model.py"), strict=True):
        images = len(digits().validation)
        assert line.startswith(f"{name}: the same answers as torch on all {images} validation images, largest diff")
    row = outcome.trial(TRIAL)
    assert lines[3].startswith(f"{row.params:,} parameters, validation accuracy {row.val_accuracy:.4f} as recorded")
    assert len(lines) == 4
    assert [path.name for path in study.export.iterdir()] == ["best"]
    assert not pycache.exists()


def test_the_default_is_every_format(monkeypatch: pytest.MonkeyPatch, study: StudyFolder, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def takes(*args: Any, **options: Any) -> Exported:
        seen.append(options)
        raise ExportError("enough")

    monkeypatch.setattr("nas.export.export_network", takes)
    words = ["export", "fake", "--pick", "best", "--studies-dir", str(study.studies_dir)]
    assert main(words) == 1
    assert seen[0]["formats"] == ("onnx", "pt2", "safetensors", "source")
    more = ["--uint8", "--int8", "--as-is", "--overwrite", "--output", str(tmp_path), "--dataset", "digits"]
    assert main([*words, *more, "--format", "onnx"]) == 1
    given = {name: seen[1][name] for name in ("formats", "pixels", "int8", "as_is", "overwrite", "output", "dataset")}
    assert given == {
        "formats": ("onnx",), "pixels": True, "int8": True, "as_is": True, "overwrite": True, "output": tmp_path,
        "dataset": "digits",
    }  # fmt: skip


def test_an_unknown_format_is_one_line(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "fake", "--pick", "best", "--studies-dir", str(study.studies_dir), "--format", "onnx,pickle"]
    assert main(words) == 1
    assert capsys.readouterr().err == ("nas: unknown --format 'pickle': allowed: onnx, pt2, safetensors, source\n")


def test_an_earlier_export_and_foreign_files_are_kept(study: StudyFolder, outcome: Outcome, tmp_path: Path) -> None:
    output = tmp_path / "model"
    output.mkdir()
    (output / "model.json").write_text("mine")
    with pytest.raises(ExportError, match="holds an earlier export; add --overwrite"):
        export(study, outcome, output=output)
    (output / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"holds 'thesis\.txt', which no export wrote"):
        export(study, outcome, output=output, overwrite=True)
    assert (output / "model.json").read_text() == "mine"
    with pytest.raises(ExportError, match=r"thesis\.txt is a file; choose another --output"):
        export(study, outcome, output=output / "thesis.txt")
    (output / "thesis.txt").unlink()
    assert export(study, outcome, output=output, overwrite=True).path == output
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
        export(study, outcome, output=output, overwrite=True)
    assert (output / "model.json").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["model.safetensors", "MODEL_CARD.md"])  # the first that is written, and the last
def test_a_full_disk_leaves_nothing_whichever_file_it_stops(
    name: str, study: StudyFolder, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(write: Any) -> Any:
        def writes(path: Path, *args: Any, **options: Any) -> Any:
            if path.name == name:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return write(path, *args, **options)

        return writes

    for way in ("write_bytes", "write_text"):
        monkeypatch.setattr(Path, way, full(getattr(Path, way)))
    with pytest.raises(OSError, match="No space left on device") as said:
        export(study, outcome, output=tmp_path / "model", formats=("source",))
    assert said.value.filename == str(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_killed_exports_left_goes_with_the_next(study: StudyFolder, outcome: Outcome, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name, file in (
        (f".model.{gone.pid}", "model.onnx"),
        (f".model.{gone.pid}.old", "model.json"),
        (f".model.{os.getppid()}", "model.onnx"),  # of one that still runs
        (".model.1.new", "model.onnx"),
        (f".other.{gone.pid}", "model.onnx"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("")
    foreign = tmp_path / f".model.{2**22 + 1}"  # above any process's number
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    export(study, outcome, output=tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {
        "model", foreign.name, f".model.{os.getppid()}", ".model.1.new", f".other.{gone.pid}",
    }  # fmt: skip


def test_a_folder_whose_neighbours_cannot_be_listed_is_written_all_the_same(
    study: StudyFolder, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Path.iterdir

    def refuses(path: Path) -> Iterator[Path]:
        if path == tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuses)
    assert export(study, outcome, output=tmp_path / "model").path == tmp_path / "model"
    assert (tmp_path / "model" / "model.json").is_file()


def changed(outcome: Outcome, **changes: object) -> Outcome:
    """The same study with another record of trial 3."""
    there = [replace(row, **changes) if row.trial == TRIAL else row for row in outcome.rows]  # type: ignore[arg-type]
    return replace(outcome, rows=tuple(there), front=(there[TRIAL],))


def test_an_accuracy_that_is_not_the_recorded_one_is_refused(
    study: StudyFolder, outcome: Outcome, tmp_path: Path
) -> None:
    row = outcome.trial(TRIAL)
    assert row.val_accuracy is not None
    two_images = row.val_accuracy + 2 / len(digits().validation)
    with pytest.raises(ExportError, match=rf"the record of trial {TRIAL} says .*; nothing was written"):
        export(study, changed(outcome, val_accuracy=two_images), output=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_answers_otherwise_is_refused_and_leaves_nothing(
    study: StudyFolder, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "save", half_as_much_again)
    with pytest.raises(ExportError, match=r"model\.safetensors answers otherwise than the network in torch on"):
        export(study, outcome, output=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def half_as_much_again(state: dict[str, torch.Tensor]) -> bytes:
    """Weights that are not the network's, whole as a file."""
    content: bytes = save({name: (1.5 * value).to(value.dtype) for name, value in state.items()})
    return content


def test_other_images_are_refused(study: StudyFolder, outcome: Outcome, tmp_path: Path) -> None:
    other = replace(outcome, identity={**outcome.identity, "data": {"images": "other", "split": "other"}})
    with pytest.raises(DataError, match="the images of digits are not those that study 'fake' was made from"):
        export(study, other, output=tmp_path / "model")


def test_moved_images_are_named_and_still_checked(study: StudyFolder, outcome: Outcome, tmp_path: Path) -> None:
    gone = {**outcome.settings, "dataset": f"folder:{tmp_path}/gone"}
    moved = replace(outcome, settings=gone)
    with pytest.raises(DataError, match=r"gone does not exist: .*; name images that were moved with --dataset$"):
        export(study, moved, output=tmp_path / "model")
    done = export(study, moved, output=tmp_path / "model", dataset="digits")
    assert done.val_accuracy == outcome.trial(TRIAL).val_accuracy
    other = pictures(tmp_path / "other", {str(digit): 5 for digit in range(10)})
    with pytest.raises(DataError, match=r"the images of folder:.*other are not those that study 'fake'"):
        export(study, moved, output=tmp_path / "model", overwrite=True, dataset=f"folder:{other}")


def test_the_command_hands_dataset_on(study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "fake", "--pick", "best", "--studies-dir", str(study.studies_dir)]
    assert main([*words, "--dataset", f"folder:{tmp_path}/nowhere"]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def test_an_output_that_has_no_name_of_its_own(
    study: StudyFolder, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(study, outcome, output=Path()).path == Path()
    assert (tmp_path / "model.safetensors").is_file()
    assert not [path for path in tmp_path.parent.iterdir() if path.name.startswith(f".{tmp_path.name}")]
    with pytest.raises(ExportError, match=r"^/ holds .*, which no export wrote"):
        export(study, outcome, output=Path("/"))
    with pytest.raises(ExportError, match=r"^\.\. holds .*, which no export wrote"):
        export(study, outcome, output=Path(".."))


def test_what_the_machine_refuses_names_the_users_path(
    study: StudyFolder, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NasError, match=r"^cannot use '/proc/x/model': no folder can be made there$"):
        export(study, outcome, output=Path("/proc/x/model"))
    mkdir = Path.mkdir

    def fails_for_the_new_one(path: Path, *args: Any, **options: Any) -> None:
        if path.name.startswith(".model."):
            raise PermissionError(13, "Permission denied", str(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", fails_for_the_new_one)
    with pytest.raises(PermissionError) as said:
        export(study, outcome, output=tmp_path / "model")
    assert said.value.filename == str(tmp_path / "model")


def test_weights_of_another_network_are_said(study: StudyFolder, outcome: Outcome, tmp_path: Path) -> None:
    elsewhere = StudyFolder(tmp_path, "fake")
    path = elsewhere.weights(outcome.trial(TRIAL).key)
    path.parent.mkdir(parents=True)
    save_file(contiguous(build(architecture(2.0))), path)
    with pytest.raises(ExportError, match="the weights of trial 3 are of another network"):
        export(elsewhere, outcome)
    assert not elsewhere.export.exists() or list(elsewhere.export.iterdir()) == []


def test_a_pick_that_names_nothing_is_said(study: StudyFolder, outcome: Outcome) -> None:
    with pytest.raises(StudyError, match="trial 5 is pruned and has no final network"):
        export(study, outcome, "trial:5")


def test_a_copy_of_the_study_without_weights_cannot_train_blindly(
    study: StudyFolder, outcome: Outcome, tmp_path: Path
) -> None:
    copy = tmp_path / "fake"
    shutil.copytree(study.path, copy, ignore=shutil.ignore_patterns("weights", "export"))
    with pytest.raises(
        ExportError, match=r"trial 3 has no weights here, since .* front only, and cannot be trained again"
    ):
        export(StudyFolder(tmp_path, "fake"), outcome)
    assert not (copy / "export").exists()
