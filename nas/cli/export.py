"""`nas export`: take a network away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir, Study, command_of

Pick = Annotated[
    str,
    typer.Option(
        help="[b]best[/], [b]knee[/], [b]trial:N[/], [b]under:500k[/] (the best of at most that cost) or "
        "[b]smallest:0.95[/] (the cheapest of at least that accuracy), among the refined networks where there are some."
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="LIST",
        help="Of [b]onnx[/], [b]pt2[/], [b]safetensors[/] and [b]source[/] (model.py), with commas between.",
    ),
]
Output = Annotated[
    Path | None, typer.Option(help="Folder to make. Default: export/PICK in the study's folder, replaced if there.")
]
AsIs = Annotated[bool, typer.Option("--as-is", help="The search's own network and weights, refined or not.")]
Uint8 = Annotated[
    bool, typer.Option("--uint8", help="The ONNX files take pictures as they are decoded: uint8, N x H x W x C.")
]
Int8 = Annotated[
    bool, typer.Option("--int8", help="Write model-int8.onnx too, quantised to 8 bits, and say its accuracy.")
]
Dataset = Annotated[
    str | None,
    typer.Option(help="Where the study's images are now, as [b]folder:PATH[/]. Default: where the search read them."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export at --output.")]


def export(
    context: typer.Context,
    study: Study,
    pick: Pick,
    formats: Format = "onnx,pt2,safetensors,source",
    output: Output = None,
    as_is: AsIs = False,
    uint8: Uint8 = False,
    int8: Int8 = False,
    overwrite: Overwrite = False,
    dataset: Dataset = None,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Write a network as ONNX, torch program, safetensors and source, each checked against the accuracy on record."""
    from nas import refined, seal
    from nas.cli.options import database_url, open_records, say_where
    from nas.cli.output import say
    from nas.outcome import Outcome

    folder, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        outcome = Outcome.read(records, study)
        number = records.study(study).id
        found = refined.networks(outcome.rows, refined.refinements(records, number))
        readings = seal.readings(records, number)
    say_where(folder, outcome)
    if as_is or not found:
        outcome.pick(pick)  # a wrong pick is told before torch is loaded

    from nas.export import export_network, formats_of

    done = export_network(
        folder,
        outcome,
        pick,
        refined=found,
        readings=readings,
        formats=formats_of(formats),
        as_is=as_is,
        pixels=uint8,
        int8=int8,
        output=output,
        overwrite=overwrite,
        dataset=dataset,
        cache=studies_dir / ".cache",
        command=command_of(context, storage),
        say=say,
    )
    for one in done.checked:
        many = f"all {one.images:,}" if one.same == one.images else f"{one.same:,} of {one.images:,}"
        reads = "" if one.accuracy == done.val_accuracy else f", {outcome.metric_words} {one.accuracy:.4f}"
        say(
            f"{one.file}: the same answers as torch on {many} validation images, largest difference of a logit "
            f"{one.difference:.1e}{reads}"
        )
    low, high = done.interval
    plain = "" if outcome.metric == "accuracy" else " of the plain accuracy"
    say(
        f"{done.row.params:,} parameters, validation {outcome.metric_words} {done.val_accuracy:.4f} as recorded "
        f"(95 % interval{plain} {low:.4f} to {high:.4f}); it was chosen on these images."
    )
    print(done.path)
