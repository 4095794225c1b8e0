"""Measured costs: latency of one image, peak memory. Parameters and MACs are counted, see `Architecture`."""

from __future__ import annotations

import resource
import statistics
import sys
import time

import torch
from torch import nn


def latency_ms(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    device: torch.device | str,
    runs: int = 50,
    warmup: int = 10,
) -> float:
    """Median milliseconds of a forward pass over one image, the network in evaluation mode; it gets its mode back.

    Args:
        network: on `device`.
        input_shape: (channels, height, width).
        device: where the image lies; a CUDA device is waited for in every run.
        runs: measured passes, at least 1.
        warmup: passes before these, that are not counted.

    Raises:
        ValueError: runs is under 1.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    device = torch.device(device)
    image = torch.zeros(1, *input_shape, device=device).to(memory_format=torch.channels_last)
    training = network.training
    network.eval()
    times = []
    with torch.inference_mode():
        for _ in range(warmup + runs):
            start = time.perf_counter()
            network(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    network.train(training)
    return 1e3 * statistics.median(times[warmup:])


def peak_memory_mb(device: torch.device | str = "cpu") -> float:
    """The most memory that this process has held so far, in MiB: resident on the CPU, in tensors on a CUDA device."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB
