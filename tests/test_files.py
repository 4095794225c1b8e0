"""A study's files at a URL that its machines share, and a machine that does not see the study's folder."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry, known_implementations

from nas.cache import EvaluationCache
from nas.chosen import choose
from nas.cli import main
from nas.context import Context
from nas.errors import StudyError
from nas.export.pick import pick_network
from nas.files import OBJECT_STORES, Files, check_url, elsewhere, is_marked, mark, new_mark
from nas.outcome import Outcome
from nas.record_file import RecordFile
from nas.records import Records, worker_table
from nas.refine.options import RefineOptions
from nas.refine.worker import RefineWorker
from nas.refined import networks, refinements
from nas.search import setup as setting_up
from nas.search.checkpoints import Checkpoints
from nas.search.liveness import host
from nas.search.loop import Interrupted, Stop
from nas.search.options import SearchOptions
from nas.search.setup import set_up
from nas.search.weights import FrontWeights
from nas.study_folder import StudyFolder
from tests import refining
from tests.fake_study import identity, rows, settings, write_study

ID = "0123456789abcdef0123456789abcdef"


class ObjectStore(MemoryFileSystem):
    """In memory, as those are that have no folders: whoever makes or renames one there is told off."""

    protocol = "s3"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def put_file(self, lpath: str, rpath: str, **named: object) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise AssertionError("no folders here")

    def mv(self, *given: object, **named: object) -> None:
        raise AssertionError("a copy and a removal")


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of an empty place."""
    if request.param == "s3":
        monkeypatch.setitem(_registry, "s3", ObjectStore)
    yield {"memory": "memory://nas", "file": f"file://{tmp_path}/there", "s3": "s3://bucket/nas"}[request.param]
    MemoryFileSystem.store.clear()
    ObjectStore.store.clear()


def study(tmp_path: Path, machine: str, **changed: Any) -> tuple[StudyFolder, dict[str, Any]]:
    """The folder of a study on a machine, and the study's settings."""
    kept = {"folder": {"id": ID, "host": "first", "path": "/first/s"}, **changed}
    return StudyFolder(tmp_path / machine, "a study"), kept


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_what_one_machine_puts_another_fetches_and_drops(tmp_path: Path, url: str) -> None:
    said: list[str] = []
    (first, kept), (other, _) = (study(tmp_path, name, files=url) for name in ("first", "other"))
    here, there = Files(first, kept, said.append), Files(other, kept, said.append)
    assert not there.fetch(other.weights("a"))
    assert there.names("weights") == set()
    here.put(write(first.weights("a"), "one"))
    here.put(write(first.paused("a"), "half"))
    assert there.names("weights") == {"a.safetensors"}
    assert there.fetch(other.weights("a"))
    assert other.weights("a").read_text() == "one"
    assert [path.name for path in other.weights("a").parent.iterdir()] == ["a.safetensors"]

    here.put(write(first.paused("a"), "whole"))
    write(other.paused("a"), "old")
    assert there.fetch(other.paused("a"))
    assert other.paused("a").read_text() == "old"  # what is here is taken
    assert there.fetch(other.paused("a"), anew=True)
    assert other.paused("a").read_text() == "whole"
    write(other.paused("b"), "only here")
    assert there.fetch(other.paused("b"), anew=True)
    assert other.paused("b").read_text() == "only here"

    there.drop(other.weights("a"))
    there.drop(other.weights("a"))  # another worker was first
    assert not other.weights("a").exists()
    assert here.names("weights") == set()
    assert here.names("paused") == {"a.pt"}
    assert first.weights("a").read_text() == "one"  # each machine sees to its own folder
    here.close()
    there.close()
    assert said == []


def test_studies_of_one_name_do_not_meet(tmp_path: Path, url: str) -> None:
    folder, kept = study(tmp_path, "first", files=url)
    Files(folder, kept).put(write(folder.weights("a"), "one"))
    other = {**kept, "folder": {**kept["folder"], "id": "f" * 32}}
    assert Files(folder, other).names("weights") == set()


def test_a_place_is_tried_before_a_study_is_made(tmp_path: Path, url: str) -> None:
    folder, kept = study(tmp_path, "first", files=url)
    Files(folder, kept).probe()
    assert Files(folder, kept).names(".") == set()


