"""Exact counts of an Inception module, from its widths alone.

The same lines count one network, in Python's whole numbers, and hundreds of candidates at once, in int64 arrays:
a space asks for both, and they must never disagree.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Count = TypeVar("Count", int, NDArray[np.int64])


def conv_weights(inputs: Count, outputs: Count, kernel: int) -> Count:
    """Weights of a square convolution without its bias; times the map's positions, its multiply-adds."""
    return inputs * outputs * kernel * kernel


def module_weights(
    inputs: Count, one: Count, reduce_3: Count, three: Count, reduce_5: Count, five: Count, pool: Count
) -> Count:
    """Weights of all convolutions of a module that reads `inputs` channels.

    A reduce of 0 is no convolution: the branch then reads the module's input. A `pool` of 0 is no projection.
    Every convolution keeps the map, so times height x width this is the module's multiply-adds.
    """
    into_3: Count = reduce_3 + inputs * (reduce_3 == 0)
    into_5: Count = reduce_5 + inputs * (reduce_5 == 0)
    pointwise: Count = inputs * (one + reduce_3 + reduce_5 + pool)
    spatial: Count = conv_weights(into_3, three, 3) + conv_weights(into_5, five, 5)
    return pointwise + spatial


def module_filters(one: Count, reduce_3: Count, three: Count, reduce_5: Count, five: Count, pool: Count) -> Count:
    """Output channels of all convolutions of a module: each has one bias, or a scale and a shift of batch norm."""
    return one + reduce_3 + three + reduce_5 + five + pool


def per_filter(batch_norm: bool, bias: bool) -> int:
    """Parameters that come with each filter besides its weights."""
    return 2 * batch_norm + bias


def side_after(size: int, kernel: int, stride: int, padding: int, *, ceil: bool) -> int:
    """Rows (or columns) that a convolution or pool makes of `size` ones, as torch counts them; 0 where none are left.

    Args:
        ceil: the last partial window counts.
    """
    span = size + 2 * padding - kernel
    if span < 0:
        return 0
    if not ceil:
        return span // stride + 1
    out = -(-span // stride) + 1
    return out - ((out - 1) * stride >= size + padding)  # torch drops a window that would start in the padding


# Szegedy et al. 2014, section 5: average pool 5x5 stride 3, 1x1 convolution, two linear layers.
AUXILIARY_KERNEL, AUXILIARY_STRIDE = 5, 3
AUXILIARY_CHANNELS, AUXILIARY_HIDDEN = 128, 1024


def auxiliary_params(shape: tuple[int, int, int], classes: int, extra: int) -> int:
    """Parameters of one auxiliary head.

    Args:
        shape: (channels, height, width) of the map that it reads, each side at least 5.
        classes: outputs.
        extra: `per_filter` of the modules, which its convolution follows; the linear layers have biases.
    """
    channels, *sides = shape
    rows, columns = ((side - AUXILIARY_KERNEL) // AUXILIARY_STRIDE + 1 for side in sides)
    hidden = (AUXILIARY_CHANNELS * rows * columns + 1) * AUXILIARY_HIDDEN
    return AUXILIARY_CHANNELS * (channels + extra) + hidden + (AUXILIARY_HIDDEN + 1) * classes
