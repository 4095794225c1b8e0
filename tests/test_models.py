"""Models: the fused module against plain branches, counts against the published ones, and the whole network's form."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from nas.architecture import Architecture, Conv, InceptionWidths, LocalResponseNorm, MaxPool
from nas.models import InceptionModule, InceptionNetwork, build
from tests.networks import NAIVE, V1, googlenet, inception_cifar, small_googlenet


def widths(*numbers: int) -> InceptionWidths:
    return InceptionWidths(*numbers)


def tiny(**changes: object) -> Architecture:
    values: dict[str, object] = {
        "input_shape": (1, 8, 8),
        "classes": 10,
        "stem": (Conv(4),),
        "stages": ((widths(2, 2, 3, 1, 2, 2),), (widths(2, 2, 4, 2, 3, 2), widths(1, 2, 4, 2, 3, 3))),
        "stage_pools": (MaxPool(),),
    }
    return Architecture(**(values | changes))  # type: ignore[arg-type]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class PlainModule(nn.Module):
    """The oracle: every branch as a reader of the paper would write it, nothing shared."""

    def __init__(self, in_channels: int, w: InceptionWidths, *, bias: bool, norm_eps: float | None) -> None:
        super().__init__()

        def conv(channels: int, out: int, kernel: int) -> nn.Sequential:
            layers: list[nn.Module] = [nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=bias)]
            if norm_eps is not None:
                layers.append(nn.BatchNorm2d(out, eps=norm_eps))
            return nn.Sequential(*layers, nn.ReLU())

        def branch(reduce: int, out: int, kernel: int) -> nn.Sequential:
            if not reduce:
                return nn.Sequential(conv(in_channels, out, kernel))
            return nn.Sequential(conv(in_channels, reduce, 1), conv(reduce, out, kernel))

        self.one = conv(in_channels, w.out_1x1, 1)
        self.three = branch(w.reduce_3x3, w.out_3x3, 3)
        self.five = branch(w.reduce_5x5, w.out_5x5, 5)
        project = [conv(in_channels, w.out_pool, 1)] if w.out_pool else []
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *project)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def pairs(fused: InceptionModule, plain: PlainModule, w: InceptionWidths) -> list[tuple[slice, nn.Module, nn.Module]]:
    """(channels of the fused one, fused layer, plain layer) for each convolution and batch norm of the plain module."""
    entries = [plain.one]
    entries += [plain.three[0]] if w.reduce_3x3 else []
    entries += [plain.five[0]] if w.reduce_5x5 else []
    ends = list(itertools.accumulate(len(e[0].weight) for e in entries))
    found = [(slice(end - len(e[0].weight), end), fused.entry, e) for e, end in zip(entries, ends, strict=True)]
    found += [(slice(None), fused.conv_3x3, plain.three[-1]), (slice(None), fused.conv_5x5, plain.five[-1])]
    found += [(slice(None), fused.project, plain.pool[-1])] if w.out_pool else []
    return [
        (part, getattr(one, name), other[index])
        for part, one, other in found
        for index, name in enumerate(["conv", "norm"])
        if hasattr(one, name)
    ]


@pytest.mark.parametrize(("bias", "norm_eps"), [(True, None), (False, 1e-3), (False, None)])
@pytest.mark.parametrize(
    "w", [widths(3, 4, 5, 2, 3, 4), widths(4, 0, 4, 0, 4, 0), widths(1, 2, 3, 0, 2, 1), widths(2, 0, 3, 2, 2, 0)]
)
@pytest.mark.parametrize("training", [True, False])
def test_fused_module_equals_plain_branches(
    w: InceptionWidths, bias: bool, norm_eps: float | None, training: bool
) -> None:
    torch.manual_seed(7)
    fused = InceptionModule(6, w, bias=bias, norm_eps=norm_eps).double().to(memory_format=torch.channels_last)
    plain = PlainModule(6, w, bias=bias, norm_eps=norm_eps).double()
    for parameter in fused.parameters():
        nn.init.normal_(parameter)
    copied = 0
    with torch.no_grad():
        for part, one, other in pairs(fused, plain, w):
            for name, value in other.named_parameters():
                value.copy_(getattr(one, name)[part])
                copied += value.numel()
    assert copied == parameters(plain) == parameters(fused)
    fused.train(training)
    plain.train(training)

    image = torch.randn(5, 6, 7, 6, dtype=torch.double)
    one_in, other_in = image.clone().requires_grad_(), image.clone().requires_grad_()
    one, other = fused(one_in), plain(other_in)
    assert one.shape == (5, w.out_channels(6), 7, 6) == (5, fused.out_channels, 7, 6)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)

    mask = torch.randn_like(other)
    (one * mask).sum().backward()
    (other * mask).sum().backward()
    torch.testing.assert_close(one_in.grad, other_in.grad, rtol=1e-10, atol=1e-10)
    for part, layer, reference in pairs(fused, plain, w):
        for name, value in reference.named_parameters():
            torch.testing.assert_close(getattr(layer, name).grad[part], value.grad, rtol=1e-10, atol=1e-10)
        for name, value in reference.named_buffers():
            torch.testing.assert_close(getattr(layer, name)[part] if value.ndim else value, value)


def test_fused_convolution_initialises_as_separate_ones() -> None:
    """PyTorch's default is uniform within 1 / sqrt(fan-in): the same bound for each part of the fused one."""
    module = InceptionModule(16, widths(50, 60, 8, 70, 8, 8), bias=True, norm_eps=None)
    for part in module.entry.conv.weight.detach().split([50, 60, 70]):
        assert part.abs().max() <= 0.25
        assert part.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.1)


