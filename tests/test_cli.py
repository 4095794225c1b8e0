"""The shell command: quick to answer, data on stdout, words on stderr, one line for a mistake."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from nas.architecture import Architecture, MaxPool
from nas.cli import app, main
from nas.cli.options import command_of
from nas.errors import TrialFailed
from nas.outcome import Outcome
from nas.records import Records, version_table
from nas.study_folder import StudyFolder
from tests.fake_study import HOSTILE, rows, write_study

HEAVY = {"torch", "optuna", "plotly", "sqlalchemy", "sklearn", "numpy", "onnx", "pydantic_settings", "waitress"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return write_study(tmp_path_factory.mktemp("studies"), "fake", rows(40))


@pytest.fixture
def place(folder: StudyFolder) -> list[str]:
    return ["--studies-dir", str(folder.studies_dir)]


def loaded_by(code: str) -> set[str]:
    """Top names of all modules that a fresh Python holds after `code`."""
    show = "import sys; print('\\n'.join({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_loads_nothing_heavy() -> None:
    files = Path(__file__).parents[1] / "nas" / "cli"
    modules = ", ".join(f"nas.cli.{path.stem}" for path in files.glob("*.py") if path.stem != "__init__")
    assert modules.count(",") >= 7
    loaded = loaded_by(f"import nas.cli, {modules}\nassert nas.cli.main(['--help']) == 0")
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_the_front_is_printed_without_optuna_and_torch(folder: StudyFolder, place: list[str]) -> None:
    loaded = loaded_by(f"from nas.cli import main\nassert main(['front', 'fake', *{place}]) == 0")
    assert "sqlalchemy" in loaded
    assert loaded & {"torch", "optuna", "plotly", "sklearn"} == set()


@pytest.mark.parametrize(
    "command",
    [
        "search",
        "worker",
        "status",
        "front",
        "show",
        "refine",
        "redundancy",
        "test",
        "report",
        "export",
        "predict",
        "bench-model",
        "dashboard",
        "baselines",
        "rule",
        "spaces",
        "records",
        "studies",
        "replay",
        "doctor",
    ],
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr()
    assert command in said.out
    assert said.err == ""


def test_no_command_is_help_and_version_is_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Search for the front" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "0.1.0\n"


def test_front_prints_a_table_and_says_the_rest(
    folder: StudyFolder, place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = Outcome.read(Records(folder.url), "fake")
    assert main(["front", "fake", "--no-plot", *place]) == 0
    said = capsys.readouterr()
    assert said.err == found.headline + "\n"
    lines = said.out.splitlines()
    assert lines[0].split() == ["trial", "params", "MACs", "val", "accuracy", "seconds"]
    assert [int(line.split()[0]) for line in lines[2:]] == [row.trial for row in found.front]
    assert found.knee is not None
    assert found.best is not None
    marked = {line.split()[-1]: int(line.split()[0]) for line in lines[2:] if len(line.split()) == 6}
    assert marked == {"knee": found.knee.trial, "best": found.best.trial}


def test_front_as_json(folder: StudyFolder, place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = Outcome.read(Records(folder.url), "fake")
    assert main(["front", "fake", "--json", *place]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    entries = json.loads(said.out)
    first = found.front[0]
    assert len(entries) == len(found.front)
    assert entries[0] == {
        "trial": first.trial, "key": first.key, "params": first.params, "macs": first.macs, "cost": first.cost,
        "val_accuracy": first.val_accuracy, "seconds": first.seconds, "metric": "accuracy",
        "epochs": len(first.curve), "marks": [],
    }  # fmt: skip
    assert [entry["trial"] for entry in entries if "best" in entry["marks"]] == [entries[-1]["trial"]]


def test_front_of_a_study_without_a_complete_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, "new", [])
    assert main(["front", "new", "--studies-dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "No trial is complete yet" in said.err
    assert main(["front", "new", "--json", "--studies-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_show_prints_one_trial(folder: StudyFolder, place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = Outcome.read(Records(folder.url), "fake")
    pruned = next(row for row in found.rows if row.state == "pruned")
    assert main(["show", "fake", "--trial", str(pruned.trial), *place]) == 0
    text = capsys.readouterr().out
    rung = pruned.curve[-1][0]
    assert text.startswith(
        f"Trial {pruned.trial}: pruned, validation accuracy {pruned.val_accuracy:.4f} at epoch {rung}"
    )
    assert f"Reason: {pruned.reason}\n" in text
    assert f"Stopped: deficit 0.0512, dominated_by 3, margin 0.0213, rung {rung}" in text
    assert "Rule growing: holds." in text
    assert "nas export" not in text
    failed = next(row for row in found.rows if row.state == "failed")
    assert main(["show", "fake", "--trial", str(failed.trial), *place]) == 0
    assert f"Reason: the loss is not finite {HOSTILE}" in capsys.readouterr().out
    assert main(["show", "fake", "--trial", str(found.front[0].trial), *place]) == 0
    assert f"nas export fake --pick trial:{found.front[0].trial}" in capsys.readouterr().out


def test_show_names_the_least_accurate_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = tuple(
        tuple((9 - label if label == given else 0) + (given == 0) for given in range(10)) for label in range(10)
    )
    first, *_ = rows(1)
    write_study(tmp_path, "by-class", [replace(first, confusion=matrix)])
    command = ["show", "by-class", "--trial", str(first.trial), "--studies-dir", str(tmp_path)]
    assert main(command) == 0
    assert "Least accurate classes: 9 0.0000 (0 of 1), 8 0.5000 (1 of 2), 7 0.6667" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["confusion"] == [list(line) for line in matrix]


def test_show_says_auxiliary_heads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, *_ = rows(1)
    larger = replace(plain.architecture, input_shape=(1, 16, 16), auxiliary=(0, 1), stage_pools=(MaxPool(1, 1),))
    write_study(tmp_path, "heads", [replace(plain, architecture=larger, key=larger.key)])
    assert main(["show", "heads", "--trial", str(plain.trial), "--studies-dir", str(tmp_path)]) == 0
    said = f"{larger.training_params:,} parameters in training, with auxiliary heads on modules 1, 2\n"
    assert said in capsys.readouterr().out


def test_show_as_json_gives_the_network_back(
    folder: StudyFolder, place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = Outcome.read(Records(folder.url), "fake")
    for row in found.rows:
        assert main(["show", "fake", "--trial", str(row.trial), "--json", *place]) == 0
        entry = json.loads(capsys.readouterr().out)
        assert Architecture.from_json(entry["architecture"]) == row.architecture
        assert [(p["epoch"], p["val_accuracy"], p["train_loss"]) for p in entry["curve"]] == list(row.curve)
        assert entry["rule"] == {"name": "growing", "holds": True, "first_fall": None}
        assert (entry["state"], entry["reason"], entry["stopped"]) == (row.state, row.reason, row.stopped)
        assert entry["on_front"] == (row in found.front)
        assert entry["started_at"] == row.started_at.isoformat()


def test_report_writes_into_the_studys_folder(
    folder: StudyFolder, place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "fake", *place]) == 0
    assert capsys.readouterr().out == f"{folder.report}\n"
    assert folder.report.is_file()
    # the page's commands work where the studies are not in the default folder
    assert f"--studies-dir {folder.studies_dir}" in folder.report.read_text()


def test_a_study_is_found_by_its_storage(
    folder: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", "fake", "--storage", folder.url, "--studies-dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["front", "other", "--storage", folder.url]) == 1
    assert "no study 'other' in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["front"], ["show", "--trial", "1"], ["report"], ["export", "--pick", "best"], ["dashboard"]]
)
def test_a_newer_layout_is_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = Records(write_study(tmp_path, "fake", []).url)
    with records.writing() as connection:
        connection.execute(version_table.update().values(number=99))
    assert main([words[0], "fake", *words[1:], "--studies-dir", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "has records of layout 99" in err
    assert len(err.splitlines()) == 1


def test_the_dashboard_knows_its_study(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "nosuch", "--port", "0", "--storage", folder.url]) == 1
    assert "no study 'nosuch' in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frnt"], "No such command 'frnt'. Did you mean 'front'?"),
        (["front"], "Missing argument"),
        (["front", "fake", "--jsn"], "No such option: --jsn"),
        (["front", "fkae"], "unknown study 'fkae': did you mean 'fake'?"),
        (["front", "../fake"], "study name '../fake': allowed are"),
        (["front", "fake", "--storage", "nonsense"], "--storage is not a database URL"),
        (
            ["front", "fake", "--storage", "sqlite:///missing/study.db"],
            "--storage: there is no file 'missing/study.db'",
        ),
        (["show", "fake", "--trial", "x"], "Invalid value for '--trial'"),
        (["show", "fake", "--trial", "99"], "study 'fake' has no finished trial 99; finished are 0 to 39"),
        (["export", "fake", "--pick", "bst"], "unknown pick 'bst': did you mean 'best'?"),
        (["export", "fake", "--pick", "best"], "keeps those of its front only"),
        (["search", "--trials", "x"], "Invalid value for '--trials'"),
        (["search", "--trials", "1", "--trials", "abc"], "--trials 'abc': Invalid value for '--trials'"),
        (["search", "--trials=1", "--seed", "2", "--trials=abc"], "--trials 'abc': Invalid value for '--trials'"),
        (["search", "--trials=1", "--trials", "abc"], "--trials 'abc': Invalid value for '--trials'"),
        (["search", "--trials", "1", "--trials=abc"], "--trials 'abc': Invalid value for '--trials'"),
        (["spaces", "sample", "digits", "--max-params", "2x"], "Invalid value for '--max-params': '2x' is not a count"),
        (["search", "--trials", "0"], "--trials 0"),
        (["search", "--max-params", "2x"], "Invalid value for '--max-params': '2x' is not a count"),
        (["search", "--metric", "balanced"], "unknown --metric 'balanced': did you mean 'balanced-accuracy'?"),
        (["search", "--sampler", "tpee"], "unknown --sampler 'tpee': did you mean 'tpe'?"),
        (["search", "--space", "digitz"], "did you mean 'digits'?"),
        (["dashboard", "fake", "--port", "99999"], "Invalid value for '--port'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    words: list[str], said: str, place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    where = [] if words[0] in ("frnt", "search", "spaces") or words == ["front"] else place
    assert main([*words, *where]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nas: ")
    assert len(err.splitlines()) == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []  # and nothing was made


def test_a_damaged_database_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.db").write_bytes(b"no database" * 99)
    for command in (["front", "broken"], ["show", "broken", "--trial", "1"], ["report", "broken"]):
        assert main([*command, "--studies-dir", str(tmp_path)]) == 1
        err = capsys.readouterr().err
        assert "is damaged" in err
        assert len(err.splitlines()) == 1


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[str]:
    """A command that ends in `error`."""

    def fails(*args: object) -> None:
        raise error

    options = importlib.import_module("nas.cli.options")
    monkeypatch.setattr(options, "database_url", fails)
    return ["front", "fake"]


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(raising(monkeypatch, KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""


def test_what_the_machine_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(raising(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "studies/x"))) == 1
    assert capsys.readouterr().err == "nas: cannot use 'studies/x': the disk is full\n"
    assert main(raising(monkeypatch, OSError(errno.EROFS, "Read-only file system"))) == 1
    assert capsys.readouterr().err == "nas: cannot use 'the disk': the file system is read-only\n"


def test_a_message_of_many_lines_is_made_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(raising(monkeypatch, TrialFailed("first\nsecond"))) == 1
    assert capsys.readouterr().err == "nas: first second\n"


@pytest.mark.parametrize("error", [ValueError("ours"), OSError(errno.ENOENT, "ours"), ZeroDivisionError("ours")])
def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(type(error), match="ours"):
        main(raising(monkeypatch, error))


@pytest.mark.parametrize("words", [["front", "fake", "--json"], ["report", "fake"]], ids=["much", "a line"])
def test_a_reader_that_leaves_early_is_no_error(folder: StudyFolder, place: list[str], words: list[str]) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)  # as after `| head`, before the first line
    command = [sys.executable, "-m", "nas", *words, *place]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=buffered, check=False)
    finally:
        os.close(writing)
    assert "BrokenPipe" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1  # the words of the command itself
    assert done.returncode == 1


def test_search_hands_all_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = importlib.import_module("nas.search.launch")
    seen = []
    monkeypatch.setattr(launch, "launch", lambda options, ray: seen.append(options) or 130)
    words = "search --space tiny --dataset folder:x --trials 7 --timeout 2.5 --study s --studies-dir d --storage sqlite:///f"
    words += (
        " --sampler random --pruner none --epochs 3 --batch 16 --rule off --cost macs --min-params 1k --max-params 200k"
    )
    words += " --min-macs 1_000 --max-macs 1.5M --workers 2 --device cpu --seed 5 --split-seed 6"
    words += " --train-limit 50 --skip-broken --metric balanced-accuracy --no-cache --dry-run --memory-share 0.5"
    words += " --warm-start"
    assert main(words.split()) == 130  # there is no study, so no front
    (options,) = seen
    assert {name: getattr(options, name) for name in options.__dataclass_fields__} == {
        "space_toml": None, "joins": False, "workers_per_gpu": None, "files": None,
        "space": "tiny", "dataset": "folder:x", "trials": 7, "timeout": 2.5, "study": "s", "studies_dir": "d",
        "storage": "sqlite:///f", "sampler": "random", "pruner": "none", "epochs": 3, "batch": 16, "rule": "off",
        "cost": "macs", "min_params": 1000, "max_params": 200_000, "min_macs": 1000, "max_macs": 1_500_000,
        "workers": 2, "device": "cpu", "seed": 5, "split_seed": 6, "train_limit": 50, "skip_broken": True,
        "no_cache": True, "metric": "balanced-accuracy", "dry_run": True, "memory_share": 0.5,
        "warm_start": True,
        "command": "nas " + words,
    }  # fmt: skip


def test_search_says_nothing_where_nothing_is_said() -> None:
    from nas.search.machine import usual_workers
    from nas.search.options import SearchOptions

    defaults = {f: SearchOptions.__dataclass_fields__[f].default for f in SearchOptions.__dataclass_fields__}
    launch = importlib.import_module("nas.search.launch")
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr(launch, "launch", lambda options, ray: seen.append(options) or 0)
        patch.setattr(importlib.import_module("nas.cli.search"), "front", lambda study, **_: seen.append(study))
        assert main(["search"]) == 0
    assert {f: getattr(seen[0], f) for f in defaults} == {
        **defaults,
        "command": "nas search",
        "workers": usual_workers((1, 8, 8), "auto"),
    }
    assert seen[1:] == ["digits"]  # whose front is printed last


@pytest.mark.parametrize("form", [["--storage", "{}"], ["--storage={}"]])
def test_a_recorded_command_has_no_password_and_is_else_what_was_given(form: list[str]) -> None:
    url = "postgresql+psycopg://me:secret@host/db"
    words = [word.format(url) for word in form]
    said = command_of(typer.Context(typer.main.get_command(app), obj=["search", *words, "--study", "a b"]), url)
    assert said == shlex.join(["nas", "search", *(word.replace("secret", "***") for word in words), "--study", "a b"])
    assert command_of(typer.Context(typer.main.get_command(app), obj=["front", "x"]), None) == "nas front x"
