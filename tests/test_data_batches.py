"""Batches: each augmentation against a slow one an image at a time, drawing from an equal generator."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Generator, Tensor

from nas.data import augment, normalise, shuffled
from nas.recipe import Augmentation


def seeded(seed: int, device: str = "cpu") -> Generator:
    return torch.Generator(device).manual_seed(seed)


def images(n: int = 64, channels: int = 3, height: int = 7, width: int = 10) -> Tensor:
    made = torch.randint(1, 256, (n, channels, height, width), generator=seeded(9), dtype=torch.uint8)
    return made.to(memory_format=torch.channels_last)


def crop_one(image: Tensor, down: int, right: int, pad: int) -> Tensor:
    out = torch.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y + down - pad < height and 0 <= x + right - pad < width:
                out[:, y, x] = image[:, y + down - pad, x + right - pad]
    return out


def slow_flip_and_crop(batch: Tensor, flip: bool, pad: int, generator: Generator) -> Iterator[Tensor]:
    n = len(batch)
    down = torch.randint(2 * pad + 1, (n, 1), generator=generator) if pad else torch.zeros(n, 1, dtype=torch.int64)
    right = torch.randint(2 * pad + 1, (n, 1), generator=generator) if pad else torch.zeros(n, 1, dtype=torch.int64)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5 if flip else torch.zeros(n, 1, dtype=torch.bool)
    for i in range(n):
        one = crop_one(batch[i], int(down[i]), int(right[i]), pad)
        yield one.flip(2) if mirrored[i] else one


def slow_erase(batch: Tensor, probability: float, generator: Generator) -> Iterator[Tensor]:
    n, _, height, width = batch.shape
    chosen, area, ratio, top, left = (torch.rand(n, 1, generator=generator).flatten() for _ in range(5))
    for i in range(n):
        one = batch[i].clone()
        pixels = height * width * (0.02 + 0.31 * area[i])
        form = torch.exp(math.log(0.3) + 2 * math.log(1 / 0.3) * ratio[i])
        tall = min(max(round(float(torch.sqrt(pixels * form))), 1), height)
        wide = min(max(round(float(torch.sqrt(pixels / form))), 1), width)
        if chosen[i] < probability:
            y, x = int(top[i] * (height - tall + 1)), int(left[i] * (width - wide + 1))
            one[:, y : y + tall, x : x + wide] = 0
        yield one


@pytest.mark.parametrize(("flip", "pad"), [(True, 0), (False, 1), (True, 2), (True, 9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_flip_and_crop_as_one_image_at_a_time(flip: bool, pad: int, channels: int) -> None:
    batch = images(channels=channels)
    got = augment(batch, Augmentation(flip=flip, crop=pad), seeded(1))
    expected = torch.stack(list(slow_flip_and_crop(batch, flip, pad, seeded(1))))
    assert torch.equal(got, expected)
    assert not torch.equal(got, batch)
    assert got.dtype == batch.dtype
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("probability", [0.25, 1.0])
@pytest.mark.parametrize("size", [(7, 10), (32, 32), (3, 20), (1, 1)])
def test_erasing_as_one_image_at_a_time(probability: float, size: tuple[int, int]) -> None:
    batch = images(200, 3, *size)
    got = augment(batch, Augmentation(erase=probability), seeded(2))
    assert torch.equal(got, torch.stack(list(slow_erase(batch, probability, seeded(2)))))
    touched = (got != batch).flatten(1).any(1).float().mean()
    assert touched == pytest.approx(probability, abs=0.12)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_all_three_together_crop_first() -> None:
    batch = images(100)
    got = augment(batch, Augmentation(flip=True, crop=2, erase=0.5), seeded(3))
    generator = seeded(3)
    moved = torch.stack(list(slow_flip_and_crop(batch, True, 2, generator)))
    assert torch.equal(got, torch.stack(list(slow_erase(moved, 0.5, generator))))


def test_every_shift_and_both_mirrors_occur_equally_often() -> None:
    batch = torch.zeros(18_000, 1, 3, 3, dtype=torch.uint8)
    batch[:, 0, 1, 1] = 255
    places = augment(batch, Augmentation(crop=1), seeded(4)).flatten(1).argmax(1).bincount(minlength=9)
    assert places.sum() == 18_000
    assert all(abs(int(count) - 2000) < 250 for count in places)  # six standard deviations
    batch[:, 0, 1, 0] = 254
    mirrored = augment(batch, Augmentation(flip=True), seeded(4))[:, 0, 1, 2] == 254
    assert abs(mirrored.float().mean() - 0.5) < 0.025


def test_erased_area_and_ratio_are_in_bounds() -> None:
    batch = torch.full((2000, 1, 64, 64), 255, dtype=torch.uint8)
    gone = augment(batch, Augmentation(erase=1.0), seeded(5))[:, 0] == 0
    tall, wide = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(gone.flatten(1).sum(1), tall * wide)  # a whole rectangle
    assert (tall * wide).max() <= 0.35 * 64 * 64
    assert (tall * wide).min() >= 0.015 * 64 * 64
    assert (tall / wide).min() >= 0.25
    assert (tall / wide).max() <= 4


@pytest.mark.parametrize("augmentation", [Augmentation(flip=True), Augmentation(crop=1), Augmentation(erase=1.0)])
def test_the_input_is_left_alone_and_float_works_too(augmentation: Augmentation) -> None:
    batch = images()
    before = batch.clone()
    got = augment(batch, augmentation, seeded(6))
    assert torch.equal(batch, before)
    floats = augment(batch.float() / 256, augmentation, seeded(6))
    assert floats.dtype == torch.float32
    assert torch.equal(floats * 256, got.float())


def test_no_image_is_a_batch_too() -> None:
    everything = Augmentation(flip=True, crop=2, erase=0.5)
    assert normalise(augment(images(0), everything, seeded(1)), [0.5] * 3, [0.2] * 3).shape == (0, 3, 7, 10)


def test_nothing_asked_is_nothing_drawn() -> None:
    batch, generator = images(), seeded(7)
    before = generator.get_state()
    assert augment(batch, Augmentation(), generator) is batch
    assert torch.equal(generator.get_state(), before)


def test_no_draw_comes_from_anywhere_else() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    everything = Augmentation(flip=True, crop=2, erase=0.5)
    one, other = (augment(images(), everything, seeded(8)) for _ in range(2))
    assert list(map(len, shuffled(10, 3, seeded(8)))) == [3, 3, 4]
    assert torch.equal(one, other)
    assert not torch.equal(one, augment(images(), everything, seeded(9)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalise_pixel_by_pixel(channels: int, dtype: torch.dtype) -> None:
    batch = images(5, channels)
    mean, std = [0.1, 0.5, 0.9][:channels], [0.2, 0.25, 1 / 255][:channels]
    got = normalise(batch, mean, std, dtype)
    assert got.dtype == dtype
    assert got.is_contiguous(memory_format=torch.channels_last)
    for channel in range(channels):
        expected = (batch[:, channel].double() / 255 - mean[channel]) / std[channel]
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(got[:, channel].double(), expected, rtol=tolerance, atol=tolerance)


def test_normalise_takes_any_memory_format() -> None:
    batch = images()
    assert torch.equal(normalise(batch.contiguous(), [0.1] * 3, [0.2] * 3), normalise(batch, [0.1] * 3, [0.2] * 3))


@pytest.mark.parametrize(
    ("n", "batch", "sizes"),
    [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (9, 4, [4, 5]), (3, 8, [3]), (1, 8, [1]), (3, 1, [1, 1, 1]), (0, 4, [])],
)
def test_shuffled_has_every_row_once(n: int, batch: int, sizes: list[int]) -> None:
    batches = list(shuffled(n, batch, seeded(1)))
    assert [len(rows) for rows in batches] == sizes
    assert sorted(row for rows in batches for row in rows.tolist()) == list(range(n))
    assert all(rows.dtype == torch.int64 for rows in batches)


def test_shuffled_goes_on_with_its_generator() -> None:
    generator = seeded(1)
    first, second = (torch.cat(list(shuffled(50, 8, generator))) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(shuffled(50, 16, seeded(1)))))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_without_waiting_for_it() -> None:
    generator = seeded(1, "cuda")
    batch = images().cuda()
    everything = Augmentation(flip=True, crop=2, erase=0.5)
    rows = next(shuffled(len(batch), 32, generator))
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = normalise(augment(batch[rows], everything, generator), [0.5] * 3, [0.2] * 3)
        augment(batch, everything, seeded(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert out.shape == (32, 3, 7, 10)
