"""`nas bench-model`: every format in a process of its own, with the batch and threads asked for; no times here."""

from __future__ import annotations

import json
import mmap
import pickle
import subprocess
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nas.cli import main
from nas.deployed import bench as bench_module
from nas.deployed import measure as measure_module
from nas.deployed.bench import Cell, Subject, beside, subjects
from nas.deployed.measure import LEAST_RUNS, MOST_RUNS, PATIENCE, Measured
from nas.deployed.pt2 import load_pt2
from nas.deployed.runtimes import RUNTIMES
from nas.errors import ExportError
from nas.models import build
from nas.references import REFERENCES
from tests.fake_study import architecture
from tests.onnx_models import linear

Captured = pytest.CaptureFixture[str]


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(images.flatten(1))
        return scores


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every format; the parts are not of one network, which nothing here looks at."""
    folder = tmp_path_factory.mktemp("models") / "model"
    folder.mkdir()
    torch.manual_seed(0)
    network = build(architecture(0.5))
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "model.safetensors"
    )
    card = {"architecture": network.architecture.to_json(), "input": {"mean": [0.3], "std": [0.4]}}
    (folder / "model.json").write_text(json.dumps(card))
    linear(folder / "model.onnx", [str(digit) for digit in range(10)], (1, 8, 8))
    linear(folder / "model-bytes.onnx", [str(digit) for digit in range(10)], (1, 8, 8), takes_bytes=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynamic = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(Small().eval(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=dynamic)
        torch.export.save(program, folder / "model.pt2")
    return folder


def test_every_format_of_a_folder(exported: Path) -> None:
    named = [(one.runtime, Path(one.file).name) for one in subjects(exported)]
    assert named == [
        ("torch eager", "model.safetensors"),
        ("torch export", "model.pt2"),
        ("ONNX Runtime", "model-bytes.onnx"),
        ("ONNX Runtime", "model.onnx"),
    ]
    assert [one.runtime for one in subjects(exported / "model.onnx")] == ["ONNX Runtime"]
    assert {one.model for one in subjects(exported)} == {str(exported)}


@pytest.mark.parametrize("batch", [1, 5])
def test_a_pass_is_over_the_whole_batch(exported: Path, batch: int) -> None:
    for subject in subjects(exported):
        run, threads = RUNTIMES[subject.runtime](subject.file, 1, None)(batch)
        given = run()
        logits = given[0] if isinstance(given, list) else given
        assert tuple(logits.shape) == (batch, 10), subject  # type: ignore[attr-defined]
        assert threads == 1


def test_the_command_measures_each_in_its_own_process(exported: Path, capsys: Captured) -> None:
    words = ["--batch", "2", "--threads", "2", "--seconds", "0.01", "--json"]
    assert main(["bench-model", str(exported / "model.onnx"), str(exported / "model.safetensors"), *words]) == 0
    said = capsys.readouterr()
    given = json.loads(said.out)
    assert (given["threads"], given["seconds"]) == (2, 0.01)
    assert set(given["versions"]) == {"python", "nas", "torch", "onnxruntime", "numpy"}
    assert given["hardware"]
    assert [(cell["runtime"], cell["batch"]) for cell in given["cells"]] == [("ONNX Runtime", 2), ("torch eager", 2)]
    for cell in given["cells"]:
        assert cell["threads"] == 2  # as the runtime says
        assert 0 < cell["median_ms"] <= cell["p95_ms"]
        assert cell["images_per_s"] > 0
        assert cell["runs"] >= 1
        assert 0 <= cell["model_mb"] < cell["peak_mb"]
    by_runtime = {cell["runtime"]: cell["peak_mb"] for cell in given["cells"]}
    assert by_runtime["ONNX Runtime"] < by_runtime["torch eager"]  # torch was never loaded there
    assert given["hardware"] in said.err
    assert "2 threads" in said.err
    for number, cell in enumerate(given["cells"], start=1):  # minutes may pass before the table
        assert f"[{number} of 2] {cell['file']}, batch 2: {cell['median_ms']:.3f} ms\n" in said.err


def test_the_table_and_what_fails(exported: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "model.onnx").write_text("no graph")
    words = ["--batch", "3,1,3", "--seconds", "0.01"]
    assert main(["bench-model", str(tmp_path), str(exported / "model.onnx"), *words]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split()[:4] == ["model", "runtime", "file", "batch"]
    for line, batch in zip(lines[2:], "31", strict=True):
        assert line.split()[:5] == [str(exported / "model.onnx"), "ONNX", "Runtime", "model.onnx", batch]
    assert f"nas: {tmp_path}/model.onnx, batch 1: " in said.err
    assert "cannot be read as an ONNX model" in said.err


def test_a_failure_is_in_the_json_too(tmp_path: Path, exported: Path, capsys: Captured) -> None:
    (tmp_path / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes())
    assert main(["bench-model", str(tmp_path), "--batch", "1", "--seconds", "0.01", "--json"]) == 1
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert "model.json does not say what its network is" in cell["error"]
    assert "median_ms" not in cell


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "0"], "--batch '0': give one or several numbers of images from 1 to 65536"),
        (["--batch", "1,,2"], "--batch '1,,2'"),
        (["--batch", ""], "--batch ''"),
        (["--batch", "many"], "--batch 'many'"),
        (["--batch", "65537"], "--batch '65537'"),
        (["--seconds", "0"], "--seconds 0: give more than 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--threads", "0"], "--threads"),
    ],
)
def test_wrong_options(exported: Path, words: list[str], said: str, capsys: Captured) -> None:
    assert main(["bench-model", str(exported), *words]) == 1
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    assert said in told.err


def test_nothing_to_measure(tmp_path: Path, capsys: Captured) -> None:
    assert main(["bench-model", str(tmp_path / "gone")]) == 1
    assert "there is no model" in capsys.readouterr().err
    assert main(["bench-model", str(tmp_path)]) == 1
    assert "holds nothing to measure" in capsys.readouterr().err
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ExportError, match=r"files of them \(model\.safetensors, \.pt2, \.onnx\)"):
        subjects(tmp_path / "notes.txt")


def clock(monkeypatch: pytest.MonkeyPatch, seconds_a_pass: float) -> Callable[[], None]:
    """A pass that takes so long on a clock that nothing else moves."""
    now = [0.0]
    monkeypatch.setattr(measure_module.time, "perf_counter", lambda: now[0])

    def run() -> None:
        now[0] += seconds_a_pass

    return run


@pytest.mark.parametrize(
    ("seconds_a_pass", "passes"),
    [(1 / 64, 128), (0.25, LEAST_RUNS), (2.0, 2 * PATIENCE // 2), (100.0, 1), (1e-9, MOST_RUNS)],
    ids=["the time asked for", "until there are enough", "as many as patience allows", "one", "an end"],
)
def test_how_many_passes(monkeypatch: pytest.MonkeyPatch, seconds_a_pass: float, passes: int) -> None:
    times = measure_module._passes(clock(monkeypatch, seconds_a_pass), 2.0, LEAST_RUNS)
    assert len(times) == passes
    assert times == pytest.approx([seconds_a_pass] * passes)


def test_too_few_passes_are_said(exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def few(found: list[Subject], *_: Any, **__: Any) -> Iterator[Cell]:
        yield Cell(found[0], 1, Measured(LEAST_RUNS - 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1))

    monkeypatch.setattr(bench_module, "bench", few)
    assert main(["bench-model", str(exported / "model.onnx")]) == 0
    assert "model.onnx, batch 1: only 29 passes; give more --seconds" in capsys.readouterr().err


def test_a_process_that_dies_is_said() -> None:
    subject = Subject("m", "ONNX Runtime", "m.onnx")

    def error(code: int, said: str = "") -> str | None:
        return bench_module._cell(subject, 1, subprocess.CompletedProcess([], code, "", said)).error

    assert error(-9) == "the process that measured it was killed: not enough memory?"
    assert error(-11) == "the process that measured it was killed: signal 11"
    assert (
        error(1, "Traceback\nMemoryError: too much\n") == "the process that measured it failed: MemoryError: too much"
    )
    assert error(1) == "the process that measured it failed: it said nothing"


def test_memory_counts_from_when_the_model_is_loaded() -> None:
    before = measure_module._held_mb()
    with mmap.mmap(-1, 64 * 2**20) as block:  # not from the heap, which may hold that much from other tests
        for _ in range(64):
            block.write(b"1" * 2**20)
        assert measure_module._peak_mb() - before > 60


@pytest.mark.parametrize("name", ["inception-v1-module", "nin-cifar"])
def test_a_reference_network_runs_on_its_own_input(exported: Path, tmp_path: Path, name: str) -> None:
    card = json.loads((exported / "model.json").read_text())
    card["architecture"]["classes"] = 7
    (tmp_path / "model.json").write_text(json.dumps(card))
    subject = next(one for one in beside([exported / "model.onnx", tmp_path]) if one.file == name)
    assert (subject.model, subject.runtime) == (f"{name} at 3x32x32", "torch eager, reference")
    assert subject.like == f"{tmp_path}/model.json"
    run, threads = RUNTIMES[subject.runtime](subject.file, 1, subject.like)(3)
    logits = run()
    assert isinstance(logits, torch.Tensor)
    assert (tuple(logits.shape), threads) == ((3, 7), 1)


def test_reference_networks_stand_beside_an_exported_folder(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    asked: list[Subject] = []

    def none(found: list[Subject], *_: Any, **__: Any) -> Iterator[Cell]:
        asked[:] = found
        return iter(())

    monkeypatch.setattr(bench_module, "bench", none)
    assert main(["bench-model", str(exported)]) == 0
    assert [one.file for one in asked[4:]] == list(REFERENCES)
    assert {one.like for one in asked[4:]} == {f"{exported}/model.json"}
    assert "Beside them 8 reference networks, each for its own input; --no-references" in capsys.readouterr().err
    for words in ([str(exported), "--no-references"], [str(exported / "model.onnx")]):
        assert main(["bench-model", *words]) == 0
        assert all("reference" not in one.runtime for one in asked)
        assert "Beside" not in capsys.readouterr().err


class Evil:
    def __init__(self, planted: Path) -> None:
        self.planted = planted

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.planted,))


def changed(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with its entries changed; their names are without the archive's own."""
    with zipfile.ZipFile(source) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"model/{name}", content)
    return target