def test_what_is_in_the_folder_alone_is_put_there_later(tmp_path: Path, url: str) -> None:
    (first, kept), (other, _) = (study(tmp_path, name, files=url) for name in ("first", "other"))
    write(first.weights("a"), "one")
    write(first.refined("a", "r" * 20, 1), "two")
    write(first.mark, f"{ID}\n")
    assert not Files(other, kept).is_marked
    Files(first, kept).catch_up()
    there = Files(other, kept)
    assert there.is_marked
    assert there.names("weights") == {"a.safetensors"}
    assert there.fetch(other.refined("a", "r" * 20, 1))


def test_another_study_s_folder_is_not_put_there(tmp_path: Path) -> None:
    folder, kept = study(tmp_path, "first", files=f"file://{tmp_path}/there")
    write(folder.weights("a"), "one")
    write(folder.mark, "another\n")
    Files(folder, kept).catch_up()
    assert not (tmp_path / "there").exists()


def test_without_a_url_there_is_the_folder_alone(tmp_path: Path) -> None:
    folder, kept = study(tmp_path, "first")
    for files in (Files(folder, kept), Files(folder, {})):
        assert files.url is None
        assert files.is_marked
        path = write(folder.weights("a"), "one")
        files.put(path)
        files.catch_up()
        assert files.fetch(path, anew=True)
        assert files.names("weights") == set()
        files.drop(path)
        assert not files.fetch(path)
        files.close()
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_store_that_does_not_serve_costs_a_line_and_nothing_else(tmp_path: Path) -> None:
    said: list[str] = []
    place = tmp_path / "there"
    folder, kept = study(tmp_path, "first", files=f"file://{place}")
    files = Files(folder, kept, said.append)
    place.write_text("a file where a folder should be")
    one, two, gone = (write(folder.weights(name), name) for name in ("one", "two", "gone"))
    for path in (one, two, gone):
        files.put(path)
    assert not files.fetch(folder.weights("three"))
    assert files.fetch(one)
    assert files.names("weights") == set()
    assert files.is_marked
    files.drop(gone)
    assert not gone.exists()
    (line,) = said
    assert line.startswith(f"file://{place} does not serve (")
    assert line.endswith(f"{one} is kept here alone; what runs goes on.")
    files.close()
    assert said[1:] == [f"2 files are in {folder.path} alone: the next `nas search` here puts them at file://{place}"]

    place.unlink()
    files.put(write(folder.weights("three"), "three"))
    assert said[2:] == [f"file://{place} serves again."]
    assert files.names("weights") == {f"{name}.safetensors" for name in ("one", "two", "three")}
    files.close()
    assert len(said) == 3


def test_a_package_that_is_missing_on_another_machine_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking(monkeypatch)
    said: list[str] = []
    folder, kept = study(tmp_path, "first", files="far://x")
    Files(folder, kept, said.append).put(write(folder.weights("a"), "one"))
    assert "Install far-fs to reach it" in said[0]
    assert folder.weights("a").is_file()


