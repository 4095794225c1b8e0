"""`folder:PATH`: a user's own images, one folder a class, or train/ and test/ with one folder a class in each."""

from __future__ import annotations

import math
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from nas.data import cache
from nas.data.files import BROKEN, Files, picture, shown, why
from nas.data.source import Source, content_hash, fit
from nas.data.walk import SUFFIXES, entries, images_under, is_image
from nas.errors import DataError

CACHE_VERSION = 1  # of what a cached file means: grows when decoding, resizing or hashing change
SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})  # as people name parts
LARGE_FILE = 16_384  # bytes, on average, from which on threads decode faster than one


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    label: int
    test: bool
    size: int
    changed_ns: int


def read(
    path: str,
    input_shape: tuple[int, int, int],
    *,
    skip_broken: bool = False,
    cache_folder: Path | None = None,
    room: int,
) -> Source:
    """Every image under a folder of class folders, in the order of their names.

    Class folders may hold folders of their own and may be symlinks. Files without an image's suffix, hidden ones and
    those beside the class folders are not read. With train/ and test/, in any case, the test folder's images are the
    test set; train/ alone is read as the class folders. Folders beside these two are not read, and refused where they
    are named like another part of a split.

    Args:
        path: the folder; ~ is the user's home.
        input_shape: (channels, height, width): 1 channel makes all images grey, 3 make them RGB.
        skip_broken: leave out images that cannot be decoded, and count them; otherwise they are an error.
        cache_folder: where decoded images are kept between runs, for this listing with its sizes and times.
        room: bytes that decoded images may take; where they need more, each is decoded once for its hash and let go,
            and the source's pixels are the files.

    Raises:
        DataError: no such folder, not readable, not of this form, a class without images, a broken image.
    """
    if not path:
        raise DataError("folder: needs a path, as in --dataset folder:photos")
    root = Path(os.path.expanduser(path)).absolute()  # of an unknown ~user pathlib raises
    classes, files = _listed(root)
    streamed = len(files) * math.prod(input_shape) > room
    # a change of any file's name, size or time is another identity
    stamps = [[os.fsencode(f.path).hex(), f.size, f.changed_ns] for f in files]
    names = ("sums", "hashes") if streamed else ("pixels", "hashes")
    identity = [CACHE_VERSION, PIL.__version__, input_shape, stamps]
    cached = cache.file_of(cache_folder, "sums" if streamed else "images", identity) if cache_folder else None
    decoded = cache.load(cached, names) if cached else None
    if decoded is None or (not skip_broken and not decoded["hashes"].any(axis=1).all()):
        kept, hashes, reasons = _decode(files, input_shape, streamed)
        if reasons and not skip_broken:
            first = min(reasons)
            raise DataError(
                f"{len(reasons)} of {len(files)} images cannot be read, first {shown(files[first].path)} "
                f"({reasons[first]}): mend or remove them, or leave them out with --skip-broken"
            )
        decoded = {names[0]: kept, "hashes": hashes}
        if cached:
            cache.save(cached, decoded)
    hashes, sums_or_pixels = decoded["hashes"], decoded[names[0]]

    good = np.flatnonzero(hashes.any(axis=1))
    every = len(good) == len(files)
    listed = files if every else [files[row] for row in good]
    gone = sorted({(file.test, file.label) for file in files} - {(file.test, file.label) for file in listed})
    if gone:
        raise DataError(
            f"no image of class {shown(classes[gone[0][1]])!r} in {shown(str(root))} can be read: mend them"
        )
    held = sums_or_pixels if every else sums_or_pixels[good]
    labels = np.array([file.label for file in listed], np.int64)
    test = np.array([file.test for file in listed], np.bool_)
    official = any(file.test for file in files)
    return Source(
        name=f"folder:{shown(root.name)}",
        classes=tuple(shown(name) for name in classes),
        pixels=_in_files(listed, input_shape, held) if streamed else held,
        labels=labels,
        hashes=tuple(row.tobytes() for row in hashes[good]),
        official_test=test if official else None,
        path=str(root),
        skipped=len(files) - len(listed),
        own_shape=_own_shape(listed),
    )


