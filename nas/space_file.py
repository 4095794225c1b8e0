"""The TOML of a search space: what it may say, checked, with one line for each mistake."""

from __future__ import annotations

import importlib.resources
import math
import tomllib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from nas.architecture import (
    Conv,
    LocalResponseNorm,
    MaxPool,
    Rule,
    StemLayer,
    layer_from_json,
    layer_to_json,
    map_side,
)
from nas.counting import AUXILIARY_KERNEL
from nas.errors import ArchitectureError, SpaceError, choices
from nas.recipe import WHITEN_NEEDS, Recipe

Cost = Literal["params", "macs"]
COSTS: tuple[Cost, ...] = ("params", "macs")
# Far above any network that trains, and low enough that counts stay whole in 64 bits.
_MOST_CHANNELS = 65_536
_MOST_MODULES = 64
_MOST_STEPS = 512  # of one module; the repair's time grows with them
_LONGEST_FILE = 1_000_000  # bytes


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Table):
    """The values between `low` and `high`, or `levels` of them, evenly spread and the ends included.

    Equal ends fix the value: then a vector has no coordinate for it.
    """

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    levels: int | None = Field(default=None, ge=2, le=10_000)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low must be at most high, got low = {self.low:g} and high = {self.high:g}")
        return self

    @property
    def fixed(self) -> bool:
        """Nothing to choose."""
        return self.low == self.high


class Amount(_Table):
    """A budget: whole numbers, `low` under `high`, spread on a log scale."""

    low: int = Field(ge=1, le=2**53)
    high: int = Field(ge=1, le=2**53)
    levels: int | None = Field(default=None, ge=2, le=10_000)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be under high, got low = {self.low:,} and high = {self.high:,}")
        return self


def _inside(low: float, high: float, *, above: bool = False) -> AfterValidator:
    def check(given: Range) -> Range:
        if given.low < low or given.high > high or (above and given.low == low):
            least = f"above {low:g}" if above else f"at least {low:g}"
            raise ValueError(f"must be {least} and at most {high:g}, got low = {given.low:g} and high = {given.high:g}")
        return given

    return AfterValidator(check)


def _layer(given: Any) -> StemLayer:
    if not isinstance(given, Mapping):
        raise ValueError('a layer is a table such as { layer = "conv", channels = 8 }')
    for name, number in given.items():
        if isinstance(number, int) and number > _MOST_CHANNELS:
            raise ValueError(f"{name} must be at most {_MOST_CHANNELS}, got {number}")
    try:
        return layer_from_json(given)
    except ArchitectureError as error:
        raise ValueError(str(error)) from error


def _pool(given: Any) -> MaxPool:
    layer = _layer({"layer": "max_pool", **given} if isinstance(given, Mapping) else given)
    if not isinstance(layer, MaxPool):
        raise ValueError("the pool between stages is a max_pool; leave `layer` out")
    return layer


Part = Annotated[Range, _inside(0, 1)]
Ratio = Annotated[Range, _inside(0, 1, above=True)]
Layer = Annotated[StemLayer, PlainValidator(_layer), PlainSerializer(layer_to_json)]
Pool = Annotated[MaxPool, PlainValidator(_pool), PlainSerializer(layer_to_json)]


class Network(_Table):
    """What all networks of the space have in common."""

    stem: tuple[Layer, ...] = Field(max_length=_MOST_MODULES)
    stages: tuple[Annotated[int, Field(ge=1, le=_MOST_MODULES)], ...] = Field(min_length=1, max_length=_MOST_MODULES)
    pool: Pool = MaxPool()
    batch_norm: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)
    auxiliary: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _known_modules(self) -> Self:
        modules, given = sum(self.stages), list(self.auxiliary)
        if given != sorted(set(given)) or any(not 1 <= module <= modules for module in given):
            raise ValueError(f"auxiliary must be growing numbers of modules, 1 to {modules}, got {given}")
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # a study's identity from before there were auxiliary heads stays what it was
        fields: dict[str, Any] = usual(self)
        return {name: value for name, value in fields.items() if name != "auxiliary" or value}


class Widths(_Table):
    """What varies from module to module; every range holds for each module."""

    step: int = Field(ge=1, le=1024)
    max_channels: int = Field(ge=4, le=_MOST_CHANNELS)
    width: Annotated[Range, _inside(0, 1000, above=True)]
    share: Part
    share_3x3: Part | None = None
    share_5x5: Part | None = None
    five: Part
    pool: Part
    reduce_3x3: Ratio
    reduce_5x5: Ratio

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.max_channels < 4 * self.step:
            raise ValueError(
                f"max_channels must be at least 4 steps ({4 * self.step}), one for each branch, got {self.max_channels}"
            )
        if self.max_channels > _MOST_STEPS * self.step:
            raise ValueError(
                f"max_channels must be at most {_MOST_STEPS} steps ({_MOST_STEPS * self.step}), got "
                f"{self.max_channels}; take a larger step"
            )
        if (self.share_3x3 is None) != (self.share_5x5 is None):
            raise ValueError("share_3x3 and share_5x5 stand together (for the rule growing-each) or not at all")
        if self.share_3x3 and self.share_5x5 and self.share_3x3.high + self.share_5x5.high > 1:
            raise ValueError(
                "share_3x3 and share_5x5 are parts of one module: their highs must add up to at most 1, "
                f"got {self.share_3x3.high:g} and {self.share_5x5.high:g}"
            )
        return self


