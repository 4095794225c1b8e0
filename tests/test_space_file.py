"""The TOML of a space: every mistake gets one line that names the file, the key, what was given and what is allowed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas import space_file
from nas.errors import SpaceError
from nas.space import list_spaces, load_space
from nas.space_file import parse_space, read_space
from tests.spaces import DRAWN, GRIDS, SPACES

TINY = load_space("tiny").toml

MISTAKES = [
    # (text of the tiny space, what stands there instead, the message)
    ("[recipe]", "[recipes]", "unknown key 'recipes': did you mean 'recipe'?"),
    ("step = 2", "stepp = 2", "unknown key in [widths] 'stepp': did you mean 'step'?"),
    ("epochs = 3", "epoch = 3", "unknown key in [recipe] 'epoch': did you mean 'epochs'?"),
    ("epochs = 3", "epochs = 3\naugmentation = { flipp = true }", "[recipe.augmentation] 'flipp': did you mean 'flip'"),
    ("stages = [1, 2]", "stages = [1, 2]\nstagess = 1", "unknown key in [network] 'stagess': did you mean 'stages'?"),
    ("share = { low", "share = { lowest = 0.1, low", "unknown key in [widths.share] 'lowest': did you mean 'low'?"),
    ("share_3x3 = { low", "share_3x3 = { lo = 0.1, low", "unknown key in [widths.share_3x3] 'lo': did you mean 'low'?"),
    ("low = 10_000", "lov = 10_000", "unknown key in [macs] 'lov': did you mean 'low'?"),
    ("channels = 8", "chanels = 8", "network.stem.0: unknown key of layer 'conv' 'chanels': did you mean 'channels'?"),
    ('layer = "conv"', 'layer = "convolution"', "network.stem.0: unknown layer 'convolution': did you mean 'conv'?"),
    ('{ layer = "conv", channels = 8, kernel = 3 }', '"conv"', "a layer is a table such as { layer ="),
    ("channels = 8", "channels = 0", "network.stem.0: stem convolution's channels must be"),
    ("stages = [1, 2]", "stages = [1, 2]\npool = { padding = 2 }", "network.pool: pool's padding must be at most half"),
    ("stages = [1, 2]", "stages = [1, 2]\npool = 3", "network.pool: a layer is a table"),
    ("[1, 2]", '[1, 2]\npool = { layer = "conv", channels = 3 }', "network.pool: the pool between stages is a max_p"),
    ("stages = [1, 2]", "stages = []", "network.stages: "),
    ("stages = [1, 2]", "stages = [0]", "network.stages.0: input should be greater than or equal to 1, got 0"),
    ("stages = [1, 2]", "stages = [40, 40]", "at most 64 modules, got 80"),
    ("stages = [1, 2]", "stages = [1, 1, 1, 1]", "[network] a map of 2 vanishes under kernel 3"),
    ("stages = [1, 2]", "", "network.stages is missing"),
    ("[1, 2]", "[1, 2]\nauxiliary = [4]", "network: auxiliary must be growing numbers of modules, 1 to 3, got [4]"),
    ("[1, 2]", "[1, 2]\nauxiliary = [0]", "auxiliary must be growing numbers of modules, 1 to 3, got [0]"),
    ("[1, 2]", "[1, 2]\nauxiliary = [2, 1]", "auxiliary must be growing numbers of modules, 1 to 3, got [2, 1]"),
    ("[1, 2]", "[1, 2]\nauxiliary = [1, 1]", "auxiliary must be growing numbers of modules, 1 to 3, got [1, 1]"),
    ("[1, 2]", "[1, 2]\nauxiliary = [true]", "network.auxiliary.0: input should be a valid integer, got True"),
    ("[1, 2]", "[1, 2]\nauxiliary = 1", "network.auxiliary: input should be a valid tuple, got 1"),
    ("[1, 2]", "[1, 2]\nauxiliary = [1]", "network.auxiliary: module 1 has a map of 4 pixels a side, and a head"),
    ("[1, 2]", "[1, 1, 1, 1]\nauxiliary = [1]", "[network] a map of 2 vanishes under kernel 3"),
    ("high = 2.0", "high = 0.25", "widths.width: low must be at most high, got low = 0.5 and high = 0.25"),
    ("width = { low = 0.5", "width = { low = 0.0", "widths.width: must be above 0 and at most 1000, got low = 0"),
    ("width = { low = 0.5", "width = { low = nan", "widths.width.low: input should be a finite number, got nan"),
    ("high = 2.0", "high = inf", "widths.width.high: input should be a finite number, got inf"),
    ("high = 0.85", "high = 1.1", "widths.share: must be at least 0 and at most 1, got low = 0.25 and high = 1.1"),
    ("high = 0.85", "high = 0.85, levels = 1", "widths.share.levels: input should be greater than or equal to 2"),
    ("low = 0.05, high = 0.3 }", "low = 0.05, high = 0.5 }", "their highs must add up to at most 1, got 0.6 and 0.5"),
    ("share_5x5 = { low = 0.05, high = 0.3 }", "", "widths: share_3x3 and share_5x5 stand together"),
    ("max_channels = 48", "max_channels = 6", "max_channels must be at least 4 steps (8), one for each branch, got 6"),
    ("max_channels = 48", "max_channels = 1026", "widths: max_channels must be at most 512 steps (1024), got 1026"),
    ("step = 2", "step = 0", "widths.step: input should be greater than or equal to 1, got 0"),
    ("step = 2", 'step = "2"', "widths.step: input should be a valid integer, got '2'"),
    ("step = 2", "step = true", "widths.step: input should be a valid integer, got True"),
    ("classes = 10", "classes = 1", "classes: input should be greater than or equal to 2, got 1"),
    ("classes = 10", "classes = 10.0", "classes: input should be a valid integer, got 10.0"),
    ("input = [1, 8, 8]", "input = [1, 8]", "input.2 is missing"),
    ("input = [1, 8, 8]", "input = [1, 8, 8, 8]", "input: "),
    ("input = [1, 8, 8]", "input = [1, 1, 1]", "[network] a map of 1 vanishes under kernel 3"),
    ("low = 900", "low = 4_000", "params: low must be under high, got low = 4,000 and high = 4,000"),
    ("low = 900", "low = 800", "out of reach: the smallest possible network has 850, the largest 46,898"),
    ("high = 4_000", "high = 50_000", "[params] low = 900 and high = 50,000 are out of reach"),
    ("low = 10_000", "low = 9_000", "[macs] low = 9,000 and high = 40,000 are out of reach"),
    ("low = 900", "low = -3", "params.low: input should be greater than or equal to 1, got -3"),
    ("classes = 10", 'classes = 10\nrule = "up"', "rule: input should be 'growing', 'growing-each' or 'off', got 'up'"),
    ('dataset = "digits"', 'dataset = ""', "dataset: "),
    ('dataset = "digits"', "dataset = 1979-05-27", "dataset: input should be a valid string, got datetime.date"),
    ("learning_rate = ", "learning_rate = -", "recipe.learning_rate: input should be greater than 0, got -"),
    ("classes = 10", "classes = ", "not a TOML file: Invalid value (at line"),
    ("classes = 10", "classes = " + "[" * 5_000, "not a TOML file: "),
]  # fmt: skip


def edited(old: str, new: str) -> str:
    assert TINY.count(old) == 1, old
    return TINY.replace(old, new)


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[new[:40] or old[:40] for old, new, _ in MISTAKES])
def test_a_mistake_gets_one_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(edited(old, new))
    with pytest.raises(SpaceError) as error:
        load_space(str(path))
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_several_mistakes_are_counted() -> None:
    text = edited("step = 2", "step = 0").replace("classes = 10", "classes = 0")
    with pytest.raises(SpaceError, match=r"^x: classes: .* got 0 \(and 1 more to mend\)$"):
        parse_space(text, "x")


def test_whitening_needs_a_convolution_in_front() -> None:
    text = edited("epochs = 3", "epochs = 3\nwhiten = true")
    assert parse_space(text, "x").recipe.whiten
    with pytest.raises(SpaceError, match="whiten = true needs a convolution as the stem's first layer"):
        parse_space(text.replace('    { layer = "conv", channels = 8, kernel = 3 },\n', ""), "x")
    large = text.replace("channels = 8, kernel = 3", "channels = 8, kernel = 9, padding = 4")
    with pytest.raises(SpaceError, match="whiten = true reads whole 9x9 patches of the images, which are 8x8: make"):
        parse_space(large, "x")


def test_a_key_with_line_breaks_stays_on_one_line() -> None:
    with pytest.raises(SpaceError) as error:
        parse_space('"a\\nb" = 1\n' + TINY, "x")
    assert "\n" not in str(error.value)


def test_equal_tables_in_other_words() -> None:
    plain = parse_space(TINY, "x")
    assert parse_space(edited("low = 0.5, high = 2.0", "high = 2, low = 0.5"), "x") == plain
    assert parse_space(edited("stages = [1, 2]", "stages = [1, 2]\npool = {}"), "x") == plain
    stated = 'rule = "growing"\ncost = "params"\nclasses = 10'
    assert parse_space(edited("classes = 10", stated), "x") == plain


def test_shipped_spaces() -> None:
    assert list_spaces() == sorted([*SPACES, *GRIDS, *DRAWN])
    assert SPACES == ["cifar10", "cifar100", "digits", "fashion-mnist", "imagenet", "svhn", "tiny"]
    for name in list_spaces():
        space = load_space(name)
        assert space.name == name
        assert (space.file.widths.share_3x3 is not None) == (name in SPACES)  # every rule is there
        assert read_space(name) == (name, space.toml)


def test_a_wheel_has_its_spaces_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "search_spaces"
    inside.mkdir()
    (inside / "wheel.toml").write_text(TINY)
    monkeypatch.setattr(space_file.importlib.resources, "files", lambda package: tmp_path)
    assert list_spaces() == ["wheel"]
    assert load_space("wheel").name == "wheel"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "digit",
            "unknown space 'digit': did you mean 'digits'? allowed: bench, bench-cifar10, bench-wide, "
            "bench-wide-cifar10, cifar10, cifar100, digits, "
            "fashion-mnist, imagenet, svhn, tiny, or the path",
        ),
        ("", "unknown space ''"),
        ("no/where.toml", "cannot read the search space 'no/where.toml': No such file or directory"),
        ("a\0b.toml", "cannot read the search space"),
        ("x" * 5_000 + ".toml", "File name too long"),
        ("{folder}", "Is a directory"),
        ("{folder}/latin.toml", "cannot read the search space"),
        ("{folder}/long.toml", "long.toml: over 1,000,000 bytes is no search space"),
    ],
)
def test_files_that_are_none(given: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    (folder / "latin.toml").write_bytes(b'source = "\xe9"')
    (folder / "long.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(SpaceError) as error:
        load_space(given.replace("{folder}", str(folder)))
    assert message in str(error.value)
    assert len(str(error.value)) < 800


def test_a_file_beside_a_space_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is a space that ships; a path, even a bare one that ends in .toml, is a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(edited("epochs = 3", "epochs = 4"))
    assert load_space("tiny").recipe.epochs == 3
    assert load_space("tiny.toml").recipe.epochs == 4


SCALARS = ["1", "0", "-1", "1e3", "nan", "inf", '"x"', "true", "1979-05-27", "9999999999999999999", "0.5", "2"]
KEYS = ["low", "high", "levels", "layer", "channels", "kernel", "x"]


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    tables = pairs.map(lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}")
    return tables | st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")


values = st.recursive(st.sampled_from(SCALARS), nested, max_leaves=5)
lines = [number for number, line in enumerate(TINY.splitlines()) if " = " in line and not line.startswith("#")]


def read(text: str, folder: Path) -> None:
    path = folder / "fuzz.toml"
    path.write_text(text, encoding="utf-8")
    try:
        space = load_space(str(path))
    except SpaceError as error:
        assert "\n" not in str(error)  # noqa: PT017 (both outcomes are allowed)
    else:
        for u in (0.0, 0.3, 1.0):
            assert space.decode([u] * len(space.coordinates)).params <= space.budget.max_params


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_the_reader_raises_nothing_else(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A line of a good file with another value, another key, taken out, or doubled."""
    text = TINY.splitlines()
    number = data.draw(st.sampled_from(lines))
    key, _, value = text[number].partition(" = ")
    how = data.draw(st.sampled_from(["value", "key", "drop", "double"]))
    if how == "value":
        text[number] = f"{key} = {data.draw(values)}"
    elif how == "key":
        text[number] = f"{data.draw(st.sampled_from(['low', 'pool', 'x', 'five', 'name', 'rule']))} = {value}"
    elif how == "drop":
        del text[number]
    else:
        text.insert(number, text[number])
    read("\n".join(text), tmp_path_factory.getbasetemp())


@given(st.text(max_size=200))
@example("a = 1\n" * 3)
@settings(max_examples=200, deadline=None)
def test_the_reader_takes_any_text(text: str) -> None:
    with pytest.raises(SpaceError):
        parse_space(text, "x")


def test_the_comments_of_digits_explain_every_key() -> None:
    """A user writes his own from it: every key of the model stands in the file, as a key or in a comment."""
    text = load_space("digits").toml
    keys: set[str] = set()

    def collect(schema: dict[str, Any]) -> None:
        keys.update(schema.get("properties", {}))
        for inner in schema.get("$defs", {}).values():
            collect(inner)

    collect(space_file.SpaceFile.model_json_schema())
    assert {key for key in keys if key not in text} <= {"name", "rule", "cost"}
    tomllib.loads(text)
