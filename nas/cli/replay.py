"""`nas replay`: searches on recorded curves, in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Json


def replay(
    table: Annotated[
        Path, typer.Argument(help="Recorded curves: a file of [b]nas records export[/], such as studies/bench-*.csv.gz")
    ],
    sampler: Annotated[
        str,
        typer.Option(
            help="One or more, with commas between: [b]random[/], [b]sobol[/], [b]nsga2[/], [b]tpe[/], "
            "[b]cost-aware[/], and [b]gp[/] (seconds a proposal)."
        ),
    ] = "random",
    pruner: Annotated[
        str,
        typer.Option(
            help="One or more: [b]none[/], [b]conformal[/], [b]conformal-stop[/], [b]moasha[/], [b]rank-median[/], "
            "[b]asha[/], [b]one-epoch[/]."
        ),
    ] = "conformal",
    trials: Annotated[int, typer.Option(help="Of each search.")] = 200,
    workers: Annotated[int, typer.Option(help="That train at once, by the simulated clock.")] = 4,
    seeds: Annotated[int, typer.Option(help="Searches of each setting.")] = 20,
    rule: Annotated[
        str, typer.Option(help="Leave out networks that break it: [b]growing[/], [b]growing-each[/], [b]off[/].")
    ] = "off",
    jobs: Annotated[int | None, typer.Option(help="Processes. Default: one a core.")] = None,
    json: Json = False,
    plot: Annotated[
        Path | None, typer.Option(help="Write an HTML page with hypervolume and attainment curves.", metavar="FILE")
    ] = None,
) -> None:
    """Search a table of recorded curves with the samplers, pruners and workers of a real search.

    Several samplers or pruners are all combined; each is compared with the first by pairs of equal seeds.
    """
    from nas.cli.output import print_json, print_table, say
    from nas.errors import StudyError
    from nas.report.replays import check_place, write_page
    from nas.search.contest import Contest, Setting, play
    from nas.search.machine import cores
    from nas.search.standings import as_json, notes, standings

    contest = Contest(table, rule, trials, workers, seeds)
    settings = list(dict.fromkeys(Setting(s, p) for s in _names(sampler) for p in _names(pruner)))
    if jobs is not None and jobs < 1:
        raise StudyError(f"--jobs {jobs}: it must be a whole number of at least 1")
    read = contest.check(settings)
    if plot is not None:
        check_place(plot)  # now, not after a minute
    scores = play(contest, settings, jobs or min(cores(), len(settings) * seeds))
    if plot is not None:
        write_page(plot, contest, read, scores)
        say(f"wrote {plot}")
    if json:
        print_json(as_json(contest, read, scores))
        return
    for number, (columns, lines) in enumerate(standings(read, scores)):
        if number:
            print()
        print_table(columns, lines, left=("sampler", "pruner"))
    for line in notes(contest, read, scores):
        say(line)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] or [text]
