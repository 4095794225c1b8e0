"""Which GPU each worker of a search gets, and how many share one; without torch, which takes seconds to load."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nas.architecture import Architecture, Conv, LocalResponseNorm, map_side
from nas.errors import DeviceError, StudyError
from nas.search.machine import gpus, threads, usual_workers
from nas.search.options import SearchOptions
from nas.search.packing import choose, together
from nas.space import Space

MOST_PER_GPU = 8
"""Workers on one GPU, at most, under ``auto``."""
PROCESS_MB = 1024
"""Of a GPU's memory for each process, before it trains: CUDA's context, kernels and their workspace."""
FOR_NETWORKS = 0.75
"""Part of a GPU's memory that is shared out; the rest is for images (`streaming.MEMORY_SHARE`)."""


def with_workers(
    options: SearchOptions,
    space: Space,
    workers: int | None,
    per_gpu: str | None,
    say: Callable[[str], None] = lambda line: None,
) -> SearchOptions:
    """The options with the number of workers that the user names, or the usual one.

    Args:
        workers: on this machine.
        per_gpu: a whole number, or ``auto``: as many as get the most done, of those that the memory of a GPU holds.
            That is measured, which takes a minute and more.
        say: takes lines about that.

    Raises:
        StudyError: both are given, or `per_gpu` is no number.
        DeviceError: the device is not there.
        KeyboardInterrupt: while it is measured.
    """
    device = options.device
    if per_gpu is None:
        workers = usual_workers(space.input_shape, device) if workers is None else workers
        shared_by = len(_used(device))
        return replace(options, workers=workers, workers_per_gpu=math.ceil(workers / shared_by) if shared_by else None)
    if workers is not None:
        raise StudyError(
            f"--workers {workers} and --workers-per-gpu {per_gpu} both say how many workers there are: give one of them"
        )
    used = _used(device)
    if not used:
        why = "--device cpu takes none" if device == "cpu" else "none is seen on this machine"
        raise StudyError(f"--workers-per-gpu {per_gpu}: it is for GPUs, and {why}; give --workers")
    if per_gpu == "auto":
        each = _measured(options, space, used, say)
    elif per_gpu.isdecimal() and int(per_gpu) >= 1:
        each = int(per_gpu)
    else:
        raise StudyError(f"--workers-per-gpu {per_gpu!r}: it must be a whole number of at least 1, or auto")
    return replace(options, workers=each * len(used), workers_per_gpu=each)


def _measured(options: SearchOptions, space: Space, used: Sequence[str], say: Callable[[str], None]) -> int:
    """How many workers share each GPU under ``auto``, measured on one; lines say what came out."""
    name, memory_mb, differ = weakest(used)
    most = 1 if memory_mb is None else fitting(space, memory_mb)
    if most == 1:
        unknown = memory_mb is None
        why = "since nvidia-smi does not tell its memory" if unknown else "since its memory holds no second"
        say(f"--workers-per-gpu auto: 1 on each GPU, {why}, so {len(used)} here.")
        return 1
    say(f"--workers-per-gpu auto: measuring how many workers on a GPU get the most done, up to {most}.")

    def rate(number: int) -> float:
        return together(
            replace(options, device=options.device.partition(":")[0]),
            number,
            threads=threads(space.input_shape, number * len(used)),
            environment={"CUDA_VISIBLE_DEVICES": name},
            gpus=len(used),
        )

    found = choose(most, rate)
    each, holds = found.number, f"memory holds {most}{' or more' * (most == MOST_PER_GPU)}"
    found_words = found.words if found.rates else f"not even one could be measured: {found.words}"
    say(f"--workers-per-gpu auto: {each} on each GPU, so {each * len(used)} here ({found_words}; {holds}{differ}).")
    return each


def placed(device: str, number: int) -> tuple[str, dict[str, str]]:
    """The device of worker `number` as it is told, and what its environment gets.

    It sees one GPU alone, so whatever is in its process (cuDNN, a library's default device) stays on that one.

    Args:
        device: as in `SearchOptions`.
        number: from 0; the workers go round the GPUs.

    Raises:
        DeviceError: the device is not there.
    """
    used = _used(device)
    if not used:  # the CPU, or a GPU that shows no device file
        return device, {}
    return device.partition(":")[0], {"CUDA_VISIBLE_DEVICES": used[number % len(used)]}


