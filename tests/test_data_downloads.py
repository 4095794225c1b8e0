"""What is particular to downloaded data sets: official sides, damaged files, no network, Debian's package."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from torch import Tensor

from nas.data import cifar, downloads, fashion_mnist, load_dataset, load_test
from nas.data.splits import KNOWN
from nas.errors import DataError
from tests.archives import ARCHIVES, CIFAR_CLASSES, FINE_CLASSES, fashion_files, images, md5

Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "truncated": lambda content: content[: len(content) // 2],
    "one bit": lambda content: (
        bytes([*content[: len(content) // 2], content[len(content) // 2] ^ 16]) + content[len(content) // 2 + 1 :]
    ),
    "empty": lambda content: b"",
    "a web page": lambda content: b"<html>Please log in to this network</html>\n",
    "more after the end": lambda content: content + b"\0more",
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def refused(name: str) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(name, input_shape=(3, 8, 8))
    with pytest.raises(DataError) as again:
        load_test(name, input_shape=(3, 8, 8))
    assert str(again.value) == str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(name)
    return str(caught.value)


def contents(images: Tensor, labels: Tensor) -> dict[bytes, int]:
    rows = [image.contiguous().numpy().tobytes() for image in images]
    return dict(zip(rows, labels.tolist(), strict=True))


@pytest.mark.parametrize("name", ARCHIVES)
def test_without_a_network_what_to_do_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ARCHIVES[name](tmp_path / "made", monkeypatch)
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "images"))
    said = refused(name)
    for part in (str(tmp_path / "images"), "name resolution", "://", "NAS_DATA", "folder:PATH"):
        assert part in said
    assert all(file.name in said for file in files)
    assert "damaged" not in said
    assert ("dataset-fashion-mnist" in said) == (name == "fashion-mnist")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_damaged_file_is_named(name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the downloaded files in turn: its path, the sum that it has and the one that it should have."""
    for file in ARCHIVES[name](tmp_path, monkeypatch):
        whole = file.read_bytes()
        broken = DAMAGES[damage](whole)
        file.write_bytes(broken)
        said = refused(name)
        assert f"{file} is damaged" in said
        assert "a new copy cannot be downloaded (" in said
        assert "name resolution" in said
        assert f"put {file.name} from http" in said
        packed = name == "fashion-mnist"
        assert (md5(gzip.decompress(whole)) if packed else md5(whole)) in said
        assert packed or md5(broken) in said
        assert file.read_bytes() == broken  # what is there stays there
        file.write_bytes(whole)
    assert load_dataset(name, input_shape=(3, 8, 8)).test_size == 20


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_unpacked_files_are_mended_from_the_archive(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (archive,) = ARCHIVES[name](tmp_path, monkeypatch)
    before = load_dataset(name, input_shape=(3, 8, 8))
    folder = tmp_path / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        file.write_bytes(whole[:-7])
        assert load_dataset(name, input_shape=(3, 8, 8)).digest == before.digest
        assert file.read_bytes() == whole
        file.unlink()
        assert load_dataset(name, input_shape=(3, 8, 8)).digest == before.digest
    archive.unlink()
    assert (
        load_dataset(name, input_shape=(3, 8, 8)).digest == before.digest
    )  # who keeps the unpacked ones needs no more
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        file.write_bytes(whole[:-7])
        said = refused(name)
        assert f"{file} is damaged (its MD5 is {md5(whole[:-7])}, not {md5(whole)})" in said
        assert f"put {archive.name} from" in said
        file.write_bytes(whole)


def test_a_download_of_something_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that answers every address with its own page."""
    page = b"<html>Please log in</html>"

    def download(url: str, filename: Path) -> None:
        Path(filename).write_bytes(page)

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", download)
    for name, make in ARCHIVES.items():
        first = make(tmp_path / "made" / name, monkeypatch)[0]
        monkeypatch.setenv("NAS_DATA", str(tmp_path / name))
        said = refused(name)
        assert f"{first.name} is damaged" in said
        assert md5(page) in said
        assert "File not found or corrupted" in said


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_missing_file_is_downloaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ARCHIVES[name](tmp_path / "made", monkeypatch)
    digest = load_dataset(name, input_shape=(3, 8, 8)).digest
    asked: list[str] = []

    def download(url: str, filename: Path) -> None:
        asked.append(url)
        shutil.copy(next(file for file in made if url.endswith("/" + file.name)), filename)

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", download)
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "images"))
    for _ in range(2):  # the second time, all is there
        assert load_dataset(name, input_shape=(3, 8, 8)).digest == digest
        assert len(asked) == len(made)
    next((tmp_path / "images").rglob(made[-1].name)).write_bytes(b"half")
    if name.startswith("cifar"):  # otherwise the archive is not needed
        shutil.rmtree(tmp_path / "images" / made[0].name.replace(".tar.gz", "").replace("-10-python", "-10-batches-py"))
    assert load_dataset(name, input_shape=(3, 8, 8)).digest == digest
    assert len(asked) == len(made) + 1


def test_a_search_on_a_damaged_file_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "test_32x32.mat").write_bytes(b"half")
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}  # no other process has our patches
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "nas",
            "search",
            "--space",
            "svhn",
            "--trials",
            "1",
            "--studies-dir",
            tmp_path / "studies",
        ],
        env={**os.environ, **nowhere, "NAS_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"nas: svhn: {tmp_path}/test_32x32.mat is damaged (its MD5 is {md5(b'half')}, not eb5a983b")
    assert not (tmp_path / "studies" / "svhn" / "study.db").exists()


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_folder_that_cannot_be_made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ARCHIVES[name](tmp_path / "made", monkeypatch)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "file" / "below"))
    assert "Not a directory" in refused(name)


def test_downloads_are_in_the_home_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NAS_DATA", raising=False)
    assert downloads.root() == tmp_path / ".cache" / "nas"
    monkeypatch.setenv("NAS_DATA", "~/elsewhere")
    assert downloads.root() == tmp_path / "elsewhere"


@pytest.mark.filterwarnings("ignore:.*align should be passed")
@pytest.mark.parametrize("name", ARCHIVES)
def test_the_official_test_images_are_the_test_set(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision reads them from the same files."""
    files = ARCHIVES[name](tmp_path, monkeypatch)
    if name == "fashion-mnist":
        for file in files:
            file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
    grey = name == "fashion-mnist"
    shape = (1, 28, 28) if grey else (3, 32, 32)
    data = load_dataset(name, input_shape=shape)
    assert (
        data.classes
        == {
            "cifar10": tuple(CIFAR_CLASSES),
            "cifar100": tuple(FINE_CLASSES),
            "fashion-mnist": tuple(tv.FashionMNIST.classes),
            "svhn": tuple("0123456789"),
        }[name]
    )
    kind = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100, "fashion-mnist": tv.FashionMNIST, "svhn": tv.SVHN}[name]
    official = kind(tmp_path, split="test") if name == "svhn" else kind(tmp_path, train=False)
    pairs = [(np.atleast_3d(np.asarray(image)).transpose(2, 0, 1), int(label)) for image, label in official]
    expected = {image.tobytes(): label for image, label in pairs}
    test = load_test(name, input_shape=shape)
    assert contents(test.images, test.labels) == expected
    assert (len(data.train) + len(data.validation), data.test_size) == (100, 20)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_labels_stay_with_their_images(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ARCHIVES[name](tmp_path, monkeypatch)
    source = cifar.read("cifar10" if name == "cifar10" else "cifar100")
    seeds = range(6) if name == "cifar10" else (100, 20)
    counts = [20] * 6 if name == "cifar10" else [100, 20]
    pixels = [images(count, 3072, seed=seed) for count, seed in zip(counts, seeds, strict=True)]
    expected = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(source.images, expected)
    assert source.labels.tolist() == [n % 10 for count in counts for n in range(count)]


def test_fashion_mnist_is_read_from_the_first_whole_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ARCHIVES["fashion-mnist"](tmp_path / "own", monkeypatch)
    digest = load_dataset("fashion-mnist", input_shape=(1, 28, 28)).digest
    package = tmp_path / "package"
    fashion_files(package)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", package)

    files[2].write_bytes(b"half")  # a damaged file of one's own: the package's are read
    assert load_dataset("fashion-mnist", input_shape=(1, 28, 28)).digest == digest
    shutil.rmtree(tmp_path / "own")
    assert load_dataset("fashion-mnist", input_shape=(1, 28, 28)).digest == digest
    # packed again with a name and a time in the header, as the authors' files are: what they hold counts
    for file in package.iterdir():
        content = gzip.decompress(file.read_bytes())
        with gzip.open(file, "wb") as repacked:
            repacked.write(content)
    assert load_dataset("fashion-mnist", input_shape=(1, 28, 28)).digest == digest

    broken = package / "t10k-images-idx3-ubyte.gz"
    for damage in DAMAGES.values():
        whole = broken.read_bytes()
        broken.write_bytes(damage(whole))
        said = refused("fashion-mnist")
        assert f"{broken} is damaged" in said
        assert fashion_mnist.SUMS[broken.name] in said
        assert "install Debian's package dataset-fashion-mnist" in said
        broken.write_bytes(whole)
    content = gzip.decompress(whole)
    broken.write_bytes(gzip.compress(content[:-1]))  # a sound gz file that holds something else
    assert f"unpacked, its MD5 is {md5(content[:-1])}, not {md5(content)}" in refused("fashion-mnist")


@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_package_holds_the_known_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    data = load_dataset("fashion-mnist", input_shape=(1, 28, 28))
    assert KNOWN[data.digest].name == data.name == "Fashion-MNIST"
    assert (len(data.train), len(data.validation), data.test_size, data.dropped) == (51_000, 9_000, 10_000, 0)
    assert torch.bincount(data.train.labels).tolist() == [5_100] * 10
    assert data.mean == pytest.approx([0.286], abs=0.001)  # 0.2860 and 0.3530 are told of all 60,000
    assert data.std == pytest.approx([0.353], abs=0.001)
