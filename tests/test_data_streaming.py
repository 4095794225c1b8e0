"""Folders larger than their share of memory: the same as in memory, bit for bit, with none of their pixels held."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nas.data import Dataset, Part, folder, load_dataset, load_test
from nas.data.files import Files
from nas.data.streaming import MEMORY_SHARE, Loader, Streamed, memory, room
from nas.errors import DataError, TrialFailed
from nas.recipe import Recipe
from nas.training import Training
from tests.pictures import picture, pictures
from tests.training_inputs import CLASSES, RECIPE, network

SHAPE = (3, 9, 12)
PLENTY = 10**12


class Loads:
    """`load_dataset` of one folder, whose decoding processes end with the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[Dataset] = []

    def __call__(self, room: int = 0, **options: Any) -> Dataset:
        shape = options.pop("input_shape", SHAPE)
        self.made.append(load_dataset(f"folder:{self.root}", input_shape=shape, room=room, **options))
        return self.made[-1]

    def close(self) -> None:
        for data in self.made:
            data.close()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Loads]:
    loads = Loads(pictures(tmp_path / "photos", {"cat": 14, "dog": 11}))
    yield loads
    loads.close()
    assert multiprocessing.active_children() == []


def read(part: Part) -> list[tuple[Tensor, Tensor]]:
    """All of a part in an order that is not its own, in groups of one, one, and the rest."""
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(7))
    return list(part.batches(order.split([1, 1, len(part) - 2])))


def same(one: Part, other: Part) -> bool:
    """Equal in what they give, one batch after the other."""
    pairs = list(zip(read(one), read(other), strict=True))
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


def numbers(data: Dataset) -> tuple[object, ...]:
    return (data.name, data.classes, data.test_size, data.mean, data.std, data.digest, data.split_digest, data.skipped)


# --- the same as in memory -------------------------------------------------------------------------------------------


def duplicates(root: Path) -> None:
    shutil.copy(root / "cat" / "000.png", root / "cat" / "again.png")
    shutil.copy(root / "cat" / "001.png", root / "dog" / "too.png")


def sides(root: Path) -> None:
    for name in ("cat", "dog"):
        (root / "train").mkdir(exist_ok=True)
        (root / name).rename(root / "train" / name)
    pictures(root / "test", {"cat": 3, "dog": 2}, start=500)
    shutil.copy(root / "train" / "cat" / "000.png", root / "test" / "cat" / "leak.png")


def odd(root: Path) -> None:
    Image.new("RGBA", (40, 20), (10, 200, 30, 100)).save(root / "cat" / "clear.png")
    Image.new("L", (5, 31), 77).save(root / "dog" / "grey.png")


@pytest.mark.parametrize("change", [lambda root: None, duplicates, sides, odd])
@pytest.mark.parametrize("options", [{}, {"input_shape": (1, 4, 4), "split_seed": 3, "train_limit": 7}])
def test_streamed_and_in_memory_are_equal(load: Loads, change: Callable[[Path], None], options: dict[str, Any]) -> None:
    change(load.root)
    held, streamed = load(PLENTY, **options), load(0, **options)
    assert isinstance(held.train.images, Tensor)
    assert isinstance(streamed.train.images, Streamed)
    assert held.streamed is None
    assert numbers(streamed) == numbers(held)
    assert streamed.train.images.shape == held.train.images.shape
    for one, other in ((streamed.train, held.train), (streamed.validation, held.validation)):
        assert same(one, other)
        ((images, _),) = one.batches([torch.arange(2)])
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_test_images_are_the_same_and_no_part_of_a_search(load: Loads) -> None:
    held, sealed = (load_test(f"folder:{load.root}", input_shape=SHAPE, room=size) for size in (PLENTY, 0))
    assert isinstance(sealed.images, Streamed)
    assert same(sealed, held)
    data = load()
    assert data.streamed is not None
    assert isinstance(data.validation.images, Streamed)
    tests = set(sealed.images.loader.files.paths[sealed.images.rows].tolist())
    read_in_search = np.concatenate([part.images.rows for part in (data.train, data.validation)])  # type: ignore[union-attr]
    assert tests.isdisjoint(data.streamed.files.paths[read_in_search].tolist())
    sealed.images.loader.close()


def test_a_folder_that_just_fits_is_held(load: Loads) -> None:
    need = 25 * 3 * 9 * 12
    assert load(need).streamed is None
    assert load(need - 1).streamed is not None


