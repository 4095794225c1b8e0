"""Several studies on one page: what may be compared, what is one setting, and its numbers by hand."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nas import pareto
from nas.baseline_rows import Baseline, add_baseline
from nas.cli import main
from nas.errors import StudyError
from nas.outcome import Outcome
from nas.records import Records, Row
from nas.refined import Refined, Refinement
from nas.report.attainment import attained
from nas.report.compare import (
    Box,
    Entry,
    Setting,
    band,
    box_of,
    budgets,
    cautions,
    check,
    differences,
    history,
    mean_of,
    paired,
    settings_of,
    under,
)
from nas.report.compare_figures import fronts_figure, hypervolume_figure
from nas.report.compare_page import compare_page
from nas.study_folder import StudyFolder
from tests.fake_study import EPOCHS, HOSTILE, STARTED, rows, settings, write_study
from tests.test_baseline_rows import baseline

Change = Callable[[dict[str, Any], dict[str, Any]], None]


def outcome(
    name: str = "a", found: list[Row] | None = None, *, seed: int = 0, change: Change | None = None, **given: Any
) -> Outcome:
    """A study of digits; `change` mends identity and settings, `given` replaces settings."""
    found = rows(24, seed=seed) if found is None else found
    space: dict[str, Any] = {"rule": "growing", "cost": "params", "recipe": {"epochs": 9}}
    identity = {
        "space": space, "data": {"images": "77aa88bb99", "split": "0"}, "seed": seed, "split_seed": 0,
        "train_limit": None, "metric": "accuracy", "training_version": 7,
    }  # fmt: skip
    run = {**settings(name), "seed": seed, **given}
    if change is not None:
        change(identity, run)
    complete = [row for row in found if row.state == "complete"]
    front = pareto.front([row.cost for row in complete], [row.val_accuracy or 0.0 for row in complete])
    return Outcome(name, identity, run, tuple(found), tuple(complete[i] for i in front))


def trial(number: int, cost: int, accuracy: float, state: str = "complete", second: float | None = None) -> Row:
    begun = STARTED + timedelta(seconds=2 * number if second is None else second)
    return replace(
        rows(1)[0], trial=number, cost=cost, params=cost, val_accuracy=accuracy, state=state,  # type: ignore[arg-type]
        curve=((1, accuracy, 1.0), (3, accuracy, 0.5)), seconds=1.0, started_at=begun,
        finished_at=begun + timedelta(seconds=1),
    )  # fmt: skip


def test_what_a_part_of_the_searches_attains_by_hand() -> None:
    one, other, third = [(1.0, 0.5), (2.0, 0.7)], [(1.0, 0.4), (3.0, 0.9)], [(2.0, 0.6)]
    found = {percentile: surface.tolist() for percentile, surface in attained([one, other, third]).items()}
    assert found == {  # at 2: .7, .4 and .6; at 3: .7, .9 and .6
        25: [[1.0, 0.5], [2.0, 0.7], [3.0, 0.9]],
        50: [[1.0, 0.4], [2.0, 0.6], [3.0, 0.7]],
        75: [[2.0, 0.4], [3.0, 0.6]],
    }
    assert attained([]) == attained([[], []]) == {}
    half = attained([one, []])  # a search that found nothing attains nothing
    assert sorted(half) == [25, 50]
    assert half[50].tolist() == [list(point) for point in one]


def identity(*keys: str, value: Any) -> Change:
    def change(given: dict[str, Any], run: dict[str, Any]) -> None:
        *path, last = keys
        for key in path:
            given = given[key]
        given[last] = value

    return change


def metric(given: dict[str, Any], run: dict[str, Any]) -> None:
    given["metric"] = run["metric"] = "balanced-accuracy"


def limit(given: dict[str, Any], run: dict[str, Any]) -> None:
    given["train_limit"], given["data"]["split"] = 300, "1"


@pytest.mark.parametrize(
    ("change", "given", "words"),
    [
        (
            identity("data", "images", value="12345678"), {"dataset": "other"},
            r"differ in images: digits \(77aa88bb\) and other \(12345678\)",
        ),
        (identity("data", value={}), {}, r"differ in images: .* and digits \(of no record\)"),
        (identity("split_seed", value=3), {}, "differ in validation images: split seed 0.* and split seed 3"),
        (identity("data", "split", value="9"), {}, "differ in validation images"),
        (metric, {}, "differ in metric: accuracy and balanced accuracy"),
        (None, {"cost": "macs"}, "differ in cost: params and macs"),
        (None, {"classes": ["1", "2"]}, "differ in number of classes: 10 and 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_one_line(
    change: Change | None, given: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(StudyError, match=words) as said:
        check([outcome("a"), outcome("b"), outcome("c", change=change, **given)])
    assert str(said.value).startswith("studies 'a' and 'c' cannot be compared")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    "change",
    [
        identity("space", "recipe", "epochs", value=27),
        identity("space", "rule", value="off"),
        limit,
        identity("training_version", value=6),
    ],
)
def test_other_trainings_and_spaces_are_compared_and_said(change: Change) -> None:
    both = [outcome("a"), outcome("b", change=change)]
    check(both)
    found = settings_of([Entry(one) for one in both])
    assert len(found) == 2
    assert len(differences(found)) == 1
    rule = change(given := {"space": {"recipe": {}}, "data": {}}, {}) or given["space"].get("rule")
    assert bool(cautions(found)) == (rule is None)


def test_seeds_make_one_setting_and_nothing_else_does() -> None:
    outcomes = [
        outcome("tpe-10", seed=0, sampler="tpe"),
        outcome("random-0", seed=0, sampler="random"),
        outcome("tpe-11", seed=1, sampler="tpe"),
        outcome("twin", seed=1, sampler="tpe"),
        outcome("pruned", seed=5, sampler="tpe", pruner="none"),
    ]
    found = settings_of([Entry(one) for one in outcomes])
    assert [(one.name, [entry.name for entry in one.entries]) for one in found] == [
        ("tpe", ["tpe-10", "tpe-11"]),
        ("random-0", ["random-0"]),
        ("pruned", ["pruned"]),
        ("twin", ["twin"]),
    ]
    assert found[-1].note == "the same seed as tpe-11, so no replicate of it"
    assert found[0].words == "tpe, 2 seeds"


def test_names_of_settings_stay_apart() -> None:
    def named(*names: str) -> list[str]:
        given = [
            Entry(outcome(name, seed=number % 2, sampler="tpe" if number < 2 else "random"))
            for number, name in enumerate(names)
        ]
        return [one.name for one in settings_of(given)]

    assert named("x", "y", "z", "w") == ["x", "z"]
    assert named("run-1", "run-2", "run-3", "run-4") == ["run", "run-3"]
    assert named("cifar10-a", "cifar10-b", "svhn1", "svhn2") == ["cifar10", "svhn"]


def test_a_search_goes_on_as_counted_by_hand() -> None:
    box = Box((100, 10_000), 2)
    found = outcome(
        found=[
            trial(0, 1000, 0.75),
            trial(1, 200, 0.6, "pruned"),
            trial(2, 100, 0.5, "failed"),
            trial(3, 100, 0.75, second=1000),  # after a pause of the whole search
        ]
    )
    one = history(found, box)
    assert one.trials.tolist() == [1, 2, 3]
    assert one.epochs.tolist() == [3, 6, 9]
    # (1,000, .75) has half of the box's width and half of its height; at 100 the whole width.
    assert one.hypervolume.tolist() == pytest.approx([0.25, 0.25, 0.5])
    assert one.seconds.tolist() == pytest.approx([1, 3, 1001])  # one worker: it lived all the time
    assert one.at(lambda own: own.trials, 0.5) == 0
    assert one.at(lambda own: own.trials, 2) == pytest.approx(0.25)
    assert one.at(lambda own: own.seconds, 5000) == pytest.approx(0.5)
    assert len(history(outcome(found=[]), box).trials) == 0


def test_pauses_do_not_count() -> None:
    early, late = trial(0, 1000, 0.75), trial(1, 100, 0.75, second=1000)
    one = history(outcome(found=[replace(early, worker="h-1-aaaaaa"), replace(late, worker="h-2-bbbbbb")]), None)
    assert one.seconds.tolist() == pytest.approx([1, 2])
    assert one.hypervolume.tolist() == [0, 0]  # no box


def test_one_box_holds_all() -> None:
    both = [outcome("a", cost_range=[900, 4000]), outcome("b", cost_range=[700, 3000])]
    assert box_of(both) == Box((700, 4000), 10)
    assert box_of([outcome("a", cost_range=[800, 800])]) is None


def test_an_interval_is_students_and_never_invented() -> None:
    mean = mean_of([0.90, 0.92, 0.97])
    low, high = stats.t.interval(0.95, 2, np.mean([0.90, 0.92, 0.97]), stats.sem([0.90, 0.92, 0.97]))
    assert (mean.value, mean.low, mean.high, mean.n) == pytest.approx((0.93, low, high, 3))
    assert mean_of([0.1, 0.99], least=0, most=1).high == 1
    alone = mean_of([0.9])
    assert alone.value == 0.9
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)


def test_a_band_ends_where_the_shortest_search_ended() -> None:
    box = Box((100, 10_000), 2)
    long = history(outcome(found=[trial(0, 1000, 0.75), trial(1, 100, 0.75), trial(2, 100, 0.99)]), box)
    short = history(outcome(found=[trial(0, 100, 0.75), trial(1, 9000, 0.6)]), box)
    x, mean, low, high = band([long, short], lambda one: one.trials, points=3)
    assert x.tolist() == [0, 1, 2]
    assert mean.tolist() == pytest.approx([0, (0.25 + 0.5) / 2, 0.5])
    assert low[1] == 0  # 0.375 ± 12.7 * 0.125, cut
    assert high[1] == 1
    assert (low[2], high[2]) == pytest.approx((0.5, 0.5))


def test_budgets_are_round_and_every_study_has_a_network_below() -> None:
    both = [outcome("a", rows(60)), outcome("b", rows(60, seed=1), seed=1)]
    limits = budgets(both)
    assert limits == sorted(set(limits))
    assert 1 <= len(limits) <= 3
    assert all(float(f"{limit:.2g}") == limit for limit in limits)
    assert all(under(one, limit) is not None for one in both for limit in limits)
    assert under(both[0], 1) is None
    small, large = outcome(found=[trial(0, 100, 0.5), trial(1, 9000, 0.8)]), outcome(found=[trial(0, 5000, 0.7)])
    assert min(budgets([small, large])) >= 5000
    assert budgets([outcome(found=[])]) == []


def test_pairs_are_of_equal_seeds() -> None:
    found = paired({0: 0.5, 1: 0.6, 9: 0.1}, {1: 0.7, 0: 0.55, 8: 0.9})
    assert found is not None
    assert (found.value, found.n) == pytest.approx((0.075, 2))
    assert paired({0: 0.5, 1: 0.6}, {0: 0.7}) is None


def entries() -> list[Entry]:
    """Two seeds of one sampler, two of another, and one study of fewer epochs."""
    made = [
        Entry(outcome(f"{sampler}-{seed}", rows(30, seed=seed + 10 * (sampler == "tpe")), seed=seed, sampler=sampler))
        for sampler in ("random", "tpe")
        for seed in (0, 1)
    ]
    short = identity("space", "recipe", "epochs", value=3)
    return [*made, Entry(outcome("short", rows(9, seed=3), seed=3, change=short))]


class Words(HTMLParser):
    """Text outside scripts and styles, tags, and scripts apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.scripts, self._inside = "", list[tuple[str, dict[str, str | None]]](), 0, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.scripts += tag == "script"
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


