"""Names and numbers of a command line: one line and exit code 1, or what was asked for, in the study's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas.cli import LONGEST, main
from nas.record_file import RecordFile, write
from nas.records import Records
from nas.study_folder import StudyFolder
from tests.fake_study import rows as fake_rows
from tests.fake_study import write_study
from tests.recorded import record_file, rows, space

some = settings(max_examples=30, deadline=None, derandomize=True)

ODD = ["naïve é", "研究", "a.b+c-d_e", "nul.txt", "x" + "é" * 99]
"""Names that a study may have."""
BAD = ["..", "../up", "a/b", "/abs", "a\\b", "-x", "a\0b", "a\nb", "a\x1b[31mb", "'a'", '"', "$(x)", "", " ", "."]
BAD += ["a" * 300, "\U0001d518" * 100, "a ", "a.", "~", "*", "\udcff", "\u202eevil", "CON:", "a\u0301", "<b>", "--help"]
"""And those that none can have."""
NAMES = st.sampled_from(BAD) | st.text(st.characters(codec=None), max_size=30)
DEAR = ["search", "--dataset", "{}"]
"""Refused by a worker, which takes seconds to begin."""
# What a name is given to; nothing here makes a folder where the study is not there.
COMMANDS = [
    DEAR,
    ["front", "{}"],
    ["show", "{}", "--trial", "1"],
    ["status", "{}"],
    ["rule", "{}"],
    ["report", "{}"],
    ["report", "s", "{}"],
    ["export", "{}", "--pick", "best"],
    ["export", "s", "--pick", "{}"],
    ["export", "s", "--pick", "best", "--format", "{}"],
    ["refine", "{}"],
    ["redundancy", "{}"],
    ["test", "{}", "--pick", "best"],
    ["test", "s", "--pick", "{}"],
    ["dashboard", "{}"],
    ["replay", "--pruner", "{}"],
    ["records", "export", "{}", "--output", "a.csv.gz"],
    ["records", "export", "s", "--output", "{}"],
    ["records", "import", "{}"],
    ["studies", "copy", "{}", "t"],
    ["studies", "copy", "s", "{}/x"],
    ["studies", "delete", "{}", "--yes"],
    ["spaces", "check", "{}"],
    ["spaces", "show", "{}"],
    ["search", "--study", "{}/x"],
    ["search", "--space", "{}"],
    ["search", "--max-params", "{}"],
    ["search", "--trials", "{}"],
    ["search", "--device", "{}"],
    ["search", "--storage", "{}"],
    ["search", "--files", "{}", "--dataset", "nowhere"],
    ["search", "--engine", "ray", "--address", "{}", "--storage", "postgresql+psycopg://nobody@127.0.0.1:1/none"],
    ["doctor", "{}"],
    ["doctor", "{}", "--repair"],
    ["predict", "{}", "a.jpg"],
    ["bench-model", "{}"],
    ["bench-model", "s", "--batch", "{}"],
    ["baselines", "list", "--classes", "{}"],
    ["baselines", "train", "{}", "--dataset", "digits"],
    ["baselines", "train", "nin-cifar", "--dataset", "{}"],
    ["baselines", "train", "nin-cifar", "--study", "{}"],
    ["baselines", "train", "nin-cifar", "--study", "s", "--recipe", "{}"],
    ["baselines", "line", "{}"],
    ["spaces", "new", "{}", "--dataset", "nowhere"],
    ["spaces", "new", "t", "--dataset", "{}"],
    ["spaces", "sample", "{}"],
    ["worker", "{}", "--storage", "sqlite:///nowhere.db"],
    ["front", "s", "--storage", "{}"],
    ["{}"],
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a study `s`, where the commands are given."""
    folder = tmp_path_factory.mktemp("place")
    write_study(folder / "studies", "s", fake_rows(4))
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and what was said; a refusal is one line that a terminal shows as it is."""
    code = main(words)
    out, err = capsys.readouterr()
    assert code in (0, 1), (words, code)
    if code:
        assert err.startswith("nas: "), (words, err)
        assert err.count("\n") == 1, (words, err)
        assert len(err) < LONGEST + 20
        assert "\x1b" not in err
        assert "\u202e" not in err
    return code, out + err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_name_that_cannot_be_is_refused_in_one_line(
    command: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, above = listed(place / "studies"), set(os.listdir(place.parent))
    names = BAD[COMMANDS.index(command) % 8 :: 8]  # an eighth of them: `test_any_name` mixes the others
    for name in names[:1] if command == DEAR else names:
        if (name, command) in (("--help", command), ("", ["{}"])) or (command[0] == "report" and command[1] == "s"):
            continue
        code, _ = said([word.format(name) for word in command], capsys)
        assert code == 1 or command[:2] == ["records", "export"], (command, name)
    assert listed(place / "studies") == before
    assert set(os.listdir(place.parent)) == above


@some
@given(command=st.sampled_from([command for command in COMMANDS if command != DEAR]), name=NAMES)
@example(command=["records", "import", "{}"], name="\0")
@example(command=["search", "--space", "{}"], name="~nobody/x.toml")
def test_any_name(command: list[str], name: str, place: Path) -> None:
    if name not in ("", "--help"):
        assert main([word.format(name) for word in command]) in (0, 1)


@pytest.mark.parametrize("name", ODD)
def test_a_study_of_an_odd_name_lies_in_its_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path / "studies", name, fake_rows(4))
    words = ["--studies-dir", str(tmp_path / "studies")]
    for command in (["front", name], ["show", name, "--trial", "1"], ["studies", "list"], ["report", name]):
        assert said([*command, *words], capsys)[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"studies"}
    assert {path.name for path in (tmp_path / "studies").iterdir()} == {name}


def test_images_in_a_folder_whose_name_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As on disks of other times: the report once ended in a traceback, now it shows the bytes."""
    of, odd = space(tmp_path), "folder:/mnt/\udcfcbung"
    write(tmp_path / "small.csv.gz", record_file(of, rows(of, [0])[:3], dataset=odd, command=f"nas search {odd}"))
    words = ["--studies-dir", str(tmp_path / "studies")]
    assert said(["records", "import", str(tmp_path / "small.csv.gz"), *words], capsys)[0] == 0
    assert said(["report", "small", *words], capsys)[0] == 0
    assert said(["studies", "list", *words], capsys)[0] == 0
    assert "folder:/mnt/\\udcfcbung" in (tmp_path / "studies" / "small" / "report.html").read_text(encoding="utf-8")