def test_without_a_room_it_is_a_share_of_this_machines_memory(load: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    need = 25 * 3 * 9 * 12
    for there, streamed in ((int(need / MEMORY_SHARE), False), (int(need / MEMORY_SHARE) - 4, True)):
        monkeypatch.setattr("nas.data.streaming.memory", lambda there=there: there)
        assert (load_dataset(f"folder:{load.root}", input_shape=SHAPE).streamed is not None) == streamed


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures of 8x8 whose class can be learned."""
    root = tmp_path_factory.mktemp("bars")
    draws = np.random.default_rng(0)
    for label in range(CLASSES):
        (root / "abcd"[label]).mkdir()
        for number in range(40):
            image = draws.integers(0, 120, (8, 8), np.uint8)
            image[:, 2 * label : 2 * label + 2] += 130
            Image.fromarray(image).save(root / "abcd"[label] / f"{number}.png")
    return root


def trained(data: Dataset, recipe: Recipe = RECIPE) -> tuple[list[tuple[float, float]], dict[str, Tensor]]:
    training = Training(network(dropout=0.3), data, recipe, seed=5, device="cpu")
    curve = [(result.val_accuracy, result.train_loss) for result in training.fit()]
    return curve, training.averaged_state()


MORE_THAN_CORES = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@MORE_THAN_CORES
@pytest.mark.parametrize("processes", [1, 3])
def test_a_streamed_training_is_the_one_in_memory_bit_for_bit(
    bars: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Loads(bars)
    held = trained(load(PLENTY, input_shape=(1, 8, 8)))
    data = load(0, input_shape=(1, 8, 8))
    assert data.streamed is not None
    monkeypatch.setattr(data.streamed, "_processes", processes)
    streamed = trained(data)
    assert len(multiprocessing.active_children()) == processes  # it did stream
    load.close()
    assert streamed[0] == held[0]
    assert held[0][-1][0] > 0.5  # it learned, so the images were not all alike
    assert all(torch.equal(held[1][name], value) for name, value in streamed[1].items())


def test_reading_leaves_torchs_own_random_state_alone(load: Loads) -> None:
    before = torch.get_rng_state()
    read(load().train)
    assert torch.equal(torch.get_rng_state(), before)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_no_more_than_a_few_images_are_held(tmp_path: Path) -> None:
    root, shape = pictures(tmp_path / "photos", {"cat": 60, "dog": 60}), (3, 64, 64)
    need, peaks = 120 * 3 * 64 * 64, []
    for size in (PLENTY, 0):
        tracemalloc.start()
        data = load_dataset(f"folder:{root}", input_shape=shape, room=size)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    held, streamed = peaks
    assert held > need  # the measurement sees pixels
    assert streamed < need / 4
    assert data.streamed is not None
    arrays = [getattr(data.streamed.files, name) for name in Files.__slots__[1:]]
    assert sum(array.nbytes for array in arrays) < need / 20


def test_batches_are_decoded_only_a_little_ahead(load: Loads) -> None:
    """Files that vanish behind the batches ahead are not missed before their turn."""
    data = load()
    batches = data.train.batches(torch.arange(len(data.train)).split(1))
    next(batches)
    for path in load.root.rglob("*.png"):
        path.unlink()
    given: list[object] = []
    with pytest.raises(DataError, match="No such file"):
        given.extend(batches)
    assert len(given) <= 3


# --- broken, changed and vanished files ------------------------------------------------------------------------------


def test_broken_images_are_named_or_counted_as_in_memory(load: Loads) -> None:
    (load.root / "dog" / "torn.png").write_bytes((load.root / "dog" / "000.png").read_bytes()[:60])
    (load.root / "cat" / "gone.png").symlink_to("nowhere.png")
    said = []
    for size in (PLENTY, 0):
        with pytest.raises(DataError, match=r"2 of 27 images cannot be read, first .*gone\.png") as error:
            load(size)
        said.append(str(error.value))
    assert said[0] == said[1]
    held, streamed = load(PLENTY, skip_broken=True), load(0, skip_broken=True)
    assert streamed.skipped == 2
    assert numbers(streamed) == numbers(held)
    assert same(streamed.train, held.train)


def rewritten(path: Path) -> None:
    picture(path, seed=900)
    os.utime(path, ns=(1, 1))


def torn(path: Path) -> None:
    status = path.stat()
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes(len(data) - 60))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("harm", "said"),
    [(Path.unlink, "No such file"), (rewritten, "it was written since"), (torn, r"broken|truncated|identify")],
)
def test_a_file_that_changes_meanwhile_is_one_line(load: Loads, harm: Callable[[Path], None], said: str) -> None:
    data = load()
    assert isinstance(data.train.images, Streamed)
    read(data.train)
    path = Path(os.fsdecode(data.train.images.loader.files.paths[data.train.images.rows[4]]))
    harm(path)
    with pytest.raises(DataError, match=said) as error:
        read(data.train)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(list(data.validation.batches([torch.arange(2)]))) == 1  # the others can still be read


def test_a_training_over_a_file_that_vanishes_ends_with_that_line(bars: Path, tmp_path: Path) -> None:
    load = Loads(tmp_path / "bars")
    shutil.copytree(bars, load.root)
    training = Training(network(), load(0, input_shape=(1, 8, 8)), RECIPE, seed=5, device="cpu")
    epochs = training.fit()
    assert next(epochs).epoch == 1
    shutil.rmtree(load.root / "b")
    with pytest.raises(DataError, match="is no longer what it was"):
        next(epochs)
    load.close()


# --- processes -------------------------------------------------------------------------------------------------------


def test_a_decoding_process_that_is_killed_fails_one_pass(load: Loads) -> None:
    data = load()
    list(data.train.batches([torch.arange(2)]))
    (child,) = multiprocessing.active_children()
    os.kill(child.pid or 0, signal.SIGKILL)
    with pytest.raises(TrialFailed, match="a process that decodes images was killed") as failure:
        read(data.train)
    assert not failure.value.deterministic
    assert same(data.train, load(PLENTY).train)


def test_an_interrupt_in_mid_epoch_leaves_no_process_behind(bars: Path) -> None:
    calls = 0

    def interrupt() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    load = Loads(bars)
    data = load(0, input_shape=(1, 8, 8))
    with pytest.raises(KeyboardInterrupt):
        list(Training(network(), data, RECIPE, seed=5, device="cpu", interrupt=interrupt).fit())
    children = multiprocessing.active_children()
    assert children  # they wait for the next trial
    data.close()
    assert multiprocessing.active_children() == []
    assert not any(child.is_alive() for child in children)


def test_a_pass_may_be_left_early_and_cannot_be_taken_up_again(load: Loads) -> None:
    data = load()
    left = data.train.batches(torch.arange(len(data.train)).split(2))
    first, _ = next(left)
    assert same(data.validation, load(PLENTY).validation)
    with pytest.raises(RuntimeError, match="another pass"):
        next(left)
    again, _ = next(data.train.batches(torch.arange(len(data.train)).split(2)))
    assert torch.equal(first, again)


def test_passes_share_their_processes(load: Loads) -> None:
    data = load()
    read(data.train)
    before = multiprocessing.active_children()
    read(data.validation)
    read(data.to("cpu").train)
    assert multiprocessing.active_children() == before


# --- the cache -------------------------------------------------------------------------------------------------------


def test_hashes_and_sums_are_kept_between_runs(load: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    real = folder._decode
    monkeypatch.setattr(folder, "_decode", lambda files, *how: (counts.append(len(files)), real(files, *how))[1])
    kept = tmp_path / "kept"
    plain = load()
    first, second = load(cache=kept), load(cache=kept, split_seed=0, train_limit=10**6)
    assert counts == [25, 25]
    assert numbers(first) == numbers(second) == numbers(plain)
    (file,) = kept.iterdir()
    assert file.stat().st_size < 25 * 3 * 9 * 12 / 2  # no pixels in it
    load(PLENTY, cache=kept)
    assert counts == [25, 25, 25]  # another kind of file, for the same images
    file.write_bytes(file.read_bytes()[:-1])
    assert numbers(load(cache=kept)) == numbers(plain)
    assert counts == [25] * 4


# --- the share -------------------------------------------------------------------------------------------------------

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("groups", "limits", "found"),
    [
        ("", {}, MACHINE),
        ("0::/\n", {"memory.max": "1000000"}, 1_000_000),
        ("0::/a/b\n", {"a/b/memory.max": "3000", "a/memory.max": "2000", "memory.max": "max"}, 2000),
        ("0::/a/b\n", {"a/b/memory.max": "max"}, MACHINE),
        ("0::/not/seen/from/inside\n", {"memory.max": "4000"}, 4000),
        ("0::/a:b\n", {"a:b/memory.max": "5000"}, 5000),
        ("5:cpu:/\n4:memory:/c\n", {"memory/c/memory.limit_in_bytes": "6000"}, 6000),
        ("5:cpu:/c\n", {"memory/c/memory.limit_in_bytes": "6000"}, MACHINE),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, MACHINE),
    ],
)
def test_memory_is_the_machines_or_the_control_groups(
    tmp_path: Path, groups: str, limits: dict[str, str], found: int
) -> None:
    if groups:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in limits.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert memory(tmp_path) == found


def test_workers_share_the_room() -> None:
    assert room() == int(MEMORY_SHARE * memory())
    assert room(0.5, workers=4) == int(memory() / 8)
    assert room(0) == 0


def test_the_words_say_need_room_and_cost(load: Loads) -> None:
    assert load(PLENTY).streaming == ""
    data = load(5000)
    said = data.streaming
    assert "25 decoded ones are 8.1 kB, more than the 5.0 kB" in said
    assert "--memory-share" in said
    assert f"decodes {len(data.train) + len(data.validation)} again, in 1 process" in said
    assert "\n" not in said


@MORE_THAN_CORES
def test_a_loader_takes_its_processes_from_its_caller(load: Loads) -> None:
    data = load()
    assert data.streamed is not None
    pixels = Loader(data.streamed.files, 2, 0)
    assert len(list(pixels.pixels([np.arange(3), np.arange(2)], pin=False))) == 2
    assert len(multiprocessing.active_children()) == 2
    pixels.close()
