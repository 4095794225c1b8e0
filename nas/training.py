"""The brief training of one network: `fit` yields one result an epoch, so that its caller may stop it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.architecture import Architecture
from nas.curve import EpochResult
from nas.data import Dataset, augment, normalise, shuffled
from nas.errors import DataError, DeviceError, SpaceError, TrialFailed, choices
from nas.metric import Metric
from nas.models import InceptionNetwork, build
from nas.models.inception import ConvRelu
from nas.optimiser import FlatParameters, ScheduleFreeAdamW
from nas.reading import Reader, accuracy
from nas.recipe import TRAINING_VERSION, WHITEN_NEEDS, Recipe
from nas.seeds import hashed
from nas.whitening import whiten

__all__ = [
    "TRAINING_VERSION",
    "EpochResult",
    "Prebuilt",
    "Training",
    "accuracy",
    "check_images",
    "hashed",
    "memory_failures",
    "pick_device",
    "seeded",
]

AUXILIARY_WEIGHT = 0.3
"""Of each auxiliary head's loss in the sum (Szegedy et al. 2014, section 5)."""


def pick_device(name: str | None = None) -> torch.device:
    """``auto`` or None: the first CUDA device, or else the CPU. ``cpu``, ``cuda``, ``cuda:N``: that one.

    Raises:
        DeviceError: an unknown name, or a device that is not there.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in (None, "auto"):
        return torch.device("cuda" if there else "cpu")
    kind, _, number = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (":" in str(name) and not (kind == "cuda" and number.isdecimal())):
        raise DeviceError(choices("device", str(name), ("auto", "cpu", "cuda", "cuda:N")))
    if kind == "cuda" and int(number or 0) >= there:
        seen = f"torch sees {there} CUDA device{'s' * (there != 1)}"
        raise DeviceError(f"device {name!r} is not there: {seen}; take --device cpu or auto")
    return torch.device(str(name))


@dataclass(frozen=True, slots=True)
class Prebuilt:
    """A network that no Architecture describes, as far as a training has to know it.

    Args:
        key: equal exactly for equal networks.
        input_shape: (channels, height, width) of one image.
        classes: its logits.
        build: the module, in training mode; its random numbers come from torch's default generator. Its first
            convolution, where it has any, reads the images.
    """

    key: str
    input_shape: tuple[int, int, int]
    classes: int
    build: Callable[[], nn.Module]


class Training:
    """One network, from its first weights to the recipe's last epoch.

    Everything random follows from `seed`: the initial weights, and each epoch's order, augmentation and dropout, which
    depend on the seed and the epoch alone. So the same seed, device and thread count give the same bits on the CPU,
    whether a training ran through or was resumed, however often it was read. torch's own random state is left as it is.

    The network that trains keeps no running batch-norm statistics: nothing would read them, since each reading takes
    its own (see `Reader`).

    Where CUDA runs out of memory, the batch is trained in two halves from then on, with the gradient of the whole;
    batch norm then sees halves, so such a training differs a little from one that fitted. A second time fails the
    trial.

    Args:
        architecture: what to train; a `Prebuilt` for a network of another kind.
        dataset: images of the architecture's input shape, at least two in training and one in validation; moved to
            the device.
        recipe: how.
        seed: any int.
        device: a name as for `pick_device`, or a device.
        interrupt: called once a batch; what it raises passes through, and ends this training for good.
        metric: what a reading measures; it changes nothing that trains.

    Raises:
        DataError: the images do not fit the architecture, or are too few.
        SpaceError: batches of one image for a network with batch norm; a recipe that whitens the first convolution of
            a stem without one in front, or of a network without any.
        DeviceError: no such device.
        TrialFailed: not enough memory.
    """

    def __init__(
        self,
        architecture: Architecture | Prebuilt,
        dataset: Dataset,
        recipe: Recipe,
        *,
        seed: int,
        device: str | torch.device = "auto",
        interrupt: Callable[[], None] = lambda: None,
        metric: Metric = "accuracy",
    ) -> None:
        check_images(architecture, dataset)
        self._recipe = recipe
        self._seed = seed
        self._interrupt = interrupt
        self.device = pick_device(device) if isinstance(device, str) else device
        self._epoch = 0
        self._whole = True  # not in the middle of an epoch
        self._halved = False
        self._read_epoch = -1
        self._identity = f"{TRAINING_VERSION} {architecture.key} {seed} {recipe.model_dump_json()}"
        with memory_failures(), seeded(hashed(seed, "weights"), self.device):
            self._dataset = dataset.to(self.device)
            built = architecture.build() if isinstance(architecture, Prebuilt) else build(architecture)
            self._network = built.to(self.device)
            if recipe.whiten:
                whiten(_first_conv(self._network), self._dataset)
            self._reader = Reader(self._network, self._dataset, metric)
        norms = [module for module in self._network.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.track_running_stats = False
        if norms and recipe.batch == 1:
            raise SpaceError("batch must be at least 2 for a network with batch norm, got 1: raise it or drop the norm")
        steps = sum(1 for _ in shuffled(len(dataset.train), recipe.batch, torch.Generator()))
        self._optimiser = self._make_optimiser(FlatParameters(self._network), steps)
        bf16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        self._precision: Callable[[], contextlib.AbstractContextManager[Any]] = (
            (lambda: torch.autocast("cuda", torch.bfloat16)) if bf16 else contextlib.nullcontext
        )

    @property
    def halved(self) -> bool:
        """Whether CUDA ran out of memory once, so that batches are trained in two halves."""
        return self._halved

    def fit(self, read: Literal["each", "last"] = "each") -> Iterator[EpochResult]:
        """Train from where it stands to the recipe's last epoch; it may be closed at any result, and called again.

        Args:
            read: ``each`` yields a result for every epoch, ``last`` only for the last one; training is the same.

        Raises:
            TrialFailed: a loss or an output that is not finite, or not enough memory.
            RuntimeError: an earlier call ended in the middle of an epoch.
        """
        while self._epoch < self._recipe.epochs:
            start = time.perf_counter()
            loss = self._train_epoch()
            if read == "each" or self._epoch == self._recipe.epochs:
                val_accuracy = self._read()
                yield EpochResult(self._epoch, val_accuracy, loss, time.perf_counter() - start)

    def averaged_state(self) -> dict[str, Tensor]:
        """The weights that a reading uses now, with their batch-norm statistics: a state for `build`'s network.

        Contiguous copies on the CPU.
        """
        if self._read_epoch != self._epoch:
            self._load_reader()
        state = self._reader.network.state_dict()
        return {
            name: value.to("cpu", copy=True, memory_format=torch.contiguous_format) for name, value in state.items()
        }

    def confusion(self) -> tuple[tuple[int, ...], ...] | None:
        """Validation images by true class (rows) and answer (columns) at the last reading that `fit` yielded.

        None before one, and of more than `nas.reading.CONFUSION_CLASSES` classes.
        """
        return self._reader.confusion()

    def checkpoint(self) -> dict[str, Any]:
        """All that the rest of the training depends on, as copies: `torch.save` it, load it with ``weights_only``.

        Raises:
            RuntimeError: the training ended in the middle of an epoch.
        """
        self._check_whole()
        return {
            "identity": self._identity,
            "epoch": self._epoch,
            "halved": self._halved,
            "optimiser": self._optimiser.state(),
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same architecture, recipe, seed and `TRAINING_VERSION`.

        Raises:
            ValueError: the checkpoint is another training's.
        """
        if checkpoint["identity"] != self._identity:
            raise ValueError(f"a checkpoint of {checkpoint['identity']!r} cannot go on as {self._identity!r}")
        self._optimiser.load(checkpoint["optimiser"])
        self._epoch = checkpoint["epoch"]
        self._halved = checkpoint["halved"]
        self._read_epoch = -1
        self._whole = True

    def _make_optimiser(self, parameters: FlatParameters, epoch_steps: int) -> ScheduleFreeAdamW:
        """The one place that knows which optimiser trains: `scripts/bench_recipe` puts its rivals here."""
        recipe = self._recipe
        return ScheduleFreeAdamW(
            parameters,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup_steps=round(recipe.warmup * recipe.epochs * epoch_steps),
            clip_norm=recipe.clip_norm,
        )

    def _check_whole(self) -> None:
        if not self._whole:
            raise RuntimeError("this training ended in the middle of an epoch; restore a checkpoint to go on")

    def _train_epoch(self) -> float:
        """Train one epoch; its mean loss. The only wait for the device is at the end."""
        self._check_whole()
        self._whole = False
        train = self._dataset.train
        seed = hashed(self._seed, "epoch", self._epoch + 1)
        generator = torch.Generator(self.device).manual_seed(seed)
        total = torch.zeros((), device=self.device)
        with memory_failures(), seeded(seed, self.device):  # dropout knows only torch's own generator
            for images, labels in train.batches(shuffled(len(train), self._recipe.batch, generator)):
                self._interrupt()
                images = augment(images, self._recipe.augmentation, generator)
                images = normalise(images, self._dataset.mean, self._dataset.std)
                total.add_(self._backward(images, labels), alpha=len(labels))
                self._optimiser.step()
            loss = total.item() / len(train)
        self._epoch += 1
        if not math.isfinite(loss):
            raise TrialFailed(f"epoch {self._epoch}: the training loss is {loss}")
        self._whole = True
        return loss

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add the gradient of the batch's mean loss to the parameters; that loss, detached."""
        if not self._halved:
            try:
                return self._backward_part(images, labels, len(labels))
            except torch.OutOfMemoryError:
                if len(labels) < 4:  # batch norm needs two images in each half
                    raise
            # Here, outside the handler, the failed pass's activations are free.
            self._halved = True
            self._optimiser.drop_gradients()
            torch.cuda.empty_cache()
        parts = 2 if len(labels) >= 4 else 1
        losses = [
            self._backward_part(*part, len(labels))
            for part in zip(images.chunk(parts), labels.chunk(parts), strict=True)
        ]
        return torch.stack(losses).sum()

    def _backward_part(self, images: Tensor, labels: Tensor, whole: int) -> Tensor:
        """Backward of a part's share in the mean loss over `whole` images; that share, detached."""
        smoothing = self._recipe.label_smoothing
        with self._precision():
            outputs = self._network(images)
            logits, heads = outputs if isinstance(outputs, tuple) else (outputs, [])
            loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
            for head in heads:
                loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(head, labels, label_smoothing=smoothing)
            if len(labels) < whole:
                loss = loss * (len(labels) / whole)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _read(self) -> float:
        """Accuracy of the averaged weights. Nothing that trains is touched."""
        with memory_failures():
            self._load_reader()
            try:
                return self._reader.accuracy()
            except TrialFailed as failure:
                raise TrialFailed(f"epoch {self._epoch}: {failure.reason}") from failure

    def _load_reader(self) -> None:
        self._reader.load(self._optimiser.average_into)
        self._read_epoch = self._epoch


