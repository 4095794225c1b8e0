"""A study in PostgreSQL, on a server that the test starts from the system's own binaries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.cli import main
from nas.records import Records
from tests import refining


def test_two_commands_share_one_study(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "nas", "search", "--space", "tiny", "--epochs", "1", "--train-limit", "200"]
    command += ["--trials", "9", "--workers", "1", "--storage", server]
    # As on two machines: each with a folder of its own, one worker each.
    searches = [
        subprocess.Popen(
            [*command, "--studies-dir", str(tmp_path / name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "other")
    ]
    said = [process.communicate(timeout=240)[0] for process in searches]
    assert [process.returncode for process in searches] == [0, 0], said
    records = Records(server)
    rows = records.rows("tiny")
    records.close()
    assert len(rows) == len({row.key for row in rows}) == 9
    storage = optuna.storages.RDBStorage(server)
    trials = optuna.load_study(study_name="tiny", storage=storage).get_trials()
    storage.engine.dispose()
    assert len(trials) == 9
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    capsys.readouterr()
    assert main(["studies", "list", "--json", "--storage", server, "--studies-dir", str(tmp_path / "one")]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], sum(listed["trials"].values()), listed["problem"]) == ("tiny", 9, None)
    assert listed["changed"] == max(row.finished_at for row in rows).isoformat()


def test_networks_of_a_study_there_are_refined(server: str, tmp_path: Path) -> None:
    folder = refining.write(tmp_path, url=server)
    command = ["refine", "s", "--studies-dir", str(tmp_path), "--storage", server, "--top", "1", "--epochs", "1"]
    assert main([*command, "--seeds", "2", "--workers", "2", "--device", "cpu"]) == 0
    found = refining.recorded(folder, server)
    assert [one.replicate for one in found] == [1, 2]
    assert all(folder.refined(one.key, one.recipe_hash, one.replicate).is_file() for one in found)
