"""`nas doctor`: what of a study is whole, and what can be mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import STUDIES, Storage, StudiesDir, Study

if TYPE_CHECKING:
    from nas.doctor import Repaired
    from nas.doctor.findings import Finding

Repair = Annotated[bool, typer.Option("--repair", help="Mend what can be mended, after a copy of the database.")]
BackedUp = Annotated[
    bool, typer.Option("--backed-up", help="You have a copy of a database on a server, as pg_dump makes.")
]
SHOWN = 20
"""So many problems of a kind are printed."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def doctor(
    study: Study,
    repair: Repair = False,
    backed_up: BackedUp = False,
    json: Json = False,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Say what of a study is whole: database, trials against records, weights, checkpoints; 0 all, 1 not all."""
    from nas.cli.options import database_url
    from nas.cli.output import print_json
    from nas.doctor import Repaired, examine
    from nas.doctor import repair as mend

    folder, url = database_url(study, studies_dir, storage)
    made = mend(folder, url, backed_up=backed_up) if repair else Repaired(None, (), examine(folder, url))
    wrong = sum(len(finding.problems) for finding in made.findings)
    if json:
        print_json(
            {
                "study": study,
                "whole": not wrong,
                "findings": [
                    {
                        "what": finding.what,
                        "words": finding.words,
                        "problems": [
                            {"words": problem.words, "can_be_repaired": problem.mend is not None}
                            for problem in finding.problems
                        ],
                        "notes": finding.notes,
                    }
                    for finding in made.findings
                ],
                "backup": None if made.backup is None else str(made.backup),
                "repaired": made.done,
            }
        )
    else:
        _print(study, made, repaired=repair)
    if wrong:
        raise typer.Exit(1)


def _print(study: str, made: Repaired, *, repaired: bool) -> None:
    from nas.cli.output import print_table

    if made.backup is not None:
        print(f"Copied the database to {made.backup}.")
    for line in made.done:
        print(f"Mended: {line}.")
    print_table(["", "looked at", "wrong"], [_row(finding) for finding in made.findings], left=["", "looked at"])
    for finding in made.findings:
        for problem in finding.problems[:SHOWN]:
            print(f"wrong: {problem.words}{'' if problem.mend is None or repaired else ' (--repair)'}")
        if len(finding.problems) > SHOWN:
            print(f"wrong: {len(finding.problems) - SHOWN:,} more of {finding.what}, all of them with --json")
    for finding in made.findings:
        for note in finding.notes:
            print(f"note: {note}")
    problems = [problem for finding in made.findings for problem in finding.problems]
    mendable = sum(problem.mend is not None for problem in problems)
    if not problems:
        print(f"Study {study} is whole.")
    else:
        rest = f", {mendable} of them can be repaired: nas doctor {study} --repair" if mendable and not repaired else ""
        print(f"Study {study}: {len(problems)} things are wrong{rest}.")


def _row(finding: Finding) -> list[str]:
    return [finding.what, finding.words, str(len(finding.problems)) if finding.problems else ""]
