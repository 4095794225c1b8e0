"""A part of the page: what a section gives to the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        html: what stands between ``<section>`` tags, heading included. Everything from outside (names, reasons, paths)
            is escaped already. A figure's place is ``<div class="figure" id="NAME"></div>``.
        figures: by the id of their place; drawn by the page's script in the reader's theme. A point
            whose ``customdata`` is a trial's number opens that trial's panel on a click.
        data: JSON data, and figures, for the section's script, as ``DATA.NAME``.
    """

    html: str
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
