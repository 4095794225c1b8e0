"""Correlations between a network's channels: numpy is the oracle, and what is planted in the weights is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nas import activations
from nas.activations import Moments, branches_of, modules_of
from nas.architecture import Architecture, InceptionWidths
from nas.data import Part, normalise
from nas.errors import TrialFailed
from nas.models import InceptionModule, InceptionNetwork, build
from nas.redundancy import Module, examine
from tests.training_inputs import dataset, network

DATA = dataset(validation=150)
WIDTHS = InceptionWidths(4, 3, 4, 2, 2, 2)


def made(architecture: Architecture | None = None, seed: int = 0) -> InceptionNetwork:
    """In evaluation mode, its batch norm with statistics."""
    torch.manual_seed(seed)
    found = build(architecture or replace(network(), stages=((WIDTHS,), (WIDTHS,))))
    images = normalise(DATA.train.images, DATA.mean, DATA.std)  # type: ignore[arg-type]
    with torch.no_grad():
        for _ in range(20):
            found(images)
    return found.eval()


def found_in(net: InceptionNetwork, part: Part = DATA.validation, most: int = 1_000) -> list[Module]:
    return modules_of(net, part, DATA.mean, DATA.std, most)


def rows(maps: Tensor) -> np.ndarray:
    return maps.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()


def oracle(maps: Sequence[Tensor]) -> np.ndarray:
    """numpy's, of all rows at once; dead channels 0."""
    every = rows(torch.cat(list(maps), 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(np.corrcoef(every, rowvar=False))


@torch.inference_mode()
def by_hand(net: InceptionNetwork, images: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
    """What each module reads, and 1x1, reduce 3x3, 3x3, reduce 5x5, 5x5, pool, one layer after the other."""
    x = net.stem(normalise(images, DATA.mean, DATA.std))
    found = []
    for number, module in enumerate(net.inception):
        assert isinstance(module, InceptionModule)
        if str(number) in net.pool_before:
            x = net.pool_before[str(number)](x)
        widths = net.architecture.modules[number]
        entry = module.entry(x)
        one, three = entry[:, : widths.out_1x1], entry[:, widths.out_1x1 : widths.out_1x1 + widths.reduce_3x3]
        five = entry[:, widths.out_1x1 + widths.reduce_3x3 :]
        out_3, out_5 = module.conv_3x3(three), module.conv_5x5(five)
        out_pool = module.project(module.pool(x))
        found.append((x, [one, three, out_3, five, out_5, out_pool]))
        x = torch.cat([one, out_3, out_5, out_pool], 1)
    return found


def test_moments_are_numpys_whatever_the_parts() -> None:
    maps = torch.randn(37, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    maps += torch.tensor([0, 9, 5_000, -3, 1]).view(5, 1, 1)
    maps[:, 4] = 0.5 * maps[:, 0] - maps[:, 1]
    whole, parts = Moments(5), Moments(5)
    whole.add(maps)
    for part in maps.split([1, 20, 0, 16]):
        parts.add(part)
    expected = np.corrcoef(rows(maps), rowvar=False)
    assert whole.samples == parts.samples == 37 * 12
    np.testing.assert_allclose(whole.correlation(), expected, atol=1e-6)
    np.testing.assert_allclose(parts.correlation(), expected, atol=1e-6)


def test_memory_is_bounded_by_parts_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    whole = Moments(3)
    whole.add(maps)
    monkeypatch.setattr(activations, "_NUMBERS", 100)  # two images of 48 numbers
    seen: list[int] = []
    mean = Tensor.mean

    def watched(self: Tensor, *words: int) -> Tensor:
        seen.append(self.numel())
        return mean(self, *words)

    monkeypatch.setattr(Tensor, "mean", watched)
    parts = Moments(3)
    parts.add(maps)
    assert seen == [96] * 8
    np.testing.assert_allclose(parts.correlation(), whole.correlation(), atol=1e-6)


def test_a_channel_that_never_varies_is_0_and_one_that_hardly_does_is_not() -> None:
    draw = torch.Generator().manual_seed(2)
    maps = torch.randn(50, 4, 2, 2, generator=draw)
    maps[:, 1] = 0.1
    maps[::3, 1] = torch.nextafter(torch.tensor(0.1), torch.tensor(1.0))  # as a convolution may round
    maps[:, 2] = 7 + 1e-5 * torch.randn(50, 2, 2, generator=draw)
    maps[:, 3] = 0
    maps[7, 3, 0, 0] = 1e-3  # fires once
    moments = Moments(4)
    for part in maps.split(8):
        moments.add(part)
    found = moments.correlation()
    assert np.isfinite(found).all()
    assert np.diagonal(found).tolist() == [1, 0, 1, 1]
    assert not found[1].any()
    assert not found[:, 1].any()
    assert examine("1x1", found, 0.9).dead == (1,)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value: float) -> None:
    moments = Moments(2)
    moments.add(torch.tensor([[1.0, 2.0], [value, 1.0]]).view(2, 2, 1, 1))
    with pytest.raises(TrialFailed, match="not finite on the validation images"):
        moments.correlation()


def test_every_module_is_numpys() -> None:
    net = made()
    images = DATA.validation.images
    assert isinstance(images, Tensor)
    found = found_in(net)
    for module, (reads, computes) in zip(found, by_hand(net, images), strict=True):
        assert module.names == ("1x1", "reduce 3x3", "3x3", "reduce 5x5", "5x5", "pool")
        assert module.widths == (4, 3, 4, 2, 2, 2)
        assert module.side == tuple(reads.shape[2:])
        assert module.samples == len(images) * module.side[0] * module.side[1]
        np.testing.assert_allclose(module.reads, oracle([reads]), atol=1e-5)
        np.testing.assert_allclose(module.correlation, oracle(computes), atol=1e-5)
        for name, maps in zip(module.names, computes, strict=True):
            np.testing.assert_allclose(module.part(name), np.atleast_2d(oracle([maps])), atol=1e-5)


def test_branches_without_reduction_or_projection() -> None:
    assert branches_of(InceptionWidths(4, 0, 6, 0, 2, 0), 8) == {"1x1": 4, "3x3": 6, "5x5": 2, "pool": 8}
    plain = InceptionWidths(4, 0, 6, 0, 2, 0)
    net = made(replace(network(batch_norm=False), stages=((plain,), (WIDTHS,))))
    first, second = found_in(net)
    assert first.names == ("1x1", "3x3", "5x5", "pool")
    assert first.correlation.shape == (20, 20)
    with torch.inference_mode():
        x = net.stem(normalise(DATA.validation.images, DATA.mean, DATA.std))  # type: ignore[arg-type]
        module = net.inception[0]
        assert isinstance(module, InceptionModule)
        written = module(x)
        pooled = module.pool(x)
    np.testing.assert_allclose(first.correlation, oracle([written]), atol=1e-5)  # nothing is there but what it writes
    np.testing.assert_allclose(first.part("pool"), oracle([pooled]), atol=1e-5)
    assert second.reads.shape == (20, 20)


def entry(net: InceptionNetwork, module: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, then scale, shift and mean of the batch norm, of the 1x1 convolutions of a module."""
    layer = net.inception[module]
    assert isinstance(layer, InceptionModule)
    norm = layer.entry.norm
    return layer.entry.conv.weight.data, norm.weight.data, norm.bias.data, norm.running_mean


def test_a_planted_copy_is_found_in_its_branch_alone() -> None:
    net = made()
    branches = {name: examine(name, found_in(net)[0].part(name), 0.99) for name in ("1x1", "reduce 3x3")}
    assert [branch.largest for branch in branches.values()] == [1, 1]
    weight, scale, shift, mean = entry(net)
    norm = net.inception[0].entry.norm  # type: ignore[union-attr]
    for tensor in (weight, scale, shift, mean, norm.running_var):
        tensor[3] = tensor[1]  # the 1x1 branch's last channel
    scale[3] *= 3
    shift[3] *= 3
    module = found_in(net)[0]
    found = examine("1x1", module.part("1x1"), 0.99)
    assert sorted(map(sorted, found.clusters)) == [[0], [1, 3], [2]]
    assert found.effective_rank < branches["1x1"].effective_rank - 0.3
    assert examine("reduce 3x3", module.part("reduce 3x3"), 0.99).largest == 1


def test_a_planted_linear_combination_needs_no_width() -> None:
    net = made()
    weight, scale, shift, mean = entry(net)
    norm = net.inception[0].entry.norm  # type: ignore[union-attr]
    four, five, six = 4, 5, 6  # the reduction of the 3x3 branch
    for row in (four, five, six):
        mean[row], norm.running_var[row], scale[row], shift[row] = 0, 1, 1, 100  # never cut off by the ReLU
    weight[six] = weight[four] - 2 * weight[five]
    found = examine("reduce 3x3", found_in(net)[0].part("reduce 3x3"), 0.999)
    assert len(found.clusters) == 3
    assert found.components == 2
    assert found.width(2) == 2


def test_dead_channels_are_counted_and_named() -> None:
    net = made()
    _, _, shift, _ = entry(net, 1)
    shift[2], shift[7] = -1e4, -1e4  # one of the 1x1 branch, the first of the reduction of the 5x5
    module = found_in(net)[1]
    assert examine("1x1", module.part("1x1"), 0.9).dead == (2,)
    assert examine("reduce 5x5", module.part("reduce 5x5"), 0.9).dead == (0,)
    assert np.isfinite(module.correlation).all()


def test_images_are_spread_and_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    net = made()
    sizes: list[int] = []
    add = Moments.add

    def watched(self: Moments, maps: Tensor) -> None:
        sizes.append(len(maps))
        add(self, maps)

    monkeypatch.setattr(Moments, "add", watched)
    monkeypatch.setattr(activations, "BATCH", 16)
    found = found_in(net, most=50)
    assert max(sizes) == 16
    assert sum(sizes) == 4 * 50
    images = DATA.validation.images
    assert isinstance(images, Tensor)
    third = by_hand(net, images[::3])
    np.testing.assert_allclose(found[0].correlation, oracle(third[0][1]), atol=1e-5)


def test_the_network_is_left_as_it_was() -> None:
    net = made()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found_in(net)
    assert not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
