"""`nas spaces new`: a space fitted to images, which a search can use as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from nas.cli import main
from nas.data import SOURCES
from nas.data.survey import KNOWN, survey
from nas.errors import SpaceError
from nas.space import load_space
from nas.space_draft import LEAST_SIDE, SIDES, Draft, draft, input_side
from tests.pictures import picture, pictures
from tests.searches import search


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def new(*words: str, code: int = 0) -> None:
    assert main(["spaces", "new", *words]) == code


def test_digits_as_files_get_a_space_like_the_one_that_ships_and_a_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:300], digits.target[:300], strict=True)):
        path = tmp_path / "png" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype(np.uint8)).save(path)
    new("mine", "--dataset", "folder:png")
    out, err = capsys.readouterr()
    assert out == "mine.toml\n"
    said = err.splitlines()
    assert said[0] == (
        "folder:png: 300 grey images of 10 classes; width x height 8x8 (smallest), 8x8 (median), 8x8 (largest)."
    )
    assert said[-1] == "Next, to see how long it takes: nas search --space mine.toml --trials 100 --dry-run"
    made, ships = load_space("mine.toml"), load_space("digits")
    assert (made.name, made.dataset) == ("mine", "folder:png")
    assert (made.input_shape, made.classes) == (ships.input_shape, ships.classes)
    assert len(made.smallest().modules) == len(ships.smallest().modules)
    assert not made.recipe.augmentation.flip
    assert main(["spaces", "check", "mine.toml", "--samples", "5"]) == 0
    # later options win over those of the tests' own space
    said_by_search = search(tmp_path / "studies", "--space", "mine.toml", "--trials", "1", "--epochs", "1")
    assert "Study mine: 1 complete" in said_by_search


def test_photographs_of_many_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(14):
        picture(tmp_path / "photos" / ("cat" if number < 11 else "dog") / f"{number}.jpg", number, 40 + number, 70)
    (tmp_path / "photos" / "dog" / "broken.jpg").write_bytes(b"no image")
    new("photos", "--dataset", "folder:photos")
    said = capsys.readouterr().err
    assert "14 colour images of 2 classes; width x height 70x40 (smallest), 70x47 (median), 70x53 (largest)" in said
    assert "1 files cannot be read, first " in said
    assert "class 'cat' has 11 images, class 'dog' only 3" in said
    assert "--trials 100 --skip-broken --metric balanced-accuracy --dry-run" in said
    space = load_space("photos.toml")
    assert space.input_shape == (3, 40, 40)
    assert space.recipe.augmentation.flip
    assert space.recipe.augmentation.crop == 5
    assert "letters, digits, signs" in space.toml  # when to turn flip off


def test_grey_images_that_are_stored_as_colour_are_grey(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / "grey" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        plane = np.random.default_rng(number).integers(0, 256, (20, 30, 1), np.uint8)
        Image.fromarray(np.repeat(plane, 3, axis=2)).save(path)
    assert survey("folder:grey").channels == 1
    picture(tmp_path / "grey" / "b" / "last.png", 9)
    assert survey("folder:grey").channels == 3


def test_every_data_set_has_its_shape_here() -> None:
    assert set(KNOWN) == set(SOURCES) - {"folder"}
    found = survey("digits")
    assert (found.channels, found.median_side, len(found.classes), found.flip) == (1, 8, 10, False)


@pytest.mark.parametrize(
    ("side", "classes"), [*((side, 2) for side in (*SIDES, 9, 30, 100, 256, 500, 1024)), (8, 1000), (224, 1000)]
)
def test_every_size_gives_a_space_whose_last_map_is_small(side: int, classes: int, tmp_path: Path) -> None:
    text = draft(Draft("a space", "folder:x", 3, side, classes, 10_000, True))
    path = tmp_path / "it.toml"
    path.write_text(text, encoding="utf-8")
    space = load_space(str(path))  # its ranges are within reach, or this says so
    assert space.input_shape == (3, side, side)
    network = space.decode([0.5] * len(space.coordinates))
    maps = network.module_inputs()
    assert 4 <= maps[-1][1] <= 8
    assert maps[0][1] <= 33
    for height in {shape[1] for shape in maps}:
        assert f"{height}x{height}" in text
    low, high = space.cost_range
    assert high >= 8 * low
    assert space.file.macs is None or space.file.macs.high >= 2 * space.file.macs.low
    by_macs = space.narrowed(cost="macs")
    assert side not in SIDES or space.file.macs
    assert by_macs.allows(by_macs.decode([0.5] * len(space.coordinates)))


def test_the_side_is_not_above_the_images() -> None:
    assert [input_side(side) for side in (1, 8, 11, 12, 33, 64, 5000)] == [8, 8, 8, 12, 32, 64, 224]
    for side in (LEAST_SIDE - 1, 1025):
        with pytest.raises(SpaceError, match=f"--size {side}: it must be in 8..1024"):
            draft(Draft("x", "folder:x", 1, side, 2, 10, False))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    spec = 'folder:a"b\\c]\n[params] \x7f\u2028ü'
    text = draft(Draft("x", spec, 1, 8, 2, 10, False))
    path = tmp_path / "x.toml"
    path.write_text(text, encoding="utf-8")
    assert load_space(str(path)).dataset == spec
    with pytest.raises(SpaceError, match="rename the folder"):
        draft(Draft("x", "folder:\udcff", 1, 8, 2, 10, False))


def test_an_output_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spaces").mkdir()
    new("one.toml", "--dataset", "digits", "--output", "spaces", "--size", "16")
    assert load_space("spaces/one.toml").input_shape == (1, 16, 16)
    new("two", "--dataset", "digits", "--output", "spaces/other.toml")
    assert load_space("spaces/other.toml").name == "two"
    assert capsys.readouterr().out == "spaces/one.toml\nspaces/other.toml\n"
    assert sorted(path.name for path in (tmp_path / "spaces").iterdir()) == ["one.toml", "other.toml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "--dataset", "folder:nowhere"], "nowhere does not exist"),
        (["x", "--dataset", "folder:one"], "has one class only, 'a'"),
        (["x", "--dataset", "folder:broken"], "no image of class 'a' in broken can be read"),
        (["x", "--dataset", "folder:"], "folder: needs a path"),
        (["x", "--dataset", "digit"], "did you mean 'digits'"),
        (["../x", "--dataset", "digits"], "space name '../x'"),
        (["a/b", "--dataset", "digits"], "space name 'a/b'"),
        (["digits", "--dataset", "digits"], "a space 'digits' ships with nas"),
        (["there", "--dataset", "digits"], "'there.toml' is there already"),
        (["x", "--dataset", "digits", "--size", "7"], "--size 7: it must be in 8..1024"),
        (["x", "--dataset", "digits", "--output", "x.txt"], "end the name with .toml"),
        (["x", "--dataset", "digits", "--output", "nowhere/x.toml"], "nowhere/x.toml': no folder"),
        (["x"], "Missing option '--dataset'"),
    ],
)
def test_a_mistake_is_one_line_and_makes_nothing(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.toml").write_text("mine")
    pictures(tmp_path / "one", {"a": 3})
    for name in "ab":
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "1.png").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    new(*words, code=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.toml").read_text() == "mine"
