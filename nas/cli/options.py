"""Arguments and options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.secret import STORAGE

if TYPE_CHECKING:
    from nas.outcome import Outcome
    from nas.records import Records
    from nas.study_folder import StudyFolder

Study = Annotated[str, typer.Argument(help="Name of the study, as given to [b]nas search[/].")]
StudiesDir = Annotated[Path, typer.Option(help="Folder that holds the studies.")]
Storage = Annotated[
    str | None,
    typer.Option(help="Database URL, where the study is not in its own folder.", metavar="URL", envvar=STORAGE),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
STUDIES = Path("studies")


def count(text: str) -> int:
    """Typer's parser of a whole number that may end in k or M."""
    from nas.errors import StudyError
    from nas.outcome import count_of

    try:
        return count_of(text)
    except StudyError as error:
        raise typer.BadParameter(str(error)) from error


def command_of(context: typer.Context, storage: str | None) -> str:
    """The shell command for a record, without the password of `--storage`.

    Raises:
        StudyError: `storage` is no URL.
    """
    import shlex

    from nas.cli.output import printable

    words: list[str] = ["nas", *context.obj]
    if storage is not None:
        from nas.database import masked, parse_url

        said = masked(parse_url(storage))
        given = any(storage in word for word in words)  # else it came from the environment
        words = [word.replace(storage, said) for word in words] if given else [*words, "--storage", said]
    return printable(shlex.join(words))


def database_url(study: str, studies_dir: Path, storage: str | None) -> tuple[StudyFolder, str]:
    """The study's folder and its database's URL; nothing is made on disk.

    Raises:
        StudyError: there is no such study in `studies_dir`, or `storage` is no URL or names a missing SQLite file.
    """
    from nas.study_folder import StudyFolder

    if storage is None:
        folder = StudyFolder.existing(studies_dir, study)
        return folder, folder.url
    from nas.database import parse_url
    from nas.errors import StudyError

    url = parse_url(storage)
    # Opening a SQLite file that is not there would make an empty one.
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise StudyError(f"--storage: there is no file {url.database!r}; check the path after sqlite:///")
    return StudyFolder(studies_dir, study), storage


@contextmanager
def open_records(url: str) -> Iterator[Records]:
    """The records at a URL, closed at the end.

    Raises:
        StudyError: they are out of reach, damaged, or of a newer nas.
    """
    from nas.records import Records

    records = Records(url)
    try:
        records.check_version()
        yield records
    finally:
        records.close()


def say_where(folder: StudyFolder, outcome: Outcome) -> None:
    """Say on standard error where this is not the folder in which the study's weights are kept."""
    from nas.files import elsewhere

    line = elsewhere(folder, outcome.settings)
    if line is not None:
        print(f"Warning: {line}", file=sys.stderr)


def read_outcome(study: str, studies_dir: Path, storage: str | None) -> tuple[StudyFolder, Outcome]:
    """The study's folder and what it found, read by SQL without Optuna."""
    from nas.outcome import Outcome

    folder, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        return folder, Outcome.read(records, study)
