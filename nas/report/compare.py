"""Several studies beside each other: which may be compared, which are one setting, and what each came to."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas import pareto
from nas.baseline_rows import Baseline
from nas.context import canonical
from nas.errors import StudyError
from nas.headline import Headline
from nas.outcome import Outcome
from nas.refined import Refined, half_interval
from nas.report.progress import hypervolume_after, in_order
from nas.report.timeline import clock_of, stretches

Floats = NDArray[np.float64]
BUDGETS = 3
LIKE = ("sampler", "pruner", "workers")
"""Settings, beside the identity without its seed, that replicates have in common."""


@dataclass(frozen=True)
class Entry:
    """One study of a comparison.

    Args:
        refined: its networks that were trained in full.
        advantage: how far its front is above a known line; None where there is no line.
        line: that line's networks, trained by the study's recipe.
        link: address of its own report, relative to the comparison; None where there is none.
    """

    outcome: Outcome
    refined: tuple[Refined, ...] = ()
    advantage: Headline | None = None
    line: tuple[Baseline, ...] = ()
    link: str | None = None

    @property
    def name(self) -> str:
        """The study's."""
        return self.outcome.study

    @property
    def seed(self) -> Any:
        """The study's, which decides its proposals and every training."""
        return self.outcome.identity.get("seed")


@dataclass(frozen=True)
class Setting:
    """Studies that differ by their seeds alone, or one study.

    Args:
        note: why a study of the same setting stands alone; empty where none does.
    """

    name: str
    entries: tuple[Entry, ...]
    note: str = ""

    @property
    def words(self) -> str:
        """Its name, and how many seeds where it has several."""
        return self.name if len(self.entries) == 1 else f"{self.name}, {len(self.entries)} seeds"


@dataclass(frozen=True)
class Box:
    """What all hypervolumes of a comparison are measured in; see `pareto.hypervolume`.

    Args:
        costs: the least lower and the greatest upper cost of all studies.
    """

    costs: tuple[int, int]
    classes: int


@dataclass(frozen=True)
class History:
    """A search after each complete or pruned trial, in the order in which they ended: all (n,), n may be 0.

    Args:
        trials: 1 to n.
        epochs: trained by them.
        seconds: of searching since the first trial's start, the search's pauses left out.
        hypervolume: 0..1, never falling.
    """

    trials: Floats
    epochs: Floats
    seconds: Floats
    hypervolume: Floats

    def at(self, measure: Callable[[History], Floats], limit: float) -> float:
        """Hypervolume when `measure` last stood at or under `limit`; 0 before the first trial."""
        return float(np.append(0.0, self.hypervolume)[np.searchsorted(measure(self), limit, side="right")])


@dataclass(frozen=True)
class Mean:
    """Over replicates, with 95 % by Student's t between them; of one replicate the interval is NaN."""

    value: float
    low: float
    high: float
    n: int


def mean_of(values: Sequence[float], *, least: float = -math.inf, most: float = math.inf) -> Mean:
    """The mean of at least one value; `least` and `most` cut the interval where no value can lie beyond."""
    value, half = float(np.mean(values)), half_interval(values)
    if math.isnan(half):
        return Mean(value, math.nan, math.nan, len(values))
    return Mean(value, max(least, value - half), min(most, value + half), len(values))


def check(outcomes: Sequence[Outcome]) -> None:
    """Refuse what no number can compare: other images, other validation images, another metric or cost.

    Other spaces, rules, budgets, epochs and limits on training images may be compared: that is what one wants to know.

    Raises:
        StudyError: one line that names two studies and what differs.
    """
    for one, other in combinations(outcomes, 2):
        for what, tell in (
            ("images", _images),
            ("validation images", _validation),
            ("metric", lambda outcome, _: outcome.metric_words),
            ("cost", lambda outcome, _: outcome.cost),
            ("number of classes", lambda outcome, _: str(len(outcome.settings["classes"]))),
        ):
            mine, others = tell(one, other), tell(other, one)
            if mine != others:
                raise StudyError(
                    f"studies {one.study!r} and {other.study!r} cannot be compared, they differ in {what}: {mine} and "
                    f"{others}; name studies that have this in common"
                )