def test_the_page_says_box_intervals_and_what_differs() -> None:
    given = entries()
    words = " ".join(Words(compare_page(given)).text.split())
    assert "5 studies in 3 settings on digits, by validation accuracy and parameters." in words
    assert "One box for all: 1,000 to 15,000 params" in words
    assert "The reference point is its corner (15,000, 0.9)" in words
    assert "n = 1: no interval." in words
    assert "trained by other recipes" in words
    assert re.search(
        r"setting, studytrialsof them prunedepochstimehypervolumeafter \d+ trialsafter .*bestkneeknee's", words
    )
    assert "{" not in words.split("How each was run")[0]
    box = Box((1000, 15000), 10)
    tpe = [history(entry.outcome, box).hypervolume[-1] for entry in given if entry.name.startswith("tpe")]
    mean = mean_of(tpe, least=0, most=1)
    assert f"{mean.value:.4f}{mean.low:.4f} to {mean.high:.4f}" in words
    random = [history(entry.outcome, box).hypervolume[-1] for entry in given if entry.name.startswith("random")]
    short = len(history(given[-1].outcome, box).trials)
    at = [
        history(entry.outcome, box).at(lambda one: one.trials, short) for entry in given if entry.name != "short"
    ]  # random, random, tpe, tpe
    assert random[0] != at[0] or random[1] != at[1]
    difference = mean_of([at[2] - at[0], at[3] - at[1]])
    assert f"tpe less random: hypervolume after {short} trials: {difference.value:+.4f} (95 % interval" in words
    assert "2 pairs of equal seeds" in words