def test_one_convolution_runs_for_all_1x1_over_the_input() -> None:
    module = InceptionModule(8, widths(2, 2, 2, 2, 2, 2), bias=True, norm_eps=None)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        module(torch.randn(1, 8, 4, 4))
    calls = [event.count for event in profile.key_averages() if event.key == "aten::conv2d"]
    assert calls == [4]  # entry, 3x3, 5x5, projection


@pytest.mark.parametrize(
    ("module", "count", "channels"),
    [(NAIVE, 573_824, 448), (V1, 177_376, 256)],
)
def test_published_modules_have_their_published_counts(module: InceptionWidths, count: int, channels: int) -> None:
    built = InceptionModule(256, module, bias=False, norm_eps=1e-3)
    assert (parameters(built), built.out_channels) == (count, channels)
    assert built(torch.zeros(1, 256, 28, 28)).shape == (1, channels, 28, 28)


@pytest.mark.parametrize(
    ("architecture", "count"),
    [(inception_cifar(100), 985_396), (inception_cifar(10), 942_106), (small_googlenet(), 592_714)],
    ids=["inception-cifar-100", "inception-cifar-10", "small-googlenet"],
)
def test_published_networks_have_their_published_counts(architecture: Architecture, count: int) -> None:
    network = build(architecture)
    assert parameters(network) == count == architecture.params
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, architecture.classes)


def test_googlenet_counts_with_and_without_its_heads() -> None:
    """The sums by hand from the paper's table; the heads' 4x4 maps hold only with pools that count the last part."""
    network = build(googlenet())
    heads = parameters(network.auxiliary)
    by_hand = sum(c * 128 + 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000 for c in (512, 528))
    assert heads == by_hand == 6_379_728
    assert parameters(network) - heads == 6_998_552 == googlenet().params
    assert parameters(network) == googlenet().training_params == 13_378_280


def test_heads_answer_in_training_only() -> None:
    architecture = tiny(auxiliary=(0, 1), stage_pools=(MaxPool(1, 1),), classes=3)
    network = build(architecture)
    images = torch.randn(4, 1, 8, 8)
    logits, heads = network(images)
    assert [tuple(x.shape) for x in (logits, *heads)] == [(4, 3)] * 3
    sum(h.sum() for h in (logits, *heads)).backward()
    assert all(p.grad is not None for p in network.parameters())
    assert network.eval()(images).shape == (4, 3)


