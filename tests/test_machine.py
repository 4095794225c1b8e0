"""How many workers and threads a search takes where its user names none."""

from pathlib import Path

import pytest
import torch

from nas.search import machine
from nas.search.hardware import worker_device
from nas.search.machine import threads, usual_workers

SMALL, PHOTOGRAPH = (1, 8, 8), (3, 224, 224)


@pytest.fixture(autouse=True)
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /dev, and six cores."""
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / Path(path).relative_to("/dev"))
    monkeypatch.setattr(machine, "cores", lambda: 6)
    return tmp_path


def test_the_cpu_gets_a_worker_a_core_up_to_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usual_workers(SMALL, "auto") == usual_workers((3, 96, 96), "cpu") == 6
    monkeypatch.setattr(machine, "cores", lambda: 64)
    assert usual_workers(SMALL, "cpu") == 8


def test_large_images_are_trained_by_one_worker_with_all_threads() -> None:
    assert usual_workers(PHOTOGRAPH, "cpu") == 1
    assert threads(PHOTOGRAPH, 1) == 6


def test_gpus_get_a_worker_each_unless_the_cpu_is_asked_for(devices: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (devices / name).touch()
    assert usual_workers(SMALL, "auto") == usual_workers(PHOTOGRAPH, "cuda") == 2
    assert usual_workers(SMALL, "cuda:1") == 1
    assert usual_workers(SMALL, "cpu") == 6


def test_a_gpu_that_shows_no_device_file_gets_one_worker(devices: Path) -> None:
    assert usual_workers(SMALL, "cuda") == 1
    (devices / "dxg").touch()
    assert usual_workers(SMALL, "auto") == 1


def test_the_cores_are_divided_and_small_images_take_one_thread() -> None:
    assert [threads((3, 32, 32), workers) for workers in (1, 2, 4, 6, 40)] == [6, 3, 1, 1, 1]
    assert threads(SMALL, 1) == 1


def test_workers_that_see_all_gpus_go_round_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a machine without device files; where there are some, each worker sees its own alone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(worker_device("cuda", number)) for number in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [str(worker_device("auto", number)) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [str(worker_device("cuda:1", number)) for number in range(3)] == ["cuda:1"] * 3
    assert str(worker_device("cpu", 1)) == "cpu"