def test_trials_from_the_cache_are_said_where_seconds_are_compared() -> None:
    found = [replace(row, source="other trial 3") if row.trial in (2, 5) else row for row in rows(24)]
    text = compare_page([Entry(outcome("a", found)), Entry(outcome("b", seed=1))])
    assert "Trials from the cache cost no time: a took 2." in text
    assert "from the cache" not in compare_page([Entry(outcome("a")), Entry(outcome("b", seed=1))])


def test_single_studies_have_no_interval_anywhere() -> None:
    text = compare_page([Entry(outcome("a")), Entry(outcome("b", seed=1, pruner="none"))])
    table = text[text.index("<h2>Side by side</h2>") : text.index("<h2>What differs</h2>")]
    assert "<small>" not in table
    assert "pairs" not in table
    assert "Each setting has one seed, so none has an interval." in text


def test_a_seed_without_a_network_leaves_the_others_number_without_an_interval() -> None:
    found = [row for row in rows(24) if row.state != "complete"]
    text = compare_page([Entry(outcome("tpe-0")), Entry(outcome("tpe-1", found, seed=1))])
    table = text[text.index("<h2>Side by side</h2>") : text.index("<h2>What differs</h2>")]
    assert "<br><small>n = 1</small>" in table
    assert "nan" not in table


