"""The report's part on how the study was run, complete enough to run it again."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from nas.outcome import Outcome
from nas.refined import Refinement
from nas.report.section import Section
from nas.seal import Seal

TOLD = {
    "command", "created_at", "hardware", "workers", "versions", "dataset", "classes", "train_images",
    "validation_images", "test_images", "skipped_images", "split_seed", "seed", "space_toml", "warm_start",
    "options", "folder",
}  # fmt: skip
"""Settings with a line of their own; the others follow under their names."""


def how_section(outcome: Outcome, trainings: Sequence[Refinement], seal: Seal | None, options: str) -> Section:
    """How the study was run, as its records keep it; long texts fold away.

    Args:
        trainings: full ones.
        seal: who read the test images; None leaves them out.
        options: for the page's commands.
    """
    settings = outcome.settings
    lines = [*_lines(outcome, trainings, seal)]
    folded: list[tuple[str, object]] = [("identity: a study goes on only where all of this is equal", outcome.identity)]
    for name, value in settings.items():
        if name in TOLD:
            continue
        if isinstance(value, str) and ("\n" in value or len(value) > 200):
            folded.append((name.replace("_", " "), value))
        else:
            lines.append((name.replace("_", " "), _shown(value)))
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in lines)
    space = settings.get("space_toml")
    parts = [
        "<h2>How it was run</h2>",
        _command(settings.get("command")),
        f"<dl>{listed}</dl>",
        _folded(f"search space {settings.get('space', '')} (TOML)", space) if space else "",
        *(_folded(name, text) for name, text in folded),
        *_again(outcome, options),
    ]
    return Section("\n".join(part for part in parts if part))


def _lines(outcome: Outcome, trainings: Sequence[Refinement], seal: Seal | None) -> Iterable[tuple[str, str]]:
    settings, data = outcome.settings, outcome.identity.get("data", {})
    if settings.get("created_at"):
        yield "begun", str(settings["created_at"]).replace("T", " ").replace("+00:00", " UTC")
    yield "hardware", _shown(settings.get("hardware"))
    devices = Counter((row.device, row.threads) for row in outcome.rows)
    if devices:
        each = [
            f"{device}, {threads} thread{'s' * (threads != 1)}: {_trials(n)}"
            for (device, threads), n in devices.items()
        ]
        yield "trained on", "; ".join(each)
    workers = len({row.worker for row in outcome.rows})
    yield "workers", f"{_shown(settings.get('workers'))} at its start; {workers} took part"
    yield "versions", _shown(settings.get("versions"))
    others = Counter(
        _shown(row.versions) for row in outcome.rows if row.versions not in (None, settings.get("versions"))
    )
    for versions, n in others.items():
        yield "versions later", f"{versions}: {_trials(n)}"
    yield (
        "seeds",
        f"{_shown(settings.get('seed'))} for proposals; each training's own is a hash of it and the network's key, so "
        "a network trains alike in whatever order it comes",
    )
    yield "data", _shown(settings.get("dataset"))
    sizes = [(settings.get(f"{part}_images"), part) for part in ("train", "validation", "test")]
    skipped = settings.get("skipped_images")
    yield (
        "split",
        ", ".join(f"{int(n):,} {part}" for n, part in sizes if n is not None)
        + f" images by split seed {_shown(settings.get('split_seed'))}"
        + (f"; {skipped:,} broken ones left out" if skipped else ""),
    )
    for name, digest in data.items():
        if name in ("images", "split"):
            yield f"digest of the {name}", str(digest)
    yield "classes", _shown(settings.get("classes"))
    if seal is not None:
        yield "readings of the test images", seal.words
    if trainings:
        networks, epochs = len({one.key for one in trainings}), sorted({one.epochs for one in trainings})
        seeds = len({one.replicate for one in trainings})
        yield (
            "full trainings",
            f"{len(trainings):,} of {networks:,} networks, {' or '.join(map(str, epochs))} epochs, up to {seeds} fresh "
            f"seed{'s' * (seeds != 1)} each",
        )


def _command(command: object) -> str:
    return f'<code class="command">{escape(command)}</code>' if isinstance(command, str) else ""


def _again(outcome: Outcome, options: str) -> Iterable[str]:
    """Commands that run the study anew, and that write this page again."""
    anew = run_again(outcome.settings.get("command"), outcome.study)
    if anew is not None:
        yield (
            "<h3>Run it again</h3><p>The same command goes on where the study stopped. Under another name it searches "
            "anew; trainings are the same where hardware and versions are, and with more than one worker their order "
            "may differ.</p>"
        )
        space = outcome.settings.get("space_toml")
        if space:
            yield (
                "<p>Its search space is above: save it as a file and name that with <code>--space</code> where "
                "the one of the command has changed or is gone.</p>"
            )
        yield _command(anew)
    yield "<p>This page again:</p>"
    yield _command(f"nas report {shlex.quote(outcome.study)}{options}")


def run_again(command: object, study: str) -> str | None:
    """The study's command under the name ``STUDY-again``; None where none is on record that a shell could read."""
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return None
    if words[:2] != ["nas", "search"]:
        return None
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--study":
            next(rest, None)
        elif not word.startswith("--study="):
            kept.append(word)
    return shlex.join([*kept, "--study", f"{study}-again"])


def _folded(name: str, content: object) -> str:
    text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"


def _trials(count: int) -> str:
    return f"{count:,} trial{'s' * (count != 1)}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
