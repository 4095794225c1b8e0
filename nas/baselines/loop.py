"""The plain training loop of published recipes: torch's own optimisers, torchvision's augmentation, image by image.

The brief training of trials, with its averaged weights, is `nas.training`; nothing of it is in here.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.transforms import v2

from nas.baselines.published import Published
from nas.curve import EpochResult
from nas.data import Dataset
from nas.errors import TrialFailed
from nas.metric import Metric
from nas.reading import accuracy
from nas.seeds import hashed
from nas.training import Prebuilt, check_images, memory_failures, pick_device, seeded

LOOP_VERSION = 1
"""Which loop a checkpoint is of: raise it with every change after which the same seed gives another curve."""


class PublishedTraining:
    """One network, trained as its source trained it.

    Everything random follows from `seed`: the first weights; and each epoch's order, augmentation and dropout, from the
    seed and the epoch. So a training that was resumed gives the same bits on the CPU. torch's own random state is left
    as it is. The training images stay on the CPU, where each one is augmented by its own draws, and a batch goes to
    the device; validation images are never augmented.

    Args:
        network: what to train; its `build` initialises it.
        dataset: images of its input shape; the recipe's mean and std stand, whatever the images' own are.
        recipe: how.
        epochs: of this training; a schedule spans them.
        seed: any int.
        device: a name as for `pick_device`, or a device.
        interrupt: called once a batch; what it raises passes through, and ends this training for good.
        metric: what a reading measures.

    Raises:
        DataError: the images do not fit the network, or are too few.
        DeviceError: no such device.
        TrialFailed: not enough memory.
    """

    def __init__(
        self,
        network: Prebuilt,
        dataset: Dataset,
        recipe: Published,
        *,
        epochs: int,
        seed: int,
        device: str | torch.device = "auto",
        interrupt: Callable[[], None] = lambda: None,
        metric: Metric = "accuracy",
    ) -> None:
        check_images(network, dataset)
        self.device = pick_device(device) if isinstance(device, str) else device
        self.epochs = epochs
        self._recipe, self._seed, self._interrupt, self._metric = recipe, seed, interrupt, metric
        self._identity = f"published {LOOP_VERSION} {network.key} {seed} {epochs} {recipe.model_dump_json()}"
        self._epoch = 0
        self._train = dataset.train
        with memory_failures():
            self._validation = dataset.validation.to(self.device)
            with seeded(hashed(seed, "weights"), self.device):
                self.network = network.build().to(self.device)
        self._augment = augmentation(recipe, network.input_shape)
        self._optimiser = _optimiser(self.network, recipe)
        steps = math.ceil(len(self._train) / recipe.batch)
        self._schedule = _schedule(self._optimiser, recipe, epochs * steps)

    def fit(self) -> Iterator[EpochResult]:
        """Train from where it stands to the last epoch; it may be closed at any result, and called again.

        Raises:
            TrialFailed: a loss or an output that is not finite, or not enough memory.
        """
        while self._epoch < self.epochs:
            start = time.perf_counter()
            with memory_failures(), _tf32(self._recipe.tf32 and self.device.type == "cuda"):
                loss = self._train_epoch()
                try:
                    right = accuracy(self.network, self._validation, *self.scale, metric=self._metric)
                except TrialFailed as failure:
                    raise TrialFailed(f"epoch {self._epoch}: {failure.reason}") from failure
            yield EpochResult(self._epoch, right, loss, time.perf_counter() - start)

    @property
    def scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std, one each a channel, by which images are normalised."""
        return self._recipe.mean, self._recipe.std

    def checkpoint(self) -> dict[str, Any]:
        """All that the rest of the training depends on: `torch.save` it, load it with ``weights_only``."""
        return {
            "identity": self._identity,
            "epoch": self._epoch,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same network, recipe, epochs and seed.

        Raises:
            ValueError: the checkpoint is another training's.
        """
        if checkpoint["identity"] != self._identity:
            raise ValueError(f"a checkpoint of {checkpoint['identity']!r} cannot go on as {self._identity!r}")
        self.network.load_state_dict(checkpoint["network"])
        self._optimiser.load_state_dict(checkpoint["optimiser"])
        if self._schedule is not None:
            self._schedule.load_state_dict(checkpoint["schedule"])
        self._epoch = checkpoint["epoch"]

    def _train_epoch(self) -> float:
        """Train one epoch; its mean loss."""
        recipe, total = self._recipe, 0.0
        self.network.train()
        with seeded(hashed(self._seed, "epoch", self._epoch + 1), self.device):
            order = torch.split(torch.randperm(len(self._train)), recipe.batch)  # the last, partial batch is kept
            for raw, labels in self._train.batches(order):
                self._interrupt()
                images = torch.stack([self._augment(image) for image in raw]).to(self.device)
                labels = labels.to(self.device)
                self._optimiser.zero_grad()
                loss = F.cross_entropy(self.network(images), labels, label_smoothing=recipe.label_smoothing)
                loss.backward()  # type: ignore[no-untyped-call]
                if recipe.clip_norm is not None:
                    nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_norm)
                self._optimiser.step()
                if self._schedule is not None:
                    self._schedule.step()
                total += loss.item() * len(labels)
        self._epoch += 1
        mean = total / len(self._train)
        if not math.isfinite(mean):
            raise TrialFailed(f"epoch {self._epoch}: the training loss is {mean}")
        return mean


def augmentation(recipe: Published, input_shape: tuple[int, int, int]) -> Callable[[Tensor], Tensor]:
    """What happens to one training image: (3, H, W) uint8 -> the same shape, normalised float32.

    In the published order: crop, flip, colour jitter, to 0..1, normalise, erase. Draws come from torch's own generator.
    """
    _, height, width = input_shape
    steps: list[Any] = []
    if recipe.crop:
        steps.append(v2.RandomCrop((height, width), padding=recipe.crop))
    if recipe.flip:
        steps.append(v2.RandomHorizontalFlip())
    if recipe.jitter is not None:
        brightness, contrast, saturation, hue = recipe.jitter
        steps.append(v2.ColorJitter(brightness, contrast, saturation, hue))
    steps.append(v2.ToDtype(torch.float32, scale=True))
    steps.append(v2.Normalize(recipe.mean, recipe.std))
    if recipe.erase:
        steps.append(v2.RandomErasing(recipe.erase))
    made: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return made


def _optimiser(network: nn.Module, recipe: Published) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def _schedule(optimiser: torch.optim.Optimizer, recipe: Published, steps: int) -> OneCycleLR | None:
    cycle = recipe.one_cycle
    if cycle is None:
        return None
    return OneCycleLR(
        optimiser,
        max_lr=recipe.learning_rate,
        total_steps=steps,
        pct_start=cycle.warmup,
        anneal_strategy="cos",
        base_momentum=cycle.low_beta,
        max_momentum=cycle.high_beta,
        div_factor=cycle.div,
        final_div_factor=cycle.final_div,
    )


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Allow TF32 inside, and put the settings back after."""
    if not allowed:
        yield
        return
    cudnn: Any = torch.backends.cudnn
    places = (torch.backends.cuda.matmul, cudnn.conv)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32"
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
