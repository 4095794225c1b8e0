"""One of those that train at the same time, which breaks down: ``python -m tests.broken_packing``."""

from nas.search import packing


def broken(*_: object) -> float:
    raise RuntimeError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA` to see more.")


packing._rate = broken  # type: ignore[assignment]

if __name__ == "__main__":
    packing.serve()
