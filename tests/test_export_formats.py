"""Every format of an export answers as the trained network did, by whatever loads it; what the folder says is true."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import nas
from nas.architecture import Architecture
from nas.data import normalise
from nas.deployed.onnx_model import OnnxModel
from nas.deployed.pt2 import load_pt2
from nas.deployed.runtimes import Card
from nas.errors import ExportError
from nas.export import FORMATS, Exported, export_network, formats_of
from nas.export.verify import answers_of
from nas.models import build
from nas.records import Row
from nas.seal import Reading
from tests.export_study import TRIAL, digits, export_study, network, outcome_of
from tests.fake_study import STARTED, architecture

INT8 = "model-int8.onnx"
OTHERS = {INT8, "predict.py", "model.json", "MODEL_CARD.md"}


def reading(row: Row, sha256: str, right: int) -> Reading:
    confusion = [[0] * 10 for _ in range(10)]
    confusion[0][0], confusion[0][1] = right, 360 - right
    rows = tuple(map(tuple, confusion))
    return Reading(row.trial, row.key, digits().digest, "search", sha256, rows, "nas test", STARTED)


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    return outcome_of(export_study(tmp_path_factory.mktemp("rows"))).trial(TRIAL)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """All formats, and the one in 8 bits."""
    folder = export_study(tmp_path_factory.mktemp("studies"))
    outcome = outcome_of(folder)
    row = outcome.trial(TRIAL)
    mine = hashlib.sha256(folder.weights(row.key).read_bytes()).hexdigest()
    return export_network(
        folder, outcome, f"trial:{TRIAL}", int8=True, output=tmp_path_factory.mktemp("out") / "model",
        readings=[reading(row, mine, 90), reading(row, "another's", 1), reading(row, mine, 90)],
        command="nas export fake --pick trial:3 --output /home/someone/model",
    )  # fmt: skip


@pytest.fixture(scope="module")
def of_pixels(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An ONNX file that takes uint8 pictures."""
    folder = export_study(tmp_path_factory.mktemp("studies"))
    return export_network(
        folder, outcome_of(folder), "best", formats=["onnx"], pixels=True, int8=True,
        output=tmp_path_factory.mktemp("out") / "model",
    )  # fmt: skip