def _used(device: str) -> tuple[str, ...]:
    """The GPUs that the workers go round, as CUDA_VISIBLE_DEVICES names them."""
    there = gpus()
    if device == "cpu" or not there:
        return ()
    if ":" not in device:
        return there
    number = int(device.partition(":")[2])
    if number >= len(there):
        raise DeviceError(
            f"device {device!r} is not there: this machine shows {len(there)} GPU{'s' * (len(there) != 1)}, from "
            f"cuda:0 to cuda:{len(there) - 1}; take --device cuda:{len(there) - 1} or cuda"
        )
    return (there[number],)


def fitting(space: Space, memory_mb: int) -> int:
    """How many workers a GPU has room for, 1 to `MOST_PER_GPU`, should all train the space's largest network.

    Args:
        memory_mb: of the GPU, MiB.
    """
    largest = space.decode([1.0, *(0.5 for _ in space.coordinates[1:])])
    return max(1, min(MOST_PER_GPU, int(FOR_NETWORKS * memory_mb // training_mb(largest, space.recipe.batch))))


def weakest(used: Sequence[str]) -> tuple[str, int | None, str]:
    """Where it is measured how many workers share a GPU: on the one with the least memory, if they differ.

    Args:
        used: the GPUs, as CUDA_VISIBLE_DEVICES names them.

    Returns:
        That GPU, as CUDA_VISIBLE_DEVICES names it; the least memory in MiB, None where it is not known; words for the
        case that the GPUs differ.
    """
    there = listed()
    if not there or any(name.startswith("MIG") for name in used):  # of a part nvidia-smi says the memory of the whole
        return used[0], None, ""
    named = [gpu for gpu in there if any(name.startswith("GPU-") and gpu.uuid.startswith(name) for name in used)]
    of = named or there
    least = min(of, key=lambda gpu: gpu.memory_mb)
    if len({(gpu.name, gpu.memory_mb) for gpu in of}) == 1 or len(used) == 1:
        return used[0], least.memory_mb, ""
    if len(of) > len(used):  # which are meant is not known: CUDA counts in another order than nvidia-smi
        return used[0], least.memory_mb, "; the GPUs differ, measured on the first"
    return least.uuid, least.memory_mb, f"; the GPUs differ, measured on {least.name}, which has the least memory"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, as nvidia-smi says it; memory in MiB."""

    memory_mb: int
    uuid: str
    name: str


def listed() -> list[Gpu]:
    """This machine's GPUs; none where nvidia-smi is not there or does not know their memory."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        said = subprocess.run(
            [program, "--query-gpu=memory.total,uuid,name", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        lines = [line.split(", ", 2) for line in said.splitlines() if line.strip()]
        return [Gpu(int(memory), uuid, name) for memory, uuid, name in lines]
    except (OSError, subprocess.SubprocessError, ValueError):  # ValueError: [N/A], where it shares the machine's memory
        return []


def training_mb(network: Architecture, batch: int) -> float:
    """MiB that a training may take at its peak, with its process: an upper estimate, by what is kept for the way back.

    Every number takes four bytes: the output of each convolution, its norm, pools and what is joined; half as much
    again for gradients on their way; and of each parameter itself, gradient, momentum, and two averages.
    """
    kept = batch * kept_numbers(network)
    return PROCESS_MB + 4 * (1.5 * kept + 5 * network.training_params) / 2**20


def kept_numbers(network: Architecture) -> int:
    """Numbers that a training step keeps for each image: outputs of all layers."""
    channels, height, width = network.input_shape
    total = channels * height * width
    for layer in network.stem:
        if not isinstance(layer, LocalResponseNorm):
            channels = layer.channels if isinstance(layer, Conv) else channels
            height, width = map_side(height, layer), map_side(width, layer)
        twice = isinstance(layer, Conv) and layer.batch_norm
        total += (1 + twice) * channels * height * width
    shapes = network.module_inputs()
    for module, (channels, height, width) in zip(network.modules, shapes, strict=False):
        filters = module.out_1x1 + module.reduce_3x3 + module.out_3x3 + module.reduce_5x5 + module.out_5x5
        filters += module.out_pool
        joined = module.out_channels(channels) + 2 * channels  # and the module's pool, and one before the module
        total += ((1 + network.batch_norm) * filters + joined) * height * width
    return total + shapes[-1][0] + network.classes
