"""Known networks beside the front: in the table, the figure, the report and the dashboard."""

from __future__ import annotations

import http.client
import json
import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from nas.baseline_rows import Baseline, add_baseline, baselines
from nas.cli import main
from nas.dashboard.figures import FRONT
from nas.dashboard.server import Dashboard
from nas.held import Held, held
from nas.library import load_study
from nas.outcome import Outcome
from nas.records import Records
from nas.refined import add_refinement
from nas.report.figures import front_figure
from nas.report.page import page
from nas.study_folder import StudyFolder
from tests.fake_study import EPOCHS, HOSTILE, write_study
from tests.refining import networks, refinement
from tests.test_baseline_rows import baseline

MATRIX = tuple(tuple(5 if a == t else int(a == t + 1) for a in range(10)) for t in range(10))


def known(**changes: Any) -> list[Baseline]:
    """Two seeds of one network by its own recipe, one by the study's; one of hostile name; two points of a line."""
    big = baseline("big", params=9_000, val_accuracy=0.80, confusion=MATRIX, **changes)
    mean = [big, replace(big, replicate=1, val_accuracy=0.86, seed=2)]
    study = replace(big, recipe_name="study", recipe={"epochs": 9}, val_accuracy=0.99, input_shape=(3, 32, 32))
    hostile = baseline(HOSTILE, params=50, val_accuracy=0.5, confusion=None)
    line = [
        baseline(
            f"line {n}", kind="line", key=f"line {n}", params=1_000 * n, val_accuracy=0.7 + n / 100, confusion=None
        )
        for n in (2, 1)
    ]
    return [*mean, study, hostile, *line]


def write(studies: Path, found: Sequence[Baseline], **more: Any) -> StudyFolder:
    folder = write_study(studies, "fake", networks(), **more)
    records = Records(folder.url)
    for one in found:
        add_baseline(records, records.study("fake").id, one)
    records.close()
    return folder


def read(folder: StudyFolder) -> tuple[Outcome, list[Held]]:
    records = Records(folder.url)
    found = Outcome.read(records, "fake"), held(baselines(records, records.study("fake").id))
    records.close()
    return found


