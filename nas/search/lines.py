"""What one gets without a search: one shape, scaled to every size by a width multiplier."""

from __future__ import annotations

from statistics import fmean

from nas.search.table import Table

GOOGLENET = (
    (64, 128, 32, 32),
    (128, 192, 96, 64),
    (192, 208, 48, 64),
    (160, 224, 64, 64),
    (128, 256, 64, 64),
    (112, 288, 64, 64),
    (256, 320, 128, 128),
    (256, 320, 128, 128),
    (384, 384, 128, 128),
)
"""Output channels of GoogLeNet's nine modules: 1x1, 3x3, 5x5, pool (Szegedy et al. 2014, Table 1)."""
SHARE = fmean((three + five) / (one + three + five + pool) for one, three, five, pool in GOOGLENET)
"""3x3 and 5x5 as a part of a module's output, mean over GoogLeNet's modules: .573."""
FIVE = fmean(five / (three + five) for _, three, five, _ in GOOGLENET)
"""5x5 as a part of these two, likewise: .238."""


def like_googlenet(table: Table) -> tuple[str, ...]:
    """The line of a table whose shape is nearest to GoogLeNet's proportions; empty where it has no lines.

    Nearest is least in the mean square, over the line's networks and their modules, of the differences of both parts to
    `SHARE` and `FIVE`; of equal ones the first.
    """
    return min(table.lines, key=lambda line: _distance(table, line), default=())


def _distance(table: Table, line: tuple[str, ...]) -> float:
    networks = [table.architectures[key] for key in line]
    modules = [
        (float(share), widths.out_5x5 / (widths.out_3x3 + widths.out_5x5))
        for network in networks
        for share, widths in zip(network.shares, network.modules, strict=True)
    ]
    return fmean((share - SHARE) ** 2 + (five - FIVE) ** 2 for share, five in modules)
