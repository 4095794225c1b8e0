"""Folders of a user's own images: what is read, how it is fitted, what is refused, and the cache."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.data import Dataset, cache, folder, load_dataset, load_test
from nas.data.walk import SUFFIXES
from nas.errors import DataError
from tests.pictures import picture, pictures, pixels

SHAPE = (3, 9, 12)


def load(root: Path | str, **options: Any) -> Dataset:
    return load_dataset(f"folder:{root}", input_shape=options.pop("input_shape", SHAPE), **options)


def total(data: Dataset) -> int:
    return len(data.train) + len(data.validation) + data.test_size


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pictures(tmp_path / "photos", {"cat": 8, "dog": 6})


def test_what_is_no_image_is_not_read(root: Path) -> None:
    before = load(root)
    for name in ("Thumbs.db", "notes.txt", ".hidden.png", "._000.png", "labels.csv"):
        (root / "cat" / name).write_bytes(b"not an image")
    (root / "readme.png").write_bytes(b"beside the classes")
    for name in (".git", "__MACOSX", "@eaDir"):
        pictures(root / name, {"cat": 1})
    assert load(root).digest == before.digest


def test_suffixes_in_any_case_and_folders_inside_a_class(root: Path) -> None:
    before = total(load(root))
    picture(root / "cat" / "more" / "deeper" / "a.PNG", seed=100)
    picture(root / "cat" / "b.JpEg", seed=101)
    assert total(load(root)) == before + 2


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_is_decoded(root: Path, suffix: str) -> None:
    grey = np.random.default_rng(1).integers(0, 2, (9, 12), np.uint8) * 255
    Image.fromarray(grey).convert("1" if suffix == ".pbm" else "L").save(root / "cat" / f"x{suffix}")
    assert total(load(root)) == 15


def test_symlinks(root: Path, tmp_path: Path) -> None:
    elsewhere = pictures(tmp_path / "elsewhere", {"eel": 5}, start=50)
    (root / "eel").symlink_to(elsewhere / "eel")
    (root / "cat" / "linked.png").symlink_to(picture(tmp_path / "lone.png", seed=60))
    (root / "cat" / "loop").symlink_to(root / "cat")
    data = load(root)
    assert data.classes == ("cat", "dog", "eel")
    assert total(data) == 8 + 6 + 5 + 1


@pytest.mark.parametrize("name", [b"na\xefve", "möwe und 犬".encode(), b"two\nlines", b"'; --"])
def test_odd_names(root: Path, name: bytes) -> None:
    odd = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
    pictures(odd.parent, {odd.name: 4}, start=70)
    (odd / "000.png").rename(odd / os.fsdecode(name + b".png"))
    data = load(root)
    assert total(data) == 18
    shown = next(iter(set(data.classes) - {"cat", "dog"}))
    shown.encode("utf-8")
    assert shown.isprintable()
    (odd / os.fsdecode(name + b".png")).write_bytes(b"broken")
    with pytest.raises(DataError) as caught:
        load(root)
    assert str(caught.value).isprintable()


def test_a_relative_path_and_the_home(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(root.parent))
    assert load("photos/").digest == load("~/photos").digest == load(root).digest
    assert load("photos/").path == str(root)
    assert load("photos/").name == "folder:photos"


def test_train_alone_holds_the_class_folders(tmp_path: Path) -> None:
    pictures(tmp_path / "train", {"cat": 8, "dog": 6})
    pictures(tmp_path / "drawings", {"cat": 3}, start=90)
    data = load(tmp_path)
    assert (data.classes, total(data), data.test_size) == (("cat", "dog"), 14, 3)


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "test"), ("train", "Test")])
def test_train_and_test_in_any_case(tmp_path: Path, names: tuple[str, str]) -> None:
    for base, (train, test) in (("plain", ("train", "test")), ("other", names)):
        pictures(tmp_path / base / train, {"cat": 8, "dog": 6})
        pictures(tmp_path / base / test, {"cat": 2, "dog": 3}, start=50)
    data = load(tmp_path / "other")
    assert (data.classes, data.test_size) == (("cat", "dog"), 5)
    assert data.split_digest == load(tmp_path / "plain").split_digest


@pytest.mark.parametrize(
    "names",
    [
        "train val",
        "Training Testing",
        "train test valid",
        "test val",
        "train Train",
        "validation",
        "train val drawings",
    ],
)
def test_other_names_of_splits_are_refused(tmp_path: Path, names: str) -> None:
    for start, name in enumerate(names.split()):
        pictures(tmp_path / name, {"cat": 5, "dog": 5}, start=start * 10)
    with pytest.raises(DataError, match=r"only train/ and test/ are known.*nas splits validation images off") as caught:
        load(tmp_path)
    assert "drawings" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_images_loose_in_the_parts_of_a_split_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, {"Train": 8, "Test": 6})  # they would be two classes, Test and Train
    with pytest.raises(DataError, match=r"named like the parts of a split \(Test, Train\)"):
        load(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    pictures(tmp_path, {"train": 8, "test": 6, "tram": 5})
    assert load(tmp_path).classes == ("test", "train", "tram")
    pictures(tmp_path / "train", {"steam": 3, "electric": 3}, start=50)  # with folders inside, it is still a class
    data = load(tmp_path)
    assert (data.classes, total(data)) == (("test", "train", "tram"), 25)


def test_grey_and_colour(root: Path) -> None:
    Image.fromarray(pixels(200)[..., 0]).save(root / "cat" / "grey.png")
    assert load(root).train.images.shape[1:] == (3, 9, 12)
    assert load(root, input_shape=(1, 9, 12)).train.images.shape[1:] == (1, 9, 12)


def test_a_palette_is_content(tmp_path: Path) -> None:
    """Two files with the same indices and other colours are not the same picture."""
    pictures(tmp_path, {"cat": 5, "dog": 5})
    digests = set()
    for colour in ([1, 2, 3], [3, 2, 1]):
        image = Image.new("P", (12, 9))
        image.putpalette(colour * 256)
        image.save(tmp_path / "cat" / "palette.png")
        digests.add(load(tmp_path).digest)
    assert len(digests) == 2


# --- what is refused -------------------------------------------------------------------------------------------------


def lone_file(root: Path) -> Path:
    return picture(root / "cat.png", seed=0)


def empty(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


def loose_images(root: Path) -> Path:
    picture(root / "loose" / "a.png", seed=0)
    return root / "loose"


def one_class(root: Path) -> Path:
    return pictures(root / "one", {"cat": 5})


def class_without_image(root: Path) -> Path:
    pictures(root / "some", {"cat": 5, "dog": 5})
    (root / "some" / "eel").mkdir()
    (root / "some" / "eel" / "notes.txt").write_text("later")
    return root / "some"


def class_without_test_image(root: Path) -> Path:
    pictures(root / "split" / "train", {"cat": 5, "dog": 5})
    pictures(root / "split" / "test", {"cat": 5}, start=50)
    (root / "split" / "test" / "dog").mkdir()
    return root / "split"


def other_classes(root: Path) -> Path:
    pictures(root / "other" / "train", {"cat": 5, "dog": 5})
    pictures(root / "other" / "test", {"cat": 5, "eel": 5}, start=50)
    return root / "other"


BAD: list[tuple[Callable[[Path], Path], str]] = [
    (lambda root: root / "nowhere", "nowhere does not exist: give folder:PATH, and put each class's images"),
    (lone_file, "cat.png is a file, not a folder"),
    (empty, "empty has no class folders: put each class's images into a folder of its own, as .*empty/cat/1.jpg"),
    (loose_images, "loose has no class folders"),
    (one_class, "has one class only, 'cat': two are the least"),
    (class_without_image, "class 'eel' has no image in .*some: add files of .bmp, .gif, .jpeg"),
    (class_without_test_image, "class 'dog' has no image in .*split/test: add files"),
    (other_classes, "train and test in .*other have different classes, 'dog' is in one only"),
]


@pytest.mark.parametrize(("make", "said"), BAD, ids=[said[:24] for _, said in BAD])
def test_bad_folders_get_one_line(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    path = make(tmp_path)
    for read in (load_dataset, load_test):
        with pytest.raises(DataError, match=said) as caught:
            read(f"folder:{path}", input_shape=SHAPE)
        assert str(caught.value).isprintable()


def test_a_folder_that_may_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refuse(path: str | Path) -> Any:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"photos/dog cannot be read: Permission denied; check its permissions"):
        load(root)


def damage(root: Path, count: int) -> None:
    Image.fromarray(pixels(300, 64, 64)).save(root / "cat" / "whole.jpg")
    for number in range(count):
        data = (root / "cat" / "whole.jpg").read_bytes()
        (root / "cat" / f"torn{number}.jpg").write_bytes(data[: len(data) // 2])
    (root / "cat" / "whole.jpg").unlink()


def test_broken_images_are_named_and_counted(root: Path) -> None:
    whole = load(root)
    damage(root, 2)
    with pytest.raises(DataError, match=r"^2 of 16 images cannot be read, first .*cat/torn0.jpg \(.*truncated.*--skip"):
        load(root)
    with pytest.raises(DataError, match=r"torn0\.jpg"):
        load_test(f"folder:{root}", input_shape=SHAPE)
    skipping = load(root, skip_broken=True)
    assert (skipping.skipped, skipping.digest) == (2, whole.digest)
    assert torch.equal(skipping.train.images, whole.train.images)
    assert len(load_test(f"folder:{root}", input_shape=SHAPE, skip_broken=True)) == whole.test_size


def test_many_broken_images_name_the_first_in_order(root: Path) -> None:
    for number in range(150):
        (root / "dog" / f"zero{number:03}.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"150 of 164 images cannot be read, first .*zero000\.jpg \(cannot identify image file\):"
    ):
        load(root)


def test_a_class_that_is_all_broken(root: Path) -> None:
    for path in (root / "dog").iterdir():
        path.write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"no image of class 'dog' in .*photos can be read"):
        load(root, skip_broken=True)


def test_a_dangling_symlink_is_broken_not_passed_over(root: Path) -> None:
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    with pytest.raises(DataError, match=r"1 of 15 images cannot be read, first .*gone\.png"):
        load(root)
    assert load(root, skip_broken=True).skipped == 1


def test_an_image_beyond_all_bounds_is_broken(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # a picture of 9 x 12 is then a decompression bomb
    with pytest.raises(DataError, match=r"14 of 14 images cannot be read.*decompression bomb"):
        load(root)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".bmp", ".tif", ".webp", ".ppm"])
def test_damage_anywhere_is_one_line_or_an_image(root: Path, suffix: str) -> None:
    """Bytes flipped and ends cut at random: whatever Pillow's readers raise, a user sees one line."""
    whole = root / "cat" / f"x{suffix}"
    Image.fromarray(pixels(7, 20, 20)).save(whole)
    data = whole.read_bytes()
    whole.unlink()
    rng = np.random.default_rng(0)
    for number in range(120):
        torn = bytearray(data[: rng.integers(1, len(data))] if number % 3 == 0 else data)
        for place in rng.integers(0, min(len(torn), 200), 4):
            torn[place] = rng.integers(256)
        (root / "cat" / f"torn{number}{suffix}").write_bytes(torn)
    data_set = load(root, skip_broken=True)
    assert data_set.skipped > 0


