"""PlainNetwork -> torch module: a chain of layers without branches."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from nas.architecture import MaxPool
from nas.plain import Dropout, GlobalAverage, PlainConv, PlainLayer, PlainNetwork, Shape


class PlainModule(nn.Module):
    """The network that a PlainNetwork describes: float images (N, C, H, W), normalised -> logits (N, classes).

    `layers` holds one module for each layer of the description, in its order.
    """

    def __init__(self, network: PlainNetwork) -> None:
        super().__init__()
        self.network = network
        self.layers = nn.Sequential(*(_module(layer, before) for layer, before, _ in network.steps()))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits.flatten(1)


def build_plain(network: PlainNetwork) -> PlainModule:
    """The network as a module, in training mode, in channels_last memory format, initialised as PyTorch does.

    Random numbers come from torch's default generator: seed it before.
    """
    module: PlainModule = PlainModule(network).to(memory_format=torch.channels_last)
    return module


def _module(layer: PlainLayer, before: Shape) -> nn.Module:
    channels, height, width = before
    if isinstance(layer, PlainConv):
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["conv"] = nn.Conv2d(channels, layer.channels, layer.kernel, padding=layer.padding)
        if layer.batch_norm:
            parts["norm"] = nn.BatchNorm2d(layer.channels)
        if layer.relu:
            parts["relu"] = nn.ReLU(inplace=True)
        return nn.Sequential(parts)
    if isinstance(layer, MaxPool):
        return nn.MaxPool2d(layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil)
    if isinstance(layer, GlobalAverage):
        return nn.AdaptiveAvgPool2d(1)
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.probability)
    row: OrderedDict[str, nn.Module] = OrderedDict(flat=nn.Flatten())
    row["linear"] = nn.Linear(channels * height * width, layer.features)
    if layer.relu:
        row["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(row)
