"""The machine's clock is set back an hour while a search runs: it ends as it would have, and no record is odd."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.searches import check, command, search, wait_for
from tests.test_search import open_trials

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* One hour less from the moment a file is there; the clock that only runs forward is left alone, as Linux does. */
static long back(void) {
    const char *file = getenv("SET_BACK");
    return file && access(file, F_OK) == 0 ? 3600 : 0;
}
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, now);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec -= back();
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "gettimeofday");
    int failed = real(now, zone);
    if (!failed) now->tv_sec -= back();
    return failed;
}
time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that, once it is there, sets back the clock of every program started from here."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the clock is set back by a small C library, and there is no C compiler")
    library, file = tmp_path / "clock.so", tmp_path / "set-back"
    made = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), "-x", "c", "-", "-ldl"]
    subprocess.run(made, input=SHIM, text=True, check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("SET_BACK", str(file))
    return file


@pytest.mark.parametrize(
    ("trials", "options"),
    [
        (1, ("--workers", "1", "--timeout", "600")),
        pytest.param(12, ("--workers", "2"), marks=pytest.mark.slow),
        pytest.param(12, ("--workers", "2", "--timeout", "600"), marks=pytest.mark.slow),
    ],
)
def test_a_search_ends_with_its_total_though_the_clock_is_set_back(
    tmp_path: Path, clock: Path, trials: int, options: tuple[str, ...]
) -> None:
    studies = tmp_path / "studies"
    process = subprocess.Popen(
        command(studies, "--trials", str(trials), "--epochs", "20", *options), stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: any(trial.intermediate_values for trial in open_trials(studies)))
        clock.touch()
        said = process.communicate(timeout=200)[1]
    finally:
        process.kill()
    assert process.returncode == 0, said
    for row in check(studies, trials):
        assert row.seconds >= 0
        assert row.started_at <= row.finished_at <= datetime.now(UTC)


@pytest.mark.slow
def test_a_search_goes_on_with_a_clock_before_everything_on_record(tmp_path: Path, clock: Path) -> None:
    studies = tmp_path / "studies"
    search(studies, "--trials", "6")
    clock.touch()
    search(studies, "--trials", "9")
    found = check(studies, 9)
    assert any((datetime.now(UTC) - row.finished_at).total_seconds() > 3_000 for row in found), "it was not set back"
    assert all(row.seconds >= 0 for row in found)