def test_a_page_of_studies_without_trials_is_written() -> None:
    words = Words(compare_page([Entry(outcome("a", [])), Entry(outcome("b", seed=1))])).text
    assert "2 studies in 1 setting on" in words
    single = {"cost_range": [800, 800]}
    assert "<h2>Hypervolume</h2>" not in compare_page(
        [Entry(outcome("a", **single)), Entry(outcome("b", [], **single))]
    )


def test_fronts_stand_where_they_are() -> None:
    given = entries()
    figure = fronts_figure(settings_of(given))
    drawn = {trace.hovertext[0].split("</b>")[0]: trace for trace in figure.data if trace.hovertext}
    for entry in given:
        trace = drawn[f"<b>{entry.name}"]
        assert list(trace.x)[:-1] == [row.cost for row in entry.outcome.front]
        assert list(trace.y)[:-1] == [row.val_accuracy for row in entry.outcome.front]
    assert [trace.name for trace in figure.data if trace.showlegend] == ["random, 2 seeds", "tpe, 2 seeds", "short"]
    assert figure.layout.xaxis.type == "log"


def test_each_setting_has_its_line_in_long_dashes() -> None:
    def point(name: str, params: int, accuracy: float) -> Baseline:
        return baseline(name, kind="line", key=name, params=params, val_accuracy=accuracy)

    one, other = (point("x 0.5", 2_000, accuracy) for accuracy in (0.7, 0.8))
    small = point("x 0.2 <b>", 900, 0.5)
    first, second, *_, short = entries()
    given = [replace(first, line=(one, small)), replace(second, line=(other,)), replace(short, line=(one,))]
    drawn = {trace.name: trace for trace in fronts_figure(settings_of(given)).data if trace.line.dash == "longdash"}
    assert list(drawn) == ["random, 2 seeds: GoogLeNet's proportions", "short: GoogLeNet's proportions"]
    both, alone = drawn.values()
    assert (list(both.x), list(both.y)) == ([900, 2_000], [0.5, 0.75])
    assert (list(alone.x), list(alone.y)) == ([2_000], [0.7])
    assert both.hovertext[1].endswith("0.7500, mean of 2 seeds")
    assert "x 0.2 &lt;b&gt; of the line" in both.hovertext[0]
    assert both.line.color == both.marker.color != alone.line.color
    words = "Squares in long dashes are GoogLeNet's proportions"
    assert words in Words(compare_page(given)).text
    assert words not in Words(compare_page(entries())).text


def test_hypervolume_is_drawn_where_it_grew_and_at_the_end() -> None:
    given, box = entries(), Box((1000, 15000), 10)
    histories = {entry.name: history(entry.outcome, box) for entry in given}
    figure = hypervolume_figure(settings_of(given), histories, lambda one: one.trials, "trials")
    for entry in given:
        (trace,) = [one for one in figure.data if f"<b>{entry.name}</b>" in (one.hovertemplate or "")]
        mine = histories[entry.name]
        x = np.arange(1.0, len(mine.trials) + 1)
        drawn = np.asarray(trace.y)[np.searchsorted(trace.x, x, side="right") - 1]
        assert drawn.tolist() == mine.hypervolume.tolist()
        assert trace.x[-1] == x[-1]
        assert len(trace.x) < len(x)


def test_networks_in_full_have_their_intervals() -> None:
    one = outcome("a")
    row = one.front[0]
    trained = tuple(
        Refinement(
            row.trial, row.key, number, {"epochs": 36}, number, accuracy, ((36, accuracy, 0.1),), 5.0, "cpu", 1, "0",
            STARTED, STARTED,
        )
        for number, accuracy in enumerate((0.95, 0.96, 0.98), start=1)
    )  # fmt: skip
    several, alone = Refined(row, trained), Refined(row, trained[:1])
    words = Words(compare_page([Entry(one, (several,)), Entry(outcome("b", seed=1), (alone,))])).text
    assert f"{several.interval[0]:.4f} to {several.interval[1]:.4f}" in words
    assert "n = 1: no interval" in words.split("Trained in full")[1]


