"""A disk that fills up or becomes read-only under a search: one line, nothing half-written, and the search goes on."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.doctor import examine
from nas.study_folder import StudyFolder
from tests.searches import check, ended, rows, running, search, wait_for


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Every byte that is left, in one file."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return filler


def half_written(studies: Path) -> list[Path]:
    """Files beside others that nobody will finish; SQLite's own are its."""
    return [path for path in studies.rglob(".*.*") if path.is_file()]


def errors(said: str) -> list[str]:
    """The lines that end a search, and none of a fault of ours."""
    assert "Traceback" not in said, said
    assert "a fault of nas" not in said, said
    return [line for line in said.splitlines() if line.startswith("nas: ")]


def whole(studies: Path) -> None:
    """As `nas doctor` sees it; what a search that ended by itself leaves is nothing."""
    folder = StudyFolder(studies, "tiny")
    assert [problem.words for finding in examine(folder, folder.url) for problem in finding.problems] == []


def test_a_full_disk_ends_the_search_in_one_line_and_loses_nothing(small_disk: Path) -> None:
    search(small_disk, "--trials", "2", "--epochs", "1")
    before = rows(small_disk)
    filler = fill(small_disk)
    said = errors(search(small_disk, "--trials", "40", "--epochs", "1", code=1))
    assert len(said) == 1
    assert "space on the disk" in said[0] or "No space left" in said[0]
    assert not half_written(small_disk)
    filler.unlink()
    search(small_disk, "--trials", "4", "--epochs", "1")
    assert [row for row in check(small_disk, 4) if row.trial < 2] == before
    whole(small_disk)


def test_a_read_only_folder_is_said(small_disk: Path) -> None:
    search(small_disk, "--trials", "1", "--epochs", "1")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert len(rows(small_disk)) == 1  # it can still be read
    folder = StudyFolder(small_disk, "tiny")
    assert examine(folder, folder.url)
    said = errors(search(small_disk, "--trials", "2", "--epochs", "1", code=1))
    assert len(said) == 1
    assert "read-only" in said[0] or "cannot be" in said[0]
    words = search(small_disk / "new", "--trials", "2", "--epochs", "1", code=1)
    assert len(words.strip().splitlines()) == 1
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    search(small_disk, "--trials", "2", "--epochs", "1")
    check(small_disk, 2)


@pytest.mark.slow
def test_a_disk_that_fills_up_again_and_again_under_a_search(small_disk: Path) -> None:
    """At whatever moment: weights, a checkpoint, a record or Optuna's tables are what does not fit any more."""
    total = 14
    options = ("--trials", str(total), "--workers", "2", "--epochs", "2")
    for _ in range(3):
        done = ended(small_disk)
        with running(small_disk, *options) as process:
            wait_for(lambda done=done: ended(small_disk) >= done + 2)  # type: ignore[misc]
            filler = fill(small_disk)
            said = process.communicate(timeout=120)[1]
        assert process.returncode == 1, said
        last = errors(said)
        assert len(last) == 1, said
        assert re.search("space on the disk|No space left|free it", last[0]), said
        assert not half_written(small_disk)
        before = {row.trial: row for row in rows(small_disk) if row.state in ("complete", "pruned")}
        filler.unlink()
        now = {row.trial: row for row in rows(small_disk)}
        assert before.items() <= now.items()
    search(small_disk, *options)
    check(small_disk, total)
    whole(small_disk)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_under_a_search(small_disk: Path) -> None:
    """A bind mount over the study's folder, as a disk with an error is remounted by the kernel under open files."""
    search(small_disk, "--trials", "1", "--epochs", "2")
    folder = StudyFolder(small_disk, "tiny").path
    options = ("--trials", "6", "--epochs", "2")
    with running(small_disk, *options) as process:
        wait_for(lambda: ended(small_disk) >= 2)
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        try:
            said = process.communicate(timeout=120)[1]
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    # What is open stays open to whoever has it, so a search may even end well; it never ends with a fault of ours.
    assert process.returncode in (0, 1), said
    assert len(errors(said)) == process.returncode, said
    search(small_disk, *options)
    check(small_disk, 6)
