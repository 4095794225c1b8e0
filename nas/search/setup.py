"""What a worker needs before its first trial: device, images, the space fitted to them, and the study."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch

from nas.data import Dataset, load_dataset, streaming
from nas.errors import DataError, DeviceFullError, StudyError, TrialFailed
from nas.files import Files, elsewhere, mark, new_mark
from nas.metric import Metric, in_words, skewed
from nas.projection import WarmStart, warm_starts
from nas.records import StudyRecord
from nas.references import REFERENCES
from nas.search.claims import Claims
from nas.search.hardware import device_name, hardware, versions, worker_device
from nas.search.join import recorded
from nas.search.liveness import STALE, host, workers
from nas.search.measure import estimate
from nas.search.options import SearchOptions
from nas.search.recovery import recover
from nas.search.study import OpenStudy, create_study, trials_done
from nas.search.sweep import sweep
from nas.space import Space
from nas.study_folder import StudyFolder
from nas.training import TRAINING_VERSION, memory_failures

NEW = timedelta(minutes=1)
"""A study younger than this may still be in the making."""
SETTLED = 5.0
"""Seconds to wait for the mark of a new study's folder, on a shared disk perhaps."""


@dataclass(frozen=True, slots=True)
class Setup:
    """All that stays the same over a worker's trials.

    Args:
        warm: what is proposed first; None where the user did not ask for it.
        place_words: a line where this machine does not see the files of the study's others.
    """

    dataset: Dataset
    space: Space
    device: torch.device
    threads: int
    folder: StudyFolder
    opened: OpenStudy
    metric: Metric
    files: Files
    warm: tuple[WarmStart, ...] | None = None
    place_words: tuple[str, ...] = ()

    @property
    def device_name(self) -> str:
        """``cpu``, or the GPU's name."""
        return device_name(self.device)

    @property
    def versions(self) -> dict[str, str]:
        """Of what a training depends on."""
        return versions()

    def estimate(self, options: SearchOptions, states: Mapping[str, int], interrupt: Callable[[], None]) -> list[str]:
        """Lines about how long the rest of the search should take; see `measure.estimate`.

        Args:
            states: how many evaluations of the study ended how.
        """
        done = states.get("complete", 0) + states.get("pruned", 0)
        return estimate(options, self.space, self.dataset, self.device, done=done, interrupt=interrupt)

    @property
    def warm_words(self) -> list[str]:
        """A line about what is proposed first; nothing where the user did not ask for it."""
        return [] if self.warm is None else [warm_words(self.space, self.warm)]

    @property
    def facts(self) -> dict[str, Any]:
        """What a launcher shows: lines about the images and the space, and what the study holds already."""
        rows = self.opened.records.rows(self.folder.name)
        return {
            "words": _words(self.dataset, self.space, self.device, self.metric)
            + "".join(f"\n{line}" for line in [*self.warm_words, *self.place_words]),
            "states": Counter(row.state for row in rows),
            "found": [(row.cost, row.val_accuracy) for row in rows if row.state == "complete"],
        }


def set_up(options: SearchOptions, number: int, say: Callable[[str], None] | None = None) -> Setup:
    """Load the images and open or make the study; a mistake leaves no study behind.

    Args:
        options: what the search was asked to do.
        number: this worker's place among those of its launcher, from 0.
        say: takes a line about the study's files while it is searched; None is standard error.

    Raises:
        NasError: the device, the images, the budget or the database do not serve.
    """
    dataset, space, device = _load(options, number, cache=Path(options.studies_dir) / ".cache")
    folder = options.folder(space)
    url, identity = options.storage or folder.url, identity_of(options, space, dataset)
    before = recorded(folder, options.storage)
    if options.joins and before is not None:
        _compare_images(before, identity, options.dataset)
    here = new_mark(folder)
    kept = _files_of(options, before, folder, here)
    settings = settings_of(options, space, dataset, device) | {"trials": options.trials, "folder": here}
    settings |= {} if kept is None else {"files": kept}
    opened = create_study(url, folder.name, identity, settings)
    _refuse_other_machines(opened)
    opened = _placed(opened, here, kept)
    files = Files(folder, opened.record.settings, say)
    if number == 0:
        if not options.joins:
            mark(folder, opened.record.settings, here)
        files.catch_up()
    place_words = _place_words(folder, opened.record.settings, files) if number == 0 else ()
    recover(opened)
    if number == 0:
        sweep(folder, opened.records, opened.record.id)
    if number == 0 and not options.joins:  # a search that is begun anew looks for new networks anew
        Claims(opened.records, opened.record.id, worker="").set_exhausted(False)
        opened.records.keep_setting(opened.record.id, "trials", options.trials)  # for `nas status`
    warm = tuple(warm_starts(space)[0]) if options.warm_start else None
    if warm:  # a study may be given them later than its first trials
        keys = {name: one.member.architecture.key for one in warm for name in one.names}
        opened.records.keep_setting(opened.record.id, "warm_start", keys)
    threads = torch.get_num_threads()
    return Setup(dataset, space, device, threads, folder, opened, options.checked_metric, files, warm, place_words)


