"""`nas test`: the sealed test images, read for the networks that are named."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir, Study, command_of

if TYPE_CHECKING:
    from nas.final_test import Tested
    from nas.outcome import Outcome
    from nas.seal import Reading, Seal

Picks = Annotated[
    list[str],
    typer.Option(
        "--pick",
        help="[b]best[/], [b]knee[/], [b]trial:N[/], [b]under:500k[/] or [b]smallest:0.95[/], among the refined "
        "networks where there are some; several times for several networks.",
    ),
]
AsIs = Annotated[bool, typer.Option("--as-is", help="The search's own networks and weights, refined or not.")]
AllSeeds = Annotated[
    bool, typer.Option("--all-seeds", help="Read every full training of a network too, for the mean over seeds.")
]
Dataset = Annotated[
    str | None,
    typer.Option(help="Where the study's images are now, as [b]folder:PATH[/]. Default: where the search read them."),
]
Device = Annotated[str, typer.Option(help="[b]auto[/], [b]cpu[/], [b]cuda[/] or [b]cuda:N[/].")]
FEW = 20
"""Classes up to which the confusion matrix is printed whole."""


def read_test(
    context: typer.Context,
    study: Study,
    pick: Picks,
    as_is: AsIs = False,
    all_seeds: AllSeeds = False,
    dataset: Dataset = None,
    device: Device = "auto",
    json: Json = False,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Read the sealed test images for the networks named; every reading is recorded and counted."""
    from nas import refined, seal
    from nas.chosen import choose
    from nas.cli.options import database_url, open_records, say_where
    from nas.cli.output import print_json, say
    from nas.outcome import Outcome

    folder, url = database_url(study, studies_dir, storage)
    with open_records(url) as records:
        outcome = Outcome.read(records, study)
        say_where(folder, outcome)
        found = refined.networks(outcome.rows, refined.refinements(records, records.study(study).id))
        chosen = choose(folder, outcome, found, pick, as_is=as_is, all_seeds=all_seeds)
        data, digest = outcome.settings["dataset"], outcome.identity["data"]["images"]
        before = seal.look(studies_dir, records, digest)
        say(f"Test images of {data}, before this: {before.words}.")
        if not found and not as_is:
            say(f"No network of study {study} is refined: the search's own weights are read.")

        from nas.final_test import read_test_images

        tested = read_test_images(
            records,
            outcome,
            chosen,
            dataset=dataset,
            device=device,
            cache=studies_dir / ".cache",
            command=command_of(context, storage),
        )
        now = seal.look(studies_dir, records, digest)
    if json:
        print_json(_plain(outcome, tested, before, now))
        return
    known = {(reading.key, reading.weights_sha256) for _, reading in before.readings}
    _print(outcome, tested, known)
    say(f"Test images of {data}, with this: {now.words}.")


def _plain(outcome: Outcome, tested: list[Tested], before: Seal, now: Seal) -> dict[str, Any]:
    return {
        "study": outcome.study,
        "dataset": {"name": outcome.settings["dataset"], "digest": outcome.identity["data"]["images"]},
        "metric": outcome.metric,
        "classes": list(outcome.settings["classes"]),
        "readings_before": before.times,
        "readings": now.times,
        "networks": [_network(outcome, one) for one in tested],
    }


def _network(outcome: Outcome, tested: Tested) -> dict[str, Any]:
    row, middle = tested.chosen.row, tested.chosen.refined
    mean, low, high = tested.over_seeds(outcome.metric)
    return {
        "trial": row.trial,
        "key": row.key,
        "picks": list(tested.chosen.picks),
        "params": row.params,
        "macs": row.macs,
        "val_mean": None if middle is None else middle.mean,
        **_reading(outcome, tested, 0),
        "seeds": None
        if len(tested.readings) == 1
        else {
            "mean": mean,
            "interval": [low, high],
            "readings": [_reading(outcome, tested, number) for number in range(len(tested.readings))],
        },
    }


