"""What a worker runs on, as torch and the packages say it: its device, the machine and the versions."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from nas.training import pick_device


def worker_device(name: str, number: int) -> torch.device:
    """The device of worker `number`, from 0: where no GPU is named, the workers spread over those that are there.

    Raises:
        DeviceError: see `pick_device`.
    """
    device = pick_device(name)
    if device.type == "cuda" and ":" not in name:
        return torch.device("cuda", number % torch.cuda.device_count())
    return device


def device_name(device: torch.device) -> str:
    """``cpu``, or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions() -> dict[str, str]:
    """Of what a training depends on."""
    own = {"nas": version("nas"), "python": sys.version.split()[0]}
    return own | {name: version(name) for name in ("torch", "optuna", "numpy")}


def hardware(device: torch.device) -> str:
    """Processor and cores, and the GPU where one is used."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{model}, {os.cpu_count()} cores{gpu}"
