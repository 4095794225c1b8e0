"""`nas baselines line`: GoogLeNet's proportions at many widths, trained as a study's trials are."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, Study

Points = Annotated[int, typer.Option(help="Networks, spread evenly over the study's costs on a log scale.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would train and how long that should take.")]
Workers = Annotated[int | None, typer.Option(help="Processes on this machine. Default: as for [b]nas search[/].")]
Device = Annotated[str, typer.Option(help="[b]auto[/], [b]cpu[/], [b]cuda[/] or [b]cuda:N[/].")]
Dataset = Annotated[
    str | None,
    typer.Option(help="Where the study's images are now, as [b]folder:PATH[/]. Default: where the search read them."),
]


def line(
    study: Study,
    points: Points = 8,
    dry_run: DryRun = False,
    json: Json = False,
    workers: Workers = None,
    device: Device = "auto",
    dataset: Dataset = None,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Train the line that a search has to beat: GoogLeNet's proportions at many widths, in the study's space.

    Of K modules, module k has the widths of GoogLeNet's module round(8 (k-1) / (K-1)), times one multiplier.

    Inside the budget; the growth rule may break. The same command again trains nothing twice.
    """
    from nas.cli.options import database_url, open_records
    from nas.outcome import Outcome
    from nas.refine.line import train_line
    from nas.refine.options import RefineOptions
    from nas.search.machine import usual_workers
    from nas.study_space import study_space

    _, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        outcome = Outcome.read(records, study)
    space = study_space(outcome)
    options = RefineOptions(
        study=study,
        url=url,
        studies_dir=str(studies_dir),
        epochs=space.recipe.epochs,
        workers=usual_workers(space.input_shape, device) if workers is None else workers,
        device=device,
        dataset=dataset,
    )
    code = train_line(options, points, dry_run=dry_run)
    if not dry_run and code != 130:
        _print(study, url, json=json)
    raise typer.Exit(code)


def _print(study: str, url: str, *, json: bool) -> None:
    from nas.architecture import first_fall
    from nas.baseline_rows import baselines
    from nas.cli.baselines_train import plain
    from nas.cli.options import open_records
    from nas.cli.output import print_json, print_table, say
    from nas.outcome import Outcome

    with open_records(url) as records:
        outcome = Outcome.read(records, study)
        rows = [one for one in baselines(records, records.study(study).id) if one.kind == "line"]
    rows.sort(key=lambda one: one.cost(outcome.cost))
    if json:
        print_json([plain(outcome, one) for one in rows])
        return
    falls = [None if one.architecture is None else first_fall(one.architecture, outcome.rule) for one in rows]
    print_table(
        ["network", "params", "MACs", f"val {outcome.metric_words}", "epochs", "seconds", f"rule {outcome.rule}"],
        [
            [
                one.name,
                f"{one.params:,}",
                f"{one.macs:,}",
                f"{one.val_accuracy:.4f}",
                str(one.epochs),
                f"{one.seconds:.1f}",
                "holds" if fall is None else f"falls at module {fall + 1}",
            ]
            for one, fall in zip(rows, falls, strict=True)
        ],
        left=["network", f"rule {outcome.rule}"],
    )
    say(f"nas front {study} holds the front against it.")
