"""The shell command `nas`: one command a file; each parses, calls the library and prints.

Nothing here imports torch, Optuna or plotly until a command needs it: `nas --help` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer

from nas.cli.baselines import app as baselines
from nas.cli.bench_model import bench_model
from nas.cli.dashboard import dashboard
from nas.cli.doctor import doctor
from nas.cli.export import export
from nas.cli.front import front
from nas.cli.output import printable
from nas.cli.predict import predict
from nas.cli.records import app as records
from nas.cli.redundancy import redundancy
from nas.cli.refine import refine
from nas.cli.replay import replay
from nas.cli.report import report
from nas.cli.rule import rule
from nas.cli.search import search
from nas.cli.secret import conceal, masked
from nas.cli.show import show
from nas.cli.spaces import app as spaces
from nas.cli.status import status
from nas.cli.studies import app as studies
from nas.cli.test import read_test
from nas.cli.worker import worker
from nas.errors import NasError

# What the machine can refuse on a user's path; every other OSError is a fault of ours and keeps its traceback.
REFUSED = {
    errno.EACCES: "no permission",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "the name is too long",
}

LONGEST = 2000
"""Characters of a message; what was given may be a whole file."""

app = typer.Typer(
    name="nas",
    help="Search Inception-module widths for small, accurate image classifiers.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    search,
    worker,
    status,
    front,
    show,
    rule,
    refine,
    redundancy,
    report,
    export,
    predict,
    bench_model,
    dashboard,
    replay,
    doctor,
):
    app.command()(command)
app.command("test")(read_test)
app.add_typer(baselines, name="baselines")
app.add_typer(spaces, name="spaces")
app.add_typer(records, name="records")
app.add_typer(studies, name="studies")


def _version(wanted: bool) -> None:
    if wanted:
        from nas import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: as after `nas`; None takes this process's.

    Returns:
        Exit code: 0 done; 1 a user's mistake, said on stderr in one line; 130 interrupted. Faults of ours raise.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        conceal(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        code = typer.main.get_command(app).main(words or ["--help"], prog_name="nas", standalone_mode=False, obj=words)
        sys.stdout.flush()
    except (NasError, typer.TyperException) as error:
        return _say(str(error) if isinstance(error, NasError) else _said(error, words))
    except BrokenPipeError:  # `nas front digits | head -1`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        return _say(f"cannot use {str(error.filename or 'the disk')!r}: {REFUSED[error.errno]}")
    return code if isinstance(code, int) else 0


def _said(error: typer.TyperException, words: Sequence[str]) -> str:
    """Typer's message, with the value that was given where it leaves that out; of several the last one counts."""
    message = error.format_message()
    names = getattr(getattr(error, "param", None), "opts", ())
    for word, following in reversed([*pairwise([*words, ""])]):
        name, equals, value = word.partition("=")
        if name in names:
            given = value if equals else following
            return message if given in message else f"{name} {given!r}: {message}"
    return message


def _say(message: str) -> int:
    line = masked(printable(" ".join(message.split())))
    print("nas: " + (line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."), file=sys.stderr)
    return 1