def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of store whose package is not installed."""
    known = {"class": "far_fs.System", "err": "Install far-fs to reach it"}
    monkeypatch.setitem(known_implementations, "far", known)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("folder/there", "--files 'folder/there': it must be PROTOCOL://PLACE, such as s3://bucket/nas"),
        ("s3://", "--files 's3://': it must be"),
        ("", "--files '': it must be"),
        ("file:///a b", "--files 'file:///a b': it must be"),
        ("https://x/y?sig=secret", "--files 'https://x/y': it must be"),
        ("s3://b/p#secret", "--files 's3://b/p': it must be"),
        ("simplecache::s3://b", "--files 'simplecache::s3://b': it must be"),
        ("nowhere://x", "--files nowhere://x: fsspec knows no nowhere://; take s3://"),
        ("far://x", "--files far://x: Install far-fs to reach it"),
        ("ftp://me:secret@host/x", "--files ftp://***@host/x: the study keeps this URL, so leave the password out"),
        ("ftp://me:se/cr?et@host/x", "--files ftp://***@host/x: the study keeps this URL"),
        ("s3://key:secret@bucket", "such as FSSPEC_S3_PASSWORD"),
    ],
)
def test_a_url_that_will_not_do(
    given: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lacking(monkeypatch)
    assert main(["search", "--space", "tiny", "--studies-dir", str(tmp_path / "s"), "--files", given]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert "secret" not in said
    assert "cr?et" not in said
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("given", ["file:///mnt/shared", "memory://x", "sftp://me@host/x", "abfs://box@host/x"])
def test_a_url_that_will_do(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda protocol: MemoryFileSystem)
    check_url(given)


def test_the_stores_without_folders_are_known_to_fsspec() -> None:
    assert set(known_implementations) >= OBJECT_STORES


# Marks: whether a machine has the study's own folder.


def test_a_folder_is_known_by_its_mark_wherever_it_is(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "first", "s")
    made = new_mark(folder)
    kept = {"folder": made}
    mark(folder, kept, made)
    assert is_marked(folder, made["id"])
    assert elsewhere(folder, kept) is None
    moved = StudyFolder(tmp_path / "other", "s")
    moved.studies_dir.mkdir()
    folder.path.rename(moved.path)
    assert elsewhere(moved, kept) is None


def test_another_folder_is_said_to_be_one(tmp_path: Path) -> None:
    folder, kept = study(tmp_path, "other")
    line = elsewhere(folder, kept)
    assert line is not None
    assert f"'{folder.path}' on {socket.gethostname()} is not the folder where first keeps the weights of" in line
    assert "'a study' (/first/s): trials that were paused there are trained anew here" in line
    assert "Share one folder (NFS or the like) as --studies-dir, or give `nas search --files URL`" in line
    assert "\n" not in line
    write(folder.mark, "\xff another")
    assert elsewhere(folder, kept) == line
    mark(folder, kept, new_mark(folder))  # made here, and not this study's
    assert elsewhere(folder, kept) == line
    assert elsewhere(folder, {**kept, "files": "s3://b"}) is None
    assert elsewhere(folder, {}) is None  # from before there were marks


def test_a_folder_that_was_removed_is_marked_again_where_it_was(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "s")
    kept = {"folder": new_mark(folder)}
    mark(folder, kept, new_mark(folder))
    assert elsewhere(folder, kept) is None


@pytest.mark.parametrize(
    "words",
    [
        ["export", "fake", "--pick", "best"],
        ["test", "fake", "--pick", "best"],
        ["redundancy", "fake", "--pick", "best"],
        ["report", "fake"],
    ],
)
def test_a_command_that_wants_weights_says_it_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    write_study(tmp_path, "fake", rows(5), folder={"id": ID, "host": "first", "path": "/first/fake"})
    main([*words, "--studies-dir", str(tmp_path)])
    assert capsys.readouterr().err.count("is not the folder where first keeps the weights of study 'fake'") == 1


def options(tmp_path: Path, machine: str, **changed: Any) -> SearchOptions:
    """A tiny search on a machine with a folder of its own, in one database."""
    return replace(
        SearchOptions(
            space="tiny", study="s", studies_dir=str(tmp_path / machine), storage=f"sqlite:///{tmp_path}/shared.db",
            device="cpu", epochs=1, train_limit=100, trials=3,
        ),
        **changed,
    )  # fmt: skip


def test_a_search_on_a_machine_of_its_own_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting_up, "SETTLED", 0.1)
    first = set_up(options(tmp_path, "first"), 0)
    assert first.place_words == ()
    kept = first.opened.record.settings
    assert first.folder.mark.read_text().strip() == kept["folder"]["id"]
    for joins in (False, True):
        other = set_up(options(tmp_path, "other", joins=joins), 0)
        (line,) = other.place_words
        assert line.startswith(f"Warning: '{tmp_path}/other/s' on ")
        assert line in other.facts["words"]
        assert other.opened.record.settings["folder"] == kept["folder"]
        assert not other.folder.mark.exists()
    assert set_up(options(tmp_path, "other"), 1).place_words == ()  # once a launcher
    assert set_up(options(tmp_path, "first", joins=True), 0).place_words == ()


def test_a_study_from_before_is_marked_by_the_next_search(tmp_path: Path) -> None:
    made = set_up(options(tmp_path, "first"), 0)
    records, number = made.opened.records, made.opened.record.id
    before = {name: value for name, value in made.opened.record.settings.items() if name not in ("folder", "files")}
    with records.writing() as connection:
        from nas.records import study_table

        connection.execute(study_table.update().where(study_table.c.id == number).values(settings=json.dumps(before)))
    made.folder.mark.unlink()
    again = set_up(options(tmp_path, "first"), 0)
    assert again.opened.record.settings["folder"]["path"] == str(made.folder.path)
    assert is_marked(again.folder, again.opened.record.settings["folder"]["id"])


def test_the_study_keeps_the_url_and_every_later_command_finds_it(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/there"
    assert set_up(options(tmp_path, "first"), 0).files.url is None
    write(StudyFolder(tmp_path / "first", "s").weights("a"), "one")
    given = set_up(options(tmp_path, "first", files=url), 0)
    assert given.files.url == url
    other = set_up(options(tmp_path, "other"), 0)
    assert other.files.url == url
    assert other.place_words == ()
    assert other.files.fetch(other.folder.weights("a"))
    with pytest.raises(StudyError, match=r"keeps its files at file://.*there, this command says --files memory://x"):
        set_up(options(tmp_path, "other", files="memory://x"), 0)
    shutil.rmtree(tmp_path / "there")  # as where a shared disk is not mounted
    (line,) = set_up(options(tmp_path, "other"), 0).place_words
    assert line.startswith(f"Warning: {url} shows no files of study 's' here: is it one place for all machines?")


def test_a_place_where_nothing_can_be_written_makes_no_study(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a file")
    with pytest.raises(StudyError, match=r"--files file://.*/there/in: files cannot be written there \(.*check the"):
        set_up(options(tmp_path, "first", files=f"file://{tmp_path}/there/in"), 0)
    assert not (tmp_path / "shared.db").exists()
    assert not (tmp_path / "first" / "s").exists()


# Readers and writers of the folder.


def test_the_front_s_weights_are_there_as_long_as_here(tmp_path: Path, url: str) -> None:
    folder, kept = study(tmp_path, "first", files=url)
    complete: list[tuple[str, int, float]] = []
    opened: Any = SimpleNamespace(
        records=SimpleNamespace(complete=lambda study: complete), record=SimpleNamespace(id=1)
    )
    weights, files = FrontWeights(folder, opened, Files(folder, kept)), Files(folder, kept)
    file = write(tmp_path / "state", "bytes")
    made = [row for row in rows(30) if row.state == "complete"][:3]
    for row, (cost, accuracy) in zip(made, [(200, 0.5), (300, 0.4), (100, 0.6)], strict=True):
        row = replace(row, cost=cost, val_accuracy=accuracy)
        weights.keep(row, file)
        complete.append((row.key, cost, accuracy))
        weights.drop_beaten()
    assert files.names("weights") == {f"{made[2].key}.safetensors"}
    assert [path.name for path in folder.weights("x").parent.iterdir()] == [f"{made[2].key}.safetensors"]

    # a worker that begins later finds what a killed one left
    files.put(write(folder.weights(made[0].key), "left"))
    FrontWeights(folder, opened, Files(folder, kept)).drop_beaten()
    assert files.names("weights") == {f"{made[2].key}.safetensors"}


class Kept:
    """A training as far as a checkpoint knows it."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def checkpoint(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def restore(self, found: dict[str, Any]) -> None:
        self.epoch = found["epoch"]


