"""The training and validation images of a study that is there, loaded again and known to be the same."""

from __future__ import annotations

from pathlib import Path

from nas.data import Dataset, load_dataset
from nas.errors import DataError
from nas.outcome import Outcome


def load_images(
    outcome: Outcome,
    *,
    input_shape: tuple[int, int, int],
    moved: str | None = None,
    cache: Path | None = None,
    room: int | None = None,
) -> Dataset:
    """The images that the study was made from, with the same split.

    Args:
        outcome: the study's records.
        input_shape: of its networks, (channels, height, width).
        moved: where the images are now, as `load_dataset` takes it; None: where they were.
        cache: where decoded images are kept.
        room: bytes for decoded images; None as `load_dataset` has it.

    Raises:
        DataError: the images are gone, broken, or not those of the study.
    """
    settings, data = outcome.settings, outcome.identity["data"]
    spec = settings["dataset"] if moved is None else moved
    try:
        dataset = load_dataset(
            spec,
            input_shape=input_shape,
            split_seed=settings["split_seed"],
            train_limit=settings["train_limit"],
            skip_broken=settings["skip_broken"],
            cache=cache,
            room=room,
        )
    except DataError as error:
        if moved is not None:
            raise
        raise DataError(f"{error}; name images that were moved with --dataset") from error
    if (dataset.digest, dataset.split_digest) != (data["images"], data["split"]):
        raise DataError(
            f"the images of {spec} are not those that study {outcome.study!r} was made from; bring the same images "
            "back, or name where they are with --dataset"
        )
    return dataset
