"""The fast local response norm against torch's own."""

import pytest
import torch
from torch import nn

from nas.models import build
from nas.models.local_response_norm import LocalResponseNorm
from tests.networks import small_googlenet


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize(("alpha", "beta", "k"), [(1e-4, 0.75, 1.0), (0.5, 0.75, 2.0), (0.3, 0.6, 1.0)])
def test_it_equals_torchs_forward_and_backward(size: int, alpha: float, beta: float, k: float) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 7, 3, 4, dtype=torch.double)).requires_grad_()
    weight = torch.randn(2, 7, 3, 4, dtype=torch.double)
    theirs, ours = nn.LocalResponseNorm(size, alpha, beta, k)(x), LocalResponseNorm(size, alpha, beta, k)(x)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad((out * weight).sum(), x)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(LocalResponseNorm(size, alpha, beta, k), (x,))


def test_reading_takes_another_path_with_the_same_numbers() -> None:
    x = torch.randn(2, 64, 5, 5).to(memory_format=torch.channels_last)
    norm = LocalResponseNorm(5, 1e-4, 0.75, 1.0)
    with torch.inference_mode():
        read = norm(x)
    assert read.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(read, norm(x.requires_grad_()).detach(), rtol=0, atol=0)


def test_networks_are_built_with_it() -> None:
    assert any(isinstance(layer, LocalResponseNorm) for layer in build(small_googlenet()).stem)
