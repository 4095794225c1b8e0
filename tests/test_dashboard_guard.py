"""Who is let in: Host, Origin, methods and the token, by a WSGI call; and what may be written, by a server."""

from __future__ import annotations

import http.client
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas.cli import main
from nas.dashboard.guard import COOKIE, LOOPBACK_NAMES, Guard
from nas.dashboard.server import Dashboard
from nas.errors import StudyError
from nas.study_folder import StudyFolder
from tests.fake_study import rows, write_study
from tests.serving import served

TOKEN = "a-token-of-this-test"  # noqa: S105  (it opens nothing else)
Answer = tuple[str, bytes, dict[str, str]]


class Page:
    """An application that counts who comes through."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.seen.append(environ)
        start_response("200 OK", [("Access-Control-Allow-Origin", "*"), ("Content-Type", "text/plain")])
        return [b"page"]


def call(guard: Guard, method: str = "GET", path: str = "/", **environ: str) -> Answer:
    begun: list[Any] = []
    given = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "HTTP_HOST": "127.0.0.1:8080",
        "SERVER_PORT": "8080",
        **environ,
    }
    body = b"".join(guard(given, lambda *answer: begun.append(answer)))  # type: ignore[arg-type]
    (status, headers, *_), *_ = begun
    return status[:3], body, dict(headers)


def guarded(**options: Any) -> tuple[Guard, Page]:
    page = Page()
    return Guard(page, options.pop("hosts", LOOPBACK_NAMES), **options), page  # type: ignore[arg-type]


def test_what_passes_is_made_safe_and_what_does_not_is_said() -> None:
    guard, page = guarded()
    status, body, headers = call(guard)
    assert (status, body) == ("200", b"page")
    assert page.seen[0]["HTTP_ACCEPT_ENCODING"] == "identity"
    assert "Access-Control-Allow-Origin" not in headers  # no other page reads artifacts
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    status, body, _ = call(guard, HTTP_HOST="")
    assert status == "403"
    assert json.loads(body)["reason"] == "this dashboard does not answer to that Host"
    assert len(page.seen) == 1


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        ("http://127.0.0.1:8080", True),
        ("https://127.0.0.1:8080", True),
        ("http://127.0.0.1:3000", False),
        ("http://127.0.0.1", False),
        ("http://localhost:8080", False),
        ("https://evil.example", False),
        ("http://127.0.0.1:8080.evil.example", False),
        ("null", False),
        ("", False),
        ("http://[", False),
        ("file://127.0.0.1:8080", False),
    ],
)
@pytest.mark.parametrize("writable", [False, True])
def test_another_pages_origin_is_refused_for_reading_and_for_writing(origin: str, passes: bool, writable: bool) -> None:
    guard, page = guarded(writable=writable)
    assert call(guard, HTTP_ORIGIN=origin)[0] == ("200" if passes else "403")
    writes = call(guard, "PUT", "/api/studies/1/note", HTTP_ORIGIN=origin)[0]
    assert writes == ("405" if not writable else "200" if passes else "403")
    assert len(page.seen) == passes + (passes and writable)


def test_writing_needs_an_origin_and_is_for_notes_and_artifacts() -> None:
    guard, page = guarded(writable=True)
    mine = {"HTTP_ORIGIN": "http://127.0.0.1:8080"}
    assert call(guard, "PUT", "/api/studies/1/note")[0] == "403"
    assert page.seen == []
    for method, path in (
        ("PUT", "/api/studies/1/note"),
        ("PUT", "/api/studies/1/22/note"),
        ("POST", "/api/artifacts/1"),
        ("POST", "/api/artifacts/1/22"),
        ("DELETE", "/api/artifacts/1/0a-b"),
    ):
        assert call(guard, method, path, **mine)[0] == "200"
    for method, path in (
        ("DELETE", "/api/studies/1"),
        ("DELETE", "/api/artifacts/1/22/0a-b"),
        ("POST", "/api/studies"),
        ("POST", "/api/studies/1/rename"),
        ("POST", "/api/studies/1/preference"),
        ("POST", "/api/trials/3/tell"),
        ("POST", "/api/trials/3/user-attrs"),
        ("POST", "/incompatible-rdb-schema"),
        ("OPTIONS", "/api/studies/1/note"),
        ("PUT", "/api/studies/1/note/more"),
    ):
        status, body, headers = call(guard, method, path, **mine)
        assert (status, headers["Allow"]) == ("405", "GET, HEAD"), (method, path)
        assert (
            json.loads(body)["reason"]
            == "only notes and artifacts may be written here; a study is changed by nas itself"
        )
    assert len(page.seen) == 5


def test_open_to_the_network_addresses_and_own_names_are_hosts() -> None:
    guard, _ = guarded(hosts=frozenset({"box.lan"}), addresses=True)
    for host in ("box.lan:80", "BOX.lan", "192.168.1.5:8080", "[fe80::1]:8080", "10.0.0.1"):
        assert call(guard, HTTP_HOST=host)[0] == "200", host
    for host in ("evil.example", "10.0.0.1.evil.example", "", "box.lan.evil.example", "[box.lan]"):
        assert call(guard, HTTP_HOST=host)[0] == "403", host


def test_a_token_is_asked_for_once_and_kept_as_a_cookie() -> None:
    guard, page = guarded(token=TOKEN)
    status, body, _ = call(guard)
    assert status == "401"
    assert "asks for a token; open the address that nas dashboard printed" in json.loads(body)["reason"]
    for wrong in ("wrong", "", "a-token-of-this-tesT", "%C3%BC", "\xff"):
        status, body, headers = call(guard, QUERY_STRING=f"token={wrong}")
        assert status == "403"
        assert b"the token is wrong" in body
        assert "Set-Cookie" not in headers
    status, body, headers = call(guard, path="/", QUERY_STRING=f"token={TOKEN}")
    assert status == "200"
    assert headers["Set-Cookie"] == f"{COOKIE}-8080={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert b'url=/dashboard"' in body
    assert TOKEN.encode() not in body
    assert page.seen == []
    assert call(guard, HTTP_COOKIE=f"other=1; {COOKIE}-8080={TOKEN}")[0] == "200"
    assert call(guard, HTTP_COOKIE=f"{COOKIE}-8080=earlier")[0] == "403"
    assert call(guard, HTTP_COOKIE=f"{COOKIE}-8081={TOKEN}")[0] == "401"
    assert call(guard, HTTP_COOKIE="\x00;;=")[0] == "401"
    assert call(guard, "DELETE", "/api/studies/1")[0] == "405"
    assert len(page.seen) == 1


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", '/"><script>', "/api/studies"])
def test_the_page_that_keeps_the_token_leads_nowhere_else(path: str) -> None:
    guard, _ = guarded(token=TOKEN)
    assert b'url=/dashboard"' in call(guard, path=path, QUERY_STRING=f"token={TOKEN}")[1]
    deep = call(guard, path='/dashboard/studies/1"', QUERY_STRING=f"token={TOKEN}")[1]
    assert b'url=/dashboard/studies/1&quot;"' in deep


# A server


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return write_study(tmp_path_factory.mktemp("studies"), "fake", rows(4), optuna_tables=True)


@pytest.fixture
def folder(written: StudyFolder, tmp_path: Path) -> StudyFolder:
    shutil.copytree(written.path, tmp_path / written.name)
    return StudyFolder(tmp_path, written.name)


def ask(place: str, method: str, path: str, data: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection(place, timeout=30)
    try:
        body = None if data is None else json.dumps(data)
        given = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        connection.request(method, path, body, given)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        connection.close()


def place_of(dashboard: Dashboard) -> str:
    return dashboard.url.removeprefix("http://").partition("/")[0]


def test_open_to_the_network_the_address_holds_the_token(
    folder: StudyFolder, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with served(folder, host="0.0.0.0") as dashboard:
        assert not dashboard.local
        found = re.fullmatch(r"http://([^/]+):(\d+)/\?token=([\w-]{32})", dashboard.url)
        assert found is not None
        place = f"127.0.0.1:{found[2]}"
        assert ask(place, "GET", "/api/studies")[0] == 401
        assert ask(place, "GET", "/api/studies?token=wrong")[0] == 403
        status, _, headers = ask(place, "GET", f"/?token={found[3]}")
        assert status == 200
        cookie = {"Cookie": headers["Set-Cookie"].partition(";")[0]}
        status, body, _ = ask(place, "GET", "/api/studies", **cookie)
        assert (status, json.loads(body)["study_summaries"][0]["study_name"]) == (200, "fake")
        assert ask(place, "GET", "/api/studies", Host="evil.example", **cookie)[0] == 403
        assert ask(place, "DELETE", "/api/studies/1", **cookie)[0] == 405
        assert ask(place, "GET", "/api/studies/77", **cookie)[0] == 404
    said = capfd.readouterr()
    assert found[3] not in said.out + said.err + caplog.text


def test_two_starts_have_two_tokens(folder: StudyFolder) -> None:
    tokens = set()
    for _ in range(2):
        with served(folder, host="0.0.0.0") as dashboard:
            tokens.add(dashboard.url.partition("token=")[2])
    assert len(tokens) == 2


def test_on_this_machine_nothing_is_asked_for(folder: StudyFolder) -> None:
    for host in ("127.0.0.1", "localhost", "127.0.0.7"):
        with served(folder, host=host) as dashboard:
            assert dashboard.local
            assert "token" not in dashboard.url
            assert ask(place_of(dashboard), "GET", "/api/studies")[0] == 200


def test_a_note_and_an_artifact_are_written_and_the_study_is_left_alone(folder: StudyFolder) -> None:
    with served(folder, writable=True) as dashboard:
        place = place_of(dashboard)
        mine = {"Origin": f"http://{place}"}
        before = json.loads(ask(place, "GET", "/api/studies/1")[1])
        first = before["trials"][0]
        for path, shown, body in (
            ("/api/studies/1/note", before["note"], "about the study"),
            (f"/api/studies/1/{first['trial_id']}/note", first["note"], "about the trial " * 300),
        ):
            assert "| module |" in shown["body"] or "Study fake" in shown["body"]
            again = {"version": shown["version"] + 1, "body": body}
            assert ask(place, "PUT", path, again, Origin="https://evil.example")[0] == 403
            assert ask(place, "PUT", path, again)[0] == 403
            assert ask(place, "PUT", path, again, **mine)[0] == 204
            assert ask(place, "PUT", path, again, **mine)[0] == 409
        file = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "hello.txt"}
        assert ask(place, "POST", "/api/artifacts/1", file, **mine)[0] == 201
        for method, path in (("DELETE", "/api/studies/1"), ("POST", "/api/studies/1/rename"), ("POST", "/api/studies")):
            assert ask(place, method, path, {"study_name": "other", "directions": ["minimize"]}, **mine)[0] == 405
        after = json.loads(ask(place, "GET", "/api/studies/1")[1])
        assert after["note"]["body"] == "about the study"
        assert after["trials"][0]["note"]["body"] == "about the trial " * 300
        assert "| module |" in after["trials"][1]["note"]["body"]
        (artifact,) = after["artifacts"]
        path = f"/artifacts/1/{artifact['artifact_id']}"
        assert ask(place, "GET", path)[:2] == (200, b"hello")
        assert ask(place, "DELETE", f"/api{path}", **mine)[0] == 204
        assert json.loads(ask(place, "GET", "/api/studies/1")[1])["artifacts"] == []
    assert optuna.get_all_study_names(folder.url) == ["fake"]


def test_writable_is_refused_beyond_this_machine(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["dashboard", "fake", "--studies-dir", str(folder.studies_dir), "--port", "0", "--writable"]
    assert main([*command, "--host", "0.0.0.0"]) == 1
    said = capsys.readouterr().err
    assert said == (
        "nas: --writable serves this machine only, and --host 0.0.0.0 is open to others: leave one of them out\n"
    )


def test_writable_is_refused_where_nothing_can_be_written(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import nas.dashboard.server as server

    options = {"creator": lambda: server._connect(folder.database)}
    monkeypatch.setattr(server, "engine_options", lambda url: options)  # root can write where files say it cannot
    with pytest.raises(StudyError, match="cannot be written"):
        Dashboard(folder.url, port=0, writable=True)
