"""Networks that no search proposed, trained beside a study: their records, to hold what it found against them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from nas.architecture import Architecture
from nas.context import canonical
from nas.errors import ArchitectureError, StudyError
from nas.outage import repeated
from nas.records import Records
from nas.references import counted, module_params
from nas.refined import recipe_hash
from nas.tables import baseline_table

Kind = Literal["reference", "line"]
RecipeName = Literal["published", "study"]
RECIPES: tuple[RecipeName, ...] = ("published", "study")
_MOMENTS = ("started_at", "finished_at")
_SAME = ("kind", "name", "key", "input_shape", "recipe_hash", "replicate")


@dataclass(frozen=True, slots=True)
class Baseline:
    """One training of a network that no search proposed.

    Args:
        kind: ``reference`` a known network, ``line`` one of a known network's proportions at another width.
        name: the network's, for tables.
        key: the architecture's, or what stands for it where there is none.
        architecture: None for a network that is not made of Inception modules.
        params, macs: of the inference network on `input_shape`.
        input_shape: (channels, height, width) that it was trained on.
        recipe_name: ``published`` is the network's own, ``study`` the one that the study's trials get.
        recipe: all that it was trained by, as JSON; ``epochs`` is one of its keys.
        replicate: which of its seeds; 0 is the one that a trial of the study would have.
        seed: of the training: `nas.seeds.training_seed` of the study's seed, `key` and `replicate`.
        val_accuracy: the study's metric at the last epoch, never at the best, 0..1.
        curve: (epoch from 1, validation accuracy 0..1, training loss).
        confusion: validation images by true class (rows) and answer (columns) after the last epoch, in the order of
            the study's classes; None where it was not taken.
        seconds: of training.
        dataset, split: digests of all images and of their split, as in a study's identity.
        weights_sha256: of the file with its last weights; None where none is kept.
        started_at, finished_at: UTC.
        versions: of nas, python, torch and so on.
    """

    kind: Kind
    name: str
    key: str
    architecture: Architecture | None
    params: int
    macs: int
    input_shape: tuple[int, int, int]
    recipe_name: RecipeName
    recipe: Mapping[str, Any]
    replicate: int
    seed: int
    val_accuracy: float
    curve: tuple[tuple[int, float, float], ...]
    seconds: float
    device: str
    threads: int
    dataset: str
    split: str
    started_at: datetime
    finished_at: datetime
    confusion: tuple[tuple[int, ...], ...] | None = None
    weights_sha256: str | None = None
    versions: Mapping[str, str] | None = None

    @property
    def epochs(self) -> int:
        """Of the training."""
        return int(self.recipe["epochs"])

    @property
    def recipe_hash(self) -> str:
        """What its recipe is found by; see `nas.refined.recipe_hash`."""
        return recipe_hash(self.recipe)

    def cost(self, of: Literal["params", "macs"]) -> int:
        """What a study searches to make small."""
        return self.params if of == "params" else self.macs

    @property
    def module_params(self) -> int | None:
        """Of a single module, its own parameters without the wrapper; else None."""
        return module_params(self.name)

    @property
    def counted(self) -> str:
        """Its parameters for a person; see `nas.references.counted`."""
        return counted(self.name, self.params)

    def at(self, input_shape: tuple[int, int, int] | None) -> str:
        """``at 224x224`` where it was trained on images of another size than `input_shape`, a study's; else nothing."""
        _, height, width = self.input_shape
        return "" if input_shape in (None, self.input_shape) else f"at {height}x{width}"

    @property
    def class_accuracies(self) -> tuple[float | None, ...]:
        """Part of each class's validation images that is right, 0..1; None for a class without one; () if not taken."""
        return tuple(row[label] / sum(row) if sum(row) else None for label, row in enumerate(self.confusion or ()))


@repeated
def add_baseline(records: Records, study: int, baseline: Baseline) -> None:
    """Write one training beside the study with this number; one that was done again replaces the earlier one.

    Raises:
        StudyError: the database is out of reach.
    """
    table = baseline_table
    values = {name: getattr(baseline, name) for name in Baseline.__dataclass_fields__}
    values |= {
        "architecture": None if baseline.architecture is None else canonical(baseline.architecture.to_json()),
        "input_shape": canonical(list(baseline.input_shape)),
        "recipe": canonical(dict(baseline.recipe)),
        "recipe_hash": baseline.recipe_hash,
        "curve": canonical([list(point) for point in baseline.curve]),
        "confusion": None if baseline.confusion is None else canonical([list(row) for row in baseline.confusion]),
        "versions": None if baseline.versions is None else canonical(dict(baseline.versions)),
    }
    for name in _MOMENTS:
        values[name] = values[name].timestamp()
    with records.writing() as connection:
        same = [table.c[name] == values[name] for name in _SAME]
        connection.execute(table.delete().where(table.c.study == study, *same))
        connection.execute(table.insert().values(study=study, **values))


@repeated
def baselines(records: Records, study: int) -> list[Baseline]:
    """What was trained beside the study with this number, in the order of kind, parameters, name, recipe and replicate.

    A database of an older layout has none.

    Raises:
        StudyError: the database is out of reach, or damaged.
    """
    table = baseline_table.c
    with records.reading() as connection:
        if not sa.inspect(connection).has_table(baseline_table.name):
            return []
        order = (table.kind, table.params, table.name, table.recipe_name, table.recipe_hash, table.replicate, table.id)
        query = sa.select(baseline_table).where(table.study == study).order_by(*order)
        found = connection.execute(query).mappings().all()
    try:
        return [_baseline_of(line) for line in found]
    except (ArchitectureError, ValueError, TypeError) as error:
        raise StudyError(f"a baseline's record is damaged ({error}); restore the database from a copy") from error


def _baseline_of(line: sa.RowMapping) -> Baseline:
    given: dict[str, Any] = {name: line[name] for name in Baseline.__dataclass_fields__}
    for name in ("recipe", "confusion", "versions"):
        given[name] = None if line[name] is None else json.loads(line[name])
    given["architecture"] = None if line["architecture"] is None else Architecture.from_json(line["architecture"])
    given["input_shape"] = tuple(json.loads(line["input_shape"]))
    given["curve"] = tuple((int(e), float(a), float(loss)) for e, a, loss in json.loads(line["curve"]))
    if given["confusion"] is not None:
        given["confusion"] = tuple(map(tuple, given["confusion"]))
    for name in _MOMENTS:
        given[name] = datetime.fromtimestamp(line[name], UTC)
    return Baseline(**given)
