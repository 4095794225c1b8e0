"""What may vary: a vector of numbers in [0, 1] becomes a network inside the budget that keeps the growth rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nas.architecture import RULES, Architecture, Rule, first_fall
from nas.errors import ArchitectureError, SpaceError, choices
from nas.recipe import Recipe
from nas.rule import Floats, Ints
from nas.shapes import Shapes, level
from nas.space_file import COSTS, Amount, Cost, SpaceFile, parse_space, read_space
from nas.space_file import list_spaces as list_spaces  # load_space and list_spaces belong together


@dataclass(frozen=True, slots=True)
class Budget:
    """What a network may cost, ends included; None is no bound. The maxima are hard, the minima met where possible."""

    min_params: int
    max_params: int
    min_macs: int | None = None
    max_macs: int | None = None

    def holds(self, params: int, macs: int) -> bool:
        """All four bounds are kept."""
        return (
            self.min_params <= params <= self.max_params
            and (self.min_macs is None or self.min_macs <= macs)
            and (self.max_macs is None or macs <= self.max_macs)
        )


@dataclass(frozen=True)
class Space:
    """A search space, as a file states it and as a user's options narrow it.

    Make one with `load_space`, then `narrowed` and `with_classes`.

    Raises:
        SpaceError: no network is inside the budget, or the rule needs ranges that the file does not state.
    """

    name: str
    toml: str
    file: SpaceFile
    rule: Rule
    cost: Cost
    budget: Budget
    recipe: Recipe
    classes: int

    def __post_init__(self) -> None:
        if self.rule == "growing-each" and self.file.widths.share_3x3 is None:
            raise SpaceError(
                f"space {self.name!r} has no ranges for the rule 'growing-each': "
                "state share_3x3 and share_5x5 under [widths], or take another rule"
            )
        for cost, unit, low, high in (
            ("params", "parameters", self.budget.min_params, self.budget.max_params),
            ("macs", "MACs", self.budget.min_macs, self.budget.max_macs),
        ):
            least, most = self._reach(cost)
            known = f"the smallest possible has {least:,}, the largest {most:,}"
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
    def cost_range(self) -> tuple[int, int]:
        """(low, high) of `cost` in this search: the budget, as far as the widths' ranges reach."""
        budget = self.budget
        low, high = (
            (budget.min_params, budget.max_params) if self.cost == "params" else (budget.min_macs, budget.max_macs)
        )
        least, most = self._reach(self.cost)
        return max(low or least, least), min(high or most, most)

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

        The options replace the file's bounds, and may go beyond them as far as the widths' ranges reach. A maximum
        under a minimum that the user did not give lowers that one to the smallest network's, and the other way round.

        Raises:
            SpaceError: an unknown rule or cost, a number below 1, a minimum above its maximum, or no network is left;
                the smallest and largest possible are said.
        """
        for what, given, allowed in (("rule", rule, RULES), ("cost", cost, COSTS)):
            if given is not None and given not in allowed:
                raise SpaceError(choices(what, given, allowed))
        numbers = {"min-params": min_params, "max-params": max_params, "min-macs": min_macs, "max-macs": max_macs}
        for option, number in (*numbers.items(), ("epochs", epochs), ("batch", batch)):
            if number is not None and number < 1:
                raise SpaceError(f"--{option} {number}: it must be a whole number of at least 1")
        budget = self.budget
        params = _bounds(
            "params", (budget.min_params, budget.max_params), (min_params, max_params), self._reach("params")
        )
        macs = _bounds("macs", (budget.min_macs, budget.max_macs), (min_macs, max_macs), self._reach("macs"))
        space = replace(
            self,
            rule=next((known for known in RULES if known == rule), self.rule),
            cost=next((known for known in COSTS if known == cost), self.cost),
            budget=Budget(params[0] or budget.min_params, params[1] or budget.max_params, *macs),
            recipe=self.recipe.model_copy(
                update={"epochs": epochs or self.recipe.epochs, "batch": batch or self.recipe.batch}
            ),
        )
        if any(number is not None for number in numbers.values()):
            space._check_not_empty()
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

    def _reach(self, cost: str) -> tuple[int, int]:
        """Least and highest count of `cost` inside the widths' ranges."""
        return getattr(self.smallest(), cost), max(getattr(corner, cost) for corner in self.shapes.corners)

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

    def _check_not_empty(self) -> None:
        """Each bound can be met, and yet not all of them together: look at some networks.

        Raises:
            SpaceError: none of 64 is inside.
        """
        points = np.random.default_rng(0).random((64, len(self.coordinates)))
        if any(self.allows(self.decode(point)) for point in points):
            return
        said = []
        for cost, unit, low, high in (
            ("params", "parameters", self.budget.min_params, self.budget.max_params),
            ("macs", "MACs", self.budget.min_macs, self.budget.max_macs),
        ):
            least, most = self._reach(cost)
            said.append(f"{low or least:,} to {high or most:,} {unit} (possible: {least:,} to {most:,})")
        raise SpaceError(f"no network of space {self.name!r} was found with {' and '.join(said)}: widen the budget")


def load_space(name_or_path: str) -> Space:
    """The space of a name that ships with the package, or of a TOML file.

    Raises:
        SpaceError: an unknown name (the nearest one is said), a file that cannot be read, or a mistake in it.
    """
    name, text = read_space(name_or_path)
    file = parse_space(text, name_or_path)
    macs = (file.macs.low, file.macs.high) if file.macs else (None, None)
    budget = Budget(file.params.low, file.params.high, *macs)
    try:
        space = Space(file.name or name, text, file, file.rule, file.cost, budget, file.recipe, file.classes)
    except ArchitectureError as error:  # a map that vanishes in the stem or between stages
        raise SpaceError(f"{name_or_path}: [network] {error}") from error
    for cost, amount in (("params", file.params), ("macs", file.macs)):
        least, most = space._reach(cost)
        if amount and not least <= amount.low < amount.high <= most:
            raise SpaceError(
                f"{name_or_path}: [{cost}] low = {amount.low:,} and high = {amount.high:,} are out of reach: "
                f"the smallest possible network has {least:,}, the largest {most:,}"
            )
    return space


def _bounds(
    what: str, old: tuple[int | None, int | None], new: tuple[int | None, int | None], reach: tuple[int, int]
) -> tuple[int | None, int | None]:
    """(low, high) after a user's options; an end that he left alone gives way."""
    low, high = (given if given is not None else kept for given, kept in zip(new, old, strict=True))
    if low is not None and high is not None and low > high:
        if None not in new:
            raise SpaceError(f"--min-{what} {low:,} is above --max-{what} {high:,}: no network is left")
        return (reach[0], high) if new[0] is None else (low, reach[1])
    return low, high
