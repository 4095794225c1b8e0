"""`nas report`: the whole search on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir, Study

Output = Annotated[Path | None, typer.Option(help="HTML file to write. Default: report.html in the study's folder.")]


def report(study: Study, output: Output = None, studies_dir: StudiesDir = STUDIES, storage: Storage = None) -> None:
    """Write one HTML page that opens offline: front, known networks, learning curves, shares by depth, readings
    of the test images, redundant channels, how it was run."""
    from nas import redundancy, seal
    from nas.baseline_rows import baselines
    from nas.cli.options import database_url, open_records
    from nas.cli.output import say
    from nas.headline import study_headline
    from nas.held import held
    from nas.outcome import Outcome
    from nas.report.page import write_report

    folder, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        outcome = Outcome.read(records, study)
        known = held(baselines(records, records.study(study).id))
        advantage = study_headline(records, outcome)
        read = seal.look(studies_dir, records, outcome.identity["data"]["images"])
    measured, broken = redundancy.read_all(folder.redundancy)
    path = folder.report if output is None else output
    shown_dir = None if studies_dir == STUDIES else studies_dir
    write_report(
        outcome,
        path,
        studies_dir=shown_dir,
        seal=read,
        redundancy=measured,
        broken=broken,
        known=known,
        advantage=advantage,
    )
    say(outcome.headline)
    print(path)