def test_head_reads_its_own_module() -> None:
    network = build(tiny(auxiliary=(0,)))
    seen: list[Tensor] = []
    network.inception[0].register_forward_hook(lambda _module, _in, out: seen.append(out))
    network.auxiliary["0"].register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    network(torch.randn(2, 1, 8, 8))
    assert seen[0] is seen[1]
    assert isinstance(network.auxiliary["0"].reduce.norm, nn.BatchNorm2d)  # as the modules of this network


@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_map_has_the_shape_that_the_architecture_states(batch_norm: bool) -> None:
    stem = (Conv(4, 5, 1, 0, batch_norm=not batch_norm), LocalResponseNorm(), MaxPool(2, 1, 0, False))
    architecture = tiny(
        input_shape=(3, 17, 14), stem=stem, batch_norm=batch_norm, conv_bias=not batch_norm, dropout=0.5
    )
    network = build(architecture)
    shapes: list[tuple[int, ...]] = []
    for module in network.inception:
        module.register_forward_pre_hook(lambda _module, args: shapes.append(tuple(args[0].shape[1:])))
    network.linear.register_forward_pre_hook(lambda _module, args: shapes.append(tuple(args[0].shape[1:])))
    assert network(torch.randn(2, 3, 17, 14)).shape == (2, 10)
    assert shapes == [*architecture.module_inputs()[:-1], architecture.module_inputs()[-1][:1]]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == (3 * 4 if batch_norm else 1)
    assert all((m.conv.bias is None) == hasattr(m, "norm") for m in network.modules() if hasattr(m, "conv"))


def test_local_response_norm_has_its_four_numbers() -> None:
    stem = (Conv(6, batch_norm=False), LocalResponseNorm(size=3, alpha=0.5, beta=0.25, k=2.0))
    network = build(tiny(stem=stem))
    maps = network.stem[0](torch.randn(2, 1, 8, 8))
    squares = torch.nn.functional.pad(maps**2, (0, 0, 0, 0, 1, 1))
    around = (squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]) / 3  # PyTorch's alpha is of the mean
    torch.testing.assert_close(network.stem[1](maps), maps / (2.0 + 0.5 * around) ** 0.25)


def test_network_without_stem_or_bias() -> None:
    network = build(tiny(stem=(), batch_norm=False))
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    assert [name for name, _ in network.named_parameters() if "bias" in name] == ["linear.bias"]


def test_eps_reaches_every_batch_norm() -> None:
    norms = [m for m in build(tiny(batch_norm_eps=1e-3)).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.eps for m in norms} == {1e-3}


def test_dropout_is_before_the_linear_layer_and_in_training_only() -> None:
    network = build(tiny(dropout=0.9))
    seen: list[Tensor] = []
    network.linear.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    images = torch.randn(64, 1, 8, 8)
    network(images)
    network.eval()(images)
    assert (seen[0] == 0).float().mean() > 0.8
    assert (seen[1] == 0).float().mean() < 0.5


def test_channels_last_from_the_first_convolution_on() -> None:
    network = build(tiny())
    formats: list[bool] = []
    for module in network.inception:
        module.register_forward_hook(
            lambda _module, _in, out: formats.append(out.is_contiguous(memory_format=torch.channels_last))
        )
    network(torch.randn(2, 1, 8, 8).to(memory_format=torch.channels_last))
    assert formats == [True] * 3
    weight = network.inception[1].conv_3x3.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_names_in_the_state_do_not_depend_on_the_input_size() -> None:
    small, large = build(tiny()), build(tiny(input_shape=(1, 32, 32)))
    assert list(small.state_dict()) == list(large.state_dict())
    large.load_state_dict(small.state_dict())
    assert "inception.1.entry.conv.weight" in small.state_dict()


def test_same_seed_same_weights_and_images_left_alone() -> None:
    networks: list[InceptionNetwork] = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(build(tiny(stem=())))
    one, other = (n.state_dict() for n in networks)
    assert all(torch.equal(one[name], other[name]) for name in one)
    images = torch.randn(2, 1, 8, 8)
    before = images.clone()
    copy.deepcopy(networks[0])(images)
    assert torch.equal(images, before)
