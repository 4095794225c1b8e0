"""How much of a trained network's channels is one and the same: correlations, clustered, branch by branch.

Filters that fire together are the clusters that a sparse network would be built of (Arora et al. 2013, "Provable bounds
for learning some deep representations"); the Inception module is a dense stand-in for it, and its 1x1 reductions carry
what is left of each cluster (Szegedy et al. 2014, section 3). Here a measurement says how many there are.

One matrix tells all: Pearson's correlation between channels as the next layer reads them, after batch norm and ReLU,
over images and positions of a map. It knows nothing of a channel's scale, which the next layer's weights can undo.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.beside import beside
from nas.errors import StudyError

VARIANCE = 0.95
"""Part of the variance that counts as carried."""

REDUCED = {"3x3": "reduce 3x3", "5x5": "reduce 5x5"}
"""Branches that may have a reduction, and what it is called."""

ABOUT = (
    "study", "trial", "key", "params", "weights", "weights_sha256", "val_accuracy", "metric", "dataset", "images",
    "of_images", "correlation", "variance", "step", "measured_at", "command", "versions",
)  # fmt: skip
"""What a measurement says of itself; `nas.activations.measure` fills it."""

_LAYOUT = 1
_UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip
_ENOUGH = 10
_ROOM = 1e-9  # rounding alone parts exact copies by so much


@dataclass(frozen=True, slots=True)
class Branch:
    """Some channels of one module.

    Args:
        name: ``input``, what the module reads; ``1x1``, ``3x3``, ``5x5``, ``pool``, what its branches write; or
            ``reduce 3x3``, ``reduce 5x5``, what the reductions write.
        channels: all of them.
        dead: those that never vary, counted from 0 as in the weights; the rest is about the living ones.
        effective_rank: exponential of the entropy of the correlation matrix's eigenvalues, made to sum to 1 (Roy and
            Vetterli 2007): 1 where all are copies of one, their number where none has to do with another; 0 of none.
        clusters: channels that go together, in the order of the dendrogram; those alone are clusters of one.
        components: principal components of the correlation matrix that hold `VARIANCE` of it; 0 of none.
    """

    name: str
    channels: int
    dead: tuple[int, ...]
    effective_rank: float
    clusters: tuple[tuple[int, ...], ...]
    components: int

    @property
    def largest(self) -> int:
        """Channels of the largest cluster; 0 of none."""
        return max(map(len, self.clusters), default=0)

    @property
    def ordered(self) -> tuple[int, ...]:
        """The living channels in the order of the clusters."""
        return tuple(channel for cluster in self.clusters for channel in cluster)

    def width(self, step: int) -> int:
        """Outputs that a 1x1 convolution over these channels needs to carry `VARIANCE`: whole channel steps, one at
        least."""
        return max(1, math.ceil(self.components / step)) * step


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """What was measured of one module.

    Args:
        side: height and width of its maps.
        names: of the branches, in the order of `correlation`.
        widths: their channels.
        correlation: (sum of widths) squared, float32 in -1..1: between all channels that the module computes. Rows and
            columns of channels that never vary are 0, the diagonal too, which is 1 elsewhere.
        reads: the same of its input channels.
        samples: positions, over all images, that each correlation is taken over.
    """

    side: tuple[int, int]
    names: tuple[str, ...]
    widths: tuple[int, ...]
    correlation: NDArray[np.float32]
    reads: NDArray[np.float32]
    samples: int

    def part(self, name: str) -> NDArray[np.float32]:
        """The correlation within one branch."""
        at = self.names.index(name)
        start = sum(self.widths[:at])
        inside = slice(start, start + self.widths[at])
        return self.correlation[inside, inside]


@dataclass(frozen=True, eq=False)
class Redundancy:
    """What was measured of one network.

    Args:
        about: which network, weights, images, when: plain JSON, see `nas.activations.measure`.
        modules: in the order of depth.
    """

    about: Mapping[str, Any]
    modules: tuple[Module, ...]

    @cached_property
    def branches(self) -> tuple[tuple[Branch, ...], ...]:
        """Of each module: its input, then its branches."""
        least = self.about["correlation"]
        return tuple(
            (
                examine("input", module.reads, least),
                *(examine(name, module.part(name), least) for name in module.names),
            )
            for module in self.modules
        )

    @property
    def title(self) -> str:
        """For a person: the trial and which of its weights."""
        return f"Trial {self.about['trial']}, weights: {self.about['weights']}"

    @property
    def words(self) -> str:
        """For a person: the network's size, the images and the moment."""
        about = self.about
        many = f"{about['images']:,}" + (f" of {about['of_images']:,}" if about["images"] < about["of_images"] else "")
        return (
            f"{about['params']:,} parameters; {many} validation images of {about['dataset']}; "
            f"{datetime.fromisoformat(about['measured_at']):%Y-%m-%d %H:%M} UTC"
        )

    @cached_property
    def reductions(self) -> list[tuple[int, str, int, int, int]]:
        """(module from 1, branch, width of its reduction, width that would carry what the reduction writes, width that
        would carry what it reads); a branch without reduction has 0 and would need what it reads."""
        step = self.about["step"]
        found = []
        for number, branches in enumerate(self.branches, start=1):
            there = {branch.name: branch for branch in branches}
            reads = there["input"].width(step)
            for branch, reduction in REDUCED.items():
                mine = there.get(reduction)
                has, writes = (0, reads) if mine is None else (mine.channels, mine.width(step))
                found.append((number, branch, has, writes, reads))
        return found

    def to_json(self) -> dict[str, Any]:
        """All but the matrices, as plain data."""
        step = self.about["step"]
        return {
            **self.about,
            "modules": [
                {
                    "module": number,
                    "map": list(module.side),
                    "samples": module.samples,
                    "branches": [
                        {
                            "branch": branch.name,
                            "channels": branch.channels,
                            "dead": list(branch.dead),
                            "effective_rank": branch.effective_rank,
                            "clusters": len(branch.clusters),
                            "alike": [list(cluster) for cluster in branch.clusters if len(cluster) > 1],
                            "components": branch.components,
                            "width": branch.width(step),
                        }
                        for branch in branches
                    ],
                }
                for number, (module, branches) in enumerate(zip(self.modules, self.branches, strict=True), start=1)
            ],
            "reductions": [
                {"module": number, "branch": branch, "has": has or None, "writes": writes, "reads": reads}
                for number, branch, has, writes, reads in self.reductions
            ],
        }


