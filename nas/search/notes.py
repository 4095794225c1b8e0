"""What optuna-dashboard shows as a trial's note: its modules as a table."""

from __future__ import annotations

import re
from dataclasses import astuple, fields

from nas.architecture import InceptionWidths
from nas.records import Row


def note(row: Row) -> str:
    """Markdown: costs, how it ended, and one line a module with its widths and its share of 3x3 and 5x5 filters."""
    names = [field.name.replace("_", " ") for field in fields(InceptionWidths)]
    lines = [
        f"**{row.params:,} parameters, {row.macs:,} MACs**, key `{row.key}`",
        "",
        f"{row.state}" + (f": {plain(row.reason)}" if row.reason else f", {row.seconds:.1f} s, seed {row.seed}"),
        "",
        "| module | " + " | ".join(names) + " | share |",
        "|" + "---|" * (len(names) + 2),
    ]
    for number, (module, share) in enumerate(zip(row.architecture.modules, row.architecture.shares, strict=True), 1):
        lines.append(f"| {number} | " + " | ".join(map(str, astuple(module))) + f" | {float(share):.3f} |")
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text in one line that Markdown takes as it is: optuna-dashboard draws tags, and reasons come from outside."""
    return re.sub(r"([\\`*_{}\[\]<>#|&~!])", r"\\\1", " ".join(text.split()))
