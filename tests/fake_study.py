"""A study as a search leaves it, with plausible numbers and nothing trained: for what reads studies."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nas.architecture import Architecture, Conv, InceptionWidths, MaxPool, first_fall
from nas.records import Records, Row
from nas.study_folder import StudyFolder

HOSTILE = "<script>alert('boo')</script> & \"quotes\""
EPOCHS = 9
STARTED = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def architecture(scale: float, shares: tuple[float, float, float] = (0.4, 0.5, 0.6)) -> Architecture:
    """Three modules on 8x8 grey images, `scale` times 16 channels wide, with about these shares of 3x3 and 5x5."""

    def module(share: float, width: float) -> InceptionWidths:
        out = max(8, round(width * scale) * 2)
        spatial = min(max(2, round(out * share)), out - 2)
        five = max(1, spatial // 3)
        rest = out - spatial
        return InceptionWidths(rest - rest // 2, max(1, out // 8), spatial - five, max(1, out // 16), five, rest // 2)

    a, b, c = (module(share, width) for share, width in zip(shares, (8, 10, 12), strict=True))
    return Architecture((1, 8, 8), 10, (Conv(max(4, round(8 * scale))),), ((a, b), (c,)), (MaxPool(2, 2),))


def rows(count: int = 60, *, seed: int = 0, hostile: bool = True) -> list[Row]:
    """`count` evaluations: mostly complete, a third pruned at a rung, every twentieth failed."""
    draw = random.Random(seed)
    made: list[Row] = []
    keys: set[str] = set()
    while len(made) < count:
        trial = len(made)
        shares = sorted(draw.uniform(0.25, 0.75) for _ in range(3))
        network = architecture(math.exp(draw.uniform(math.log(0.4), math.log(2.5))), (shares[0], shares[1], shares[2]))
        if network.key in keys or first_fall(network) is not None:  # rounding breaks the rule now and then
            continue
        keys.add(network.key)
        final = 0.985 - 14 / network.params**0.7 + draw.gauss(0, 0.012)
        curve = tuple(
            (epoch, round(final * (1 - 0.75 * math.exp(-epoch / 2)), 4), round(2.3 * math.exp(-epoch / 4), 4))
            for epoch in range(1, EPOCHS + 1)
        )
        state, reason, stopped = "complete", None, None
        if trial % 20 == 7:
            state = "failed"
            reason = f"the loss is not finite {HOSTILE}" if hostile else "the loss is not finite"
            curve = curve[: trial % 3]
        elif trial > 8 and draw.random() < 0.35:
            state, rung = "pruned", draw.choice((1, 3))
            stopped = {"rung": rung, "deficit": 0.0512, "margin": 0.0213, "dominated_by": 3}
            reason = f"at rung {rung}: 5.1 points under the front, margin 2.1"
            curve = curve[:rung]
        begun = STARTED + timedelta(seconds=4.5 * trial)
        made.append(
            Row(
                trial=trial,
                key=network.key,
                architecture=network,
                state=state,  # type: ignore[arg-type]
                reason=reason,
                val_accuracy=curve[-1][1] if curve else None,
                curve=curve,
                params=network.params,
                macs=network.macs,
                cost=network.params,
                seconds=round(0.5 + 0.4 * len(curve), 2),
                seed=trial + 1,
                device="cpu",
                threads=1,
                worker="worker-0",
                started_at=begun,
                finished_at=begun + timedelta(seconds=0.5 + 0.4 * len(curve)),
                stopped=stopped,
            )
        )
    return made


def identity(images: str = "0", split: str = "0") -> dict[str, Any]:
    """What the study is; `images` and `split` are digests of its data."""
    space = {"rule": "growing", "cost": "params", "recipe": {"epochs": EPOCHS}}
    return {"space": space, "data": {"name": "digits", "images": images, "split": split}, "seed": 0, "split_seed": 0}


def settings(name: str) -> dict[str, Any]:
    """How the study was run."""
    return {
        "dataset": "digits",
        "classes": [str(digit) for digit in range(10)],
        "mean": [0.3],
        "std": [0.35],
        "train_images": 1222,
        "validation_images": 215,
        "test_images": 360,
        "skipped_images": 0,
        "split_seed": 0,
        "train_limit": None,
        "skip_broken": False,
        "seed": 0,
        "sampler": "tpe",
        "pruner": "conformal",
        "epochs": EPOCHS,
        "cost": "params",
        "cost_range": [1000, 15000],
        "rule": "growing",
        "space": "digits",
        "space_toml": f'name = "digits"  # {HOSTILE}',
        "command": f"nas search --study {name}",
        "workers": 2,
        "created_at": "2026-05-04T12:00:00+00:00",
        "hardware": HOSTILE,
        "versions": {"nas": "0.1.0", "python": "3.11.9", "torch": "2.14.1", "optuna": "5.0.0", "numpy": "2.4.6"},
    }


def write_study(
    studies_dir: Path,
    name: str = "fake",
    evaluations: list[Row] | None = None,
    *,
    optuna_tables: bool = False,
    digests: tuple[str, str] = ("0", "0"),
    **changed: Any,
) -> StudyFolder:
    """Write the records of a study, and Optuna's own tables on demand (they take a second).

    `digests` are of the images and the split; `changed` replaces settings.
    """
    folder = StudyFolder(studies_dir, name)
    folder.path.mkdir(parents=True)
    evaluations = rows() if evaluations is None else evaluations
    records = Records(folder.url)
    records.create()
    record = records.add_study(name, identity(*digests), {**settings(name), **changed})
    with records.writing() as connection:
        for row in evaluations:
            records.add(record.id, row, connection)
    records.close()
    if optuna_tables:
        _write_optuna(folder, evaluations)
    return folder


def _write_optuna(folder: StudyFolder, evaluations: list[Row]) -> None:
    import optuna
    from optuna.trial import TrialState

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    storage = optuna.storages.RDBStorage(folder.url)
    study = optuna.create_study(storage=storage, study_name=folder.name, directions=["maximize", "minimize"])
    study.add_trials(
        [
            optuna.trial.create_trial(
                state=states[row.state],
                values=[row.val_accuracy or 0.0, float(row.cost)] if row.state == "complete" else None,
                params={"size": (row.trial + 0.5) / len(evaluations)},
                distributions={"size": optuna.distributions.FloatDistribution(0, 1)},
                user_attrs={"cost": row.cost, "key": row.key},
                intermediate_values={epoch: accuracy for epoch, accuracy, _ in row.curve},
            )
            for row in evaluations
        ]
    )
    storage.engine.dispose()
