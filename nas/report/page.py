"""The page around the figures: one self-contained file that opens without a network."""

from __future__ import annotations

import errno
import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from nas.errors import written
from nas.headline import Headline, said
from nas.held import Held
from nas.outcome import Outcome
from nas.records import Row
from nas.redundancy import Redundancy
from nas.report.figures import curves_figure, front_figure, shares_figure
from nas.report.known import known_section
from nas.report.readings import readings_section
from nas.report.redundancy import heat_maps, redundancy_section
from nas.seal import Seal


def write_report(
    outcome: Outcome,
    path: Path,
    *,
    studies_dir: Path | None = None,
    seal: Seal | None = None,
    redundancy: Sequence[Redundancy] = (),
    broken: Sequence[str] = (),
    known: Sequence[Held] = (),
    advantage: Headline | None = None,
) -> None:
    """Write the page beside `path`, then rename: a reader sees the old page or the new one, never a half.

    Args:
        outcome: what to show.
        path: the HTML file; its folder is made where missing.
        studies_dir: named in the page's commands, where it is not the default.
        seal: who read the test images; None leaves them out.
        redundancy, broken: what `nas redundancy` measured, and lines about its files that cannot be read.
        known: networks that no search proposed, trained beside the study.
        advantage: how far the front is above the line; None where there is no line.

    Raises:
        OSError: `path` is a folder, its folder cannot be written, or the disk is full; an older page is left as it was.
        NasError: its folder cannot be made.
    """
    text = page(
        outcome,
        studies_dir=studies_dir,
        seal=seal,
        redundancy=redundancy,
        broken=broken,
        known=known,
        advantage=advantage,
    )
    with written(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target = path.absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)


def page(
    outcome: Outcome,
    *,
    studies_dir: Path | None = None,
    seal: Seal | None = None,
    redundancy: Sequence[Redundancy] = (),
    broken: Sequence[str] = (),
    known: Sequence[Held] = (),
    advantage: Headline | None = None,
) -> str:
    """The page's text. Everything from outside (names, reasons, paths, the space's TOML) is escaped."""
    from plotly.offline import get_plotlyjs

    figures = {
        "front": front_figure(outcome, known),
        "curves": curves_figure(outcome),
        "shares": shares_figure(outcome),
    }
    maps = heat_maps(redundancy)
    options = "" if studies_dir is None else f" --studies-dir {shlex.quote(str(studies_dir))}"
    return _asset("page.html").substitute(
        study=escape(outcome.study),
        headline=escape(outcome.headline),
        style=_asset("page.css").template,
        tiles="".join(
            f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in _tiles(outcome)
        ),
        warm_start=_warm_start(outcome),
        advantage="" if advantage is None else _advantage(outcome, advantage),
        front_table=_front_table(outcome, options),
        known=known_section(outcome, known, options),
        test_images="" if seal is None else readings_section(outcome, seal),
        redundancy=redundancy_section(redundancy, broken, [name for name, _ in maps]),
        how=_how(outcome, options),
        plotly=get_plotlyjs(),
        figures=_script({name: json.loads(figure.to_json()) for name, figure in figures.items()}),
        heat_maps=_script([json.loads(figure.to_json()) for _, figure in maps]),
        zoom=json.dumps(_front_range(outcome)),
        script=_asset("page.js").template,
    )


def _script(data: Any) -> str:
    """JSON for a script; "<" never appears in it, so no text in a figure can end the script."""
    return json.dumps(data).replace("<", "\\u003c")


def _asset(name: str) -> Template:
    return Template((files("nas.report") / "assets" / name).read_text(encoding="utf-8"))


