"""`nas search`: the search itself."""

from __future__ import annotations

import errno
from typing import Annotated

import typer

from nas.cli.front import front
from nas.cli.options import STUDIES, StudiesDir, command_of, count
from nas.cli.output import nobody_reads, say
from nas.cli.secret import STORAGE

BUDGET = "Budget (kept by construction; 200k and 1.5M are understood)"
TRAINING = "Training"
PLACE = "Where"
RAY = "On a Ray cluster (pip install 'nas\\[ray]')"


def _limit(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(parser=count, metavar="COUNT", help=what, rich_help_panel=BUDGET)
    return option


def search(
    context: typer.Context,
    space: Annotated[
        str, typer.Option(help="Name of a search space ([b]nas spaces list[/]), or a TOML file.")
    ] = "digits",
    dataset: Annotated[
        str | None,
        typer.Option(
            help="[b]digits[/], [b]fashion-mnist[/], [b]cifar10[/], [b]cifar100[/], [b]svhn[/] or [b]folder:PATH[/]. "
            "Default: the space's own."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="The study ends with exactly so many complete or pruned trials.")] = 100,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no trial is begun.")] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study. Default: the space's name.")] = None,
    sampler: Annotated[
        str,
        typer.Option(
            help="[b]cost-aware[/] uses that the cost is known before training; to compare with: [b]tpe[/], "
            "[b]nsga2[/], [b]sobol[/], [b]random[/], and [b]gp[/] (Optuna's, seconds a proposal)."
        ),
    ] = "cost-aware",
    pruner: Annotated[
        str,
        typer.Option(
            help="[b]conformal[/] sets hopeless trials aside, [b]conformal-stop[/] ends them, [b]none[/] trains all; "
            "to compare with: [b]rank-median[/], [b]moasha[/], [b]asha[/]."
        ),
    ] = "conformal",
    rule: Annotated[
        str | None, typer.Option(help="How shares grow with depth: [b]growing[/], [b]growing-each[/], [b]off[/].")
    ] = None,
    cost: Annotated[str | None, typer.Option(help="What to make small: [b]params[/] or [b]macs[/].")] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="What is made high: [b]accuracy[/], or [b]balanced-accuracy[/], where all classes weigh alike."
        ),
    ] = "accuracy",
    seed: Annotated[int, typer.Option(help="Of proposals and trainings.")] = 0,
    min_params: Annotated[int | None, _limit("Fewest parameters.")] = None,
    max_params: Annotated[int | None, _limit("Most parameters.")] = None,
    min_macs: Annotated[int | None, _limit("Fewest multiply-adds an image.")] = None,
    max_macs: Annotated[int | None, _limit("Most multiply-adds an image.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a full trial.", rich_help_panel=TRAINING)] = None,
    batch: Annotated[int | None, typer.Option(help="Images a step.", rich_help_panel=TRAINING)] = None,
    split_seed: Annotated[int, typer.Option(help="Of the validation images.", rich_help_panel=TRAINING)] = 0,
    train_limit: Annotated[
        int | None, typer.Option(help="Train on a stratified subset of so many images.", rich_help_panel=TRAINING)
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave broken image files out, counted.", rich_help_panel=TRAINING)
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes on this machine. Default: one a GPU, or one a core (at most 8; 1 for images over 96x96).",
            rich_help_panel=PLACE,
        ),
    ] = None,
    workers_per_gpu: Annotated[
        str | None,
        typer.Option(
            help="So many processes for each GPU, or [b]auto[/]: 1, 2, 4 or 8 by its memory and a measurement.",
            metavar="N|auto",
            rich_help_panel=PLACE,
        ),
    ] = None,
    memory_share: Annotated[
        float | None,
        typer.Option(
            help="Part of the memory for decoded images; a folder that needs more is streamed. Default: 0.25.",
            rich_help_panel=PLACE,
        ),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", help="Train also what another study has trained already.", rich_help_panel=TRAINING),
    ] = False,
    warm_start: Annotated[
        bool,
        typer.Option(
            "--warm-start",
            help="Try the networks nearest to the Inception references first ([b]nas baselines list[/]).",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say how long it should take and how much memory, and stop; nothing is made."),
    ] = False,
    device: Annotated[
        str, typer.Option(help="[b]auto[/], [b]cpu[/], [b]cuda[/] or [b]cuda:N[/].", rich_help_panel=PLACE)
    ] = "auto",
    studies_dir: StudiesDir = STUDIES,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database URL. Default: SQLite in the study's folder.",
            metavar="URL",
            envvar=STORAGE,
            rich_help_panel=PLACE,
        ),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(
            help="Keep weights and checkpoints there too, for machines that share no folder: [b]s3://[/], [b]gs://[/], "
            "[b]sftp://[/], [b]file://[/] (fsspec).",
            metavar="URL",
            rich_help_panel=PLACE,
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="[b]local[/]: this machine. [b]ray[/]: a Ray cluster.", rich_help_panel=RAY)
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="[b]auto[/] or HOST:PORT of a cluster. Default: Ray on this machine, for this search alone.",
            rich_help_panel=RAY,
        ),
    ] = None,
    cpus_per_worker: Annotated[
        int | None, typer.Option(help="Cores of each worker, and its threads. Default: 1.", rich_help_panel=RAY)
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(help="0..1: 0.25 lets four share one. Default: 1 where there are GPUs.", rich_help_panel=RAY),
    ] = None,
) -> None:
    """Search for the front. The same command again goes on where it stopped."""
    from nas.errors import StudyError
    from nas.search.gpus import with_workers
    from nas.search.launch import launch
    from nas.search.options import SearchOptions
    from nas.search.ray_cluster import ray_options

    ray = ray_options(
        engine,
        device,
        workers_per_gpu,
        address=address,
        workers=workers,
        cpus=cpus_per_worker,
        gpus=gpus_per_worker,
    )
    options = SearchOptions(
        space=space,
        dataset=dataset,
        trials=trials,
        timeout=timeout,
        study=study,
        studies_dir=str(studies_dir),
        storage=storage,
        files=files,
        sampler=sampler,
        pruner=pruner,
        epochs=epochs,
        batch=batch,
        rule=rule,
        cost=cost,
        min_params=min_params,
        max_params=max_params,
        min_macs=min_macs,
        max_macs=max_macs,
        device=device,
        seed=seed,
        metric=metric,
        split_seed=split_seed,
        train_limit=train_limit,
        skip_broken=skip_broken,
        memory_share=memory_share,
        no_cache=no_cache,
        warm_start=warm_start,
        dry_run=dry_run,
        command=command_of(context, storage),
    )
    if ray is None:
        options = with_workers(options, options.check(), workers, workers_per_gpu, say)
    code = launch(options, ray)
    if dry_run:
        raise typer.Exit(code)
    try:
        front(options.folder(options.check()).name, studies_dir=studies_dir, storage=storage)
    except StudyError:
        if code == 0:
            raise
        # interrupted before there was a study
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        nobody_reads()  # the terminal was closed
    raise typer.Exit(code)
