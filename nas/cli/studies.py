"""`nas studies`: whole studies, listed, copied and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, Study

if TYPE_CHECKING:
    from datetime import datetime

    from nas.records import State
    from nas.studies import Listed

app = typer.Typer(help="Whole studies: list, copy, delete.")

New = Annotated[str, typer.Argument(help="Name of the copy.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Elsewhere = Annotated[str | None, typer.Option("--storage", hidden=True)]
STATES: tuple[State, ...] = ("complete", "pruned", "paused", "failed")


@app.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_studies(json: Json = False, studies_dir: StudiesDir = STUDIES, storage: Storage = None) -> None:
    """Print the studies in --studies-dir, or in the database of --storage: one line a study."""
    from nas.cli.output import print_json, say
    from nas.studies import studies_at, studies_in

    found = studies_in(studies_dir) if storage is None else studies_at(storage, studies_dir)
    if json:
        print_json([_plain(one) for one in found])
    elif found:
        _print(found)
    else:
        say(f"No study in {studies_dir if storage is None else 'the database'} yet; `nas search` starts one.")


@app.command()
def copy(study: Study, new: New, studies_dir: StudiesDir = STUDIES, storage: Elsewhere = None) -> None:
    """Copy a study whole under another name: trials, weights, full trainings, exports.

    [b]nas search --study NEW[/] with the first one's options goes on with the copy. The report is not copied, since it
    names the study: [b]nas report[/] writes one.
    """
    from nas.cli.output import say
    from nas.studies import copy, look
    from nas.study_folder import StudyFolder

    _refuse_storage(storage, "copied")
    target = StudyFolder(studies_dir, new)
    copy(StudyFolder.existing(studies_dir, study), target)
    say(f"Study {new}: {_trials(look(target))}, copied from {study}.")
    print(target.path)


@app.command()
def delete(study: Study, yes: Yes = False, studies_dir: StudiesDir = STUDIES, storage: Elsewhere = None) -> None:
    """Delete a study's folder, after a question: trials, weights, full trainings, exports, report."""
    import sys

    from nas.cli.output import say
    from nas.errors import StudyError
    from nas.studies import delete, look, users
    from nas.study_folder import StudyFolder

    _refuse_storage(storage, "deleted")
    folder = StudyFolder.existing(studies_dir, study)
    who = users(folder)
    if who is not None:
        raise StudyError(f"study {study!r} is in use: {who} runs on it; wait for its end, or stop it")
    found = look(folder)
    lost = f"{_trials(found)}, {_bytes(found.size)} in {folder.path}"
    if found.readings:
        lost += f", and the record of {found.readings} reading{'s' * (found.readings != 1)} of the test images"
    if folder.path.is_symlink():
        lost = f"the link {folder.path}; {folder.path.resolve()} stays"
    if found.files is not None:
        lost += f" (what it put at {found.files} stays there)"
    if not yes:
        if not sys.stdin.isatty():
            raise StudyError(f"study {study!r} would be deleted ({lost}): give --yes, or answer on a terminal")
        say(f"This deletes study {study}: {lost}. It cannot be undone.")
        print("Delete it? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("Nothing was deleted.")
            raise typer.Exit(1)
    delete(folder)
    say(f"Deleted study {study}: {lost}.")


def _refuse_storage(storage: str | None, done: str) -> None:
    from nas.errors import StudyError

    if storage is not None:
        raise StudyError(
            f"--storage: only a study in a folder of its own is {done}; in a database of your own use its tools, or "
            "`nas records export`"
        )


def _print(found: list[Listed]) -> None:
    from nas.cli.output import print_table

    states = [state for state in STATES if state != "paused" or any(one.states.get(state) for one in found)]
    print_table(
        ["study", *states, "front", "best", "cost", "dataset", "size", "changed", ""],
        [
            [
                one.name,
                *("-" if one.problem else f"{one.states.get(state, 0):,}" for state in states),
                "-" if one.problem else f"{one.front:,}",
                "-" if one.best is None else f"{one.best:.4f}",
                one.cost or "-",
                _data(one.dataset),
                _bytes(one.size),
                _ago(one.changed),
                _note(one),
            ]
            for one in found
        ],
        left=["study", "cost", "dataset", ""],
    )


def _plain(one: Listed) -> dict[str, Any]:
    fields = ("name", "front", "best", "cost", "dataset", "metric", "readings", "workers", "size", "problem")
    return {
        **{field: getattr(one, field) for field in fields},
        "trials": {state: one.states.get(state, 0) for state in STATES},
        "changed": None if one.changed is None else one.changed.isoformat(),
    }


def _note(one: Listed) -> str:
    """A word beside the line: what is wrong, or who works there."""
    if one.problem:
        return one.problem.split("study.db ", 1)[-1].split(" (")[0].split(";")[0].split(":")[0]
    return f"{one.workers} worker{'s' * (one.workers != 1)}" if one.workers else ""


def _trials(one: Listed) -> str:
    if one.problem:
        return "trials that cannot be read"
    total = sum(one.states.values())
    return f"{total:,} trial{'s' * (total != 1)}, {one.front} on the front"


def _data(dataset: str | None) -> str:
    """Of a folder's path its last name."""
    kind, _, path = (dataset or "-").partition(":")
    return f"{kind}:{path.rstrip('/').rpartition('/')[2]}" if path else kind


def _bytes(size: int | None) -> str:
    if size is None:
        return "-"
    for scale, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def _ago(moment: datetime | None) -> str:
    from datetime import UTC, datetime

    if moment is None:
        return "-"
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for scale, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= scale:
            return f"{int(seconds // scale)} {unit} ago"
    return "just now"
