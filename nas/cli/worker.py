"""`nas worker`: more workers for a study that another command made, as a scheduler starts them."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.options import STUDIES, StudiesDir, Study
from nas.cli.secret import STORAGE


def worker(
    study: Study,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database URL, as given to [b]nas search[/]. Default: in the study's folder.",
            metavar="URL",
            envvar=STORAGE,
        ),
    ] = None,
    studies_dir: StudiesDir = STUDIES,
    dataset: Annotated[
        str | None, typer.Option(help="Where the study's images are on this machine. Default: where they were.")
    ] = None,
    device: Annotated[str, typer.Option(help="[b]auto[/], [b]cpu[/], [b]cuda[/] or [b]cuda:N[/].")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Processes here. Default: 1.")] = None,
    workers_per_gpu: Annotated[
        str | None, typer.Option(help="So many for each GPU here, or [b]auto[/]: by its memory and a measurement.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="The study ends with exactly so many. Default: as its last search said.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no trial is begun.")] = None,
    memory_share: Annotated[
        float | None, typer.Option(help="Part of the memory for decoded images. Default: 0.25.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the study, where another task makes it.")
    ] = 0.0,
) -> None:
    """Add workers to a study that is there: it says itself what is searched. For Slurm, Kubernetes and the like.

    Ends with 0 once the study has all its trials.
    """
    import sys

    from nas.outage import Patience
    from nas.search.gpus import with_workers
    from nas.search.join import done, find, keep_total
    from nas.search.launch import launch
    from nas.search.options import options_of
    from nas.study_folder import StudyFolder

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    def outage(words: str | None) -> None:
        say("the database answers again" if words is None else words)

    folder = StudyFolder(studies_dir, study)
    found = find(folder, storage, wait=wait, say=say)
    options = options_of(
        found,
        dataset=dataset,
        trials=trials,
        studies_dir=str(studies_dir),
        storage=storage,
        device=device,
        timeout=timeout,
        memory_share=memory_share,
    )
    number = 1 if workers is None and workers_per_gpu is None else workers
    space = options.check()
    with Patience(outage, lambda: None, known=True):  # `find` has had its answer
        if done(folder, storage) >= options.trials:
            say(f"Study {study} has all its {options.trials:,} trials.")
            return
        options = with_workers(options, space, number, workers_per_gpu, say)
        options.check()
        if trials is not None:
            keep_total(folder, storage, trials)
    raise typer.Exit(launch(options))
