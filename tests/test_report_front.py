"""What the report lets a reader choose by: the cost under the front, a budget, the knee, measured latency."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas import pareto, refined
from nas.cli import main
from nas.errors import StudyError
from nas.held import held, held_in_full
from nas.outcome import Outcome
from nas.records import Records, Row
from nas.refined import Refinement
from nas.report import latency as latency_module
from nas.report.axes import axes, budget
from nas.report.figures import front_figure
from nas.report.how import how_section, run_again
from nas.report.latency import Latency, measure_latency, read_latency, worth_measuring
from nas.report.page import page
from nas.report.trials import columns, full_trainings, latencies, sides_of
from nas.seal import Seal
from nas.study_folder import StudyFolder
from tests.fake_study import HOSTILE, rows, write_study
from tests.refining import refinement
from tests.test_headline import baseline
from tests.test_report import data_in, figures_in, trace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return write_study(tmp_path_factory.mktemp("studies"), "fake", rows(80))


@pytest.fixture(scope="module")
def outcome(folder: StudyFolder) -> Outcome:
    return Outcome.read(Records(folder.url), "fake")


@pytest.fixture(scope="module")
def trainings(outcome: Outcome) -> list[Refinement]:
    """Five of each of eight networks but the last, which has one."""
    chosen = sorted((row for row in outcome.rows if row.state == "complete"), key=lambda row: row.cost)[::6][:8]
    found = [
        refinement(row, round(0.80 + 0.02 * n + 0.004 * r * (-1) ** n, 4), r)
        for n, row in enumerate(chosen)
        for r in range(1, 6)
    ]
    return found[:-4]


@pytest.fixture(scope="module")
def full(outcome: Outcome, trainings: list[Refinement]) -> list[refined.Refined]:
    return refined.networks(outcome.rows, trainings)


def bought(steps: list[dict[str, Any]], limit: int) -> int:
    """As the page's script does it."""
    found: int = [step["trial"] for step in steps if step["cost"] <= limit][-1]
    return found


def picked(outcome: Outcome, found: list[refined.Refined], text: str) -> Row:
    """As `nas export` does it."""
    return refined.pick(outcome, found, text).row if found else outcome.pick(text)


def test_a_budget_buys_what_export_picks(outcome: Outcome, full: list[refined.Refined]) -> None:
    for found in ([], full):
        offered = budget(outcome, found)
        assert offered is not None
        assert offered["low"] == offered["steps"][0]["cost"]
        limits = {round(offered["low"] * (offered["high"] / offered["low"]) ** (n / 300)) for n in range(301)}
        for limit in sorted(limits | {offered["low"], offered["high"], 10 * offered["high"]}):
            assert bought(offered["steps"], limit) == picked(outcome, found, f"under:{limit}").trial
        with pytest.raises(StudyError, match="costs at most"):
            picked(outcome, found, f"under:{offered['low'] - 1}")


def test_a_budget_is_of_the_studys_own_cost(outcome: Outcome) -> None:
    by_macs = [replace(row, cost=row.macs) for row in outcome.rows]
    complete = [row for row in by_macs if row.state == "complete"]
    front = pareto.front([row.cost for row in complete], [row.val_accuracy or 0.0 for row in complete])
    settings = {**outcome.settings, "cost": "macs"}
    study = replace(outcome, settings=settings, rows=tuple(by_macs), front=tuple(complete[i] for i in front))
    offered = budget(study, [])
    assert offered is not None
    assert offered["unit"] == "MACs"
    for limit in (offered["low"], offered["at"], offered["high"]):
        assert bought(offered["steps"], limit) == study.pick(f"under:{limit}").trial
    text = page(study)
    assert 'value="macs" checked' in text
    assert data_in(text)["front"]["cost"] == "macs"


def test_refined_networks_of_few_trainings_are_no_choice(outcome: Outcome, full: list[refined.Refined]) -> None:
    (lucky,) = (one for one in full if len(one.trainings) == 1)
    offered = budget(outcome, full)
    assert offered is not None
    assert lucky.row.trial not in [step["trial"] for step in offered["steps"]]
    by_trial = {one.row.trial: one for one in full}
    for step in offered["steps"]:
        mean = by_trial[step["trial"]].mean
        assert step["words"].startswith(f"{mean:.4f}, mean of 5 full trainings of 8 epochs, 95 % ")


def test_without_anything_to_choose_there_is_no_budget(outcome: Outcome) -> None:
    empty = replace(outcome, rows=(), front=())
    assert budget(empty, []) is None
    found = axes(empty, [], {})
    assert list(found) == ["params", "macs"]
    assert found["params"]["front"] == {"x": [], "y": []}
    assert (found["params"]["labels"], found["params"]["knee"]) == ([], "")
    text = page(empty)
    assert data_in(text)["budget"] is None
    assert 'id="budget"' not in text