def test_a_paused_training_goes_on_on_another_machine(tmp_path: Path, url: str) -> None:
    (first, kept), (other, _) = (study(tmp_path, name, files=url) for name in ("first", "other"))
    here, there = Checkpoints(first, Files(first, kept)), Checkpoints(other, Files(other, kept))
    one: Any = Kept(1)
    here.keep(one, "a")
    two: Any = Kept(0)
    assert there.restore(two, "a") is None
    assert two.epoch == 1
    there.keep(Kept(3), "a")  # type: ignore[arg-type]
    assert here.restore(one, "a") is None
    assert one.epoch == 3  # not its own, older one
    here.drop("a", was_paused=True)
    assert Files(first, kept).names("paused") == set()
    assert "is not there" in str(
        Checkpoints(StudyFolder(tmp_path / "third", "a study"), Files(first, kept)).restore(one, "b")
    )


def test_a_full_training_is_found_on_another_machine(tmp_path: Path) -> None:
    """Kept after an epoch here, gone on with there, and its weights taken on a third machine."""
    url = f"file://{tmp_path}/there"
    made = refining.write(tmp_path / "first")
    with closing(Records(made.url)) as records:
        records.keep_setting(1, "files", url)
        records.keep_setting(1, "folder", {"id": ID, "host": "first", "path": "/first/s"})
    places = [StudyFolder(tmp_path / name, "s") for name in ("first", "other", "third")]

    def train(folder: StudyFolder, stop_after: int | None = None) -> list[str]:
        events: list[dict[str, Any]] = []
        stop = Stop()

        def emit(event: dict[str, Any]) -> None:
            events.append(event)
            if event["event"] == "epoch" and event["epoch"] == stop_after:
                stop.ask()

        asked = RefineOptions("s", made.url, str(folder.studies_dir), epochs=3, device="cpu")
        with closing(Records(made.url)) as records:
            recipe = asked.recipe(Outcome.read(records, "s"))
        with closing(RefineWorker(asked, recipe, 0, stop, emit)) as worker:
            worker.train(1, 1)
        return [f"{event['event']} {event.get('epoch', '')}".strip() for event in events]

    with pytest.raises(Interrupted):
        train(places[0], stop_after=1)
    assert train(places[1]) == ["begun 1", "epoch 2", "epoch 3", "done"]
    with closing(Records(made.url)) as records:
        outcome = Outcome.read(records, "s")
        found = networks(outcome.rows, refinements(records, 1))
    files = Files(places[2], outcome.settings)
    assert files.names("refining") == set()
    (chosen,) = choose(places[2], outcome, found, ["trial:1"])
    assert chosen.weights[0].read()[1] == found[0].trainings[0].weights_sha256


