"""Which GPU each worker gets, its environment, and how many workers share one; on made-up lists of devices."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nas.baselines.memory import kept_numbers as kept_by_torch
from nas.cli import main
from nas.errors import DeviceError, StudyError
from nas.models import build
from nas.search import gpus, machine, packing
from nas.search import launch as launching
from nas.search.gpus import Gpu, fitting, kept_numbers, listed, placed, training_mb, weakest, with_workers
from nas.search.options import SearchOptions
from nas.search.packing import PackingError
from nas.search.processes import Processes
from nas.space import Space, load_space
from nas.training import Prebuilt
from tests.fake_study import rows, write_study

SEES = "CUDA_VISIBLE_DEVICES"


@pytest.fixture(autouse=True)
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /dev, six cores, no nvidia-smi, and nothing said by the environment."""
    made = tmp_path / "dev"
    made.mkdir()
    monkeypatch.setattr(machine, "Path", lambda path: made / Path(path).relative_to("/dev"))
    monkeypatch.setattr(machine, "cores", lambda: 6)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv(SEES, raising=False)
    return made


@pytest.fixture
def four(devices: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (devices / name).touch()


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("0,2", ("0", "2")),
        ("3", ("3",)),
        (" GPU-8f1b, MIG-1a ", ("GPU-8f1b", "MIG-1a")),
        ("", ()),
        ("-1", ()),
        ("1,-1,2", ("1",)),  # as CUDA reads it
        ("NoDevFiles", ("NoDevFiles",)),
    ],
)
@pytest.mark.usefixtures("four")
def test_the_environment_says_which_gpus_there_are(
    monkeypatch: pytest.MonkeyPatch, said: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv(SEES, said)
    assert machine.gpus() == names


def test_device_files_are_counted_where_it_says_nothing(devices: Path) -> None:
    assert machine.gpus() == ()
    (devices / "nvidia3").touch()  # the one GPU of a container is CUDA's first, whatever its file is called
    (devices / "nvidiactl").touch()
    assert machine.gpus() == ("0",)


@pytest.mark.usefixtures("four")
def test_workers_go_round_the_gpus_and_see_one_each() -> None:
    assert [placed("auto", number) for number in range(5)] == [
        ("auto", {SEES: "0"}),
        ("auto", {SEES: "1"}),
        ("auto", {SEES: "2"}),
        ("auto", {SEES: "3"}),
        ("auto", {SEES: "0"}),
    ]
    assert placed("cuda", 6) == ("cuda", {SEES: "2"})


@pytest.mark.usefixtures("four")
def test_one_named_gpu_gets_all_workers_and_is_their_first() -> None:
    assert [placed("cuda:2", number) for number in range(3)] == [("cuda", {SEES: "2"})] * 3


def test_a_named_gpu_counts_among_those_that_the_environment_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEES, "GPU-a,GPU-b")
    assert placed("cuda:1", 0) == ("cuda", {SEES: "GPU-b"})
    with pytest.raises(
        DeviceError, match=r"device .cuda:2. is not there: this machine shows 2 GPUs, .* cuda:1 or cuda"
    ):
        placed("cuda:2", 0)


@pytest.mark.usefixtures("four")
def test_the_cpu_is_left_as_it_is() -> None:
    assert placed("cpu", 3) == ("cpu", {})


def test_a_gpu_that_shows_no_device_file_is_left_to_torch() -> None:
    assert placed("cuda:1", 0) == ("cuda:1", {})
    assert placed("auto", 1) == ("auto", {})


@pytest.fixture
def tiny() -> Space:
    return load_space("tiny")


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("device", "workers", "per_gpu", "wanted"),
    [
        ("auto", None, None, (4, 1)),
        ("auto", 6, None, (6, 2)),
        ("auto", None, "3", (12, 3)),
        ("cuda:1", None, None, (1, 1)),
        ("cuda:1", 5, None, (5, 5)),
        ("cuda:1", None, "3", (3, 3)),
        ("auto", None, "auto", (4, 1)),  # its memory is not known
        ("cpu", None, None, (6, None)),
        ("cpu", 3, None, (3, None)),
    ],
)
def test_how_many_workers(
    tiny: Space, device: str, workers: int | None, per_gpu: str | None, wanted: tuple[int, int | None]
) -> None:
    made = with_workers(SearchOptions(device=device), tiny, workers, per_gpu)
    assert (made.workers, made.workers_per_gpu) == wanted


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("device", "workers", "per_gpu", "message"),
    [
        ("auto", 4, "2", "--workers 4 and --workers-per-gpu 2 both say how many workers there are: give one of them"),
        ("auto", None, "0", "--workers-per-gpu '0': it must be a whole number of at least 1, or auto"),
        ("auto", None, "-1", "--workers-per-gpu '-1': it must be"),
        ("auto", None, "two", "--workers-per-gpu 'two': it must be"),
        ("auto", None, "1.5", "--workers-per-gpu '1.5': it must be"),
        ("cpu", None, "2", "--workers-per-gpu 2: it is for GPUs, and --device cpu takes none; give --workers"),
        ("cuda:4", None, "2", "device 'cuda:4' is not there: this machine shows 4 GPUs"),
        ("cuda:4", 2, None, "device 'cuda:4' is not there: this machine shows 4 GPUs"),
    ],
)
def test_what_cannot_be(tiny: Space, device: str, workers: int | None, per_gpu: str | None, message: str) -> None:
    with pytest.raises((StudyError, DeviceError)) as error:
        with_workers(SearchOptions(device=device), tiny, workers, per_gpu)
    assert message in str(error.value)