def test_each_cost_has_its_own_front_and_knee(outcome: Outcome) -> None:
    complete = [row for row in outcome.rows if row.state == "complete"]
    accuracies = [row.val_accuracy or 0.0 for row in complete]
    measured = {row.key: 0.2 + 0.01 * (row.trial % 7) for row in complete[::3]}
    found = axes(outcome, [], measured)
    assert list(found) == ["params", "macs", "latency"]
    for name in ("params", "macs"):
        costs = [getattr(row, name) for row in complete]
        front = pareto.front(costs, accuracies)
        assert found[name]["front"]["x"] == [costs[i] for i in front]
        assert found[name]["front"]["y"] == [accuracies[i] for i in front]
        knee = complete[pareto.knee(costs, accuracies)]
        assert f"<b>knee</b>, trial {knee.trial}" in [label["text"] for label in found[name]["labels"]]
        assert found[name]["knee"].startswith(f"Knee: trial {knee.trial}, {knee.val_accuracy:.4f} at ")
    quick = complete[::3]
    front = pareto.front([measured[row.key] for row in quick], [row.val_accuracy or 0.0 for row in quick])
    assert found["latency"]["front"]["x"] == [measured[quick[i].key] for i in front]
    assert "latency" not in axes(outcome, [], {})
    assert "latency" not in axes(outcome, [], {"another network": 1.0})


def chosen(costs: list[int], accuracies: list[float]) -> tuple[Outcome, list[Row]]:
    """A study of complete trials at these places."""
    made = [
        replace(row, trial=n, state="complete", reason=None, params=cost, cost=cost, val_accuracy=accuracy)
        for n, (row, cost, accuracy) in enumerate(zip(rows(len(costs)), costs, accuracies, strict=True))
    ]
    front = tuple(made[i] for i in pareto.front(costs, accuracies))
    study = {"cost": "params", "metric": "accuracy"}
    return Outcome("s", {}, study, tuple(made), front), made


def test_the_knee_is_explained_with_its_numbers() -> None:
    outcome, _ = chosen([100, 1_000, 10_000], [0.5, 0.8, 0.9])
    assert axes(outcome, [], {})["params"]["knee"] == (
        "Knee: trial 1, 0.8000 at 1k parameters. It is the network farthest above the straight line between the "
        "front's ends (trial 0: 0.5000 at 100 parameters; trial 2: 0.9000 at 10k parameters; cost on its log scale): "
        "by 10.0 points. From there to the best, trial 2, 10.0 points more cost 10.0 times as much."
    )
    sagging, _ = chosen([100, 1_000, 10_000], [0.5, 0.6, 0.9])
    assert "The front nowhere rises above" in axes(sagging, [], {})["params"]["knee"]
    two, _ = chosen([100, 1_000], [0.5, 0.6])
    assert axes(two, [], {})["params"]["knee"] == (
        "A front of fewer than three networks has no bend: its knee is its best one, trial 1."
    )


def test_refined_networks_make_a_front_of_their_own(outcome: Outcome, full: list[refined.Refined]) -> None:
    found = axes(outcome, full, {})["params"]
    ready = refined.front(full)
    assert found["refined"]["y"] == [one.mean for one in ready]
    assert found["knee"].startswith(f"Knee of the front of the refined, {len(ready)} networks: trial ")
    assert found["front"]["y"] == [row.val_accuracy for row in outcome.front]
    knee = refined.pick(outcome, full, "knee").row.trial
    assert any(f"trial {knee}" in label["text"] and "knee" in label["text"] for label in found["labels"])
    body = page(outcome, trainings=[training for one in full for training in one.trainings])
    row = next(line for line in body.split("<tr>") if f'data-trial="{knee}"' in line)
    assert '<span class="badge">knee</span>' in row


