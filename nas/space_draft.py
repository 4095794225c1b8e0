"""A search space for images of one's own: the text of a TOML file, fitted to their size, channels and classes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from nas.errors import SpaceError
from nas.space import Space
from nas.space_file import parse_space

SIDES = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224)
"""Input sides to choose from; the pools bring each to a last map of 4x4 to 7x7."""

LEAST_SIDE, MOST_SIDE = 8, 1024


@dataclass(frozen=True, slots=True)
class Draft:
    """What a space is fitted to.

    Args:
        name: of the space.
        dataset: as --dataset takes it.
        channels: 1 grey, 3 colour.
        side: of the square input, 8 to 1024.
        classes: at least 2.
        images: of all classes together.
        flip: mirror half the training images.
    """

    name: str
    dataset: str
    channels: int
    side: int
    classes: int
    images: int
    flip: bool


@dataclass(frozen=True, slots=True)
class _Shape:
    """Stem and stages for a side, and how wide they may be."""

    stem: tuple[str, ...]
    stages: tuple[int, ...]
    step: int
    max_channels: int
    most_params: int


def input_side(short_side: int) -> int:
    """The side of `SIDES` that is the largest not above the images' short side; the smallest where none is."""
    return max((side for side in SIDES if side <= short_side), default=SIDES[0])


def draft(fitted: Draft) -> str:
    """The text, whose ranges of parameters and MACs the space can reach.

    Raises:
        SpaceError: a side that is out of range, or a data set whose name cannot be written in TOML.
    """
    if not LEAST_SIDE <= fitted.side <= MOST_SIDE:
        raise SpaceError(f"--size {fitted.side}: it must be in {LEAST_SIDE}..{MOST_SIDE}")
    shape = _shape(fitted.side)
    space = _space(_text(fitted, shape, (1, 2**53), None, ()))
    maps = tuple(dict.fromkeys(height for _, height, _ in space.smallest().module_inputs()[:-1]))
    least, most = space.reach("params")
    low = _nice(1.1 * least, math.ceil)
    params = low, min(_nice(most, math.floor), max(shape.most_params, 8 * low))
    space = _space(_text(fitted, shape, params, None, maps))
    macs_low, macs_high = (_macs(space, size) for size in (0.0, 1.0))
    least, most = space.reach("macs")
    macs = max(_nice(macs_low, math.ceil), _nice(least, math.ceil)), min(_nice(macs_high, math.floor), most)
    # under a stem that takes most of the time there is nothing to choose by multiply-adds
    return _text(fitted, shape, params, macs if macs[1] >= 2 * macs[0] else None, maps)


def _space(text: str) -> Space:
    file = parse_space(text, "the new space")
    return Space(file.name or "", text, file, file.rule, file.cost, file.recipe, file.classes)


def _macs(space: Space, size: float) -> float:
    """Of a network of this size, the median of a few shapes."""
    shapes = np.random.default_rng(0).random((9, len(space.coordinates) - 1))
    return median(space.decode([size, *shape]).macs for shape in shapes)


def _nice(number: float, rounded: Callable[[float], int]) -> int:
    """Two digits and zeros, by `math.floor` or `math.ceil`."""
    unit = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return rounded(number / unit) * int(unit)


def _shape(side: int) -> _Shape:
    halvings = int(math.log2(side / 4))  # to a last map of 4 to 7
    stages: tuple[int, ...]
    if halvings == 1:
        stem, stages = [_conv(8)], (1, 2)
    elif side < 24:
        stem, stages = [_conv(16)], (1, 2, 2)
    elif halvings == 2:
        stem, stages = [_conv(32), _POOL], (2, 2)
    elif halvings == 3:
        stem, stages = [_conv(32), _POOL], (2, 2, 2)
    elif halvings == 4:
        stem, stages = [_conv(32, stride=2), _conv(32), _POOL], (2, 2, 2)
    else:
        stem, stages = [_conv(32, 7, 2), _POOL, _conv(32, 1), _conv(64), _POOL], (2, 2, 2)
        for _ in range(halvings - 5):
            stem += [_conv(64, stride=2)]
    wide = {1: (2, 96, 15_000), 2: (4, 256, 300_000), 3: (4, 512, 1_000_000)}.get(halvings, (8, 768, 2_000_000))
    return _Shape(tuple(stem), stages, *wide)


_POOL = '{ layer = "max_pool", kernel = 3, stride = 2, padding = 0, ceil = true }'


