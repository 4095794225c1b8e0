"""Rough treatment of a search, in the short form that tests run and the long one of ``scripts/soak``.

Each function does it and checks, all the time and at the end, that nothing was lost; what it returns says how often.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from optuna.trial import TrialState

from nas.errors import StudyError
from nas.records import Records, Row
from nas.search.claims import Claims
from nas.search.liveness import workers
from nas.study_folder import StudyFolder
from tests.searches import check, ended, paused, rows, running, trials, wait_for, workers_of
from tests.servers import CONNECTIONS, PostgreSQL

BRIEF = ("--epochs", "2", "--train-limit", "200")
ENDLESS = ("--trials", "100000")
OPEN = sa.text(
    "SELECT number FROM trials JOIN studies ON studies.study_id = trials.study_id "
    "WHERE studies.study_name = 'tiny' AND trials.state = 'RUNNING'"
)
DONE = "SELECT count(*) FROM nas_evaluation WHERE state IN ('complete', 'pruned')"
AT_WORK = "SELECT count(DISTINCT worker) FROM nas_evaluation WHERE state IN ('complete', 'pruned')"
KEPT = 2
"""Connections that a worker keeps open."""
REPLACED = "another takes its place"
OUT, BACK = "the database is out of reach", "the database answers again"


@dataclass
class Said:
    """The words of a search, read while it runs."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with suppress(ValueError):  # closed under its hands
            for line in self.process.stderr:
                self.lines.append(line)

    def count(self, words: str) -> int:
        return sum(words in line for line in list(self.lines))

    def end(self, within: float = 300) -> int:
        """Wait for the end of the search; its exit code."""
        code = self.process.wait(timeout=within)
        self._thread.join(timeout=30)
        return code


def finished(studies: Path, url: str | None = None) -> dict[int, Row]:
    """The complete and pruned trials by their numbers; none before there is a study."""
    if url is None and not StudyFolder(studies, "tiny").database.is_file():
        return {}
    try:
        return {row.trial: row for row in rows(studies, url=url) if row.state in ("complete", "pruned")}
    except StudyError:  # it is just being made
        return {}


def orphans(studies: Path, url: str | None = None) -> set[int]:
    """Trials that Optuna takes for running while no living worker has them in hands and they are not set aside."""
    with closing(Records(url or StudyFolder(studies, "tiny").url)) as records:
        number = records.study("tiny").id
        claims = Claims(records, number, worker="").all()
        alive = {worker.id for worker in workers(records, number) if worker.is_alive()}
        with records.reading() as connection:
            open_trials = set(connection.execute(OPEN).scalars())
    return open_trials - {claim.trial for claim in claims if claim.state == "paused" or claim.worker in alive}


def conclude(studies: Path, *options: str, url: str | None = None) -> list[Row]:
    """Let the same command run to a total that is near, and check the study; its rows."""
    total = len(finished(studies, url)) + len(paused(studies, url)) + 2
    place = () if url is None else ("--storage", url)
    with running(studies, *options, "--trials", str(total), *place) as process:
        said = Said(process)
        assert said.end() == 0, said.lines
    return check(studies, total, url)


def kills(studies: Path, number: int, seed: int, *options: str, say: Callable[[str], None] = print) -> dict[str, int]:
    """`kill -9` of a random worker, or of the launcher and all workers, at random moments of one study.

    After each, what had ended is there unchanged; the trials of the dead are settled once the next worker, or the next
    command, is there. In the end the total is exact.

    Args:
        number: of kills; every third is of the whole process group.
        seed: of who is killed, and when.
    """
    draw = random.Random(seed)
    say(f"seed of the moments: {seed}")
    done, before = {"workers": 0, "groups": 0}, finished(studies)
    while sum(done.values()) < number:
        with running(studies, *options, *ENDLESS) as process:
            said = Said(process)
            while process.poll() is None and sum(done.values()) < number:
                group = sum(done.values()) % 3 == 2
                known = len(before)
                if sum(done.values()) % 5 != 4:  # those at once, while another worker takes a dead one's place
                    wait_for(lambda: len(finished(studies)) > known)  # noqa: B023  (called at once)
                    before = finished(studies)
                time.sleep(draw.random() * 1.5)
                there, replaced = workers_of(process), said.count(REPLACED)
                if not group and not there:
                    continue
                if group:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                else:
                    with suppress(ProcessLookupError):
                        os.kill(draw.choice(there), signal.SIGKILL)
                done["groups" if group else "workers"] += 1
                now = finished(studies)
                assert before.items() <= now.items(), "a trial that had ended is not there as it was"
                before = now
                if group:
                    break
                wait_for(lambda: not orphans(studies))
                wait_for(lambda: said.count(REPLACED) > replaced)  # noqa: B023  (called at once)
            else:
                assert sum(done.values()) == number, said.lines
    found = conclude(studies, *options, "--workers", "1")
    assert before.items() <= {row.trial: row for row in found}.items()
    assert {row.reason for row in found if row.state == "failed"} <= {"the worker was killed"}
    return done | {
        "ended": sum(row.state != "failed" for row in found),
        "failed": sum(row.state == "failed" for row in found),
    }


