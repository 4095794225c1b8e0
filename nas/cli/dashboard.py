"""`nas dashboard`: optuna-dashboard on a study, read-only."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir, Study

Host = Annotated[str, typer.Option(help="Address to listen on; any other than 127.0.0.1 opens it to the network.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]


def dashboard(
    study: Study,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Serve optuna-dashboard, read-only, until Ctrl-C."""
    from nas.cli.options import database_url, open_records
    from nas.cli.output import say
    from nas.dashboard.server import Dashboard

    folder, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        records.study(study)  # the dashboard itself would start without this study
    server = Dashboard(url, artifacts=folder.artifacts, host=host, port=port)
    if not server.local:
        say(f"nas: {host} can be reached from other machines; everyone there can read this study, nobody can change it")
    say(f"{server.url} shows study {study}, read-only; Ctrl-C ends it")
    server.serve()
