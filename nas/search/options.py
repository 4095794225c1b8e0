"""What a search is asked to do: the command line's options as data, handed to each worker as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nas.architecture import RULES
from nas.errors import DataError, StudyError, choices
from nas.files import check_url
from nas.metric import METRICS, Metric
from nas.records import StudyRecord
from nas.space import Space, load_space, space_from
from nas.space_file import COSTS
from nas.study_folder import StudyFolder

DEVICES = ("auto", "cpu", "cuda")
KEPT = (
    "sampler", "pruner", "epochs", "batch", "rule", "cost", "min_params", "max_params", "min_macs", "max_macs", "seed",
    "metric", "split_seed", "train_limit", "skip_broken", "no_cache", "warm_start",
)  # fmt: skip
"""Options that a study's settings keep, so that a worker elsewhere can be told them by the study.

Its space, images, trials and files have settings of their own; the others belong to one machine or one command.
"""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Everything `nas search` can be told. None means: as the space, or the study on a resume, says.

    Args:
        space: name of a space that ships, or the path of a TOML file.
        space_toml: the space's TOML itself, as a study keeps it; then `space` is only its name.
        dataset: a name of `nas.data.SOURCES`, or ``folder:PATH``; None is the space's own.
        trials: the study ends with exactly this many trials complete or pruned, at least 1.
        timeout: seconds after which no trial is begun; None never.
        study: the study's name; None is the space's name.
        storage: SQLAlchemy URL; None is SQLite in the study's folder.
        files: URL where the study's weights and checkpoints are kept as well, see `nas.files`; None: as the study says.
        workers: processes on this machine, at least 1; the cores are divided among them.
        workers_per_gpu: how many of them share a GPU; None where that is not known, or there is none.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: of proposals, audits and trainings.
        metric: what a reading measures, ``accuracy`` or ``balanced-accuracy``.
        split_seed: of the validation part; the test part depends on no seed.
        train_limit: train on a stratified subset of so many images.
        skip_broken: leave out image files that cannot be read, and count them.
        memory_share: of this machine's memory, 0..1, for decoded images; a folder that needs more is streamed. None is
            `streaming.MEMORY_SHARE`.
        no_cache: train also what another study has trained already.
        warm_start: the networks nearest to the Inception references go in first, see `nas.projection`.
        joins: the study has to be there: `nas worker`.
        dry_run: say how long it should take, and stop.
        command: the shell command, without passwords, for the record.
    """

    space: str = "digits"
    space_toml: str | None = None
    dataset: str | None = None
    trials: int = 100
    timeout: float | None = None
    study: str | None = None
    studies_dir: str = "studies"
    storage: str | None = None
    files: str | None = None
    sampler: str = "cost-aware"
    pruner: str = "conformal"
    epochs: int | None = None
    batch: int | None = None
    rule: str | None = None
    cost: str | None = None
    min_params: int | None = None
    max_params: int | None = None
    min_macs: int | None = None
    max_macs: int | None = None
    workers: int = 1
    workers_per_gpu: int | None = None
    device: str = "auto"
    seed: int = 0
    metric: str = "accuracy"
    split_seed: int = 0
    train_limit: int | None = None
    skip_broken: bool = False
    memory_share: float | None = None
    no_cache: bool = False
    warm_start: bool = False
    joins: bool = False
    dry_run: bool = False
    command: str = ""

    def check(self) -> Space:
        """Look over all that needs neither images nor a database; the space as these options narrow it.

        Raises:
            NasError: a value is out of range, a name unknown, or the budget leaves no network.
        """
        from nas.search.pruners import PRUNERS
        from nas.search.samplers import SAMPLERS

        for name, value in (
            ("--trials", self.trials),
            ("--workers", self.workers),
            ("--workers-per-gpu", self.workers_per_gpu),
            ("--epochs", self.epochs),
            ("--batch", self.batch),
            ("--train-limit", self.train_limit),
        ):
            if value is not None and value < 1:
                raise StudyError(f"{name} {value}: it must be a whole number of at least 1")
        if self.timeout is not None and not (self.timeout > 0 and math.isfinite(self.timeout)):
            raise StudyError(f"--timeout {self.timeout}: it must be seconds above 0")
        if self.memory_share is not None and not 0 <= self.memory_share <= 1:
            raise StudyError(f"--memory-share {self.memory_share}: it must be in 0..1; 0 streams every folder")
        if self.batch == 1:
            raise StudyError("--batch 1: batch norm needs at least 2 images a batch")
        for name, number in (("--seed", self.seed), ("--split-seed", self.split_seed)):
            if not 0 <= number < 2**32:
                raise StudyError(f"{name} {number}: it must be in 0..{2**32 - 1}")
        for what, given, allowed in (
            ("--sampler", self.sampler, tuple(SAMPLERS)),
            ("--pruner", self.pruner, tuple(PRUNERS)),
            ("--rule", self.rule, RULES),
            ("--cost", self.cost, COSTS),
            ("--metric", self.metric, METRICS),
        ):
            if given is not None and given not in allowed:
                raise StudyError(choices(what, given, allowed))
        if self.device.split(":")[0] not in DEVICES or not (self.device in DEVICES or self.device[5:].isdigit()):
            raise StudyError(choices("--device", self.device, (*DEVICES, "cuda:N")))
        if self.files is not None:
            check_url(self.files)
        space = self._space().narrowed(
            rule=self.rule,
            cost=self.cost,
            min_params=self.min_params,
            max_params=self.max_params,
            min_macs=self.min_macs,
            max_macs=self.max_macs,
            epochs=self.epochs,
            batch=self.batch,
        )
        self.folder(space)
        return space

    def kept(self) -> dict[str, Any]:
        """Those of `KEPT`, as a study's settings keep them; JSON data."""
        return {name: value for name, value in asdict(self).items() if name in KEPT}

    def _space(self) -> Space:
        if self.space_toml is None:
            return load_space(self.space)
        return space_from(self.space, self.space_toml, where=f"the space of study {self.study}")

    @property
    def checked_metric(self) -> Metric:
        """`metric`, which `check` has looked over."""
        return next(known for known in METRICS if known == self.metric)

    def folder(self, space: Space) -> StudyFolder:
        """The study's folder: named by `study`, else by the space."""
        return StudyFolder(Path(self.studies_dir), space.name if self.study is None else self.study)


