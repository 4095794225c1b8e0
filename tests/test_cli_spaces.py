"""`nas spaces` as a user runs it: data on stdout, words on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from nas.architecture import Architecture, first_fall
from nas.cli.spaces import app
from nas.errors import SpaceError
from nas.space import list_spaces, load_space


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_list() -> None:
    result = run("list")
    assert result.exit_code == 0
    for text in ("cifar10", "digits", "tiny", "1x8x8", "1,000 to 15,000", "scikit-learn"):
        assert text in result.stdout
    rows = json.loads(run("list", "--json").stdout)
    assert [row["name"] for row in rows] == list_spaces()
    assert {row["name"]: row["params"] for row in rows}["digits"] == [1_000, 15_000]


def test_show_prints_the_file_as_it_is(tmp_path: Path) -> None:
    text = run("show", "digits").stdout
    assert text == load_space("digits").toml
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert run("show", str(path)).stdout == text


def test_check(tmp_path: Path) -> None:
    result = run("check", "tiny", "--samples", "20")
    assert result.exit_code == 0
    for text in (
        "tiny: 3 modules, 19 coordinates",
        "850 parameters, 9,488 MACs",
        "46,898",
        "900 to 4,000",
        "in 20 draws",
    ):
        assert text in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines()[-3:]] == ["growing", "growing-each", "off"]
    lines = [line for line in load_space("tiny").toml.splitlines() if not line.startswith("share_")]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(lines))
    assert "growing-each  not available" in run("check", str(path), "--samples", "5").stdout
    path.write_text("\n".join(lines).replace("step", "stepp"))
    assert "did you mean 'step'" in str(run("check", str(path)).exception)


def test_sample_prints_a_network_a_line() -> None:
    lines = run("sample", "cifar10", "--n", "20", "--seed", "3", "--json").stdout.splitlines()
    assert len(lines) == 20
    space = load_space("cifar10")
    for line in lines:
        row = json.loads(line)
        counts = {name: row.pop(name) for name in ("key", "params", "macs")}
        network = Architecture.from_json(row)
        assert counts == {"key": network.key, "params": network.params, "macs": network.macs}
        assert space.allows(network)
        assert set(row["stages"][0][0]) == {
            "out_1x1", "reduce_3x3", "out_3x3", "reduce_5x5", "out_5x5", "out_pool"
        }  # fmt: skip


def test_samples_follow_the_seed_and_not_the_count() -> None:
    few, many, other = (
        run("sample", "tiny", "--n", n, "--seed", seed, "--json").stdout.splitlines()
        for n, seed in (("3", "1"), ("9", "1"), ("3", "2"))
    )
    assert many[:3] == few
    assert len(many) == 9
    assert other != few


def test_sample_inside_a_users_budget() -> None:
    words = ("sample", "digits", "--n", "30", "--rule", "off", "--cost", "macs", "--min-macs", "60000", "--json")
    result = run(*words, "--max-macs", "90000", "--max-params", "9000")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(row["macs"] <= 90_000 and row["params"] <= 9_000 for row in rows)
    assert np.median([row["macs"] for row in rows]) >= 60_000
    for row in rows:
        for name in ("key", "params", "macs"):
            del row[name]
    assert run(*words, "--max-macs", "90k", "--max-params", "9k").stdout == result.stdout
    assert any(first_fall(Architecture.from_json(row)) is not None for row in rows)
    table = run("sample", "digits", "--n", "4", "--min-params", "2000", "--max-params", "3000").stdout
    assert [line for line in table.splitlines() if "2," in line and "0." in line]


def test_sample_says_how_many_miss_a_minimum() -> None:
    result = run("sample", "digits", "--n", "30", "--min-params", "5000", "--max-params", "5060", "--json")
    assert len(result.stdout.splitlines()) == 30
    assert "of 30 are under a minimum" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "digit"), "did you mean 'digits'"),
        (("sample", "digits", "--rule", "up"), "unknown rule 'up'"),
        (("sample", "digits", "--max-params", "10"), "smallest possible has 850"),
        (("check", "nowhere.toml"), "No such file"),
    ],
)
def test_a_users_mistake_is_one_of_ours_to_say(words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert isinstance(result.exception, SpaceError)
    assert message in str(result.exception)
    assert result.stdout == ""


def test_wrong_options() -> None:
    assert run("sample", "digits", "--n", "0").exit_code == 2
    assert run("sample").exit_code == 2


def test_alone_it_prints_its_help() -> None:
    result = run()
    assert result.exit_code == 0
    for command in ("list", "new", "show", "check", "sample"):
        assert command in result.stdout
