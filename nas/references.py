"""The reference networks: eight known ones, from public teaching notebooks and Szegedy et al. 2014; free of torch.

Their published accuracies are as reported there, one run each, after the last epoch. The AlexNet and NiN runs watched
the test images every epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from nas.architecture import Architecture, Conv, InceptionWidths, LocalResponseNorm, MaxPool, first_fall
from nas.errors import ArchitectureError, choices
from nas.plain import Dropout, GlobalAverage, Linear, PlainConv, PlainLayer, PlainNetwork

Shape = tuple[int, int, int]
Widths = InceptionWidths
MODULE_INPUT: Shape = (256, 28, 28)
"""(channels, height, width) on which the two single modules are counted alone."""

WRAPPER = "conv 3x3 to 256 + BN + ReLU, max pool 4x4 to 8x8, the module, global average pool, linear"
"""What the two stand in wherever they are trained; its 8x8 is of 32x32 images."""

NAIVE = Widths(out_1x1=64, reduce_3x3=0, out_3x3=64, reduce_5x5=0, out_5x5=64, out_pool=0)
V1 = Widths(out_1x1=64, reduce_3x3=96, out_3x3=128, reduce_5x5=16, out_5x5=32, out_pool=32)
_NOTEBOOKS = "a public teaching notebook"
_PAPER = "Szegedy et al. 2014"


@dataclass(frozen=True)
class Reference:
    """One known network, for any number of classes.

    Args:
        name: what commands call it.
        what: in a few words.
        source: where it is from.
        input_shape: (channels, height, width) of the images that it reads.
        published_classes: of the network that was published.
        published: what was reported there, of one run; empty where nothing was.
        watched_test: that run read the test images after every epoch, as nothing here does.
        design: (input_shape, classes) -> the network as data.
        module: of a single module that stands in a wrapper, the module; `design` is the wrapper with it.
        source_names: what its source calls its modules, by depth; empty where it numbers them.
        initialisation: `default` is PyTorch's; `kaiming-normal` is He's for convolutions and linear layers, with
            biases from the standard normal distribution.
    """

    name: str
    what: str
    source: str
    input_shape: Shape
    published_classes: int
    published: str
    design: Callable[[Shape, int], Architecture | PlainNetwork]
    module: InceptionWidths | None = None
    source_names: tuple[str, ...] = ()
    initialisation: Literal["default", "kaiming-normal"] = "default"
    watched_test: bool = False

    def network(self, classes: int) -> Architecture | PlainNetwork:
        """The network as data.

        Raises:
            ArchitectureError: under one class, or a map vanishes.
        """
        if classes < 1:
            raise ArchitectureError(f"classes must be a whole number of at least 1, got {classes}")
        return self.design(self.input_shape, classes)

    def architecture(self, classes: int) -> Architecture | None:
        """The network as an Architecture; None for a plain one, which has no Inception modules."""
        network = self.network(classes)
        return network if isinstance(network, Architecture) else None

    def at(self, side: int) -> Reference:
        """The network for images of `side` x `side`: as it is, but for layers that need to know the map's size.

        Raises:
            ArchitectureError: a map vanishes, or is too small for an auxiliary head.
        """
        other = replace(self, input_shape=(self.input_shape[0], side, side))
        try:
            other.network(self.published_classes)
        except ArchitectureError as error:
            raise ArchitectureError(f"{self.name} cannot read images of {side}x{side}: {error}") from error
        return other

    def params(self, classes: int) -> int:
        """Trainable parameters of the network that infers; a single module's wrapper is in it, see `module_params`."""
        return self.network(classes).params

    def training_params(self, classes: int) -> int:
        """`params` and those of auxiliary heads."""
        return self.network(classes).training_params

    def macs(self, classes: int) -> int:
        """Multiply-adds for one image in inference."""
        return self.network(classes).macs

    @property
    def module_params(self) -> int | None:
        """Of a single module, its own parameters without the wrapper; else None."""
        alone = self._alone
        return None if alone is None else alone.params - (alone.module_inputs()[-1][0] + 1)

    @property
    def module_macs(self) -> int | None:
        """Of a single module, its own multiply-adds on `MODULE_INPUT`; else None."""
        alone = self._alone
        return None if alone is None else alone.macs - alone.module_inputs()[-1][0]

    @property
    def _alone(self) -> Architecture | None:
        """The single module on `MODULE_INPUT`, before a linear layer of one class, which is to be taken off again."""
        return None if self.module is None else _single(MODULE_INPUT, 1, self.module, stem=())

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """Share of 3x3 and 5x5 filters in each module, by depth; empty for a plain network."""
        network = self.network(self.published_classes)
        return network.shares if isinstance(network, Architecture) else ()

    @property
    def first_fall(self) -> int | None:
        """Number of the first module, counted from 0, whose share is under the one before it; None where none is."""
        network = self.network(self.published_classes)
        return first_fall(network) if isinstance(network, Architecture) else None

    @property
    def obeys_rule(self) -> bool | None:
        """The share of 3x3 and 5x5 filters never falls with depth; None for a plain network, which has none."""
        return None if not self.shares else self.first_fall is None

    @property
    def module_names(self) -> tuple[str, ...]:
        """Its source's names of the modules, or m1, m2, ..., by depth."""
        return self.source_names or tuple(f"m{number}" for number in range(1, len(self.shares) + 1))


