"""The reference line of a study, trained as its trials are: once each, by the seed that a trial would have."""

from __future__ import annotations

from typing import Any

from nas.baseline_rows import Baseline, add_baseline, baselines
from nas.outcome import Outcome
from nas.records import Records, Row
from nas.refine.launch import launch_plan
from nas.refine.options import RefineOptions
from nas.refine.plan import Outside, Plan, Task
from nas.refined import recipe_hash
from nas.study_space import study_space
from nas.width_line import LinePoint, line


def train_line(options: RefineOptions, points: int, *, dry_run: bool = False) -> int:
    """Train the networks of the line that are not on record; see `nas.refine.launch.launch`.

    A network that a trial of the study has trained whole is not trained again: the trial's record is the line's too.

    Args:
        options: `epochs` is the study's.
        points: of the line, at least 1.

    Raises:
        NasError: what the user can mend; what was trained is kept.
    """

    def plan(options: RefineOptions, records: Records, outcome: Outcome) -> Plan:
        space = study_space(outcome)
        networks = line(space, points)
        recipe = options.recipe(outcome)
        study = records.study(options.study).id
        if not dry_run:
            records.create()  # a study of an older layout has no table for this
            trained = {row.key: row for row in outcome.rows if row.state == "complete"}
            there = _recorded(records, study, recipe)
            for point in networks:
                row = trained.get(point.architecture.key)
                if row is not None and row.key not in there and len(row.curve) == recipe["epochs"]:
                    add_baseline(records, study, _of_trial(point, row, recipe, outcome.identity["data"]))
        done = _recorded(records, study, recipe)
        beside = [Outside(point.name, point.architecture) for point in networks]
        left = sorted((one for one in beside if one.key not in done), key=lambda one: -one.macs)
        return Plan(
            chosen=(),
            why="GoogLeNet's proportions at one width each",
            recipe=recipe,
            seeds=1,
            tasks=tuple(Task(one, 0) for one in left),
            beside=tuple(beside),
            brief=True,
        )

    return launch_plan(options, plan, dry_run=dry_run)


def _recorded(records: Records, study: int, recipe: dict[str, Any]) -> set[str]:
    """Keys of the line's networks that are trained by this recipe."""
    mine = recipe_hash(recipe)
    rows = baselines(records, study)
    return {one.key for one in rows if one.kind == "line" and one.recipe_hash == mine and one.replicate == 0}


def _of_trial(point: LinePoint, row: Row, recipe: dict[str, Any], data: dict[str, str]) -> Baseline:
    return Baseline(
        kind="line",
        name=point.name,
        key=row.key,
        architecture=row.architecture,
        params=row.params,
        macs=row.macs,
        input_shape=row.architecture.input_shape,
        recipe_name="study",
        recipe=recipe,
        replicate=0,
        seed=row.seed,
        val_accuracy=float(row.val_accuracy or 0.0),
        curve=row.curve,
        seconds=row.seconds,
        device=row.device,
        threads=row.threads,
        dataset=data["images"],
        split=data["split"],
        started_at=row.started_at,
        finished_at=row.finished_at,
        versions=row.versions,
    )
