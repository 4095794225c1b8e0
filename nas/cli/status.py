"""`nas status`: how a search goes that is running, perhaps on several machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir, Study

if TYPE_CHECKING:
    from nas.search.status import Status

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")]


def status(study: Study, json: Json = False, studies_dir: StudiesDir = STUDIES, storage: Storage = None) -> None:
    """Say who works on a study, what trains now, how many trials an hour end, and the time left."""
    from nas.cli.options import database_url, open_records
    from nas.cli.output import print_json
    from nas.search.status import status as look

    with open_records(database_url(study, studies_dir, storage)[1]) as records:
        found = look(records, study)
    if json:
        print_json(_plain(found))
        return
    for line in _lines(found):
        print(line)
    _print_workers(found)


def _plain(found: Status) -> dict[str, Any]:
    return {
        "study": found.study,
        "states": dict(found.states),
        "total": found.total,
        "workers_alive": [{"id": one.id, "host": one.name, "beat_age_s": round(one.age, 1)} for one in found.alive],
        "workers_dead": [{"id": one.id, "host": one.name, "beat_age_s": round(one.age, 1)} for one in found.dead],
        "running": [asdict(one) for one in found.running],
        "trials_per_hour": found.hourly,
        "over_s": found.over if found.hourly else None,
        "seconds_left": found.left,
    }


def _lines(found: Status) -> list[str]:
    from nas.search.display import clock

    states = found.states
    of = "" if found.total is None else f" of {found.total:,}"
    aside = f", {states['paused']} paused" if states["paused"] else ""
    names = {one.host for one in found.alive}
    hosts = f" on {len(names)} hosts" if len(names) > 1 else ""
    lines = [
        f"Study {found.study}: {found.done:,}{of} trials ({states['complete']:,} complete, {states['pruned']:,} "
        f"pruned){aside}, {states['failed']:,} failed; {_counted(len(found.alive), 'worker')} alive{hosts}."
    ]
    if found.dead:
        killed = ", ".join(one.id for one in found.dead)
        lines.append(f"Ended without a word: {killed}; whoever searches next gives back what they held.")
    if not found.alive:
        if found.total is not None and found.done >= found.total:
            lines.append("It has all its trials.")
        else:
            lines.append("Nobody works on it: the same nas search command goes on.")
    elif found.hourly is not None:
        pace = f"{found.hourly:,.0f} trials an hour over the last {clock(found.over)}"
        if found.left is not None and found.left > 0:
            pace += f", {clock(found.left)} until the last has begun"
        lines.append(f"{pace}.")
    return lines


def _print_workers(found: Status) -> None:
    from nas.cli.output import print_table
    from nas.search.display import clock

    if not found.alive:
        return
    holding = {one.worker: one for one in found.running}
    rows = []
    for worker in found.alive:
        held = holding.get(worker.id)
        doing = "" if held is None else "asking for a network" if held.trial is None else str(held.trial)
        params = "" if held is None or held.params is None else f"{held.params:,}"
        epoch = "" if held is None or held.trial is None else f"{held.epoch}/{found.epochs}"
        since = "" if held is None or held.seconds is None else clock(held.seconds)
        rows.append([worker.id, worker.name, doing, params, epoch, since])
    print_table(["worker", "host", "trial", "params", "epoch", "since"], rows, left=["worker", "host"])


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"