def examine(name: str, correlation: NDArray[np.floating[Any]], least: float) -> Branch:
    """What a correlation matrix says of its channels.

    Clusters come of average linkage (scipy's) over the distance 1 - |r|, cut where the mean |r| between two clusters
    falls under `least`. The sign is left out, because a 1x1 convolution can turn it.

    Args:
        correlation: (n, n) as in `Module`, n >= 1.
        least: above 0, at most 1.
    """
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
    from scipy.spatial.distance import squareform

    alive = np.flatnonzero(np.diagonal(correlation))
    dead = tuple(np.flatnonzero(np.diagonal(correlation) == 0).tolist())
    inner = correlation[np.ix_(alive, alive)].astype(np.float64)
    if len(alive) < 2:
        alone = tuple((channel,) for channel in alive.tolist())
        return Branch(name, len(correlation), dead, float(len(alive)), alone, len(alive))
    parts = np.clip(np.linalg.eigvalsh(inner)[::-1], 0, None)
    parts /= parts.sum()
    seen = parts[parts > 0]
    rank = math.exp(-float((seen * np.log(seen)).sum()))
    components = int(np.searchsorted(np.cumsum(parts), VARIANCE - _ROOM)) + 1

    distance = np.clip(1 - np.abs(inner), 0, None)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    number = fcluster(tree, 1 - least + 1e-6, "distance")  # float32 holds a correlation to 1e-7
    together: dict[int, list[int]] = {}
    for leaf in leaves_list(tree).tolist():
        together.setdefault(int(number[leaf]), []).append(int(alive[leaf]))
    clusters = tuple(tuple(channels) for channels in together.values())
    return Branch(name, len(correlation), dead, min(rank, float(len(alive))), clusters, components)


def check_correlation(least: float) -> None:
    """Whether clusters can be cut there.

    Raises:
        StudyError: not above 0 and at most 1.
    """
    if not 0 < least <= 1:  # NaN too
        raise StudyError(f"--correlation {least:g}: clusters are cut above 0 and at most at 1, such as 0.9")


def write(folder: Path, measured: Redundancy) -> Path:
    """Keep a measurement in a study's folder, whole or not at all; a later one of the same weights takes its place.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
        NasError: it cannot be made.
    """
    about = measured.about
    path = folder / f"{about['key']}-{about['weights_sha256'][:16]}.npz"
    shapes = [
        {"side": module.side, "names": module.names, "widths": module.widths, "samples": module.samples}
        for module in measured.modules
    ]
    text = json.dumps({"layout": _LAYOUT, "about": dict(about), "modules": shapes})
    matrices: dict[str, Any] = {
        f"{kind}_{number}": matrix
        for number, module in enumerate(measured.modules)
        for kind, matrix in (("computes", module.correlation), ("reads", module.reads))
    }
    with beside(path) as aside:
        with aside.open("wb") as file:  # a name without .npz would be given one
            np.savez_compressed(file, text=np.array(text), **matrices)
        aside.replace(path)
    return path


