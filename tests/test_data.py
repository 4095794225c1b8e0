"""Every source of images keeps one contract; then what is particular to digits and to folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nas.data import SOURCES, Dataset, Part, load_dataset, load_test
from nas.data.source import misfit
from nas.data.splits import KNOWN, Known, Parts
from nas.errors import DataError
from tests.archives import ARCHIVES
from tests.pictures import picture, pictures, pixels

SHAPE = (3, 8, 8)
Maker = Callable[[Path, pytest.MonkeyPatch], str]


def make_digits(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return "digits"


def make_download(name: str) -> Maker:
    def make(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        ARCHIVES[name](root, monkeypatch)
        return name

    return make


def make_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return f"folder:{pictures(root / 'photos', {'cat': 30, 'dog': 20, 'eel': 11})}"


def make_folder_with_test(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pictures(root / "photos" / "train", {"cat": 30, "dog": 20, "eel": 11})
    pictures(root / "photos" / "test", {"cat": 7, "dog": 5, "eel": 3}, start=1000)
    return f"folder:{root / 'photos'}"


MAKERS: dict[str, Maker] = {  # a new source: one more line
    "digits": make_digits,
    **{name: make_download(name) for name in ARCHIVES},
    "folder": make_folder,
    "folder with test": make_folder_with_test,
}


@pytest.fixture(params=MAKERS)
def spec(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return MAKERS[request.param](tmp_path, monkeypatch)


def rows(part: Part) -> list[bytes]:
    return [image.contiguous().numpy().tobytes() for image in part.images]


def test_every_source_is_under_contract() -> None:
    assert {name.partition(" ")[0] for name in MAKERS} == set(SOURCES)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (3, 5, 7)])
def test_form(spec: str, shape: tuple[int, int, int]) -> None:
    data = load_dataset(spec, input_shape=shape)
    for part in (data.train, data.validation, load_test(spec, input_shape=shape)):
        assert part.images.shape == (len(part), *shape)
        assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
        assert part.images.is_contiguous(memory_format=torch.channels_last)
        assert set(part.labels.tolist()) == set(range(len(data.classes)))
    assert len(data.mean) == len(data.std) == shape[0]
    assert data.skipped == data.dropped == 0
    assert data.name
    assert "/" not in data.name


def test_mean_and_deviation_are_the_training_part_s(spec: str) -> None:
    data = load_dataset(spec, input_shape=SHAPE, train_limit=20)
    images = data.train.images.double() / 255
    assert data.mean == pytest.approx(images.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert data.std == pytest.approx(images.std((0, 2, 3), correction=0).tolist(), abs=1e-9)


def test_sides_are_disjoint_and_whole(spec: str) -> None:
    data = load_dataset(spec, input_shape=SHAPE)
    sides = [set(rows(part)) for part in (data.train, data.validation, load_test(spec, input_shape=SHAPE))]
    assert all(not one & other for one, other in zip(sides, [*sides[1:], sides[0]], strict=True))
    total = {"digits": 1797, **dict.fromkeys(ARCHIVES, 120)}.get(spec, 76 if (Path(spec[7:]) / "test").exists() else 61)
    assert len(data.train) + len(data.validation) + data.test_size == total


def test_every_class_has_its_part_on_every_side(spec: str) -> None:
    data = load_dataset(spec, input_shape=SHAPE)
    test = Counter(load_test(spec, input_shape=SHAPE).labels.tolist())
    train, validation = (Counter(part.labels.tolist()) for part in (data.train, data.validation))
    official = spec in ARCHIVES or (Path(spec[7:]) / "test").exists()
    for label in range(len(data.classes)):
        rest = train[label] + validation[label]
        assert abs(validation[label] - 0.15 * rest) <= 0.5
        assert official or abs(test[label] - 0.2 * (rest + test[label])) <= 0.5


def test_the_test_images_depend_on_the_images_alone(spec: str) -> None:
    test = load_test(spec, input_shape=SHAPE)
    for changes in ({"split_seed": 5}, {"train_limit": 20}, {"split_seed": 1, "train_limit": 12}):
        data = load_dataset(spec, input_shape=SHAPE, **changes)
        assert not set(rows(test)) & {*rows(data.train), *rows(data.validation)}
        assert data.test_size == len(test)
    small = load_test(spec, input_shape=(1, 4, 4))
    assert torch.equal(small.labels, test.labels)


def test_the_split_does_not_depend_on_the_input_size(spec: str) -> None:
    one, other = (load_dataset(spec, input_shape=shape, train_limit=25) for shape in (SHAPE, (1, 5, 4)))
    assert (one.digest, one.split_digest) == (other.digest, other.split_digest)
    assert torch.equal(one.train.labels, other.train.labels)
    assert torch.equal(one.validation.labels, other.validation.labels)


def test_the_split_seed_moves_the_validation_images_only(spec: str) -> None:
    one, other, again = (load_dataset(spec, input_shape=SHAPE, split_seed=seed) for seed in (0, 1, 1))
    assert set(rows(one.validation)) != set(rows(other.validation))
    assert {*rows(one.train), *rows(one.validation)} == {*rows(other.train), *rows(other.validation)}
    assert one.digest == other.digest
    assert one.split_digest != other.split_digest == again.split_digest
    assert torch.equal(other.train.images, again.train.images)


def test_a_train_limit_is_stratified_and_grows(spec: str) -> None:
    whole = load_dataset(spec, input_shape=SHAPE)
    kept: set[bytes] = set()
    share = np.bincount(whole.train.labels) / len(whole.train)
    for limit in (10, 13, 20, 31):
        data = load_dataset(spec, input_shape=SHAPE, train_limit=limit)
        assert len(data.train) == limit
        assert np.all(np.bincount(data.train.labels) >= 1)
        assert np.all(np.abs(np.bincount(data.train.labels) - limit * share) <= 1.5)
        assert kept <= set(rows(data.train)) <= set(rows(whole.train))
        assert torch.equal(data.validation.images, whole.validation.images)
        assert data.digest == whole.digest
        assert data.split_digest != whole.split_digest
        kept = set(rows(data.train))
    assert load_dataset(spec, input_shape=SHAPE, train_limit=10**6).split_digest == whole.split_digest


def test_a_train_limit_under_the_classes_is_refused(spec: str) -> None:
    classes = load_dataset(spec, input_shape=SHAPE).classes
    least = len(classes)
    assert len(load_dataset(spec, input_shape=SHAPE, train_limit=least).train) == least
    with pytest.raises(DataError, match=f"no image of class {classes[-1]!r}.*at least {least}"):
        load_dataset(spec, input_shape=SHAPE, train_limit=least - 1)
    with pytest.raises(DataError, match="at least 1, got 0"):
        load_dataset(spec, input_shape=SHAPE, train_limit=0)


def test_to_a_device_keeps_all_else(spec: str) -> None:
    data = load_dataset(spec, input_shape=SHAPE)
    moved = data.to("meta")
    assert moved.train.images.device.type == moved.validation.labels.device.type == "meta"
    assert moved.train.images.shape == data.train.images.shape
    assert (moved.mean, moved.digest, moved.classes) == (data.mean, data.digest, data.classes)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_images_are_grey_or_colour(spec: str, channels: int) -> None:
    for load in (load_dataset, load_test):
        with pytest.raises(DataError, match=rf"1 channel \(grey\) or 3 \(RGB\), the space's input has {channels}"):
            load(spec, input_shape=(channels, 8, 8))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("digit", "did you mean 'digits'"),
        ("cifar", "did you mean 'cifar10'"),
        ("digits:x", "did you mean 'digits'"),
        ("fashion_mnist", "did you mean 'fashion-mnist'"),
        ("folder", "allowed: cifar10, cifar100, digits, fashion-mnist, folder:PATH, svhn"),
        ("folder:", "needs a path"),
        ("", "allowed: cifar10, cifar100, digits, fashion-mnist, folder:PATH, svhn"),
    ],
)
def test_unknown_dataset(given: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_dataset(given, input_shape=SHAPE)


def test_a_path_without_its_prefix_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"write folder:{tmp_path}"):
        load_dataset(str(tmp_path), input_shape=SHAPE)


def test_digits_keep_every_grey() -> None:
    from sklearn.datasets import load_digits

    data = load_dataset("digits", input_shape=(1, 8, 8))
    assert data.classes == tuple("0123456789")
    whole = torch.cat([data.train.images, data.validation.images, load_test("digits", input_shape=(1, 8, 8)).images])
    assert sorted(rows(Part(whole, whole))) == sorted(
        np.rint(image * (255 / 16)).astype(np.uint8).tobytes() for image in load_digits().images
    )
    assert len(whole.unique()) == 17


def load_folder(root: Path, **options: Any) -> Dataset:
    return load_dataset(f"folder:{root}", input_shape=(3, 9, 12), **options)


def test_exact_copies_stay_on_one_side(tmp_path: Path) -> None:
    """Copies under other names, formats and classes: whichever side has one has all of them."""
    root = pictures(tmp_path, {"cat": 30, "dog": 30})
    for number in range(30):
        (root / "cat" / f"copy-{number}.png").write_bytes((root / "cat" / f"{number:03}.png").read_bytes())
        picture(root / "dog" / f"again-{number}.bmp", seed=number)  # what cat has, as another format
    data = load_folder(root)
    sides = [rows(p) for p in (data.train, data.validation, load_test(f"folder:{root}", input_shape=(3, 9, 12)))]
    counts = [Counter(side) for side in sides]
    for number in range(30):
        content = pixels(number).transpose(2, 0, 1).tobytes()
        assert sorted(count[content] for count in counts) == [0, 0, 3]
    distinct = [sum(1 for _ in count) for count in counts]
    assert distinct == [40, 8, 12]  # 20 % and 15 % of the 30 + 30 distinct ones, by class


def test_a_training_copy_of_an_official_test_image_is_dropped(tmp_path: Path) -> None:
    spec = make_folder_with_test(tmp_path, pytest.MonkeyPatch())
    root = tmp_path / "photos"
    clean = load_folder(root)
    for number, name in enumerate(["cat", "dog"]):  # the second one also under another class
        (root / "train" / name / f"leak{number}.png").write_bytes((root / "test" / "cat" / "000.png").read_bytes())
    data = load_folder(root)
    assert (data.dropped, data.test_size) == (2, clean.test_size)
    assert data.digest != clean.digest
    assert torch.equal(data.train.images, clean.train.images)
    assert load_test(spec, input_shape=SHAPE).images.shape[0] == clean.test_size


def test_digests_tell_what_changed(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"cat": 10, "dog": 10})
    before = load_folder(root)
    (root / "cat" / "000.png").rename(root / "cat" / "zzz.png")  # neither a name nor a format is content
    picture(root / "cat" / "001.bmp", seed=1)
    (root / "cat" / "001.png").unlink()
    renamed = load_folder(root)
    assert (renamed.digest, renamed.split_digest) == (before.digest, before.split_digest)
    assert torch.equal(renamed.train.images, before.train.images)
    assert torch.equal(renamed.train.labels, before.train.labels)

    (root / "cat" / "zzz.png").rename(root / "dog" / "zzz.png")
    relabelled = load_folder(root)
    one_pixel = pixels(3)
    one_pixel[4, 4, 1] ^= 1
    Image.fromarray(one_pixel).save(root / "cat" / "003.png")
    repainted = load_folder(root)
    assert len({d.digest for d in (before, relabelled, repainted)}) == 3
    assert len({d.split_digest for d in (before, relabelled, repainted)}) == 3
    (root / "dog").rename(root / "duck")
    assert load_folder(root).digest != repainted.digest


def test_known_data_has_its_agreed_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pictures(tmp_path / "images", {"cat": 50, "dog": 50})
    usual = load_folder(root)
    assert (len(usual.train), len(usual.validation), usual.test_size) == (68, 12, 20)
    monkeypatch.setitem(KNOWN, usual.digest, Known("Pets", Parts(test=Fraction(1, 10), validation=Fraction(1, 9))))
    known = load_folder(root)
    assert (len(known.train), len(known.validation), known.test_size) == (80, 10, 10)
    assert (known.name, usual.name) == ("Pets", "folder:images")


@pytest.mark.parametrize(
    ("count", "side"), [(2, "training, validation and test"), (1, "training, validation and test")]
)
def test_too_few_images(tmp_path: Path, count: int, side: str) -> None:
    root = pictures(tmp_path, {"cat": 3, "dog": count})
    with pytest.raises(DataError, match=f"class 'dog' has {count} distinct images, and {side} need at least 3"):
        load_folder(root)
    picture(root / "dog" / "more.png", seed=99)
    if count == 2:
        data = load_folder(root)
        assert (len(data.train), len(data.validation), data.test_size) == (2, 2, 2)


def test_too_few_images_beside_an_official_test_set(tmp_path: Path) -> None:
    pictures(tmp_path / "train", {"cat": 2, "dog": 1})
    pictures(tmp_path / "test", {"cat": 1, "dog": 1}, start=50)
    with pytest.raises(DataError, match="'dog' has 1 distinct images, and training and validation need at least 2"):
        load_folder(tmp_path)


def test_copies_of_official_test_images_do_not_train(tmp_path: Path) -> None:
    pictures(tmp_path / "train", {"cat": 5, "dog": 5})
    pictures(tmp_path / "test", {"cat": 5, "dog": 5})
    with pytest.raises(DataError, match=r"'cat' has 0 distinct images.*those of test images not at all"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("own", "space", "said"),
    [
        ((1, 8, 8), (1, 8, 8), ""),
        ((3, 500, 375), (3, 32, 32), ""),  # shrinking is what an input size is for
        ((3, 16, 16), (3, 32, 32), ""),
        ((3, 15, 16), (3, 32, 32), "they are enlarged 2.1 times, which costs time and shows no more"),
        ((3, 100, 15), (3, 32, 32), "they are enlarged 2.1 times, which costs time and shows no more"),
        ((3, 32, 32), (1, 32, 32), "colour becomes grey"),
        ((1, 8, 8), (3, 224, 224), "grey becomes three equal channels and they are enlarged 28.0 times, which costs"),
    ],
)
def test_images_of_another_kind_than_the_space(
    own: tuple[int, int, int], space: tuple[int, int, int], said: str
) -> None:
    given = misfit(own, space)
    assert said in given
    if said:
        assert given.startswith(f"Images of {own[0]}x{own[1]}x{own[2]} do not fit the space's input of {space[0]}x")
    else:
        assert given == ""


def test_the_images_own_shape_is_known(spec: str) -> None:
    shapes = {
        "digits": (1, 8, 8),
        "fashion-mnist": (1, 28, 28),
        **dict.fromkeys(("cifar10", "cifar100", "svhn"), (3, 32, 32)),
    }
    own = shapes.get(spec, (3, 9, 12))
    assert load_dataset(spec, input_shape=own).misfit == ""
    other = (4 - own[0], *own[1:])
    assert f"Images of {own[0]}x{own[1]}x{own[2]} do not fit" in load_dataset(spec, input_shape=other).misfit


def test_a_folder_s_images_are_as_the_middle_one(tmp_path: Path) -> None:
    pictures(tmp_path, {"cat": 60, "dog": 60})
    picture(tmp_path / "cat" / "large.png", seed=500, height=300, width=400)
    Image.new("1", (1, 1)).save(tmp_path / "dog" / "small.png")
    assert load_dataset(f"folder:{tmp_path}", input_shape=(3, 8, 8)).misfit == ""
    assert "Images of 3x9x12 do not fit" in load_dataset(f"folder:{tmp_path}", input_shape=(3, 64, 64)).misfit


@pytest.mark.parametrize("name", ["digits", *ARCHIVES])
def test_an_input_too_large_for_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine's killer of processes says why; a folder would be streamed."""
    spec = MAKERS[name](tmp_path, monkeypatch)
    for load in (load_dataset, load_test):
        with pytest.raises(
            DataError, match=r"images of \dx.* at an input of 3x16384x16384 need .* smaller input, or .* --resize"
        ):
            load(spec, input_shape=(3, 16_384, 16_384))


def test_a_constant_channel_has_a_deviation(tmp_path: Path) -> None:
    pictures(tmp_path, {"cat": 5, "dog": 5})
    for path in tmp_path.rglob("*.png"):
        image = np.asarray(Image.open(path)).copy()
        image[..., 2] = 7
        Image.fromarray(image).save(path)
    data = load_folder(tmp_path)
    assert data.mean[2] == pytest.approx(7 / 255)
    assert data.std[2] == 1 / 255


def test_search_never_holds_a_test_image(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow every tensor of a Dataset: none has a test image's pixels, in whatever storage it is a view of."""
    test = set(rows(load_test(spec, input_shape=SHAPE)))
    data = load_dataset(spec, input_shape=SHAPE)
    tensors: list[Tensor] = [data.train.images, data.validation.images]
    for tensor in tensors:
        size = int(np.prod(SHAPE))
        stored = torch.tensor(tensor.untyped_storage().tolist(), dtype=torch.uint8).view(-1, size)
        assert len(stored) == len(tensor)
        assert not {row.view(8, 8, 3).permute(2, 0, 1).contiguous().numpy().tobytes() for row in stored} & test