def reference(name: str) -> Reference:
    """The reference network of that name.

    Raises:
        ArchitectureError: there is none; the nearest name is said.
    """
    if name not in REFERENCES:
        raise ArchitectureError(choices("reference network", name, REFERENCES))
    return REFERENCES[name]


def module_params(name: str) -> int | None:
    """Parameters of the module alone where `name` is a single module, which stands in a wrapper; else None."""
    return REFERENCES[name].module_params if name in REFERENCES else None


def counted(name: str, params: int) -> str:
    """A network's parameters for a person; of a single module with its wrapper, and those of the module alone.

    Args:
        name: of any network.
    """
    alone = module_params(name)
    return f"{params:,} parameters" if alone is None else f"{params:,} with its wrapper, the module alone {alone:,}"


_WRAPPER = (Conv(256, 3, batch_norm=True, bias=True), MaxPool(4, 4, ceil=False))  # 32x32 -> 8x8
_SMALL_STEM = (Conv(64, 7, 2, 3, batch_norm=False), LocalResponseNorm(), MaxPool(3, 2))
_CEIL_POOL = MaxPool(3, 2, 0, ceil=True)
_GOOGLENET_STEM = (
    Conv(64, 7, 2, 3, batch_norm=False),
    _CEIL_POOL,
    LocalResponseNorm(),
    Conv(64, 1, batch_norm=False),
    Conv(192, 3, batch_norm=False),
    LocalResponseNorm(),
    _CEIL_POOL,
)
GOOGLENET_STAGES = (
    (Widths(64, 96, 128, 16, 32, 32), Widths(128, 128, 192, 32, 96, 64)),
    (
        Widths(192, 96, 208, 16, 48, 64),
        Widths(160, 112, 224, 24, 64, 64),
        Widths(128, 128, 256, 24, 64, 64),
        Widths(112, 144, 288, 32, 64, 64),
        Widths(256, 160, 320, 32, 128, 128),
    ),
    (Widths(256, 160, 320, 32, 128, 128), Widths(384, 192, 384, 48, 128, 128)),
)
"""GoogLeNet's modules: 3a and 3b, 4a to 4e, 5a and 5b."""
GOOGLENET_MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


def _single(
    input_shape: Shape, classes: int, module: InceptionWidths, stem: tuple[Conv | MaxPool, ...]
) -> Architecture:
    # batch norm's epsilon is the module's for the wrapper too: a network has one
    return Architecture(input_shape, classes, stem, ((module,),), batch_norm=True, batch_norm_eps=1e-3)


def _naive(input_shape: Shape, classes: int) -> Architecture:
    return _single(input_shape, classes, NAIVE, _WRAPPER)


def _v1(input_shape: Shape, classes: int) -> Architecture:
    return _single(input_shape, classes, V1, _WRAPPER)


def _inception_cifar(input_shape: Shape, classes: int) -> Architecture:
    pool = MaxPool(3, 2, 1, ceil=False)
    return Architecture(
        input_shape,
        classes,
        stem=(Conv(64, 3, batch_norm=True, bias=True),),
        stages=(
            (Widths(32, 48, 64, 8, 16, 16), Widths(64, 64, 96, 16, 32, 32)),
            (Widths(96, 64, 128, 16, 32, 32), Widths(128, 96, 160, 24, 48, 48)),
            (Widths(160, 128, 192, 32, 64, 64),),
        ),
        stage_pools=(pool, pool),
        batch_norm=False,
        conv_bias=True,
        dropout=0.4,
    )