def test_the_search_s_own_weights_are_found_on_another_machine(tmp_path: Path, url: str) -> None:
    kept = study(tmp_path, "first", files=url)[1]
    made = write_study(tmp_path / "first", "a study", rows(10), **kept)
    with closing(Records(made.url)) as records:
        outcome = Outcome.read(records, "a study")
    best = outcome.pick("best")
    Files(made, kept).put(write(made.weights(best.key), "weights"))
    for machine in ("second", "third"):
        other = StudyFolder(tmp_path / machine, "a study")
        if machine == "second":
            (chosen,) = choose(other, outcome, [], ["best"])
            assert chosen.weights[0].path.read_text() == "weights"
        else:
            assert pick_network(other, outcome, [], "best").words == "search"
    off = next(row for row in outcome.rows if row.state == "complete" and row.key != best.key)
    with pytest.raises(StudyError, match="has no weights at"):
        choose(other, outcome, [], [f"trial:{off.trial}"])
    assert pick_network(other, outcome, [], f"trial:{off.trial}").words == "search, trained again"


def test_another_study_s_weights_are_fetched_for_a_training_that_it_answers(tmp_path: Path, url: str) -> None:
    whole = identity("images", "split") | {"train_limit": None, "metric": "accuracy", "training_version": 3}
    row = next(row for row in rows(30) if row.state == "complete")
    kept = study(tmp_path, "x", files=url)[1]
    with closing(Records(f"sqlite:///{tmp_path}/shared.db")) as records:
        records.create()
        records.add(records.add_study("other", whole, {**settings("other"), **kept}).id, row)
        records.add_study("own", whole, settings("own"))
        there = StudyFolder(tmp_path / "elsewhere", "other")
        Files(there, kept).put(write(there.weights(row.key), ""))
        cache = EvaluationCache(tmp_path / "here", records, "own", Context.of(whole), device="cpu", threads=1)
        found = cache.find(row.key, row.seed)
        assert found is not None
        assert cache.weights(found) == StudyFolder(tmp_path / "here", "other").weights(row.key)
        assert cache.weights(found).is_file()  # type: ignore[union-attr]


