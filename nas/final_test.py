"""The sealed test images, read for networks that a person named; every reading is on record before it is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from nas import seal
from nas.chosen import Chosen
from nas.data import load_test
from nas.errors import DataError
from nas.metric import Metric
from nas.outcome import Outcome
from nas.reading import answers, confusion
from nas.records import Records
from nas.refined import half_interval
from nas.seal import Reading
from nas.search.hardware import versions
from nas.study_images import load_images
from nas.trained import network_of
from nas.training import pick_device


@dataclass(frozen=True, slots=True)
class Tested:
    """One network's results.

    Args:
        chosen: the network.
        readings: one for each of its weights, in their order: the first stands for the network.
    """

    chosen: Chosen
    readings: tuple[Reading, ...]

    @property
    def reading(self) -> Reading:
        """What stands for the network."""
        return self.readings[0]

    def over_seeds(self, metric: Metric) -> tuple[float, float, float]:
        """Mean of the metric over all weights, 0..1, and its 95 % interval by Student's t; NaN of one."""
        balanced = metric == "balanced-accuracy"
        values = [one.balanced_accuracy if balanced else one.accuracy for one in self.readings]
        mean, half = fmean(values), half_interval(values)
        return (mean, half, half) if math.isnan(half) else (mean, max(0.0, mean - half), min(1.0, mean + half))


def read_test_images(
    records: Records,
    outcome: Outcome,
    chosen: Sequence[Chosen],
    *,
    dataset: str | None = None,
    device: str = "auto",
    cache: Path | None = None,
    command: str | None = None,
) -> list[Tested]:
    """Read the test images of a study's data in one pass, for all weights of the networks named.

    What could go wrong is looked at first: weights, device, images, whether the database can be written. Only then are
    the test images opened, and nothing is returned before the readings are on record.

    Args:
        records: of the study; brought to this layout.
        dataset: where the study's images are now, as `load_test` takes it; None: where they were.
        device: as `pick_device` takes it.
        cache: where decoded images are kept.
        command: for the record.

    Raises:
        StudyError: weights are gone, damaged or of another network; the database cannot be written.
        DataError: the images are gone, broken, or not those of the study, or there are no test images.
        DeviceError: the device is not there.
        TrialFailed: a network's outputs are not finite.
    """
    records.create()  # also the proof that it can be written
    place = pick_device(device)
    loaded = [[network_of(network, weights) for weights in network.weights] for network in chosen]
    shape = chosen[0].row.architecture.input_shape
    images = load_images(outcome, input_shape=shape, moved=dataset, cache=cache)
    digest, mean, std, size, classes = images.digest, images.mean, images.std, images.test_size, len(images.classes)
    images.close()
    del images  # the test images need the room
    if not size:
        raise DataError(f"the images of study {outcome.study!r} have no test part; there is nothing to read")

    settings = outcome.settings
    spec = settings["dataset"] if dataset is None else dataset
    part = load_test(spec, input_shape=shape, skip_broken=settings["skip_broken"], cache=cache).to(place)
    moment = datetime.now(UTC)
    networks = [network.to(place) for several in loaded for network, _ in several]
    given = iter(answers(networks, part, mean, std))
    tested = [
        Tested(
            network,
            tuple(
                Reading(
                    trial=network.row.trial,
                    key=network.row.key,
                    dataset=digest,
                    weights=weights.words,
                    weights_sha256=sha256,
                    confusion=confusion(part.labels, next(given), classes),
                    command=command,
                    read_at=moment,
                    versions=versions(),
                )
                for weights, (_, sha256) in zip(network.weights, several, strict=True)
            ),
        )
        for network, several in zip(chosen, loaded, strict=True)
    ]
    seal.add(records, records.study(outcome.study).id, [one for each in tested for one in each.readings])
    return tested