def by_onnx(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    pixels = images.permute(0, 2, 3, 1) if given.type == "tensor(uint8)" else images.float() / 255
    return torch.from_numpy(session.run(None, {"images": pixels.contiguous().numpy()})[0])


def by_pt2(path: Path, images: Tensor) -> Tensor:
    found: Tensor = torch.export.load(path).module()(images.contiguous().float() / 255)
    return found


def by_safetensors(path: Path, images: Tensor) -> Tensor:
    card = json.loads(path.with_name("model.json").read_text())
    network = build(Architecture.from_json(card["architecture"]))
    network.load_state_dict(load_file(path))
    with torch.inference_mode():
        found: Tensor = network.eval()(normalise(images, card["input"]["mean"], card["input"]["std"]))
    return found


def by_source(path: Path, images: Tensor) -> Tensor:
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.inference_mode():
        found: Tensor = module.load()(module.normalise(images))
    return found


ANSWERS: dict[str, Callable[[Path, Tensor], Tensor]] = {
    "onnx": by_onnx, "pt2": by_pt2, "safetensors": by_safetensors, "source": by_source,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_answers_as_the_network_did(name: str, exported: Exported, row: Row) -> None:
    path = exported.path / FORMATS[name][0]
    part = digits().validation
    assert isinstance(part.images, Tensor)
    logits = ANSWERS[name](path, part.images)  # any batch: here all at once
    assert int((logits.argmax(1) == part.labels).sum()) / len(part) == row.val_accuracy == exported.val_accuracy
    torch.testing.assert_close(ANSWERS[name](path, part.images[:1]), logits[:1], atol=1e-5, rtol=0)
    (checked,) = [one for one in exported.checked if one.file == path.name]
    assert (checked.images, checked.same, checked.accuracy) == (len(part), len(part), row.val_accuracy)
    assert checked.difference < 1e-4


def test_every_format_is_here() -> None:
    assert ANSWERS.keys() == FORMATS.keys()


def test_the_folder_holds_the_formats_and_their_words(exported: Exported, of_pixels: Exported) -> None:
    files = {path.name for path in exported.path.iterdir()}
    assert files == {file for file, _ in FORMATS.values()} | OTHERS
    assert {path.name for path in of_pixels.path.iterdir()} == {"model.onnx", *OTHERS}
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in exported.path.iterdir())


def test_the_json_says_what_the_folder_holds(exported: Exported, row: Row) -> None:
    card = json.loads((exported.path / "model.json").read_text())
    assert Architecture.from_json(card["architecture"]) == row.architecture
    assert card["classes"] == list(digits().classes)
    assert card["input"]["mean"] == list(digits().mean)
    assert (card["study"], card["trial"], card["key"], card["parameters"], card["macs"]) == (
        "fake", TRIAL, row.key, row.params, row.macs,
    )  # fmt: skip
    found = card["val_accuracy"]
    assert found["recorded"] == row.val_accuracy == found["exported"] == found["right"] / found["images"]
    low, high = found["interval"]
    assert low < found["accuracy"] < high
    assert (low, high) == exported.interval
    assert found["split"] == "validation"
    tests = [(test["right"], test["images"], test["split"], test["times"]) for test in card["test"]]
    assert tests == [(90, 360, "test", 2)]
    assert "90 of 360, read 2 times, first on 2026-05-04" in (exported.path / "MODEL_CARD.md").read_text()
    assert card["weights"]["which"] == "search"
    assert set(card["sha256"]) == {path.name for path in exported.path.iterdir()} - {"model.json", "MODEL_CARD.md"}
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((exported.path / name).read_bytes()).hexdigest() == digest
    assert card["command"] == "nas export fake --pick trial:3"
    assert card["onnx_opset"] == 18
    latency = card["latency_ms"]
    assert min(latency[name] for name in ("torch", "onnxruntime", "onnxruntime_int8")) > 0
    assert (latency["batch"], latency["runs"], latency["threads"]) == (1, 50, torch.get_num_threads())
    assert latency["hardware"]


def test_the_card_says_it_to_a_person(exported: Exported, row: Row) -> None:
    page = (exported.path / "MODEL_CARD.md").read_text()
    low, high = exported.interval
    assert f"# Trial {TRIAL} of study fake" in page
    assert f"{row.params:,} parameters and {row.macs:,} multiply-adds" in page
    assert f"{row.val_accuracy:.4f}, 95 % {low:.4f} to {high:.4f} (Wilson)" in page
    assert "0.2500, 95 %" in page  # of the test images, 90 of 360
    assert f"| search, 1 epoch; seed {row.seed}, on cpu |" in page
    card = json.loads((exported.path / "model.json").read_text())
    sums = {**card["sha256"], "model.json": hashlib.sha256((exported.path / "model.json").read_bytes()).hexdigest()}
    for name, digest in sums.items():
        assert f"| `{name}` |" in page
        assert f"`{digest}` |" in page


def test_the_onnx_file_carries_its_use(exported: Exported, of_pixels: Exported) -> None:
    for done, kind, layout, shape in (
        (exported, "float32", "NCHW", ["batch", 1, 8, 8]),
        (of_pixels, "uint8", "NHWC", ["batch", 8, 8, 1]),
    ):
        for name in ("model.onnx", INT8):
            model = onnx.load(done.path / name)
            props = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
            assert props["classes"] == [str(digit) for digit in range(10)]
            assert (props["study"], props["trial"]) == ("fake", TRIAL)
            given = props["input"]
            assert (given["type"], given["layout"], given["shape"]) == (kind, layout, shape)
            assert given["range"] == [0, 255] if kind == "uint8" else [0, 1]
            (graph,) = onnxruntime.InferenceSession(done.path / name, providers=["CPUExecutionProvider"]).get_inputs()
            assert graph.shape == shape
            if name == "model.onnx":
                assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]


def test_pixels_are_normalised_inside_the_graph(exported: Exported, of_pixels: Exported) -> None:
    images = digits().validation.images
    assert isinstance(images, Tensor)
    of_floats, of_bytes = (by_onnx(done.path / "model.onnx", images) for done in (exported, of_pixels))
    torch.testing.assert_close(of_bytes, of_floats, atol=1e-4, rtol=0)
    assert of_pixels.val_accuracy == exported.val_accuracy


