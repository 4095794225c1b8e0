"""Which GPU each worker gets, its environment, and how many workers share one; on made-up lists of devices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from nas.baselines.memory import kept_numbers as kept_by_torch
from nas.cli import main
from nas.errors import DeviceError, StudyError
from nas.models import build
from nas.search import gpus, machine
from nas.search import launch as launching
from nas.search.gpus import fitting, kept_numbers, least_memory_mb, placed, training_mb, with_workers
from nas.search.options import SearchOptions
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


def test_auto_is_by_memory_and_at_most_eight(tiny: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    def there(megabytes: int | None) -> None:
        monkeypatch.setattr(gpus, "least_memory_mb", lambda: megabytes)

    need = training_mb(tiny.decode([1.0, *(0.5 for _ in tiny.coordinates[1:])]), tiny.recipe.batch)
    assert gpus.PROCESS_MB < need < 2 * gpus.PROCESS_MB
    there(int(need * 3.5 / gpus.FOR_NETWORKS))
    assert fitting(tiny, ["0", "1"]) == 3
    there(80_000)
    assert fitting(tiny, ["0"]) == 8
    there(500)
    assert fitting(tiny, ["0"]) == 1
    there(None)
    assert fitting(tiny, ["0"]) == 1
    there(80_000)
    assert fitting(tiny, ["MIG-1"]) == 1  # nvidia-smi says the memory of the whole


def test_what_auto_came_to_is_said(tiny: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gpus", lambda: ("0", "1"))
    for megabytes, line in (
        (80_000, "--workers-per-gpu auto: 8 on each GPU, by the memory of each, so 16 here."),
        (None, "--workers-per-gpu auto: 1 on each GPU, since nvidia-smi does not tell its memory, so 2 here."),
    ):
        monkeypatch.setattr(gpus, "least_memory_mb", lambda known=megabytes: known)
        assert gpus.auto_words(with_workers(SearchOptions(device="cuda"), tiny, None, "auto")) == line


def test_a_larger_network_takes_more() -> None:
    small, large = (load_space(name) for name in ("cifar10", "imagenet"))
    needs = [
        training_mb(space.decode([1.0, *(0.5 for _ in space.coordinates[1:])]), space.recipe.batch)
        for space in (small, large)
    ]
    assert needs[0] < needs[1]


@pytest.mark.parametrize(
    ("says", "megabytes"), [("81559\n143771\n", 81559), ("[N/A]\n", None), ("", None), ("boom", None)]
)
def test_the_memory_is_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, megabytes: int | None
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint({says!r}, end='')\n")
    program.chmod(0o755)
    monkeypatch.setattr(gpus.shutil, "which", lambda name: str(program))
    assert least_memory_mb() == megabytes
    program.write_text(f"#!{sys.executable}\nraise SystemExit(9)\n")
    assert least_memory_mb() is None


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
