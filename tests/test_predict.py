"""`nas predict`: the classes that torch gives, for images read as in training, past files that cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from nas.cli import main
from nas.data import Dataset, load_dataset, load_test, normalise
from nas.deployed.onnx_model import OnnxModel
from nas.deployed.predict import BATCH, Answer, Unread, image_paths, predict
from nas.errors import ExportError
from nas.export import export_network
from nas.models import build
from nas.outcome import Outcome
from nas.records import Records
from tests.fake_study import architecture, rows, write_study
from tests.onnx_models import linear, weights
from tests.pictures import picture, pictures

SHAPE = (3, 6, 5)
Captured = pytest.CaptureFixture[str]


@dataclass
class Recorder:
    """A model that keeps what it is shown and says `cat` of all."""

    classes: tuple[str, ...] = ("cat", "dog")
    input_shape: tuple[int, int, int] = SHAPE
    shown: list[NDArray[np.uint8]] = field(default_factory=list)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        self.shown.append(pixels)
        return np.array([[0.75, 0.25]] * len(pixels))


def given(paths: Sequence[str | Unread], model: Any = None, top: int = 5) -> list[Answer | Unread]:
    return list(predict(Recorder() if model is None else model, paths, top=top))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return linear(tmp_path / "model.onnx")


def test_the_classes_are_torchs(tmp_path: Path, capsys: Captured) -> None:
    digits: Dataset = load_dataset("digits", input_shape=(1, 8, 8))
    torch.manual_seed(0)
    network = build(architecture(1.0))
    for _ in range(20):
        network(normalise(digits.train.images[:256], digits.mean, digits.std))
    part = digits.validation
    with torch.inference_mode():
        logits = network.eval()(normalise(part.images, digits.mean, digits.std))
    accuracy = float((logits.argmax(1) == part.labels).float().mean())
    found = network.architecture
    row = replace(
        rows(1)[0], architecture=found, key=found.key, params=found.params, macs=found.macs, cost=found.params,
        val_accuracy=accuracy, curve=((1, accuracy, 2.0),),
    )  # fmt: skip
    folder = write_study(
        tmp_path, "fake", [row], digests=(digits.digest, digits.split_digest), classes=list(digits.classes)
    )
    folder.weights(found.key).parent.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder.weights(found.key))
    exported = export_network(folder, Outcome.read(Records(folder.url), "fake"), "best", output=tmp_path / "model")
    images = tmp_path / "images"
    images.mkdir()
    for number, pixels in enumerate(part.images[:, 0].numpy()):
        Image.fromarray(pixels).save(images / f"{number:04}.png")
    assert main(["predict", str(exported.path), str(images), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [Path(one["path"]).name for one in said] == [f"{number:04}.png" for number in range(len(part))]
    assert [one["class"] for one in said] == [digits.classes[label] for label in logits.argmax(1)]
    expected = torch.softmax(logits, 1).topk(5).values
    assert torch.tensor([[top["probability"] for top in one["top"]] for one in said]).allclose(expected, atol=1e-5)


def test_pictures_are_read_as_in_training(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for seed, size in enumerate([(9, 12), (6, 5), (40, 31), (5, 80), (12, 9), (7, 7), (100, 60), (6, 6)]):
        picture(root / ("cat" if seed % 2 else "dog") / f"{seed}.png", seed, *size)
    turned = Image.open(root / "cat" / "1.png")
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned.resize((20, 30)).save(root / "cat" / "turned.png", exif=exif)
    clear = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 9, 4), np.uint8), "RGBA")
    clear.save(root / "dog" / "clear.png")
    Image.fromarray(np.arange(80, dtype=np.uint16).reshape(8, 10) * 800).save(root / "dog" / "deep.png")
    for shape in (SHAPE, (1, 6, 5)):
        model = Recorder(input_shape=shape)
        assert len(given(list(image_paths([str(root)])), model)) == 11
        data = load_dataset(f"folder:{root}", input_shape=shape)
        parts = [data.train, data.validation, load_test(f"folder:{root}", input_shape=shape)]
        trained = {image.permute(1, 2, 0).numpy().tobytes() for part in parts for image in torch.as_tensor(part.images)}
        assert {image.tobytes() for image in np.concatenate(model.shown)} == trained


def test_a_batch_of_images_is_in_memory_and_no_more(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "a.png", 0))
    asked = []

    def paths() -> Iterator[str]:
        for number in range(BATCH * 2 + 3):
            asked.append(number)
            yield path

    model = Recorder()
    answers = predict(model, paths())  # type: ignore[arg-type]
    assert next(answers) == Answer(path, (("cat", 0.75), ("dog", 0.25)))
    assert len(asked) == BATCH
    assert len(list(answers)) == BATCH * 2 + 2
    assert [len(shown) for shown in model.shown] == [BATCH, BATCH, 3]


@pytest.mark.parametrize("takes_bytes", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (1, 4, 7)])
def test_float_and_byte_inputs(tmp_path: Path, shape: tuple[int, int, int], takes_bytes: bool) -> None:
    model = OnnxModel.open(linear(tmp_path / "x.onnx", shape=shape, takes_bytes=takes_bytes))
    assert (model.input_shape, model.takes_bytes) == (shape, takes_bytes)
    pixels = np.random.default_rng(1).integers(0, 256, (4, *shape[1:], shape[0]), np.uint8)
    logits = (pixels.transpose(0, 3, 1, 2).reshape(4, -1) / 255) @ weights(shape, 3).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(pixels), expected, atol=1e-5)


def test_what_cannot_be_read_is_named_and_the_rest_is_done(tmp_path: Path, model: Path, capsys: Captured) -> None:
    good = [picture(tmp_path / "in" / name, seed) for seed, name in enumerate(("a.png", "z.png"))]
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    half = picture(tmp_path / "in" / "half.png", 3, 90, 90)
    half.write_bytes(half.read_bytes()[:2000])
    (tmp_path / "in" / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    missing = tmp_path / "missing.png"
    assert main(["predict", str(model), str(missing), str(tmp_path / "in"), "--json"]) == 1
    said = capsys.readouterr()
    assert [one["path"] for one in json.loads(said.out)] == [str(path) for path in good]
    lines = said.err.splitlines()
    assert lines[:3] == [
        f"nas: {missing}: No such file or directory",
        f"nas: {tmp_path}/in/broken.png: cannot identify image file",
        f"nas: {tmp_path}/in/dangling.jpg: No such file or directory",
    ]
    assert lines[3].startswith(f"nas: {half}: ")
    assert lines[4:] == ["nas: 4 of 6 could not be read"]
    assert main(["predict", str(model), *map(str, good)]) == 0
    assert capsys.readouterr().err == ""


def test_nothing_to_do_is_no_success(tmp_path: Path, model: Path, capsys: Captured) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(model), str(tmp_path / "empty"), "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert f"{tmp_path}/empty: the folder holds no image: known are .bmp, " in said.err


@pytest.mark.parametrize("json_too", [False, True])
def test_paths_on_stdin(tmp_path: Path, model: Path, json_too: bool) -> None:
    odd = os.fsencode(tmp_path) + b"/n\xff.png"  # no Unicode
    first = picture(tmp_path / "a b.png", 0)
    (tmp_path / "b.png").write_bytes(first.read_bytes())
    Path(os.fsdecode(odd)).write_bytes(first.read_bytes())
    pictures(tmp_path / "more", {"cat": 2}, start=5)
    listed = b"\n".join([os.fsencode(first), b"", odd + b"\r", os.fsencode(tmp_path / "more")])
    words = [sys.executable, "-m", "nas", "predict", str(model), "-", str(tmp_path / "b.png")]
    done = subprocess.run([*words, *(["--json"] if json_too else [])], input=listed, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    more = [f"{tmp_path}/more/cat/{number:03}.png" for number in range(2)]
    expected = [str(first), os.fsdecode(odd), *more, f"{tmp_path}/b.png"]
    if json_too:
        assert [one["path"] for one in json.loads(done.stdout)] == expected
    else:
        lines = done.stdout.decode().splitlines()[2:]
        assert [line.split("   ")[0].rstrip() for line in lines] == [
            path.encode("utf-8", "backslashreplace").decode() for path in expected
        ]


def test_folders_are_searched_in_the_order_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "in"
    names = ["a/1.png", "a/2/x.JPG", "b.webp"]
    for seed, name in enumerate([*names, ".hidden.png", "notes.txt", "a/closed/1.png"]):
        picture(root / (name if not name.endswith("txt") else "t.png"), seed)
    (root / "t.png").rename(root / "notes.txt")
    scandir = os.scandir

    def refuse(folder: Any) -> Any:
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    *found, closed = image_paths([str(root)])
    assert found == [f"{root}/{name}" for name in names]
    assert isinstance(closed, Unread)
    assert "closed cannot be read: Permission denied" in closed.reason


def test_the_table(tmp_path: Path, capsys: Captured) -> None:
    model = linear(tmp_path / "model.onnx", ("Katze", "[bold]狗", "eel"))
    images = [picture(tmp_path / name, seed) for seed, name in enumerate(("a.png", "bbbbbb.png"))]
    assert main(["predict", str(tmp_path), *map(str, images), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "class", "probability", "next"]
    opened = OnnxModel.open(model)
    for line, answer in zip(lines[2:], given([str(path) for path in images], opened, top=2), strict=True):
        assert isinstance(answer, Answer)
        (best, probability), (second, lower) = answer.top
        assert line.split() == [answer.path, best, f"{probability:.4f}", second, f"{lower:.4f}"]
    assert main(["predict", str(model), str(images[0]), "--top", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["image", "class", "probability"]


def test_more_classes_than_there_are_and_ties(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "a.png", 0))
    model = OnnxModel.open(linear(tmp_path / "model.onnx"))
    (answer,) = given([path], model, top=99)
    assert isinstance(answer, Answer)
    assert sorted(name for name, _ in answer.top) == ["cat", "dog", "eel"]
    values = [value for _, value in answer.top]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)

    class Undecided(Recorder):
        def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
            return np.full((len(pixels), 2), 0.5)

    (tied,) = given([path], Undecided())
    assert isinstance(tied, Answer)
    assert tied.top[0][0] == "cat"


def test_what_is_no_model_of_ours(tmp_path: Path, capsys: Captured) -> None:
    def refused(path: Path) -> str:
        assert main(["predict", str(path), "x.png"]) == 1
        said = capsys.readouterr()
        assert (said.out, len(said.err.splitlines())) == ("", 1)
        return said.err

    assert "there is no model" in refused(tmp_path / "gone.onnx")
    assert "holds no model.onnx: give the folder that `nas export` made" in refused(tmp_path)
    (tmp_path / "text.onnx").write_text("not a graph")
    assert "cannot be read as an ONNX model" in refused(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").touch()
    assert "cannot be read as an ONNX model" in refused(tmp_path / "empty.onnx")
    for number, options in enumerate(
        [
            {"metadata": {}},
            {"metadata": {"classes": "not json"}},
            {"metadata": {"classes": "[1, 2, 3]"}},
            {"outputs": 4},
            {"shape": (2, 6, 5)},
        ]
    ):
        path = linear(tmp_path / f"{number}.onnx", **options)  # type: ignore[arg-type]
        assert "was not written by `nas export`: it needs class names in its metadata" in refused(path)
    with pytest.raises(ExportError, match="was not written"):
        OnnxModel.open(linear(tmp_path / "odd.onnx", shape=(2, 6, 5), takes_bytes=True))


def test_top_is_at_least_one(model: Path, capsys: Captured) -> None:
    assert main(["predict", str(model), "x.png", "--top", "0"]) == 1
    assert "--top" in capsys.readouterr().err


def test_torch_is_not_loaded(tmp_path: Path, model: Path) -> None:
    path = picture(tmp_path / "a.png", 0)
    code = (
        f"import sys; from nas.cli import main; assert main(['predict', {str(model)!r}, {str(path)!r}]) == 0; "
        "print({'torch', 'optuna', 'sqlalchemy', 'scipy', 'onnx', 'sklearn'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
