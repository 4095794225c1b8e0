"""What a network is worth while it trains: the averaged weights in a second instance, its batch norm refreshed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.data import Dataset, Part, normalise
from nas.errors import DataError, TrialFailed
from nas.metric import Metric
from nas.optimiser import FlatParameters

REFRESH_IMAGES = 1024
"""Training images that the batch-norm statistics of a reading come from, at most."""

READ_BATCH = 256
"""Images in one forward pass of a reading."""

CONFUSION_CLASSES = 100
"""Up to so many classes a trial's confusion matrix is kept: of 1,000 it would be a million numbers a trial."""


def accuracy(
    network: nn.Module,
    part: Part,
    mean: Sequence[float],
    std: Sequence[float],
    batch: int = READ_BATCH,
    metric: Metric = "accuracy",
) -> float:
    """How often the largest logit is the label's, by the metric, 0..1, in float32; equal logits count the first.

    The network and the images lie on one device. The network runs in evaluation mode and gets its mode back.

    Args:
        network: float images (N, C, H, W) -> logits (N, classes).
        part: at least one image.
        mean, std: of the training images, one a channel, pixels in 0..1.
        batch: images in one forward pass.
        metric: see `score`.

    Raises:
        DataError: there is no image.
        TrialFailed: a logit is not finite.
    """
    (given,) = answers([network], part, mean, std, batch)
    return score(given == part.labels, part.labels, metric)


@torch.inference_mode()
def answers(
    networks: Sequence[nn.Module], part: Part, mean: Sequence[float], std: Sequence[float], batch: int = READ_BATCH
) -> list[Tensor]:
    """The class of the largest logit for every image, (N,) int64, of each network; one pass over the images.

    Arguments and errors as for `accuracy`.
    """
    if not len(part):
        raise DataError("accuracy of no images: the part is empty")
    modes = [network.training for network in networks]
    given: list[list[Tensor]] = [[] for _ in networks]
    finite = torch.ones((), dtype=torch.bool, device=part.labels.device)
    rows = torch.arange(len(part), device=part.labels.device)
    for network in networks:
        network.eval()
    for images, _ in part.batches(torch.split(rows, batch)):
        inputs = normalise(images, mean, std)
        for network, mine in zip(networks, given, strict=True):
            logits = network(inputs)
            mine.append(logits.argmax(1))
            finite &= logits.isfinite().all()
    for network, mode in zip(networks, modes, strict=True):
        network.train(mode)
    if not finite:
        raise TrialFailed("the network's outputs are not finite")
    return [torch.cat(mine) for mine in given]


def confusion(labels: Tensor, given: Tensor, classes: int) -> tuple[tuple[int, ...], ...]:
    """Images by true class (rows) and answer (columns), from two (N,) int64 in 0..classes - 1."""
    counts = torch.bincount(labels * classes + given, minlength=classes**2).view(classes, classes)
    return tuple(map(tuple, counts.tolist()))


def score(right: Tensor, labels: Tensor, metric: Metric) -> float:
    """The metric of answers, 0..1.

    ``accuracy`` is the part of the images that are right. ``balanced-accuracy`` is the mean over classes of the recall:
    of the part of a class's images that are right. It is taken over the classes that have an image here; of the
    validation part these are all, since the split gives every class at least one.

    Args:
        right: (N,) bool, at least one.
        labels: (N,) int64 >= 0, on the same device.
    """
    if metric == "accuracy":
        return int(right.sum()) / len(labels)
    images = torch.bincount(labels)
    hits = torch.bincount(labels[right], minlength=len(images))
    return fmean(hit / there for hit, there in zip(hits.tolist(), images.tolist(), strict=True) if there)


class Reader:
    """A second instance of a network, for averaged weights. It shares nothing with the one that trains.

    Batch-norm statistics of averaged weights are nobody's running statistics, so each reading takes them anew: the
    mean over the batches of a fixed set of training images, without augmentation, evenly spread over the training part.

    Args:
        network: copied, on its device.
        dataset: on the same device.
        metric: what `accuracy` measures.
    """

    def __init__(self, network: nn.Module, dataset: Dataset, metric: Metric = "accuracy") -> None:
        self.network = copy.deepcopy(network).eval()
        self._flat = FlatParameters(self.network)
        self.network.requires_grad_(False)
        self._dataset = dataset
        self._metric = metric
        self._given: Tensor | None = None
        self._norms = [module for module in self.network.modules() if isinstance(module, _BatchNorm)]
        for norm in self._norms:
            norm.track_running_stats = True
            norm.momentum = None  # a plain mean over the batches
        images = len(dataset.train)
        few = min(images, REFRESH_IMAGES)
        rows = torch.arange(few, device=dataset.train.images.device) * images // few
        # parts of nearly equal size, because the mean over batches weighs them equally
        self._rows = rows.tensor_split(-(-few // READ_BATCH))

    def load(self, average_into: Callable[[Tensor], None]) -> None:
        """Take averaged weights and refresh the batch-norm statistics.

        Args:
            average_into: writes the flat averaged parameters over the tensor that it is given.
        """
        average_into(self._flat.values)
        self._refresh()

    def accuracy(self) -> float:
        """The metric on all validation images, 0..1.

        Raises:
            TrialFailed: a logit is not finite.
        """
        dataset, validation = self._dataset, self._dataset.validation
        (self._given,) = answers([self.network], validation, dataset.mean, dataset.std)
        return score(self._given == validation.labels, validation.labels, self._metric)

    def confusion(self) -> tuple[tuple[int, ...], ...] | None:
        """What `accuracy` last read, see `confusion`; None before, and of more than `CONFUSION_CLASSES` classes."""
        classes = len(self._dataset.classes)
        if self._given is None or classes > CONFUSION_CLASSES:
            return None
        return confusion(self._dataset.validation.labels, self._given, classes)

    @torch.inference_mode()
    def _refresh(self) -> None:
        if not self._norms:
            return
        for norm in self._norms:
            norm.reset_running_stats()
            norm.train()  # only these: dropout and auxiliary heads stay off
        for images, _ in self._dataset.train.batches(self._rows):
            self.network(normalise(images, self._dataset.mean, self._dataset.std))
        for norm in self._norms:
            norm.eval()
