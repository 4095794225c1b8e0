"""What may vary: a vector of numbers in [0, 1] becomes a network inside the budget that keeps the growth rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from nas.architecture import RULES, Architecture, Rule, first_fall
from nas.budget import Budget as Budget
from nas.budget import Limits as Limits
from nas.errors import ArchitectureError, SpaceError, choices
from nas.recipe import Recipe
from nas.rule import Floats, Ints
from nas.shapes import Shapes, level
from nas.space_file import COSTS, Amount, Cost, SpaceFile, parse_space, read_space
from nas.space_file import list_spaces as list_spaces  # load_space and list_spaces belong together


@dataclass(frozen=True, slots=True)
class Outline:
    """A network of a space before it is made.

    Args:
        widths: text that is equal exactly for equal networks of the space.
        params, macs: exact.
        shape: see `Shapes.realised`.
    """

    widths: str
    params: int
    macs: int
    shape: tuple[float, ...]


@dataclass(frozen=True)
class Space:
    """A search space, as a file states it and as a user's options narrow it.

    Make one with `load_space`, then `narrowed` and `with_classes`.

    Args:
        file_minimum: the file's lowest cost is in force; see `narrowed`.

    Raises:
        SpaceError: no network is inside the budget, or the rule needs ranges that the file does not state.
    """

    name: str
    toml: str
    file: SpaceFile
    rule: Rule
    cost: Cost
    recipe: Recipe
    classes: int
    limits: Limits = field(default_factory=Limits)
    file_minimum: bool = True

    def __post_init__(self) -> None:
        if self.rule == "growing-each" and self.file.widths.share_3x3 is None:
            raise SpaceError(
                f"space {self.name!r} has no ranges for the rule 'growing-each': "
                "state share_3x3 and share_5x5 under [widths], or take another rule"
            )
        for unit, low, high, (least, most) in self._bounds():
            stated = self.file.classes
            fitted = "" if self.classes == stated else f" with {self.classes:,} classes (its file states {stated:,})"
            known = f"the smallest possible{fitted} has {least:,}, the largest {most:,}"
            if high is not None and least > high:
                raise SpaceError(f"no network of space {self.name!r} has at most {high:,} {unit}: {known}")
            if low is not None and low > most:
                raise SpaceError(f"no network of space {self.name!r} has at least {low:,} {unit}: {known}")

    @property
    def source(self) -> str:
        """Where the images come from, in words."""
        return self.file.source

    @property
    def dataset(self) -> str:
        """The data set to search on where the user names none."""
        return self.file.dataset

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.file.input

    @cached_property
    def shapes(self) -> Shapes:
        """All that `decode` chooses from, before the budget."""
        return Shapes(self.file, self.rule, self.classes)

    @cached_property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the numbers in [0, 1] that `decode` takes: `size`, then `m1.width`, `m1.share`, ...

        A quantity with one value only has none.
        """
        return ("size", *self.shapes.coordinates)

    @cached_property
    def levels(self) -> tuple[int | None, ...]:
        """How many evenly spread values each of `coordinates` has; None is any.

        Under the rule ``off`` the k-th of n is taken for [k/n, (k+1)/n). A growing rule moves a share before that.
        """
        return (self._amount.levels if self._amount else None, *self.shapes.levels)

    @cached_property
    def budget(self) -> Budget:
        """The bounds in force: the user's, and where he gives none, the file's.

        Of the file's, [params] bounds a search by MACs from above only, and [macs] one by parameters not at all: its
        range is there to be searched, and few networks would lie in both.
        """
        limits, params, macs, by_macs = self.limits, self.file.params, self.file.macs, self.cost == "macs"
        low = params.low if self.file_minimum and not by_macs else None
        low_params, high_params = _given(limits.min_params, limits.max_params, low, params.high, self.reach("params"))
        low = macs.low if macs and self.file_minimum and by_macs else None
        high = macs.high if macs and by_macs else None
        low_macs, high_macs = _given(limits.min_macs, limits.max_macs, low, high, self.reach("macs"))
        least, most = self.reach("params")
        return Budget(low_params or least, high_params or most, low_macs, high_macs)

    @cached_property
    def cost_range(self) -> tuple[int, int]:
        """(low, high) of `cost` in this search: the budget, as far as the widths' ranges reach."""
        _, low, high, (least, most) = self._bounds()[COSTS.index(self.cost)]
        return max(low or least, least), min(high or most, most)

    def reach(self, cost: Cost) -> tuple[int, int]:
        """Least and highest count of `cost` inside the widths' ranges, whatever the budget."""
        return getattr(self.smallest(), cost), max(getattr(corner, cost) for corner in self.shapes.corners)

    def cost_of(self, architecture: Architecture) -> int:
        """The count that this search minimises, of one network."""
        return architecture.params if self.cost == "params" else architecture.macs

    def allows(self, architecture: Architecture) -> bool:
        """The network is inside the budget, minima included, and keeps the rule."""
        return self.budget.holds(architecture.params, architecture.macs) and first_fall(architecture, self.rule) is None

    def smallest(self) -> Architecture:
        """The network with one channel step everywhere; every other one of the space costs more."""
        return self.shapes.smallest

    def largest(self) -> Architecture:
        """The network of the highest `cost` inside the widths' ranges (up to rounding), whatever the budget."""
        return max(self.shapes.corners, key=self.cost_of)

    def decode(self, vector: Sequence[float] | Floats) -> Architecture:
        """The network at `vector`; equal vectors give equal networks.

        `size` is a target for `cost` on a log scale over `cost_range`. The other numbers give a shape: relative
        widths, shares, parts and reduce ratios. Of 256 multiples of the shape, each rounded to channel steps and
        repaired to the rule, the one of the highest cost that is at most the target and inside the budget is
        taken. Where there is none: the cheapest one inside the budget, or else the dearest one under the maxima,
        which misses a minimum. One of the 256 is the smallest network, so the maxima are never exceeded.

        Args:
            vector: one number in [0, 1] for each of `coordinates`.

        Raises:
            SpaceError: another count of numbers, or one that is NaN or outside [0, 1].
        """
        point = self._checked(vector)
        found = self.shapes.candidates(point[1:])
        row = self._choose(found.params, found.macs, self._target(float(point[0])))
        architecture = self.shapes.architecture(found.widths[row])
        self._assert_kept(architecture, int(found.params[row]), int(found.macs[row]))
        return architecture

    def outlines(self, vectors: Sequence[Sequence[float]] | Floats) -> list[Outline]:
        """Of the networks at several vectors what counts before training, without making them; see `decode`.

        Args:
            vectors: (n, coordinates) numbers in [0, 1].

        Raises:
            SpaceError: see `decode`.
        """
        if not len(vectors):
            return []
        points = np.stack([self._checked(vector) for vector in vectors])
        made = []
        for point, found in zip(points, self.shapes.candidates_of(points[:, 1:]), strict=True):
            row = self._choose(found.params, found.macs, self._target(float(point[0])))
            made.append((found.widths[row], int(found.params[row]), int(found.macs[row])))
        shapes = self.shapes.realised(np.stack([widths for widths, _, _ in made])).tolist()
        return [
            Outline(widths.tobytes().hex(), params, macs, tuple(shape))
            for (widths, params, macs), shape in zip(made, shapes, strict=True)
        ]

    def realised(self, architecture: Architecture) -> tuple[float, ...]:
        """The shape of a network of this space, as a model sees it; see `Shapes.realised`."""
        widths = np.array(
            [(m.out_1x1, m.reduce_3x3, m.out_3x3, m.reduce_5x5, m.out_5x5, m.out_pool) for m in architecture.modules]
        )
        return tuple(self.shapes.realised(widths).tolist())

    def narrowed(
        self,
        *,
        rule: str | None = None,
        cost: str | None = None,
        min_params: int | None = None,
        max_params: int | None = None,
        min_macs: int | None = None,
        max_macs: int | None = None,
        epochs: int | None = None,
        batch: int | None = None,
    ) -> Space:
        """The space under a user's options; None leaves a thing as it is.

        The bounds replace the file's, and may go beyond them as far as the widths' ranges reach. The file's own
        minimum gives way to a maximum that leaves it to less than half of the shapes.

        Raises:
            SpaceError: an unknown rule or cost, a number below 1, a minimum above its maximum, or no network is left;
                the smallest and largest possible are said.
        """
        for what, given, allowed in (("rule", rule, RULES), ("cost", cost, COSTS)):
            if given is not None and given not in allowed:
                raise SpaceError(choices(what, given, allowed))
        asked = {"min_params": min_params, "max_params": max_params, "min_macs": min_macs, "max_macs": max_macs}
        for option, number in (*asked.items(), ("epochs", epochs), ("batch", batch)):
            if number is not None and number < 1:
                option = option.replace("_", "-")
                raise SpaceError(f"--{option} {number}: it must be a whole number of at least 1")
        limits = replace(self.limits, **{option: number for option, number in asked.items() if number is not None})
        for what, low, high in (
            ("params", limits.min_params, limits.max_params),
            ("macs", limits.min_macs, limits.max_macs),
        ):
            if low is not None and high is not None and low > high:
                raise SpaceError(f"--min-{what} {low:,} is above --max-{what} {high:,}: no network is left")
        space = replace(
            self,
            rule=next((known for known in RULES if known == rule), self.rule),
            cost=next((known for known in COSTS if known == cost), self.cost),
            recipe=self.recipe.model_copy(
                update={"epochs": epochs or self.recipe.epochs, "batch": batch or self.recipe.batch}
            ),
            limits=limits,
            file_minimum=True,
        )
        if limits == Limits():
            return space
        if space._part_inside() < 0.5:
            space = replace(space, file_minimum=False)
            if space._part_inside() == 0:
                said = [
                    f"{low or least:,} to {high or most:,} {unit} (possible: {least:,} to {most:,})"
                    for unit, low, high, (least, most) in space._bounds()
                ]
                raise SpaceError(
                    f"no network of space {self.name!r} was found with {' and '.join(said)}: widen the budget"
                )
        return space

    def with_classes(self, classes: int) -> Space:
        """The space for a data set of `classes` classes: only the last layer differs.

        Raises:
            SpaceError: under 2, or no network with so many is inside the budget.
        """
        if classes < 2:
            raise SpaceError(f"a classifier needs at least 2 classes, got {classes}")
        return replace(self, classes=classes)

    def identity(self) -> dict[str, Any]:
        """All that makes a search what it is, as plain JSON: equal for equal content, whatever the file looks like.

        The name, `source` and `dataset` are not in it; a study keeps its data by content.
        """
        amount = self._amount
        return {
            **self.file.model_dump(mode="json", include={"input", "network", "widths"}),
            "classes": self.classes,
            "rule": self.rule,
            "cost": self.cost,
            "size_levels": amount.levels if amount else None,
            "budget": asdict(self.budget),
            "recipe": self.recipe.model_dump(mode="json"),
        }

    @property
    def _amount(self) -> Amount | None:
        return self.file.params if self.cost == "params" else self.file.macs

    def _bounds(self) -> tuple[tuple[str, int | None, int | None, tuple[int, int]], ...]:
        """(unit, minimum, maximum, reach) for parameters and MACs, in the order of COSTS."""
        budget = self.budget
        return (
            ("parameters", budget.min_params, budget.max_params, self.reach("params")),
            ("MACs", budget.min_macs, budget.max_macs, self.reach("macs")),
        )

    def _part_inside(self) -> float:
        """The part of 64 fixed vectors whose networks meet the minima: each bound alone may, and yet not all."""
        points = np.random.default_rng(0).random((64, len(self.coordinates)))
        return sum(self.allows(self.decode(point)) for point in points) / len(points)

    def _checked(self, vector: Sequence[float] | Floats) -> Floats:
        try:
            point = np.asarray(vector, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise SpaceError(f"a vector must be numbers: {error}") from error
        if point.shape != (len(self.coordinates),):
            raise SpaceError(f"space {self.name!r} takes a list of {len(self.coordinates)} numbers, got {point.size}")
        bad = np.flatnonzero(~((point >= 0) & (point <= 1)))
        if bad.size:
            raise SpaceError(f"coordinate {self.coordinates[bad[0]]!r} must be in [0, 1], got {point[bad[0]]}")
        return point

    def _target(self, size: float) -> int:
        low, high = self.cost_range
        if self._amount is not None and self._amount.levels is not None:
            size = float(level(np.array(size), self._amount.levels))
        return int(min(round(low * (high / low) ** size), high))

    def _choose(self, params: Ints, macs: Ints, target: int) -> int:
        """The row that `decode` takes."""
        budget = self.budget
        cost = params if self.cost == "params" else macs
        under = params <= budget.max_params
        if budget.max_macs is not None:
            under &= macs <= budget.max_macs
        inside = under & (params >= budget.min_params)
        if budget.min_macs is not None:
            inside &= macs >= budget.min_macs
        fits = inside & (cost <= target)
        if fits.any():
            return int(np.where(fits, cost, -1).argmax())
        if inside.any():
            return int(np.where(inside, cost, np.iinfo(np.int64).max).argmin())
        return int(np.where(under, cost, -1).argmax())

    def _assert_kept(self, architecture: Architecture, params: int, macs: int) -> None:
        """What holds by construction, checked on the network itself: a failure is a fault of ours, not of the user."""
        if (architecture.params, architecture.macs) != (params, macs):
            raise AssertionError(f"counts differ: {architecture.params}, {architecture.macs} and {params}, {macs}")
        if params > self.budget.max_params or (self.budget.max_macs is not None and macs > self.budget.max_macs):
            raise AssertionError(f"a network over its budget: {params} parameters, {macs} MACs")
        fall = first_fall(architecture, self.rule)
        if fall is not None:
            raise AssertionError(f"the rule {self.rule!r} is broken at module {fall}: {architecture.shares}")


def load_space(name_or_path: str) -> Space:
    """The space of a name that ships with the package, or of a TOML file.

    Raises:
        SpaceError: an unknown name (the nearest one is said), a file that cannot be read, or a mistake in it.
    """
    return space_from(*read_space(name_or_path), where=name_or_path)


def space_from(name: str, text: str, *, where: str) -> Space:
    """The space that a TOML text states.

    Args:
        name: for a text that states none itself.
        where: the text's name, for messages.

    Raises:
        SpaceError: a mistake in it.
    """
    file = parse_space(text, where)
    try:
        space = Space(file.name or name, text, file, file.rule, file.cost, file.recipe, file.classes)
    except ArchitectureError as error:  # a map that vanishes in the stem or between stages
        raise SpaceError(f"{where}: [network] {error}") from error
    for cost, amount in zip(COSTS, (file.params, file.macs), strict=True):
        least, most = space.reach(cost)
        if amount and not least <= amount.low < amount.high <= most:
            raise SpaceError(
                f"{where}: [{cost}] low = {amount.low:,} and high = {amount.high:,} are out of reach: "
                f"the smallest possible network has {least:,}, the largest {most:,}"
            )
    return space


def _given(
    new_low: int | None, new_high: int | None, low: int | None, high: int | None, reach: tuple[int, int]
) -> tuple[int | None, int | None]:
    """(low, high) of one count, the user's first; an end of the file's that contradicts his goes to the reach's."""
    if new_high is not None and low is not None and low > new_high:
        low = reach[0]
    if new_low is not None and high is not None and high < new_low:
        high = reach[1]
    return (low if new_low is None else new_low), (high if new_high is None else new_high)