def _conv(channels: int, kernel: int = 3, stride: int = 1) -> str:
    strided = f", stride = {stride}" if stride > 1 else ""
    return f'{{ layer = "conv", channels = {channels}, kernel = {kernel}{strided} }}'


def _recipe(images: int) -> tuple[int, int]:
    """Epochs and batch: few images need more passes, and small batches to make enough steps of them."""
    if images < 500:
        return 30, 16
    if images < 2_000:
        return 20, 32
    return (15, 64) if images < 20_000 else (12, 128)


def _text(
    fitted: Draft, shape: _Shape, params: tuple[int, int], macs: tuple[int, int] | None, maps: Sequence[int]
) -> str:
    epochs, batch = _recipe(fitted.images)
    stem = "".join(f"    {layer},\n" for layer in shape.stem)
    mac_table = (
        ""
        if macs is None
        else f"""# The same for multiply-adds (one MAC = two FLOPs), for `--cost macs` only. May be left out.
[macs]
low = {macs[0]:_}
high = {macs[1]:_}

"""
    )
    flip = json.dumps(fitted.flip)
    return f"""# A search space, fitted to {fitted.images:,} images by `nas spaces new`. Change it, and check it with
#     nas spaces check FILE
# Every key is explained in `nas spaces show digits`; an unknown key is an error.

name = {_quoted(fitted.name)}
source = {_quoted(f"{fitted.images:,} images of {fitted.classes} classes in {fitted.dataset}")}
dataset = {_quoted(fitted.dataset)}  # a relative path counts from where the search is started
input = [{fitted.channels}, {fitted.side}, {fitted.side}]  # channels (1 grey, 3 colour), height, width: resized to it
classes = {fitted.classes}

# How many parameters a network may have. `size`, the first coordinate, picks a target between low and high on a log
# scale; no network is ever above high. `nas spaces check` says what is possible.
[params]
low = {params[0]:_}
high = {params[1]:_}

{mac_table}# What all networks share. With half the sides of the input a step takes about a quarter of the time.
[network]
stem = [
{stem}]
stages = {list(shape.stages)}  # Inception modules in each stage; they see maps of {_listed(maps)}
pool = {{ kernel = 3, stride = 2, padding = 0, ceil = true }}  # between two stages
batch_norm = true
dropout = 0.0

# What varies from module to module. `low` = `high` fixes a value.
[widths]
step = {shape.step}  # every width is a multiple of this many channels
max_channels = {shape.max_channels}  # of one module, all branches together
width = {{ low = 0.5, high = 2.0 }}  # a module's channels relative to the others'
share = {{ low = 0.25, high = 0.85 }}  # (3x3 + 5x5) / all; under the rule `growing` it never falls with depth
share_3x3 = {{ low = 0.2, high = 0.6 }}  # the two shares of the rule `growing-each`
share_5x5 = {{ low = 0.05, high = 0.3 }}
five = {{ low = 0.1, high = 0.5 }}  # 5x5's part of (3x3 + 5x5)
pool = {{ low = 0.2, high = 0.6 }}  # the pool projection's part of (1x1 + pool)
reduce_3x3 = {{ low = 0.25, high = 1.0 }}  # the 1x1 convolution before the 3x3 one: its channels / the 3x3's channels
reduce_5x5 = {{ low = 0.25, high = 1.0 }}

# How each network is trained. --epochs and --batch of a search go before these.
[recipe]
epochs = {epochs}
batch = {batch}
learning_rate = 0.02
weight_decay = {0.01 if fitted.side < 24 else 0.05}
label_smoothing = 0.1
whiten = {json.dumps(fitted.channels == 3)}  # the first convolution is set from the images and stays: for photographs

# flip mirrors half the images left to right: right for most photographs. Turn it off where left and right differ:
# letters, digits, signs, arrows, sides of a body.
# crop shifts an image by up to so many pixels, here an eighth of a side; erase is the probability of a black rectangle.
[recipe.augmentation]
flip = {flip}
crop = {max(1, fitted.side // 8)}
erase = 0.0
"""


def _listed(maps: Sequence[int]) -> str:
    return ", ".join(f"{side}x{side}" for side in maps)


def _quoted(text: str) -> str:
    """A string of TOML, whose escapes are JSON's.

    Raises:
        SpaceError: a path that is no Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SpaceError(f"{text!a} cannot be written in a TOML file: rename the folder") from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