def test_without_a_gpu_there_is_none_to_share(tiny: Space) -> None:
    with pytest.raises(StudyError, match="it is for GPUs, and none is seen on this machine; give --workers"):
        with_workers(SearchOptions(), tiny, None, "auto")
    assert with_workers(SearchOptions(), tiny, None, None).workers == 6


@pytest.mark.parametrize("name", ["tiny", "digits", "cifar10", "imagenet"])
def test_what_a_training_keeps_is_no_less_than_torch_counts(name: str) -> None:
    space = load_space(name)
    network = space.decode([1.0, *(0.5 for _ in space.coordinates[1:])])
    built = Prebuilt(network.key, network.input_shape, network.classes, lambda: build(network))
    assert kept_by_torch(built) <= kept_numbers(network) <= 3 * kept_by_torch(built)


def test_memory_holds_so_many_and_at_most_eight_are_tried(tiny: Space) -> None:
    need = training_mb(tiny.decode([1.0, *(0.5 for _ in tiny.coordinates[1:])]), tiny.recipe.batch)
    assert gpus.PROCESS_MB < need < 2 * gpus.PROCESS_MB
    assert fitting(tiny, int(need * 3.5 / gpus.FOR_NETWORKS)) == 3
    assert fitting(tiny, 80_000) == 8
    assert fitting(tiny, 500) == 1


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked of the measurement, which says that four workers pay, and eight less."""
    asked: list[dict[str, Any]] = []

    def together(options: SearchOptions, number: int, **rest: Any) -> float:
        asked.append({"number": number, "device": options.device} | rest)
        return {1: 21_000.0, 2: 34_000.0, 4: 47_000.0, 8: 48_000.0}[number]

    monkeypatch.setattr(gpus, "together", together)
    return asked


def there(monkeypatch: pytest.MonkeyPatch, *found: Gpu) -> None:
    monkeypatch.setattr(gpus, "listed", lambda: list(found))


LARGE, SMALL = Gpu(80_000, "GPU-8f1b-22", "NVIDIA L"), Gpu(7_000, "GPU-1a33-07", "NVIDIA S")


@pytest.mark.usefixtures("four")
def test_auto_is_by_memory_and_by_what_is_measured(
    tiny: Space, measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, *4 * [LARGE])
    said: list[str] = []
    made = with_workers(SearchOptions(device="auto"), tiny, None, "auto", said.append)
    assert (made.workers, made.workers_per_gpu, made.device) == (16, 4, "auto")
    assert said == [
        "--workers-per-gpu auto: measuring how many workers on a GPU get the most done, up to 8.",
        "--workers-per-gpu auto: 4 on each GPU, so 16 here (1: 21,000 images/s, 2: 34,000, 4: 47,000, 8: 48,000; "
        "memory holds 8 or more).",
    ]
    # as `launch` starts workers: those of `tiny` have one thread
    wanted = {"device": "auto", "threads": 1, "environment": {SEES: "0"}, "gpus": 4}
    assert measured == [{"number": number} | wanted for number in (1, 2, 4, 8)]


def test_the_threads_are_those_of_the_workers_of_all_gpus(
    devices: Path, measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six cores, and two GPUs: 2, 4, 8 and 16 workers in all. Of a named GPU: 1, 2, 4 and 8."""
    for name in ("nvidia0", "nvidia1"):
        (devices / name).touch()
    there(monkeypatch, LARGE, LARGE)
    large = load_space("cifar10")
    with_workers(SearchOptions(device="cuda"), large, None, "auto")
    assert [one["threads"] for one in measured] == [3, 1, 1, 1]
    measured.clear()
    with_workers(SearchOptions(device="cuda:1"), large, None, "auto")
    assert [one["threads"] for one in measured] == [6, 3, 1, 1]
    assert all((one["device"], one["environment"], one["gpus"]) == ("cuda", {SEES: "1"}, 1) for one in measured)


