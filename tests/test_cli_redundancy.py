"""`nas redundancy`: the command, what it keeps, and what the report makes of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nas import refined
from nas.activations import modules_of
from nas.cli import main
from nas.records import Records
from nas.redundancy import read, read_all
from nas.refined import Refinement, add_refinement
from nas.report import redundancy as section
from nas.report.page import page
from nas.study_folder import StudyFolder
from tests.export_study import TRIAL, contiguous, digits, export_study, network, outcome_of
from tests.fake_study import HOSTILE, architecture
from tests.pictures import pictures
from tests.test_redundancy import measured

RECIPE = {"epochs": 60}
KEY = architecture(1.0).key
Run = Callable[..., int]


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return export_study(tmp_path / "studies")


@pytest.fixture
def run(study: StudyFolder) -> Run:
    return lambda *words: main(["redundancy", "fake", "--studies-dir", str(study.studies_dir), *words])


@pytest.fixture
def full(study: StudyFolder) -> str:
    """The network's one full training; the SHA-256 of its weights."""
    path = study.refined(KEY, refined.recipe_hash(RECIPE), 1)
    path.parent.mkdir()
    save_file(contiguous(network(architecture(1.0), 5)), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    moment = datetime(2026, 5, 5, tzinfo=UTC)
    with closing(Records(study.url)) as records:
        one = Refinement(
            trial=TRIAL, key=KEY, replicate=1, recipe=RECIPE, seed=1, val_accuracy=0.91, curve=((60, 0.91, 0.1),),
            seconds=1.0, device="cpu", threads=1, weights_sha256=sha256, started_at=moment, finished_at=moment,
        )  # fmt: skip
        add_refinement(records, records.study("fake").id, one)
    return sha256


def kept(study: StudyFolder) -> list[Path]:
    return sorted(study.redundancy.iterdir()) if study.redundancy.exists() else []


def test_a_table_a_branch_and_a_file(run: Run, study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--pick", "best", "--pick", "knee", "--images", "40") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith(f"Trial {TRIAL}, weights: search; {architecture(1.0).params:,} parameters; 40 of 216 ")
    assert lines[2].split() == ["module", "branch", "channels", "dead", "effective", "rank", "clusters", "largest",
                                "components", "width"]  # fmt: skip
    table = [line.split() for line in lines[4 : lines.index("Width of the reductions:") - 1]]
    assert [(cells[0], cells[1]) for cells in table[:3]] == [("1", "input"), ("1", "1x1"), ("1", "reduce")]
    assert len(table) == 3 * 7
    (path,) = kept(study)
    assert path.name.startswith(KEY)
    assert f"Kept in {path}" in err
    assert "Clusters: mean |r| of at least 0.9." in err
    found = read(path)
    expected = modules_of(network(architecture(1.0)), digits().validation, digits().mean, digits().std, 40)  # type: ignore[arg-type]
    assert [module.correlation.tolist() for module in found.modules] == [
        module.correlation.tolist() for module in expected
    ]
    assert [int(cells[-1]) for cells in table] == [one.width(1) for branches in found.branches for one in branches]
    assert found.about["command"].startswith("nas redundancy fake --studies-dir")


def test_json_has_everything(run: Run, study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--pick", f"trial:{TRIAL}", "--correlation", "0.5", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    (path,) = kept(study)
    assert entry["file"] == str(path)
    assert (entry["trial"], entry["key"], entry["weights"]) == (TRIAL, KEY, "search")
    assert entry["weights_sha256"] == hashlib.sha256(study.weights(KEY).read_bytes()).hexdigest()
    assert (entry["images"], entry["of_images"], entry["correlation"]) == (216, 216, 0.5)
    assert len(entry["modules"]) == 3
    loose = sum(one["clusters"] for one in entry["modules"][2]["branches"])
    assert run("--pick", "best", "--correlation", "0.95", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert sum(one["clusters"] for one in entry["modules"][2]["branches"]) > loose
    assert kept(study) == [path]  # the same weights: the later one takes its place


def test_refined_weights_come_first(
    run: Run, study: StudyFolder, full: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--pick", "best", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["weights"], entry["weights_sha256"]) == ("refined, 60 epochs, replicate 1", full)
    assert entry["val_accuracy"] == 0.91
    assert run("--pick", "best", "--as-is", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["weights"] == "search"
    assert len(kept(study)) == 2


def test_the_channel_step_is_the_spaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = export_study(tmp_path)
    with closing(Records(folder.url)) as records:
        identity = dict(records.study("fake").identity)
    identity["space"]["widths"] = {"step": 4}
    with closing(Records(folder.url)) as records, records.writing() as connection:
        from nas.tables import study_table

        connection.execute(study_table.update().values(identity=json.dumps(identity)))
    assert main(["redundancy", "fake", "--studies-dir", str(tmp_path), "--pick", "best", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    widths = [one["width"] for module in entry["modules"] for one in module["branches"]]
    assert entry["step"] == 4
    assert all(width % 4 == 0 for width in widths)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing option '--pick'"),
        (["--pick", "bst"], "unknown pick 'bst': did you mean 'best'?"),
        (["--pick", "trial:2"], "trial 2 is pruned and has no final network"),
        (["--pick", "under:5"], "costs at most 5"),
        (["--pick", "best", "--correlation", "0"], "--correlation 0: clusters are cut above 0 and at most at 1"),
        (["--pick", "best", "--correlation", "nan"], "--correlation nan: clusters are cut above 0"),
        (["--pick", "best", "--correlation", "90"], "--correlation 90: clusters are cut above 0"),
        (["--pick", "best", "--correlation", "high"], "Invalid value for '--correlation'"),
        (["--pick", "best", "--images", "1"], "--images 1: a correlation needs at least 2 images"),
        (["--pick", "best", "--images", "-3"], "--images -3: a correlation needs at least 2 images"),
        (["--pick", "best", "--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["--pick", "best", "--device", "gpu"], "unknown device 'gpu'"),
        (["--pick", "best", "--dataset", "folder:/nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: list[str], said: str, run: Run, study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(study.path.iterdir())
    assert run(*words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nas: ")
    assert len(err.splitlines()) == 1
    assert said in err
    assert sorted(study.path.iterdir()) == before


def lost(study: StudyFolder) -> None:
    study.weights(KEY).unlink()


def pickled(study: StudyFolder) -> None:
    torch.save({"x": torch.zeros(1)}, study.weights(KEY))


def others(study: StudyFolder) -> None:
    save_file(contiguous(network(architecture(0.7))), study.weights(KEY))


def endless(study: StudyFolder) -> None:
    made = network(architecture(1.0), 7)
    torch.nn.init.constant_(made.inception[1].conv_3x3.conv.weight, float("inf"))  # type: ignore[union-attr,index,arg-type]
    save_file(contiguous(made), study.weights(KEY))


def in_the_way(study: StudyFolder) -> None:
    study.redundancy.touch()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lost, "has no weights at"),
        (pickled, "is damaged"),
        (others, f"holds the weights of another network than trial {TRIAL}'s"),
        (endless, "channels are not finite on the validation images"),
        (in_the_way, "a part of the path is a file"),
    ],
)
def test_spoilt_files_are_one_line(
    spoil: Callable[[StudyFolder], None], said: str, run: Run, study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(study)
    assert run("--pick", "best") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert said in err
    assert not study.redundancy.is_dir()


def test_other_images_are_refused(
    run: Run, study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "other", {"a": 20, "b": 20})
    assert run("--pick", "best", "--dataset", f"folder:{tmp_path / 'other'}") == 1
    err = capsys.readouterr().err
    assert "are not those that study 'fake' was made from" in err
    assert len(err.splitlines()) == 1


class Select(HTMLParser):
    """The options of the heat map's select, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.options: list[str] = []
        self.words: list[str] = []
        self._inside = self._select = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._inside = tag
        if tag == "select":
            self._select = dict(attrs).get("id", "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "option" and self._select == "heat-map":
            self.options.append(data)
        if self._inside not in ("script", "style"):
            self.words.append(data)


def maps_in(text: str) -> Iterator[dict[str, Any]]:
    found = re.search(r"^const DATA = (.*);$", text, re.MULTILINE)
    assert found is not None
    yield from json.loads(found[1]).get("heat_maps", [])


def test_the_report_draws_what_was_measured(run: Run, study: StudyFolder, full: str) -> None:
    place = ["--studies-dir", str(study.studies_dir)]
    assert main(["report", "fake", *place]) == 0
    without = study.report.read_text()
    assert "Redundancy of channels" not in without
    assert list(maps_in(without)) == []
    assert run("--pick", "best", "--as-is") == 0
    assert run("--pick", "best") == 0
    (study.redundancy / "bad.npz").write_bytes(b"x")
    assert main(["report", "fake", *place]) == 0
    text = study.report.read_text()
    parsed = Select(text)
    day = read_all(study.redundancy)[0][0].about["measured_at"][:10]
    names = {
        f"Trial {TRIAL}, module {number} ({weights}; {day})"
        for weights in ("search", "refined, 60 epochs, replicate 1")
        for number in (1, 2, 3)
    }
    assert set(parsed.options) == names
    assert len(list(maps_in(text))) == 6
    assert "bad.npz is damaged" in " ".join(parsed.words)
    assert "216 validation images of digits" in " ".join(parsed.words)


def test_a_heat_map_shows_living_channels_by_branch_and_cluster() -> None:
    found = measured()
    figure = section.heat_map(found, 1)
    (trace,) = figure.data
    assert list(trace.y) == list(trace.x)
    assert len(trace.y) == 8  # of nine channels one is dead
    order = [0, 1, 2, 3, 5, 6, 7, 8]
    names = ["1x1, channel 0", "1x1, channel 1", "1x1, channel 2", "reduce 3x3, channel 0", "3x3, channel 0",
             "3x3, channel 1", "5x5, channel 0", "pool, channel 0"]  # fmt: skip
    assert sorted(trace.y) == sorted(names)
    at = dict(zip(names, order, strict=True))
    for i, left in enumerate(trace.y):
        for j, right in enumerate(trace.y):
            r = found.modules[0].correlation[at[left], at[right]]
            assert abs(trace.z[i][j] - 100 * r) <= 0.5 + 1e-6
    (frame,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    inside = [name for place, name in enumerate(trace.y) if frame.x0 < place < frame.x1]
    assert sorted(inside) == ["1x1, channel 0", "1x1, channel 2"]
    assert len([shape for shape in figure.layout.shapes if shape.type == "line"]) == 2 * 4
    assert list(figure.layout.yaxis.ticktext) == ["1x1", "reduce 3x3", "3x3", "5x5", "pool"]


def test_words_from_outside_stay_text(study: StudyFolder) -> None:
    evil = measured(weights=HOSTILE, dataset=HOSTILE)
    text = page(outcome_of(study), redundancy=[evil], broken=[HOSTILE])
    assert "<script>alert" not in text
    assert HOSTILE in "".join(Select(text).options[0])


def test_a_page_bears_only_so_many_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [measured(), measured(trial=4)]
    assert len(section.heat_maps(both)) == 2
    monkeypatch.setattr(section, "MOST_CELLS", 100)
    assert [name for name, _ in section.heat_maps(both)] == ["Trial 3, module 1 (search; 2026-05-04)"]
    part = section.redundancy_section(both, [])
    assert part is not None
    assert len(part.data["heat_maps"]) == 1
    assert "trial 4" in part.html.lower()  # its tables stay
