"""Searches on Ray: a cluster that loses a node, Ray on this machine alone, and what is refused."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nas.cli import main
from nas.errors import StudyError
from nas.records import Records, worker_table
from nas.search.claims import Claims
from nas.search.liveness import forget, host, workers
from nas.search.ray_cluster import QUIET, _room
from nas.search.ray_crew import RayCrew
from tests.searches import check, ended, rows, running, wait_for

SHORT = ["--epochs", "2", "--train-limit", "200", "--no-cache", "--engine", "ray"]
LONG = ["--epochs", "400", "--no-cache", "--engine", "ray"]
STORE = {"object_store_memory": 80 * 2**20}
ONE = {"num_cpus": 1, "num_gpus": 0, **STORE}
ROOT = Path(__file__).parents[1]


def gone(session: int) -> bool:
    """Whether no process of a session runs any more."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == session and state != "Z":
            return False
    return True


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a search's Ray keeps its files: by a path so short that its sockets may lie there."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def say(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What a search that is refused says."""
    assert main(["search", "--space", "tiny", *options]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine", "rya"], "unknown --engine 'rya': did you mean 'ray'? allowed: local, ray"),
        (["--address", "auto"], "--address auto: it is for a search on Ray; add --engine ray"),
        (["--cpus-per-worker", "2"], "--cpus-per-worker 2: it is for a search on Ray"),
        (["--gpus-per-worker", "0"], "--gpus-per-worker 0.0: it is for a search on Ray"),
        (["--engine", "ray", "--workers", "0"], "--workers 0: it must be a whole number of at least 1"),
        (["--engine", "ray", "--cpus-per-worker", "0"], "--cpus-per-worker 0: it must be a whole number of at least 1"),
        (["--engine", "ray", "--gpus-per-worker", "1.5"], "--gpus-per-worker 1.5: it must be in 0..1"),
        (["--engine", "ray", "--gpus-per-worker", "-1"], "--gpus-per-worker -1: it must be in 0..1"),
        (["--engine", "ray", "--gpus-per-worker", "nan"], "--gpus-per-worker nan: it must be in 0..1"),
        (["--engine", "ray", "--workers-per-gpu", "4"], "--workers-per-gpu 4: on Ray say what part of a GPU"),
        (["--engine", "ray", "--device", "cuda:1"], "--device cuda:1: Ray gives each worker its GPU"),
        (["--engine", "ray", "--device", "cuda", "--gpus-per-worker", "0"], "--device cuda with --gpus-per-worker 0"),
        (["--engine", "ray", "--device", "cpu", "--gpus-per-worker", "1"], "--device cpu with --gpus-per-worker 1"),
        (["--engine", "ray", "--device", "tpu"], "unknown --device 'tpu'"),
        (["--engine", "ray", "--address", "ray://head:10001"], "--address 'ray://head:10001': it must be auto or"),
        (["--engine", "ray", "--address", "head"], "--address 'head': it must be auto or HOST:PORT"),
        (["--engine", "ray", "--address", "head:99999"], "--address 'head:99999': it must be auto or HOST:PORT"),
    ],
)
def test_what_cannot_be_is_refused_before_ray_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert words in say(capsys, *options, "--studies-dir", str(tmp_path / "studies"))
    assert not (tmp_path / "studies").exists()


def test_without_ray_one_line_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = say(capsys, "--engine", "ray", "--studies-dir", str(tmp_path))
    assert said == "nas: --engine ray: Ray is not installed; pip install 'nas[ray]'\n"


def test_a_search_on_this_machine_does_not_load_ray() -> None:
    code = "import sys, nas.cli, nas.search.launch; assert not {'ray', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_cluster_that_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
        said = say(capsys, "--engine", "ray", "--address", where, "--studies-dir", str(tmp_path))
        assert f"--address {where}: no Ray cluster answers at {where} (Connection refused)" in said
        monkeypatch.setenv("RAY_ADDRESS", where)  # what Ray takes for its own where it is told auto
        said = say(capsys, "--engine", "ray", "--address", "auto", "--studies-dir", str(tmp_path))
        assert "--address auto: no Ray cluster answers at " in said
        assert f":{where.partition(':')[2]} (Connection refused)" in said


def test_room_of_a_node() -> None:
    node = {"CPU": 8.0, "GPU": 2.0}
    assert _room(node, cpus=1, gpus=0) == 8
    assert _room(node, cpus=3, gpus=0) == 2
    assert _room(node, cpus=1, gpus=1) == 2
    assert _room(node, cpus=1, gpus=0.25) == 8
    assert _room(node, cpus=1, gpus=0.4) == 4  # two on each GPU, and none on parts of both
    assert _room(node, cpus=1, gpus=0.1) == 8
    assert _room({"CPU": 8.0}, cpus=1, gpus=0.1) == 0
    assert _room({}, cpus=1, gpus=0) == 0


def test_a_worker_of_another_host_is_dead_as_soon_as_ray_says_so(tmp_path: Path) -> None:
    with closing(Records(f"sqlite:///{tmp_path / 'study.db'}")) as records:
        records.create()
        study = records.add_study("s", {}, {}).id
        with records.writing() as connection:
            for name, where in (("there", "elsewhere/1"), ("here", host())):
                row = {"id": name, "study": study, "host": where, "lock": str(tmp_path / name), "beat_at": time.time()}
                connection.execute(worker_table.insert().values(**row))
        forget(records, "there")
        forget(records, "here")  # its lock tells
        assert [worker.id for worker in workers(records, study)] == ["here"]


