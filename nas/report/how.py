"""The report's part on how the study was run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nas.outcome import Outcome
from nas.report.section import Section


def how_section(outcome: Outcome, options: str) -> Section:
    """How the study was run, as its records keep it; long texts fold away.

    Args:
        options: for the page's commands.
    """
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
    return Section(
        f"<h2>How it was run</h2>\n<dl>{''.join(lines)}</dl>{more}<p>This page again: <code>{escape(again)}</code></p>"
    )


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
