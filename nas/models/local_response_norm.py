"""Local response normalisation over channels (Krizhevsky et al. 2012, section 3.3), as one matrix product."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LocalResponseNorm(nn.Module):
    """x / (k + alpha / size * sum of squares over `size` neighbouring channels) ** beta; shapes stay.

    The same as torch.nn.LocalResponseNorm up to rounding, in channels_last order. torch pools the squares in three
    dimensions and raises to a power; here the window's sum is a product with a band matrix, which runs at the speed of
    a 1x1 convolution, the power is two roots where beta is 3/4, and the backward pass needs one more product.

    Args:
        size: channels of the window, odd or even as torch's: size // 2 before a channel, the rest after it.
        alpha, beta, k: as in the formula; k above 0.
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        band = _band(x.shape[1], self.size, x).mul_(self.alpha / self.size)
        if torch.is_grad_enabled() and x.requires_grad:
            out: Tensor = _Normalised.apply(rows, band, self.beta, self.k)
        else:
            out = rows * _power(torch.matmul(rows * rows, band).add(self.k), self.beta)
        return out.permute(0, 3, 1, 2)


class _Normalised(torch.autograd.Function):
    """Saves the rows and two maps of their size; autograd's own would save five."""

    @staticmethod
    def forward(context: Any, rows: Tensor, band: Tensor, beta: float, k: float) -> Tensor:
        base = torch.matmul(rows * rows, band).add_(k)
        factor = _power(base, beta)
        context.save_for_backward(rows, band, base, factor)
        context.beta = beta
        return rows * factor

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        rows, band, base, factor = context.saved_tensors
        direct = gradient * factor
        through = (direct * rows).div_(base)
        return direct.addcmul_(torch.matmul(through, band.T), rows, value=-2 * context.beta), None, None, None


def _power(base: Tensor, beta: float) -> Tensor:
    """base ** -beta for a base above 0."""
    if beta == 0.75:
        root = base.rsqrt()
        return root * root.sqrt()
    return base.pow(-beta)


def _band(channels: int, size: int, like: Tensor) -> Tensor:
    """(channels, channels): 1 where the row's channel is in the column's window."""
    ones = torch.ones(channels, channels, dtype=like.dtype, device=like.device)
    # column c sums channels c - size // 2 .. c + (size - 1) // 2, as torch does for even sizes too
    return ones.tril_(size // 2).triu_(-((size - 1) // 2))
