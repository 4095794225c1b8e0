"""The page around the sections: one self-contained file that opens without a network."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go

from nas.beside import beside
from nas.headline import Headline
from nas.held import Held, held_in_full
from nas.outcome import Outcome
from nas.redundancy import Redundancy
from nas.refined import Refinement, networks
from nas.report.curves import curves_section
from nas.report.front import front_section, front_table_section
from nas.report.how import how_section
from nas.report.known import known_section
from nas.report.latency import Latency
from nas.report.matters import matters_section
from nas.report.progress import progress_section
from nas.report.readings import readings_section
from nas.report.redundancy import redundancy_section
from nas.report.section import Section
from nas.report.shares import shares_section
from nas.report.timeline import lasting
from nas.seal import Seal

SCRIPTS = ("draw.js", "trials.js", "panel.js", "front.js", "parallel.js", "page.js")
"""In their order: the last one draws the figures."""


def write_page(text: str, path: Path) -> None:
    """Write a page whole or not at all; an older one is left as it was where that fails.

    Args:
        text: what `page` or `assembled` made.
        path: the HTML file; its folder is made where missing.

    Raises:
        OSError: `path` is a folder, its folder cannot be written, or the disk is full.
        NasError: its folder cannot be made.
    """
    with beside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")  # a folder's bytes may be no text
        aside.replace(path)


def page(
    outcome: Outcome,
    *,
    studies_dir: Path | None = None,
    storage: str | None = None,
    seal: Seal | None = None,
    redundancy: Sequence[Redundancy] = (),
    broken: Sequence[str] = (),
    known: Sequence[Held] = (),
    advantage: Headline | None = None,
    trainings: Sequence[Refinement] = (),
    latency: Latency | None = None,
) -> str:
    """The page of one study. Everything from outside (names, reasons, paths, the space's TOML) is escaped.

    Args:
        outcome: what to show.
        studies_dir, storage: named in the page's commands, where they are not the default.
        seal: who read the test images; None leaves them out.
        redundancy, broken: what `nas redundancy` measured, and lines about its files that cannot be read.
        known: networks that no search proposed, trained beside the study.
        advantage: how far the front is above the line; None where there is no line.
        trainings: full ones, with fresh seeds.
        latency: what was measured; None where nothing was.
    """
    given = {"--studies-dir": studies_dir, "--storage": storage}
    options = "".join(f" {name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None)
    refined = networks(outcome.rows, trainings)
    line_in_full = held_in_full([training for one in known for training in one.trainings], trainings)
    sections = (
        front_section(outcome, (*known, *line_in_full), advantage, refined, latency, options),
        front_table_section(outcome, refined),
        known_section(outcome, known, options),
        progress_section(outcome),
        curves_section(outcome),
        shares_section(outcome),
        matters_section(outcome),
        None if seal is None else readings_section(outcome, seal),
        redundancy_section(redundancy, broken),
        how_section(outcome, trainings, seal, options),
    )
    return assembled(outcome.study, outcome.headline, _tiles(outcome), sections)


def assembled(
    title: str,
    headline: str,
    tiles: Iterable[tuple[str, str]],
    sections: Iterable[Section | None],
) -> str:
    """A whole page.

    Args:
        title, headline: plain text, escaped here.
        tiles: (name, value) of the numbers at the top, plain text.
        sections: in their order; None leaves one out.
    """
    from plotly.offline import get_plotlyjs

    there = [section for section in sections if section is not None]
    figures = {name: _plain(figure) for section in there for name, figure in section.figures.items()}
    data = {name: value for section in there for name, value in section.data.items()}
    return _asset("page.html").substitute(
        title=escape(title),
        headline=escape(headline),
        style=_asset("page.css").template,
        tiles="".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in tiles),
        sections="\n".join(f"<section>\n{section.html}\n</section>" for section in there),
        plotly=get_plotlyjs(),
        figures=_script(figures),
        data=_script(data),
        script="\n".join(_asset(name).template for name in SCRIPTS),
    )


def _plain(figure: go.Figure) -> dict[str, Any]:
    """Without plotly's template: 6 KB a figure, and the page's script sets the look."""
    found: dict[str, Any] = figure.to_plotly_json()
    found["layout"].pop("template", None)
    return found


def _script(data: Any) -> str:
    """JSON for a script, figures within it too; without "<", whatever plotly does, so that no text ends the script."""
    from plotly.io.json import to_json_plotly

    text: str = to_json_plotly(data, engine="json")
    return text.replace("<", "\\u003c")


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
    yield "from first to last trial", lasting(outcome.seconds)
    if outcome.epochs_unpruned:
        saved = 1 - outcome.epochs_used / outcome.epochs_unpruned
        yield f"epochs of {outcome.epochs_unpruned:,} without pruning ({saved:.0%} saved)", f"{outcome.epochs_used:,}"
