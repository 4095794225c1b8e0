"""Correlations between the channels of trained networks on validation images, of one pass in bounded memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas import redundancy
from nas.architecture import Architecture, InceptionWidths
from nas.chosen import Chosen
from nas.data import Part, normalise
from nas.errors import DataError, StudyError, TrialFailed
from nas.models import InceptionModule, InceptionNetwork
from nas.outcome import Outcome
from nas.redundancy import Module, Redundancy
from nas.study_images import load_images
from nas.trained import network_of
from nas.training import pick_device

IMAGES = 1_000
"""Validation images that a measurement takes by default: with some positions each, thousands of samples a channel."""

BATCH = 64
_NUMBERS = 2**22  # in float64 at a time: 32 MiB
_STILL = 1e-6  # of a channel's size: what varies less, varies by rounding


class Moments:
    """Count, means, sums of outer products about them, and ranges of some channels, without keeping what they are of.

    Parts are merged about their means (Chan, Golub and LeVeque 1983): raw sums of squares would lose a channel that
    varies little about a large mean.

    Args:
        channels: how many.
        device: of the rows to come.
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        self.samples = 0
        self._mean = torch.zeros(channels, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(channels, channels, dtype=torch.float64, device=device)
        self._low = torch.full_like(self._mean, torch.inf)
        self._high = torch.full_like(self._mean, -torch.inf)

    def add(self, maps: Tensor) -> None:
        """Take every position of some maps: (N, channels, H, W) float, on the device; N may be 0."""
        channels, height, width = maps.shape[1:]
        for some in torch.split(maps, max(1, _NUMBERS // (channels * height * width))):
            rows = some.permute(0, 2, 3, 1).reshape(-1, channels).to(torch.float64)
            if not len(rows):
                continue
            mean = rows.mean(0)
            centred = rows - mean
            away, samples = mean - self._mean, self.samples + len(rows)
            self._scatter += centred.T @ centred + torch.outer(away, away) * (self.samples * len(rows) / samples)
            self._mean += away * (len(rows) / samples)
            self._low = torch.minimum(self._low, rows.amin(0))
            self._high = torch.maximum(self._high, rows.amax(0))
            self.samples = samples

    def correlation(self) -> NDArray[np.float32]:
        """Pearson's, (channels, channels) in -1..1; rows and columns of channels that never vary are 0.

        Raises:
            TrialFailed: a value was not finite.
        """
        if not self._scatter.isfinite().all():
            raise TrialFailed("the network's channels are not finite on the validation images")
        size = torch.maximum(self._low.abs(), self._high.abs())
        alive = (self._high - self._low > _STILL * size) & (self._scatter.diagonal() > 0)
        scale = torch.where(alive, self._scatter.diagonal(), 1).rsqrt() * alive
        found = (self._scatter * scale[:, None] * scale).clamp(-1, 1)
        found.diagonal().copy_(alive)
        made: NDArray[np.float32] = found.to(torch.float32).cpu().numpy()
        return made


def branches_of(widths: InceptionWidths, in_channels: int) -> dict[str, int]:
    """What a module computes, in the order of `Module.correlation`, with its channels; no reduction of 0 channels."""
    found = {
        "1x1": widths.out_1x1,
        "reduce 3x3": widths.reduce_3x3,
        "3x3": widths.out_3x3,
        "reduce 5x5": widths.reduce_5x5,
        "5x5": widths.out_5x5,
        "pool": widths.out_pool or in_channels,
    }
    return {name: channels for name, channels in found.items() if channels}


@torch.inference_mode()
def modules_of(
    network: InceptionNetwork, images: Part, mean: Sequence[float], std: Sequence[float], most: int = IMAGES
) -> list[Module]:
    """The correlations of every module of one network, over all positions of its maps.

    Memory holds the maps of `BATCH` images and the square of each module's channels, however many images there are.

    Args:
        network: in evaluation mode, on the images' device.
        images: validation images; of more than `most` as many, evenly spread.
        mean, std: of the training images, pixels in 0..1.

    Raises:
        TrialFailed: a value was not finite.
    """
    architecture: Architecture = network.architecture
    device = images.labels.device
    shapes = architecture.module_inputs()
    parts = [branches_of(widths, shape[0]) for widths, shape in zip(architecture.modules, shapes, strict=False)]
    reads = [Moments(shape[0], device) for shape in shapes[: len(parts)]]
    computes = [Moments(sum(part.values()), device) for part in parts]
    held: dict[str, Tensor] = {}

    def take(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], maps: Tensor) -> None:
        held[name] = maps

    def whole(number: int, module: nn.Module, inputs: tuple[Tensor, ...], maps: Tensor) -> None:
        widths = architecture.modules[number]
        entry = torch.split(held["entry"], [widths.out_1x1, widths.reduce_3x3, widths.reduce_5x5], dim=1)
        ordered = (entry[0], entry[1], held["conv_3x3"], entry[2], held["conv_5x5"], held["project"])
        computes[number].add(torch.cat(ordered, dim=1))
        reads[number].add(inputs[0])
        held.clear()

    hooks = []
    for number, module in enumerate(network.inception):
        assert isinstance(module, InceptionModule)
        for name in ("entry", "conv_3x3", "conv_5x5", "project"):
            hooks.append(module.get_submodule(name).register_forward_hook(partial(take, name)))
        hooks.append(module.register_forward_hook(partial(whole, number)))
    count = min(most, len(images))
    chosen = torch.arange(count, device=device) * len(images) // count
    try:
        for some, _ in images.batches(torch.split(chosen, BATCH)):
            network(normalise(some, mean, std))
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Module(
            side=(shape[1], shape[2]),
            names=tuple(part),
            widths=tuple(part.values()),
            correlation=out.correlation(),
            reads=into.correlation(),
            samples=out.samples,
        )
        for shape, part, into, out in zip(shapes, parts, reads, computes, strict=False)
    ]


def measure(
    outcome: Outcome,
    chosen: Sequence[Chosen],
    *,
    correlation: float = 0.9,
    most: int = IMAGES,
    dataset: str | None = None,
    device: str = "auto",
    cache: Path | None = None,
    command: str | None = None,
) -> list[Redundancy]:
    """Measure the networks named, by the first weights of each; nothing is written.

    Args:
        outcome: the study.
        correlation: mean |r| at which clusters are cut, above 0 and at most 1.
        most: validation images to take, at least 2.
        dataset: where the study's images are now, as `load_dataset` takes it; None: where they were.
        device: as `pick_device` takes it.
        cache: where decoded images are kept.
        command: for the record.

    Raises:
        StudyError: an option is out of range; weights are gone, damaged or of another network.
        DataError: the images are gone, broken, not those of the study, or fewer than two.
        DeviceError: the device is not there.
        TrialFailed: a network's channels are not finite.
    """
    redundancy.check_correlation(correlation)
    if most < 2:
        raise StudyError(f"--images {most}: a correlation needs at least 2 images")
    place = pick_device(device)
    networks = [network_of(one, one.weights[0]) for one in chosen]
    data = load_images(outcome, input_shape=chosen[0].row.architecture.input_shape, moved=dataset, cache=cache)
    try:
        if len(data.validation) < 2:
            raise DataError(f"study {outcome.study!r} has one validation image; correlations need at least 2")
        images = data.validation.to(place)
        # a study from another program's records may not say its channel step
        step = (outcome.identity["space"].get("widths") or {}).get("step", 1)
        found = []
        for one, (network, sha256) in zip(chosen, networks, strict=True):
            assert isinstance(network, InceptionNetwork)
            about = {
                "study": outcome.study,
                "trial": one.row.trial,
                "key": one.row.key,
                "params": one.row.params,
                "weights": one.weights[0].words,
                "weights_sha256": sha256,
                "val_accuracy": one.weights[0].val_accuracy,
                "metric": outcome.metric,
                "dataset": outcome.settings["dataset"],
                "images": min(most, len(images)),
                "of_images": len(images),
                "correlation": correlation,
                "variance": redundancy.VARIANCE,
                "step": step,
                "measured_at": redundancy.now(),
                "command": command,
                "versions": {"python": sys.version.split()[0]} | {n: version(n) for n in ("nas", "torch", "scipy")},
            }
            modules = modules_of(network.to(place).eval(), images, data.mean, data.std, most)
            network.cpu()
            found.append(Redundancy(about, tuple(modules)))
        return found
    finally:
        data.close()
