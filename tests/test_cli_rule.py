"""`nas rule`: the plot of shares by depth, the verdict, and every way to name a network, wrong ones too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.architecture import InceptionWidths, falls, first_fall
from nas.cli import main
from nas.outcome import Outcome
from nas.records import Records
from nas.references import reference
from nas.study_folder import StudyFolder
from tests.fake_study import architecture, rows, write_study

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return write_study(tmp_path_factory.mktemp("studies"), "fake", rows(12))


def said_of(capsys: Captured, *words: str) -> list[str]:
    assert main(["rule", *words]) == 0
    given = capsys.readouterr()
    assert given.err == ""
    return given.out.splitlines()


def test_googlenet_falls_four_times(capsys: Captured) -> None:
    lines = said_of(capsys, "googlenet")
    assert [line.split()[0] for line in lines[:-1]] == ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
    assert [line.split()[0] for line in lines if line.endswith("falls")] == ["3b", "4a", "4e", "5b"]
    assert lines[0] == "3a  0.625 |" + "#" * 25 + " " * 15 + "| 128+32 of 256"
    assert lines[-1] == "Rule growing: broken, the share falls first at 3b, and again at 4a, 4e, 5b."


def test_small_googlenet_grows_and_equal_shares_are_no_fall(capsys: Captured) -> None:
    lines = said_of(capsys, "small-googlenet")
    assert [line.count("#") for line in lines[:-1]] == [15, 20, 28, 30, 32]
    assert lines[-1] == "Rule growing: holds."
    assert said_of(capsys, "inception-v1-module")[-1] == "Rule growing: holds."
    googlenet = reference("googlenet").architecture(10)
    assert googlenet is not None
    assert googlenet.shares[6] == googlenet.shares[7]
    assert 7 not in falls(googlenet)


def test_each_of_the_two_may_be_asked_for(capsys: Captured, tmp_path: Path) -> None:
    """5x5's share grows from 2/8 to 3/8 while 3x3's falls from 3/8 to 2/8: together they stay."""
    widths = [InceptionWidths(2, 2, 3, 1, 2, 1), InceptionWidths(2, 2, 2, 1, 3, 1)]
    network = architecture(0.5).to_json() | {"stages": [[_json(w) for w in widths]], "stage_pools": []}
    file = tmp_path / "each.json"
    file.write_text(json.dumps(network))
    assert said_of(capsys, str(file))[-1] == "Rule growing: holds."
    lines = said_of(capsys, str(file), "--rule", "growing-each")
    assert lines[0] == "# is 3x3 and 5 is 5x5"
    assert lines[1].startswith("m1  0.625 |" + "#" * 15 + "5" * 10 + " ")
    assert lines[2].endswith("falls")
    assert lines[-1] == "Rule growing-each: broken, the share falls first at m2."
    assert said_of(capsys, str(file), "--rule", "off")[-1] == "Rule off: the shares may fall."


def _json(widths: InceptionWidths) -> dict[str, int]:
    return {name: getattr(widths, name) for name in InceptionWidths.__dataclass_fields__}


def test_as_json(capsys: Captured) -> None:
    given = json.loads("\n".join(said_of(capsys, "inception-cifar", "--json")))
    assert (given["rule"], given["holds"], given["first_fall"], given["falls"]) == ("growing", False, 1, [1, 2, 3, 4])
    assert given["shares"] == pytest.approx([5 / 8, 4 / 7, 5 / 9, 13 / 24, 8 / 15])
    assert given["filters"][0] == {"3x3": 64, "5x5": 16, "all": 128}
    assert given["params"] == 985_396


def test_a_trial_of_a_study(folder: StudyFolder, capsys: Captured) -> None:
    row = Outcome.read(Records(folder.url), "fake").rows[3]
    words = [f"fake:{row.trial}", "--json", "--studies-dir", str(folder.studies_dir)]
    given = json.loads("\n".join(said_of(capsys, *words)))
    assert given["key"] == row.key
    assert given["rule"] == "growing"
    assert given["holds"] == (first_fall(row.architecture) is None)
    assert said_of(capsys, f"fake:{row.trial}", "--storage", folder.url)[-1].startswith("Rule growing:")


def test_files_that_other_commands_write(folder: StudyFolder, tmp_path: Path, capsys: Captured) -> None:
    network = architecture(0.5)
    place = ["--studies-dir", str(folder.studies_dir)]
    assert main(["show", "fake", "--trial", "3", "--json", *place]) == 0
    (tmp_path / "shown.json").write_text(capsys.readouterr().out)
    assert main(["spaces", "sample", "tiny", "--n", "1", "--json"]) == 0
    (tmp_path / "drawn.json").write_text(capsys.readouterr().out)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text(json.dumps({"architecture": network.to_json(), "input": {}}))
    assert said_of(capsys, str(tmp_path / "shown.json"))[-1].startswith("Rule growing:")
    assert said_of(capsys, str(tmp_path / "drawn.json"))[-1] == "Rule growing: holds."
    given = json.loads("\n".join(said_of(capsys, str(tmp_path / "model"), "--json")))
    assert given["key"] == network.key


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gogglenet"], "unknown network 'gogglenet': did you mean 'googlenet'?"),
        (["nothing-like-it"], "a .json file, or STUDY:TRIAL"),
        (["nin-cifar"], "nin-cifar has no Inception modules, so the growth rule asks nothing of it"),
        (["gone.json"], "cannot read 'gone.json': No such file or directory"),
        (["text.json"], "'text.json': not a network's JSON: Expecting value"),
        (["list.json"], "'list.json': not a network's JSON"),
        (["deep.json"], "'deep.json': not a network's JSON"),
        (["bytes.json"], "'bytes.json': not a network's JSON"),
        (["other.json"], "'other.json': not a network's JSON: KeyError 'input_shape'"),
        (["empty"], "cannot read 'empty/model.json'"),
        (["large.json"], "over 1,000,000 bytes is no network's JSON"),
        (["a\0b.json"], "cannot read 'a\\x00b.json'"),
        (["x" * 5000], "unknown network"),
        (["fake:x"], "fake:x: after the colon stands the number of a trial"),
        (["fake:"], "fake:: after the colon stands the number of a trial"),
        (["fake:99"], "has no finished trial 99"),
        (["fkae:1"], "unknown study 'fkae': did you mean 'fake'?"),
        (["../fake:1"], "study name '../fake': allowed are"),
        (["googlenet", "--rule", "growin"], "unknown --rule 'growin': did you mean 'growing'?"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.json").write_text("no network")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "other.json").write_text('{"architecture": {"stem": []}}')
    (tmp_path / "large.json").write_bytes(b" " * 1_000_001)
    (tmp_path / "empty").mkdir()
    assert main(["rule", *words, "--studies-dir", str(folder.studies_dir)]) == 1
    given = capsys.readouterr()
    assert (given.out, len(given.err.splitlines())) == ("", 1)
    assert said in given.err
