"""`nas records`: a study's evaluations as one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir, Study

app = typer.Typer(help="Records: a study's evaluations as one file, and back.")

Output = Annotated[Path, typer.Option(help="File to write, ending in [b].csv.gz[/].")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier file at --output.")]
File = Annotated[Path, typer.Argument(help="File that [b]nas records export[/] wrote.", metavar="FILE.csv.gz")]
Name = Annotated[str | None, typer.Option("--study", help="Name of the new study. Default: the exported study's.")]
Seed = Annotated[int | None, typer.Option(help="Which study seed to take, where the file has several.")]


@app.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def export(
    study: Study,
    output: Output,
    overwrite: Overwrite = False,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Write every evaluation of a study to one file: gzip of a CSV, the same bytes for the same records.

    The first line says what the study is; below it known networks and full trainings have a line each, without weights.

    Paused trials are left out: they have not ended.
    """
    from nas.cli.options import database_url, open_records
    from nas.cli.output import say
    from nas.errors import StudyError
    from nas.record_file import RecordFile, write

    if not output.name.endswith(".csv.gz"):
        raise StudyError(f"--output {str(output)!r}: records are written as gzip of a CSV; end the name with .csv.gz")
    if output.exists() and not overwrite:
        raise StudyError(f"{str(output)!r} is there already: choose another --output, or give --overwrite")
    _, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        file = RecordFile.of_study(records, study)
        paused = len(records.rows(study)) - len(file.rows)
    write(output, file)
    say(f"Study {study}: {file.words}" + (f"; {paused:,} paused ones left out" if paused else ""))
    print(output)


@app.command("import")
def import_records(
    file: File,
    study: Name = None,
    seed: Seed = None,
    studies_dir: StudiesDir = STUDIES,
    storage: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Make a study of a file that was exported: checked row by row, and whole or not at all.

    The same command that made the study goes on with it; weights of networks are not in a file.
    """
    from nas.cli.output import say
    from nas.errors import StudyError
    from nas.record_file import read
    from nas.study_folder import StudyFolder

    if storage is not None:
        raise StudyError("--storage: records become a study in a folder of its own; leave --storage out")
    found = read(file)
    if seed is None and len(found.study_seeds) > 1:
        seeds = ", ".join(map(str, found.study_seeds))
        raise StudyError(f"{file} holds study seeds {seeds}; choose one with --seed")
    found = found.of_seed(found.study_seeds[0] if seed is None else seed)
    folder = StudyFolder(studies_dir, found.name if study is None else study)

    from nas.search.restore import restore  # Optuna, only once the file is whole

    restore(found, folder)
    say(f"Study {folder.name}: {found.words} from {file}.")
    if found.trainings:
        say("Their weights are not in a file: `nas refine` trains again what an export of a refined network needs.")
    print(folder.path)
