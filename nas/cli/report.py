"""`nas report`: the whole search on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir, Study

Output = Annotated[Path | None, typer.Option(help="HTML file to write. Default: report.html in the study's folder.")]


def report(study: Study, output: Output = None, studies_dir: StudiesDir = STUDIES, storage: Storage = None) -> None:
    """Write one HTML page that opens offline: front, learning curves, shares by depth, how it was run."""
    from nas.cli.options import read_outcome
    from nas.cli.output import say
    from nas.report.page import write_report

    folder, outcome = read_outcome(study, studies_dir, storage)
    path = folder.report if output is None else output
    write_report(outcome, path, studies_dir=None if studies_dir == STUDIES else studies_dir)
    say(outcome.headline)
    print(path)
