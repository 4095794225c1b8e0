"""`nas dashboard`: optuna-dashboard on a study."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir, Study

Host = Annotated[
    str, typer.Option(help="Address to listen on; any other than this machine's own opens it, with a token.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
Writable = Annotated[
    bool, typer.Option("--writable", help="Notes and artifacts may be written, from this machine only.")
]


def dashboard(
    study: Study,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    writable: Writable = False,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Serve optuna-dashboard, read-only, until Ctrl-C, with the front, learning curves, hypervolume and shares."""
    from nas.cli.options import database_url, open_records
    from nas.cli.output import say
    from nas.dashboard.server import Dashboard

    folder, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        records.study(study)  # the dashboard itself would start without this study
    server = Dashboard(url, artifacts=folder.artifacts, host=host, port=port, writable=writable)
    may = "notes and artifacts may be written" if writable else "read-only"
    if not server.local:
        say(
            f"nas: {host} can be reached from other machines; whoever has this address, token included, reads the study"
        )
    say(f"{server.url} shows study {study}, {may}; Ctrl-C ends it")
    server.serve()
