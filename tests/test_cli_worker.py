"""`nas worker`: workers that join a study need its name and its database, and nothing else."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from nas.cli import main
from nas.errors import DataError, StudyError
from nas.records import Point, Records, StudyRecord
from nas.search import join
from nas.search.display import Display
from nas.search.join import done, find, keep_total
from nas.search.options import KEPT, SearchOptions, options_of
from nas.search.setup import set_up
from nas.space import load_space
from nas.study_folder import StudyFolder
from tests.fake_study import rows, write_study
from tests.searches import rows as rows_of

GIVEN = ["--sampler", "random", "--pruner", "none", "--epochs", "1", "--train-limit", "100", "--seed", "3"]
GIVEN += ["--max-params", "3000", "--rule", "off", "--split-seed", "2", "--cost", "macs"]


def nas(*words: str, cwd: Path, code: int = 0) -> str:
    """A command in a process of its own; what it said on standard error."""
    done = subprocess.run([sys.executable, "-m", "nas", *words], cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two trials, of a space in a file that is gone since."""
    place = tmp_path_factory.mktemp("made")
    (place / "mine.toml").write_text(load_space("tiny").toml)
    nas("search", "--space", "mine.toml", "--study", "mine", "--trials", "2", "--workers", "1", *GIVEN, cwd=place)
    (place / "mine.toml").unlink()
    return place / "studies"


def record(studies: Path, name: str = "mine") -> StudyRecord:
    records = Records(StudyFolder(studies, name).url)
    found = records.study(name)
    records.close()
    return found


def test_a_worker_elsewhere_searches_what_the_study_says(studies: Path, tmp_path: Path) -> None:
    before = record(studies)
    said = nas("worker", "mine", "--studies-dir", str(studies), "--trials", "4", cwd=tmp_path)
    after = record(studies)
    assert "4/4 trials" in said
    assert "A whole one takes" not in said  # it begins at once
    assert (after.identity, after.settings["trials"]) == (before.identity, 4)
    assert {name: value for name, value in after.settings.items() if name != "trials"} == {
        name: value for name, value in before.settings.items() if name != "trials"
    }
    found = rows_of(studies, "mine")
    assert [len(row.curve) for row in found] == [1, 1, 1, 1]
    assert len({row.key for row in found}) == 4
    assert list(tmp_path.iterdir()) == []

    assert nas("worker", "mine", "--studies-dir", str(studies), cwd=tmp_path) == "Study mine has all its 4 trials.\n"


def test_it_is_told_what_the_first_command_was(studies: Path) -> None:
    asked = options_of(record(studies), dataset=None, trials=7, workers=3, device="cpu", studies_dir="s")
    assert asked.space_toml == load_space("tiny").toml
    want = SearchOptions(
        space="mine", space_toml=asked.space_toml, dataset="digits", trials=7, study="mine", studies_dir="s",
        sampler="random", pruner="none", epochs=1, rule="off", cost="macs", max_params=3000, workers=3, device="cpu",
        seed=3, split_seed=2, train_limit=100, joins=True,
    )  # fmt: skip
    assert asked == want


def test_every_option_is_kept_or_known_to_be_of_one_machine() -> None:
    apart = {"space", "space_toml", "dataset", "trials", "study", "files"}  # settings of their own
    local = {"studies_dir", "storage", "device", "workers", "workers_per_gpu", "memory_share"}
    command = {"command", "dry_run", "timeout", "joins"}
    assert {field.name for field in fields(SearchOptions)} <= apart | local | command | set(KEPT)
    assert set(KEPT) <= {field.name for field in fields(SearchOptions)}
    assert not set(KEPT) & (apart | local | command)