def test_refined_networks_and_the_line_stand_at_means_with_intervals(
    outcome: Outcome, full: list[refined.Refined], trainings: list[Refinement]
) -> None:
    figure = front_figure(outcome, refined=full)
    drawn = trace(figure, "refined, mean")
    assert list(drawn.y) == [one.mean for one in full]
    assert list(drawn.customdata) == [one.row.trial for one in full]
    for i, one in enumerate(full):
        bar = drawn.error_y.array[i], drawn.error_y.arrayminus[i]
        if len(one.trainings) == 1:
            assert bar == (None, None)
            assert "mean of 1 full training of" in drawn.hovertext[i]
        else:
            assert bar == pytest.approx((one.interval[1] - one.mean, one.mean - one.interval[0]))
            assert "mean of 5 full trainings" in drawn.hovertext[i]
    row, values = outcome.front[0], (0.6, 0.95, 1.0, 1.0, 1.0)
    near_one = refined.Refined(row, tuple(refinement(row, value, r) for r, value in enumerate(values, 1)))
    (up,), (down,) = (
        getattr(trace(front_figure(outcome, refined=[near_one]), "refined, mean").error_y, name)
        for name in ("array", "arrayminus")
    )
    assert up == pytest.approx(1 - 0.91)  # cut at 1
    assert down == pytest.approx(0.91 - near_one.interval[0])
    point = baseline(outcome.front[0], 0.7)
    outside = [replace(refinement(outcome.front[0], 0.8 + r / 100, r), trial=-1) for r in (1, 2, 3)]
    (line,) = held_in_full([point], [*(one for one in trainings if one.key != point.key), *outside])
    assert (line.mean, len(line.trainings), line.first.epochs) == (pytest.approx(0.82), 3, 8)
    drawn = trace(front_figure(outcome, [*held([point]), line]), "GoogLeNet's proportions, 8 epochs")
    assert drawn.error_y.array[0] == pytest.approx(line.interval[1] - 0.82)
    assert drawn.meta["x"] == {"params": [point.params], "macs": [point.macs]}


def test_the_page_knows_every_trial(outcome: Outcome, full: list[refined.Refined]) -> None:
    found, sides = columns(outcome), sides_of(outcome)
    for i, row in enumerate(outcome.rows):
        assert found["number"][i] == row.trial
        assert (found["params"][i], found["macs"][i], found["reason"][i]) == (row.params, row.macs, row.reason)
        channels, widths = found["stem"][i], found["widths"][i]
        inputs = row.architecture.module_inputs()
        for k, (height, width) in enumerate(sides[found["sides"][i]]):
            assert (channels, height, width) == inputs[k]
            one, _, three, _, five, pool = widths[6 * k : 6 * k + 6]
            out = one + three + five + (pool or channels)
            assert (three + five) / out == pytest.approx(float(row.architecture.shares[k]))
            channels = out
        assert found["curve"][i] == [accuracy for _, accuracy, _ in row.curve]
        assert found["epochs"][i] is None
    assert len(sides) == 1
    sparse = replace(outcome.rows[0], curve=((3, 0.5, 1.0), (9, 0.75, 0.5)))
    assert columns(replace(outcome, rows=(sparse,)))["epochs"] == [[3, 9]]
    in_full = full_trainings(full)[str(full[0].row.trial)]
    assert in_full["mean"] == full[0].mean
    assert [curve[-1] for curve in in_full["curves"]] == [[8, one.val_accuracy] for one in full[0].trainings]


def test_points_carry_their_trial_and_no_text_of_their_own(outcome: Outcome, full: list[refined.Refined]) -> None:
    text = page(outcome, trainings=[training for one in full for training in one.trainings])
    drawn_traces = figures_in(text)["front"]["data"]
    for drawn in drawn_traces:
        if (drawn.get("meta") or {}).get("hover") == "trials":
            assert len(drawn["customdata"]) == len(drawn["x"])
            assert "hovertext" not in drawn
    assert sum(len(one.get("customdata", [])) for one in figures_in(text)["front"]["data"]) == len(outcome.rows) + len(
        full
    )


# Latency


