"""`nas search --warm-start`: the networks nearest to known ones go in first, each once, whoever trains them."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution

from nas.cli import main
from nas.outcome import Outcome
from nas.projection import warm_starts
from nas.records import Records
from nas.search.samplers import SAMPLERS, DistinctSampler
from nas.search.setup import warm_words
from nas.space import load_space
from nas.study_folder import StudyFolder
from tests.searches import check, rows, search, trials

QUICK = ("--epochs", "1", "--train-limit", "100", "--pruner", "none", "--sampler", "random")
SPACE = load_space("tiny")
FIRST = {one.member.architecture.key: one.names for one in warm_starts(SPACE)[0]}
COORDINATES = {name: FloatDistribution(0, 1) for name in ("a", "b")}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of two workers, and its resume by one."""
    folder = tmp_path_factory.mktemp("warm")
    said = search(folder, *QUICK, "--warm-start", "--workers", "2", "--trials", "6")
    assert "Warm start: the networks of this space nearest to inception-naive-module (3,170 params)" in said
    assert [row.key for row in rows(folder)][:5] == [row.key for row in rows(folder) if row.key in FIRST]
    search(folder, *QUICK, "--warm-start", "--workers", "1", "--trials", "8")
    return folder


def test_they_are_the_first_trials_and_each_comes_once(studies: Path) -> None:
    assert len(FIRST) == 5
    found = check(studies, 8)  # no network twice, exactly 8
    assert {row.key for row in found if row.trial < 5} == set(FIRST)
    for row in found[:5]:
        assert row.coordinates is not None
        assert SPACE.decode([row.coordinates[name] for name in SPACE.coordinates]) == row.architecture
    named = {t.user_attrs["key"]: t.user_attrs.get("nearest_to") for t in trials(studies)}
    assert named == {row.key: list(FIRST[row.key]) if row.key in FIRST else None for row in found}


def test_report_and_show_name_them(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = Records(StudyFolder(studies, "tiny").url)
    outcome = Outcome.read(records, "tiny")
    records.close()
    place = ["--studies-dir", str(studies)]
    assert main(["report", "tiny", *place]) == 0
    text = StudyFolder(studies, "tiny").report.read_text()
    for row in outcome.rows:
        assert outcome.nearest_to(row) == FIRST.get(row.key, ())
        capsys.readouterr()
        assert main(["show", "tiny", "--trial", str(row.trial), *place]) == 0
        said = capsys.readouterr().out
        if row.key in FIRST:
            assert f"Warm start: the network of the space nearest to {FIRST[row.key][0]}" in said
            assert f"trial {row.trial} to {FIRST[row.key][0]} ({row.cost:,} params, complete)" in text
        else:
            assert "Warm start" not in said
    assert main(["show", "tiny", "--trial", str(outcome.rows[-1].trial), "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out)["warm_start"] == []


@pytest.mark.slow
def test_a_study_may_be_given_them_later(tmp_path: Path) -> None:
    search(tmp_path, *QUICK, "--workers", "1", "--trials", "2")
    search(tmp_path, *QUICK, "--workers", "1", "--trials", "4", "--warm-start")
    found = check(tmp_path, 4)
    assert [row.key in FIRST for row in found] == [False, False, True, True]
    assert [row.key for row in found[2:]] == list(FIRST)[:2]


@pytest.mark.slow
def test_a_dry_run_names_them_and_makes_nothing(tmp_path: Path) -> None:
    assert "Warm start: the networks of this space" in search(tmp_path, *QUICK, "--warm-start", "--dry-run")
    assert not (tmp_path / "tiny").exists()


def proposals(name: str, taken: set[float], count: int) -> list[dict[str, float]]:
    """What trials get where three networks are to be first, of which some are `taken`."""

    def claim(trial: int, params: dict[str, float]) -> bool:
        free = params["a"] not in taken
        taken.add(params["a"])
        return free

    first = [{"a": 0.25, "b": 0.5}, {"a": 0.5, "b": 0.25}, {"a": 0.75, "b": 0.0}]
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=DistinctSampler(SAMPLERS[name](0), COORDINATES, claim, seed=0, first=first),
    )
    for _ in range(count):
        trial = study.ask()
        a, b = (trial.suggest_float(name, 0, 1) for name in COORDINATES)
        study.tell(trial, [a, b])
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_goes_on_after_them(name: str) -> None:
    found = proposals(name, set(), 6)
    assert [params["a"] for params in found[:3]] == [0.25, 0.5, 0.75]
    assert len({params["a"] for params in found}) == 6


def test_what_another_worker_has_is_left_out() -> None:
    found = proposals("random", {0.25, 0.75}, 2)
    assert found[0] == {"a": 0.5, "b": 0.25}
    assert found[1]["a"] not in (0.25, 0.5, 0.75)


def test_nsga2_counts_them_in_its_first_generation() -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=DistinctSampler(SAMPLERS["nsga2"](0), COORDINATES, lambda *_: True, first=[{"a": 0.5, "b": 0.5}]),
    )
    trial = study.ask()
    assert trial.suggest_float("a", 0, 1) == 0.5
    assert any("generation" in name for name in study.trials[0].system_attrs)


def test_where_no_reference_fits_it_is_said() -> None:
    assert warm_words(SPACE, []) == "Warm start: no network of this budget has the shape of a reference."


def test_references_that_no_network_is_near_are_named() -> None:
    found = warm_starts(SPACE)[0]
    names = [name for one in found for name in one.names]
    said = warm_words(SPACE, found[:1])
    for name in names:
        assert (name in found[0].names) == (name not in said.partition("No network of this budget")[2])
    assert "No network" not in warm_words(SPACE, found)
