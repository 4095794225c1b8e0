"""The page that compares several studies: fronts, hypervolume, a table with intervals, how each was run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from nas import refined as full
from nas.headline import said
from nas.outcome import Outcome
from nas.records import Row, State
from nas.report.compare import (
    Box,
    Entry,
    Floats,
    History,
    Mean,
    Setting,
    box_of,
    budgets,
    cautions,
    differences,
    history,
    mean_of,
    paired,
    settings_of,
    under,
)
from nas.report.compare_figures import fronts_figure, hypervolume_figure
from nas.report.figures import cost_name, si
from nas.report.page import assembled
from nas.report.section import Section
from nas.report.timeline import lasting, unit_of

Histories = dict[str, History]
STATES: tuple[State, ...] = ("complete", "pruned", "failed")
TOLD = 24
"""Lines of what differs; more would hide the few that matter."""


def compare_page(entries: Sequence[Entry]) -> str:
    """The page's text; everything from outside is escaped.

    Args:
        entries: at least two, which `nas.report.compare.check` has passed.
    """
    settings = settings_of(entries)
    box = box_of([entry.outcome for entry in entries])
    histories = {entry.name: history(entry.outcome, box) for entry in entries}
    names = [entry.name for entry in entries]
    title = " and ".join(names) if len(names) == 2 else f"{names[0]} and {len(names) - 1} other studies"
    first = entries[0].outcome
    headline = (
        f"{len(names)} studies in {len(settings)} setting{'s' * (len(settings) != 1)} on "
        f"{first.settings.get('dataset')}, by validation {first.metric_words} and {cost_name(first.cost)}."
    )
    sections = (
        _fronts_section(settings),
        None if box is None else _hypervolume_section(settings, histories, box),
        _table_section(settings, histories, box),
        _refined_section(entries),
        _differences_section(settings),
        _how_section(entries),
    )
    return assembled(f"{title}, compared", headline, _tiles(entries, settings), sections)


def _tiles(entries: Sequence[Entry], settings: Sequence[Setting]) -> Iterable[tuple[str, str]]:
    yield "studies", f"{len(entries):,}"
    yield "settings; seeds alone make none", f"{len(settings):,}"
    ends = Counter(row.state for entry in entries for row in entry.outcome.rows)
    yield from ((state, f"{ends[state]:,}") for state in STATES)


def _fronts_section(settings: Sequence[Setting]) -> Section:
    several = any(len(setting.entries) > 1 for setting in settings)
    words = (
        " Of a setting with several seeds the thin lines are its searches, the solid one what half of them attain, the "
        "dotted one a quarter, the dashed one three quarters."
        if several
        else ""
    )
    if any(entry.line for setting in settings for entry in setting.entries):
        words += " Squares in long dashes are GoogLeNet's proportions at other widths, trained as a setting's trials."
    html = (
        "<h2>Fronts</h2>\n<p>Up is more accurate, left is smaller. A line stands at the best accuracy for at most that "
        f'cost.{words}</p>\n<div class="figure" id="fronts"></div>'
    )
    return Section(html, {"fronts": fronts_figure(settings)})


def _hypervolume_section(settings: Sequence[Setting], histories: Histories, box: Box) -> Section:
    low, high = box.costs
    longest = max((float(one.seconds[-1]) for one in histories.values() if len(one.seconds)), default=0.0)
    length, unit = unit_of(longest)
    several = any(len(setting.entries) > 1 for setting in settings)
    words = (
        " Of a setting with several seeds the thin lines are its searches; the thick one is their mean, with its 95 % "
        "interval by Student's t between them, up to where the shortest ended."
        if several
        else " Each setting has one seed, so none has an interval."
    )
    cost, chance = settings[0].entries[0].outcome.cost, 1 - 1 / box.classes
    cached = [
        f"{entry.name} took {count:,}"
        for setting in settings
        for entry in setting.entries
        if (count := sum(row.source is not None for row in entry.outcome.rows))
    ]
    free = f" Trials from the cache cost no time: {', '.join(cached)}." if cached else ""
    html = (
        f"<h2>Hypervolume</h2>\n<p>One box for all: {low:,} to {high:,} {cost} on a log scale, and errors from 0 to "
        f"{chance:.3g}, which is chance with {box.classes} classes. The reference point is its corner ({high:,}, "
        f"{chance:.3g}); a study's own report measures in the study's own box.{words} Seconds are the clock's from the "
        f"first trial on without the search's pauses; they depend on hardware, workers and what else ran.{escape(free)}"
        "</p>\n"
        '<div class="pair"><div class="figure" id="over-trials"></div>'
        '<div class="figure" id="over-seconds"></div></div>'
    )
    figures = {
        "over-trials": hypervolume_figure(settings, histories, lambda one: one.trials, "trials complete or pruned"),
        "over-seconds": hypervolume_figure(
            settings, histories, lambda one: one.seconds / length, f"{unit} of searching"
        ),
    }
    return Section(html, figures)


def _table_section(settings: Sequence[Setting], histories: Histories, box: Box | None) -> Section:
    outcomes = [entry.outcome for setting in settings for entry in setting.entries]
    limits = budgets(outcomes)
    equal = [one for one in histories.values() if len(one.trials)]
    trials = min((len(one.trials) for one in equal), default=0)
    seconds = min((float(one.seconds[-1]) for one in equal), default=0.0)
    measures = _measures(outcomes[0].cost, histories, box, limits, trials, seconds)
    head = "".join(f'<th class="number">{escape(measure.name)}</th>' for measure in measures)
    body = "".join(_setting_lines(setting, measures) for setting in settings)
    sizes = {len(setting.entries) for setting in settings}
    mean = "A setting's line is the mean over its seeds with its 95 % interval, by Student's t between them. "
    words = (mean if max(sizes) > 1 else "") + ("n = 1: no interval. " if min(sizes) == 1 else "")
    notes = "".join(f"<p>{escape(setting.words)}: {escape(setting.note)}.</p>" for setting in settings if setting.note)
    html = (
        f"<h2>Side by side</h2>\n<p>{words}Accuracies were read by the search and chosen by it, so the best ones are "
        'optimistic.</p>\n<div class="scroll"><table class="compared"><thead><tr><th>setting, study</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>{notes}"
        f"{_paired(settings, histories, box, trials, seconds)}"
    )
    return Section(html)


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Args:
        tell: the value of a study; None where it has none.
        text: of a value.
        most: what no value can be above; none is below 0.
    """

    name: str
    tell: Callable[[Entry], float | None]
    text: Callable[[float], str]
    most: float = math.inf


