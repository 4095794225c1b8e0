"""Plain networks as data: one chain of layers without branches, counted exactly, free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nas.architecture import Conv, MaxPool, map_side
from nas.counting import conv_weights, per_filter

Shape = tuple[int, int, int]
"""(channels, height, width) of a map; a row of numbers is (numbers, 1, 1)."""


@dataclass(frozen=True, slots=True)
class PlainConv:
    """A square convolution of stride 1 with biases, then batch norm and ReLU where they are."""

    channels: int
    kernel: int = 3
    padding: int = 1
    batch_norm: bool = True
    relu: bool = True


@dataclass(frozen=True, slots=True)
class GlobalAverage:
    """The mean of every map: (C, H, W) -> (C, 1, 1)."""


@dataclass(frozen=True, slots=True)
class Dropout:
    """Zeros at `probability` in [0, 1), in training only."""

    probability: float


@dataclass(frozen=True, slots=True)
class Linear:
    """All numbers of the map -> `features`, with biases; then ReLU where it is."""

    features: int
    relu: bool = False


PlainLayer = PlainConv | MaxPool | GlobalAverage | Dropout | Linear


@dataclass(frozen=True, slots=True)
class PlainNetwork:
    """A chain of layers whose last one that has weights gives the logits.

    Args:
        input_shape: (channels, height, width) of one image.
        layers: in the order in which they run.

    Raises:
        ArchitectureError: a map vanishes.
    """

    input_shape: Shape
    layers: tuple[PlainLayer, ...]

    def __post_init__(self) -> None:
        self.shapes()

    def shapes(self) -> tuple[Shape, ...]:
        """What the first layer reads, and what each one writes."""
        return (self.input_shape, *(after for _, _, after in self.steps()))

    @property
    def classes(self) -> int:
        """Logits of an image."""
        return self.shapes()[-1][0]

    @property
    def params(self) -> int:
        """Trainable parameters: weights, biases, batch norm's scales and shifts."""
        return sum(_weights(layer, before) + _others(layer) for layer, before, _ in self.steps())

    @property
    def training_params(self) -> int:
        """The same as `params`: nothing is there for training only."""
        return self.params

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers for one image; positions in the padding count."""
        return sum(_weights(layer, before) * after[1] * after[2] for layer, before, after in self.steps())

    def steps(self) -> Iterator[tuple[PlainLayer, Shape, Shape]]:
        """Each layer with what it reads and what it writes."""
        shape = self.input_shape
        for layer in self.layers:
            before, shape = shape, _after(layer, shape)
            yield layer, before, shape


def _after(layer: PlainLayer, shape: Shape) -> Shape:
    channels, *sides = shape
    if isinstance(layer, PlainConv):
        conv = Conv(layer.channels, layer.kernel, padding=layer.padding)
        return layer.channels, map_side(sides[0], conv), map_side(sides[1], conv)
    if isinstance(layer, MaxPool):
        return channels, map_side(sides[0], layer), map_side(sides[1], layer)
    if isinstance(layer, GlobalAverage):
        return channels, 1, 1
    return (layer.features, 1, 1) if isinstance(layer, Linear) else shape


def _weights(layer: PlainLayer, before: Shape) -> int:
    channels, height, width = before
    if isinstance(layer, PlainConv):
        return conv_weights(channels, layer.channels, layer.kernel)
    return channels * height * width * layer.features if isinstance(layer, Linear) else 0


def _others(layer: PlainLayer) -> int:
    if isinstance(layer, PlainConv):
        return layer.channels * per_filter(layer.batch_norm, bias=True)
    return layer.features if isinstance(layer, Linear) else 0
