"""predict.py prepares a picture as training did, to the bit, with code of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas.data import source
from nas.data.files import BROKEN
from nas.export import predict

EXIF_ORIENTATION = 0x0112


def odd_pictures(folder: Path) -> dict[str, Path]:
    """Files of every kind that needs care."""
    draw = np.random.default_rng(0)
    colour = Image.fromarray(draw.integers(0, 256, (23, 40, 3), np.uint8))
    deep = Image.fromarray(draw.integers(0, 65536, (31, 17), np.uint16))
    made = {
        "colour.png": colour,
        "grey.png": colour.convert("L"),
        "one-bit.png": colour.convert("1"),
        "palette.gif": colour.convert("P"),
        "cmyk.jpg": colour.convert("CMYK"),
        "transparent.png": Image.fromarray(draw.integers(0, 256, (23, 40, 4), np.uint8)),
        "grey-transparent.png": Image.fromarray(draw.integers(0, 256, (23, 40, 2), np.uint8), "LA"),
        "deep.png": deep,
        "deep.tiff": Image.fromarray(draw.integers(-5, 70000, (31, 17), np.int32)),
        "tall.webp": colour.resize((3, 200)),
        "one-pixel.png": colour.resize((1, 1)),
    }
    for name, image in made.items():
        image.save(folder / name)
    turned = Image.Exif()
    turned[EXIF_ORIENTATION] = 6
    colour.save(folder / "turned.jpg", exif=turned)
    palette = colour.convert("P")
    palette.save(folder / "see-through.png", transparency=3)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 20, 9), (1, 40, 23)])
def test_odd_pictures_give_the_bits_of_training(shape: tuple[int, int, int], tmp_path: Path) -> None:
    found = odd_pictures(tmp_path)
    assert len(found) == 13
    for path in found.values():
        with Image.open(path) as image:
            expected = source.fit(source.upright(image), shape)
        with Image.open(path) as image:
            mine = predict.fit(predict.upright(image), shape)
        assert (mine.shape, mine.dtype) == ((shape[1], shape[2], shape[0]), np.uint8)
        np.testing.assert_array_equal(mine, expected, err_msg=path.name)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    shape=st.tuples(st.sampled_from((1, 3)), st.integers(1, 40), st.integers(1, 40)),
    mode=st.sampled_from(("L", "RGB", "RGBA", "LA", "1", "P")),
    seed=st.integers(0, 99),
)
def test_any_picture_gives_the_bits_of_training(
    size: tuple[int, int], shape: tuple[int, int, int], mode: str, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(pixels).convert("RGB" if mode == "P" else mode).convert(mode)
    np.testing.assert_array_equal(
        predict.fit(predict.upright(image.copy()), shape), source.fit(source.upright(image.copy()), shape)
    )


def test_floating_point_pictures_are_refused_alike() -> None:
    image = Image.fromarray(np.zeros((4, 4), np.float32))
    for module in (source, predict):
        with pytest.raises(ValueError, match="floating-point pixels have no known range"):
            module.upright(image)


def test_what_counts_as_broken_is_the_same() -> None:
    assert predict.BROKEN == BROKEN