def read(path: Path) -> Redundancy:
    """What `write` kept.

    Raises:
        StudyError: the file is damaged, or of a newer nas.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            found = json.loads(str(kept["text"]))
            if found["layout"] > _LAYOUT:
                raise StudyError(f"{path} was written by a newer nas; update it, or remove the file")
            modules = tuple(
                Module(
                    side=(shape["side"][0], shape["side"][1]),
                    names=tuple(shape["names"]),
                    widths=tuple(shape["widths"]),
                    correlation=kept[f"computes_{number}"],
                    reads=kept[f"reads_{number}"],
                    samples=shape["samples"],
                )
                for number, shape in enumerate(found["modules"])
            )
            return Redundancy({name: found["about"][name] for name in ABOUT}, modules)
    except _UNREADABLE as error:
        raise StudyError(
            f"{path} is damaged ({type(error).__name__}); remove it and run `nas redundancy` again"
        ) from error


def read_all(folder: Path) -> tuple[list[Redundancy], list[str]]:
    """Every measurement in a study's folder, the latest first, and a line for each file that cannot be read."""
    found, broken = [], []
    for path in sorted(folder.glob("[!.]*.npz")):
        try:
            found.append(read(path))
        except StudyError as error:
            broken.append(str(error))
    return sorted(found, key=lambda one: one.about["measured_at"], reverse=True), broken


def now() -> str:
    """This moment, for a record: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def totals(reductions: Sequence[tuple[int, str, int, int, int]]) -> tuple[int, int]:
    """Channels of all reductions that are there, and channels that would carry what they write."""
    there = [(has, writes) for _, _, has, writes, _ in reductions if has]
    return sum(has for has, _ in there), sum(writes for _, writes in there)


BRANCH_COLUMNS = (
    "module", "branch", "channels", "dead", "effective rank", "clusters", "largest", "components", "width"
)  # fmt: skip
REDUCTION_COLUMNS = ("module", "branch", "has", "for what it writes", "for all it reads")


def branch_rows(found: Redundancy) -> list[list[str]]:
    """One line a branch under `BRANCH_COLUMNS`; dead channels are named, the first six."""
    return [
        [
            str(number),
            branch.name,
            str(branch.channels),
            _named(branch.dead),
            f"{branch.effective_rank:.1f}",
            str(len(branch.clusters)),
            str(branch.largest),
            str(branch.components),
            str(branch.width(found.about["step"])),
        ]
        for number, branches in enumerate(found.branches, start=1)
        for branch in branches
    ]


def reduction_rows(found: Redundancy) -> list[list[str]]:
    """One line a 3x3 and 5x5 branch under `REDUCTION_COLUMNS`."""
    return [
        [str(number), branch, str(has) if has else "none", str(writes) if has else "-", str(reads)]
        for number, branch, has, writes, reads in found.reductions
    ]


def legend(found: Redundancy) -> str:
    """What the words of the tables mean, in a line."""
    about = found.about
    return (
        f"Clusters: mean |r| of at least {about['correlation']:g}. Components: for {100 * about['variance']:g} % of "
        "the variance of the living channels, each scaled to 1. Width: these in whole channel steps of "
        f"{about['step']}. Dead channels never vary; they are named as in the weights, from 0."
    )


def notes(found: Redundancy) -> list[str]:
    """What a measurement comes to, and what to doubt in it; one line each, or none."""
    has, writes = totals(found.reductions)
    lines = []
    if has:
        lines.append(f"All reductions together have {has:,} channels; {writes:,} would carry what they write.")
    few = [
        str(number)
        for number, module in enumerate(found.modules, start=1)
        if module.samples < _ENOUGH * max(len(module.correlation), len(module.reads))
    ]
    if few:
        lines.append(
            f"Few samples for so many channels in module{'s' * (len(few) > 1)} {', '.join(few)} (under {_ENOUGH} a "
            "channel): ranks and components come out too low there; give more --images where there are some."
        )
    return lines


def _named(dead: Sequence[int]) -> str:
    if not dead:
        return "0"
    return f"{len(dead)}: {' '.join(map(str, dead[:6]))}{' ...' * (len(dead) > 6)}"