def test_what_comes_from_outside_stays_text() -> None:
    evil = outcome(HOSTILE, change=identity("space", HOSTILE, value=HOSTILE), space_toml=f"{HOSTILE}\n${{plotly}}")
    parsed = Words(text := compare_page([Entry(evil, link="./x%22/report.html"), Entry(outcome("b", seed=1))]))
    assert parsed.scripts == 2
    assert HOSTILE in parsed.text
    assert "${plotly}" in parsed.text
    assert "<" not in next(line for line in text.splitlines() if line.startswith("const FIGURES"))
    assert "default-src 'none'" in text
    for tag, attributes in parsed.tags:
        assert not {"src", "srcset", "action"} & attributes.keys(), tag
        assert (attributes.get("href") or "data:,").startswith(("data:,", "./"))


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    for name in ("one", "two", "three"):
        write_study(tmp_path, name, rows(12, seed=len(name)))
    (tmp_path / "one" / "report.html").write_text("its own")
    write_study(tmp_path, "foreign", rows(12), digests=("1", "1"))
    broken = write_study(tmp_path, "broken", rows(3))
    broken.database.write_bytes(b"no database" * 1000)
    return tmp_path


def said(studies: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that is refused; nothing new may be on disk."""
    before = sorted(path for path in studies.rglob("*") if path.suffix == ".html")
    assert main(["report", *arguments, "--studies-dir", str(studies)]) == 1
    assert sorted(path for path in studies.rglob("*") if path.suffix == ".html") == before
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def test_the_command_writes_one_page_beside_the_studies(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "one", "two", "--studies-dir", str(studies)]) == 0
    page = studies / "compare-one-two.html"
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    assert '<a href="one/report.html">one</a>' in text
    assert "two/report.html" not in text  # it has none
    assert "GoogLeNet" not in text
    records = Records(StudyFolder(studies, "two").url)
    for name, epochs in (("mine", EPOCHS), ("another recipe", 2)):
        point = replace(baseline(name, kind="line"), recipe={"epochs": epochs})
        add_baseline(records, records.study("two").id, point)
    records.close()
    assert main(["report", "one", "two", "--studies-dir", str(studies)]) == 0
    assert "mine of the line" in page.read_text()
    assert "another recipe of the line" not in page.read_text()
    elsewhere = studies / "new" / "place.html"
    assert main(["report", "one", "three", "--studies-dir", str(studies), "--output", str(elsewhere)]) == 0
    assert '<a href="../one/report.html">one</a>' in elsewhere.read_text()
    assert main(["report", "one", "--studies-dir", str(studies)]) == 0
    assert "<h2>How it was run</h2>" in (studies / "one" / "report.html").read_text()  # one study: as ever


def test_many_names_make_a_name_that_a_disk_takes(studies: Path) -> None:
    for letter in "abc":
        write_study(studies, letter * 90, rows(3))
    assert main(["report", "a" * 90, "b" * 90, "c" * 90, "--studies-dir", str(studies)]) == 0
    (page,) = studies.glob("compare-*.html")
    assert page.name == f"compare-{'a' * 90}-and-2-more.html"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["one", "twoo"], "unknown study 'twoo': did you mean 'two'?"),
        (["one", "two", "one"], "study 'one' is named twice"),
        (["one", "foreign"], "studies 'one' and 'foreign' cannot be compared, they differ in images"),
        (["one", "broken", "two"], "study.db"),
        (["one", "two", "--latency"], "--latency"),
        (["one", "../two"], "study name '../two'"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    studies: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in said(studies, capsys, *arguments)


def test_a_folder_in_the_pages_place_is_refused(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (studies / "compare-one-two.html").mkdir()
    assert "it is a folder" in said(studies, capsys, "one", "two")


def test_links_quote_what_a_name_may_hold(studies: Path) -> None:
    folder = write_study(studies, "a b+ü", rows(12, seed=9))
    folder.report.write_text("its own")
    assert main(["report", "a b+ü", "two", "--studies-dir", str(studies)]) == 0
    text = (studies / "compare-a b+ü-two.html").read_text()
    (link,) = set(re.findall(r'href="([^"]*report.html)"', text))
    assert html.unescape(link) == "a%20b%2B%C3%BC/report.html"


def test_setting_words_of_one() -> None:
    assert Setting("a", (Entry(outcome()),)).words == "a"