def check_images(architecture: Architecture | Prebuilt, dataset: Dataset) -> None:
    """Refuse images that a network cannot be trained on.

    Raises:
        DataError: their shape or number of classes is not the network's, or they are too few.
    """
    shape = tuple(dataset.train.images.shape[1:])
    if shape != architecture.input_shape:
        raise DataError(
            f"images of {dataset.name!r} are {_times(shape)}, the network reads {_times(architecture.input_shape)}: "
            "load them at its size"
        )
    if len(dataset.classes) != architecture.classes:
        raise DataError(
            f"{dataset.name!r} has {len(dataset.classes)} classes, the network {architecture.classes}: make them equal"
        )
    if len(dataset.train) < 2 or not len(dataset.validation):
        raise DataError(
            f"{dataset.name!r} has {len(dataset.train)} training and {len(dataset.validation)} validation images: "
            "a training needs at least 2 and 1"
        )


def _first_conv(network: nn.Module) -> nn.Conv2d:
    if isinstance(network, InceptionNetwork):
        first = network.stem[0] if len(network.stem) else None
        conv = first.conv if isinstance(first, ConvRelu) else None
    else:
        conv = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if not isinstance(conv, nn.Conv2d):
        raise SpaceError(f"{WHITEN_NEEDS}: put one there or leave whiten out")
    return conv


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators inside, and give them their states back after."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


MEMORY = (
    "not enough memory", "can't allocate memory", "bad_alloc", "could not create a memory", "CUDA error: out of memory",
    "STATUS_ALLOC_FAILED",
)  # fmt: skip
"""By these words torch, C++, oneDNN, CUDA, cuBLAS and cuDNN say that memory ran out."""


@contextlib.contextmanager
def memory_failures() -> Iterator[None]:
    """Turn every way of running out of memory into a failed trial."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrialFailed(f"out of memory: {_first_line(error)}") from error
    except RuntimeError as error:  # torch has no class of its own for these
        if not any(words in str(error) for words in MEMORY):
            raise
        raise TrialFailed(f"out of memory: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
