"""Notes of a study and of its trials, in Markdown."""

from __future__ import annotations

from nas.architecture import Architecture
from nas.outcome import MODULE_COLUMNS, Outcome, modules_table, rule_verdict
from nas.records import Row
from nas.refined import Refined
from nas.report.figures import refined_words
from nas.search.notes import plain


def trial_note(outcome: Outcome, row: Row, refined: Refined | None) -> str:
    """What is on record of a trial: how it ended and why, costs, modules with their shares, full trainings."""
    words = outcome.metric_words
    read = f", validation {words} {row.val_accuracy:.4f} at epoch {row.curve[-1][0]}" if row.curve else ", no reading"
    lines = [f"**{row.state.capitalize()}{read}**", f"{row.params:,} parameters, {row.macs:,} MACs, key `{row.key}`"]
    if row.reason:
        lines.append(f"Why: {plain(row.reason)}")
    if row.stopped:
        grounds = ", ".join(f"{plain(str(name))} {plain(_short(value))}" for name, value in row.stopped.items())
        lines.append(f"{'Audited, so not stopped' if row.stopped.get('spared') else 'Stopped'}: {grounds}")
    if refined is not None:
        lines.append(f"In full: {refined_words(refined)}")
    if any(row is one for one in outcome.front):
        marks = [name for name, one in (("knee", outcome.knee), ("best", outcome.best)) if one is row]
        lines.append(f"On the front{''.join(f', {mark}' for mark in marks)}: `{_export(outcome, row)}`")
    if names := outcome.nearest_to(row):
        lines.append(f"Warm start: the network of the space nearest to {plain(' and '.join(names))}")
    if row.source:
        lines.append(f"Trained in another study: {plain(row.source)}")
    lines += [_table(row.architecture), rule_verdict(row.architecture, outcome.rule)]
    threads = f"{row.threads} thread{'s' * (row.threads != 1)}"
    lines.append(f"{row.seconds:.1f} s on {plain(row.device)}, {threads}, seed {row.seed}, {plain(row.worker)}")
    return "\n\n".join(lines)


def running_note(outcome: Outcome, architecture: Architecture) -> str:
    """Of a trial that is being trained."""
    costs = f"{architecture.params:,} parameters, {architecture.macs:,} MACs, key `{architecture.key}`"
    return "\n\n".join(["**Running**", costs, _table(architecture), rule_verdict(architecture, outcome.rule)])


def study_note(outcome: Outcome, refined: list[Refined]) -> str:
    """How the study stands: how its trials ended, the front as a table, what it was run on, and what to do next."""
    full = {one.row.trial: one for one in refined}
    name = outcome.study
    lines = [f"**{plain(outcome.headline)}**"]
    volume = outcome.hypervolume
    if volume is not None and outcome.front:
        lines.append(f"Hypervolume {volume:.4f}")
    if outcome.front:
        head = ["trial", "parameters", "MACs", f"validation {outcome.metric_words}", *["in full"] * bool(full), ""]
        table = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for row in outcome.front:
            marks = [mark for mark, one in (("knee", outcome.knee), ("best", outcome.best)) if one is row]
            cells = [str(row.trial), f"{row.params:,}", f"{row.macs:,}", f"{row.val_accuracy:.4f}"]
            cells += [f"{full[row.trial].mean:.4f}" if row.trial in full else ""] * bool(full)
            table.append("| " + " | ".join([*cells, ", ".join(marks)]) + " |")
        lines.append("\n".join(table))
    shell = [f"nas report {name}", f"nas export {name} --pick knee"]
    lines += ["\n".join(f"    {line}" for line in shell)]
    settings = outcome.settings
    if settings.get("command"):
        lines.append(f"Made by\n\n    {' '.join(str(settings['command']).split())}")
    return "\n\n".join(lines)


def _table(architecture: Architecture) -> str:
    lines = [list(MODULE_COLUMNS), ["---"] * len(MODULE_COLUMNS), *modules_table(architecture)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _export(outcome: Outcome, row: Row) -> str:
    return f"nas export {outcome.study} --pick trial:{row.trial}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
