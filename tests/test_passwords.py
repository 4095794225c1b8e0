"""The password of a database: others never see it, whatever is written, said or listed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from nas.cli import main
from nas.cli.secret import _without_storage, conceal, masked
from nas.dashboard.server import Dashboard
from nas.database import explained, parse_url
from nas.errors import StudyError
from nas.outage import Patience
from tests.searches import running, wait_for, workers_of
from tests.servers import PostgreSQL, postgresql

HUSH = "hush-Zq9"
PASSWORD = f"{HUSH}@/?"  # what a URL has to write in another way
IN_URL = f"{HUSH}%40%2F%3F"


@pytest.fixture
def guarded() -> Iterator[PostgreSQL]:
    """A server that asks the role `keeper` for its password, in the database `kept`."""
    rules = "host postgres nas 127.0.0.1/32 trust\nhost kept keeper 127.0.0.1/32 scram-sha-256\n"
    with postgresql(rules=rules) as server:
        server.say(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}'")
        server.say("CREATE DATABASE kept OWNER keeper")
        yield server


def storage(server: PostgreSQL, password: str = IN_URL) -> str:
    return f"postgresql+psycopg://keeper:{password}@127.0.0.1:{server.port}/kept"


def words_of(process: int) -> str:
    """What `ps` shows of a process to everybody; nothing once it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def gone(words: str) -> bool:
    return "nas\0search\0--space\0tiny" in words and HUSH not in words


