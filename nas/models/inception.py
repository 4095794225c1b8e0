"""The Inception module: four branches over one input, concatenated on channels (Szegedy et al. 2014, figure 2)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from nas.architecture import InceptionWidths


class ConvRelu(nn.Sequential):
    """Square convolution, batch norm where `norm_eps` is given, ReLU. A map keeps its size at the default padding.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H', W').

    Args:
        bias: the convolution has a bias.
        norm_eps: epsilon of a batch norm after the convolution; None for no batch norm.
        padding: None means kernel // 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        bias: bool,
        norm_eps: float | None,
        stride: int = 1,
        padding: int | None = None,
    ) -> None:
        pad = kernel // 2 if padding is None else padding
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=pad, bias=bias)
        if norm_eps is not None:
            layers["norm"] = nn.BatchNorm2d(out_channels, eps=norm_eps)
        # in place is safe: neither a convolution nor a batch norm needs its own output to go backwards
        layers["relu"] = nn.ReLU(inplace=True)
        super().__init__(layers)


class InceptionModule(nn.Module):
    """1x1, 3x3, 5x5 and pool branches, in this order on channels: (N, in_channels, H, W) -> (N, out_channels, H, W).

    The 1x1 convolutions that read the module's input run as one, `entry`: its output channels are the 1x1 branch,
    the 3x3's reduction and the 5x5's reduction, in this order, the last two where they reduce. Batch norm and ReLU work
    on each channel alone, and the fan-in is the same, so this equals separate convolutions, initialisation included.

    Args:
        in_channels: channels of the input, at least 1.
        widths: output channels of the branches. A branch with reduction 0 reads the input; a pool branch with 0
            passes the pooled input through, with nothing after the pool.
        bias: the convolutions have biases.
        norm_eps: epsilon of the batch norm after every convolution; None for no batch norm.
    """

    def __init__(self, in_channels: int, widths: InceptionWidths, *, bias: bool, norm_eps: float | None) -> None:
        super().__init__()
        self.out_channels = widths.out_channels(in_channels)
        self._parts = (widths.out_1x1, widths.reduce_3x3, widths.reduce_5x5)

        def conv(channels_in: int, channels_out: int, kernel: int) -> ConvRelu:
            return ConvRelu(channels_in, channels_out, kernel, bias=bias, norm_eps=norm_eps)

        self.entry = conv(in_channels, sum(self._parts), 1)
        self.conv_3x3 = conv(widths.reduce_3x3 or in_channels, widths.out_3x3, 3)
        self.conv_5x5 = conv(widths.reduce_5x5 or in_channels, widths.out_5x5, 5)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.project = conv(in_channels, widths.out_pool, 1) if widths.out_pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        one, three, five = self.entry(x).split(self._parts, dim=1)  # a part of 0 channels is not reduced
        three = self.conv_3x3(three if self._parts[1] else x)
        five = self.conv_5x5(five if self._parts[2] else x)
        return torch.cat([one, three, five, self.project(self.pool(x))], dim=1)
