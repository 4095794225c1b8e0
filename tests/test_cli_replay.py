"""`nas replay` as a user runs it: tables and JSON on stdout, words on stderr, one line for a mistake."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import pytest

from nas.cli import main
from nas.record_file import write
from nas.report.replays import replay_figure
from nas.search.contest import REPLAY_PRUNERS, Contest, Setting, play
from nas.search.lines import like_googlenet
from nas.search.score import Point
from tests.recorded import record_file, rows, space, table_file

FEW = ["--trials", "8", "--seeds", "3", "--jobs", "1"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table_file(tmp_path_factory.mktemp("table"))


def test_two_tables_and_what_they_mean(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(path), "--sampler", "random,nsga2", "--pruner", "none, conformal", *FEW]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("random", "nsga2"))] == [
        ["random", "none"],
        ["random", "conformal"],
        ["nsga2", "none"],
        ["nsga2", "conformal"],
    ] * 2
    assert max(map(len, lines)) <= 120
    assert "…" not in said.out
    for column in ("epochs", "front kept", "front found", "false prunes", "hypervolume", "to 95 %", "to 99 %"):
        assert column in said.out
    assert "small: 18 networks" in said.err
    assert "3 searches a setting, 8 trials, 4 workers" in said.err


@pytest.mark.parametrize("pruner", REPLAY_PRUNERS)
def test_every_pruner_is_replayed(path: Path, pruner: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(path), "--pruner", pruner, *FEW, "--workers", "2"]) == 0
    assert f"random    {pruner} " in capsys.readouterr().out


def test_json_is_everything(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(path), "--pruner", "none,conformal-stop", "--rule", "growing", *FEW, "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    data = json.loads(said.out)
    assert {name: data[name] for name in ("table", "rule", "networks", "trials", "workers", "seeds")} == {
        "table": str(path),
        "rule": "growing",
        "networks": 12,
        "trials": 8,
        "workers": 4,
        "seeds": 3,
    }
    assert 0 < data["hypervolume"] < 1
    assert [(setting["sampler"], setting["pruner"]) for setting in data["settings"]] == [
        ("random", "none"),
        ("random", "conformal-stop"),
    ]
    for setting in data["settings"]:
        assert set(setting) == {
            *("sampler", "pruner", "epochs", "recall", "found", "hypervolume", "ratio"),
            *("false_prunes", "reached", "p", "runs"),
        }
        assert set(setting["reached"]["0.95"]) == {"searches", "trials", "epochs", "seconds"}
        assert len(setting["runs"]) == 3
        run = setting["runs"][0]
        assert (run["trials"], len(run["history"])) == (8, 8)
        assert run["history"][-1][:2] == [8, run["epochs"]]
        assert run["history"][-1][3] == run["hypervolume"]
        assert set(run["reached"]) == set(setting["reached"])


def test_the_page_has_all_curves_and_loads_nothing(path: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "replay.html"
    assert main(["replay", str(path), "--pruner", "none,conformal", *FEW, "--plot", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "<script src=" not in text
    assert "random conformal" in text
    assert [file.name for file in page.parent.iterdir()] == ["replay.html"]


def test_the_curves_are_medians_and_attained_fronts(path: Path) -> None:
    contest, settings = Contest(path, trials=8, seeds=3, workers=2), [Setting("random", "none")]
    scores, table = play(contest, settings, jobs=1), contest.check(settings)
    figure = replay_figure(contest, table, scores)
    whole = table.hypervolume(list(table.keys))
    lines = [trace for trace in figure.data if trace.name == "random none"]
    assert len(lines) == 3
    ends = sorted(run.hypervolume / whole for run in scores[settings[0]])
    for line in lines:
        assert line.y[-1] == pytest.approx(ends[1])
        assert line.y[0] == 0
        assert list(line.y) == sorted(line.y)
    best = max(accuracy for run in scores[settings[0]] for _, accuracy in run.points)
    attained = {trace.name: trace for trace in figure.data if trace.name and trace.name.endswith("%")}
    assert set(attained) == {"random none 25 %", "random none 50 %", "random none 75 %"}
    assert max(attained["random none 25 %"].y) == pytest.approx(best)  # by one of three searches
    for trace in attained.values():
        assert list(trace.x) == sorted(trace.x)
        assert list(trace.y) == sorted(trace.y)
        assert trace.x[-1] == max(table.costs.values())
    # what all three have, none of them is without
    cost, accuracy = attained["random none 75 %"].x[0], attained["random none 75 %"].y[0]
    for run in scores[settings[0]]:
        assert any(c <= cost and a >= accuracy for c, a in run.points)
    front = next(trace for trace in figure.data if trace.name == "true front of the table")
    assert list(front.x) == [table.costs[key] for key in table.front(list(table.keys))]


def test_what_needs_no_search_stands_beside_them(path: Path, tmp_path: Path) -> None:
    contest, settings = Contest(path, trials=8, seeds=2), [Setting("random", "none")]
    scores, table = play(contest, settings, jobs=1), contest.check(settings)
    figure = replay_figure(contest, table, scores)
    *flat, attained = [trace for trace in figure.data if trace.name == "one width multiplier (2 trainings)"]
    line = list(like_googlenet(table))
    part = table.hypervolume(line) / table.hypervolume(list(table.keys))
    assert len(flat) == 3
    searched = [trace for trace in figure.data if trace.name == "random none"]
    for mine, search in zip(flat, searched, strict=True):
        assert list(mine.y) == [pytest.approx(part)] * 2
        assert (mine.xaxis, list(mine.x)) == (search.xaxis, [0, search.x[-1]])
    assert list(attained.x) == [*(table.costs[key] for key in table.front(line)), max(table.costs.values())]
    assert [trace.showlegend for trace in (*flat, attained)] == [True, False, False, False]
    good = [replace(run, history=(Point(1, 4, 1.0, 1.0), Point(90, 360, 90.0, 1.0))) for run in scores[settings[0]]]
    assert replay_figure(contest, table, {settings[0]: good}).layout.yaxis.range[0] < part  # it is never cut off
    other = Contest(table_file(tmp_path, count=20), trials=8, seeds=2)
    figure = replay_figure(other, other.check(settings), play(other, settings, jobs=1))
    assert not any("multiplier" in (trace.name or "") for trace in figure.data)


def test_a_page_of_searches_that_completed_nothing(path: Path) -> None:
    contest, settings = Contest(path, trials=8, seeds=2), [Setting("random", "none")]
    scores = {
        setting: [
            replace(run, points=(), history=tuple(replace(point, hypervolume=0.0) for point in run.history))
            for run in runs
        ]
        for setting, runs in play(contest, settings, jobs=1).items()
    }
    assert isinstance(replay_figure(contest, contest.check(settings), scores), go.Figure)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sampler", "rnd"], "unknown --sampler 'rnd'"),
        (["--pruner", "conformel"], "unknown --pruner 'conformel': did you mean 'conformal'"),
        (["--pruner", "none,hyperband"], "unknown --pruner 'hyperband'"),
        (["--rule", "shrinking"], "unknown --rule 'shrinking'"),
        (["--trials", "19"], "--trials 19: small has 18 networks; take at most so many"),
        (["--trials", "13", "--rule", "growing"], "--trials 13: small has 12 networks that keep the rule growing"),
        (["--trials", "0"], "--trials 0: it must be a whole number of at least 1"),
        (["--seeds", "0"], "--seeds 0: it must be a whole number of at least 1"),
        (["--workers", "0"], "--workers 0: it must be a whole number of at least 1"),
        (["--jobs", "0"], "--jobs 0: it must be a whole number of at least 1"),
        (["--plot", "/proc/no/replay.html"], "cannot use '/proc/no/replay.html'"),
        (["--plot", "FOLDER"], "it is a folder"),
        (["--plot", "FOLDER/small.csv.gz/replay.html"], "a part of the path is a file"),
    ],
)
def test_a_mistake_is_one_line(
    path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it is said before anything is replayed")

    monkeypatch.setattr("nas.search.contest.one", never)
    options = [option.replace("FOLDER", str(path.parent)) for option in options]
    assert main(["replay", str(path), *FEW, *options]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert words in said.err


def test_a_file_that_is_no_table_is_one_line(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = path.read_bytes()
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.csv.gz").write_text("hello")
    of = space(tmp_path)
    (seed, first), *others = rows(of, (0,))
    stopped = replace(first, state="pruned", reason="behind", curve=first.curve[:1], val_accuracy=first.curve[0][1])
    write(tmp_path / "pruned.csv.gz", record_file(of, [(seed, stopped), *others]))
    for name, words in (
        ("missing.csv.gz", "there is no file"),
        ("cut.csv.gz", "is not a whole gzip file"),
        ("text.csv.gz", "is not a whole gzip file"),
        ("pruned.csv.gz", "1 pruned trials: a replay needs the whole curve of every network"),
        ("", "it is a folder"),
    ):
        assert main(["replay", str(tmp_path / name), *FEW]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert words in said.err


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random,tpe"])
def test_without_a_grid_only_random_is_replayed(
    tmp_path: Path, sampler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = table_file(tmp_path, count=20)
    assert main(["replay", str(table), "--sampler", sampler, *FEW]) == 1
    said = capsys.readouterr()
    assert "small is no whole grid (its space has no levels for size, m1.share, m2.share)" in said.err
    assert said.err.count("\n") == 1
    assert main(["replay", str(table), *FEW]) == 0