FOLDERS = ["a?mode=memory", "a%2f..%2f..%2fb", "-é'\"\n;#", "\udcff"]


@pytest.mark.parametrize("name", FOLDERS)
def test_records_become_a_study_in_the_folder_that_was_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path is no URL: a question mark or a per cent sign in it once led to a database elsewhere."""
    of = space(tmp_path)
    file: RecordFile = record_file(of, rows(of, [0])[:3])
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "small.csv.gz", file)
    studies = tmp_path / "out" / name
    words = ["records", "import", str(tmp_path / "in" / "small.csv.gz"), "--studies-dir", str(studies)]
    code, words_said = said(words, capsys)
    made = {path.relative_to(tmp_path / "out").parts[0] for path in (tmp_path / "out").rglob("*") if path.is_file()}
    if code:
        assert "cannot be named in a database's URL" in words_said
        assert made == set()
        return
    assert made == {name}
    assert StudyFolder(studies, "small").database.is_file()
    records = Records(StudyFolder(studies, "small").url)
    assert len(records.rows("small")) == 3
    records.close()
    assert said(["front", "small", "--studies-dir", str(studies)], capsys)[0] == 0


def test_a_table_that_says_too_little_makes_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A replay needs less than a study: `nas test` and `nas worker` would meet a setting that is not there."""
    of = space(tmp_path)
    file = record_file(of, rows(of, [0])[:3])
    settings = {name: value for name, value in file.settings.items() if name not in ("dataset", "mean")}
    write(tmp_path / "small.csv.gz", RecordFile("small", file.identity, settings, file.rows))
    words = ["records", "import", str(tmp_path / "small.csv.gz"), "--studies-dir", str(tmp_path / "studies")]
    assert "its header lacks settings.dataset, settings.mean;" in said(words, capsys)[1]
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize("name", ["..", "../../up", "/tmp/nas-abs", "a\0b", "\ud800", "a" * 300, "<script>"])
def test_the_name_in_a_file_of_records_leads_nowhere_else(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = space(tmp_path)
    file = record_file(of, rows(of, [0])[:3])
    write(tmp_path / "small.csv.gz", RecordFile(name, file.identity, file.settings, file.rows))
    before = listed(tmp_path)
    studies = tmp_path / "deep" / "studies"
    assert said(["records", "import", str(tmp_path / "small.csv.gz"), "--studies-dir", str(studies)], capsys)[0] == 1
    assert listed(tmp_path) == before


def test_a_terminal_is_told_no_colours_by_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by a word of the command line nor by what a study says of itself."""
    red = "\x1b[31m\u202eboo"
    evaluations = [replace(row, reason=red) if row.reason else row for row in fake_rows(8)]
    write_study(tmp_path / "studies", "s", evaluations, dataset=f"folder:/{red}")
    here = ["--studies-dir", str(tmp_path / "studies")]
    commands = [(["studies", "list", *here], 0), (["show", "s", "--trial", "7", *here], 0), ([red], 1)]
    for words, code in commands:
        assert main(words) == code
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err
        assert "\\x1b[31m\\u202eboo" in out + err
