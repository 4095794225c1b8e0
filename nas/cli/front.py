"""`nas front`: the networks worth having, smallest first."""

from __future__ import annotations

from typing import Any

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, Study


def front(study: Study, json: Json = False, studies_dir: StudiesDir = STUDIES, storage: Storage = None) -> None:
    """Print the Pareto front: one line a network, smallest first."""
    from nas.cli.options import read_outcome
    from nas.cli.output import print_json, print_table, say
    from nas.outcome import Outcome
    from nas.records import Row

    _, outcome = read_outcome(study, studies_dir, storage)

    def marks(row: Row, of: Outcome = outcome) -> list[str]:
        return [name for name, marked in (("knee", of.knee), ("best", of.best)) if row is marked]

    if json:
        fields = ("trial", "key", "params", "macs", "cost", "val_accuracy", "seconds")
        entries: list[dict[str, Any]] = [
            {
                **{name: getattr(row, name) for name in fields},
                "metric": outcome.metric,
                "epochs": len(row.curve),
                "marks": marks(row),
            }
            for row in outcome.front
        ]
        print_json(entries)
        return
    say(outcome.headline)
    if not outcome.front:
        say("No trial is complete yet, so there is no front.")
        return
    print_table(
        ["trial", "params", "MACs", f"val {outcome.metric_words}", "seconds", ""],
        [
            [
                str(row.trial),
                f"{row.params:,}",
                f"{row.macs:,}",
                f"{row.val_accuracy:.4f}",
                f"{row.seconds:.1f}",
                ", ".join(marks(row)),
            ]
            for row in outcome.front
        ],
        left=[""],
    )