def _own_shape(files: list[_File]) -> tuple[int, int, int] | None:
    """(channels, height, width), as stored, of the middle one by height of about 99 spread over the folder.

    Headers alone are read; None where not even these can be.
    """
    shapes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata in a file whose pixels are fine
        for file in files[:: math.ceil(len(files) / 99)]:
            try:
                with Image.open(file.path) as image:
                    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
                    shapes.append((image.height, image.width, 1 if grey else 3))
            except BROKEN:  # gone since it was decoded
                continue
    if not shapes:
        return None
    height, width, _ = sorted(shapes)[len(shapes) // 2]
    return sorted(shape[2] for shape in shapes)[len(shapes) // 2], height, width


def _in_files(files: list[_File], input_shape: tuple[int, int, int], sums: NDArray[np.int64]) -> Files:
    return Files(
        input_shape,
        np.array([os.fsencode(file.path) for file in files]),
        np.array([file.size for file in files], np.int64),
        np.array([file.changed_ns for file in files], np.int64),
        sums,
    )


def _listed(root: Path) -> tuple[list[str], list[_File]]:
    """Class names, sorted, and the files of every class, in order: training folder first."""
    where = shown(str(root))
    form = f"put each class's images into a folder of its own, as {where}/cat/1.jpg, or {where}/train/cat/1.jpg"
    if not root.exists():
        raise DataError(f"folder {where} does not exist: give folder:PATH, and {form}")
    if not root.is_dir():
        raise DataError(f"{where} is a file, not a folder: give folder:PATH, and {form}")
    sides = _sides(root)
    classes = [_folders(side) for side in sides]
    if not classes[0]:
        raise DataError(f"{where} has no class folders: {form}")
    if classes[0] != classes[-1]:
        odd = sorted(set(classes[0]) ^ set(classes[1]))[0]
        raise DataError(
            f"train and test in {where} have different classes, {shown(odd)!r} is in one only: give both the same"
        )
    if len(classes[0]) == 1:
        raise DataError(f"{where} has one class only, {shown(classes[0][0])!r}: two are the least; {form}")
    files = []
    for side in sides:
        for label, name in enumerate(classes[0]):
            found = sorted(images_under(side / name), key=os.fsencode)
            if not found:
                raise DataError(
                    f"class {shown(name)!r} has no image in {shown(str(side))}: add files of "
                    f"{', '.join(sorted(SUFFIXES))}, or remove the folder"
                )
            files += [_file(path, label, side is not sides[0]) for path in found]
    return classes[0], files


def _sides(root: Path) -> list[Path]:
    """The folder that holds the class folders, and the test folder's where there is one."""
    named = _folders(root)
    parts = [name for name in named if name.lower() in SPLITS]
    train, test = (
        [root / name for name in parts if name.lower() == part and _holds_classes(root / name)]
        for part in ("train", "test")
    )
    unknown = any(name.lower() not in ("train", "test") for name in parts) or len(train) > 1 or len(test) > 1
    if parts and ((train and unknown) or (not train and parts == named)):
        raise DataError(
            f"folders in {shown(str(root))} are named like the parts of a split ({', '.join(parts)}): only train/ and "
            "test/ are known, each with a folder for every class; nas splits validation images off train/ itself; "
            "rename the folders or move the others away"
        )
    return [*train, *test] if train else [root]


def _folders(folder: Path) -> list[str]:
    return sorted((entry.name for entry in entries(folder) if entry.is_dir()), key=os.fsencode)


def _holds_classes(folder: Path) -> bool:
    """Whether a folder named train or test is a side of a split, and not a class of images of trains."""
    if not folder.is_dir():
        return False
    inside = entries(folder)
    return any(entry.is_dir() for entry in inside) and not any(is_image(entry) for entry in inside)


def _file(path: str, label: int, test: bool) -> _File:
    try:
        status = os.stat(path)
    except OSError:  # a dangling symlink; decoding will say so
        return _File(path, label, test, 0, 0)
    return _File(path, label, test, status.st_size, status.st_mtime_ns)


def _decode(
    files: list[_File], input_shape: tuple[int, int, int], streamed: bool
) -> tuple[NDArray[Any], NDArray[np.uint8], dict[int, str]]:
    """Of each image its pixels (n, H, W, C), or, streamed, their sums as `Files` has them; and its content's hash.

    The hashes are (n, 32). A broken image has rows of 0, and its reason in the last.
    """
    channels, height, width = input_shape
    shape, kind = ((2, channels), np.int64) if streamed else ((height, width, channels), np.uint8)
    kept = np.zeros((len(files), *shape), kind)
    hashes = np.zeros((len(files), 32), np.uint8)
    reasons: dict[int, str] = {}

    def decode(rows: range) -> None:
        for row in rows:
            try:
                shows = picture(files[row].path)
                pixels = fit(shows, input_shape)
                kept[row] = _sums(pixels) if streamed else pixels
                hashes[row] = np.frombuffer(content_hash(shows), np.uint8)
            except BROKEN as error:
                reasons[row] = why(error, files[row].path)

    chunks = [range(start, min(start + 64, len(files))) for start in range(0, len(files), 64)]
    # Pillow lets go of Python's lock while it decodes, which pays for photographs; with files of a few KB, which are
    # mostly Python's own work, two threads took 1.5 times as long as one
    large = sum(file.size for file in files) > LARGE_FILE * len(files)
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1) if large else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata in a file whose pixels are fine
        try:
            for _ in pool.map(decode, chunks):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
    return kept, hashes, reasons


def _sums(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(H, W, C) -> (2, C): sums of the pixels and of their squares."""
    rows = pixels.reshape(-1, pixels.shape[-1]).astype(np.int64)
    return np.stack([rows.sum(axis=0), (rows**2).sum(axis=0)])
