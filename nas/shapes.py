"""The shapes of a space: real numbers drawn from a vector, rounded to channel steps at many sizes, and counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from nas import counting
from nas import rule as growth
from nas.architecture import Architecture, InceptionWidths, Rule
from nas.rule import Floats, Ints
from nas.space_file import Range, SpaceFile

MULTIPLES = 256
LEAST_STEPS = 4  # of a module: one for each branch


@dataclass(frozen=True, slots=True)
class Candidates:
    """One shape at several sizes, exactly counted.

    Args:
        widths: (rows, modules, 6) channels, in the order of `InceptionWidths`.
        params: (rows,), of each row's network.
        macs: (rows,), the same.
    """

    widths: Ints
    params: Ints
    macs: Ints


@dataclass(frozen=True)
class Shapes:
    """All shapes of the networks that a file describes, under one rule, for one number of classes."""

    file: SpaceFile
    rule: Rule
    classes: int

    @cached_property
    def coordinates(self) -> tuple[str, ...]:
        """Names of a shape's numbers in [0, 1], by depth: m1.width, m1.share, ... Fixed quantities have none."""
        free = [name for name, given in self._quantities.items() if not given.fixed]
        return tuple(f"m{number}.{name}" for number in range(1, self._modules + 1) for name in free)

    @cached_property
    def levels(self) -> tuple[int | None, ...]:
        """How many values each of `coordinates` has; None where it is continuous."""
        free = [given.levels for given in self._quantities.values() if not given.fixed]
        return tuple(free) * self._modules

    def candidates(self, shape: Floats) -> Candidates:
        """The distinct ones of 256 log-spaced multiples of a shape, smallest first.

        They go from a least total in every module to `max_channels` in every module, and keep the rule.

        Args:
            shape: one number in [0, 1] for each of `coordinates`.
        """
        return self.candidates_of(shape[None])[0]

    def candidates_of(self, shapes: Floats) -> list[Candidates]:
        """`candidates` of each of several shapes, (n, coordinates), in a fraction of the time of one after another."""
        drawn = self.draw(shapes)
        totals, owners = self._totals(drawn["width"])
        widths = self._widths(totals, {name: values[owners] for name, values in drawn.items()})
        params, macs = self._counted(widths)
        ends = np.searchsorted(owners, np.arange(1, len(shapes)))
        parts = zip(np.split(widths, ends), np.split(params, ends), np.split(macs, ends), strict=True)
        return [Candidates(*part) for part in parts]

    def draw(self, shape: Floats) -> dict[str, Floats]:
        """Real values before rounding by quantity, (..., modules) of (..., coordinates). Shares obey the rule."""
        free = [name for name, given in self._quantities.items() if not given.fixed]
        modules = (*shape.shape[:-1], self._modules)
        units = dict(zip(free, np.moveaxis(shape.reshape(*modules, len(free)), -1, 0), strict=True))
        drawn = {}
        for name, given in self._quantities.items():
            unit = units.get(name, np.zeros(modules))
            if name.startswith("share") and self.rule != "off":
                unit = growth.growing(unit)
            drawn[name] = _value(given, unit, log=name == "width")
        return drawn

    def architecture(self, widths: Ints) -> Architecture:
        """The network with `widths`, (modules, 6) channels."""
        modules = iter([InceptionWidths(*row) for row in widths.tolist()])
        network = self.file.network
        return Architecture(
            input_shape=self.file.input,
            classes=self.classes,
            stem=network.stem,
            stages=tuple(tuple(next(modules) for _ in range(count)) for count in network.stages),
            stage_pools=(network.pool,) * (len(network.stages) - 1),
            batch_norm=network.batch_norm,
            conv_bias=not network.batch_norm,
            dropout=network.dropout,
            auxiliary=tuple(module - 1 for module in network.auxiliary),  # a file counts them from 1
        )

    def realised(self, widths: Ints) -> Floats:
        """Where a network came to lie in the ranges of the free quantities, for a model of networks.

        What `draw` says of a vector is moved by the rule, by levels and by rounding to channel steps; this is what was
        left of it. A width is relative to the network's mean, as a vector's is.

        Args:
            widths: (..., modules, 6) channels, in the order of `InceptionWidths`.

        Returns:
            One number for each of `coordinates`, 0 at a range's low end and 1 at its high one, and beyond by rounding:
            (..., coordinates).
        """
        values = _parts(widths)
        columns = []
        for name, given in self._quantities.items():
            if given.fixed:
                continue
            if name == "width":
                log = np.log(values[name])
                columns.append((log - log.mean(axis=-1, keepdims=True)) / np.log(given.high / given.low) + 0.5)
            else:
                columns.append((values[name] - given.low) / (given.high - given.low))
        if not columns:
            return np.empty((*widths.shape[:-2], 0))
        return np.stack(columns, axis=-1).reshape(*widths.shape[:-2], -1)

    def nearest(self, widths: Ints) -> Floats:
        """The shape nearest to that of any widths: one number in [0, 1] for each of `coordinates`.

        Nearest is least in the sum of squares of what `realised` gives, before rounding to channel steps. The
        quantities do not hang together there, so each is the nearest on its own: clipped to its range, shares first
        brought to the rule.

        Args:
            widths: (modules, 6) channels, in the order of `InceptionWidths`, all at least 1.
        """
        columns = []
        for name, given in self._quantities.items():
            if given.fixed:
                continue
            values = _parts(widths)[name]
            if name == "width":
                unit = _inside_window(np.log(values) / np.log(given.high / given.low))
            else:
                unit = (values - given.low) / (given.high - given.low)
            grows = name.startswith("share") and self.rule != "off"
            if grows:
                unit = growth.nearest_growing(unit)
            unit = unit.clip(0, 1)
            if given.levels is not None:  # to the middle of what `level` takes for the nearest one
                unit = (np.floor(unit * (given.levels - 1) + 0.5) + 0.5) / given.levels
            columns.append(growth.ungrown(unit) if grows else unit)
        return np.stack(columns, axis=1).reshape(-1) if columns else np.empty(0)

    @cached_property
    def smallest(self) -> Architecture:
        """The network with one channel step everywhere; every other one costs more."""
        return self.architecture(np.full((self._modules, 6), self.file.widths.step, dtype=np.int64))

    @cached_property
    def corners(self) -> tuple[Architecture, ...]:
        """Networks at `max_channels` with shares at either end: the dearest ones, up to rounding.

        A module's cost is convex in its shares, and every reduce ratio only adds to it.
        """
        shares = [name for name in self._quantities if name.startswith("share") or name == "five"]
        totals = np.full((1, self._modules), self._most, dtype=np.int64)
        made = []
        for ends in product(*((self._quantities[name].low, self._quantities[name].high) for name in shares)):
            values = {name: given.high for name, given in self._quantities.items()} | dict(
                zip(shares, ends, strict=True)
            )
            drawn = {name: np.full((1, self._modules), value) for name, value in values.items()}
            made.append(self.architecture(self._widths(totals, drawn)[0]))
        return tuple(made)

    @property
    def _modules(self) -> int:
        return sum(self.file.network.stages)

    @cached_property
    def _quantities(self) -> dict[str, Range]:
        shares = ("share_3x3", "share_5x5") if self.rule == "growing-each" else ("share", "five")
        names = ("width", *shares, "pool", "reduce_3x3", "reduce_5x5")
        return {name: getattr(self.file.widths, name) for name in names}

    @cached_property
    def _unit(self) -> int:
        # Even totals let a share of 1/2 fit every module; two chains need 1/4 and 1/4.
        return 4 if self.rule == "growing-each" else 2

    @cached_property
    def _most(self) -> int:
        return self.file.widths.max_channels // self.file.widths.step // self._unit * self._unit

    def _totals(self, width: Floats) -> tuple[Ints, Ints]:
        """(rows, modules) channel steps of each module, growing from row to row; (rows,) whose they are.

        Args:
            width: (n, modules).
        """
        multiples = np.stack(
            [np.geomspace(LEAST_STEPS / one.max(), self._most / one.min(), MULTIPLES) for one in width]
        )
        steps = np.floor(multiples[:, :, None] * width[:, None] / self._unit + 0.5).astype(np.int64) * self._unit
        totals = np.clip(steps, LEAST_STEPS, self._most)
        new = np.ones(totals.shape[:2], dtype=bool)
        new[:, 1:] = (totals[:, 1:] != totals[:, :-1]).any(axis=2)
        return totals[new], np.nonzero(new)[0]

    def _widths(self, totals: Ints, drawn: dict[str, Floats]) -> Ints:
        """(rows, modules, 6) channels of (rows, modules) totals and drawn values."""
        if self.rule == "growing-each":
            three, five = growth.repair_each(totals, drawn["share_3x3"], drawn["share_5x5"])
            spatial = three + five
        else:
            if self.rule == "growing":
                spatial = growth.repair(totals, drawn["share"])
            else:
                spatial = _round(drawn["share"] * totals, 2, totals - 2)
            five = _round(drawn["five"] * spatial, 1, spatial - 1)
            three = spatial - five
        rest = totals - spatial
        pool = _round(drawn["pool"] * rest, 1, rest - 1)
        reduce_3 = _round(drawn["reduce_3x3"] * three, 1, three)
        reduce_5 = _round(drawn["reduce_5x5"] * five, 1, five)
        return np.stack([rest - pool, reduce_3, three, reduce_5, five, pool], axis=2) * self.file.widths.step

    def _counted(self, widths: Ints) -> tuple[Ints, Ints]:
        """Parameters and MACs of the whole networks, each (rows,)."""
        rest_params, rest_macs, first, positions = self._around
        params, macs = self._counts(widths, first, positions)
        return params + rest_params, macs + rest_macs

    @cached_property
    def _around(self) -> tuple[int, int, int, Ints]:
        """What no width changes: parameters and MACs outside, the first module's input, positions of each map.

        Taken from one network counted whole, so that the stem's rules stand in one place.
        """
        shapes = self.smallest.module_inputs()
        positions = np.array([height * width for _, height, width in shapes[:-1]], dtype=np.int64)
        widths = np.full((1, self._modules, 6), self.file.widths.step, dtype=np.int64)
        params, macs = self._counts(widths, shapes[0][0], positions)
        return self.smallest.params - int(params[0]), self.smallest.macs - int(macs[0]), shapes[0][0], positions

    def _counts(self, widths: Ints, first: int, positions: Ints) -> tuple[Ints, Ints]:
        """Parameters and MACs of the modules and of the last layer's weights, each (rows,)."""
        branches = tuple(np.moveaxis(widths, 2, 0))
        one, _, three, _, five, pool = branches
        outputs = one + three + five + pool
        inputs = np.concatenate([np.full((len(outputs), 1), first, dtype=np.int64), outputs[:, :-1]], axis=1)
        weights = counting.module_weights(inputs, *branches)
        each = counting.per_filter(self.file.network.batch_norm, not self.file.network.batch_norm)
        last = outputs[:, -1] * self.classes
        params = (weights + counting.module_filters(*branches) * each).sum(axis=1) + last
        return params, (weights * positions).sum(axis=1) + last


