"""`nas refine`: train the networks near the front fully, with fresh seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, Study

if TYPE_CHECKING:
    from nas.headline import Headline
    from nas.metric import Metric
    from nas.refine.comparison import Comparison
    from nas.refined import Refined

CHOICE = "Which networks (default: at most two standard deviations between seeds behind the front)"
PLACE = "Where"

Pick = Annotated[
    list[str] | None,
    typer.Option(
        help="[b]best[/], [b]knee[/], [b]trial:N[/], [b]under:500k[/] or [b]smallest:0.95[/]; may be repeated.",
        rich_help_panel=CHOICE,
    ),
]
Top = Annotated[
    int | None, typer.Option(help="So many: first the front, then the nearest to it.", rich_help_panel=CHOICE)
]
Epochs = Annotated[int | None, typer.Option(help="Of each training. Default: four times the study's.")]
Seeds = Annotated[int, typer.Option(help="Fresh ones for each network.")]
Show = Annotated[bool, typer.Option("--show", help="Print what is refined so far, and train nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would train and how long that should take.")]
WithLine = Annotated[
    bool,
    typer.Option(
        "--with-line",
        help="Also the networks of [b]nas baselines line[/], and all of the front: the study's headline then counts.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes on this machine. Default: as for [b]nas search[/].", rich_help_panel=PLACE),
]
Device = Annotated[str, typer.Option(help="[b]auto[/], [b]cpu[/], [b]cuda[/] or [b]cuda:N[/].", rich_help_panel=PLACE)]
Dataset = Annotated[
    str | None,
    typer.Option(
        help="Where the study's images are now, as [b]folder:PATH[/]. Default: where the search read them.",
        rich_help_panel=PLACE,
    ),
]


def refine(
    study: Study,
    epochs: Epochs = None,
    seeds: Seeds = 5,
    pick: Pick = None,
    top: Top = None,
    with_line: WithLine = False,
    show: Show = False,
    dry_run: DryRun = False,
    json: Json = False,
    workers: Workers = None,
    device: Device = "auto",
    dataset: Dataset = None,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Train the networks near the front fully, with fresh seeds. The same command again goes on where it stopped."""
    from nas.cli.options import database_url, open_records
    from nas.headline import study_headline
    from nas.outcome import Outcome
    from nas.refine.options import RefineOptions
    from nas.refined import networks, recipe_hash, refinements

    _, url = database_url(study, studies_dir, storage)
    options = RefineOptions(
        study=study,
        url=url,
        studies_dir=str(studies_dir),
        epochs=epochs,
        seeds=seeds,
        picks=tuple(pick or ()),
        top=top,
        workers=1 if workers is None else workers,
        device=device,
        dataset=dataset,
        with_line=with_line,
    )
    options.check()
    code = 0
    if not show:
        code = _train(options, dry_run=dry_run, usual=workers is None)
        if dry_run or code == 130:
            raise typer.Exit(code)
    with open_records(url) as records:
        outcome = Outcome.read(records, study)
        advantage = study_headline(records, outcome)
        trainings = refinements(records, records.study(study).id)
    if not show or epochs is not None:  # else each network by its longest training
        mine = recipe_hash(options.recipe(outcome))
        trainings = [one for one in trainings if one.recipe_hash == mine]
    if trainings or show:
        _print(study, outcome.metric, networks(outcome.rows, trainings), advantage, json=json)
    raise typer.Exit(code)


def _train(options: Any, *, dry_run: bool, usual: bool) -> int:
    from dataclasses import replace

    from nas.cli.options import open_records
    from nas.outcome import Outcome
    from nas.refine.launch import launch
    from nas.search.machine import usual_workers

    if usual:
        with open_records(options.url) as records:
            rows = Outcome.read(records, options.study).rows
        if rows:
            options = replace(options, workers=usual_workers(rows[0].architecture.input_shape, options.device))
    return launch(options, dry_run=dry_run)


def _print(study: str, metric: Metric, found: list[Refined], advantage: Headline | None, *, json: bool) -> None:
    from nas import headline
    from nas.cli.output import print_json, print_table, say
    from nas.errors import StudyError
    from nas.metric import in_words
    from nas.refine.comparison import compare, said

    if not found:
        raise StudyError(f"no network of study {study!r} is refined so yet; run `nas refine {study}`")
    comparison = compare(found)
    if json:
        print_json(
            _plain(study, metric, found, comparison)
            | {"headline": None if advantage is None else headline.plain(advantage)}
        )
        return
    marks = _marks(study, found, comparison)
    epochs = {one.trainings[0].epochs for one in found}
    words = in_words(metric)
    print_table(
        ["trial", "params", "MACs", f"brief val {words}", "refined mean", "95 % interval", "seeds", "epochs", ""],
        [
            [
                str(one.row.trial),
                f"{one.row.params:,}",
                f"{one.row.macs:,}",
                f"{one.row.val_accuracy:.4f}",
                f"{one.mean:.4f}",
                "-" if len(one.trainings) < 2 else f"{one.interval[0]:.4f} to {one.interval[1]:.4f}",
                str(len(one.trainings)),
                str(one.trainings[0].epochs),
                ", ".join(marks[one.row.trial]),
            ]
            for one in sorted(found, key=lambda one: (one.row.cost, one.row.trial))
        ],
        left=[""],
    )
    if len(epochs) > 1:
        say("Not all were trained for as many epochs, so their means do not compare like with like.")
    for line in said(comparison) + ([] if advantage is None else headline.said(advantage, study)):
        say(line)


def _marks(study: str, found: list[Refined], comparison: Comparison) -> dict[int, list[str]]:
    """By trial: on the front, knee, best, all by the means; or that it is unfinished."""
    from nas.outcome import pick_of
    from nas.refined import settled

    ready = settled(found)
    costs, means = [one.row.cost for one in ready], [one.mean for one in ready]
    named = {word: ready[pick_of(study, costs, means, word)].row.trial for word in ("knee", "best")}
    return {
        one.row.trial: ["front"] * (one.row.trial in comparison.front)
        + ["unfinished"] * (one not in ready)
        + [word for word, trial in named.items() if trial == one.row.trial]
        for one in found
    }


def _plain(study: str, metric: Metric, found: list[Refined], comparison: Comparison) -> dict[str, Any]:
    from dataclasses import asdict

    marks = _marks(study, found, comparison)
    return {
        "study": study,
        "metric": metric,
        "networks": [
            {
                **{name: getattr(one.row, name) for name in ("trial", "key", "params", "macs", "cost")},
                "brief": {"val_accuracy": one.row.val_accuracy, "epochs": len(one.row.curve)},
                "mean": one.mean,
                "std": one.std if len(one.trainings) > 1 else None,
                "interval": list(one.interval) if len(one.trainings) > 1 else None,
                "epochs": one.trainings[0].epochs,
                "trainings": [
                    {
                        name: getattr(training, name)
                        for name in ("replicate", "seed", "val_accuracy", "seconds", "weights_sha256")
                    }
                    for training in one.trainings
                ],
                "marks": marks[one.row.trial],
            }
            for one in sorted(found, key=lambda one: (one.row.cost, one.row.trial))
        ],
        "kendall_tau": None if comparison.tau is None else asdict(comparison.tau),
        "seed_std": {
            "value": comparison.seed_std,
            "networks": comparison.seed_networks,
            "trainings": comparison.seed_trainings,
        },
        "front": {
            "brief": list(comparison.brief_front),
            "refined": list(comparison.front),
            "left": list(comparison.left),
            "came": list(comparison.came),
        },
    }
