"""`nas show`: everything on record about one trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.architecture import Rule
    from nas.records import Row
    from nas.refined import Refinement

Trial = Annotated[int, typer.Option("--trial", min=0, help="Number of the trial.")]
HARDEST = 5
"""So many classes are named."""


def show(
    study: Study, trial: Trial, json: Json = False, studies_dir: StudiesDir = STUDIES, storage: Storage = None
) -> None:
    """Print one trial: its modules, shares, learning curve, why it was stopped, and its full trainings."""
    from nas.cli.options import database_url, open_records
    from nas.cli.output import print_json
    from nas.outcome import Outcome
    from nas.refined import refinements

    folder, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        outcome = Outcome.read(records, study)
        found = outcome.trial(trial)
        (row,) = records.rows(study, [trial], confusions=True)
        trainings = [one for one in refinements(records, records.study(study).id) if one.trial == trial]
    on_front = any(found is member for member in outcome.front)
    if json:
        refined = [_plain_training(one) for one in trainings]
        more = {"metric": outcome.metric, "on_front": on_front, "warm_start": list(outcome.nearest_to(row))}
        print_json({**_plain(row, outcome.rule), **more, "refinements": refined})
        return
    _print(row, outcome.rule, outcome.metric_words, outcome.nearest_to(row))
    if row.confusion is not None:
        _print_classes(row.confusion, outcome.settings["classes"])
    if trainings:
        _print_trainings(row, trainings, outcome.metric_words)
    if on_front:
        print(f"On the front. Take it away: nas export {folder.name} --pick trial:{row.trial}")


def _plain(row: Row, rule: Rule) -> dict[str, Any]:
    from dataclasses import asdict

    from nas.architecture import first_fall

    fall = first_fall(row.architecture, rule)
    return {
        **asdict(row),
        "architecture": row.architecture.to_json(),
        "shares": [float(share) for share in row.architecture.shares],
        "rule": {"name": rule, "holds": fall is None, "first_fall": fall},
        "curve": [
            {"epoch": epoch, "val_accuracy": accuracy, "train_loss": loss} for epoch, accuracy, loss in row.curve
        ],
        "stopped": None if row.stopped is None else dict(row.stopped),
        "started_at": row.started_at.isoformat(),
        "finished_at": row.finished_at.isoformat(),
    }


def _print(row: Row, rule: Rule, metric: str, nearest_to: tuple[str, ...]) -> None:
    from nas.cli.output import print_table, printable
    from nas.outcome import MODULE_COLUMNS, modules_table, rule_verdict

    reading = f"validation {metric} {row.val_accuracy:.4f} at epoch {row.curve[-1][0]}" if row.curve else "no reading"
    print(f"Trial {row.trial}: {row.state}, {reading}, {row.seconds:.1f} s")
    if row.reason:
        print(f"Reason: {printable(' '.join(row.reason.split()))}")
    if row.stopped:
        grounds = ", ".join(f"{name} {_short(value)}" for name, value in row.stopped.items() if name != "spared")
        print(f"{'Audited, so not stopped' if row.stopped.get('spared') else 'Stopped'}: {grounds}")
    if nearest_to:
        print(f"Warm start: the network of the space nearest to {' and '.join(nearest_to)}")
    if row.source:
        print(f"Trained in another study: {row.source}")
    print(f"{row.params:,} parameters, {row.macs:,} MACs an image, key {row.key}")
    if heads := [str(module + 1) for module in row.architecture.auxiliary]:
        modules = f"module{'s' * (len(heads) > 1)} {', '.join(heads)}"
        print(f"{row.architecture.training_params:,} parameters in training, with auxiliary heads on {modules}")
    print(f"Trained on {row.device}, {row.threads} threads, seed {row.seed}, worker {row.worker}")
    print(f"From {row.started_at:%Y-%m-%d %H:%M:%S} to {row.finished_at:%Y-%m-%d %H:%M:%S} UTC\n")
    print_table(MODULE_COLUMNS, modules_table(row.architecture))
    print(rule_verdict(row.architecture, rule) + "\n")
    if row.curve:
        print_table(
            ["epoch", f"val {metric}", "train loss"],
            [[str(epoch), f"{accuracy:.4f}", f"{loss:.4f}"] for epoch, accuracy, loss in row.curve],
        )


def _print_classes(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """The least accurate classes; --json has the whole matrix."""
    images = [(sum(line), line[label], name) for label, (line, name) in enumerate(zip(confusion, names, strict=True))]
    worst = sorted((right / there, right, there, name) for there, right, name in images if there)[:HARDEST]
    said = ", ".join(f"{' '.join(name.split())} {part:.4f} ({right} of {there})" for part, right, there, name in worst)
    print(f"Least accurate classes: {said}")


def _plain_training(training: Refinement) -> dict[str, Any]:
    names = ("replicate", "epochs", "seed", "val_accuracy", "seconds", "device", "threads", "weights_sha256")
    return {name: getattr(training, name) for name in names}


def _print_trainings(row: Row, trainings: list[Refinement], metric: str) -> None:
    from nas.cli.output import print_table
    from nas.refined import networks

    (whole,) = networks([row], trainings)
    low, high = whole.interval
    spread = f", 95 % interval {low:.4f} to {high:.4f}" if len(whole.trainings) > 1 else ""
    print(
        f"\nTrained fully by {len(whole.trainings)} fresh seeds, {whole.trainings[0].epochs} epochs: "
        f"mean validation {metric} {whole.mean:.4f}{spread}"
    )
    print_table(
        ["epochs", "replicate", f"val {metric}", "seconds"],
        [[str(one.epochs), str(one.replicate), f"{one.val_accuracy:.4f}", f"{one.seconds:.1f}"] for one in trainings],
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
