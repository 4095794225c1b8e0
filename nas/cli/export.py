"""`nas export`: take a network away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir, Study

Pick = Annotated[
    str,
    typer.Option(help="[b]best[/], [b]knee[/], [b]trial:N[/], or [b]under:500k[/]: the best with at most that cost."),
]
Output = Annotated[
    Path | None, typer.Option(help="Folder to make. Default: export/PICK in the study's folder, replaced if there.")
]
Dataset = Annotated[
    str | None,
    typer.Option(help="Where the study's images are now, as [b]folder:PATH[/]. Default: where the search read them."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export at --output.")]


def export(
    study: Study,
    pick: Pick,
    output: Output = None,
    overwrite: Overwrite = False,
    dataset: Dataset = None,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Write a network as ONNX, safetensors and JSON, checked against the accuracy on record."""
    from nas.cli.options import read_outcome
    from nas.cli.output import say

    folder, outcome = read_outcome(study, studies_dir, storage)
    outcome.pick(pick)  # a wrong pick is told before torch is loaded

    from nas.export import export_network

    done = export_network(
        folder, outcome, pick, output=output, overwrite=overwrite, dataset=dataset, cache=studies_dir / ".cache"
    )
    say(
        f"Trial {done.row.trial}: {done.row.params:,} parameters; model.onnx reaches validation {outcome.metric_words} "
        f"{done.val_accuracy:.4f} on {done.images} images, as recorded (largest difference of a logit "
        f"{done.difference:.1e})."
    )
    print(done.path)
