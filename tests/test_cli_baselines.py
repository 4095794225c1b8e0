"""`nas baselines list`: the published counts, the rule held against each network, and nothing heavy loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from nas.cli import main

Captured = pytest.CaptureFixture[str]


def listed(capsys: Captured, *words: str) -> dict[str, dict[str, Any]]:
    assert main(["baselines", "list", "--json", *words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return {entry["name"]: entry for entry in json.loads(said.out)}


def test_counts_as_published(capsys: Captured) -> None:
    entries = listed(capsys)
    assert {name: entry["params"] for name, entry in entries.items()} == {
        "inception-naive-module": 573_824,
        "inception-v1-module": 177_376,
        "inception-cifar": 985_396,
        "small-googlenet": 592_714,
        "googlenet": 6_998_552,
        "alexnet-cifar-plain": 6_979_146,
        "alexnet-cifar": 2_256_458,
        "nin-cifar": 1_485_386,
    }
    assert entries["inception-cifar"]["classes"] == 100
    assert entries["googlenet"]["training_params"] == 13_378_280
    assert [entries[name]["input"] for name in ("inception-v1-module", "googlenet", "nin-cifar")] == [
        [256, 28, 28],
        [3, 224, 224],
        [3, 32, 32],
    ]


def test_counts_for_other_classes(capsys: Captured) -> None:
    entries = listed(capsys, "--classes", "10")
    assert entries["inception-cifar"]["params"] == 942_106
    assert entries["googlenet"]["params"] == 6_998_552 - 990 * 1025
    assert {entry["classes"] for entry in entries.values()} == {10}
    module = entries["inception-v1-module"]
    assert (module["params"], module["module_params"], module["network_params"]) == (177_376, 177_376, 187_626)
    assert (module["network_input"], module["network_macs"]) == ([3, 32, 32], 18_385_408)
    assert entries["nin-cifar"]["module_params"] is None


def test_the_rule(capsys: Captured) -> None:
    entries = listed(capsys)
    assert {name: entry["obeys_rule"] for name, entry in entries.items()} == {
        "inception-naive-module": True,
        "inception-v1-module": True,
        "inception-cifar": False,
        "small-googlenet": True,
        "googlenet": False,
        "alexnet-cifar-plain": None,
        "alexnet-cifar": None,
        "nin-cifar": None,
    }
    assert entries["small-googlenet"]["shares"] == [0.375, 0.5, 0.6875, 0.75, 0.8125]
    assert entries["googlenet"]["modules"][entries["googlenet"]["first_fall"]] == "3b"
    assert entries["nin-cifar"]["shares"] == []


def test_the_table_and_its_words(capsys: Captured) -> None:
    assert main(["baselines", "list", "--classes", "100"]) == 0
    said = capsys.readouterr()
    lines = {line.split()[0]: line for line in said.out.splitlines()[2:]}
    assert len(lines) == 8
    assert lines["inception-cifar"].split()[1:5] == ["985,396", "258,554,752", "3x32x32", "100"]
    assert "fails first at m2" in lines["inception-cifar"]
    assert "fails first at 3b" in lines["googlenet"]
    assert "obeys" in lines["small-googlenet"]
    assert "no modules" in lines["nin-cifar"]
    assert "inception-v1-module in its wrapper: 210,756 parameters, 18,408,448 MACs at 3x32x32, 100 classes" in said.err
    assert "googlenet with its auxiliary heads, in training:" in said.err
    assert "CIFAR-10, 10 epochs: 81.14 % test *" in lines["alexnet-cifar"]
    assert "CIFAR-10, 30 epochs: 71.69 % test " in lines["small-googlenet"]
    assert "*" not in lines["small-googlenet"]
    assert "% test" not in lines["googlenet"]
    assert (
        "one run each. * The runs of alexnet-cifar-plain, alexnet-cifar, nin-cifar also watched the test images"
        in said.err
    )
    entries = listed(capsys)
    assert {name for name, entry in entries.items() if entry["watched_test"]} == {
        "alexnet-cifar-plain",
        "alexnet-cifar",
        "nin-cifar",
    }


@pytest.mark.parametrize("words", [["--classes", "0"], ["--classes", "ten"], ["--classes", "99999999"]])
def test_a_wrong_number_of_classes(words: list[str], capsys: Captured) -> None:
    assert main(["baselines", "list", *words]) == 1
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert f"--classes '{words[1]}'" in said.err


def test_it_answers_without_torch() -> None:
    code = "import sys; from nas.cli import main; main(['baselines', 'list']); main(['rule', 'googlenet']); "
    code += "print({'torch', 'optuna', 'plotly', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
