"""One tree of errors: each message is one line that says what was given, what is allowed and what to do."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class NasError(Exception):
    """A mistake that the user, or the machine, can mend. The command line prints it as one line and exits with 1."""


class ArchitectureError(NasError):
    """A network that cannot exist: a width below one, a map that vanishes, JSON of another shape."""


class SpaceError(NasError):
    """A search space that is unknown, malformed, contradictory, or empty under the budget."""


class DataError(NasError):
    """Images that are missing, broken, too few, or do not fit the space's input."""


class StudyError(NasError):
    """A study that is missing, damaged, made from other settings, or out of reach."""


class ExportError(NasError):
    """A model that cannot be written, or that does not give the accuracy on record once written."""


class DeviceError(NasError):
    """A device that was asked for and is not there."""


class DeviceFullError(DeviceError):
    """A device whose memory does not take the images beside what others hold there."""


class TrialFailed(NasError):  # noqa: N818  (a result of one trial, not a fault of the program)
    """A training that ended without a result; the search records the reason and goes on.

    Args:
        reason: one line for the trial's record.
        deterministic: the same network would fail again (a loss that is not finite), so it is not tried again.
    """

    def __init__(self, reason: str, *, deterministic: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.deterministic = deterministic


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Name `path` in what the machine refuses while it is written, instead of a file beside it.

    Raises:
        NasError: its folder cannot be made, as under /proc or where there is a file of its name.
        OSError: anything else, with `path` as its file name.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise NasError(f"cannot use {str(path)!r}: no folder can be made there") from error
    except FileExistsError as error:
        raise NasError(f"cannot use {str(path)!r}: a part of the path is a file") from error
    except OSError as error:
        # without a number it is a library's own words, which would be lost
        if error.errno is not None:
            raise OSError(error.errno, error.strerror or errno.errorcode[error.errno], str(path)) from error
        raise


def choices(what: str, given: str, allowed: Iterable[str]) -> str:
    """The one line for an unknown name: what was given, the nearest known one, and all that are allowed."""
    known = sorted(allowed)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {what} {given!r}: {hint}allowed: {', '.join(known)}"
