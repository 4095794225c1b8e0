"""The page's figures as PNG files, drawn by a browser that kaleido finds; nothing is fetched from a network."""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go

from nas.errors import NasError, written
from nas.held import Held, held_in_full
from nas.outcome import Outcome
from nas.refined import Refinement, networks
from nas.report.curves import curves_section
from nas.report.figures import front_figure
from nas.report.matters import matters_section
from nas.report.progress import progress_section
from nas.report.section import Section
from nas.report.shares import shares_section

WIDTH, HEIGHT, SCALE = 1000, 620, 2
"""Of a picture in points, and pixels a point."""
SECONDS = 120
"""So long one picture may take; 10,000 trials take 2 s."""
SECTIONS = (progress_section, curves_section, shares_section, matters_section)
BY_SCRIPT = ("parallel",)
"""Filled in by the page's script from its trials: of no use outside the page."""
_PLACE = re.compile(r'<h[23]>(?P<heading>.*?)</h[23]>|id="(?P<name>[^"]+)"')


@dataclass(frozen=True)
class Picture:
    """A figure with the name of its file, without ending, and what stands over it, plain text."""

    name: str
    title: str
    figure: go.Figure


def pictures(outcome: Outcome, known: Sequence[Held] = (), trainings: Sequence[Refinement] = ()) -> list[Picture]:
    """The figures of a study that has at least one trial, in the order of the page; those without data are left out.

    Args:
        known: networks that no search proposed.
        trainings: full ones, with fresh seeds.
    """
    held = (*known, *held_in_full([training for one in known for training in one.trainings], trainings))
    drawn = front_figure(outcome, held, refined=networks(outcome.rows, trainings), hover=False)
    front = Picture("front", "Front", drawn)
    found = [front, *(one for make in SECTIONS for one in pictures_of(make(outcome)))]
    return [Picture(one.name, f"{outcome.study}: {one.title}", one.figure) for one in found]


def pictures_of(section: Section | None) -> Iterable[Picture]:
    """The figures of a section, each under the heading that it stands under on the page."""
    if section is None:
        return
    heading = ""
    for place in _PLACE.finditer(section.html):
        if place["heading"] is not None:
            heading = html.unescape(re.sub(r"<[^>]*>", "", place["heading"]))
        elif place["name"] in section.figures and place["name"] not in BY_SCRIPT:
            yield Picture(place["name"], heading, section.figures[place["name"]])


def write_pngs(pictures: Sequence[Picture], folder: Path) -> list[Path]:
    """Draw all, then write all as `folder`/NAME.png, on white; files of these names are replaced.

    Raises:
        NasError: there is no browser, it does not draw, or the folder cannot be made; nothing is written then.
        OSError: the folder cannot be written, or the disk is full; likewise.
    """
    if folder.exists():
        with written(folder):
            folder.mkdir(exist_ok=True)  # before a browser is started: a file in its place is refused
    drawn = _drawn(pictures)
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".png-", dir=folder) as aside:
            for name, data in drawn.items():
                (Path(aside) / name).write_bytes(data)
            for name in drawn:
                (Path(aside) / name).replace(folder / name)
    return [folder / name for name in drawn]


def _drawn(pictures: Sequence[Picture]) -> Mapping[str, bytes]:
    """PNG data by the file's name."""
    import kaleido
    from choreographer import errors as browser
    from kaleido.errors import JavascriptError, KaleidoError

    options = {"format": "png", "width": WIDTH, "height": HEIGHT, "scale": SCALE}
    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place) / f"{picture.name}.png" for picture in pictures]
        try:
            # Mathjax would come from the network; no figure has a formula.
            kaleido.write_fig_from_object_sync(
                [
                    {"fig": dressed(picture), "path": path, "opts": options}
                    for picture, path in zip(pictures, paths, strict=True)
                ],
                kopts={"mathjax": False, "timeout": SECONDS},
                cancel_on_error=True,
            )
        except browser.ChromeNotFoundError as error:
            raise NasError(
                "--png needs a browser, and none is found: install Chromium or Chrome (Debian: apt-get install "
                "chromium), or name one by the environment variable BROWSER_PATH"
            ) from error
        except (
            browser.BrowserFailedError,
            browser.BrowserClosedError,
            browser.BrowserDepsError,
            browser.ChannelClosedError,
            JavascriptError,
            KaleidoError,
            TimeoutError,
        ) as error:
            raise NasError(
                f"--png: the browser did not draw ({type(error).__name__}); name another by the environment variable "
                "BROWSER_PATH"
            ) from error
        return {path.name: path.read_bytes() for path in paths}


def dressed(picture: Picture) -> go.Figure:
    """The figure in the light theme on white, with its title, legend and colour bars outside the data."""
    figure = go.Figure(picture.figure)
    figure.update_layout(
        template="plotly_white",
        title={"text": html.escape(picture.title, quote=False), "x": 0.01, "y": 0.98, "yanchor": "top"},
        font={"family": "DejaVu Sans, Arial, sans-serif", "size": 15, "color": "#1b1f27"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 84, "r": 28, "t": 132, "b": 68},
        legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        width=WIDTH,
        height=HEIGHT,
    )
    figure.update_annotations(bgcolor="rgba(255, 255, 255, 0.85)")  # a label lies over marks
    bar = {"orientation": "v", "x": 1.02, "xanchor": "left", "y": 0.5, "yanchor": "middle", "len": 1, "thickness": 12}
    for trace in figure.data:
        for owner in (trace, getattr(trace, "marker", None), getattr(trace, "line", None)):
            if owner is not None and "colorbar" in owner and owner.colorbar.to_plotly_json():
                owner.colorbar.update(bar)
                owner.colorbar.title.side = "right"
    return figure
