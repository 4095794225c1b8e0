"""Every reference network as a torch module: what it computes on its declared input, and that it can be exported."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture
from nas.export.onnx_file import INPUT, OUTPUT, write_onnx
from nas.export.program import Deployed, to_program, write_program
from nas.models import InceptionNetwork, PlainModule, build_reference
from nas.models.local_response_norm import LocalResponseNorm
from nas.plain import PlainConv
from nas.references import REFERENCES, reference

SIDES = {
    "inception-naive-module": [8],
    "inception-v1-module": [8],
    "inception-cifar": [32, 32, 16, 16, 8],
    "small-googlenet": [8] * 5,
    "googlenet": [28, 28, 14, 14, 14, 14, 14, 7, 7],
    "alexnet-cifar-plain": [32, 16, 8, 8, 8],
    "alexnet-cifar": [32, 16, 8, 8, 8, 4],
    "nin-cifar": [32, 16, 18, 20, 10, 12, 14, 9, 9, 11, 5],
}
"""Sides of the maps that each Inception module, or each convolution of a plain network, writes."""

QUICK_TO_EXPORT = ("small-googlenet", "nin-cifar")
"""One of each kind; the others take five to eight seconds each."""


def images_of(name: str, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, *reference(name).input_shape, generator=generator)


def built(name: str, classes: int = 10, seed: int = 0) -> InceptionNetwork | PlainModule:
    torch.manual_seed(seed)
    return build_reference(reference(name), classes)


def outputs(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The logits and those of auxiliary heads."""
    given = network(images)
    return [given] if isinstance(given, Tensor) else [given[0], *given[1]]


@pytest.mark.parametrize("name", REFERENCES)
def test_forward_and_backward_on_the_declared_input(name: str) -> None:
    network = built(name)
    given = outputs(network, images_of(name))
    assert [tuple(logits.shape) for logits in given] == [(2, 10)] * (3 if name == "googlenet" else 1)
    sum(nn.functional.cross_entropy(logits, torch.tensor([3, 7])) for logits in given).backward()  # type: ignore[union-attr]
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    with torch.no_grad():
        answer = network.eval()(images_of(name))
    assert tuple(answer.shape) == (2, 10)  # heads are silent outside training
    assert answer.isfinite().all()


@pytest.mark.parametrize("name", REFERENCES)
def test_the_counts_are_those_of_the_module(name: str) -> None:
    one = reference(name)
    network = built(name, classes=100)
    sizes = {key: parameter.numel() for key, parameter in network.named_parameters()}
    heads = sum(size for key, size in sizes.items() if key.startswith("auxiliary."))
    assert sum(sizes.values()) == one.training_params(100)
    assert sum(sizes.values()) - heads == one.params(100)
    assert (heads > 0) == (name == "googlenet")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(images_of(name, 1))
    counted = counter.get_flop_counts()["Global"]
    normalises = any(isinstance(layer, LocalResponseNorm) for layer in network.modules())
    sums = counted.get(torch.ops.aten.mm, 0) if normalises else 0  # windows of the norm, no multiply-adds of its own
    assert counter.get_total_flops() - sums == 2 * one.macs(100)