def test_on_this_machine_ray_comes_and_goes_with_the_search(tmp_path: Path, temporary: Path) -> None:
    with running(tmp_path, *SHORT, "--trials", "4", "--workers", "1") as process:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
        assert f"Ray: 1 node with {len(os.sched_getaffinity(0))} CPU(s)" in said
        check(tmp_path, 4)
        wait_for(partial(gone, process.pid), within=30)
    assert list(temporary.glob("nas-*")) == []


@pytest.mark.slow
def test_ctrl_c_once_marks_and_twice_kills(tmp_path: Path, temporary: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tiny' / 'study.db'}"
    for times in (1, 2):
        with running(tmp_path, *LONG, "--trials", "4", "--workers", "1") as process:
            wait_for(lambda: len(busy(url)) == 1)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
            if times == 2:
                os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 130, said
            wait_for(partial(gone, process.pid), within=30)
        found = rows(tmp_path)
        assert [(row.state, row.killed) for row in found] == [("failed", True)] * times
        assert busy(url) == set()
    assert list(temporary.glob("nas-*")) == []


def busy(url: str) -> set[int]:
    """Process numbers of the workers that have a trial in their hands."""
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).is_file():
        return set()
    try:
        with closing(Records(url)) as records:
            held = Claims(records, records.study("tiny").id, "").all()
    except StudyError:  # it is just being made
        return set()
    return {int(claim.worker.split("-")[-2]) for claim in held if claim.state == "held" and claim.trial is not None}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes on this machine: one core each and no GPU."""
    utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # for `tests.environment` on the nodes
        cluster = utils.Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **ONE})
        try:
            cluster.second = cluster.add_node(**ONE)
            yield cluster
        finally:
            cluster.shutdown()


def on(cluster: Any, studies: Path, *options: str) -> str:
    """What a search on the cluster says that is refused."""
    command = ["search", "--space", "tiny", "--engine", "ray", "--address", cluster.address, *options]
    done = subprocess.run(
        [sys.executable, "-m", "nas", *command, "--studies-dir", str(studies)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert list(studies.iterdir()) == []
    return done.stderr


@pytest.mark.slow
def test_what_a_cluster_cannot_do_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = on(cluster, tmp_path)
    assert "the Ray cluster has 2 nodes and the study is in SQLite, whose locks do not hold between machines" in said
    said = on(cluster, tmp_path, "--cpus-per-worker", "2")
    assert "no node of the Ray cluster has room for a worker of 2 CPU(s) and 0 GPU(s)" in said
    assert "the nodes have 1 CPU(s) and " in said
    other = tmp_path.parent / "other" / "nas"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    with monkeypatch.context() as patch:
        patch.chdir(other.parent)  # where its processes look first
        third = cluster.add_node(**ONE)
    try:
        said = on(cluster, tmp_path, "--storage", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    finally:
        cluster.remove_node(third)
    assert re.search(r"node \S+ of the Ray cluster has another nas: \S+ with files \w+, this machine \S+ with", said)
    assert said.endswith("; install the same everywhere\n")


@pytest.mark.slow
def test_workers_share_a_gpu_or_wait_for_their_part_of_it(cluster: Any) -> None:
    ray = pytest.importorskip("ray")
    node = cluster.add_node(num_cpus=4, num_gpus=1, **STORE)  # a GPU that is only said to be there
    ray.init(address=cluster.address, **QUIET)
    crew = RayCrew(ray, cpus=1, gpus=0.5, module="tests.environment")
    seen: dict[int, dict[str, Any] | None] = {}

    def heard(workers: int) -> bool:
        seen.update([said] if (said := crew.next(0.1)) else [])
        return len(seen) == workers

    try:
        for number in range(3):
            crew.start(number, {})
        wait_for(lambda: heard(2))
        assert crew.next(2) is None  # the third waits
        given = [{name: event[name] for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")} for event in seen.values()]
        assert given == [{"CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1"}] * 2
        first = min(seen)
        os.kill(seen[first]["pid"], signal.SIGKILL)
        wait_for(lambda: not heard(3) and seen[first] is None)
        assert crew.ended(first) == "exit code -9"
        wait_for(lambda: heard(3))
        assert crew.numbers == sorted({0, 1, 2} - {first})
    finally:
        crew.kill()
        ray.shutdown()
        cluster.remove_node(node)


@pytest.mark.slow
def test_a_node_that_is_lost_takes_nothing_along(cluster: Any, server: str, tmp_path: Path) -> None:
    options = ["--engine", "ray", "--address", cluster.address, "--storage", server]
    options += ["--trials", "6", "--epochs", "10", "--train-limit", "200", "--no-cache", "--workers", "3"]
    with running(tmp_path, *options) as process:
        wait_for(lambda: len(busy(server)) == 1)
        (first,) = busy(server)
        os.kill(first, signal.SIGSTOP)  # however long the second takes to begin
        wait_for(lambda: len(busy(server)) == 2)
        before = ended(tmp_path, url=server)
        cluster.remove_node(cluster.second, allow_graceful=False)
        os.kill(first, signal.SIGCONT)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert before < 6
    assert "Ray: 2 nodes with 1 CPU(s) and " in said
    assert "2 of 3 workers of 1 CPU(s) and 0 GPU(s) at once, the others wait for room." in said
    assert re.search(r"worker . was killed \((its node \S+ is gone|it or its node is out of reach)\); another", said), (
        said
    )
    found = check(tmp_path, 6, url=server)
    assert [row.killed for row in found if row.state == "failed"] in (
        [],
        [True],
    )  # what ran there; paused where resumed
