import copy

import pytest
import schedulefree
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.models import build
from nas.optimiser import FlatParameters, ScheduleFreeAdamW
from tests.training_inputs import CLASSES, network


def batches(n: int) -> list[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(3)
    return [
        (torch.randn(16, 1, 8, 8, generator=draws), torch.randint(CLASSES, (16,), generator=draws)) for _ in range(n)
    ]


def twins() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    ours = build(network()).double()
    return ours, copy.deepcopy(ours)


def backward(module: nn.Module, batch: tuple[Tensor, Tensor], scale: float = 1.0) -> None:
    module.zero_grad()
    (scale * F.cross_entropy(module(batch[0].double()), batch[1])).backward()


def optimiser(flat: FlatParameters, **changes: float) -> ScheduleFreeAdamW:
    settings = {"learning_rate": 0.01, "weight_decay": 0.1, "warmup_steps": 7, "clip_norm": 0.5} | changes
    return ScheduleFreeAdamW(flat, **settings)


def test_fifty_steps_equal_the_authors_package_with_clipping_and_decay():
    ours, theirs = twins()
    flat = FlatParameters(ours)
    mine = optimiser(flat)
    decayed = [p for p in theirs.parameters() if p.dim() >= 2]
    spared = [p for p in theirs.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
    oracle = schedulefree.AdamWScheduleFree(groups, lr=0.01, warmup_steps=7)
    oracle.train()
    for step, batch in enumerate(batches(50)):
        scale = 10.0 if step % 2 else 0.01  # every other step is clipped
        backward(ours, batch, scale)
        backward(theirs, batch, scale)
        mine.step()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        oracle.step()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=1e-7, atol=1e-9)
    oracle.eval()
    average = copy.deepcopy(ours)
    mine.average_into(FlatParameters(average).values)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(average.get_parameter(name), parameter, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_clipped_gradient_is_torchs(scale: float):
    ours, theirs = twins()
    flat = FlatParameters(ours)
    batch = batches(1)[0]
    backward(ours, batch, scale)
    backward(theirs, batch, scale)
    nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    # The first step's second moment is the square of the clipped gradient: 0.001 g^2.
    mine = optimiser(flat)
    mine.step()
    clipped = (mine.state()["second_moment"] / 0.001).sqrt().sum()
    expected = sum(float(p.grad.abs().sum()) for p in theirs.parameters() if p.grad is not None)
    assert clipped.item() == pytest.approx(expected, rel=1e-9)


def test_parameters_become_views_of_one_tensor_with_the_decayed_ones_first():
    module, before = twins()
    flat = FlatParameters(module)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before.get_parameter(name)), name
        assert parameter.untyped_storage().data_ptr() == flat.values.untyped_storage().data_ptr()
        assert (parameter.storage_offset() < flat.decayed) == (parameter.dim() >= 2)
        if parameter.dim() == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)
    assert flat.values.numel() == sum(p.numel() for p in before.parameters())


def test_the_flat_gradient_has_the_order_of_the_values():
    module, _ = twins()
    flat = FlatParameters(module)
    backward(module, batches(1)[0])
    gradient = flat.gradient()
    for name, parameter in module.named_parameters():
        part = gradient.as_strided(parameter.shape, parameter.stride(), parameter.storage_offset())
        assert torch.equal(part, parameter.grad), name
    flat.drop_gradients()
    assert all(parameter.grad is None for parameter in module.parameters())


def test_decay_spares_biases_and_norms():
    module, _ = twins()
    flat = FlatParameters(module)
    before = flat.values.clone()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser(flat, warmup_steps=0).step()
    changed = flat.values != before
    assert changed[: flat.decayed].all()
    assert all(parameter.grad is None for parameter in module.parameters())  # the next backward pass starts afresh
    assert not changed[flat.decayed :].any()


def test_a_loaded_state_goes_on_bit_for_bit():
    ours, theirs = twins()
    mine, other = optimiser(FlatParameters(ours)), optimiser(FlatParameters(theirs))
    data = batches(6)
    for batch in data[:3]:
        backward(ours, batch)
        mine.step()
    state = mine.state()
    for batch in data[3:]:
        backward(ours, batch)
        mine.step()
    other.load(state)  # also shows that the state is a copy: three more steps have not changed it
    for batch in data[3:]:
        backward(theirs, batch)
        other.step()
    for name, value in mine.state().items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other.state()[name])), name


def test_warm_up_rises_linearly_and_then_stays():
    module, _ = twins()
    flat = FlatParameters(module)
    mine = optimiser(flat, warmup_steps=4, weight_decay=0.0, clip_norm=1e9)
    moves = []
    for _ in range(6):
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = mine.state()["z"]
        mine.step()
        moves.append((before - mine.state()["z"]).mean().item())
    assert moves == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01], rel=1e-6)


def test_a_gradient_that_is_not_finite_shows_in_the_parameters():
    module, _ = twins()
    flat = FlatParameters(module)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    next(iter(module.parameters())).grad.flatten()[0] = float("inf")
    optimiser(flat).step()
    assert not flat.values.isfinite().all()
