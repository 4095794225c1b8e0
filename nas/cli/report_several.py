"""`nas report STUDY STUDY...`: several studies on one page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote


def report_several(studies: Sequence[str], output: Path | None, studies_dir: Path, storage: str | None) -> None:
    """Write the page that compares `studies`, at least two.

    Raises:
        NasError: one of them is not there, out of reach, named twice, or cannot be compared with another; nothing is
            written then.
    """
    from nas.cli.options import database_url, open_records
    from nas.cli.output import say
    from nas.errors import StudyError
    from nas.headline import study_headline, study_line
    from nas.outcome import Outcome
    from nas.refined import networks, refinements
    from nas.report.compare import Entry, check
    from nas.report.compare_page import compare_page
    from nas.report.page import write_page

    for number, study in enumerate(studies):
        if study in studies[:number]:
            raise StudyError(f"study {study!r} is named twice; name each study of a comparison once")
    path = studies_dir / page_name(studies) if output is None else output
    places = [database_url(study, studies_dir, storage) for study in studies]
    entries = []
    for study, (folder, url) in zip(studies, places, strict=True):
        with open_records(url) as records:
            outcome = Outcome.read(records, study)
            trainings = refinements(records, records.study(study).id)
            advantage, line = study_headline(records, outcome), tuple(study_line(records, outcome))
        link = quote(os.path.relpath(folder.report, path.absolute().parent)) if folder.report.is_file() else None
        entries.append(Entry(outcome, tuple(networks(outcome.rows, trainings)), advantage, line, link))
    check([entry.outcome for entry in entries])
    write_page(compare_page(entries), path)
    for entry in entries:
        say(entry.outcome.headline)
    print(path)


def page_name(studies: Sequence[str]) -> str:
    """``compare-A-B.html``; of long names the first one and how many more."""
    name = f"compare-{'-'.join(studies)}.html"
    return name if len(name.encode()) <= 200 else f"compare-{studies[0]}-and-{len(studies) - 1}-more.html"
