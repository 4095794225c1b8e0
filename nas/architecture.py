"""One network as data: frozen, free of torch, JSON both ways, one key for one network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

from nas import counting
from nas.errors import ArchitectureError, choices

Rule = Literal["growing", "growing-each", "off"]
RULES: tuple[Rule, ...] = ("growing", "growing-each", "off")


@dataclass(frozen=True, slots=True)
class Conv:
    """A square convolution of the stem, then batch norm where `batch_norm`, then ReLU.

    `padding` None means kernel // 2, which keeps the map at stride 1. `bias` None means where there is no batch norm;
    some published networks have both.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    batch_norm: bool = True
    bias: bool | None = None

    def __post_init__(self) -> None:
        _yes_or_no("stem convolution's batch_norm", self.batch_norm)
        if self.bias is None:
            object.__setattr__(self, "bias", not self.batch_norm)
        _yes_or_no("stem convolution's bias", self.bias)
        for name in ("channels", "kernel", "stride"):
            _at_least(f"stem convolution's {name}", getattr(self, name), 1)
        if self.padding is None:
            object.__setattr__(self, "padding", self.kernel // 2)
        _at_least("stem convolution's padding", self.padding, 0)


@dataclass(frozen=True, slots=True)
class MaxPool:
    """A square max pool. `ceil` counts the last partial window, as the 2014 networks do."""

    kernel: int = 3
    stride: int = 2
    padding: int = 0
    ceil: bool = True

    def __post_init__(self) -> None:
        _at_least("pool's kernel", self.kernel, 1)
        _at_least("pool's stride", self.stride, 1)
        _at_least("pool's padding", self.padding, 0)
        _yes_or_no("pool's ceil", self.ceil)
        if self.padding > self.kernel // 2:
            raise ArchitectureError(f"pool's padding must be at most half its kernel {self.kernel}, got {self.padding}")


@dataclass(frozen=True, slots=True)
class LocalResponseNorm:
    """Local response normalisation over neighbouring channels (Krizhevsky et al. 2012, section 3.3)."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        _at_least("local response norm's size", self.size, 1)
        for name in ("alpha", "beta", "k"):
            _number(self, name, "local response norm's ")


StemLayer = Conv | MaxPool | LocalResponseNorm
_STEM_KINDS: dict[str, type[StemLayer]] = {"conv": Conv, "max_pool": MaxPool, "local_response_norm": LocalResponseNorm}
_STEM_NAMES = {kind: name for name, kind in _STEM_KINDS.items()}


@dataclass(frozen=True, slots=True)
class InceptionWidths:
    """Output channels of one module's branches; `reduce_*` are the 1x1 convolutions before them.

    `reduce_*` 0 means that the branch is not reduced; `out_pool` 0 means that the pooled input is passed through
    without a projection. The `out_*` of the convolutions are at least 1.
    """

    out_1x1: int
    reduce_3x3: int
    out_3x3: int
    reduce_5x5: int
    out_5x5: int
    out_pool: int

    def __post_init__(self) -> None:
        for field in fields(self):
            may_be_none = field.name.startswith("reduce") or field.name == "out_pool"
            _at_least(field.name, getattr(self, field.name), 0 if may_be_none else 1)

    def out_channels(self, in_channels: int) -> int:
        """Channels after the concatenation, for a module that reads `in_channels`."""
        return self.out_1x1 + self.out_3x3 + self.out_5x5 + (self.out_pool or in_channels)

    def spatial_share(self, in_channels: int) -> Fraction:
        """Filters that look at neighbours, 3x3 and 5x5, as a part of all output channels; exact."""
        return Fraction(self.out_3x3 + self.out_5x5, self.out_channels(in_channels))


@dataclass(frozen=True, slots=True)
class Architecture:
    """An Inception network: stem, stages of modules, a max pool between stages, global average pool, dropout, linear.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: outputs of the last linear layer, at least 1.
        stem: layers before the first module, in order; may be empty.
        stages: modules by stage; every stage has at least one module.
        stage_pools: the pool after each stage but the last; len(stages) - 1 of them.
        batch_norm: every convolution of a module is followed by batch norm.
        conv_bias: the convolutions of the modules have biases. Never together with `batch_norm`, which has its own.
        batch_norm_eps: added to the variance, everywhere in the network.
        dropout: probability in [0, 1) before the linear layer, in training only.
        auxiliary: modules, counted from 0, whose output feeds an auxiliary head in training
            (Szegedy et al. 2014, section 5).

    Raises:
        ArchitectureError: a value is out of range, or a map would vanish.
    """

    input_shape: tuple[int, int, int]
    classes: int
    stem: tuple[StemLayer, ...]
    stages: tuple[tuple[InceptionWidths, ...], ...]
    stage_pools: tuple[MaxPool, ...] = ()
    batch_norm: bool = True
    conv_bias: bool = False
    batch_norm_eps: float = 1e-5
    dropout: float = 0.0
    auxiliary: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.input_shape) != 3:
            raise ArchitectureError(f"input_shape must be channels, height and width, got {list(self.input_shape)}")
        for name, size in zip(("channels", "height", "width"), self.input_shape, strict=True):
            _at_least(f"input {name}", size, 1)
        _at_least("classes", self.classes, 1)
        if not self.stages or not all(self.stages):
            raise ArchitectureError("a network needs at least one stage, and every stage at least one module")
        if len(self.stage_pools) != len(self.stages) - 1:
            raise ArchitectureError(
                f"{len(self.stages)} stages need {len(self.stages) - 1} pools between them, got {len(self.stage_pools)}"
            )
        _yes_or_no("batch_norm", self.batch_norm)
        _yes_or_no("conv_bias", self.conv_bias)
        _number(self, "batch_norm_eps")
        _number(self, "dropout")
        if self.batch_norm and self.conv_bias:
            raise ArchitectureError("conv_bias with batch_norm: a bias before batch norm does nothing; choose one")
        if not 0 <= self.dropout < 1:
            raise ArchitectureError(f"dropout must be in [0, 1), got {self.dropout}")
        modules = len(self.modules)
        known = all(type(module) is int and 0 <= module < modules for module in self.auxiliary)  # true is no number
        if not known or list(self.auxiliary) != sorted(set(self.auxiliary)):
            given = list(self.auxiliary)
            raise ArchitectureError(f"auxiliary must be growing module numbers in 0..{modules - 1}, got {given}")
        shapes = self.module_inputs()  # raises where a map vanishes
        for module in self.auxiliary:
            _, height, width = shapes[module]
            if min(height, width) < counting.AUXILIARY_KERNEL:
                raise ArchitectureError(
                    f"auxiliary: module {module} has a map of {height}x{width}, and a head needs at least 5x5"
                )

    @property
    def modules(self) -> tuple[InceptionWidths, ...]:
        """All modules in the order of depth."""
        return tuple(module for stage in self.stages for module in stage)

    def module_inputs(self) -> tuple[tuple[int, int, int], ...]:
        """(channels, height, width) that each module reads and, last, what the global average pool reads."""
        return _module_inputs(self)

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """Share of 3x3 and 5x5 filters in each module's output, in the order of depth; exact."""
        return tuple(m.spatial_share(shape[0]) for m, shape in zip(self.modules, self.module_inputs(), strict=False))

    @property
    def params(self) -> int:
        """Trainable parameters of the network that infers: weights, biases, batch norm's scales and shifts; exact.

        Auxiliary heads, which live in training only, are not in it; see `training_params`.
        """
        return _counts(self)[0]

    @property
    def training_params(self) -> int:
        """`params` and the auxiliary heads' parameters."""
        return _counts(self)[1]

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and the linear layer for one image in inference; 1 MAC = 2 FLOPs.

        Positions in the padding count, biases, batch norm, pools and activations do not.
        """
        return _counts(self)[2]

    @property
    def key(self) -> str:
        """20 hexadecimal digits, equal exactly for equal networks: a SHA-256 of the canonical JSON."""
        return _key(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; `from_json` gives an equal network back."""
        return {
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "stem": [layer_to_json(layer) for layer in self.stem],
            "stages": [[_plain(module) for module in stage] for stage in self.stages],
            "stage_pools": [_plain(pool) for pool in self.stage_pools],
            "batch_norm": self.batch_norm,
            "conv_bias": self.conv_bias,
            "batch_norm_eps": self.batch_norm_eps,
            "dropout": self.dropout,
            "auxiliary": list(self.auxiliary),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> Architecture:
        """Read what `to_json` wrote, as a mapping or as text.

        Raises:
            ArchitectureError: not JSON, an unknown or missing field, or a value out of range.
        """
        try:
            raw = dict(json.loads(data) if isinstance(data, str) else data)
            raw["input_shape"] = tuple(raw["input_shape"])
            raw["stem"] = tuple(layer_from_json(layer) for layer in raw["stem"])
            raw["stages"] = tuple(tuple(InceptionWidths(**module) for module in stage) for stage in raw["stages"])
            raw["stage_pools"] = tuple(MaxPool(**pool) for pool in raw["stage_pools"])
            raw["auxiliary"] = tuple(raw["auxiliary"])
            return cls(**raw)
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            said = " ".join(f"{type(error).__name__} {error}".split())[:300]
            raise ArchitectureError(f"not a network's JSON: {said}") from error


def layer_to_json(layer: StemLayer) -> dict[str, Any]:
    """A layer of the stem as plain data: its kind under `layer`, and its fields."""
    return {"layer": _STEM_NAMES[type(layer)], **_plain(layer)}


def layer_from_json(data: Mapping[str, Any]) -> StemLayer:
    """Read what `layer_to_json` wrote; fields with a default may be left out.

    Raises:
        ArchitectureError: an unknown kind or field, a missing field, or a value out of range.
    """
    rest = dict(data)
    name = rest.pop("layer", None)
    if not isinstance(name, str) or name not in _STEM_KINDS:
        raise ArchitectureError(choices("layer", str(name), _STEM_KINDS))
    kind = _STEM_KINDS[name]
    known = {field.name for field in fields(kind)}
    for field in rest:
        if field not in known:
            raise ArchitectureError(choices(f"key of layer {name!r}", str(field), known))
    if kind is Conv and "channels" not in rest:
        raise ArchitectureError("layer 'conv' needs its channels")
    return kind(**rest)


def first_fall(architecture: Architecture, rule: Rule = "growing") -> int | None:
    """The first of `falls`; None where the rule holds."""
    return next(iter(falls(architecture, rule)), None)


def falls(architecture: Architecture, rule: Rule = "growing") -> tuple[int, ...]:
    """Numbers of the modules, counted from 0, whose share is under the one before it; none where the rule holds.

    `growing`: the share of 3x3 and 5x5 together never falls. `growing-each`: 3x3's and 5x5's own shares never fall.
    `off`: nothing is asked. Compared as exact fractions, never as floats.
    """
    if rule == "off":
        return ()
    rows: list[tuple[Fraction, ...]] = []
    for module, (channels, _, _) in zip(architecture.modules, architecture.module_inputs(), strict=False):
        out = module.out_channels(channels)
        each = (Fraction(module.out_3x3, out), Fraction(module.out_5x5, out))
        rows.append((sum(each, Fraction(0)),) if rule == "growing" else each)
    return tuple(
        number
        for number, (before, after) in enumerate(pairwise(rows), start=1)
        if any(b > a for b, a in zip(before, after, strict=True))
    )


def map_side(size: int, layer: Conv | MaxPool) -> int:
    """Rows (or columns) of the map after a convolution or pool of `size` ones, as torch counts them.

    Raises:
        ArchitectureError: none are left.
    """
    padding = layer.padding or 0
    out = counting.side_after(size, layer.kernel, layer.stride, padding, ceil=getattr(layer, "ceil", False))
    if out < 1:
        raise ArchitectureError(
            f"a map of {size} vanishes under kernel {layer.kernel}, stride {layer.stride}, padding {padding}"
        )
    return out


def _at_least(what: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ArchitectureError(f"{what} must be a whole number of at least {least}, got {value!r}")


def _yes_or_no(what: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ArchitectureError(f"{what} must be true or false, got {value!r}")


def _number(item: Any, name: str, owner: str = "") -> None:
    """Check a real number of at least 0 and keep it as a float, so that 0 and 0.0 are one network with one key."""
    value = getattr(item, name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1e9:
        raise ArchitectureError(f"{owner}{name} must be a number in 0..1e9, got {value!r}")
    object.__setattr__(item, name, float(value) + 0.0)  # -0.0 becomes 0.0


def _plain(item: StemLayer | InceptionWidths) -> dict[str, Any]:
    return {field.name: getattr(item, field.name) for field in fields(item)}


def _stem_shapes(architecture: Architecture) -> Iterator[tuple[StemLayer, tuple[int, int, int], tuple[int, int, int]]]:
    """Each layer of the stem with the (channels, height, width) that it reads and writes."""
    shape = architecture.input_shape
    for layer in architecture.stem:
        before = shape
        if not isinstance(layer, LocalResponseNorm):
            channels = layer.channels if isinstance(layer, Conv) else shape[0]
            shape = (channels, map_side(shape[1], layer), map_side(shape[2], layer))
        yield layer, before, shape


@lru_cache(maxsize=4096)
def _module_inputs(architecture: Architecture) -> tuple[tuple[int, int, int], ...]:
    shape = architecture.input_shape
    for _, _, after in _stem_shapes(architecture):
        shape = after
    channels, height, width = shape
    shapes = []
    for number, stage in enumerate(architecture.stages):
        if number:
            pool = architecture.stage_pools[number - 1]
            height, width = map_side(height, pool), map_side(width, pool)
        for module in stage:
            shapes.append((channels, height, width))
            channels = module.out_channels(channels)
    return (*shapes, (channels, height, width))


@lru_cache(maxsize=4096)
def _counts(architecture: Architecture) -> tuple[int, int, int]:
    """(params, training_params, macs)."""
    params = macs = 0
    for layer, (inputs, _, _), (_, height, width) in _stem_shapes(architecture):
        if isinstance(layer, Conv):
            weights = counting.conv_weights(inputs, layer.channels, layer.kernel)
            params += weights + layer.channels * counting.per_filter(layer.batch_norm, bool(layer.bias))
            macs += weights * height * width
    shapes = architecture.module_inputs()
    extra = counting.per_filter(architecture.batch_norm, architecture.conv_bias)
    for module, (inputs, height, width) in zip(architecture.modules, shapes, strict=False):
        widths = tuple(getattr(module, field.name) for field in fields(module))
        weights = counting.module_weights(inputs, *widths)
        params += weights + counting.module_filters(*widths) * extra
        macs += weights * height * width
    features = shapes[-1][0]
    params += (features + 1) * architecture.classes
    macs += features * architecture.classes
    heads = 0
    for number in architecture.auxiliary:
        inputs, height, width = shapes[number]
        written = (architecture.modules[number].out_channels(inputs), height, width)
        heads += counting.auxiliary_params(written, architecture.classes, extra)
    return params, params + heads, macs


@lru_cache(maxsize=4096)
def _key(architecture: Architecture) -> str:
    canonical = json.dumps(architecture.to_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]
