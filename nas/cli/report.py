"""`nas report`: the whole search on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir

Studies = Annotated[
    list[str], typer.Argument(help="Name of the study. Of several one page compares them.", metavar="STUDY...")
]
Output = Annotated[
    Path | None,
    typer.Option(
        help="HTML file to write. Default: report.html in the study's folder; of several compare-NAMES.html beside "
        "their folders."
    ),
]

Latency = Annotated[
    bool,
    typer.Option(
        "--latency", help="Measure the front's and the refined networks on this CPU first; later reports show it too."
    ),
]
Png = Annotated[
    Path | None, typer.Option("--png", help="Also write the figures into this folder as PNG files, by a browser.")
]


def report(
    studies: Studies,
    output: Output = None,
    latency: Latency = False,
    png: Png = None,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Write one HTML page that opens offline: front, known networks, hypervolume, learning curves, shares by depth,
    what matters, readings of the test images, redundant channels, how it was run.

    Of several studies of the same images: their fronts and hypervolume, a table with intervals where studies differ by
    their seed alone, and what differs.
    """
    from nas.errors import StudyError

    if len(studies) > 1:
        from nas.cli.report_several import report_several

        if latency:
            raise StudyError("--latency measures the networks of one study; give it with each `nas report STUDY` alone")
        if png is not None:
            raise StudyError("--png draws the figures of one study; give it with each `nas report STUDY` alone")
        report_several(studies, output, studies_dir, storage)
        return
    (study,) = studies
    from nas import redundancy, seal
    from nas.baseline_rows import baselines
    from nas.cli.options import database_url, open_records, say_where
    from nas.cli.output import say
    from nas.database import masked, parse_url
    from nas.headline import study_headline
    from nas.held import held
    from nas.outcome import Outcome
    from nas.refined import refinements
    from nas.report.latency import measure_latency, read_latency, worth_measuring
    from nas.report.page import page, write_page

    folder, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        outcome = Outcome.read(records, study)
        known = held(baselines(records, records.study(study).id))
        trainings = refinements(records, records.study(study).id)
        advantage = study_headline(records, outcome)
        read = seal.look(studies_dir, records, outcome.identity["data"]["images"])
    say_where(folder, outcome)
    networks = worth_measuring(outcome, trainings) if latency else []
    if latency and not networks:
        say("No trial is complete yet, so there is no latency to measure.")
    if networks:
        say(f"Measuring the latency of {len(networks):,} networks on the CPU, with one thread.")
    times = measure_latency(folder.latency, study, networks) if networks else read_latency(folder.latency, study)
    measured, broken = redundancy.read_all(folder.redundancy)
    path = folder.report if output is None else output
    shown_dir = None if studies_dir == STUDIES else studies_dir
    text = page(
        outcome,
        studies_dir=shown_dir,
        storage=None if storage is None else masked(parse_url(storage)),
        seal=read,
        redundancy=measured,
        broken=broken,
        known=known,
        advantage=advantage,
        trainings=trainings,
        latency=times,
    )
    write_page(text, path)
    say(outcome.headline)
    print(path)
    if png is not None:  # after the page, which needs no browser
        from nas.report.png import pictures, write_pngs

        for picture in write_pngs(pictures(outcome, known, trainings), png):
            print(picture)
