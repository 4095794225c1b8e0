"""The generated model.py is the network: the same state, the same bits, in a file of torch alone."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from nas.architecture import Architecture
from nas.data import normalise
from nas.errors import ExportError
from nas.export import source_file
from nas.export.source_file import source_of
from nas.models import build
from nas.space import load_space
from tests.fake_study import HOSTILE, architecture
from tests.networks import googlenet, inception_cifar, random_architecture, small_googlenet
from tests.spaces import SPACES, vectors

NAMES = ['say "hi"', "it's", "back\\slash", "\"\"\"'''", "both \"'\\", "naïve 猫", "'); import os; ('", "{braces}"]


def text_of(network: Architecture) -> str:
    channels = network.input_shape[0]
    return source_of(
        network, title="A test.", classes=[f"class {label}" for label in range(network.classes)],
        mean=[0.1 + 0.2 * channel for channel in range(channels)], std=[0.3] * channels,
    )  # fmt: skip


def executed(text: str) -> Any:
    names: dict[str, Any] = {"__name__": "model", "__file__": "model.py"}
    exec(compile(text, "model.py", "exec"), names)  # noqa: S102  (the file that was just written)
    return SimpleNamespace(**names)


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """What an export keeps: without auxiliary heads."""
    state = network.state_dict()
    return {name: tensor.contiguous() for name, tensor in state.items() if not name.startswith("auxiliary.")}


def check(found: Architecture, seed: int, folder: Path) -> None:
    """The generated file gives the bits of the network, whose weights it reads by itself."""
    torch.manual_seed(seed)
    network = build(found)
    images = torch.randint(0, 256, (3, *found.input_shape), dtype=torch.uint8)
    module = executed(text_of(found))
    inputs = normalise(images, module.MEAN, module.STD)
    with torch.inference_mode():
        network(inputs)  # batch norm has statistics after it
    network.eval()
    save_file(state_of(network), folder / "model.safetensors")
    mine = module.load(folder / "model.safetensors")
    assert list(mine.state_dict()) == list(state_of(network))
    with torch.inference_mode():
        assert torch.equal(module.normalise(images), inputs)
        assert torch.equal(mine(inputs), network(inputs))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_network_as_source_gives_the_same_bits(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(random_architecture(random.Random(seed)), seed % 1000, tmp_path_factory.mktemp("any"))


@pytest.mark.parametrize("name", [name for name in SPACES if name != "imagenet"])
def test_networks_of_a_shipped_space_give_the_same_bits(name: str, tmp_path: Path) -> None:
    space = load_space(name)
    for vector in vectors(space.narrowed(rule="growing"), 2):
        check(space.decode(vector.tolist()), 0, tmp_path)


@pytest.mark.parametrize("found", [small_googlenet(), inception_cifar(10)], ids=["local response norm", "biases"])
def test_published_networks_give_the_same_bits(found: Architecture, tmp_path: Path) -> None:
    check(found, 0, tmp_path)


def test_auxiliary_heads_are_left_out_of_a_large_network() -> None:
    found = googlenet()
    with torch.device("meta"):
        mine = executed(text_of(found)).Network()
        network = build(found)
    assert {name: tensor.shape for name, tensor in mine.state_dict().items()} == {
        name: tensor.shape for name, tensor in network.state_dict().items() if not name.startswith("auxiliary.")
    }
    assert sum(weight.numel() for weight in mine.parameters()) == found.params


def test_it_imports_torch_alone() -> None:
    for found in (small_googlenet(), architecture(1.0)):
        lines = [node for node in ast.walk(ast.parse(text_of(found))) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in lines}
        assert names == {"__future__", "json", "pathlib", "torch"}


def test_it_is_as_a_person_would_write_it(tmp_path: Path) -> None:
    draw = random.Random(0)
    networks = [architecture(1.0), small_googlenet(), inception_cifar(10), googlenet()]
    for number, found in enumerate([*networks, *(random_architecture(draw) for _ in range(8))]):
        (tmp_path / f"model_{number}.py").write_text(text_of(found), encoding="utf-8")
    config = ["--no-cache", "--config", str(Path(__file__).parents[1] / "pyproject.toml"), str(tmp_path)]
    for command in (["check"], ["format", "--diff"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *config], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    text = (tmp_path / "model_0.py").read_text()
    assert "Inception(8, " in text
    assert "class Network(nn.Module):" in text
    assert "LocalResponseNorm" not in text
    assert "# (N, 1, 8, 8)" in text


@pytest.mark.parametrize("title", [*NAMES, HOSTILE, "a\nb", 'ends in "', "\\", '""" + __import__("os").getcwd() + """'])
def test_no_name_can_leave_its_place(title: str, tmp_path: Path) -> None:
    classes = [*NAMES, "x" * 50, "y"]
    text = source_of(architecture(1.0), title=title, classes=classes, mean=[0.3], std=[0.4])
    module = executed(text)
    assert list(module.CLASSES) == classes
    assert module.__doc__.startswith(title[:2].replace("\\", "/").replace('"', "'").replace("\n", " "))
    tree = ast.parse(text)
    assert isinstance(tree.body[0], ast.Expr)
    assert isinstance(tree.body[0].value, ast.Constant)
    path = tmp_path / "model.py"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--no-cache", "--line-length", "120", "--diff", path]
    )
    assert done.returncode == 0


def test_a_layer_that_it_cannot_write_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "LocalResponseNorm", SimpleNamespace)  # so the one of the network is none it knows
    said = "no way yet to write a layer 'LocalResponseNorm'; leave source and safetensors out of --format"
    with pytest.raises(ExportError, match=said):
        text_of(small_googlenet())