def level(unit: Floats, levels: int) -> Floats:
    """`unit` in [0, 1] moved to one of `levels` evenly spread values, 0 and 1 included, all of equal chance."""
    return np.minimum(np.floor(unit * levels), levels - 1) / (levels - 1)


def _parts(widths: Ints) -> dict[str, Floats]:
    """What a space's ranges speak of, of (..., modules, 6) channels: `width` is a module's output."""
    one, reduce_3, three, reduce_5, five, pool = np.moveaxis(widths, -1, 0).astype(np.float64)
    spatial = three + five
    total = one + spatial + pool
    return {
        "width": total,
        "share": spatial / total,
        "share_3x3": three / total,
        "share_5x5": five / total,
        "five": five / spatial,
        "pool": pool / (one + pool),
        "reduce_3x3": reduce_3 / three,
        "reduce_5x5": reduce_5 / five,
    }


def _inside_window(values: Floats) -> Floats:
    """`values` shifted together and clipped to [0, 1], with the least sum of squares clipped off."""
    low, high = values.min(), values.max() - 1
    if low >= high:  # all fit, with room to spare: in the middle
        return np.asarray((values - (low + high) / 2).clip(0, 1))
    for _ in range(60):  # the sum is convex in the shift: where its slope is 0
        middle = (low + high) / 2
        if np.maximum(middle - values, 0).sum() < np.maximum(values - middle - 1, 0).sum():
            low = middle
        else:
            high = middle
    return np.asarray((values - low).clip(0, 1))


def _round(values: Floats, low: int, high: Ints) -> Ints:
    return np.clip(np.floor(values + 0.5).astype(np.int64), low, high)


def _value(given: Range, unit: Floats, *, log: bool) -> Floats:
    if given.levels is not None:
        unit = level(unit, given.levels)
    if log:
        return np.asarray(given.low * (given.high / given.low) ** unit)
    return given.low + (given.high - given.low) * unit
