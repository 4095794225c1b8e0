"""A search worker whose device another process fills: ``python -m tests.full_device``.

FULL says when: ``images N`` has no room for the images of the workers from number N on; ``training N M`` none for the
first M passes of this process's N-th training.
"""

import os
import sys

import torch
from torch import Tensor

from nas.data import Dataset
from nas.search import setup, worker
from nas.training import Training

WHAT, *NUMBERS = os.environ["FULL"].split()
WORDS = "CUDA out of memory. Tried to allocate 20.00 MiB\nof a device that another process fills"


def refuse(*_: object) -> Dataset:
    raise torch.OutOfMemoryError(WORDS)


if WHAT == "images":
    pick = setup.worker_device

    def worker_device(name: str, number: int) -> torch.device:
        if number >= int(NUMBERS[0]):
            Dataset.to = refuse  # type: ignore[method-assign]
        return pick(name, number)

    setup.worker_device = worker_device


class Full(Training):
    made = 0
    passes = 0

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # type: ignore[arg-type]
        Full.made += 1

    def _backward_part(self, images: Tensor, labels: Tensor, whole: int) -> Tensor:
        if Full.made == int(NUMBERS[0]) and Full.passes < int(NUMBERS[1]):
            Full.passes += 1
            raise torch.OutOfMemoryError(WORDS)
        return super()._backward_part(images, labels, whole)


if WHAT == "training":
    worker.Training = Full  # type: ignore[misc]

if __name__ == "__main__":
    code = worker.serve()
    sys.stdout.flush()
    os._exit(code)