class SpaceFile(_Table):
    """A search space as its TOML states it."""

    name: str | None = Field(default=None, min_length=1, max_length=100)
    source: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    input: tuple[
        Annotated[int, Field(ge=1, le=1024)],
        Annotated[int, Field(ge=1, le=16_384)],
        Annotated[int, Field(ge=1, le=16_384)],
    ]
    classes: int = Field(ge=2, le=1_000_000)
    rule: Rule = "growing"
    cost: Cost = "params"
    params: Amount
    macs: Amount | None = None
    network: Network
    widths: Widths
    recipe: Recipe

    @model_validator(mode="after")
    def _few_enough(self) -> Self:
        if sum(self.network.stages) > _MOST_MODULES:
            raise ValueError(f"at most {_MOST_MODULES} modules, got {sum(self.network.stages)}")
        for number, side in enumerate(self._smaller_sides() if self.network.auxiliary else [], start=1):
            if number in self.network.auxiliary and side < AUXILIARY_KERNEL:
                raise ValueError(
                    f"network.auxiliary: module {number} has a map of {side} pixels a side, and a head needs at least "
                    f"{AUXILIARY_KERNEL}; name an earlier module"
                )
        first = self.network.stem[0] if self.network.stem else None
        if self.recipe.whiten and not isinstance(first, Conv):
            raise ValueError(f"{WHITEN_NEEDS}: put one there or leave whiten out")
        if self.recipe.whiten and isinstance(first, Conv) and first.kernel > min(self.input[1:]):
            raise ValueError(
                f"whiten = true reads whole {first.kernel}x{first.kernel} patches of the images, which are "
                f"{self.input[1]}x{self.input[2]}: make the first kernel smaller or leave whiten out"
            )
        return self

    def _smaller_sides(self) -> list[int]:
        """The smaller side of each module's map, by depth.

        Raises:
            ValueError: a map vanishes.
        """
        side, sides = min(self.input[1:]), []
        try:
            for layer in self.network.stem:
                side = side if isinstance(layer, LocalResponseNorm) else map_side(side, layer)
            for number, modules in enumerate(self.network.stages):
                side = map_side(side, self.network.pool) if number else side
                sides += [side] * modules
        except ArchitectureError as error:
            raise ValueError(f"[network] {error}") from error
        return sides


def parse_space(text: str, where: str) -> SpaceFile:
    """Read a space's TOML.

    Args:
        text: the TOML.
        where: the file's name, for messages.

    Raises:
        SpaceError: one line with the file, the key, what was given and what is allowed.
    """
    try:
        table = _tuples(tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else "a whole number beyond 64 bits"
        said = str(error) if isinstance(error, tomllib.TOMLDecodeError) else said
        raise SpaceError(_one_line(f"{where}: not a TOML file: {said}")) from error
    try:
        # Strict, so that "10", 10.0 or true is no number of classes; strict pydantic takes no list for a tuple.
        return SpaceFile.model_validate(table, strict=True)
    except ValidationError as error:
        problems = [dict(problem) for problem in error.errors(include_url=False)]
        unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
        # A misspelt key is missing too, under its right name: said once.
        first, *rest = [*unknown, *(p for p in problems if p["type"] not in ("extra_forbidden", "missing"))] or problems
        more = f" (and {len(rest)} more to mend)" if rest else ""
        raise SpaceError(_one_line(f"{where}: {_said(first)}") + more) from error


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, int) and not -(2**63) <= value < 2**63:  # TOML 1.0's own bounds; Python knows none
        raise ValueError
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def list_spaces() -> list[str]:
    """Names of the spaces that ship with the package, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _shipped().iterdir() if entry.name.endswith(".toml"))


def read_space(name_or_path: str) -> tuple[str, str]:
    """(name, text) of a space that ships, by its name, or of a TOML file, by its path.

    Raises:
        SpaceError: an unknown name (the nearest one is said), or a file that cannot be read.
    """
    if name_or_path in list_spaces():
        return name_or_path, (_shipped() / f"{name_or_path}.toml").read_text(encoding="utf-8")
    path = Path(name_or_path)
    if path.suffix != ".toml" and path.name == name_or_path:
        raise SpaceError(choices("space", name_or_path, list_spaces()) + ", or the path of a .toml file")
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_FILE + 1)
        text = content.decode()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpaceError(f"cannot read the search space {name_or_path[:300]!r}: {reason}") from error
    if len(content) > _LONGEST_FILE:
        raise SpaceError(f"{path.name}: over {_LONGEST_FILE:,} bytes is no search space")
    return path.stem, text


def _shipped() -> Traversable:
    inside = importlib.resources.files("nas") / "search_spaces"  # in a wheel
    return inside if inside.is_dir() else Path(__file__).resolve().parent.parent / "search_spaces"


def _said(problem: dict[str, Any]) -> str:
    """One line for pydantic's account of one mistake."""
    path = tuple(problem["loc"])
    key = ".".join(str(part) for part in path) or "the file"
    given = problem["input"]
    if problem["type"] == "extra_forbidden":
        known = _table_at(path[:-1]).model_fields
        owner = ".".join(str(part) for part in path[:-1])
        return choices(f"key in [{owner}]" if owner else "key", str(path[-1]), known)
    if problem["type"] == "missing":
        return f"{key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(given, dict | tuple | BaseModel):
        return f"{key}: {message}"  # the message names the values; a whole table would not fit in a line
    shown = "inf" if isinstance(given, float) and math.isinf(given) else repr(given)[:80]
    return f"{key}: {message[0].lower()}{message[1:]}, got {shown}"


def _table_at(path: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the table at `path` of a space file."""
    table: type[BaseModel] = SpaceFile
    for part in path:
        annotation = table.model_fields[str(part)].annotation
        for kind in (annotation, *get_args(annotation)):  # `Part | None`, where a table may be left out
            model = get_args(kind)[0] if get_origin(kind) is Annotated else kind
            if isinstance(model, type) and issubclass(model, BaseModel):
                table = model
    return table


def _one_line(text: str) -> str:
    return " ".join(text.split())[:600]