def test_auto_never_exceeds_what_memory_holds(
    tiny: Space, measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "gpus", lambda: ("0", "1"))
    there(monkeypatch, LARGE, SMALL)
    said: list[str] = []
    most = fitting(tiny, SMALL.memory_mb)
    assert 2 < most < 8
    made = with_workers(SearchOptions(device="cuda"), tiny, None, "auto", said.append)
    assert made.workers_per_gpu == 4 <= most
    assert said[-1] == (
        "--workers-per-gpu auto: 4 on each GPU, so 8 here (1: 21,000 images/s, 2: 34,000, 4: 47,000; memory holds "
        f"{most}; the GPUs differ, measured on NVIDIA S, which has the least memory)."
    )
    assert {one["environment"][SEES] for one in measured} == {SMALL.uuid}


def test_where_memory_holds_one_or_is_not_known_nothing_is_measured(
    tiny: Space, measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "gpus", lambda: ("0", "1"))
    for found, why in (
        ([Gpu(2_000, "GPU-a", "NVIDIA S")] * 2, "since its memory holds no second"),
        ([], "since nvidia-smi does not tell its memory"),
    ):
        there(monkeypatch, *found)
        said: list[str] = []
        assert with_workers(SearchOptions(device="cuda"), tiny, None, "auto", said.append).workers == 2
        assert said == [f"--workers-per-gpu auto: 1 on each GPU, {why}, so 2 here."]
    assert not measured