def _images(outcome: Outcome, _: Outcome) -> str:
    digest = outcome.identity.get("data", {}).get("images")
    return f"{outcome.settings.get('dataset')} ({'of no record' if digest is None else f'{digest:.8}'})"


def _validation(outcome: Outcome, other: Outcome) -> str:
    seed, limit = (outcome.identity.get(name) for name in ("split_seed", "train_limit"))
    words = f"split seed {seed}"
    # A limit on training images changes the split's digest, and leaves the validation images as they are.
    return words if limit != other.identity.get("train_limit") else f"{words}, {_split(outcome):.8}"


def _split(outcome: Outcome) -> str:
    return str(outcome.identity.get("data", {}).get("split"))


def box_of(outcomes: Sequence[Outcome]) -> Box | None:
    """One box about all; None where that has no width."""
    ranges = [outcome.settings["cost_range"] for outcome in outcomes]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return Box((low, high), len(outcomes[0].settings["classes"])) if low < high else None


def settings_of(entries: Sequence[Entry]) -> list[Setting]:
    """Studies that differ by their seeds alone together, in the order in which each first comes.

    A second study of the same seed is no replicate, as it trains the same networks alike: it stands alone.
    """
    groups: dict[str, list[Entry]] = {}
    alone: list[tuple[Entry, Entry]] = []
    for entry in entries:
        same = groups.setdefault(_likeness(entry.outcome), [])
        twin = next((other for other in same if other.seed == entry.seed), None)
        if twin is None:
            same.append(entry)
        else:
            alone.append((entry, twin))
    names = _names(list(groups.values()))
    found = [Setting(name, tuple(same)) for name, same in zip(names, groups.values(), strict=True)]
    return found + [
        Setting(entry.name, (entry,), f"the same seed as {twin.name}, so no replicate of it") for entry, twin in alone
    ]


def _likeness(outcome: Outcome) -> str:
    identity = {name: value for name, value in outcome.identity.items() if name != "seed"}
    like = [outcome.settings.get(name) for name in LIKE] + [bool(outcome.settings.get("warm_start"))]
    return canonical([identity, like])


def _names(groups: Sequence[Sequence[Entry]]) -> list[str]:
    """What the names of a group's studies begin with in common, or the first one's."""
    names: list[str] = []
    for same in groups:
        common = _beginning([entry.name for entry in same])
        taken = {entry.name for other in groups for entry in other if other is not same} | set(names)
        if len(same) == 1 or len(common) < 2 or common in taken:
            common = same[0].name
        names.append(common)
    return names


def _beginning(names: Sequence[str]) -> str:
    """What all names begin with, without half a number and without what parts words."""
    common = "".join(letters[0] for letters in takewhile(lambda one: len(set(one)) == 1, zip(*names, strict=False)))
    if any(name[len(common) :][:1].isdecimal() for name in names):
        common = common.rstrip("0123456789")
    return common.rstrip(" _.+-")


def history(outcome: Outcome, box: Box | None) -> History:
    """How the search went; without a box the hypervolume is 0."""
    ended = in_order(outcome)
    if not ended:
        return History(*(np.empty(0) for _ in range(4)))
    return History(
        trials=np.arange(1.0, len(ended) + 1),
        epochs=np.cumsum([float(row.curve[-1][0] if row.curve else 0) for row in ended]),
        seconds=clock_of(stretches(outcome.rows)).at([row.finished_at.timestamp() for row in ended]),
        hypervolume=np.zeros(len(ended)) if box is None else hypervolume_after(ended, box.costs, box.classes),
    )


