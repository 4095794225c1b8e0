"""`nas baselines train`: a known network trained beside a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, command_of

if TYPE_CHECKING:
    from nas.baseline_rows import Baseline
    from nas.outcome import Outcome

Name = Annotated[str, typer.Argument(help="A network of [b]nas baselines list[/].")]
Dataset = Annotated[
    str | None,
    typer.Option(help="Images, as for [b]nas search[/]. With [b]--study[/]: where the study's own are now."),
]
Epochs = Annotated[int | None, typer.Option(help="Default: as published, or as the study's trials.")]
RecipeOption = Annotated[
    str, typer.Option(help="[b]published[/] is the network's own, [b]study[/] the one that the study's trials get.")
]
Seed = Annotated[
    int, typer.Option(help="Which of the network's seeds; 0 is the one that a trial of the study would have.")
]
StudyOption = Annotated[
    str | None, typer.Option(help="Train beside this study. Default: one that is made for the images.")
]
Resize = Annotated[int | None, typer.Option(help="Load the images at this side, in the network's colours.")]
TrainLimit = Annotated[
    int | None, typer.Option(help="Train on a stratified subset of so many images. Default: as the study.")
]
Device = Annotated[str, typer.Option(help="[b]auto[/], [b]cpu[/], [b]cuda[/] or [b]cuda:N[/].")]


def train(
    context: typer.Context,
    name: Name,
    dataset: Dataset = None,
    epochs: Epochs = None,
    recipe: RecipeOption = "published",
    seed: Seed = 0,
    study: StudyOption = None,
    resize: Resize = None,
    train_limit: TrainLimit = None,
    device: Device = "auto",
    json: Json = False,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Train a reference network beside a study: recorded with it, shown by nas front --with-baselines and the report.

    Each epoch is kept: the same command goes on where it stopped, and trains nothing twice.
    """
    from nas.baselines.options import TrainOptions
    from nas.cli.options import database_url
    from nas.cli.output import say
    from nas.errors import StudyError

    if storage is not None and study is None:
        raise StudyError("--storage without --study: name the study that it holds")
    options = TrainOptions(
        name=name,
        recipe=recipe,
        dataset=dataset,
        study=study,
        studies_dir=str(studies_dir),
        epochs=epochs,
        seed=seed,
        resize=resize,
        train_limit=train_limit,
        device=device,
        command=command_of(context, storage),
    )
    options.check()  # before torch is loaded
    if study is not None:
        from dataclasses import replace

        options = replace(options, url=database_url(study, studies_dir, storage)[1])

    from nas.baselines.train import train as run

    try:
        outcome, row = run(options, say)
    except KeyboardInterrupt:
        say("Stopped. Whole epochs are kept: the same command goes on after the last one.")
        raise typer.Exit(130) from None
    _print(outcome, row, json=json)


def _print(outcome: Outcome, row: Baseline, *, json: bool) -> None:
    from nas.cli.output import print_json, print_table, say

    if json:
        print_json(plain(outcome, row))
        return
    print_table(
        ["network", "recipe", "epochs", "seed", "params", "MACs", f"val {outcome.metric_words}", "seconds", ""],
        [
            [
                row.name,
                row.recipe_name,
                str(row.epochs),
                str(row.replicate),
                f"{row.params:,}",
                f"{row.macs:,}",
                f"{row.val_accuracy:.4f}",
                f"{row.seconds:.1f}",
                row.at(outcome.input_shape),
            ]
        ],
        left=["network", "recipe", ""],
    )
    if row.module_params is not None:
        say(f"{row.name}: {row.counted}.")
    say(f"nas front {outcome.study} --with-baselines shows it beside the front.")


def plain(outcome: Outcome, row: Baseline) -> dict[str, Any]:
    """A training for programs; the confusion matrix has true classes as rows."""
    names = ("kind", "name", "key", "params", "macs", "recipe_name", "epochs", "replicate", "seed", "val_accuracy")
    more = ("seconds", "device", "threads", "weights_sha256")
    return {
        "study": outcome.study,
        **{field: getattr(row, field) for field in (*names, *more)},
        "cost": row.cost(outcome.cost),
        "module_params": row.module_params,
        "input": list(row.input_shape),
        "metric": outcome.metric,
        "recipe": dict(row.recipe),
        "curve": [list(point) for point in row.curve],
        "classes": list(outcome.settings["classes"]),
        "confusion": None if row.confusion is None else [list(line) for line in row.confusion],
        "class_accuracies": list(row.class_accuracies),
    }
