"""Say what an exported network sees in image files. Needs onnxruntime, Pillow and numpy, nothing else.

    python predict.py photo.jpg other.png --top 3
    python predict.py photo.jpg --json

The class names, the size of the input and its kind are read from the metadata of model.onnx, which lies beside this
file. Images that are missing or broken are named on standard error, the others are answered, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

# What Pillow's readers raise on damaged files
BROKEN = (OSError, SyntaxError, IndexError, TypeError, struct.error, ValueError, EOFError, Image.DecompressionBombError)


class Model:
    """An exported network with what its file says of its use.

    Args:
        path: model.onnx, or model-int8.onnx.
        threads: of ONNX Runtime; 0 is its own choice.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        kept = self.session.get_modelmeta().custom_metadata_map
        self.classes: list[str] = json.loads(kept["classes"])
        given = json.loads(kept["input"])
        self.whole_pixels: bool = given["type"] == "uint8"
        _, *shape = given["shape"]
        channels, height, width = [shape[2], *shape[:2]] if given["layout"] == "NHWC" else shape
        self.input_shape: tuple[int, int, int] = (channels, height, width)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, height, width, channels) of 0..255 -> (N, classes); the graph normalises by itself."""
        given: NDArray[np.uint8] | NDArray[np.float32] = pixels
        if not self.whole_pixels:
            given = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
        found: NDArray[np.float32] = self.session.run(["logits"], {"images": given})[0]
        return found

    def predict(self, path: str) -> list[tuple[str, float]]:
        """All classes with their probabilities, the likeliest first.

        Raises:
            One of `BROKEN`: the file is not there, or is not a whole image.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata in a file whose pixels are fine
            with Image.open(path) as image:
                pixels = fit(upright(image), self.input_shape)
        logits = self.logits(pixels[None])[0].astype(np.float64)
        raised = np.exp(logits - logits.max())
        order = np.argsort(-logits, kind="stable")
        return [(self.classes[label], float(raised[label] / raised.sum())) for label in order]


def upright(image: Image.Image) -> Image.Image:
    """The picture as a viewer shows it, in mode L or RGB: turned as EXIF says, on white where it is transparent.

    Sixteen bits of grey keep their upper eight. Of an animation this is the first frame.
    """
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((deep >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def fit(image: Image.Image, input_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Resize so that the short side fits and crop the centre, as in training: -> (height, width, channels)."""
    channels, height, width = input_shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        scale = min(Fraction(image.width, width), Fraction(image.height, height))  # source pixels for one of ours
        across, down = float(scale * width), float(scale * height)
        left, top = (image.width - across) / 2, (image.height - down) / 2
        box = (left, top, min(left + across, image.width), min(top + down, image.height))
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).reshape(height, width, channels)


def shown(text: str) -> str:
    """A name for one line of a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the command line's images; 1 where one of them could not be read."""
    parser = argparse.ArgumentParser(description="Say what the exported network sees in image files.")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--top", type=int, default=5, help="classes to name for each image (5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument(
        "--model", type=Path, default=Path(__file__).with_name("model.onnx"), help="another file beside this one"
    )
    given = parser.parse_args(arguments)
    if given.top < 1:
        parser.error(f"argument --top: {given.top} is less than 1")
    if not given.model.is_file():
        parser.error(f"there is no file {shown(str(given.model))}")
    model = Model(given.model)
    answers, broken = [], False
    for path in given.images:
        try:
            found = model.predict(path)[: given.top]
        except BROKEN as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            print(f"{shown(path)}: {shown(said)}", file=sys.stderr)
            broken = True
            continue
        if given.json:
            top = [{"class": name, "probability": part} for name, part in found]
            answers.append({"path": path, **top[0], "top": top})
        else:
            print(f"{shown(path)}: " + ", ".join(f"{name} {part:.1%}" for name, part in found), flush=True)
    if given.json:
        print(json.dumps(answers, indent=2))
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
