"""The words about an exported network: nothing of the machine in them, and any name fits into the page."""

from __future__ import annotations

import pytest

from nas.export.card import _text, public
from tests.fake_study import HOSTILE


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("nas export digits --pick knee", "nas export digits --pick knee"),
        ("nas export digits --pick best --output /home/me/out --int8", "nas export digits --pick best --int8"),
        ("nas export digits --output=/home/me/out --studies-dir /home/me/s", "nas export digits"),
        ("nas search --space /home/me/my.toml", "nas search --space my.toml"),
        ("nas search --dataset folder:/home/me/photos/", "nas search --dataset folder:photos"),
        ("nas search --dataset=folder:/home/me/photos --trials=9", "nas search --dataset=folder:photos --trials=9"),
        ("nas search --dataset 'folder:/home/me/my photos'", "nas search --dataset 'folder:my photos'"),
        ("nas search --storage postgresql+psycopg://me:secret@host/nas --seed 1", "nas search --seed 1"),
        ("nas search --storage=postgresql+psycopg://me:secret@host/nas", "nas search"),
        ("nas.search(storage='postgresql://me:secret@host/nas', trials=9)", "'trials=9)'"),
        ("an unclosed 'quote", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_a_command_is_kept_without_places_and_passwords(given: str, kept: str) -> None:
    assert public(given).replace("nas.search(", "") == kept
    assert "secret" not in public(given)
    assert "/home" not in public(given)


@pytest.mark.parametrize("name", [HOSTILE, "a|b", "`code`", "[link](x)", "two\nlines", "# head", "*bold*", "\\"])
def test_any_name_stays_words_in_a_table(name: str) -> None:
    text = _text(name)
    assert "\n" not in text
    bare = text.replace("\\\\", "")
    for at, char in enumerate(bare):
        assert char not in "`*_[]<>|#~&" or bare[at - 1] == "\\"
