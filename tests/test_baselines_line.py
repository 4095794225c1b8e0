"""`nas baselines line` and `nas refine --with-line` as a user runs them, on a study whose space is a real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.baseline_rows import Baseline, baselines
from nas.cli import main
from nas.data import load_dataset
from nas.outcome import Outcome
from nas.records import Records, Row
from nas.refined import Refinement, refinements
from nas.seeds import training_seed
from nas.space import Space, load_space
from nas.study_folder import StudyFolder
from nas.study_space import study_space
from nas.training import TRAINING_VERSION, Training
from nas.width_line import line
from tests import refining
from tests.fake_study import STARTED, settings
from tests.searches import wait_for

SPACE = load_space("tiny").narrowed(epochs=2, batch=32)
LIMIT = 120
SEED = 3


def evaluations(space: Space, count: int = 3) -> list[Row]:
    """Complete trials of networks of the space, which were never trained; the dearer the better."""
    rng = np.random.default_rng(0)
    networks = [space.decode(rng.random(len(space.coordinates))) for _ in range(count)]
    networks.sort(key=lambda one: one.params)
    return [
        replace(row, key=one.key, architecture=one, params=one.params, macs=one.macs, cost=one.params)
        for row, one in zip(refining.networks([(1, 0.5 + k / 100) for k in range(count)]), networks, strict=True)
    ]


def write(
    studies: Path, of: Space = SPACE, rows: Sequence[Row] | None = None, *, toml: str | None = None, **identity: Any
) -> StudyFolder:
    folder = StudyFolder(studies, "s")
    folder.path.mkdir(parents=True)
    images = load_dataset("digits", input_shape=(1, 8, 8), train_limit=LIMIT)
    records = Records(folder.url)
    records.create()
    record = records.add_study(
        "s",
        {
            "space": of.identity(),
            "data": {"images": images.digest, "split": images.split_digest},
            "seed": SEED,
            "train_limit": LIMIT,
            "training_version": TRAINING_VERSION,
            **identity,
        },
        {
            **settings("s"),
            "space": "tiny",
            "space_toml": of.toml if toml is None else toml,
            "train_limit": LIMIT,
            "classes": list(images.classes),
            "validation_images": len(images.validation),
            "epochs": of.recipe.epochs,
            "cost_range": list(of.cost_range),
        },
    )
    for row in evaluations(of) if rows is None else rows:
        records.add(record.id, row)
    records.close()
    return folder


def words(folder: StudyFolder, *options: str) -> list[str]:
    place = ["--studies-dir", str(folder.studies_dir), "--device", "cpu"]
    return ["baselines", "line", folder.name, "--points", "3", "--workers", "1", *place, *options]


def recorded(folder: StudyFolder) -> list[Baseline]:
    records = Records(folder.url)
    found = baselines(records, records.study(folder.name).id)
    records.close()
    return found


def refined(folder: StudyFolder) -> list[Refinement]:
    records = Records(folder.url)
    found = refinements(records, records.study(folder.name).id)
    records.close()
    return found


def same(rows: Sequence[Baseline]) -> list[Baseline]:
    """Without what a clock or another installation decides."""
    return [replace(row, seconds=0, started_at=STARTED, finished_at=STARTED, versions=None) for row in rows]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study with a line of three networks."""
    folder = write(tmp_path_factory.mktemp("line"))
    assert main(words(folder, "--workers", "2")) == 0
    return folder


def test_its_networks_are_trained_as_trials_are(done: StudyFolder) -> None:
    rows, points = recorded(done), line(SPACE, 3)
    assert [(row.kind, row.recipe_name, row.replicate) for row in rows] == [("line", "study", 0)] * 3
    assert [(row.name, row.key) for row in rows] == [(point.name, point.architecture.key) for point in points]
    images = load_dataset("digits", input_shape=(1, 8, 8), train_limit=LIMIT)
    for row in rows:
        assert row.architecture is not None
        assert (row.params, row.macs) == (row.architecture.params, row.architecture.macs)
        assert row.seed == training_seed(SEED, row.key)
        assert row.recipe == SPACE.identity()["recipe"]
        assert (row.dataset, row.split) == (images.digest, images.split_digest)
    training = Training(points[0].architecture, images, SPACE.recipe, seed=rows[0].seed, device="cpu")
    curve = tuple((one.epoch, one.val_accuracy, one.train_loss) for one in training.fit())
    assert rows[0].curve == curve
    assert rows[0].val_accuracy == curve[-1][1]
    assert not list(done.path.glob("refining/*"))


def test_the_same_command_trains_nothing_twice(done: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = recorded(done)
    assert main(words(done)) == 0
    assert recorded(done) == before
    said = capsys.readouterr()
    assert "Nothing is left to do of 3 trainings." in said.err
    assert all(f"{row.params:,}" in said.out for row in before)
    assert main(words(done, "--json")) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["val_accuracy"] for entry in entries] == [row.val_accuracy for row in before]


