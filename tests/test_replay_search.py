"""With one worker and one seed a replay is the real search: the same networks in the same order, stopped alike."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from nas.data import load_dataset
from nas.evaluation import evaluate
from nas.record_file import RecordFile, write
from nas.records import Records, Row
from nas.search.contest import Contest, Setting, searched
from nas.search.options import SearchOptions
from nas.search.setup import identity_of, settings_of
from nas.seeds import training_seed
from nas.study_folder import StudyFolder
from nas.training import pick_device
from tests.recorded import networks, row, space

IMAGES, SEED, TRIALS = 100, 2, 16


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grid of the space, every network of it really trained."""
    folder = tmp_path_factory.mktemp("recorded")
    of = space(folder, epochs=3)
    data = load_dataset("digits", input_shape=of.input_shape, train_limit=IMAGES)
    rows = []
    for trial, (point, network) in enumerate(networks(of)):
        seed = training_seed(SEED, network.key)
        found = evaluate(network, data, of.recipe, seed=seed, device="cpu")
        curve = tuple((reading.epoch, reading.val_accuracy, reading.train_loss) for reading in found.curve)
        changes = {"curve": curve, "val_accuracy": curve[-1][1], "seconds": found.seconds}
        rows.append((SEED, row(of, trial, point, network, SEED, **changes)))
    options = SearchOptions(space=str(folder / "small.toml"), train_limit=IMAGES, seed=SEED, pruner="none")
    settings = settings_of(options, of, data, pick_device("cpu"))
    write(folder / "small.csv.gz", RecordFile("small", identity_of(options, of, data), settings, tuple(rows)))
    return folder / "small.csv.gz"


def search(folder: Path, *options: str) -> StudyFolder:
    """`nas search` in a process of its own, by one worker."""
    words = ["search", "--space", str(folder / "small.toml"), "--train-limit", str(IMAGES), "--seed", str(SEED)]
    words += ["--workers", "1", "--device", "cpu", "--study", "s", "--studies-dir", str(folder / "-".join(options))]
    done = subprocess.run(
        [sys.executable, "-m", "nas", *words, *options], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return StudyFolder(folder / "-".join(options), "s")


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        ("random", "conformal"),
        ("cost-aware", "conformal"),
        pytest.param("cost-aware", "none", marks=pytest.mark.slow),
        ("tpe", "none"),
        pytest.param("tpe", "conformal", marks=pytest.mark.slow),
        pytest.param("random", "none", marks=pytest.mark.slow),
        pytest.param("nsga2", "rank-median", marks=pytest.mark.slow),
    ],
)
def test_a_search_proposes_and_records_what_its_replay_does(recorded: Path, sampler: str, pruner: str) -> None:
    folder = search(recorded.parent, "--sampler", sampler, "--pruner", pruner, "--trials", str(TRIALS))
    with closing(Records(folder.url)) as records:
        real = sorted(records.rows("s"), key=lambda row: row.trial)
    moments = searched(Contest(recorded, trials=TRIALS, workers=1), Setting(sampler, pruner), SEED)
    last = {moment.row.trial: moment.row for moment in moments}
    replayed = [last[trial] for trial in sorted(last)]
    assert len(real) == TRIALS
    assert [row.key for row in replayed] == [row.key for row in real]
    same = ("trial", "coordinates", "state", "reason", "curve", "val_accuracy", "cost", "seed", "stopped")
    for mine, theirs in zip(replayed, real, strict=True):
        assert {name: getattr(mine, name) for name in same} == {name: getattr(theirs, name) for name in same}
    if pruner == "conformal":  # or the rule would not have been tried
        assert any(moment.row.state == "paused" for moment in moments)
    assert ended(replayed) == ended(real)


def ended(rows: list[Row]) -> list[int]:
    """Trials in the order in which they ended."""
    return [row.trial for row in sorted(rows, key=lambda row: row.finished_at)]
