"""GoogLeNet against torchvision's, which is another network: a variant made like it gives its outputs.

torchvision's has a 3x3 convolution where the paper has a 5x5 one, batch norm and no biases in the convolutions, no
local response norm, a 2x2 pool before its last stage, and heads that pool to 4x4 adaptively.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from nas.architecture import Conv, LocalResponseNorm, MaxPool
from nas.models import InceptionNetwork, build
from nas.models.inception import ConvRelu, InceptionModule
from nas.models.network import AuxiliaryHead
from nas.references import GOOGLENET_MODULES, reference

CLASSES = 7
EPS = 1e-3


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's, at random, its batch norms too, so that a mixed-up one would show; dropout off in training."""
    torch.manual_seed(11)
    network = torchvision.models.googlenet(num_classes=CLASSES, aux_logits=True, init_weights=True, dropout=0.0)
    network = network.double()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return network


def like_torchvision() -> InceptionNetwork:
    """Our network with torchvision's differences; no weights of it yet."""
    published = reference("googlenet").architecture(CLASSES)
    assert published is not None
    stem = tuple(
        replace(layer, batch_norm=True, bias=False) if isinstance(layer, Conv) else layer
        for layer in published.stem
        if not isinstance(layer, LocalResponseNorm)
    )
    variant = replace(
        published,
        stem=stem,
        stage_pools=(published.stage_pools[0], MaxPool(2, 2, 0, ceil=True)),
        batch_norm=True,
        conv_bias=False,
        batch_norm_eps=EPS,
        dropout=0.0,
    )
    network = build(variant)
    for module, widths in zip(network.inception, variant.modules, strict=True):
        module.conv_5x5 = ConvRelu(widths.reduce_5x5, widths.out_5x5, 3, bias=False, norm_eps=EPS)
    for head in network.auxiliary.values():
        head.pool = nn.AdaptiveAvgPool2d(4)
        head.dropout.p = 0.0
    return network.double()


def copied(theirs: nn.Module) -> InceptionNetwork:
    """The variant with torchvision's weights: every parameter of theirs goes to one place of ours, none is left."""
    network = like_torchvision()
    with torch.no_grad():
        moved = sum(_copy(ours, parts) for ours, parts in _pairs(network, theirs))
    assert moved == sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in network.parameters())
    return network


def _pairs(network: InceptionNetwork, theirs: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
    """Each convolution or linear layer of ours with the ones of theirs that it holds, in the order of channels."""
    stem = [layer for layer in network.stem if isinstance(layer, ConvRelu)]
    yield from zip(stem, ([theirs.conv1], [theirs.conv2], [theirs.conv3]), strict=True)
    for module, name in zip(network.inception, GOOGLENET_MODULES, strict=True):
        assert isinstance(module, InceptionModule)
        one, three, five, pool = (getattr(getattr(theirs, f"inception{name}"), f"branch{n}") for n in range(1, 5))
        yield module.entry, [one, three[0], five[0]]
        yield module.conv_3x3, [three[1]]
        yield module.conv_5x5, [five[1]]
        yield module.project, [pool[1]]
    for head, other in zip(network.auxiliary.values(), (theirs.aux1, theirs.aux2), strict=True):
        assert isinstance(head, AuxiliaryHead)
        yield from ((head.reduce, [other.conv]), (head.hidden, [other.fc1]), (head.linear, [other.fc2]))
    yield network.linear, [theirs.fc]


def _copy(ours: nn.Module, parts: list[nn.Module]) -> int:
    layers = [(ours, parts)]
    if isinstance(ours, ConvRelu):
        layers = [(ours.conv, [part.conv for part in parts]), (ours.norm, [part.bn for part in parts])]
    moved = 0
    for mine, others in layers:
        for name, value in mine.named_parameters():
            whole = torch.cat([dict(other.named_parameters())[name] for other in others])
            value.copy_(whole)
            moved += whole.numel()
    return moved


def test_the_variant_gives_torchvisions_outputs(theirs: nn.Module) -> None:
    ours = copied(theirs)
    images = torch.randn(2, 3, 224, 224, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, heads = ours.train()(images)
        expected = theirs.train()(images)  # both move their batch norms' statistics
        for mine, other in zip(
            (logits, *heads), (expected.logits, expected.aux_logits1, expected.aux_logits2), strict=True
        ):
            torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-8, atol=1e-8)


def test_the_published_network_is_another(theirs: nn.Module) -> None:
    """torchvision states 6,624,904 for 1,000 classes, fewer than the paper's table gives."""
    inference = sum(p.numel() for name, p in theirs.named_parameters() if not name.startswith("aux"))
    assert inference + (1000 - CLASSES) * 1025 == 6_624_904
    assert reference("googlenet").params(1000) == 6_998_552