def test_a_copy_and_a_file_of_records_leave_the_place_out(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/there"
    kept = study(tmp_path, "first", files=url)[1]
    made = write_study(tmp_path / "first", "a study", rows(5), **kept)
    write(made.mark, ID)
    away = StudyFolder(tmp_path / "away", "a study")
    Files(away, kept).put(write(away.weights("a"), "one"))
    assert main(["studies", "copy", "a study", "copied", "--studies-dir", str(tmp_path / "first")]) == 0
    copied = StudyFolder(tmp_path / "first", "copied")
    assert not copied.mark.exists()
    assert copied.weights("a").read_text() == "one"  # it has a folder of its own, so it takes all along
    with closing(Records(copied.url)) as records:
        assert not {"folder", "files"} & set(records.study("copied").settings)
    with closing(Records(made.url)) as records:
        assert not {"folder", "files"} & set(RecordFile.of_study(records, "a study").settings)
        assert records.study("a study").settings["files"] == url


def test_what_is_at_the_url_is_said_to_stay_when_a_study_is_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path, "fake", rows(3), **study(tmp_path, "first", files="memory://nas")[1])
    assert main(["studies", "delete", "fake", "--yes", "--studies-dir", str(tmp_path)]) == 0
    assert "(what it put at memory://nas stays there)" in capsys.readouterr().err


def test_two_machines_do_not_write_one_sqlite_file(tmp_path: Path) -> None:
    made = set_up(options(tmp_path, "first"), 0)

    def beat(where: str, age: float) -> None:
        now = datetime.now(UTC).timestamp()
        row = {"id": where, "study": made.opened.record.id, "host": where, "lock": "/theirs.lock", "beat_at": now - age}
        with made.opened.records.writing() as connection:
            connection.execute(worker_table.delete())
            connection.execute(worker_table.insert().values(**row))

    beat(f"box/{host().partition('/')[2]}", 5)  # another container of this machine
    set_up(options(tmp_path, "first"), 0)
    beat("node-2/other-boot", 100)  # long silent
    set_up(options(tmp_path, "first"), 0)
    for joins in (False, True):
        beat("node-2/other-boot", 5)
        with pytest.raises(StudyError, match=r"is searched on node-2, and its database is a SQLite file, which"):
            set_up(options(tmp_path, "first", joins=joins), 0)


@pytest.mark.slow
def test_machines_without_a_common_folder_search_one_study(tmp_path: Path) -> None:
    """Weights, paused trainings and all by the URL; with the store gone the search still ends as it should."""
    there, kept_away = tmp_path / "there", tmp_path / "away"
    place = ["--storage", f"sqlite:///{tmp_path}/shared.db"]

    def nas(machine: str, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "nas", *words, *place, "--studies-dir", str(tmp_path / machine)],
            capture_output=True, text=True, timeout=240, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    search = ["search", "--space", "tiny", "--study", "s", "--workers", "1", "--train-limit", "300", "--epochs", "2"]
    said = nas("first", *search, "--trials", "3", "--files", f"file://{there}")
    assert "Warning" not in said
    there.rename(kept_away)
    there.write_text("a file where a folder was")
    said = nas("other", "worker", "s", "--trials", "6")
    assert said.count("does not serve") == 1, said
    assert "6/6 trials" in said
    there.unlink()
    kept_away.rename(there)
    assert set_up_again(tmp_path, place[1]) == set()

    with closing(Records(place[1])) as records:
        outcome = Outcome.read(records, "s")
    assert len(outcome.rows) == len(rows_of_shared(place[1])) == 6
    third = StudyFolder(tmp_path / "third", "s")
    for row in outcome.front:
        assert choose(third, outcome, [], [f"trial:{row.trial}"])[0].weights[0].read()
    (named,) = there.iterdir()
    assert {path.stem for path in (named / "weights").iterdir()} >= {row.key for row in outcome.front}


def rows_of_shared(url: str) -> list[Any]:
    with closing(Records(url)) as records:
        return records.rows("s")


def set_up_again(tmp_path: Path, storage: str) -> set[str]:
    """As the next search on the machine that was cut off begins; what is in its folder and not there."""
    folder = StudyFolder(tmp_path / "other", "s")
    with closing(Records(storage)) as records:
        files = Files(folder, records.study("s").settings)
    files.catch_up()
    return {path.name for path in (folder.path / "weights").glob("*.safetensors")} - files.names("weights")