def _measures(
    cost: str, histories: Histories, box: Box | None, limits: Sequence[int], trials: int, seconds: float
) -> list[Measure]:
    def height(measure: Callable[[History], Floats], limit: float) -> Callable[[Entry], float]:
        return lambda entry: histories[entry.name].at(measure, limit)

    def tell(pick: Callable[[Outcome], Row | None], value: Callable[[Row], float | None]) -> Callable[[Entry], Any]:
        return lambda entry: None if (row := pick(entry.outcome)) is None else value(row)

    found = [
        Measure("trials", lambda entry: len(histories[entry.name].trials), _count),
        Measure("of them pruned", lambda entry: entry.outcome.count("pruned"), _count),
        Measure("epochs", lambda entry: entry.outcome.epochs_used, _count),
        Measure("time", lambda entry: _last(histories[entry.name].seconds), lasting),
    ]
    if box is not None:
        found.append(Measure("hypervolume", lambda entry: _last(histories[entry.name].hypervolume), _part, 1))
        if len({len(one.trials) for one in histories.values()}) > 1:
            found.append(Measure(f"after {trials:,} trials", height(lambda one: one.trials, trials), _part, 1))
        found.append(Measure(f"after {lasting(seconds)}", height(lambda one: one.seconds, seconds), _part, 1))
    found += [
        Measure("best", tell(lambda outcome: outcome.best, lambda row: row.val_accuracy), _part, 1),
        Measure("knee", tell(lambda outcome: outcome.knee, lambda row: row.val_accuracy), _part, 1),
        Measure(f"knee's {cost}", tell(lambda outcome: outcome.knee, lambda row: row.cost), _count),
    ]
    return found + [Measure(f"best up to {si(limit)}", _under(limit), _part, 1) for limit in limits]


def _under(limit: int) -> Callable[[Entry], float | None]:
    return lambda entry: under(entry.outcome, limit)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _part(value: float) -> str:
    return f"{value:.4f}"


def _last(values: Floats) -> float:
    return float(values[-1]) if len(values) else 0.0


def _setting_lines(setting: Setting, measures: Sequence[Measure]) -> str:
    """A line for the setting where it has several studies, and one for each study."""
    lines = []
    if len(setting.entries) > 1:
        cells = "".join(f'<td class="number">{_mean_cell(setting, measure)}</td>' for measure in measures)
        lines.append(f'<tr class="setting"><th scope="row">{escape(setting.words)}</th>{cells}</tr>')
    for entry in setting.entries:
        values = [(measure.tell(entry), measure.text) for measure in measures]
        cells = "".join(f'<td class="number">{"none" if value is None else text(value)}</td>' for value, text in values)
        lines.append(f'<tr><th scope="row" class="study">{_linked(entry)}</th>{cells}</tr>')
    return "".join(lines)


