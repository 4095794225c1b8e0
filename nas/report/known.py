"""The report's part on known networks trained beside the study: how far the front is above them, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nas.held import OPTIMISTIC, Held
from nas.outcome import Outcome
from nas.references import REFERENCES
from nas.report.section import Section

HEAD = ("network", "recipe", "params", "MACs", "validation", "± between seeds", "seeds", "epochs", "beaten by")
FEW = 20
"""Classes up to which a confusion matrix is shown whole."""


def known_section(outcome: Outcome, known: Sequence[Held], options: str) -> Section | None:
    """A section of the page: a line for each network and recipe, and below it what each one answered.

    Args:
        known: the networks; nothing is shown of none.
        options: for the page's commands.
    """
    if not known:
        return None
    parts = [
        "<h2>Known networks</h2>",
        "<p>Trained beside the study on its images and its split: their validation images come out of the training "
        "images, and the test images stay sealed, so these numbers do not compare with published test accuracies."
        f"{_published(known)} A network is beaten by one of the front that costs no more and is no less accurate; that "
        f"one was {OPTIMISTIC}. The study's trials have {int(outcome.settings['epochs'])} epochs; other numbers do not "
        "compare like with like.</p>",
        '<div class="scroll"><table class="known"><thead><tr>',
        *(f"<th>{name}</th>" for name in HEAD),
        "</tr></thead><tbody>",
        *(_line(one, outcome) for one in known),
        "</tbody></table></div>",
        *(_answers(one, outcome) for one in known if one.confusion is not None),
        "<p>The table in a terminal: <code>nas front "
        f"{escape(outcome.study)} --with-baselines{escape(options)}</code></p>",
    ]
    return Section("".join(parts))


def _published(known: Sequence[Held]) -> str:
    """What the published accuracies of these networks come from; nothing where none was published."""
    names = dict.fromkeys(one.first.name for one in known if one.first.kind == "reference")
    reported = [REFERENCES[name] for name in names if name in REFERENCES and REFERENCES[name].published]
    watched = [one.name for one in reported if one.watched_test]
    words = " These are as reported there, one run each"
    if watched:
        words += f", and the runs of {', '.join(watched)} watched the test images every epoch, which nothing here does"
    return f"{words}." if reported else ""


def _line(one: Held, outcome: Outcome) -> str:
    first, better = one.first, one.beaten_by(outcome)
    numbers = (
        first.counted.removesuffix(" parameters"),
        f"{first.macs:,}",
        f"{one.mean:.4f}",
        "" if len(one.trainings) == 1 else f"{one.std:.4f}",
        str(len(one.trainings)),
        str(first.epochs),
    )
    cells = "".join(f'<td class="number">{cell}</td>' for cell in numbers)
    beaten = "" if better is None else f"trial {better.trial}, {better.val_accuracy:.4f}, optimistic"
    recipe = escape(one.words(outcome).replace(" recipe", ""))
    return f"<tr><td>{escape(first.name)}</td><td>{recipe}</td>{cells}<td>{beaten}</td></tr>"


def _answers(one: Held, outcome: Outcome) -> str:
    """Folded away: accuracy of each class and the confusion matrix, all seeds together."""
    classes = [str(name) for name in outcome.settings["classes"]]
    matrix, seeds = one.confusion or (), len(one.trainings)
    name = f"{one.first.name}, {one.words(outcome)}, {one.first.epochs} epochs"
    over = "" if seeds == 1 else f", {seeds} seeds together"
    return (
        f"<details><summary>{escape(name)}: answers by class{over}</summary>"
        f"{_classes(classes, matrix)}{_matrix(classes, matrix) if len(classes) <= FEW else _worst(classes, matrix)}"
        "</details>"
    )


def _classes(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    lines = []
    for label, (name, counts) in enumerate(zip(classes, matrix, strict=True)):
        images = sum(counts)
        part = f"{counts[label] / images:.4f}" if images else "none"
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in (f"{images:,}", f"{counts[label]:,}", part))
        lines.append(f"<tr><td>{escape(name)}</td>{numbers}</tr>")
    head = "".join(f"<th>{cell}</th>" for cell in ("class", "images", "right", "accuracy"))
    table = f'<table class="answers"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _matrix(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """Rows are true classes; the darker a cell, the more of its class's images."""
    head = "".join(f"<th>{escape(name)}</th>" for name in classes)
    lines = []
    for name, counts in zip(classes, matrix, strict=True):
        images = max(1, sum(counts))
        cells = "".join(_cell(n, n / images) for n in counts)
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return (
        "<p>Images by true class (rows) and answer (columns).</p>"
        f'<div class="scroll"><table class="answers"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(n: int, part: float) -> str:
    shade = f"background:rgba(47,111,219,{0.55 * part:.3f})"
    return f'<td class="number" style="{shade}">{f"{n:,}" if n else "."}</td>'


def _worst(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """The largest confusions; the whole matrix is in the study's folder."""
    wrong = sorted(
        ((n, t, a) for t, counts in enumerate(matrix) for a, n in enumerate(counts) if n and t != a), reverse=True
    )
    head = "".join(f"<th>{cell}</th>" for cell in ("true class", "answer", "images"))
    body = "".join(
        f'<tr><td>{escape(classes[t])}</td><td>{escape(classes[a])}</td><td class="number">{n:,}</td></tr>'
        for n, t, a in wrong[:FEW]
    )
    return (
        f"<p>The largest of {len(wrong):,} confusions; the study's folder <code>baselines</code> has the whole "
        "matrix, rows true.</p>"
        f'<div class="scroll"><table class="answers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