def outages(server: PostgreSQL, studies: Path, *, down: float, drops: int, crew: int = 3) -> dict[str, int]:
    """A search whose server drops its connections, stops, starts again, and has no room left.

    Args:
        down: seconds for which it is stopped, from the moment on at which the search says that it waits.
        drops: so often all connections are broken off.
        crew: workers; the server has to have room for `KEPT` of each and four more.
    """
    url = server.url
    with running(studies, *BRIEF, *ENDLESS, "--workers", str(crew), "--storage", url) as process:
        said = Said(process)

        def count(query: str) -> int:
            try:
                return int(server.say(query)[0][0])
            except psycopg.Error:  # the tables are just being made
                return 0

        def until(true: Callable[[], bool]) -> None:
            try:
                wait_for(lambda: process.poll() is not None or true())
            except AssertionError as error:
                raise AssertionError("".join(said.lines)) from error
            assert process.poll() is None, said.lines

        def more(trials: int = 1) -> None:
            before = count(DONE)
            until(lambda: count(DONE) >= before + trials)

        until(lambda: count(AT_WORK) == crew)
        until(lambda: count(CONNECTIONS) == KEPT * crew)  # a beat has another one for a moment
        dropped = 0
        for _ in range(drops):
            dropped += server.drop_connections()
            more()
        before = finished(studies, url)
        told = said.count(OUT)
        server.stop()
        until(lambda: said.count(OUT) > told)
        time.sleep(down)
        assert process.poll() is None, said.lines
        server.start()
        until(lambda: said.count(BACK) == said.count(OUT))
        more(crew)
        assert before.items() <= finished(studies, url).items()
        told = said.count("too many clients")
        with crowd(server) as first:
            server.drop_connections(first)
            until(lambda: said.count("too many clients") > told)
        until(lambda: said.count(BACK) == said.count(OUT))
        more(crew)
        os.kill(process.pid, signal.SIGINT)
        assert said.end() == 130, said.lines
    assert not orphans(studies, url)
    reasons = {trial.user_attrs.get("reason") for trial in trials(studies, url=url) if trial.state == TrialState.FAIL}
    assert reasons <= {"the search was interrupted"}
    found = conclude(studies, *BRIEF, "--workers", "1", url=url)
    assert before.items() <= {row.trial: row for row in found}.items()
    return {"connections": dropped, "ended": sum(row.state != "failed" for row in found)}


@contextmanager
def crowd(server: PostgreSQL) -> Iterator[psycopg.Connection[Any]]:
    """Hold every connection that the server gives, also those that others lose meanwhile; the first of them."""
    held: list[psycopg.Connection[Any]] = [psycopg.connect(server.address("crowd"), autocommit=True)]
    over = threading.Event()

    def take() -> None:
        while not over.is_set():
            try:
                held.append(psycopg.connect(server.address("crowd"), autocommit=True))
            except psycopg.OperationalError:
                time.sleep(0.01)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        yield held[0]
    finally:
        over.set()
        thread.join()
        for connection in held:
            connection.close()


def polled(studies: Path, seconds: float, *options: str, crew: int = 4, every: float = 0.5) -> dict[str, int]:
    """A search in SQLite beside a dashboard's server that is asked as a page asks: no lock error on either side.

    Args:
        seconds: how long, from the first trials on.
        every: seconds between two looks.
    """
    dashboard = [sys.executable, "-m", "nas", "dashboard", "tiny", "--port", "0", "--studies-dir", str(studies)]
    with running(studies, *options, *ENDLESS, "--workers", str(crew)) as process:
        said = Said(process)
        wait_for(lambda: process.poll() is not None or ended(studies) >= crew)
        with subprocess.Popen(dashboard, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as serving:
            server = Said(serving)
            try:
                wait_for(lambda: serving.poll() is not None or server.count("http://") > 0)
                host = next(line for line in server.lines if "http://" in line).split("://")[1].split("/")[0]
                answers, end = [], time.monotonic() + seconds
                while time.monotonic() < end and process.poll() is None:
                    answers += [look(host, path) for path in PAGE]
                    time.sleep(every)
            finally:
                serving.send_signal(signal.SIGINT)
                try:
                    server.end(60)
                finally:
                    serving.kill()  # else the block's end would wait for it
        assert process.poll() is None, said.lines
        os.kill(process.pid, signal.SIGINT)
        assert said.end() == 130, said.lines
    found = rows(studies)
    reasons = {str(row.reason) for row in found if row.state == "failed"}
    words = "".join([*said.lines, *server.lines, *reasons]).lower()
    assert "lock" not in words, words
    assert set(answers) == {200}, server.lines
    assert reasons <= {"the search was interrupted"}
    assert not orphans(studies)
    return {"answers": len(answers), "ended": sum(row.state in ("complete", "pruned") for row in found)}


PAGE = ("/api/studies", "/api/studies/1?after=0", "/api/meta", "/dashboard/studies/1")


def look(host: str, path: str) -> int:
    """One request; the status of its answer."""
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    if answer.status == 200 and path.startswith("/api"):
        json.loads(body)
    return answer.status