def test_a_pt2_with_plain_weights_is_opened(exported: Path, tmp_path: Path) -> None:
    program = load_pt2(changed(exported / "model.pt2", tmp_path / "model.pt2", lambda entries: None))
    assert program.module()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_a_planted_pickle_is_not_run(exported: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    evil = pickle.dumps(Evil(planted))
    torch.save(Evil(planted), tmp_path / "evil.pt")
    saved = (tmp_path / "evil.pt").read_bytes()

    def in_the_weights(entries: dict[str, bytes]) -> None:
        config = json.loads(entries["data/weights/model_weights_config.json"])
        config["config"]["last.weight"]["use_pickle"] = True
        entries["data/weights/model_weights_config.json"] = json.dumps(config).encode()
        entries["data/weights/weight_0"] = saved

    def in_the_constants(entries: dict[str, bytes]) -> None:
        opaque = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        entries["data/constants/model_constants_config.json"] = json.dumps({"config": {"x": opaque}}).encode()
        entries["data/constants/opaque_obj_0"] = evil

    def as_code(entries: dict[str, bytes]) -> None:
        entries["data/aotinductor/model/x.so"] = b"\x7fELF"

    def as_an_example(entries: dict[str, bytes]) -> None:
        entries["data/sample_inputs/model.pt"] = saved

    path = tmp_path / "model.pt2"
    for change in (in_the_weights, in_the_constants, as_code):
        with pytest.raises(ExportError, match="holds pickles, compiled code or other things"):
            load_pt2(changed(exported / "model.pt2", path, change))
    with pytest.raises(ExportError, match="cannot be read as a torch export"):
        load_pt2(changed(exported / "model.pt2", path, as_an_example))
    path.write_bytes(evil)
    with pytest.raises(ExportError, match="cannot be read as a torch export"):
        load_pt2(path)
    path.write_bytes(saved)  # an archive as torch.save writes it
    with pytest.raises(ExportError, match="holds pickles"):
        load_pt2(path)
    assert not planted.exists()


def test_a_pt2_that_is_torn(exported: Path, tmp_path: Path) -> None:
    def without_graph(entries: dict[str, bytes]) -> None:
        entries["models/model.json"] = b"{}"

    def without_weight(entries: dict[str, bytes]) -> None:
        del entries["data/weights/weight_0"]

    for change in (without_graph, without_weight):
        with pytest.raises(ExportError, match="cannot be read as a torch export"):
            load_pt2(changed(exported / "model.pt2", tmp_path / "model.pt2", change))