def _refuse_other_machines(opened: OpenStudy) -> None:
    """SQLite's locks and its log are not to be trusted over a network disk, so one machine at a time writes a file.

    Raises:
        StudyError: workers live on another one.
    """
    records = opened.records
    if records.url.get_backend_name() != "sqlite":
        return
    here = host().partition("/")[2]  # containers of one machine share its kernel, and so its locks
    others = {
        one.name for one in workers(records, opened.record.id) if one.host.partition("/")[2] != here and one.age < STALE
    }
    if others:
        raise StudyError(
            f"study {opened.record.name!r} is searched on {', '.join(sorted(others))}, and its database is a SQLite "
            "file, which several machines cannot share: search on one, or make a study with --storage "
            f"postgresql+psycopg://. Where that machine is gone, wait {STALE:.0f} s"
        )


def _compare_images(before: StudyRecord, identity: Mapping[str, Any], spec: str | None) -> None:
    """Refuse other images than the study's, in words for somebody who gave no other option that could differ.

    Raises:
        DataError: these are others.
    """
    if before.identity["data"] != identity["data"]:
        raise DataError(
            f"the images of {spec} on this machine are not those that study {before.name!r} was made from: bring the "
            "same ones here, or name where they are with --dataset"
        )


def _files_of(
    options: SearchOptions, before: StudyRecord | None, folder: StudyFolder, here: Mapping[str, str]
) -> str | None:
    """The URL of the study's files: as it is kept, or as this command says; then it is known to serve.

    Raises:
        StudyError: the study keeps another, or nothing can be written there.
    """
    kept = None if before is None else before.settings.get("files")
    if options.files is not None and kept is None:
        Files(folder, {"files": options.files, "folder": here}).probe()
    if None not in (options.files, kept) and options.files != kept:
        raise StudyError(
            f"study {folder.name!r} keeps its files at {kept}, this command says --files {options.files}: leave it out"
        )
    return options.files if kept is None else str(kept)


def _placed(opened: OpenStudy, here: Mapping[str, str], files: str | None) -> OpenStudy:
    """The study with its folder's mark and its files' URL on record, where it was made without one of them."""
    settings, number = opened.record.settings, opened.record.id
    if "folder" not in settings:
        opened.records.keep_setting(number, "folder", dict(here))
    if files is not None and settings.get("files") is None:
        opened.records.keep_setting(number, "files", files)
    return replace(opened, record=opened.records.study(opened.record.name))


def _place_words(folder: StudyFolder, settings: Mapping[str, Any], files: Files) -> tuple[str, ...]:
    if files.url is not None and not files.is_marked:
        return (
            f"Warning: {files.url} shows no files of study {folder.name!r} here: is it one place for all machines? "
            "Trials that were paused elsewhere are trained anew.",
        )
    made = datetime.fromisoformat(settings["created_at"])
    end = time.monotonic() + SETTLED
    # Whoever makes the study marks its folder a moment later.
    while (line := elsewhere(folder, settings)) and datetime.now(UTC) - made < NEW and time.monotonic() < end:
        time.sleep(0.1)
    return () if line is None else (f"Warning: {line}",)


def preview(options: SearchOptions, interrupt: Callable[[], None]) -> str:
    """What a search would say at its start. It makes no study, no folder, and keeps no decoded images.

    Args:
        interrupt: called now and then; what it raises passes through.

    Raises:
        NasError: as for `set_up`.
    """
    cache = Path(options.studies_dir) / ".cache"
    dataset, space, device = _load(options, 0, cache=cache if cache.is_dir() else None)
    with closing(dataset):
        folder = options.folder(space)
        done = trials_done(options.storage or folder.url, folder.name, identity_of(options, space, dataset))
        lines = estimate(options, space, dataset, device, done=done, interrupt=interrupt)
        warm = [warm_words(space, warm_starts(space)[0])] if options.warm_start else []
        return "\n".join([_words(dataset, space, device, options.checked_metric), *warm, *lines])


