"""Data goes to stdout, words to stderr; a table keeps all of its columns, however narrow the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any


def printable(text: str) -> str:
    """Text from a file or a name, as a terminal may show it: what would move its cursor or colour is escaped.

    Lines and tabs stay; so does all that is a letter, a number or a mark in any script.
    """
    return "".join(c if c.isprintable() or c in "\n\t\u00a0\u200d" else ascii(c)[1:-1] for c in text)


def say(text: str) -> None:
    """One line for the person, on stderr."""
    print(printable(text), file=sys.stderr)


def nobody_reads() -> None:
    """Let all that is still to be said go nowhere: who would read it is gone, a pipe's reader or a terminal."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def print_json(data: Any) -> None:
    """JSON on stdout; a NaN would not be JSON and is refused with ValueError."""
    print(json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = ()) -> None:
    """A table on stdout; numbers to the right, the columns named in `left` to the left."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: a [bracket] in a reason is no markup
    # A terminal too narrow breaks the lines; rich would cut names and numbers off until nothing can be read.
    Console(file=sys.stdout, highlight=False, width=200).print(table)