@pytest.mark.parametrize("name", REFERENCES)
def test_the_maps_have_their_sides(name: str) -> None:
    network = built(name).eval()
    found: list[tuple[int, int]] = []
    inception = isinstance(network, InceptionNetwork)
    watched = network.inception if inception else [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for layer in watched:
        layer.register_forward_hook(lambda _layer, _given, out: found.append(tuple(out.shape[2:])))
    with torch.no_grad():
        network(images_of(name, 1))
    assert found == [(side, side) for side in SIDES[name]]
    data = reference(name).network(10)
    if isinstance(data, Architecture):
        stated = [shape[1:] for shape in data.module_inputs()[:-1]]
    else:
        stated = [after[1:] for layer, _, after in data.steps() if isinstance(layer, PlainConv)]
    assert stated == found


@pytest.mark.parametrize("name", REFERENCES)
def test_the_state_goes_out_and_in(name: str, tmp_path: Path) -> None:
    network, other = built(name), built(name, seed=1)
    images = images_of(name)
    outputs(network, images)  # batch norm's statistics move
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    network.eval()
    other.eval()
    with torch.no_grad():
        assert not torch.equal(network(images), other(images))
        other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        assert torch.equal(network(images), other(images))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK_TO_EXPORT else pytest.mark.slow) for name in REFERENCES],
)
def test_it_leaves_as_onnx_and_pt2(name: str, tmp_path: Path) -> None:
    network = built(name)
    one, images = reference(name), images_of(name, 3)
    with torch.no_grad():
        outputs(network, images)
        deployed = Deployed(network.eval(), [0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
        answer = deployed(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = to_program(deployed, torch.zeros(2, *one.input_shape))
        write_program(program, tmp_path / "model.pt2")
        write_onnx(program, tmp_path / "model.onnx", {"name": name})
        again = torch.export.load(tmp_path / "model.pt2").module()(images)
    scale = float(answer.abs().max())
    torch.testing.assert_close(again, answer, atol=1e-5 * scale, rtol=0)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
    np.testing.assert_allclose(logits, answer.numpy(), atol=1e-5 * scale, rtol=0)
    held = sum(int(np.prod(tensor.shape)) for tensor in program.state_dict.values() if tensor.ndim)
    assert held >= one.params(10)


def test_small_googlenet_has_its_own_initialisation() -> None:
    """Weights have a variance of 2 / fan-in, biases one of 1; with PyTorch's, both would be uniform and far smaller."""
    network = built("small-googlenet")
    weights = network.inception[4].conv_5x5.conv  # type: ignore[union-attr]
    assert isinstance(weights, nn.Conv2d)
    assert weights.weight.std().item() == pytest.approx((2 / (24 * 25)) ** 0.5, rel=0.02)
    assert network.linear.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)  # type: ignore[union-attr]
    biases = torch.cat([value.detach() for key, value in network.named_parameters() if key.endswith("bias")])
    assert biases.std().item() == pytest.approx(1, rel=0.1)
    assert biases.mean().item() == pytest.approx(0, abs=0.1)
    other = built("inception-cifar").inception[4].conv_5x5.conv.weight  # type: ignore[union-attr]
    assert other.abs().max() <= (32 * 25) ** -0.5


def test_plain_networks_run_in_their_published_order() -> None:
    """ReLU after each conv of an AlexNet, and only once a block in NiN; dropout before two of the linear layers."""

    def kinds(name: str) -> str:
        shown = {
            nn.Conv2d: "c", nn.BatchNorm2d: "n", nn.ReLU: "r", nn.MaxPool2d: "p ", nn.Linear: "l", nn.Dropout: "d",
            nn.AdaptiveAvgPool2d: "a",
        }  # fmt: skip
        return "".join(shown.get(type(layer), "") for layer in built(name).modules())

    trunk = "cnrp cnrp cnrcnrcnrp "
    assert kinds("alexnet-cifar-plain") == trunk + "dlrdlrl"
    assert kinds("alexnet-cifar") == trunk + "ca"
    assert kinds("nin-cifar") == "cnrp cncncnrp cncncnrp cncncnrp ca"


def test_channels_last_and_seeded() -> None:
    one, other = built("nin-cifar", seed=3).state_dict(), built("nin-cifar", seed=3).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    weight = next(value for value in one.values() if value.ndim == 4 and value.shape[2] == 3)
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_googlenet_with_floor_pools_shows_in_the_heads_only() -> None:
    """112, 56, 28, 14 and 7 need pools that count the last partial window; by floor 4a's map is 13x13, not 14x14."""
    ceil = reference("googlenet").architecture(1000)
    assert ceil is not None
    pools = [replace(layer, ceil=False) if hasattr(layer, "ceil") else layer for layer in ceil.stem]
    floor = replace(ceil, stem=tuple(pools), stage_pools=tuple(replace(p, ceil=False) for p in ceil.stage_pools))
    assert floor.params == ceil.params == 6_998_552
    assert ceil.training_params == 13_378_280
    assert floor.training_params < ceil.training_params
    assert [shape[1] for shape in floor.module_inputs()[:-1]] == [27, 27, *[13] * 5, 6, 6]


GOOGLENET = [
    # name, channels in and out, side, weights (1x1, reduce, 3x3, reduce, 5x5, pool), biases, parameters, MACs
    ("3a", 192, 256, 28, 12288 + 18432 + 110592 + 3072 + 12800 + 6144, 368, 163_696, 128_049_152),
    ("3b", 256, 480, 28, 32768 + 32768 + 221184 + 8192 + 76800 + 16384, 640, 388_736, 304_267_264),
    ("4a", 480, 512, 14, 92160 + 46080 + 179712 + 7680 + 19200 + 30720, 624, 376_176, 73_608_192),
    ("4b", 512, 512, 14, 81920 + 57344 + 225792 + 12288 + 38400 + 32768, 648, 449_160, 87_908_352),
    ("4c", 512, 512, 14, 65536 + 65536 + 294912 + 12288 + 38400 + 32768, 664, 510_104, 99_850_240),
    ("4d", 512, 528, 14, 57344 + 73728 + 373248 + 16384 + 51200 + 32768, 704, 605_376, 118_515_712),
    ("4e", 528, 832, 14, 135168 + 84480 + 460800 + 16896 + 102400 + 67584, 1024, 868_352, 169_996_288),
    ("5a", 832, 832, 7, 212992 + 133120 + 460800 + 26624 + 102400 + 106496, 1024, 1_043_456, 51_079_168),
    ("5b", 832, 1024, 7, 319488 + 159744 + 663552 + 39936 + 153600 + 106496, 1264, 1_444_080, 70_697_984),
]


def test_googlenet_module_by_module() -> None:
    one = reference("googlenet")
    network = built("googlenet", classes=1000).eval()
    assert isinstance(network, InceptionNetwork)
    shapes: list[tuple[int, ...]] = []
    for module in network.inception:
        module.register_forward_hook(lambda _module, given, out: shapes.append((given[0].shape[1], *out.shape[1:])))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images_of("googlenet", 1))
    counted = counter.get_flop_counts()
    assert one.module_names == tuple(row[0] for row in GOOGLENET)
    for number, (name, inputs, out, side, weights, biases, params, macs) in enumerate(GOOGLENET):
        assert shapes[number] == (inputs, out, side, side), name
        assert sum(p.numel() for p in network.inception[number].parameters()) == weights + biases == params, name
        assert macs == weights * side * side, name
        assert sum(counted[f"InceptionNetwork.inception.{number}"].values()) == 2 * macs, name
    stem = (3 * 49 * 64 + 64) + (64 * 64 + 64) + (64 * 9 * 192 + 192)
    assert sum(p.numel() for p in network.stem.parameters()) == stem == 124_416
    assert one.params(1000) == stem + sum(row[6] for row in GOOGLENET) + 1024 * 1000 + 1000
    in_stem = 3 * 49 * 64 * 112**2 + 64 * 64 * 56**2 + 64 * 9 * 192 * 56**2
    assert one.macs(1000) == in_stem + sum(row[7] for row in GOOGLENET) + 1024 * 1000
    head = [c * 128 + 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000 for c in (512, 528)]
    assert [sum(p.numel() for p in head.parameters()) for head in network.auxiliary.values()] == head
    assert one.training_params(1000) == one.params(1000) + sum(head)
    assert head == [3_188_840, 3_190_888]
