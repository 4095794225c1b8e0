"""Pictures as they are decoded and fitted: sizes, turned photographs, modes of pixels, transparency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas.data.source import fit, upright
from tests.pictures import pixels


def naive_fit(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Centre crop to the input's form, then the mean of each block: exact where the sizes divide."""
    rows, columns = image.shape[:2]
    scale = min(rows // height, columns // width)
    top, left = (rows - scale * height) // 2, (columns - scale * width) // 2
    crop = image[top : top + scale * height, left : left + scale * width].astype(np.float64)
    return crop.reshape(height, scale, width, scale, -1).mean((1, 3))


def test_the_right_size_keeps_every_bit() -> None:
    image = pixels(0, 9, 12)
    assert np.array_equal(fit(Image.fromarray(image), (3, 9, 12)), image)


@pytest.mark.parametrize(("height", "width"), [(24, 32), (24, 48), (60, 32), (32, 32)])
def test_short_side_fits_and_the_centre_stays(height: int, width: int) -> None:
    """On a picture that is smooth, the resampling's triangle and plain block means agree within rounding."""
    down, across = np.mgrid[0:height, 0:width]
    image = np.stack([down * 2 + 30, across * 2 + 30, down + across], -1).astype(np.uint8)
    got = fit(Image.fromarray(image), (3, 6, 8)).astype(float)
    assert np.abs(got - naive_fit(image, 6, 8))[1:-1, 1:-1].max() <= 1.0


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (97, 31), (1000, 700)])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 13), (3, 32, 5)])
def test_any_size_fits(size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    fitted = fit(Image.new("RGB", size, (10, 20, 30)), shape)
    assert fitted.shape == (shape[1], shape[2], shape[0])
    assert len(np.unique(fitted.reshape(-1, shape[0]), axis=0)) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_a_viewer_shows_it(tmp_path: Path, orientation: int) -> None:
    turned = {1: 0, 3: 2, 6: 3, 8: 1}  # quarter turns to the left
    image = np.zeros((4, 6, 3), np.uint8)
    image[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as opened:
        shown = np.asarray(upright(opened))
    assert shown.shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
    corner = np.rot90(image, turned[orientation]) if orientation in turned else None
    assert corner is None or np.array_equal(shown, corner)


def test_every_mode_of_pixels(tmp_path: Path) -> None:
    grey = np.arange(108, dtype=np.uint8).reshape(9, 12)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    deep.save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as opened:
        assert np.array_equal(np.asarray(upright(opened)), grey)
    colour = Image.fromarray(pixels(0))
    for mode in ("RGBA", "CMYK", "YCbCr", "HSV", "LAB", "P", "LA", "PA", "RGBa", "I", "1", "RGBX"):
        try:
            image = colour.convert(mode)
        except ValueError:  # no direct way there in Pillow
            image = Image.new(mode, (12, 9))
        assert upright(image).mode in ("L", "RGB"), mode
    with pytest.raises(ValueError, match="floating-point"):
        upright(colour.convert("F"))


def test_transparent_is_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert np.asarray(upright(image)).tolist() == [[[200, 0, 0], [255, 255, 255]]]