def _mean_cell(setting: Setting, measure: Measure) -> str:
    text, values = measure.text, [value for value in map(measure.tell, setting.entries) if value is not None]
    if not values:
        return "none"
    if len(values) == 1:
        return f"{text(values[0])}<br><small>n = 1</small>"
    if len(set(values)) == 1:
        return text(values[0])
    mean = mean_of(values, least=0, most=measure.most)
    of = f", n = {mean.n}" if mean.n < len(setting.entries) else ""
    return f"{text(mean.value)}<br><small>{text(mean.low)} to {text(mean.high)}{of}</small>"


def _linked(entry: Entry) -> str:
    name = escape(entry.name)
    return name if entry.link is None else f'<a href="{escape(entry.link)}">{name}</a>'


def _paired(settings: Sequence[Setting], histories: Histories, box: Box | None, trials: int, seconds: float) -> str:
    """Lines on how far settings are above the first one, by pairs of equal seeds."""
    if box is None or not trials:
        return ""
    first, lines = settings[0], []
    for other in settings[1:]:
        for words, measure, limit in (
            (f"{trials:,} trials", lambda one: one.trials, float(trials)),
            (lasting(seconds), lambda one: one.seconds, seconds),
        ):
            mine, others = (
                {entry.seed: histories[entry.name].at(measure, limit) for entry in setting.entries}
                for setting in (first, other)
            )
            found = paired(mine, others)
            if found is not None:
                lines.append(
                    f"{other.name} less {first.name}: hypervolume after {words}: {_signed(found)}, {found.n} pairs of "
                    "equal seeds."
                )
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _signed(mean: Mean) -> str:
    return f"{mean.value:+.4f} (95 % interval {mean.low:+.4f} to {mean.high:+.4f})"


def _refined_section(entries: Sequence[Entry]) -> Section | None:
    """Networks trained in full, and each study's headline; None where there is neither."""
    lines, words = [], []
    for entry in entries:
        for one in full.front(entry.refined):
            low, high = one.interval
            span = "n = 1: no interval" if math.isnan(low) else f"{low:.4f} to {high:.4f}"
            cells = [f"{one.row.trial}", f"{one.row.cost:,}", f"{one.row.val_accuracy:.4f}", f"{one.mean:.4f}", span]
            cells += [f"{len(one.trainings)}", f"{one.trainings[0].epochs}"]
            numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
            lines.append(f'<tr><th scope="row">{_linked(entry)}</th>{numbers}</tr>')
        if entry.advantage is not None:
            words.append(f"<p><b>{escape(entry.name)}.</b> {escape(' '.join(said(entry.advantage, entry.name)))}</p>")
    if not (lines or words):
        return None
    names = ("trial", entries[0].outcome.cost, "in the search", "in full, mean", "95 %", "seeds", "epochs")
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    table = (
        "<p>The front of the networks trained in full, by their means over fresh seeds; intervals by Student's t "
        'between seeds.</p>\n<div class="scroll"><table class="compared"><thead><tr><th>study</th>'
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
    return Section(f"<h2>Trained in full</h2>\n{table if lines else ''}{''.join(words)}")


def _differences_section(settings: Sequence[Setting]) -> Section:
    found = differences(settings)
    head = "".join(f"<th>{escape(setting.words)}</th>" for setting in settings)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(value)}</td>" for value in values)}</tr>'
        for name, values in found[:TOLD]
    )
    warned = "".join(f"<p><b>{escape(line)}</b></p>" for line in cautions(settings))
    more = f"<p>{len(found) - TOLD} more differ.</p>" if len(found) > TOLD else ""
    table = (
        f'<div class="scroll"><table class="differ"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )
    same = "<p>Nothing but seeds and names.</p>"
    return Section(f"<h2>What differs</h2>\n{warned}{table if found else same}{more}")


def _how_section(entries: Sequence[Entry]) -> Section:
    return Section("<h2>How each was run</h2>\n" + "".join(_how(entry, len(entries) < 4) for entry in entries))


def _how(entry: Entry, unfolded: bool) -> str:
    settings: Any = entry.outcome.settings
    cached = sum(row.source is not None for row in entry.outcome.rows)
    versions = settings.get("versions") or {}
    lines = (
        ("command", settings.get("command")),
        ("begun", str(settings.get("created_at")).replace("T", " ").replace("+00:00", " UTC")),
        ("hardware", settings.get("hardware")),
        ("workers", settings.get("workers")),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
        ("seed", entry.seed),
        ("trials taken from the cache", cached or None),
    )
    listed = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in lines if value is not None)
    link = "" if entry.link is None else f'<p><a href="{escape(entry.link)}">its own report</a></p>'
    toml = settings.get("space_toml")
    space = f"<details><summary>its space</summary><pre>{escape(toml)}</pre></details>" if toml else ""
    summary = f"<details{' open' * unfolded}><summary>{escape(entry.name)}</summary>"
    return f"{summary}<dl>{listed}</dl>{link}{space}</details>"
