"""`nas redundancy`: how many of a trained network's channels say the same, and what its reductions need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, Study, command_of

if TYPE_CHECKING:
    from nas.redundancy import Redundancy

Picks = Annotated[
    list[str],
    typer.Option(
        "--pick",
        help="[b]best[/], [b]knee[/], [b]trial:N[/], [b]under:500k[/] or [b]smallest:0.95[/], among the refined "
        "networks where there are some; several times for several networks.",
    ),
]
Correlation = Annotated[
    float, typer.Option(help="Mean |r| between channels from which on they are one cluster, above 0 and at most 1.")
]
Images = Annotated[int, typer.Option(help="Validation images to measure on, evenly spread where there are more.")]
AsIs = Annotated[bool, typer.Option("--as-is", help="The search's own networks and weights, refined or not.")]
Dataset = Annotated[
    str | None,
    typer.Option(help="Where the study's images are now, as [b]folder:PATH[/]. Default: where the search read them."),
]
Device = Annotated[str, typer.Option(help="[b]auto[/], [b]cpu[/], [b]cuda[/] or [b]cuda:N[/].")]


def redundancy(
    context: typer.Context,
    study: Study,
    pick: Picks,
    correlation: Correlation = 0.9,
    images: Images = 1_000,
    as_is: AsIs = False,
    dataset: Dataset = None,
    device: Device = "auto",
    json: Json = False,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Correlate a trained network's channels on validation images, branch by branch; nas report draws them."""
    from nas import redundancy as found_in
    from nas import refined
    from nas.chosen import choose
    from nas.cli.options import database_url, open_records, say_where
    from nas.cli.output import print_json, say
    from nas.outcome import Outcome

    found_in.check_correlation(correlation)
    folder, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        outcome = Outcome.read(records, study)
        full = refined.networks(outcome.rows, refined.refinements(records, records.study(study).id))
    say_where(folder, outcome)
    chosen = choose(folder, outcome, full, pick, as_is=as_is)

    from nas.activations import measure

    measured = measure(
        outcome,
        chosen,
        correlation=correlation,
        most=images,
        dataset=dataset,
        device=device,
        cache=studies_dir / ".cache",
        command=command_of(context, storage),
    )
    paths = [found_in.write(folder.redundancy, one) for one in measured]
    if json:
        print_json([{**one.to_json(), "file": str(path)} for one, path in zip(measured, paths, strict=True)])
    else:
        for one in measured:
            _print(one)
        say(found_in.legend(measured[0]))
    for path in paths:
        say(f"Kept in {path}; `nas report` draws it.")


def _print(found: Redundancy) -> None:
    from nas.cli.output import print_table
    from nas.redundancy import BRANCH_COLUMNS, REDUCTION_COLUMNS, branch_rows, notes, reduction_rows

    print(f"{found.title}; {found.words}\n")
    print_table(BRANCH_COLUMNS, branch_rows(found), left=["branch", "dead"])
    print("\nWidth of the reductions:")
    print_table(REDUCTION_COLUMNS, reduction_rows(found), left=["branch"])
    print("".join(f"\n{line}" for line in notes(found)), end="\n\n")