def options_of(record: StudyRecord, *, dataset: str | None, trials: int | None, **here: Any) -> SearchOptions:
    """What a worker that joins a study is asked to do: as the study keeps it, and for this machine as the user says.

    Args:
        dataset: where the study's images are here; None: where its first command read them.
        trials: of the whole study; None: as many as its last command asked for.
        here: the options that no study keeps.

    Raises:
        StudyError: the study does not keep what it was asked to do, or this nas does not know it.
        DataError: its images are in a folder that is not here.
    """
    name, settings = record.name, record.settings
    kept = settings.get("options")
    if not isinstance(kept, dict):
        command = settings.get("command") or f"nas search --study {name}"
        raise StudyError(
            f"study {name!r} was made by a nas that did not keep its options: repeat its command here, with the same "
            f"--storage, to add workers: {command}"
        )
    unknown = sorted(set(kept) - set(KEPT))
    if unknown:
        raise StudyError(
            f"study {name!r} was made by another nas, with options that this one does not know ({', '.join(unknown)}): "
            "install the same version here"
        )
    asked = settings.get("trials") if trials is None else trials
    if asked is None:
        raise StudyError(f"study {name!r} has not been searched yet, so how many trials it gets is not known: --trials")
    spec = str(settings["dataset"]) if dataset is None else dataset
    if dataset is None and spec.startswith("folder:") and not Path(spec.removeprefix("folder:")).is_dir():
        raise DataError(
            f"the images of study {name!r} are in {spec!r}, which is not on this machine: say where they are with "
            "--dataset folder:PATH"
        )
    named = {"space": settings["space"], "space_toml": settings["space_toml"], "dataset": spec, "trials": asked}
    try:
        return TypeAdapter(SearchOptions).validate_python({**kept, **named, **here, "study": name, "joins": True})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StudyError(
            f"study {name!r} keeps options that no search has ({first['loc'][0]}: {first['msg']}); repeat its command"
        ) from error
