"""The README is true: its commands exist with the options it names, and what it points at is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from nas.cli import app
from nas.record_file import read

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^(?:\.venv/bin/)?nas ([^#\n]+)", README, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_understood(command: str) -> None:
    group = typer.main.get_command(app)
    context = group.make_context("nas", shlex.split(command))
    name, inner, words = group.resolve_command(context, [*context._protected_args, *context.args])
    if hasattr(inner, "resolve_command"):  # nas spaces ...
        context = inner.make_context(name, words)
        name, inner, words = inner.resolve_command(context, [*context._protected_args, *context.args])
    assert inner.make_context(name, words).args == []


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:scripts|search_spaces|tests|studies)/[\w./-]+)`", README)))
)
def test_what_the_readme_points_at_is_there(path: str) -> None:
    if path.startswith("studies/digits"):
        return  # made by the quickstart
    assert (ROOT / path).exists()


def test_the_search_behind_the_pictures_is_there_and_names_no_machine() -> None:
    file = read(ROOT / "studies" / "digits.csv.gz")
    assert (file.name, len(file.rows)) == ("digits", 200)
    assert file.settings["command"] == "nas search --space digits --study digits --trials 200 --no-cache"
