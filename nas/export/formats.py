"""The files of an export by their formats."""

from __future__ import annotations

from nas.errors import ExportError, choices

FORMATS = {
    "onnx": ("model.onnx", "for ONNX Runtime; its metadata say how to use it"),
    "pt2": ("model.pt2", "a program of torch.export: float images in 0..1, (N, C, H, W)"),
    "safetensors": ("model.safetensors", "the weights alone, without normalisation"),
    "source": ("model.py", "the network as a readable file of torch alone; load() reads model.safetensors"),
}
"""Name for --format -> file, and what it is."""

INT8, PREDICT, CARD, PAGE = "model-int8.onnx", "predict.py", "model.json", "MODEL_CARD.md"
WHAT = dict(FORMATS.values()) | {
    INT8: "the same in 8-bit whole numbers; it answers a little otherwise",
    PREDICT: "answers image files by model.onnx; needs onnxruntime, Pillow and numpy only",
}
OURS = {*WHAT, CARD, PAGE, "__pycache__"}
"""What an earlier export may have left; Python makes the last when model.py is imported."""


def formats_of(text: str) -> tuple[str, ...]:
    """The formats in a comma-separated list, each once, in the order of `FORMATS`.

    Raises:
        ExportError: one is unknown, or there is none.
    """
    named = [word.strip() for word in text.split(",") if word.strip()]
    for word in named:
        if word not in FORMATS:
            raise ExportError(choices("--format", word, FORMATS))
    if not named:
        raise ExportError(f"--format {text!r} names none; allowed: {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in named)
