"""The logic of `scripts/bench_gpu`: what needs no device is tested without one."""

from __future__ import annotations

import csv
import importlib.machinery
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from nas.errors import TrialFailed
from nas.training import Training
from tests.fake_study import rows, write_study
from tests.training_inputs import RECIPE, dataset, network

SCRIPT = Path(__file__).parent.parent / "scripts" / "bench_gpu"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("bench_gpu", str(SCRIPT))
    spec = importlib.util.spec_from_loader("bench_gpu", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_gpu"] = module
    loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_device_it_says_so_and_writes_nothing(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_gpu", "--stage", "trainer", "--csv", str(tmp_path / "rows.csv")])
    with pytest.raises(SystemExit, match="measures a CUDA device, and torch sees none here: run it on a machine"):
        bench.main()
    assert not list(tmp_path.iterdir())


def test_what_is_measured_is_kept_and_not_measured_again(bench: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "studies" / "rows.csv"
    facts = {"gpu": "a device"}
    rows = bench.Rows(path, facts, time.monotonic() + 60)
    rows.measure("one", lambda: {"speed": 1})
    rows.measure("two", lambda: {"speed": 2, "batch": 8})  # a column that the first has not
    again = bench.Rows(path, {"gpu": "another"}, time.monotonic() + 60)
    again.measure("one", lambda: pytest.fail("measured twice"))
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"case": "one", "speed": "1", "gpu": "a device", "batch": ""},
            {"case": "two", "speed": "2", "gpu": "a device", "batch": "8"},
        ]
    late = bench.Rows(path, facts, time.monotonic() - 1)
    late.measure("two", lambda: pytest.fail("measured twice"))
    with pytest.raises(bench.Over):
        late.measure("three", lambda: pytest.fail("begun after the deadline"))


def test_a_case_that_would_pass_the_deadline_is_not_begun(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(bench, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def lasting(seconds: float) -> dict[str, float]:
        now[0] += seconds
        return {"seconds": seconds}

    rows = bench.Rows(tmp_path / "rows.csv", {}, deadline=100.0)
    rows.measure("long", lambda: lasting(40))
    rows.measure("short", lambda: lasting(15))
    rows.measure("shorter", lambda: lasting(10))
    with pytest.raises(bench.Over):
        rows.measure("too long", lambda: pytest.fail("begun 35 s before the deadline, and one has taken 40"))
    assert list(rows.known) == ["long", "short", "shorter"]


def test_what_a_stage_out_of_time_left_of_a_case_is_begun_anew(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the time between the two runs would count as training."""
    left = write_study(tmp_path, "packing-2-workers", rows(3), options={}, trials=16).path

    def run(*_: object) -> str:
        assert not left.exists()
        raise bench.Over

    monkeypatch.setattr(bench, "run", run)
    asked = SimpleNamespace(studies_dir=tmp_path, rehearse=False, dataset="cifar10")
    with pytest.raises(bench.Over):
        bench.packed(asked, None, "2 workers", 2)


def test_a_training_is_broken_off_at_the_deadline(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(bench.time, "monotonic", lambda: now[0])
    rows = bench.Rows(tmp_path / "rows.csv", {}, deadline=2.5)

    def epochs(number: int) -> Iterator[int]:
        for epoch in range(1, number + 1):
            now[0] += 1
            yield epoch

    assert rows.in_time(epochs(2)) == [1, 2]
    with pytest.raises(bench.Over):
        rows.in_time(epochs(2))


def test_hours_of_a_search_leave_out_what_lies_between_its_runs(bench: ModuleType) -> None:
    def trained(ended: int, seconds: float) -> SimpleNamespace:
        return SimpleNamespace(finished_at=datetime.fromtimestamp(ended, UTC), seconds=seconds)

    # two at the same time, then one set aside and taken up again a day later: 10 s of its 15 s are on the second day
    assert bench.union([trained(100, 60), trained(120, 60), trained(86_400, 15)]) == 80 + 15


def test_spans_that_overlap_count_once(bench: ModuleType) -> None:
    assert bench.covered([]) == 0
    assert bench.covered([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4


def test_an_epoch_is_accounted_for(bench: ModuleType) -> None:
    events = [
        ("conv", 0.0, 40.0, "DeviceType.CUDA"),
        ("relu", 30.0, 50.0, "DeviceType.CUDA"),  # beside the first
        ("sgemm", 90.0, 100.0, "DeviceType.CUDA"),
        ("Memcpy HtoD (Pageable -> Device)", 50.0, 90.0, "DeviceType.CUDA"),  # no kernel runs meanwhile
        ("Memcpy DtoH (Device -> Pageable)", 100.0, 101.0, "DeviceType.CUDA"),
        ("Memset (Device)", 0.0, 1.0, "DeviceType.CUDA"),
        ("cudaStreamSynchronize", 100.0, 140.0, "DeviceType.CPU"),
        ("cudaDeviceSynchronize", 140.0, 141.0, "DeviceType.CPU"),
        ("aten::conv2d", 0.0, 200.0, "DeviceType.CPU"),
    ]
    assert bench.account(events, steps=2) == {
        "steps": 2,
        "kernels": 3,
        "idle": 0.4,
        "host_to_device": 1,
        "device_to_host": 1,
        "device_to_device": 0,
        "waits": 2,
        "waits_by_name": "cudaDeviceSynchronize 1, cudaStreamSynchronize 1",
    }


def test_trials_an_hour_are_those_of_the_time_in_which_all_train(bench: ModuleType) -> None:
    # two workers, 10 s a trial, the second one 5 s later; the last trial runs alone at its end
    done = [(0, 10), (5, 15), (10, 20), (15, 25), (20, 30), (25, 35)]
    found = bench.throughput(done)
    assert found == {"trials_per_hour": 3600 * 3 / 15, "median_trial_s": 10}


@pytest.mark.gpu
@needs_gpu
def test_captured_steps_train_as_eager_ones(bench: ModuleType) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 3})
    eager, captured = (
        [reading.train_loss for reading in kind(network(), dataset(410), recipe, seed=5, device="cuda").fit()]
        for kind in (Training, bench.Captured)
    )
    assert captured == pytest.approx(eager, rel=bench.TOLERANCE)


@pytest.mark.gpu
@needs_gpu
def test_a_device_that_another_process_fills_fails_the_trial_alone() -> None:
    free, _ = torch.cuda.mem_get_info()
    size = f"{int(free * 0.995)}, dtype=torch.uint8, device='cuda'"
    holder = f"import torch; held = torch.empty({size}); print(1, flush=True); input()"
    held = subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert held.stdout is not None
        assert held.stdout.readline().strip() == b"1"
        try:
            said = f"{len(list(Training(network(), dataset(), RECIPE, seed=5, device='cuda').fit()))} epochs"
        except TrialFailed as failure:
            said = failure.reason
        assert said == f"{RECIPE.epochs} epochs" or "out of memory" in said
    finally:
        held.kill()
        held.wait()
    after = Training(network(), dataset(), RECIPE, seed=5, device="cuda")
    assert len(list(after.fit())) == RECIPE.epochs
