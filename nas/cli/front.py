"""`nas front`: the networks worth having, smallest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, Study

if TYPE_CHECKING:
    from nas.held import Held
    from nas.outcome import Outcome
    from nas.records import Row

WithBaselines = Annotated[
    bool, typer.Option("--with-baselines", help="Also what [b]nas baselines[/] trained beside the study.")
]


def front(
    study: Study,
    json: Json = False,
    with_baselines: WithBaselines = False,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Print the Pareto front: one line a network, smallest first."""
    from nas.cli.options import database_url, open_records
    from nas.cli.output import print_json, say
    from nas.headline import said, study_headline
    from nas.outcome import Outcome

    known: list[Held] = []
    with open_records(database_url(study, studies_dir, storage)[1]) as records:
        outcome = Outcome.read(records, study)
        advantage = study_headline(records, outcome)
        if with_baselines:
            from nas.baseline_rows import baselines
            from nas.held import held

            known = held(baselines(records, records.study(study).id))

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
        print_json(entries + [_plain(one, outcome) for one in known])
        return
    say(outcome.headline)
    if not outcome.front:
        say("No trial is complete yet, so there is no front.")
    if with_baselines:
        _print_known(outcome, known)
    elif outcome.front:
        _print_front(outcome, marks)
    for line in [] if advantage is None else said(advantage, study):
        say(line)


def _print_front(outcome: Outcome, marks: Callable[[Row], list[str]]) -> None:
    from nas.cli.output import print_table

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


def _print_known(outcome: Outcome, known: list[Held]) -> None:
    """The front and the known networks in one table by cost."""
    from nas.cli.output import print_table, say

    if not known:
        say(f"No known network is trained beside it yet; nas baselines train NAME --study {outcome.study} does.")
    picks = (("knee", outcome.knee), ("best", outcome.best))
    lines: list[tuple[int, list[str]]] = []
    for row in outcome.front:
        accuracy = "-" if row.val_accuracy is None else f"{row.val_accuracy:.4f}"
        marks = ", ".join(name for name, marked in picks if row is marked)
        cells = [
            f"trial {row.trial}",
            f"{row.params:,}",
            f"{row.macs:,}",
            accuracy,
            "",
            "1",
            str(len(row.curve)),
            marks,
        ]
        lines.append((row.cost, cells))
    for one in known:
        first, better = one.first, one.beaten_by(outcome)
        spread = "" if len(one.trainings) == 1 else f"{one.std:.4f}"
        cells = [first.name, f"{first.params:,}", f"{first.macs:,}", f"{one.mean:.4f}", spread]
        cells += [str(len(one.trainings)), str(first.epochs), one.words(outcome)]
        cells[-1] += "" if better is None else f"; beaten by trial {better.trial}"
        lines.append((first.cost(outcome.cost), cells))
    if lines:
        print_table(
            ["network", "params", "MACs", f"val {outcome.metric_words}", "± seeds", "seeds", "epochs", ""],
            [cells for _, cells in sorted(lines, key=lambda line: line[0])],
            left=["network", ""],
        )
    if any(one.first.epochs != int(outcome.settings["epochs"]) for one in known):
        say(
            f"The study's trials have {outcome.settings['epochs']} epochs: other numbers do not compare like with like."
        )


def _plain(one: Held, outcome: Outcome) -> dict[str, Any]:
    """For programs: the fields of a network of the front, its mean over seeds as its accuracy, and more."""
    first, better = one.first, one.beaten_by(outcome)
    return {
        "trial": None,
        "key": first.key,
        "params": first.params,
        "macs": first.macs,
        "cost": first.cost(outcome.cost),
        "val_accuracy": one.mean,
        "seconds": sum(training.seconds for training in one.trainings) / len(one.trainings),
        "metric": outcome.metric,
        "epochs": first.epochs,
        "marks": [],
        "kind": first.kind,
        "name": first.name,
        "recipe": first.recipe_name,
        "input": list(first.input_shape),
        "std": one.std if len(one.trainings) > 1 else None,
        "trainings": [
            {name: getattr(training, name) for name in ("replicate", "seed", "val_accuracy", "seconds")}
            for training in one.trainings
        ],
        "beaten_by": None if better is None else better.trial,
    }
