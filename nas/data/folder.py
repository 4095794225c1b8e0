"""`folder:PATH`: a user's own images, one folder a class, or train/ and test/ with one folder a class in each."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nas.data import cache
from nas.data.source import Source, content_hash, fit, upright
from nas.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
CACHE_VERSION = 1  # of what a cached file means: grows when decoding, resizing or hashing change
SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})  # as people name parts
LARGE_FILE = 16_384  # bytes, on average, from which on threads decode faster than one
# What Pillow's readers raise on damaged files: its own Image.open counts the middle four as "cannot identify"
BROKEN = (OSError, SyntaxError, IndexError, TypeError, struct.error, ValueError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    label: int
    test: bool
    size: int
    changed_ns: int


def read(
    path: str, input_shape: tuple[int, int, int], *, skip_broken: bool = False, cache_folder: Path | None = None
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

    Raises:
        DataError: no such folder, not readable, not of this form, a class without images, a broken image.
    """
    if not path:
        raise DataError("folder: needs a path, as in --dataset folder:photos")
    root = Path(path).expanduser().absolute()
    classes, files = _listed(root)
    # a change of any file's name, size or time is another identity
    stamps = [[os.fsencode(f.path).hex(), f.size, f.changed_ns] for f in files]
    identity = [CACHE_VERSION, PIL.__version__, input_shape, stamps]
    cached = cache.file_of(cache_folder, identity) if cache_folder else None
    decoded = cache.load(cached) if cached else None
    if decoded is None or (not skip_broken and not decoded[1].any(axis=1).all()):
        pixels, hashes, reasons = _decode(files, input_shape)
        if reasons and not skip_broken:
            first = min(reasons)
            raise DataError(
                f"{len(reasons)} of {len(files)} images cannot be read, first {shown(files[first].path)} "
                f"({reasons[first]}): mend or remove them, or leave them out with --skip-broken"
            )
        if cached:
            cache.save(cached, pixels, hashes)
    else:
        pixels, hashes = decoded

    good = np.flatnonzero(hashes.any(axis=1))
    kept = [files[row] for row in good]
    gone = sorted({(file.test, file.label) for file in files} - {(file.test, file.label) for file in kept})
    if gone:
        raise DataError(
            f"no image of class {shown(classes[gone[0][1]])!r} in {shown(str(root))} can be read: mend them"
        )
    labels = np.array([file.label for file in kept], np.int64)
    test = np.array([file.test for file in kept], np.bool_)
    official = any(file.test for file in files)
    return Source(
        name=f"folder:{shown(root.name)}",
        classes=tuple(shown(name) for name in classes),
        pixels=pixels if len(good) == len(files) else pixels[good],
        labels=labels,
        hashes=tuple(row.tobytes() for row in hashes[good]),
        official_test=test if official else None,
        path=str(root),
        skipped=len(files) - len(kept),
    )


def shown(text: str) -> str:
    """A name for one line of a terminal: what cannot be printed, or is no Unicode, as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


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
            found = sorted(_images(side / name), key=os.fsencode)
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


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith((".", "__MACOSX", "@eaDir"))]
    except OSError as error:
        raise DataError(
            f"folder {shown(str(folder))} cannot be read: {error.strerror}; check its permissions"
        ) from error


def _folders(folder: Path) -> list[str]:
    return sorted((entry.name for entry in _entries(folder) if entry.is_dir()), key=os.fsencode)


def _holds_classes(folder: Path) -> bool:
    """Whether a folder named train or test is a side of a split, and not a class of images of trains."""
    if not folder.is_dir():
        return False
    entries = _entries(folder)
    return any(entry.is_dir() for entry in entries) and not any(_is_image(entry) for entry in entries)


def _is_image(entry: os.DirEntry[str]) -> bool:
    # a dangling symlink counts: it is reported as broken, not passed over
    return os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.is_dir()


def _images(folder: str | Path) -> Iterator[str]:
    """Paths of all images under a folder; a symlink that leads into its own parents is read once."""
    seen: set[str] = set()
    todo = [str(folder)]
    while todo:
        place = todo.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(place):
            if entry.is_dir():
                todo.append(entry.path)
            elif _is_image(entry):
                yield entry.path


def _file(path: str, label: int, test: bool) -> _File:
    try:
        status = os.stat(path)
    except OSError:  # a dangling symlink; decoding will say so
        return _File(path, label, test, 0, 0)
    return _File(path, label, test, status.st_size, status.st_mtime_ns)


def _decode(
    files: list[_File], input_shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[int, str]]:
    """Pixels (n, H, W, C), content hashes (n, 32) and the reason for each broken image, whose rows are 0."""
    channels, height, width = input_shape
    pixels = np.zeros((len(files), height, width, channels), np.uint8)
    hashes = np.zeros((len(files), 32), np.uint8)
    reasons: dict[int, str] = {}

    def decode(rows: range) -> None:
        for row in rows:
            try:
                with Image.open(files[row].path) as image:
                    picture = upright(image)
                pixels[row] = fit(picture, input_shape)
                hashes[row] = np.frombuffer(content_hash(picture), np.uint8)
            except UnidentifiedImageError:
                reasons[row] = "cannot identify image file"  # Pillow's own words name the path again, as its repr
            except BROKEN as error:
                reasons[row] = shown(str(error).replace(files[row].path, "file"))[:200] or type(error).__name__

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
    return pixels, hashes, reasons
