"""Architecture -> torch module: stem, stages of Inception modules, global average pool, linear; auxiliary heads."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn

from nas.architecture import Architecture, Conv, MaxPool
from nas.counting import AUXILIARY_CHANNELS, AUXILIARY_HIDDEN, AUXILIARY_KERNEL, AUXILIARY_STRIDE
from nas.models.inception import ConvRelu, InceptionModule
from nas.models.local_response_norm import LocalResponseNorm

AUXILIARY_DROPOUT = 0.7


class AuxiliaryHead(nn.Module):
    """A classifier on a map in the middle, for training only: (N, C, H, W) -> logits (N, classes).

    Average pool 5x5 stride 3, 1x1 convolution to 128 + ReLU, linear to 1024 + ReLU, dropout 0.7, linear (Szegedy et
    al. 2014, section 5). Its convolution has batch norm or a bias where the modules' have.

    Args:
        in_shape: (channels, height, width) of the map, each side at least 5: an Architecture has seen to that.
        classes: number of logits.
        bias, norm_eps: as for InceptionModule.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, *, bias: bool, norm_eps: float | None) -> None:
        super().__init__()
        channels, height, width = in_shape
        kernel, stride = AUXILIARY_KERNEL, AUXILIARY_STRIDE
        pooled = ((height - kernel) // stride + 1) * ((width - kernel) // stride + 1)
        self.pool = nn.AvgPool2d(kernel, stride)
        self.reduce = ConvRelu(channels, AUXILIARY_CHANNELS, 1, bias=bias, norm_eps=norm_eps)
        self.hidden = nn.Linear(AUXILIARY_CHANNELS * pooled, AUXILIARY_HIDDEN)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(AUXILIARY_DROPOUT)
        self.linear = nn.Linear(AUXILIARY_HIDDEN, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(self.pool(x)).flatten(1)  # (N, 128 * h * w)
        x = self.dropout(self.relu(self.hidden(x)))  # (N, 1024)
        logits: Tensor = self.linear(x)
        return logits


class InceptionNetwork(nn.Module):
    """The network that an Architecture describes. Names in its state do not depend on the input's size.

    Forward: float images (N, C, H, W), normalised -> logits (N, classes). In training mode, with auxiliary heads:
    (logits, [logits of each head, in the order of depth]), all (N, classes).
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        eps, bias = architecture.batch_norm_eps, architecture.conv_bias
        norm_eps = eps if architecture.batch_norm else None
        shapes = architecture.module_inputs()

        self.stem = nn.Sequential()
        channels = architecture.input_shape[0]
        for layer in architecture.stem:
            if isinstance(layer, Conv):
                stem_eps = eps if layer.batch_norm else None
                conv = ConvRelu(
                    channels,
                    layer.channels,
                    layer.kernel,
                    bias=bool(layer.bias),
                    norm_eps=stem_eps,
                    stride=layer.stride,
                    padding=layer.padding,
                )
                self.stem.append(conv)
                channels = layer.channels
            elif isinstance(layer, MaxPool):
                self.stem.append(_pool(layer))
            else:
                self.stem.append(LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k))

        self.inception = nn.ModuleList(
            InceptionModule(shape[0], widths, bias=bias, norm_eps=norm_eps)
            for widths, shape in zip(architecture.modules, shapes, strict=False)
        )
        firsts = accumulate(len(stage) for stage in architecture.stages)  # number of each later stage's first module
        self.pool_before = nn.ModuleDict(
            {str(number): _pool(pool) for number, pool in zip(firsts, architecture.stage_pools, strict=False)}
        )
        self.auxiliary = nn.ModuleDict(
            {
                str(number): AuxiliaryHead(
                    _written_by(architecture, number),
                    architecture.classes,
                    bias=bias,
                    norm_eps=norm_eps,
                )
                for number in architecture.auxiliary
            }
        )
        self.dropout = nn.Dropout(architecture.dropout) if architecture.dropout else nn.Identity()
        self.linear = nn.Linear(shapes[-1][0], architecture.classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        x = self.stem(x)
        auxiliary = []
        for number, module in enumerate(self.inception):
            name = str(number)
            if name in self.pool_before:
                x = self.pool_before[name](x)
            x = module(x)  # (N, C, H, W)
            if self.training and name in self.auxiliary:
                auxiliary.append(self.auxiliary[name](x))
        logits: Tensor = self.linear(self.dropout(x.mean((2, 3))))  # (N, C) -> (N, classes)
        return (logits, auxiliary) if auxiliary else logits


def build(architecture: Architecture) -> InceptionNetwork:
    """The architecture as a module, in training mode, in channels_last memory format, initialised as PyTorch does.

    Random numbers come from torch's default generator: seed it before.
    """
    network: InceptionNetwork = InceptionNetwork(architecture).to(memory_format=torch.channels_last)
    return network


def _pool(pool: MaxPool) -> nn.MaxPool2d:
    return nn.MaxPool2d(pool.kernel, pool.stride, pool.padding, ceil_mode=pool.ceil)


def _written_by(architecture: Architecture, number: int) -> tuple[int, int, int]:
    """(channels, height, width) of the map that a module writes: branches keep height and width."""
    channels, height, width = architecture.module_inputs()[number]
    return architecture.modules[number].out_channels(channels), height, width