@pytest.mark.parametrize("kind", ["exported", "of_pixels"])
def test_eight_bits_are_what_is_said_of_them(kind: str, request: pytest.FixtureRequest) -> None:
    done: Exported = request.getfixturevalue(kind)
    part = digits().validation
    assert isinstance(part.images, Tensor)
    found = by_onnx(done.path / INT8, part.images).argmax(1)
    plain = by_onnx(done.path / "model.onnx", part.images).argmax(1)
    card = json.loads((done.path / "model.json").read_text())
    checked = done.checked[-1]
    assert checked.file == INT8
    right, same = int((found == part.labels).sum()), int((found == plain).sum())
    assert (checked.right, checked.same) == (right, same) == (card["int8"]["right"], card["int8"]["same"])
    assert checked.accuracy == card["int8"]["val_accuracy"] == right / len(part)
    assert same > 0.8 * len(part)
    assert card["int8"]["calibration_images"] == 256
    # those of four dimensions and one number are mean and std
    kept = onnx.load(done.path / INT8).graph.initializer
    kinds = {entry.data_type for entry in kept if len(entry.dims) == 4 and np.prod(entry.dims) > 1}
    assert kinds == {onnx.TensorProto.INT8}
    assert done.difference < 1e-4  # the 8 bits are not in it


def test_no_file_knows_this_machine(exported: Exported) -> None:
    places = [str(Path(nas.__file__).parents[1]), str(Path(torch.__file__).parents[1]), "/home/someone", "/tmp"]
    for path in exported.path.iterdir():
        contents = [path.read_bytes()]
        if path.suffix == ".pt2":
            with zipfile.ZipFile(path) as archive:
                contents = [archive.read(name) for name in archive.namelist()]
        for place in places:
            assert not any(place.encode() in content for content in contents), f"{path.name} holds {place}"


def test_a_format_may_be_asked_for_alone(tmp_path: Path) -> None:
    folder = export_study(tmp_path)
    outcome = outcome_of(folder)
    for name, files in (("safetensors", set()), ("source", {"model.py"})):
        done = export_network(folder, outcome, "best", formats=[name], output=tmp_path / name)
        assert {path.name for path in done.path.iterdir()} == {
            "model.safetensors", "model.json", "MODEL_CARD.md", *files,
        }  # fmt: skip
        assert [one.file for one in done.checked] == ["model.safetensors", *files]
        assert "onnxruntime" not in json.loads((done.path / "model.json").read_text())["latency_ms"]


def test_auxiliary_heads_stay_behind(tmp_path: Path) -> None:
    folder = export_study(tmp_path, replace(architecture(1.0), auxiliary=(0,)))
    done = export_network(folder, outcome_of(folder), "best", formats=["source"], output=tmp_path / "model")
    assert done.row.architecture.auxiliary == (0,)
    assert not [name for name in load_file(done.path / "model.safetensors") if name.startswith("auxiliary")]
    images = digits().validation.images
    assert isinstance(images, Tensor)
    by_weights = by_safetensors(done.path / "model.safetensors", images)  # the network of model.json takes them whole
    assert torch.equal(by_weights, by_source(done.path / "model.py", images))


def test_the_other_commands_open_what_an_export_wrote(exported: Exported, of_pixels: Exported) -> None:
    pixels = digits().validation.images[:5].permute(0, 2, 3, 1).contiguous().numpy()  # type: ignore[index, union-attr]
    for done in (exported, of_pixels):
        for path in (done.path, done.path / INT8):
            model = OnnxModel.open(path)
            assert (model.classes, model.input_shape) == (digits().classes, (1, 8, 8))
            assert model.takes_bytes is (done is of_pixels)
            np.testing.assert_allclose(model.probabilities(pixels).sum(axis=1), 1)
    assert load_pt2(exported.path / "model.pt2").graph_signature.user_inputs == ("images",)
    assert Card.read(exported.path / "model.json").mean == digits().mean


def test_formats_are_read_and_a_wrong_one_is_said(tmp_path: Path) -> None:
    assert formats_of("source, onnx,onnx") == ("onnx", "source")
    with pytest.raises(ExportError, match=r"unknown --format 'onxn': did you mean 'onnx'\? allowed: onnx, pt2"):
        formats_of("onxn,pt2")
    with pytest.raises(ExportError, match=r"--format ' ,' names none; allowed: onnx"):
        formats_of(" ,")
    folder = export_study(tmp_path)
    for more, option in (({"int8": True}, "--int8"), ({"pixels": True}, "--uint8")):
        with pytest.raises(ExportError, match=f"{option} is about model.onnx: add onnx to --format"):
            export_network(folder, outcome_of(folder), "best", formats=["pt2"], output=tmp_path / "model", **more)  # type: ignore[arg-type]
    assert not (tmp_path / "model").exists()