def _tiles(outcome: Outcome) -> Iterable[tuple[str, str]]:
    yield "complete", f"{outcome.count('complete'):,}"
    yield "pruned", f"{outcome.count('pruned'):,}"
    if outcome.count("paused"):
        yield "paused; the same command goes on with them", f"{outcome.count('paused'):,}"
    yield "failed", f"{outcome.count('failed'):,}"
    yield "on the front", f"{len(outcome.front):,}"
    if outcome.hypervolume is not None:
        yield "hypervolume, 0 to 1", f"{outcome.hypervolume:.4f}"
    yield "from first to last trial", _duration(outcome.seconds)
    if outcome.epochs_unpruned:
        saved = 1 - outcome.epochs_used / outcome.epochs_unpruned
        yield f"epochs of {outcome.epochs_unpruned:,} without pruning ({saved:.0%} saved)", f"{outcome.epochs_used:,}"


def _warm_start(outcome: Outcome) -> str:
    """The trials that a warm start began with, and the references that they are nearest to."""
    named = [(row, outcome.nearest_to(row)) for row in outcome.rows]
    words = [
        f"trial {row.trial} to {' and '.join(names)} ({row.cost:,} {outcome.cost}, {row.state})"
        for row, names in named
        if names
    ]
    said = f"Warm start, the networks of the space nearest to known ones: {'; '.join(words)}."
    return f'<p class="warm-start">{escape(said)}</p>' if words else ""


def _advantage(outcome: Outcome, found: Headline) -> str:
    text = " ".join(said(found, outcome.study))
    # what the lines set in backticks is a command
    parts = [f"<code>{escape(part)}</code>" if n % 2 else escape(part) for n, part in enumerate(text.split("`"))]
    return f'<p class="advantage">{"".join(parts)}</p>'


def _front_table(outcome: Outcome, options: str) -> str:
    if not outcome.front:
        return "<p>No trial is complete yet, so there is no front.</p>"
    head = ("trial", "params", "MACs", f"val {outcome.metric_words}", "seconds", "shares by depth", "", "take it away")
    body = "".join(_front_line(row, outcome, options) for row in outcome.front)
    cells = "".join(f"<th>{name}</th>" for name in head)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _front_line(row: Row, outcome: Outcome, options: str) -> str:
    marks = [name for name, marked in (("knee", outcome.knee), ("best", outcome.best)) if row is marked]
    shares = " ".join(f"{float(share):.2f}" for share in row.architecture.shares)
    command = f"nas export {shlex.quote(outcome.study)} --pick trial:{row.trial}{options}"
    cells = (str(row.trial), f"{row.params:,}", f"{row.macs:,}", f"{row.val_accuracy:.4f}", f"{row.seconds:.1f}")
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    badges = "".join(f'<span class="badge">{mark}</span>' for mark in marks)
    return f"<tr>{numbers}<td>{shares}</td><td>{badges}</td><td><code>{escape(command)}</code></td></tr>"


def _how(outcome: Outcome, options: str) -> str:
    """How the study was run, as its records keep it; long texts fold away."""
    lines, folded = [], []
    for name, value in outcome.settings.items():
        if name == "warm_start":  # said beside the front, by its trials
            continue
        if isinstance(value, str) and ("\n" in value or len(value) > 200):
            folded.append((name, value))
        else:
            lines.append(f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_shown(value))}</dd>")
    folded.append(("identity", json.dumps(outcome.identity, indent=2, ensure_ascii=False)))
    more = "".join(
        f"<details><summary>{escape(name.replace('_', ' '))}</summary><pre>{escape(text)}</pre></details>"
        for name, text in folded
    )
    again = f"nas report {shlex.quote(outcome.study)}{options}"
    return f"<dl>{''.join(lines)}</dl>{more}<p>This page again: <code>{escape(again)}</code></p>"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _front_range(outcome: Outcome) -> list[float] | None:
    """Accuracies from just under the front to just over it, for the button that zooms; None without a front."""
    accuracies = [row.val_accuracy for row in outcome.front if row.val_accuracy is not None]
    if not accuracies:
        return None
    room = max(0.02, 0.25 * (max(accuracies) - min(accuracies)))
    return [min(accuracies) - room / 2, max(accuracies) + room]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