def test_other_images_than_the_study_s_are_refused_before_anything_is_written(studies: Path, tmp_path: Path) -> None:
    for label in range(10):
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        for number in range(20):
            shade = Image.new("L", (8, 8), label * 20 + number)
            shade.putpixel((number % 8, label % 8), 255)
            shade.save(tmp_path / "photos" / str(label) / f"{number}.png")
    spec = f"folder:{tmp_path / 'photos'}"
    asked = options_of(record(studies), dataset=spec, trials=9, studies_dir=str(studies), device="cpu")
    asked = replace(asked, train_limit=None)
    with pytest.raises(DataError, match=r"not those that study 'mine' was made from: bring .* --dataset"):
        set_up(asked, 0)
    assert record(studies).settings["trials"] < 9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "did not keep its options: repeat its command here, with the same --storage, to add workers: nas search"),
        (
            {"options": {"colour": "blue"}, "trials": 9},
            "that this one does not know (colour): install the same",
        ),
        (
            {"options": {"epochs": "many"}, "trials": 9},
            "keeps options that no search has (epochs: Input should be a valid integer",
        ),
        ({"options": {}}, "how many trials it gets is not known: --trials"),
        (
            {"options": {}, "trials": 9, "dataset": "folder:/nowhere/photos"},
            "are in 'folder:/nowhere/photos', which is not on this machine: say where they are with --dataset",
        ),
    ],
)
def test_a_study_that_cannot_be_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, object], message: str
) -> None:
    write_study(tmp_path, "fake", rows(3), **changed)
    assert main(["worker", "fake", "--studies-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_images_that_lie_elsewhere_are_named(tmp_path: Path) -> None:
    write_study(tmp_path, "fake", rows(3), options={}, trials=9, dataset="folder:/nowhere/photos")
    asked = options_of(record(tmp_path, "fake"), dataset="folder:here", trials=None)
    assert (asked.dataset, asked.trials) == ("folder:here", 9)


@pytest.mark.parametrize("name", ["../up", "", "a/b", "x" * 200])
def test_a_name_that_is_no_study_s(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["worker", name, "--studies-dir", str(tmp_path)]) == 1
    assert "study name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_is_not_there_is_named_with_how_it_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--studies-dir", str(tmp_path / "none")]
    assert main(["worker", "digits", *here]) == 1
    said = capsys.readouterr().err
    assert said.startswith("nas: no study 'digits' (in ")
    assert f"make it with `nas search --study digits --studies-dir {tmp_path / 'none'}`, or give --wait" in said
    assert main(["worker", "digits", *here, "--storage", f"sqlite:///{tmp_path}/no.db"]) == 1
    assert f"--storage sqlite:///{tmp_path}/no.db`" in capsys.readouterr().err
    write_study(tmp_path, "digits", rows(3))
    assert main(["worker", "digit", "--studies-dir", str(tmp_path)]) == 1
    assert "did you mean 'digits'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "no.db").exists()


def test_a_password_is_not_repeated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/nas"
    assert main(["worker", "digits", "--storage", url, "--studies-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "secret" not in said
    assert said.count("\n") == 1


def test_tasks_that_begin_at_once_wait_for_the_one_that_makes_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "LOOK", 0.01)
    said: list[str] = []

    def make(line: str) -> None:
        said.append(line)
        write_study(tmp_path, "late", rows(5))

    found = find(StudyFolder(tmp_path, "late"), None, wait=60, say=make)
    assert found.name == "late"
    assert done(StudyFolder(tmp_path, "late"), None) == sum(row.state in ("complete", "pruned") for row in rows(5))
    (line,) = said
    assert line == f"Waiting up to 60 s: no study 'late' (in {tmp_path})."
    with pytest.raises(StudyError, match="unknown study 'later'"):
        find(StudyFolder(tmp_path, "later"), None, wait=0.02, say=said.append)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "2", "--workers-per-gpu", "2"], "both say how many workers there are"),
        (["--workers", "0"], "--workers 0: it must be a whole number of at least 1"),
        (["--workers-per-gpu", "2", "--device", "cpu"], "it is for GPUs, and --device cpu takes none; give --workers"),
        (["--trials", "0"], "--trials 0"),
        (["--timeout", "0"], "--timeout 0.0: it must be seconds above 0"),
        (["--device", "tpu"], "unknown --device 'tpu'"),
        (["--memory-share", "2"], "--memory-share 2.0"),
        (["--wait", "-1"], "--wait"),
    ],
)
def test_a_value_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    write_study(tmp_path, "fake", rows(3), options={}, trials=9, space="tiny", space_toml=load_space("tiny").toml)
    assert main(["worker", "fake", "--studies-dir", str(tmp_path), *words]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_space_that_this_nas_reads_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, "fake", rows(3), options={}, trials=9, space="tiny", space_toml="colour = 1")
    assert main(["worker", "fake", "--studies-dir", str(tmp_path)]) == 1
    assert "the space of study fake: " in capsys.readouterr().err


def test_a_new_total_is_on_record(tmp_path: Path) -> None:
    folder = write_study(tmp_path, "fake", rows(3), trials=9)
    keep_total(folder, None, 12)
    assert record(tmp_path, "fake").settings["trials"] == 12


@pytest.mark.slow
def test_tasks_of_one_job_share_a_study_in_postgresql(server: str, tmp_path: Path) -> None:
    """As an array job starts them, each with a folder of its own."""
    first = ["search", "--space", "tiny", "--study", "job", "--trials", "12", "--workers", "1", *GIVEN[:8]]
    later = ["worker", "job", "--wait", "120"]
    tasks = [
        subprocess.Popen(
            [sys.executable, "-m", "nas", *words, "--storage", server, "--studies-dir", str(tmp_path / str(number))],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for number, words in enumerate([later, first, later])
    ]  # fmt: skip
    said = [task.communicate(timeout=240)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0, 0], said
    records = Records(server)
    found, kept = records.rows("job"), records.study("job").settings
    records.close()
    assert len(found) == len({row.key for row in found}) == 12
    assert set(kept["options"]) == set(KEPT)


def test_the_last_words_count_what_other_launchers_did() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, color_system=None)
    with Display(10, 4, 1, "accuracy", console) as display:
        display.happened(0, {"event": "ready", "words": "begun", "states": {"complete": 1}, "found": [[900, 0.5]]})
        # a trial that another machine set aside, taken up here
        display.happened(0, {"event": "trial", "trial": 3, "params": 1, "macs": 1, "resumed": True})
        end = {"event": "end", "trial": 3, "state": "complete", "cost": 800, "accuracy": 0.6, "seconds": 1.0}
        display.happened(0, {**end, "reason": None, "source": None})
        display.settled([Point(0, "complete", 900, 0.5), Point(3, "complete", 800, 0.6), Point(4, "pruned", 700, 0.1)])
        display.end("tiny", "here")
    said = out.getvalue()
    assert "[2/10 trials, 0 pruned, 0 failed, front 1" in said
    assert "Study tiny: 3/10 trials, 1 pruned, 0 failed, front 1 in" in said