def _reading(outcome: Outcome, tested: Tested, number: int) -> dict[str, Any]:
    from nas.seal import wilson

    reading, weights = tested.readings[number], tested.chosen.weights[number]
    return {
        "weights": reading.weights,
        "weights_sha256": reading.weights_sha256,
        "read_at": reading.read_at.isoformat(),
        "val_" + outcome.metric.replace("-", "_"): weights.val_accuracy,
        "images": reading.images,
        "correct": reading.correct,
        "test_accuracy": reading.accuracy,
        "interval": list(reading.interval),
        "test_balanced_accuracy": reading.balanced_accuracy,
        "balanced_interval": list(reading.balanced_interval),
        "by_class": [
            {
                "class": name,
                "images": images,
                "correct": right,
                "accuracy": right / images if images else None,
                "interval": list(wilson(right, images)) if images else None,
            }
            for name, right, images in zip(
                outcome.settings["classes"], reading.class_correct, reading.class_images, strict=True
            )
        ],
        "confusion": [list(row) for row in reading.confusion],
    }


def _print(outcome: Outcome, tested: list[Tested], known: set[tuple[str, str]]) -> None:
    from nas.cli.output import print_table

    balanced = outcome.metric == "balanced-accuracy"
    lines = []
    for one in tested:
        reading = one.reading
        cells = [", ".join(one.chosen.picks), str(one.chosen.row.trial), f"{one.chosen.row.params:,}", reading.weights]
        cells += [f"{one.chosen.weights[0].val_accuracy:.4f}", f"{reading.accuracy:.4f}", _span(reading.interval)]
        cells += [f"{reading.balanced_accuracy:.4f}", _span(reading.balanced_interval)] if balanced else []
        lines.append([*cells, f"{reading.correct:,} of {reading.images:,}"])
    more = ["test balanced", "95 %, by Wilson's of each class"] if balanced else []
    val = f"val {outcome.metric_words}"
    print_table(
        ["pick", "trial", "params", "weights", val, "test accuracy", "95 %, Wilson", *more, "right"],
        lines,
        left=["pick", "weights"],
    )
    for one in tested:
        row = one.chosen.row
        if len(one.readings) > 1:
            mean, low, high = one.over_seeds(outcome.metric)
            values = ", ".join(f"{_value(reading, balanced):.4f}" for reading in one.readings)
            print(
                f"\nTrial {row.trial}, all {len(one.readings)} full trainings: mean test {outcome.metric_words} "
                f"{mean:.4f}, 95 % {_span((low, high))} by Student's t ({values})"
            )
        if (row.key, one.reading.weights_sha256) in known:
            print(f"\nTrial {row.trial}: these weights were read before; this is one reading more.")
        _print_classes(outcome, one)


def _print_classes(outcome: Outcome, tested: Tested) -> None:
    from nas.cli.output import print_table
    from nas.seal import wilson

    classes, reading = outcome.settings["classes"], tested.reading
    print(f"\nTrial {tested.chosen.row.trial} by class:")
    print_table(
        ["class", "images", "right", "accuracy", "95 %, Wilson"],
        [
            [name, f"{images:,}", f"{right:,}", f"{right / images:.4f}", _span(wilson(right, images))]
            for name, right, images in zip(classes, reading.class_correct, reading.class_images, strict=True)
            if images
        ],
        left=["class"],
    )
    if len(classes) <= FEW:
        print(f"\nTrial {tested.chosen.row.trial}, images by true class (rows) and answer (columns):")
        # long names would make the matrix wider than a terminal: numbers then, by which the rows begin too
        short = sum(map(len, classes)) <= 80
        print_table(
            ["true", *(classes if short else map(str, range(len(classes))))],
            [
                [name if short else f"{number} {name}", *(f"{n:,}" if n else "." for n in row)]
                for number, (name, row) in enumerate(zip(classes, reading.confusion, strict=True))
            ],
            left=["true"],
        )
        return
    wrong = sorted(
        ((n, t, a) for t, row in enumerate(reading.confusion) for a, n in enumerate(row) if n and t != a), reverse=True
    )
    print(f"\nTrial {tested.chosen.row.trial}, the largest of {len(wrong):,} confusions (--json has the whole matrix):")
    print_table(
        ["true class", "answer", "images", "of the class"],
        [
            [classes[true], classes[answer], f"{n:,}", f"{n / reading.class_images[true]:.1%}"]
            for n, true, answer in wrong[:FEW]
        ],
        left=["true class", "answer"],
    )


def _value(reading: Reading, balanced: bool) -> float:
    return reading.balanced_accuracy if balanced else reading.accuracy


def _span(interval: tuple[float, float]) -> str:
    low, high = interval
    return "-" if math.isnan(low) else f"{low:.4f} to {high:.4f}"