def test_a_dry_run_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path)
    assert main(words(folder, "--dry-run")) == 0
    said = capsys.readouterr()
    assert said.err.startswith(
        "3 networks, GoogLeNet's proportions at one width each; once each, as a trial is, 2 epochs."
    )
    assert "3 trainings to do by 1 worker" in said.err
    assert sorted(path.name for path in folder.path.iterdir()) == ["study.db"]
    assert recorded(folder) == []


def test_a_trials_own_network_is_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = line(SPACE, 2)
    rows = evaluations(SPACE, 2)
    rows = [
        replace(row, key=point.architecture.key, architecture=point.architecture, val_accuracy=0.123 + row.trial / 2)
        for row, point in zip(rows, points, strict=True)
    ]
    folder = write(tmp_path, rows=rows)
    assert main([*words(folder), "--points", "2"]) == 0
    assert [row.val_accuracy for row in recorded(folder)] == [0.123, 0.623]
    assert "Nothing is left to do of 2 trainings." in capsys.readouterr().err


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_rows(done: StudyFolder, tmp_path: Path) -> None:
    folder = write(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "nas", *words(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(recorded(folder)) >= 1 or process.poll() is not None)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    first = recorded(folder)
    assert main(words(folder)) == 0
    assert same(recorded(folder)) == same(recorded(done))
    assert first[0] in recorded(folder)


def test_with_line_both_get_the_same_fresh_seeds(done: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--studies-dir", str(done.studies_dir), "--device", "cpu", "--workers", "1"]
    command = ["refine", "s", "--with-line", "--seeds", "2", "--epochs", "1", "--pick", "best", *place]
    assert main(command) == 0
    capsys.readouterr()
    rows, found = recorded(done), refined(done)
    # All of the front comes along with the one that was picked.
    each = [(-1, 1)] * 3 + [(-1, 2)] * 3 + [(trial, replicate) for trial in range(3) for replicate in (1, 2)]
    assert sorted((one.trial, one.replicate) for one in found) == each
    assert {one.key for one in found if one.trial == -1} == {row.key for row in rows}
    searched = {row.seed for row in rows} | {training_seed(SEED, row.key) for row in evaluations(SPACE)}
    assert {one.seed for one in found} == {training_seed(SEED, one.key, one.replicate) for one in found}
    assert not {one.seed for one in found} & searched
    assert all(done.refined(one.key, one.recipe_hash, one.replicate).is_file() for one in found)
    # What is not of a trial stays out of what commands say of trials.
    assert main(["refine", "s", "--show", "--json", "--studies-dir", str(done.studies_dir)]) == 0
    assert [one["trial"] for one in json.loads(capsys.readouterr().out)["networks"]] == [0, 1, 2]
    assert main(command) == 0
    assert "Nothing is left to do of 12 trainings." in capsys.readouterr().err
    assert refined(done) == found


def test_with_line_asks_for_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path)
    assert main(["refine", "s", "--with-line", "--studies-dir", str(tmp_path), "--workers", "1"]) == 1
    assert capsys.readouterr().err == (
        "nas: --with-line: the line is not trained yet; run `nas baselines line s` first\n"
    )
    assert refined(folder) == []


def test_the_space_comes_back_from_the_records(tmp_path: Path) -> None:
    for number, space in enumerate(
        (
            SPACE,
            load_space("tiny").narrowed(rule="off", cost="macs", max_params=3_000, epochs=5),
            load_space("tiny").narrowed(max_params=950),  # under which the file's own minimum gives way
            load_space("digits").narrowed(max_macs=60_000).with_classes(4),
        )
    ):
        folder = write(tmp_path / str(number), space)
        records = Records(folder.url)
        found = study_space(Outcome.read(records, "s"))
        records.close()
        assert found.identity() == space.identity()
        assert found.cost_range == space.cost_range


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--points", "0"], "--points 0: it must be a whole number of at least 1"),
        (["--workers", "0"], "--workers 0: it must be a whole number of at least 1"),
        (["--dataset", "folder:/nowhere"], "/nowhere"),
    ],
)
def test_bad_options_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    folder = write(tmp_path)
    assert main(words(folder, *options)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("nas: ")
    assert said in last
    assert recorded(folder) == []


def test_an_unknown_study_is_said_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert main(["baselines", "line", "ss", "--studies-dir", str(tmp_path)]) == 1
    assert "did you mean 's'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"toml": "nonsense ="}, "hold no whole search space"),
        ({"space": {"rule": "growing"}}, "hold no whole search space"),
        ({"toml": SPACE.toml.replace("step = 2", "step = 4")}, "read its space otherwise"),
        pytest.param({"training_version": TRAINING_VERSION + 1}, "version 2 of training", marks=pytest.mark.slow),
        ({"space": load_space("tiny").narrowed(min_params=1_020, max_params=1_100)}, "no network of GoogLeNet's"),
    ],
)
def test_a_study_that_cannot_have_a_line_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], said: str
) -> None:
    space = changed.pop("space") if isinstance(changed.get("space"), Space) else SPACE
    folder = write(tmp_path, space, **changed)
    assert main(words(folder)) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert recorded(folder) == []