def test_threads_decode_as_one_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(root, {"cat": 150, "dog": 150}, start=1000)
    slow = load(root)
    sizes: list[int] = []
    real = folder.ThreadPoolExecutor
    monkeypatch.setattr(folder, "LARGE_FILE", 0)
    monkeypatch.setattr(folder.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(folder, "ThreadPoolExecutor", lambda n: (sizes.append(n), real(n))[1])
    fast = load(root)
    assert sizes == [4]
    assert fast.split_digest == slow.split_digest
    assert torch.equal(fast.train.images, slow.train.images)


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each decoding read."""
    counts: list[int] = []
    real = folder._decode

    def count(files: Any, *how: Any) -> Any:
        counts.append(len(files))
        return real(files, *how)

    monkeypatch.setattr(folder, "_decode", count)
    return counts


def same(one: Dataset, other: Dataset) -> bool:
    return (
        torch.equal(one.train.images, other.train.images)
        and torch.equal(one.validation.images, other.validation.images)
        and torch.equal(one.train.labels, other.train.labels)
        and (one.digest, one.split_digest, one.mean) == (other.digest, other.split_digest, other.mean)
    )


def test_the_cache_gives_the_same_without_decoding(root: Path, tmp_path: Path, decoded: list[int]) -> None:
    kept = tmp_path / "kept" / "here"
    plain = load(root)
    first, second = load(root, cache=kept), load(root, cache=kept)
    assert same(plain, first)
    assert same(plain, second)
    assert decoded == [14, 14]
    test = load_test(f"folder:{root}", input_shape=SHAPE)
    assert torch.equal(load_test(f"folder:{root}", input_shape=SHAPE, cache=kept).images, test.images)
    assert decoded == [14, 14, 14]
    assert [path.suffix for path in kept.iterdir()] == [".safetensors"]
    assert load(root, cache=kept, split_seed=3, train_limit=5).split_digest != plain.split_digest
    assert len(decoded) == 3


def test_the_cache_is_of_these_files_at_this_size(root: Path, tmp_path: Path, decoded: list[int]) -> None:
    load(root, cache=tmp_path / "kept")
    load(root, cache=tmp_path / "kept", input_shape=(1, 9, 12))
    picture(root / "cat" / "new.png", seed=80)
    more = load(root, cache=tmp_path / "kept")
    assert decoded == [14, 14, 15]
    status = (root / "cat" / "new.png").stat()
    picture(root / "cat" / "new.png", seed=81)
    os.utime(root / "cat" / "new.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load(root, cache=tmp_path / "kept").digest != more.digest
    (root / "cat" / "new.png").rename(root / "dog" / "new.png")
    load(root, cache=tmp_path / "kept")
    assert decoded == [14, 14, 15, 15, 15]


def flip_pixel(data: bytes) -> bytes:
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


@pytest.mark.parametrize(
    "harm",
    [
        flip_pixel,
        lambda d: d[:-1],
        lambda d: b"",
        lambda d: b"\xff" * len(d),
        lambda d: d.replace(b"pixels", b"pixies"),
    ],
)
def test_a_damaged_cache_is_made_anew(
    root: Path, tmp_path: Path, decoded: list[int], harm: Callable[[bytes], bytes]
) -> None:
    plain = load(root, cache=tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(harm(file.read_bytes()))
    assert same(load(root, cache=tmp_path / "kept"), plain)
    assert same(load(root, cache=tmp_path / "kept"), plain)
    assert decoded == [14, 14]
    assert list((tmp_path / "kept").iterdir()) == [file]


def test_a_cache_with_broken_images_refuses_and_skips_as_the_files_do(root: Path, tmp_path: Path) -> None:
    damage(root, 1)
    skipping = load(root, cache=tmp_path / "kept", skip_broken=True)
    again = load(root, cache=tmp_path / "kept", skip_broken=True)
    assert skipping.skipped == again.skipped == 1
    assert same(skipping, again)
    with pytest.raises(DataError, match=r"1 of 15 images cannot be read, first .*torn0.jpg \(.*truncated"):
        load(root, cache=tmp_path / "kept")


def test_a_refused_folder_leaves_no_cache(root: Path, tmp_path: Path) -> None:
    damage(root, 1)
    with pytest.raises(DataError):
        load(root, cache=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_cache_that_cannot_be_written(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=re.escape(f"cannot be kept in {tmp_path / 'file'}")):
        load(root, cache=tmp_path / "file")

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "save_file", full)
    with pytest.raises(DataError, match=r"No space left on device.*free space"):
        load(root, cache=tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())
