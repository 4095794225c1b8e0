"""The dashboard answers, cannot be written to, and says plainly where it cannot start."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from nas.dashboard.server import Dashboard, dashboard_storage
from nas.errors import StudyError
from nas.study_folder import StudyFolder
from tests.fake_study import rows, write_study
from tests.serving import served


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return write_study(tmp_path_factory.mktemp("studies"), "fake", rows(12), optuna_tables=True)


@pytest.fixture(scope="module")
def server(folder: StudyFolder) -> Iterator[Dashboard]:
    with served(folder) as dashboard:
        yield dashboard


def ask(server: Dashboard, method: str, path: str, host: str | None = None) -> tuple[int, bytes, dict[str, str]]:
    address, port = server.url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    connection = http.client.HTTPConnection(address, int(port), timeout=30)
    try:
        connection.putrequest(method, path, skip_host=host is not None, skip_accept_encoding=True)
        if host:
            connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        connection.close()


def digest(folder: StudyFolder) -> str:
    """Everything that SQL can see of a database."""
    connection = sqlite3.connect(folder.database)
    try:
        return hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()
    finally:
        connection.close()


def test_it_shows_the_page_and_the_study(server: Dashboard) -> None:
    assert ask(server, "GET", "/")[0] == 302
    status, page, _ = ask(server, "GET", "/dashboard")
    assert status == 200
    assert b"Optuna Dashboard" in page
    status, body, _ = ask(server, "GET", "/api/studies")
    assert status == 200
    studies = json.loads(body)["study_summaries"]
    assert [study["study_name"] for study in studies] == ["fake"]
    status, body, _ = ask(server, "GET", f"/api/studies/{studies[0]['study_id']}")
    assert len(json.loads(body)["trials"]) == 12
    assert ask(server, "HEAD", "/dashboard")[:2] == (200, b"")


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "PATCH", "OPTIONS"])
def test_no_other_method_reaches_the_study(server: Dashboard, folder: StudyFolder, method: str) -> None:
    before = digest(folder)
    status, body, headers = ask(server, method, "/api/studies/1")
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert json.loads(body)["reason"] == "this dashboard is read-only"
    assert digest(folder) == before
    assert optuna.get_all_study_names(folder.url) == ["fake"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.", ""])
def test_a_foreign_host_is_refused(server: Dashboard, host: str) -> None:
    status, body, _ = ask(server, "GET", "/api/studies", host=host or " ")
    assert status == 403
    assert b"fake" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"])
def test_names_of_this_machine_are_let_in(server: Dashboard, host: str) -> None:
    assert ask(server, "GET", "/api/studies", host=host)[0] == 200


def test_the_address_it_listens_on_is_let_in(folder: StudyFolder) -> None:
    dashboard = Dashboard(folder.url, host="127.0.0.2", port=0)
    thread = threading.Thread(target=dashboard.serve, daemon=True)
    thread.start()
    try:
        assert ask(dashboard, "GET", "/api/studies")[0] == 200
        assert ask(dashboard, "GET", "/api/studies", host="127.0.0.3")[0] == 403
    finally:
        dashboard.close()
        thread.join(timeout=30)


def test_every_page_leaves_the_database_as_it_was(server: Dashboard, folder: StudyFolder) -> None:
    before = digest(folder)
    plots = ["contour", "slice", "parallel_coordinate", "rank", "edf", "timeline", "pareto_front"]
    paths = ["/", "/dashboard", "/dashboard/studies/1", "/api/meta", "/api/studies", "/api/studies/1", "/csv/1"]
    paths += ["/api/studies/1/param_importances", "/incompatible-rdb-schema", "/static/bundle.js"]
    answers = {path: ask(server, "GET", path)[0] for path in [*paths, *(f"/api/studies/1/plot/{p}" for p in plots)]}
    assert {path: status for path, status in answers.items() if status >= 400} == {}
    assert digest(folder) == before


def test_the_storage_itself_refuses_to_write(folder: StudyFolder) -> None:
    storage = dashboard_storage(folder.url)
    try:
        with pytest.raises(optuna.exceptions.StorageInternalError) as refused:
            storage.delete_study(storage.get_study_id_from_name("fake"))
        assert "attempt to write a readonly database" in str(refused.value.__cause__)
        assert [study.study_name for study in storage.get_all_studies()] == ["fake"]
    finally:
        storage.close()


def test_a_missing_database_is_said_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no study at .*start one with `nas search`"):
        Dashboard(f"sqlite:///{tmp_path}/missing.db", port=0)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_and_a_foreign_database_are_said(tmp_path: Path) -> None:
    damaged = tmp_path / "study.db"
    damaged.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StudyError, match="is damaged"):
        Dashboard(f"sqlite:///{damaged}", port=0)
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("create table mine (x)")
    connection.close()
    with pytest.raises(StudyError, match="no such table"):
        Dashboard(f"sqlite:///{foreign}", port=0)


def test_a_port_in_use_and_a_wrong_address_are_said(folder: StudyFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StudyError, match=rf"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            Dashboard(folder.url, port=port)
    with pytest.raises(StudyError, match=r"--port 99999: it must be in 0..65535"):
        Dashboard(folder.url, port=99999)
    for host in ("192.0.2.1", "no-such-host.invalid", "a..b", "x" * 70 + ".invalid"):
        with pytest.raises(StudyError, match=rf"^cannot listen on {host} port 0: .*; choose another --host or --port$"):
            Dashboard(folder.url, host=host, port=0)


def test_it_ends_though_a_browser_keeps_its_connection(folder: StudyFolder) -> None:
    dashboard = Dashboard(folder.url, port=0)
    thread = threading.Thread(target=dashboard.serve, daemon=True)
    thread.start()
    address = dashboard.url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", "/api/meta")
    assert connection.getresponse().read()
    dashboard.close()
    thread.join(timeout=20)
    assert not thread.is_alive()
    connection.close()