def test_a_notebook_sees_them_too(tmp_path: Path) -> None:
    write(tmp_path, known())
    study = load_study("fake", studies_dir=tmp_path)
    assert sorted(one.first.name for one in study.known) == sorted(["big", "big", HOSTILE, "line 1", "line 2"])
    drawn = {trace.name: trace for trace in study.front_figure().data if trace.name}
    assert list(drawn["known networks, published recipe (2)"].x) == [50, 9_000]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The front costs 1,000, 2,000 and 3,000, at .7, .8 and .9."""
    return write(tmp_path_factory.mktemp("studies"), known(), optuna_tables=True)


# Together, and beaten


def test_trainings_that_differ_by_seed_alone_are_one() -> None:
    both, study, hostile, *line = held(known())
    assert [one.replicate for one in both.trainings] == [0, 1]
    assert both.mean == pytest.approx(fmean((0.80, 0.86)))
    assert both.std == pytest.approx(stdev((0.80, 0.86)))
    assert both.confusion == tuple(tuple(2 * n for n in row) for row in MATRIX)
    assert math.isnan(study.std)
    assert hostile.confusion is None
    assert [one.first.name for one in line] == ["line 2", "line 1"]
    reordered = held(list(reversed(known())))
    assert sorted(len(one.trainings) for one in reordered) == [1, 1, 1, 1, 2]
    assert next(one for one in reordered if len(one.trainings) == 2).trainings == both.trainings


@pytest.mark.parametrize(
    ("params", "accuracy", "trial"),
    [
        (9_000, 0.85, 2),
        (9_000, 0.90, 2),  # as accurate, and costs less
        (9_000, 0.91, None),
        (3_000, 0.90, None),  # equal in both
        (3_000, 0.89, 2),
        (2_999, 0.80, 1),
        (2_999, 0.81, None),
        (999, 0.10, None),
    ],
)
def test_beaten_means_no_more_cost_and_no_less_accuracy_one_strictly(
    folder: StudyFolder, params: int, accuracy: float, trial: int | None
) -> None:
    outcome, _ = read(folder)
    better = Held((baseline(params=params, val_accuracy=accuracy),)).beaten_by(outcome)
    assert (None if better is None else better.trial) == trial


def test_multiply_adds_count_where_the_study_searches_them(tmp_path: Path) -> None:
    outcome, _ = read(write(tmp_path, [], cost="macs"))
    one = Held((baseline(params=1, macs=2_500, val_accuracy=0.5),))
    better = one.beaten_by(outcome)
    assert better is not None
    assert better.trial == 1


# The table


def front(folder: StudyFolder, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[str, str]:
    assert main(["front", "fake", "--studies-dir", str(folder.studies_dir), *more]) == 0
    found = capsys.readouterr()
    return found.out, found.err


def test_the_table_has_them_by_cost_and_who_beats_them(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = front(folder, capsys, "--with-baselines", "--no-plot")
    lines = out.splitlines()[2:]
    names = [line.split("  ")[0] for line in lines]
    assert names[0].startswith("<script>")
    assert names[1:] == ["trial 0", "line 1", "trial 1", "line 2", "trial 2", "big", "big"]
    assert [" ".join(line.split()) for line in lines[-2:]] == [
        "big 9,000 50,000 0.8300 0.0424 2 2 published recipe; beaten by trial 2 *",
        "big 9,000 50,000 0.9900 1 9 study recipe, at 32x32",
    ]
    assert "knee" in out
    assert "* selected on the same reading, optimistic: `nas refine fake` trains the front with fresh seeds." in err
    assert "The study's trials have 9 epochs: other numbers do not compare like with like." in err


def test_without_the_flag_the_table_is_as_it_was_and_the_plot_has_the_line_alone(
    folder: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = write(tmp_path, [])
    for more in ("--no-plot", "--json"):
        assert front(folder, capsys, more) == front(bare, capsys, more)
    drawn = front(folder, capsys)[0]
    assert "□ GoogLeNet's proportions" in drawn.splitlines()[-1]
    assert "known network" not in drawn
    assert "proportions" not in front(bare, capsys)[0]


def test_the_line_in_full_is_drawn_in_the_terminal_and_the_dashboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, second, first = known()
    folder = write(tmp_path, [first, second], optuna_tables=True)
    records = Records(folder.url)
    for row in networks()[:2]:
        for replicate in (1, 2):
            add_refinement(records, 1, refinement(row, 0.75, replicate))
            line = replace(row, trial=-1, key=f"line {row.trial + 1}")
            add_refinement(records, 1, refinement(line, 0.74, replicate))
    records.close()
    legend = " ".join(front(folder, capsys)[0].splitlines()[-2:])
    assert "■ these in full, mean" in legend
    (plot,) = [one for one in detail(folder)["plotly_graph_objects"] if one["id"] == FRONT]
    drawn = {trace.get("name"): trace for trace in json.loads(plot["graph_object"])["data"]}
    assert drawn["GoogLeNet's proportions, 8 epochs (2)"]["y"] == [0.74, 0.74]
    assert "GoogLeNet's proportions, 2 epochs (2)" in drawn


def test_the_headline_is_an_entry_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *_, second, first = known()
    line = [replace(one, recipe={"epochs": EPOCHS}) for one in (first, second)]
    folder = write(tmp_path, line)
    plain = json.loads(front(folder, capsys, "--json")[0])
    *_, last = json.loads(front(folder, capsys, "--json", "--with-baselines")[0])
    assert {one.get("kind") for one in plain} == {None}
    assert set(plain[0]) <= set(last)
    assert (last["kind"], last["params"]) == ("headline", None)
    assert last["selected_on_the_same_reading"] is True
    assert last["at_equal_params"]["costs"] == [1_000, 2_000]


def test_a_single_module_has_both_counts_wherever_its_point_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "inception-v1-module"
    folder = write(tmp_path, [baseline(name, params=187_626, recipe_name="study", confusion=None)])
    both = "187,626 with its wrapper, the module alone 177,376"
    assert "; the module alone 177,376" in front(folder, capsys, "--with-baselines", "--no-plot")[0]
    entry = json.loads(front(folder, capsys, "--json", "--with-baselines")[0])[-1]
    assert (entry["params"], entry["module_params"]) == (187_626, 177_376)
    outcome, found = read(folder)
    (hover,) = [text for trace in front_figure(outcome, found).data for text in trace.hovertext or () if name in text]
    assert f"<br>{both}; " in hover
    assert f'<td class="number">{both}</td>' in page(outcome, known=found)
    assert baseline(params=1_234).counted == "1,234 parameters"


def test_the_report_says_what_published_accuracies_are(tmp_path: Path) -> None:
    def words(*names: str) -> str:
        outcome, _ = read(folder)
        return page(outcome, known=held([baseline(name, confusion=None) for name in names]))

    folder = write(tmp_path, [])
    text = words("nin-cifar", "small-googlenet", "alexnet-cifar")
    assert (
        "These are as reported there, one run each, and the runs of nin-cifar, alexnet-cifar watched the test images "
        "every epoch, which nothing here does." in text
    )
    assert "These are as reported there, one run each. A network" in words("small-googlenet")
    assert "as reported" not in words("googlenet", "other")


def test_for_programs_they_follow_the_front(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    plain = json.loads(front(folder, capsys, "--json")[0])
    found = json.loads(front(folder, capsys, "--json", "--with-baselines")[0])
    assert found[: len(plain)] == plain
    more = {(one["name"], one["recipe"]): one for one in found[len(plain) :]}
    assert len(more) == 5
    big = more["big", "published"]
    assert set(plain[0]) <= set(big)
    assert (big["trial"], big["cost"], big["val_accuracy"], big["beaten_by"]) == (None, 9_000, pytest.approx(0.83), 2)
    assert [one["val_accuracy"] for one in big["trainings"]] == [0.80, 0.86]
    assert (big["selected_on_the_same_reading"], more["big", "study"]["selected_on_the_same_reading"]) == (True, None)
    assert more["big", "study"]["std"] is None


def test_a_study_without_them_says_how_to_get_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = front(write(tmp_path, []), capsys, "--with-baselines")
    assert "trial 0" in out
    assert "No known network is trained beside it yet; nas baselines train NAME --study fake does." in err


def test_a_study_of_known_networks_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_study(tmp_path, "fake", [])
    records = Records(folder.url)
    add_baseline(records, records.study("fake").id, known()[0])
    records.close()
    out, err = front(folder, capsys, "--with-baselines")
    assert "big" in out.splitlines()[2]
    assert "there is no front" in err
    outcome, found = read(folder)
    assert "big" in page(outcome, known=found)


# The figure and the report


def test_the_figure_has_a_diamond_each_and_the_line_as_a_line(folder: StudyFolder) -> None:
    outcome, found = read(folder)
    traces = {trace.name: trace for trace in front_figure(outcome, found).data}
    own = traces["known networks, published recipe (2)"]
    assert (list(own.x), own.y) == ([50, 9_000], pytest.approx((0.5, 0.83)))
    assert own.marker.symbol == "diamond"
    other = traces["known networks, study recipe (1)"]
    assert other.marker.symbol == "diamond-open"
    assert (own.text[1], other.text) == ("", ("big",))  # named once, where it is higher
    line = traces["GoogLeNet's proportions, 2 epochs (2)"]
    assert (list(line.x), line.y) == ([1_000, 2_000], pytest.approx((0.71, 0.72)))
    assert "lines" in line.mode
    assert not {name for name in traces if name and "known" in name} & {
        trace.name for trace in front_figure(outcome).data
    }


def test_points_of_another_number_of_epochs_are_another_line(folder: StudyFolder) -> None:
    outcome, _ = read(folder)
    *_, second, first = known()
    longer = [replace(one, recipe={"epochs": 20}) for one in (first, second)]
    names = [trace.name for trace in front_figure(outcome, held([first, second, *longer])).data if trace.name]
    assert [name for name in names if "proportions" in name] == [
        "GoogLeNet's proportions, 2 epochs (2)",
        "GoogLeNet's proportions, 20 epochs (2)",
    ]


def test_names_and_hover_are_text_not_tags(folder: StudyFolder) -> None:
    outcome, found = read(folder)
    text = page(outcome, known=found)
    assert HOSTILE not in text
    assert "&lt;script&gt;alert" in text
    for trace in front_figure(outcome, found).data:
        for written in [*(trace.hovertext or ()), *(trace.text or ())]:
            assert "<script>" not in written


def test_the_report_has_a_line_each_and_the_answers_rows_true(folder: StudyFolder) -> None:
    outcome, found = read(folder)
    text = page(outcome, known=found)
    start = text.index("<h2>Known networks</h2>")
    section = text[start : text.index("</section>", start)]
    assert section.count(">beaten by<") == 1
    assert "<td>trial 2, 0.9000, optimistic</td>" in section
    assert "that one was selected on the same reading, optimistic." in section
    assert "<td>study, at 32x32</td>" in section
    assert section.count("<details>") == 2
    both = section[section.index("2 seeds together") : section.index("</details>")]
    rows = both[both.index("rows") :].split("<tr>")[2:]
    for label, row in enumerate(rows):
        cells = [cell.split(">")[-1] for cell in row.split("</td>")[:-1]]
        assert cells == [f"{2 * n}" if n else "." for n in MATRIX[label]]
    assert '<td>3</td><td class="number">12</td><td class="number">10</td><td class="number">0.8333</td>' in both
    assert "Known networks" not in page(outcome)


def test_with_many_classes_the_report_has_the_largest_confusions(tmp_path: Path) -> None:
    classes = [f"class {n}" for n in range(30)]
    matrix = tuple(tuple(t + 1 if a == (t + 1) % 30 else 9 * (a == t) for a in range(30)) for t in range(30))
    outcome, found = read(write(tmp_path, [baseline(confusion=matrix)], classes=classes))
    text = page(outcome, known=found)
    start = text.index("The largest of 30 confusions")
    first = text[start : text.index("</tr>", text.index("<tbody>", start))]
    assert '<td>class 29</td><td>class 0</td><td class="number">30</td>' in first


def test_the_command_writes_them_into_the_report(folder: StudyFolder, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert main(["report", "fake", "--studies-dir", str(folder.studies_dir), "--output", str(path)]) == 0
    assert "<h2>Known networks</h2>" in path.read_text()
    assert "known networks, published recipe" in path.read_text()


# The dashboard


def detail(folder: StudyFolder) -> dict[str, Any]:
    dashboard = Dashboard(folder.url, port=0)
    thread = threading.Thread(target=dashboard.serve, daemon=True)
    thread.start()
    try:
        connection = http.client.HTTPConnection(dashboard.url.removeprefix("http://").rstrip("/"), timeout=30)
        connection.request("GET", "/api/studies/1")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return found
    finally:
        dashboard.close()
        thread.join(timeout=30)


def test_the_dashboards_front_has_them_and_writes_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path, [], optuna_tables=True)

    def names() -> list[str | None]:
        (plot,) = [one for one in detail(folder)["plotly_graph_objects"] if one["id"] == FRONT]
        return [trace.get("name") for trace in json.loads(plot["graph_object"])["data"]]

    assert "front" in names()
    assert "known networks, published recipe (1)" not in names()
    records = Records(folder.url)
    add_baseline(records, 1, known()[0])
    records.close()
    before = folder.database.read_bytes()
    assert "known networks, published recipe (1)" in names()
    assert folder.database.read_bytes() == before


def test_the_plot_follows_the_records(tmp_path: Path) -> None:
    from nas.dashboard.server import dashboard_storage

    folder = write(tmp_path, known()[:1], optuna_tables=True)
    storage = dashboard_storage(folder.url)
    try:
        before = storage.get_all_studies()[0].system_attrs
        assert storage.get_all_studies()[0].system_attrs == before
        records = Records(folder.url)
        add_baseline(records, 1, known()[2])
        records.close()
        after = storage.get_all_studies()[0].system_attrs
        assert after != before
        assert "study recipe" in "".join(str(after[key]) for key in sorted(after))
    finally:
        storage.close()