def run_predict(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """predict.py as whoever got the folder runs it, without what `nas` brings."""
    command = [sys.executable, "-I", "-X", "utf8", str(folder / "predict.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", ["exported", "of_pixels"])
def test_predict_answers_files_and_names_those_that_it_cannot_read(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    done: Exported = request.getfixturevalue(kind)
    images = digits().validation.images
    assert isinstance(images, Tensor)
    good, odd = tmp_path / "good.png", tmp_path / "od\x1bd [b].png"
    for path, number in ((good, 0), (odd, 1)):
        Image.fromarray(images[number, 0].numpy()).save(path)
    broken, gone = tmp_path / "broken.png", tmp_path / "gone.png"
    broken.write_bytes(good.read_bytes()[:40])
    logits = by_onnx(done.path / "model.onnx", images[:2]).double().softmax(1)

    found = run_predict(done.path, str(good), str(broken), str(gone), str(odd), "--json", "--top", "3")
    assert found.returncode == 1
    assert [line.split(":")[0] for line in found.stderr.splitlines()] == [str(broken), str(gone)]
    answers = json.loads(found.stdout)
    assert [answer["path"] for answer in answers] == [str(good), str(odd)]
    for answer, expected in zip(answers, logits, strict=True):
        top = expected.topk(3)
        assert [entry["class"] for entry in answer["top"]] == [str(int(label)) for label in top.indices]
        np.testing.assert_allclose([entry["probability"] for entry in answer["top"]], top.values, atol=1e-5)
        assert {name: answer[name] for name in ("class", "probability")} == answer["top"][0]

    found = run_predict(done.path, str(good), str(odd))
    assert (found.returncode, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert lines[1].startswith(f"{tmp_path}/od\\x1bd [b].png: ")
    assert all(re.fullmatch(r".*: (\d \d+\.\d%(, )?){5}", line) for line in lines)


def test_predict_needs_neither_nas_nor_torch(exported: Exported) -> None:
    code = f"""
import runpy, sys
sys.argv = ["predict.py", "nothing.png"]
try:
    runpy.run_path({str(exported.path / "predict.py")!r}, run_name="__main__")
except SystemExit as end:
    assert end.code == 1
print({{"nas", "torch", "safetensors", "onnx", "scipy"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("words", "said"),
    [(["x.png", "--top", "0"], "--top: 0 is less than 1"), (["x.png", "--model", "none.onnx"], "no file none.onnx")],
)
def test_predict_says_what_is_wrong_with_its_command(words: list[str], said: str, exported: Exported) -> None:
    done = run_predict(exported.path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[-1]


def damaged(content: bytes) -> bytes:
    return content[: len(content) // 2]


def before(line: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(b"import json", line.encode() + b"\nimport json", 1)


@pytest.mark.parametrize(
    ("file", "harmed", "change", "said"),
    [
        *((name, name, damaged, name) for name, _ in FORMATS.values() if name != "model.py"),
        ("model.py", "model.safetensors", damaged, r"model\.py \("),
        ("model.py", "model.py", before("import nas"), "nas is not there for whoever uses the exported files"),
        ("model.onnx", "predict.py", before("import torch"), "torch is not there for whoever uses"),
        ("model.onnx", "predict.py", before("import nas.data"), "nas is not there for whoever uses"),
    ],
)
def test_a_file_that_cannot_stand_alone_is_refused(
    file: str, harmed: str, change: Callable[[bytes], bytes], said: str, exported: Exported, tmp_path: Path
) -> None:
    for path in exported.path.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(change(content) if path.name == harmed else content)
    assert (tmp_path / harmed).read_bytes() != (exported.path / harmed).read_bytes()
    with pytest.raises(ExportError, match=f"a fresh process cannot answer by .*{said}"):
        answers_of(network(architecture(1.0)), [tmp_path / file], tmp_path, digits(), input_shape=(1, 8, 8), threads=1)


def test_a_fresh_process_leaves_the_folder_as_it_is(exported: Exported) -> None:
    assert not (exported.path / "__pycache__").exists()