def band(histories: Sequence[History], measure: Callable[[History], Floats], points: int = 200) -> tuple[Floats, ...]:
    """(x, mean, low, high) of the hypervolume over replicates, up to where the shortest of them ended.

    Args:
        histories: at least two, none of them empty; the interval is 95 % by Student's t, cut at 0 and 1.
    """
    x = np.linspace(0, min(float(measure(one)[-1]) for one in histories), points)
    means = [mean_of([one.at(measure, limit) for one in histories], least=0, most=1) for limit in x.tolist()]
    return x, *(np.array([getattr(mean, name) for mean in means]) for name in ("value", "low", "high"))


def budgets(outcomes: Sequence[Outcome]) -> list[int]:
    """Up to three costs, to two digits, log-spaced between the dearest of the smallest networks and the largest one."""
    smallest = [outcome.front[0].cost for outcome in outcomes if outcome.front]
    if not smallest:
        return []
    low, high = max(smallest), max(outcome.front[-1].cost for outcome in outcomes if outcome.front)
    spaced = np.geomspace(low, max(low, high), BUDGETS + 1)[1:]
    return sorted(
        {math.ceil(cost / (step := 10 ** (math.floor(math.log10(cost)) - 1))) * step for cost in spaced.tolist()}
    )


def under(outcome: Outcome, budget: int) -> float | None:
    """Accuracy of the best network of at most so much cost; None where the study has none."""
    accuracies = [row.val_accuracy or 0.0 for row in outcome.front]
    best = pareto.under([row.cost for row in outcome.front], accuracies, budget)
    return None if best is None else accuracies[best]


def paired(one: Mapping[Any, float], other: Mapping[Any, float]) -> Mean | None:
    """Mean difference `other` - `one` over the seeds that both have; None of fewer than two."""
    both = [seed for seed in one if seed in other]
    return mean_of([other[seed] - one[seed] for seed in both]) if len(both) > 1 else None


def differences(settings: Sequence[Setting]) -> list[tuple[str, list[str]]]:
    """(name, value by setting) of everything in identity and run that is not the same in all settings."""
    facts = [_facts(setting) for setting in settings]
    names = list(dict.fromkeys(name for one in facts for name in one))
    table = [(name, [one.get(name, "none") for one in facts]) for name in names]
    return [(name, values) for name, values in table if len(set(values)) > 1]


def _facts(setting: Setting) -> dict[str, str]:
    first = setting.entries[0].outcome
    facts = {}
    for name in (*LIKE, "hardware"):
        each = Counter(str(entry.outcome.settings.get(name)) for entry in setting.entries)
        facts[name] = ", ".join(each)
    facts["warm start"] = "yes" if first.settings.get("warm_start") else "no"
    devices = {(row.device, row.threads) for entry in setting.entries for row in entry.outcome.rows}
    facts["device, threads"] = ", ".join(f"{device} {threads}" for device, threads in sorted(devices))
    space = first.identity.get("space", {})
    plain = {name: value for name, value in first.identity.items() if name not in ("seed", "data", "space")}
    # The recipe and what the space is bounded by before its many ranges: readers stop early.
    for some in (plain, {name: space[name] for name in ("rule", "recipe", "budget") if name in space}, space):
        facts |= {name: value for name, value in _flat(some) if name not in facts}
    return facts


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{name}.{key}" if name else str(key))]
    return [(name, value if isinstance(value, str) else "none" if value is None else json.dumps(value))]


def cautions(settings: Sequence[Setting]) -> list[str]:
    """Lines on what is compared and yet not alike: accuracies that were read after other trainings."""
    lines = []
    firsts = [setting.entries[0].outcome.identity for setting in settings]
    for words, values in (
        ("are trained by other recipes", [identity.get("space", {}).get("recipe") for identity in firsts]),
        ("are trained on other numbers of images", [identity.get("train_limit") for identity in firsts]),
        ("come from other versions of training", [identity.get("training_version") for identity in firsts]),
    ):
        if len({canonical(value) for value in values}) > 1:
            lines.append(f"The networks of these settings {words}: a front may be higher for that alone.")
    return lines
