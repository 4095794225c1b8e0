"""`nas front`: the networks worth having, smallest first."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, Study

if TYPE_CHECKING:
    from nas.headline import Headline
    from nas.held import Held
    from nas.outcome import Glance, Outcome
    from nas.records import Row
    from nas.refined import Refined

WithBaselines = Annotated[
    bool, typer.Option("--with-baselines", help="Also what [b]nas baselines[/] trained beside the study.")
]
Plot = Annotated[bool, typer.Option("--plot/--no-plot", help="Draw it below the table.")]


def front(
    study: Study,
    json: Json = False,
    with_baselines: WithBaselines = False,
    plot: Plot = True,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Print the Pareto front, one line a network, smallest first, and draw it."""
    from nas.cli.options import database_url, open_records
    from nas.cli.output import print_json, say
    from nas.headline import said, study_headline
    from nas.outcome import Glance

    known: list[Held] = []
    in_full: list[Held] = []
    trained: list[Refined] = []
    with open_records(database_url(study, studies_dir, storage)[1]) as records:
        glance = Glance.read(records, study)
        outcome = glance.outcome
        advantage = study_headline(records, outcome)
        if with_baselines or not json:
            from nas.baseline_rows import baselines
            from nas.held import held, held_in_full
            from nas.refined import networks, refinements

            number = records.study(study).id
            beside, trainings = baselines(records, number), refinements(records, number)
            known, in_full = held(beside), held_in_full(beside, trainings)
            trained = networks(records.rows(study, {one.trial for one in trainings}), trainings)

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
        if with_baselines:
            entries += [_plain(one, outcome) for one in known]
            entries += [] if advantage is None else [_plain_headline(advantage, outcome)]
        print_json(entries)
        return
    say(glance.headline)
    if not outcome.front:
        say("No trial is complete yet, so there is no front.")
    if with_baselines:
        _print_known(outcome, known)
    elif outcome.front:
        _print_front(outcome, marks)
    if plot and outcome.front:
        drawn = [one for one in known if with_baselines or one.first.kind == "line"]  # the line is in every plot
        _draw(glance, drawn, in_full, trained)
    if trained:
        say(
            f"Trained in full: {len(trained)}; --pick chooses among these, by their means: "
            f"nas refine {shlex.quote(study)} --show."
        )
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
    from nas.held import OPTIMISTIC

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
        cells[-1] += "" if first.module_params is None else f"; the module alone {first.module_params:,}"
        cells[-1] += "" if better is None else f"; beaten by trial {better.trial} *"
        lines.append((first.cost(outcome.cost), cells))
    if lines:
        print_table(
            ["network", "params", "MACs", f"val {outcome.metric_words}", "± seeds", "seeds", "epochs", ""],
            [cells for _, cells in sorted(lines, key=lambda line: line[0])],
            left=["network", ""],
        )
    if any(one.beaten_by(outcome) is not None for one in known):
        say(f"* {OPTIMISTIC}: `nas refine {shlex.quote(outcome.study)}` trains the front with fresh seeds.")
    if any(one.first.epochs != int(outcome.settings["epochs"]) for one in known):
        say(
            f"The study's trials have {outcome.settings['epochs']} epochs: other numbers do not compare like with like."
        )


def _draw(glance: Glance, known: list[Held], in_full: list[Held], trained: list[Refined]) -> None:
    """Log cost against the metric; what lies far below the front is left out and counted.

    Args:
        known: networks that no search proposed, of which the line is one kind.
        in_full: the line, trained in full beside the front.
        trained: networks of the study that were trained in full.
    """
    import os
    import shutil
    import sys

    from rich.console import Console

    from nas.cli.output import say
    from nas.cli.terminal_plot import NARROWEST, WIDEST, Kind, draw

    outcome, cost = glance.outcome, glance.outcome.cost
    columns, lines = shutil.get_terminal_size()
    if columns < NARROWEST:
        return

    def points(*states: str) -> list[tuple[float, float]]:
        mine = [one for one in glance.points if one.state in states]
        return [(one.cost, one.val_accuracy) for one in mine if one.val_accuracy is not None]

    def of(*rows: Row | None) -> list[tuple[float, float]]:
        return [(row.cost, row.val_accuracy or 0.0) for row in rows if row is not None]

    def held(found: list[Held], kind: str) -> list[tuple[float, float]]:
        return [(one.first.cost(cost), one.mean) for one in found if one.first.kind == kind]

    beside = [
        Kind("GoogLeNet's proportions", "□", "green", held(known, "line")),
        Kind("these in full, mean", "■", "green", held(in_full, "line")),
        Kind("known network", "◆", "magenta", held(known, "reference")),
        Kind("refined, mean", "▲", "yellow", [(one.row.cost, one.mean) for one in trained]),
    ]
    whole = [
        Kind("complete", "○", "", points("complete")),
        *beside,
        Kind("front", "●", "bold cyan", of(*outcome.front)),
        Kind("knee", "K", "bold cyan", of(outcome.knee)),
        Kind("best", "B", "bold cyan", of(outcome.best)),
    ]
    unfinished = Kind("pruned or paused", "·", "dim", points("pruned", "paused"))
    front = [accuracy for _, accuracy in of(*outcome.front)]
    low = min(front) - max(0.05, max(front) - min(front))
    low = min(accuracy for kind in whole for _, accuracy in kind.points if accuracy >= low)
    console = Console(
        file=sys.stdout, highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto", width=WIDEST
    )
    console.print()
    for line in draw(
        [unfinished, *whole],
        width=min(columns, WIDEST),
        height=min(20, max(8, columns // 5), max(8, lines - 8)),
        low=low,
        title=f"val {outcome.metric_words} against {'MACs' if cost == 'macs' else cost}, log scale",
        encoding=sys.stdout.encoding or "ascii",
    ):
        console.print(line)
    below = {
        "complete": sum(accuracy < low for _, accuracy in whole[0].points),
        "pruned or paused": sum(accuracy < low for _, accuracy in unfinished.points),
        "known": sum(accuracy < low for kind in beside for _, accuracy in kind.points),
    }
    if any(below.values()):
        words = ", ".join(f"{count} {name}" for name, count in below.items() if count)
        say(f"Below the plot: {words}.")


def _plain(one: Held, outcome: Outcome) -> dict[str, Any]:
    """For programs: the fields of a network of the front, its mean over seeds as its accuracy, and more."""
    first, better = one.first, one.beaten_by(outcome)
    return {
        "trial": None,
        "key": first.key,
        "params": first.params,
        "module_params": first.module_params,
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
        "selected_on_the_same_reading": None if better is None else True,
    }


def _plain_headline(found: Headline, outcome: Outcome) -> dict[str, Any]:
    """For programs: the headline as an entry of its own, which is no network."""
    from nas.headline import plain

    empty = ("trial", "key", "params", "macs", "cost", "val_accuracy", "seconds", "epochs")
    return {
        **dict.fromkeys(empty),
        "metric": outcome.metric,
        "marks": [],
        "kind": "headline",
        "name": "front against GoogLeNet's proportions",
        **plain(found),
    }