def test_latency_is_measured_once_and_read_without_torch(
    outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "latency.json"
    assert read_latency(path, "fake") is None
    networks = [row.architecture for row in outcome.front[:2]]
    asked: list[int] = []

    def measured(network: Any, shape: tuple[int, int, int], **_: Any) -> float:
        asked.append(sum(p.numel() for p in network.parameters()))
        return len(asked) / 10

    monkeypatch.setattr("nas.costs.latency_ms", measured)
    first = measure_latency(path, "fake", networks)
    assert asked == [network.training_params for network in networks]
    assert [entry.name for entry in path.parent.iterdir()] == ["latency.json"]
    assert read_latency(path, "fake") == first
    assert measure_latency(path, "fake", networks) == first
    assert len(asked) == 2  # nothing is measured twice
    more = measure_latency(path, "fake", [*networks, outcome.front[2].architecture])
    assert (len(asked), len(more.ms)) == (3, 3)
    assert {key: more.ms[key] for key in first.ms} == first.ms
    assert latencies(outcome, more.ms) == {str(row.trial): more.ms[row.key] for row in outcome.front[:3]}
    assert more.words.startswith("one image, torch ")
    assert "1 thread, median of 50 runs" in more.words


def test_times_of_another_machine_or_version_are_taken_anew(
    outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, networks = tmp_path / "latency.json", [outcome.front[0].architecture]
    monkeypatch.setattr("nas.costs.latency_ms", lambda *_, **__: 0.5)
    measure_latency(path, "fake", networks)
    for name, value in (("hardware", "another"), ("threads", 2), ("versions", {"torch": "1.0"})):
        path.write_text(json.dumps({**json.loads(path.read_text()), name: value, "ms": {"gone": 9.0}}))
        assert dict(measure_latency(path, "fake", networks).ms) == {networks[0].key: 0.5}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"ms": {"a": 0}, "hardware": "x", "threads": 1, "runs": 9, "versions": {}}',
        '{"ms": {"a": "x"}}',
    ],
)
def test_a_damaged_file_is_told_in_one_line(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    folder.latency.write_text(content)
    try:
        assert main(["report", "fake", "--studies-dir", str(folder.studies_dir)]) == 1
    finally:
        folder.latency.unlink()
    err = capsys.readouterr().err.strip()
    assert "\n" not in err
    assert f"{folder.latency} is damaged" in err
    assert "nas report fake --latency" in err


def test_the_command_measures_the_front_and_the_refined(
    folder: StudyFolder, outcome: Outcome, trainings: list[Refinement], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency_module, "RUNS", 1)
    keys = {one.key for one in worth_measuring(outcome, trainings)}
    assert keys == {row.key for row in outcome.front} | {one.key for one in trainings}
    place = ["--studies-dir", str(folder.studies_dir)]
    assert main(["report", "fake", *place, "--latency"]) == 0
    assert set(json.loads(folder.latency.read_text())["ms"]) == {row.key for row in outcome.front}
    assert main(["report", "fake", *place]) == 0
    text = folder.report.read_text()
    folder.latency.unlink()
    data = data_in(text)
    assert set(data["latency"]) == {str(row.trial) for row in outcome.front}
    assert all(0 < ms < 1000 for ms in data["latency"].values())
    assert 'value="latency"' in text
    assert "median of 1 run, " in text


def test_before_the_first_complete_trial_there_is_nothing_to_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_study(tmp_path, "empty", [])
    assert main(["report", "empty", "--studies-dir", str(tmp_path), "--latency"]) == 0
    assert "no latency to measure" in capsys.readouterr().err
    assert not folder.latency.exists()
    assert folder.report.exists()


def test_hardware_from_a_file_stays_text(outcome: Outcome) -> None:
    times = Latency({outcome.front[0].key: 1.0}, HOSTILE, 1, 50, {"torch": HOSTILE})
    assert "<script>alert" not in page(outcome, latency=times)


# How it was run


def test_the_last_section_says_all_that_another_run_needs(outcome: Outcome, trainings: list[Refinement]) -> None:
    text = html.unescape(how_section(outcome, trainings, Seal(()), "").html)
    for said in (
        "nas search --study fake",
        "torch 2.14.1",
        HOSTILE,  # its hardware
        "0 for proposals",
        "1,222 train, 215 validation, 360 test images by split seed 0",
        "never read",
        'name = "digits"',  # its space
        "nas search --study fake-again",
        "nas report fake",
        "36 of 8 networks, 8 epochs, up to 5 fresh seeds each",
        "2 at its start; 1 took part",
        "2026-05-04 12:00:00 UTC",
    ):
        assert said in text
    assert "versions later" not in text
    later = replace(outcome.rows[0], versions={"torch": "9.9"})
    assert "torch 9.9: 1 trial<" in how_section(replace(outcome, rows=(later, *outcome.rows[1:])), [], None, "").html


def test_nothing_of_a_study_without_records_of_its_run_is_missed(outcome: Outcome) -> None:
    bare = replace(outcome, settings={"epochs": 9}, identity={})
    section = how_section(bare, [], None, "")
    assert "Run it again" not in section.html
    assert "nas report fake" in section.html


@pytest.mark.parametrize(
    ("command", "again"),
    [
        ("nas search --study a --trials 9", "nas search --trials 9 --study 's t-again'"),
        ("nas search --study='s t' --seed 3", "nas search --seed 3 --study 's t-again'"),
        ("nas search", "nas search --study 's t-again'"),
        ("nas search --space 'my space.toml'", "nas search --space 'my space.toml' --study 's t-again'"),
        ("nas search 'unclosed", None),
        ("python search.py", None),
        (None, None),
    ],
)
def test_a_study_is_run_again_under_another_name(command: str | None, again: str | None) -> None:
    assert run_again(command, "s t") == again