def test_where_not_even_one_is_measured_one_is_taken(tiny: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> float:
        raise PackingError("out of memory: CUDA out of memory")

    monkeypatch.setattr(gpus, "together", fails)
    monkeypatch.setattr(gpus, "gpus", lambda: ("0",))
    there(monkeypatch, LARGE)
    said: list[str] = []
    assert with_workers(SearchOptions(device="cuda"), tiny, None, "auto", said.append).workers == 1
    assert said[-1] == (
        "--workers-per-gpu auto: 1 on each GPU, so 1 here (not even one could be measured: 1: out of memory: CUDA out "
        "of memory; memory holds 8 or more)."
    )


def test_real_processes_are_measured(tiny: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """All the way, on a GPU made up: where torch sees none, a worker that is told ``auto`` trains on the CPU."""
    monkeypatch.setattr(gpus, "gpus", lambda: ("no such GPU",))
    monkeypatch.setattr(gpus, "together", partial(packing.together, seconds=0.05, deadline_s=3600.0))
    there(monkeypatch, Gpu(3_000, "GPU-a", "NVIDIA S"))
    assert fitting(tiny, 3_000) == 2
    said: list[str] = []
    made = with_workers(SearchOptions(space="tiny", device="auto"), tiny, None, "auto", said.append)
    assert re.fullmatch(
        rf"--workers-per-gpu auto: {made.workers} on each GPU, so {made.workers} here "
        r"\(1: [1-9][\d,]* images/s, 2: [1-9][\d,]*; memory holds 2\)\.",
        said[-1],
    )


@pytest.mark.parametrize(
    ("used", "found", "wanted"),
    [
        (("0", "1"), (LARGE, LARGE), ("0", 80_000, "")),
        (("1",), (LARGE, LARGE), ("1", 80_000, "")),
        (("1",), (LARGE, SMALL), ("1", 7_000, "")),  # CUDA counts in another order: it may be either
        (
            ("0", "1"),
            (LARGE, SMALL),
            (SMALL.uuid, 7_000, "; the GPUs differ, measured on NVIDIA S, which has the least"),
        ),
        (("0", "2"), (LARGE, LARGE, SMALL), ("0", 7_000, "; the GPUs differ, measured on the first")),
        (("GPU-8f1b",), (LARGE, SMALL), ("GPU-8f1b", 80_000, "")),
        (("GPU-8f1b", "GPU-1a33"), (LARGE, SMALL), (SMALL.uuid, 7_000, "; the GPUs differ, measured on NVIDIA S")),
        (("MIG-8f1b",), (LARGE,), ("MIG-8f1b", None, "")),  # nvidia-smi says the memory of the whole
        (("0",), (), ("0", None, "")),
    ],
)
def test_it_is_measured_on_the_weakest(
    used: tuple[str, ...], found: tuple[Gpu, ...], wanted: tuple[str, int | None, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, *found)
    name, memory_mb, words = weakest(used)
    assert (name, memory_mb) == wanted[:2]
    assert words.startswith(wanted[2])
    assert bool(words) == bool(wanted[2])


def test_a_larger_network_takes_more() -> None:
    small, large = (load_space(name) for name in ("cifar10", "imagenet"))
    needs = [
        training_mb(space.decode([1.0, *(0.5 for _ in space.coordinates[1:])]), space.recipe.batch)
        for space in (small, large)
    ]
    assert needs[0] < needs[1]


@pytest.mark.parametrize(
    ("says", "found"),
    [
        ("80000, GPU-8f1b-22, NVIDIA L\n7000, GPU-1a33-07, NVIDIA S\n", [LARGE, SMALL]),
        ("[N/A], GPU-8f1b-22, NVIDIA L\n", []),
        ("", []),
        ("boom", []),
    ],
)
def test_a_gpu_is_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, found: list[Gpu]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint({says!r}, end='')\n")
    program.chmod(0o755)
    monkeypatch.setattr(gpus.shutil, "which", lambda name: str(program))
    assert listed() == found
    program.write_text(f"#!{sys.executable}\nraise SystemExit(9)\n")
    assert listed() == []


@pytest.mark.usefixtures("four")
def test_the_launcher_hands_each_worker_its_gpu_and_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the process itself: what it is started with."""
    started: list[tuple[dict[str, Any], dict[str, str]]] = []

    class Seen(Processes):
        def start(self, number: int, order: Any, environment: Any = None) -> None:
            started.append((order["options"], {**self._environment, **(environment or {})}))

        def say(self, number: int, line: str) -> None:
            pass

    monkeypatch.setattr(launching, "Processes", Seen)
    options = SearchOptions(space="cifar10", device="auto", workers=6, workers_per_gpu=2)
    assert launching.launch(options) == 0
    assert [environment[SEES] for _, environment in started] == ["0", "1", "2", "3", "0", "1"]
    assert {environment["OMP_NUM_THREADS"] for _, environment in started} == {"1"}
    assert {given["device"] for given, _ in started} == {"auto"}
    started.clear()
    assert launching.launch(SearchOptions(space="cifar10", device="cuda:3", workers=2)) == 0
    assert [(given["device"], environment[SEES]) for given, environment in started] == [("cuda", "3")] * 2
    assert {environment["OMP_NUM_THREADS"] for _, environment in started} == {"3"}
    started.clear()
    assert launching.launch(SearchOptions(space="cifar10", device="cpu", workers=1)) == 0
    assert [SEES in environment for _, environment in started] == [False]


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("command", ["search", "worker"])
def test_both_commands_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    seen: list[SearchOptions] = []
    monkeypatch.setattr(launching, "launch", lambda options, ray=None: seen.append(options) or 130)
    write_study(tmp_path, "fake", rows(3), options={}, trials=9, space="tiny", space_toml=load_space("tiny").toml)
    words = [command, "fake"] if command == "worker" else [command, "--space", "tiny"]
    assert main([*words, "--studies-dir", str(tmp_path), "--workers-per-gpu", "2"]) == 130
    assert (seen[0].workers, seen[0].workers_per_gpu) == (8, 2)
    assert main([*words, "--studies-dir", str(tmp_path), "--workers-per-gpu", "2", "--workers", "3"]) == 1
    said = capsys.readouterr().err
    assert "--workers 3 and --workers-per-gpu 2 both say" in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("command", ["search", "worker"])
def test_both_commands_measure_say_it_and_can_be_interrupted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    measured: list[dict[str, Any]],
    command: str,
) -> None:
    seen: list[SearchOptions] = []
    monkeypatch.setattr(launching, "launch", lambda options, ray=None: seen.append(options) or 130)
    there(monkeypatch, *4 * [LARGE])
    write_study(tmp_path, "fake", rows(3), options={}, trials=9, space="tiny", space_toml=load_space("tiny").toml)
    words = [command, "fake"] if command == "worker" else [command, "--space", "tiny"]
    words += ["--studies-dir", str(tmp_path), "--workers-per-gpu", "auto"]
    assert main(words) == 130
    assert (seen[0].workers, seen[0].workers_per_gpu) == (16, 4)
    assert "auto: 4 on each GPU, so 16 here (1: 21,000 images/s, 2: 34,000" in capsys.readouterr().err

    def interrupted(*_: object, **__: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpus, "together", interrupted)
    assert main(words) == 130
    assert len(seen) == 1


@pytest.mark.usefixtures("four")
def test_nothing_is_measured_for_a_study_that_has_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], measured: list[dict[str, Any]]
) -> None:
    there(monkeypatch, *4 * [LARGE])
    write_study(tmp_path, "fake", rows(3), options={}, trials=1, space="tiny", space_toml=load_space("tiny").toml)
    assert main(["worker", "fake", "--studies-dir", str(tmp_path), "--workers-per-gpu", "auto"]) == 0
    assert "Study fake has all its 1 trials." in capsys.readouterr().err
    assert not measured