def _load(options: SearchOptions, number: int, cache: Path | None) -> tuple[Dataset, Space, torch.device]:
    """The images on their device, and the space fitted to them."""
    space = options.check()
    device = worker_device(options.device, number)
    dataset = load_dataset(
        options.dataset or space.dataset,
        input_shape=space.input_shape,
        split_seed=options.split_seed,
        train_limit=options.train_limit,
        skip_broken=options.skip_broken,
        cache=cache,
        room=streaming.room(options.memory_share, workers=options.workers, device=device),
    )
    try:
        with memory_failures():
            there = dataset.to(device)
    except TrialFailed as failure:
        dataset.close()
        raise DeviceFullError(
            f"no room for the images on device {device} ({failure.reason}): end what else uses it, take fewer workers, "
            "or another --device"
        ) from failure
    return there, space.with_classes(len(dataset.classes)), device


def _words(dataset: Dataset, space: Space, device: torch.device, metric: Metric) -> str:
    """A line about images, space and training, and one for each thing that is odd."""
    low, high = space.cost_range
    few = len(dataset.validation)
    coarse = f"Only {few} validation images: one is {100 / few:.1f} points. " if few < 50 else ""
    skipped = f", {dataset.skipped} broken ones left out" if dataset.skipped else ""
    counts = dataset.train.labels.bincount(minlength=len(dataset.classes)).tolist()
    skew = skewed(dict(zip(dataset.classes, counts, strict=True))) if metric == "accuracy" else None
    return (
        coarse + f"{dataset.name}: {len(dataset.classes)} classes, {len(dataset.train):,} images to train, "
        f"{few:,} to validate, {dataset.test_size:,} sealed for the test{skipped}. "
        f"Space {space.name}, rule {space.rule}: {low:,} to {high:,} {space.cost}; "
        f"{space.recipe.epochs} epoch{'s' * (space.recipe.epochs != 1)} on {device_name(device)}, "
        f"{torch.get_num_threads()} thread(s) a worker; {in_words(metric)} is read."
        + "".join(f"\n{more}" for more in (skew, dataset.misfit, dataset.streaming) if more)
    )


def warm_words(space: Space, warm: Sequence[WarmStart]) -> str:
    """One line: which networks are proposed first, or that there is none."""
    if not warm:
        return "Warm start: no network of this budget has the shape of a reference."
    members = (f"{' and '.join(one.names)} ({space.cost_of(one.member.architecture):,} {space.cost})" for one in warm)
    there = {name for one in warm for name in one.names}
    without = [name for name, one in REFERENCES.items() if one.architecture(space.classes) and name not in there]
    left_out = f" No network of this budget has the shape of {' or '.join(without)}." if without else ""
    return f"Warm start: the networks of this space nearest to {', '.join(members)} go in first.{left_out}"


def identity_of(options: SearchOptions, space: Space, dataset: Dataset) -> dict[str, Any]:
    """What a study is: networks, images, split and training. A resume that differs in any of it is refused."""
    return {
        "space": space.identity(),
        "data": {"images": dataset.digest, "split": dataset.split_digest},
        "split_seed": options.split_seed,
        "train_limit": options.train_limit,
        "seed": options.seed,
        "metric": options.metric,
        "training_version": TRAINING_VERSION,
    }


def settings_of(options: SearchOptions, space: Space, dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """How a study was first run: what a report tells and an export needs."""
    return {
        "dataset": f"folder:{Path(dataset.path).absolute()}" if dataset.path else options.dataset or space.dataset,
        "classes": list(dataset.classes),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "train_images": len(dataset.train.labels),
        "validation_images": len(dataset.validation.labels),
        "test_images": dataset.test_size,
        "skipped_images": dataset.skipped,
        "split_seed": options.split_seed,
        "train_limit": options.train_limit,
        "skip_broken": options.skip_broken,
        "seed": options.seed,
        "metric": options.metric,
        "sampler": options.sampler,
        "pruner": options.pruner,
        "epochs": space.recipe.epochs,
        "cost": space.cost,
        "cost_range": list(space.cost_range),
        "rule": space.rule,
        "space": space.name,
        "space_toml": space.toml,
        "command": options.command,
        "workers": options.workers,
        "options": options.kept(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(device),
        "versions": versions(),
    }