def test_a_search_shows_its_password_to_nobody(
    guarded: PostgreSQL, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    studies, url = tmp_path / "studies", storage(guarded)
    small = ["--epochs", "1", "--train-limit", "200", "--trials", "2"]
    with running(studies, *small, "--storage", url) as search:
        # the kernel shows the words of the command line until Python has begun and reads them itself, and none at all
        # while it puts others in their place
        wait_for(lambda: gone(words_of(search.pid)))
        assert os.stat(f"/proc/{search.pid}/environ").st_mode & 0o077 == 0
        wait_for(lambda: bool(workers_of(search)))
        while search.poll() is None:
            shown = [words_of(process) for process in (search.pid, *children(search))]
            assert not any(HUSH in words for words in shown), shown
            try:
                search.wait(0.1)
            except subprocess.TimeoutExpired:
                pass
        said = "".join(stream.read() for stream in (search.stdout, search.stderr) if stream is not None)
    assert search.returncode == 0, said
    assert HUSH not in said

    monkeypatch.setenv("NAS_STORAGE", url)
    assert main(["report", "tiny", "--studies-dir", str(studies)]) == 0
    assert main(["status", "tiny", "--studies-dir", str(studies)]) == 0
    monkeypatch.setenv("NAS_STORAGE", storage(guarded, f"{HUSH}-wrong"))
    assert main(["front", "tiny", "--studies-dir", str(studies)]) == 1
    out, err = capsys.readouterr()
    assert "password authentication failed" in err
    assert HUSH not in out + err
    answers = served(url, studies / "tiny" / "artifacts")
    assert "tiny" in answers
    assert HUSH not in answers
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert studies / "tiny" / "report.html" in written
    for path in written:
        assert HUSH.encode() not in path.read_bytes(), path
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [
            line
            for (table,) in tables
            for (line,) in connection.execute(f'SELECT t::text FROM "{table}" t')  # type: ignore[call-overload]
        ]
    told = [row for row in rows if "postgresql+psycopg" in row]
    assert any("postgresql+psycopg://keeper:***@127.0.0.1" in row for row in told)
    assert not any(HUSH in row for row in rows)


def served(url: str, artifacts: Path) -> str:
    """What the dashboard answers of a study."""
    dashboard = Dashboard(url, artifacts=artifacts, port=0)
    thread = threading.Thread(target=dashboard.serve, daemon=True)
    thread.start()
    try:
        answers = []
        for path in ("dashboard", "api/studies", "api/studies/1?after=0", "api/meta"):
            with urllib.request.urlopen(f"{dashboard.url.rstrip('/')}/{path}", timeout=60) as answer:
                answers.append(answer.read().decode())
    finally:
        dashboard.close()
        thread.join(timeout=30)
    return "\n".join(answers)


def children(process: subprocess.Popen[str]) -> list[int]:
    try:
        return workers_of(process)
    except (FileNotFoundError, ProcessLookupError):
        return []


URLS = [
    f"postgresql+psycopg://keeper:{HUSH}@127.0.0.1:1/kept",
    f"postgresql+psycopg://keeper:{HUSH}@127.0.0.1:port/kept",
    f"postgresql+psycopg://keeper:{HUSH}@[::1/kept",
    f"postgresql+psycopg://keeper@127.0.0.1:1/kept?password={HUSH}",
    f"postgresql+psycopg://keeper@127.0.0.1:1/kept?sslpassword={HUSH}&nonsense=1",
    f"postgresql+psycopg://keeper:{HUSH}%20'%20x%3D@127.0.0.1:1/kept?nonsense=1",
    f"postgresql+psycopg://keeper:{HUSH}@127.0.0.1:1/kept?connect_timeout=x",
    f"postgresql+nonsense://keeper:{HUSH}@127.0.0.1/kept",
    f"postgresql+psycopg2://keeper:{HUSH}@127.0.0.1/kept",
    f"mysql://keeper:{HUSH}@127.0.0.1/kept",
    f"sqlite://keeper:{HUSH}@/",
    f"sqlite://keeper:{HUSH}@host/study.db",
    f"keeper:{HUSH}@127.0.0.1/kept",
    f"://keeper:{HUSH}@127.0.0.1/kept",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("words", [["front", "s"], ["worker", "s"], ["doctor", "s"]])
def test_a_database_out_of_reach_is_named_without_its_password(
    url: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--studies-dir", str(tmp_path), "--storage", url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nas: ")
    assert err.count("\n") == 1
    assert HUSH not in err
    assert not list(tmp_path.iterdir())


def test_a_driver_that_repeats_the_password_is_not_repeated() -> None:
    url = parse_url(f"postgresql+psycopg://keeper:{IN_URL}@127.0.0.1/kept?sslpassword={HUSH}-2")
    said = psycopg.OperationalError(f"bad words: password={PASSWORD} sslpassword={HUSH}-2")
    with pytest.raises(StudyError, match=r"bad words: password=\*\*\* sslpassword=\*\*\*") as caught, explained(url):
        raise sa.exc.OperationalError("SELECT 1", {}, said)
    assert HUSH not in str(caught.value)


def test_nor_while_a_search_waits_for_its_database(monkeypatch: pytest.MonkeyPatch) -> None:
    url = parse_url(f"postgresql+psycopg://keeper:{IN_URL}@127.0.0.1/kept?sslpassword={HUSH}-2")
    engine = sa.create_engine(url)

    def refuse(*_: object, **options: object) -> None:
        raise psycopg.OperationalError(f"password={options['password']} sslpassword={options['sslpassword']}")

    monkeypatch.setattr(engine.dialect, "connect", refuse)
    said: list[str | None] = []

    def stop() -> None:
        raise KeyboardInterrupt

    with Patience(said.append, stop, known=True), pytest.raises(KeyboardInterrupt):
        engine.connect()
    assert said[0] is not None
    assert r"(password=*** sslpassword=***)" in said[0]


def test_words_that_are_no_option_are_not_repeated_with_their_password(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["front", "s", "--storag", URLS[0]], ["front", "s", URLS[0]], ["front", "s", "--storag=" + URLS[3]]):
        assert main(words) == 1
        assert HUSH not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("words", "left", "url"),
    [
        (["front", "s"], ["front", "s"], None),
        (["front", "--storage", "u", "s"], ["front", "s"], "u"),
        (["front", "--storage=u=v", "s"], ["front", "s"], "u=v"),
        (["front", "--storage", "u", "--storage=v"], ["front"], "v"),
        (["front", "--storage"], ["front"], None),
        (["front", "--", "--storage", "u"], ["front", "--", "--storage", "u"], None),
    ],
)
def test_the_storage_is_taken_out_of_the_words(words: list[str], left: list[str], url: str | None) -> None:
    assert _without_storage(words) == (left, url)


def test_what_is_masked() -> None:
    assert masked(f"a postgresql://u:{HUSH}@h/d b") == "a postgresql://u:***@h/d b"
    assert masked(f"://:{HUSH}/x@h") == "://:***@h"
    assert masked(f"x://h/d?password={HUSH}&a=b") == "x://h/d?password=***&a=b"
    assert masked(f"x://h/d?a=b&SSLPassword={HUSH}") == "x://h/d?a=b&SSLPassword=***"
    plain = "postgresql://u@h:5432/d?a=b sqlite:////x/y.db a@b"
    assert masked(plain) == plain


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["front", "s", "--storage", URLS[0]], ["front", "s"]),
        ([f"--storage={URLS[3]}", "front"], ["front"]),
        (["front", "s", "--storage", "postgresql+psycopg://keeper@127.0.0.1:1/kept"], None),
        (["front", "s", "--storage", "sqlite:////a/b@c.db"], None),
        (["front", "s"], None),
    ],
)
def test_a_process_begins_anew_where_there_is_a_password(
    words: list[str], again: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *given: begun.append(given))
    own = [sys.executable, "-X", "utf8", "-m", "nas"]
    monkeypatch.setattr(sys, "orig_argv", [*own, *words])
    conceal(words)
    if again is None:
        assert not begun
    else:
        ((binary, command_line, environment),) = begun
        assert (binary, command_line) == (sys.executable, [*own, *again])
        assert HUSH in environment["NAS_STORAGE"]
        conceal(["other", *words])  # not what this process was begun with: a library that calls nas
        assert len(begun) == 1
