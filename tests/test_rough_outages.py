"""PostgreSQL that goes away under another command than a search; of a search see `test_rough_postgresql`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nas.baseline_rows import baselines
from nas.baselines.train import train
from nas.cli import main
from nas.outage import Patience, Waiting
from nas.records import Records
from nas.search import join, launch, options
from nas.search.options import SearchOptions
from tests import refining, test_baselines_train
from tests.rough import BACK, OUT, Said
from tests.searches import wait_for, workers_of
from tests.servers import PostgreSQL, postgresql


@pytest.fixture(scope="module")
def own() -> Iterator[PostgreSQL]:
    with postgresql() as started:
        yield started


@pytest.fixture
def started_again(own: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the server starts it."""
    monkeypatch.setattr(Patience, "_rest", lambda _: own.start())


def test_of_several_workers_that_wait_it_is_said_once() -> None:
    said: list[str] = []
    waiting = Waiting(said.append, "the search")
    for number, words in ((0, "out"), (1, "out"), (1, None), (2, "out")):
        waiting.heard(number, words)
    waiting.gone(2)
    assert said == ["out"]
    waiting.heard(0, None)
    waiting.heard(0, None)
    assert said == ["out", f"{BACK}; the search goes on"]


@pytest.mark.usefixtures("started_again")
def test_a_known_network_is_recorded_once_its_database_answers(
    own: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_baselines_train.small.__wrapped__(monkeypatch)  # type: ignore[attr-defined]
    refining.write(tmp_path, "beside", url=own.url)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("epoch 1 "):
            own.stop()

    beside: dict[str, Any] = {"study": "beside", "url": own.url, "dataset": None, "train_limit": None}
    _, row = train(test_baselines_train.options(tmp_path, **beside), say)
    assert [line[: len(OUT)] for line in said].count(OUT) == 1
    assert f"{BACK}; the training goes on" in said
    with closing(Records(own.url)) as records:
        assert baselines(records, records.study("beside").id) == [row]


@pytest.mark.usefixtures("started_again")
def test_a_worker_that_joins_waits_for_the_database_that_it_has_found(
    own: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refining.write(tmp_path, "joined", url=own.url)
    find = join.find

    def found(*given: Any, **rest: Any) -> Any:
        record = find(*given, **rest)
        own.stop()
        return record

    def as_kept(_: object, **here: Any) -> SearchOptions:
        return SearchOptions(space="tiny", study="joined", joins=True, **here)

    monkeypatch.setattr(join, "find", found)
    monkeypatch.setattr(options, "options_of", as_kept)
    monkeypatch.setattr(launch, "launch", lambda _: 0)
    words = ["worker", "joined", "--storage", own.url, "--studies-dir", str(tmp_path), "--trials", "5"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert OUT in said
    assert BACK in said
    with closing(Records(own.url)) as records:
        assert records.study("joined").settings["trials"] == 5


@pytest.mark.slow
def test_a_refinement_waits_for_its_database_and_goes_on(own: PostgreSQL, tmp_path: Path) -> None:
    folder = refining.write(tmp_path, "refined", url=own.url)
    words = ["refine", "refined", "--studies-dir", str(tmp_path), "--storage", own.url, "--top", "1", "--epochs", "3"]
    with subprocess.Popen(
        [sys.executable, "-m", "nas", *words, "--seeds", "2", "--workers", "2", "--device", "cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        said = Said(process)
        wait_for(lambda: len(workers_of(process)) == 2)  # the launcher has read what there is to do
        own.stop()
        wait_for(lambda: process.poll() is not None or said.count(OUT) == 1)
        own.start()
        assert said.end() == 0, said.lines
    assert (said.count(OUT), said.count(BACK)) == (1, 1)
    assert [one.replicate for one in refining.recorded(folder, own.url)] == [1, 2]
