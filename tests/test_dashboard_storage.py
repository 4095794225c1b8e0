"""The storage that the dashboard reads: Optuna's own contract, and what it shows beyond Optuna's tables."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState
from optuna_dashboard import _serializer, save_plotly_graph_object
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard._note import get_note_from_system_attrs, save_note_with_version

from nas.dashboard import figures as figures_module
from nas.dashboard import shown as shown_module
from nas.dashboard.artifacts import Artifacts
from nas.dashboard.figures import CURVES, FRONT, HYPERVOLUME, ORDER, SHARES
from nas.dashboard.narrow import narrow
from nas.dashboard.notes import trial_note
from nas.dashboard.server import dashboard_storage
from nas.dashboard.storage import DashboardStorage
from nas.errors import StudyError
from nas.outcome import Outcome
from nas.records import Records, Row, claim_table, evaluation_table
from nas.search.notes import note, plain
from nas.search.reporting import MARK
from nas.study_folder import StudyFolder
from tests.fake_study import HOSTILE, architecture, identity, rows, settings, write_study

ROWS = rows(30)
PRUNED = next(row for row in ROWS if row.state == "pruned")
MATRIX = tuple(tuple(20 * (label == given) + (given == 0) for given in range(10)) for label in range(10))


@pytest.mark.slow
class TestOptunasContract(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        url = f"sqlite:///{tmp_path / 'study.db'}"
        RDBStorage(url).engine.dispose()
        made = dashboard_storage(url, writable=True)
        yield made
        made.close()

    def test_pickle_storage(self, storage: BaseStorage) -> None:
        with pytest.raises((AttributeError, TypeError), match="pickle"):  # it stays in the process that serves it
            pickle.dumps(storage)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    first = replace(ROWS[0], confusion=MATRIX)
    return write_study(tmp_path_factory.mktemp("studies"), "fake", [first, *ROWS[1:]], optuna_tables=True)


@pytest.fixture
def folder(written: StudyFolder, tmp_path: Path) -> StudyFolder:
    shutil.copytree(written.path, tmp_path / written.name)
    return StudyFolder(tmp_path, written.name)


@pytest.fixture
def storage(folder: StudyFolder) -> Iterator[DashboardStorage]:
    made = dashboard_storage(folder.url)
    yield made
    made.close()


def plots(storage: BaseStorage, study: int = 1) -> dict[str, Any]:
    found = get_plotly_graph_objects(storage.get_study_system_attrs(study))
    return {name: json.loads(text) for name, text in found.items()}


def note_of(storage: BaseStorage, trial_id: int | None) -> str:
    return str(get_note_from_system_attrs(storage.get_study_system_attrs(1), trial_id)["body"])


def title(plot: dict[str, Any]) -> str:
    return str(plot["layout"]["title"]["text"])


def names(plot: dict[str, Any]) -> list[str | None]:
    return [trace.get("name") for trace in plot["data"]]


def test_all_figures_are_there_in_both_ways_that_attributes_are_read(storage: DashboardStorage) -> None:
    (study,) = storage.get_all_studies()
    assert get_plotly_graph_objects(study.system_attrs).keys() == set(ORDER)
    found = plots(storage)
    assert title(found[FRONT]) == "<b>Front</b>"
    assert names(found[FRONT])[0] == "front"
    assert f"pruned ({sum(row.state == 'pruned' and row.val_accuracy is not None for row in ROWS)})" in names(
        found[FRONT]
    )
    texts = "".join(str(trace.get("hovertext")) for trace in found[FRONT]["data"])
    assert f"<b>trial {PRUNED.trial}</b>, pruned" in texts
    assert HOSTILE not in texts
    assert len(found[CURVES]["data"]) > 3
    assert "hypervolume" in found[HYPERVOLUME]["layout"]["yaxis"]["title"]["text"]
    assert "share" in found[SHARES]["layout"]["yaxis"]["title"]["text"]
    for plot in found.values():
        assert plot["layout"]["paper_bgcolor"] == plot["layout"]["plot_bgcolor"] == "rgba(0,0,0,0)"
        assert not plot["layout"]["template"].get("layout")
    assert (
        storage.get_study_system_attrs(1)["study:metric_names"] if "study:metric_names" in study.system_attrs else True
    )


def test_of_many_trials_the_points_say_little(storage: DashboardStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "TEXTS", 29)
    pruned = next(one for one in plots(storage)[FRONT]["data"] if str(one.get("name")).startswith("pruned"))
    assert "hovertext" not in pruned
    assert pruned["hovertemplate"].startswith("<b>trial %{customdata}</b>")
    assert PRUNED.trial in pruned["customdata"]


def test_a_figure_is_kept_where_optuna_dashboard_keeps_one() -> None:
    study = optuna.create_study()
    save_plotly_graph_object(study, figures_module.go.Figure(), graph_object_id=FRONT)
    assert f"{shown_module.PLOT}{FRONT}:0" in study._storage.get_study_system_attrs(study._study_id)


def test_a_persons_own_plot_stays(folder: StudyFolder) -> None:
    tables = RDBStorage(folder.url)
    study = optuna.load_study(study_name="fake", storage=tables)
    save_plotly_graph_object(study, figures_module.go.Figure(), graph_object_id="mine")
    tables.engine.dispose()
    made = dashboard_storage(folder.url)
    assert plots(made).keys() == {"mine", *ORDER}
    made.close()


def test_a_list_of_studies_makes_nothing(storage: DashboardStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown_module.Shown, "attributes", lambda *_: pytest.fail("made for a list"))
    (study,) = storage.get_all_studies()
    assert study.system_attrs.get("preference:is_preferential", False) is False


def test_nothing_is_made_again_until_a_record_comes(
    folder: StudyFolder, storage: DashboardStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    read: list[Any] = []
    figures, all_rows = shown_module.figures, Records.rows
    monkeypatch.setattr(shown_module, "figures", lambda *given: (made.append(len(given[0].rows)), figures(*given))[1])
    monkeypatch.setattr(
        Records, "rows", lambda self, name, trials=None: (read.append(trials), all_rows(self, name, trials))[1]
    )
    first = plots(storage)
    assert plots(storage) == first
    assert (made, read) == ([30], [[row.trial for row in ROWS]])
    more = replace(rows(31)[30], trial=30)
    with closing(Records(folder.url)) as records:
        records.add(1, more)
    assert "complete" in str(names(plots(storage)[FRONT]))
    assert (made, read[1:]) == ([30, 31], [[30]])


def test_what_is_slow_to_make_is_made_a_tenth_of_the_time(
    folder: StudyFolder, storage: DashboardStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, busy, figures = [1000.0], [0.0], shown_module.figures

    def slow(*given: Any) -> Any:
        busy[0] += 3.0
        return figures(*given)

    monkeypatch.setattr(shown_module, "monotonic", lambda: now[0])
    monkeypatch.setattr(shown_module, "thread_time", lambda: busy[0])
    monkeypatch.setattr(shown_module, "figures", slow)
    plots(storage)
    with closing(Records(folder.url)) as records:
        for number, row in enumerate(rows(33)[30:], start=30):
            records.add(1, replace(row, trial=number))
            plots(storage)
            assert busy[0] == (6.0 if number < 32 else 9.0)  # 30: the first time does not count; 31: within 30 s
            now[0] += 15.5


def test_notes_and_files_are_the_same_by_one_trials_attributes(folder: StudyFolder, storage: DashboardStorage) -> None:
    attached = {"artifact_id": "a", "filename": "b.csv", "mimetype": "text/csv", "encoding": ""}
    tables = RDBStorage(folder.url)
    save_note_with_version(tables, 1, 4, 3, "mine " * 1000)  # in several pieces
    tables.set_study_system_attr(1, "dashboard:artifacts:6:a", json.dumps(attached))
    tables.set_study_system_attr(1, "dashboard:artifacts:a", json.dumps(attached))
    tables.engine.dispose()
    trials = storage.get_all_trials(1)
    whole = dict(storage.get_study_system_attrs(1))

    def listed(attributes: Any) -> list[Any]:
        return [_serializer.serialize_frozen_trial(1, trial, attributes) for trial in trials]

    before = listed(whole)
    assert sum(bool(trial["note"]["body"]) for trial in before) == 30
    assert [trial["trial_id"] for trial in before if attached in trial["artifacts"]] == [6]
    narrow()
    narrow()
    attributes = storage.get_study_system_attrs(1)
    assert listed(attributes) == listed(whole) == before
    assert _serializer.note.get_note_from_system_attrs(attributes, None)["body"] == note_of(storage, None)
    assert _serializer.note.get_note_from_system_attrs.__wrapped__ is get_note_from_system_attrs


def test_a_record_that_replaces_the_last_one_is_seen(folder: StudyFolder, storage: DashboardStorage) -> None:
    """SQLite gives the id of a deleted last line again: so a paused trial becomes a complete one."""
    last = ROWS[-1]
    assert last.state == "complete"
    assert f"complete ({sum(row.state == 'complete' for row in ROWS)})" in names(plots(storage)[FRONT])
    paused = replace(last, state="paused", reason="set aside", finished_at=last.started_at)
    with closing(Records(folder.url)) as records, records.writing() as connection:
        for row in (paused,):
            connection.execute(evaluation_table.delete().where(evaluation_table.c.trial == row.trial))
            records.add(1, row, connection)
    assert "paused (1)" in names(plots(storage)[FRONT])


def test_a_figure_that_fails_says_so_and_the_others_are_there(
    storage: DashboardStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(outcome: Outcome) -> None:
        raise KeyError(HOSTILE)

    monkeypatch.setattr(figures_module, "hypervolume_figure", fail)
    found = plots(storage)
    assert found.keys() == set(ORDER)
    said = found[HYPERVOLUME]["layout"]["annotations"][0]["text"]
    assert said == "This figure cannot be drawn (KeyError); the terminal of nas dashboard says why."
    assert names(found[FRONT])[0] == "front"
    assert "'Hypervolume of the front' cannot be drawn" in caplog.text


def test_records_that_fail_leave_optunas_own_page(
    folder: StudyFolder, storage: DashboardStorage, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(folder.database)) as connection, connection:
        connection.execute("UPDATE nas_evaluation SET architecture = '{}' WHERE trial = 3")
    assert plots(storage) == {}
    assert "is shown without what nas adds" in caplog.text
    assert len(storage.get_all_trials(1)) == 30


def test_another_programs_study_is_shown_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'other.db'}"
    tables = RDBStorage(url)
    study = tables.create_new_study([StudyDirection.MINIMIZE], "other")
    tables.set_study_system_attr(study, "a", 1)
    made = dashboard_storage(url)
    assert made.get_all_studies()[0].system_attrs == {"a": 1}
    assert type(made.get_study_system_attrs(study)) is dict
    made.close()
    tables.engine.dispose()


def test_a_study_in_postgresql_is_shown_and_not_written_to(server: str) -> None:
    with closing(Records(server)) as records:
        records.create()
        study = records.add_study("fake", identity(), settings("fake"))
        for row in ROWS:
            records.add(study.id, row)
    tables = RDBStorage(server)
    optuna.create_study(storage=tables, study_name="fake", directions=["maximize", "minimize"]).ask()
    tables.engine.dispose()
    made = dashboard_storage(server)
    assert plots(made).keys() == set(ORDER)
    assert note_of(made, None).startswith("**Study fake: ")
    with pytest.raises(optuna.exceptions.StorageInternalError) as refused:
        made.set_study_user_attr(1, "a", 1)
    assert "read-only transaction" in str(refused.value.__cause__)
    made.close()
    written = dashboard_storage(server, writable=True)
    written.set_study_user_attr(1, "a", 1)
    assert written.get_study_user_attrs(1) == {"a": 1}
    written.close()
    with pytest.raises(StudyError, match=r"is out of reach"):
        dashboard_storage(server.replace("/postgres", "/nosuch"))


# Trials


def test_constraints_are_where_optuna_dashboard_looks(folder: StudyFolder) -> None:
    tables = RDBStorage(folder.url)
    study = optuna.load_study(study_name="fake", storage=tables)
    running = study.ask()
    running.set_constraint(MARK, 1.0)
    running.set_constraint("other", -2.0)
    made = dashboard_storage(folder.url)
    number = running.number
    for trial in (made.get_all_trials(1)[number], made.get_trial(running._trial_id)):
        assert trial.system_attrs["constraints"] == [-2.0, 1.0]
        assert list(trial.constraints.values()) == [-2.0, 1.0]
    study.tell(running, state=TrialState.PRUNED)
    assert made.get_all_trials(1)[number].system_attrs["constraints"] == [-2.0, 1.0]
    assert made.get_trial_system_attrs(running._trial_id)["constraints"] == [-2.0, 1.0]
    assert tables.get_trial_system_attrs(running._trial_id) == {f"constraints:{MARK}": 1.0, "constraints:other": -2.0}
    assert "constraints" not in made.get_all_trials(1)[0].system_attrs
    made.close()
    tables.engine.dispose()


def test_running_trials_have_their_curve_and_their_modules(folder: StudyFolder, storage: DashboardStorage) -> None:
    assert not any("running" in str(name) for name in names(plots(storage)[CURVES]))
    tables = RDBStorage(folder.url)
    study = optuna.load_study(study_name="fake", storage=tables)
    trial = study.ask()
    network = architecture(1.5)
    trial.set_user_attr("architecture", json.dumps(network.to_json()))
    assert f"{network.params:,} parameters" in note_of(storage, trial._trial_id)
    for epoch, value in ((1, 0.25), (2, 0.5)):
        tables.set_trial_intermediate_value(trial._trial_id, epoch, value)
        (drawn,) = [one for one in plots(storage)[CURVES]["data"] if one.get("name") == "running (1)"]
        assert drawn["x"][: epoch + 1] == [*range(1, epoch + 1), None]
        assert drawn["y"][epoch - 1] == value
    study.tell(trial, state=TrialState.FAIL)
    assert not any("running" in str(name) for name in names(plots(storage)[CURVES]))
    tables.engine.dispose()


def test_a_trial_that_is_set_aside_waits(folder: StudyFolder, storage: DashboardStorage) -> None:
    tables = RDBStorage(folder.url)
    trial = optuna.load_study(study_name="fake", storage=tables).ask()
    tables.set_trial_intermediate_value(trial._trial_id, 1, 0.25)
    row = replace(rows(31)[30], trial=trial.number, state="paused", reason="behind", curve=((1, 0.25, 1.0),))
    with closing(Records(folder.url)) as records, records.writing() as connection:
        records.add(1, row, connection)
        connection.execute(
            claim_table.insert().values(study=1, key=row.key, trial=row.trial, worker="w", state="paused")
        )
    for found in (storage.get_trial(trial._trial_id), storage.get_all_trials(1)[-1]):
        assert found.state == TrialState.WAITING
    assert storage.get_all_trials(1, states=[TrialState.RUNNING]) == []
    assert not any("running" in str(name) for name in names(plots(storage)[CURVES]))
    assert note_of(storage, trial._trial_id).startswith("**Paused, validation accuracy")
    with closing(Records(folder.url)) as records, records.writing() as connection:
        connection.execute(claim_table.update().values(state="held"))
    tables.set_trial_intermediate_value(trial._trial_id, 2, 0.5)
    assert storage.get_all_trials(1)[-1].state == TrialState.RUNNING
    assert "running (1)" in names(plots(storage)[CURVES])
    tables.engine.dispose()


def test_what_a_note_says_stands_in_the_trials_table_no_longer(folder: StudyFolder) -> None:
    tables = RDBStorage(folder.url)
    study = optuna.load_study(study_name="fake", storage=tables)
    trial = study.ask()
    trial.set_user_attr("architecture", "{}")
    trial.set_user_attr("key", "k")
    made = dashboard_storage(folder.url)
    assert made.get_all_trials(1)[trial.number].user_attrs == {"key": "k"}
    made.close()
    tables.engine.dispose()


# Notes


def test_every_trial_with_a_record_has_a_note_and_so_has_the_study(
    folder: StudyFolder, storage: DashboardStorage
) -> None:
    said = note_of(storage, PRUNED.trial + 1)
    assert said.startswith(f"**Pruned, validation accuracy {PRUNED.val_accuracy:.4f} at epoch {PRUNED.curve[-1][0]}**")
    assert f"{PRUNED.params:,} parameters, {PRUNED.macs:,} MACs, key `{PRUNED.key}`" in said
    assert f"Why: {PRUNED.reason}" in said
    assert rf"Stopped: deficit 0.0512, dominated\_by 3, margin 0.0213, rung {PRUNED.curve[-1][0]}" in said
    assert "| module | input | 1x1 |" in said
    for number, share in enumerate(PRUNED.architecture.shares, start=1):
        assert any(
            line.startswith(f"| {number} |") and line.endswith(f"| {float(share):.3f} |") for line in said.split("\n")
        )
    failed = next(row for row in ROWS if row.state == "failed")
    said = note_of(storage, failed.trial + 1)
    assert "<script>" not in said
    assert r"\<script\>alert" in said
    about = note_of(storage, None)
    assert about.startswith("**Study fake: ")
    assert "nas export fake --pick knee" in about
    assert "| best |" in about
    with closing(Records(folder.url)) as records:
        best = Outcome.read(records, "fake").best
    assert best is not None
    assert f"| {best.trial} | {best.params:,} | {best.macs:,} | {best.val_accuracy:.4f} |" in about
    assert f"On the front, best: `nas export fake --pick trial:{best.trial}`" in note_of(storage, best.trial + 1)


def test_a_persons_note_stays_and_the_searchs_own_is_replaced(folder: StudyFolder, storage: DashboardStorage) -> None:
    tables = RDBStorage(folder.url)
    save_note_with_version(tables, 1, 1, 1, note(ROWS[0]))
    save_note_with_version(tables, 1, 2, 1, "mine")
    save_note_with_version(tables, 1, 3, 4, note(ROWS[2]) + "\n\nand mine")
    save_note_with_version(tables, 1, PRUNED.trial + 1, 2, note(PRUNED).replace("\\", ""))  # as earlier ones were
    save_note_with_version(tables, 1, 5, 3, "long " * 1000)
    save_note_with_version(tables, 1, 5, 4, note(ROWS[4]))  # leaves empty pieces of the long one
    save_note_with_version(tables, 1, None, 1, "about it")
    study = optuna.load_study(study_name="fake", storage=tables)
    study.tell(study.ask(), state=TrialState.FAIL)
    long = replace(rows(31)[30], trial=30, state="failed", reason="too long " * 300)
    save_note_with_version(tables, 1, 31, 1, note(long))
    with closing(Records(folder.url)) as records:
        records.add(1, long)
        outcome = Outcome.read(records, "fake")
    whole = trial_note(outcome, outcome.rows[-1], None)
    tables.engine.dispose()
    attrs = storage.get_study_system_attrs(1)

    def noted(trial_id: int | None) -> tuple[int, str]:
        found = get_note_from_system_attrs(attrs, trial_id)
        return found["version"], found["body"].split("\n")[0]

    def shown(row: Row) -> str:
        return f"**{row.state.capitalize()}, validation accuracy {row.val_accuracy:.4f} at epoch {row.curve[-1][0]}**"

    assert noted(1) == (1, shown(ROWS[0]))
    assert noted(2) == (1, "mine")
    assert get_note_from_system_attrs(attrs, 3) == {"version": 4, "body": note(ROWS[2]) + "\n\nand mine"}
    assert noted(4) == (0, shown(ROWS[3]))
    assert noted(PRUNED.trial + 1) == (2, shown(PRUNED))
    assert noted(5) == (4, shown(ROWS[4]))
    assert get_note_from_system_attrs(attrs, 31) == {"version": 1, "body": whole}
    assert noted(None) == (1, "about it")


def test_of_many_trials_those_of_interest_have_notes(
    folder: StudyFolder, storage: DashboardStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Records(folder.url)) as records:
        front = {row.trial for row in Outcome.read(records, "fake").front}
    tables = RDBStorage(folder.url)
    dull = [row.trial for row in ROWS[:20] if row.trial not in front]
    save_note_with_version(tables, 1, dull[0] + 1, 1, note(ROWS[dull[0]]))
    save_note_with_version(tables, 1, dull[1] + 1, 1, "mine")
    tables.engine.dispose()
    assert all(note_of(storage, row.trial + 1) for row in ROWS)
    monkeypatch.setattr(shown_module, "MANY", 29)
    monkeypatch.setattr(shown_module, "FEW", 5)
    noted = {row.trial for row in ROWS if note_of(storage, row.trial + 1)}
    assert noted == {*front, dull[1], *range(25, 30)}
    assert not [key for key in storage.get_study_system_attrs(1) if key.startswith(f"dashboard:{dull[0] + 1}:")]


def test_markdown_takes_no_text_for_markup() -> None:
    assert plain("a *b* | <i>\nc `d` [e](f) # ~g~") == r"a \*b\* \| \<i\> c \`d\` \[e\](f) \# \~g\~"
    row = replace(PRUNED, reason=HOSTILE, worker="<b>", source="<i> trial 3", device="<u>")
    outcome = Outcome("fake", {}, {"rule": "growing", "cost": "params"}, (row,), ())
    said = trial_note(outcome, row, None).replace(r"\<", "")
    assert not [tag for tag in ("<script", "<b>", "<i>", "<u>") if tag in said]


# Artifacts


def test_curves_and_matrices_are_listed_and_made_when_they_are_opened(
    folder: StudyFolder, storage: DashboardStorage
) -> None:
    store = Artifacts(storage.artifact, folder.artifacts)

    def listed(trial_id: int) -> dict[str, str]:
        attrs = storage.get_trial_system_attrs(trial_id)
        found = [json.loads(value) for key, value in attrs.items() if key.startswith("artifacts:")]
        assert attrs == storage.get_all_trials(1)[trial_id - 1].system_attrs
        return {one["filename"]: one["artifact_id"] for one in found}

    def table(artifact: str) -> list[list[str]]:
        with store.open_reader(artifact) as file:
            return list(csv.reader(io.TextIOWrapper(file)))

    first = listed(1)
    assert first.keys() == {"trial-0-learning-curve.csv", "trial-0-confusion-matrix.csv"}
    assert listed(2).keys() == {"trial-1-learning-curve.csv"}
    curve = table(first["trial-0-learning-curve.csv"])
    assert curve[0] == ["epoch", "validation accuracy", "training loss"]
    assert [(int(a), float(b), float(c)) for a, b, c in curve[1:]] == list(ROWS[0].curve)
    matrix = table(first["trial-0-confusion-matrix.csv"])
    assert matrix[0] == ["true class", "images", "right", *(f"answer {name}" for name in range(10))]
    assert matrix[1] == ["0", "21", "21", "21", *["0"] * 9]
    assert matrix[2] == ["1", "21", "20", "1", "20", *["0"] * 8]
    for missing in ("cf-2", "c0-ffff", "c0-fffffffffffffff", "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(ArtifactNotFound):
            store.open_reader(missing)
    with pytest.raises(ArtifactNotFound):
        store.remove(first["trial-0-learning-curve.csv"])
    store.write("0a", io.BytesIO(b"kept"))
    with Artifacts(storage.artifact, folder.artifacts).open_reader("0a") as file:
        assert file.read() == b"kept"
    store.remove("0a")
    assert list(folder.artifacts.iterdir()) == []


def test_a_running_trials_curve_is_its_readings_so_far(folder: StudyFolder, storage: DashboardStorage) -> None:
    tables = RDBStorage(folder.url)
    trial = optuna.load_study(study_name="fake", storage=tables).ask()
    assert storage.get_trial_system_attrs(trial._trial_id) == {}
    tables.set_trial_intermediate_value(trial._trial_id, 1, 0.25)
    (listed,) = storage.get_trial_system_attrs(trial._trial_id).values()
    made = storage.artifact("c0", trial._trial_id)
    assert json.loads(listed)["artifact_id"] == f"c0-{trial._trial_id:x}"
    assert made == b"epoch,validation accuracy,training loss\n1,0.25,\n"
    tables.engine.dispose()


def test_an_older_layout_has_no_matrices(folder: StudyFolder) -> None:
    with closing(sqlite3.connect(folder.database)) as connection, connection:
        connection.execute("ALTER TABLE nas_evaluation DROP COLUMN confusion")
    made = dashboard_storage(folder.url)
    assert [key[:12] for key in made.get_trial_system_attrs(1)] == ["artifacts:c0"]
    assert plots(made).keys() == set(ORDER)
    made.close()