def _small_googlenet(input_shape: Shape, classes: int) -> Architecture:
    return Architecture(
        input_shape,
        classes,
        stem=_SMALL_STEM,
        stages=(
            (
                Widths(64, 16, 32, 8, 16, 16),
                Widths(64, 32, 64, 16, 32, 32),
                Widths(48, 56, 112, 32, 64, 32),
                Widths(32, 64, 128, 24, 64, 32),
                Widths(16, 112, 128, 24, 80, 32),
            ),
        ),
        batch_norm=False,
        conv_bias=True,
        dropout=0.4,
    )


def _googlenet(input_shape: Shape, classes: int) -> Architecture:
    return Architecture(
        input_shape,
        classes,
        stem=_GOOGLENET_STEM,
        stages=GOOGLENET_STAGES,
        stage_pools=(_CEIL_POOL, _CEIL_POOL),
        batch_norm=False,
        conv_bias=True,
        dropout=0.4,
        auxiliary=(2, 5),  # 4a and 4d
    )


_HALVE = MaxPool(2, 2, ceil=False)
_ALEXNET: tuple[PlainLayer, ...] = (
    *(PlainConv(64), _HALVE, PlainConv(192), _HALVE),
    *(PlainConv(384), PlainConv(256), PlainConv(256), _HALVE),
)


def _average_of_classes(classes: int) -> tuple[PlainLayer, ...]:
    return PlainConv(classes, 1, 0, batch_norm=False, relu=False), GlobalAverage()


def _alexnet_cifar_plain(input_shape: Shape, classes: int) -> PlainNetwork:
    head = (Dropout(0.5), Linear(1024, relu=True), Dropout(0.5), Linear(512, relu=True), Linear(classes))
    return PlainNetwork(input_shape, (*_ALEXNET, *head))


def _alexnet_cifar(input_shape: Shape, classes: int) -> PlainNetwork:
    return PlainNetwork(input_shape, (*_ALEXNET, *_average_of_classes(classes)))


def _nin_cifar(input_shape: Shape, classes: int) -> PlainNetwork:
    layers: list[PlainLayer] = []
    # (kernel, channels); the 1x1 ones are padded as the 3x3 ones are, so maps grow
    for block in (
        [(3, 64)],
        [(3, 128), (1, 128), (1, 192)],
        [(3, 256), (1, 256), (1, 384)],
        [(1, 256), (3, 256), (1, 256)],
    ):
        last = len(block) - 1
        layers += [PlainConv(channels, kernel, relu=at == last) for at, (kernel, channels) in enumerate(block)]
        layers.append(_HALVE)
    return PlainNetwork(input_shape, (*layers, *_average_of_classes(classes)))


_CIFAR: Shape = (3, 32, 32)
REFERENCES: dict[str, Reference] = {
    one.name: one
    for one in (
        Reference(
            "inception-naive-module", "one module, no reducers, every conv 64", _NOTEBOOKS, _CIFAR, 10, "",
            _naive, NAIVE,
        ),
        Reference(
            "inception-v1-module", "one module, reducers before 3x3 and 5x5", _NOTEBOOKS, _CIFAR, 10, "",
            _v1, V1,
        ),
        Reference(
            "inception-cifar", "5 modules in 3 stages", _NOTEBOOKS, _CIFAR, 100,
            "CIFAR-100, 40 epochs: 56.68 % test", _inception_cifar,
        ),
        Reference(
            "small-googlenet", "5 modules in one stage, local response norm", _NOTEBOOKS, _CIFAR, 10,
            "CIFAR-10, 30 epochs: 71.69 % test", _small_googlenet, initialisation="kaiming-normal",
        ),
        Reference(
            "googlenet", "9 modules, 22 layers, two auxiliary heads in training", _PAPER, (3, 224, 224), 1000, "",
            _googlenet, source_names=GOOGLENET_MODULES,
        ),
        Reference(
            "alexnet-cifar-plain", "5 convs, 3 linear layers, dropout", _NOTEBOOKS, _CIFAR, 10,
            "CIFAR-10, 10 epochs: 78.58 % test (best epoch 79.05 %)", _alexnet_cifar_plain, watched_test=True,
        ),
        Reference(
            "alexnet-cifar", "5 convs, global average pool", _NOTEBOOKS, _CIFAR, 10,
            "CIFAR-10, 10 epochs: 81.14 % test", _alexnet_cifar, watched_test=True,
        ),
        Reference(
            "nin-cifar", "network in network, 4 blocks", _NOTEBOOKS, _CIFAR, 10,
            "CIFAR-10, 10 epochs: 74.27 % test", _nin_cifar, watched_test=True,
        ),
    )
}  # fmt: skip
"""By name, in the order of the page that describes them."""
