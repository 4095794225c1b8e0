"""What nas never does with what comes from elsewhere, and what it refuses to open."""

from __future__ import annotations

import ast
import io
import re
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import nas
from nas.data import load_dataset
from nas.data.dataset import SOURCES
from nas.data.survey import KNOWN, survey
from nas.deployed.pt2 import load_pt2
from nas.errors import DataError, ExportError
from tests.test_data_downloads import ARCHIVES

PACKAGE = Path(nas.__file__).parent
ROOT = Path(__file__).parent.parent
PROGRAMS = [path for path in sorted((ROOT / "scripts").iterdir()) if path.read_bytes().startswith(b"#!/usr/bin/env py")]
CODE = [*sorted(PACKAGE.rglob("*.py")), *PROGRAMS]

# Calls that run what a file says; of the last three only with the argument that says otherwise.
NEVER = {"eval", "exec", "compile", "__import__", "yaml.load", "os.system", "os.popen", "tempfile.mktemp"}
NEVER |= {f"{name}.{call}" for name in ("pickle", "marshal", "dill", "joblib", "shelve") for call in ("load", "loads")}
NEVER |= {"pickle.Unpickler", "shelve.open", "torch.jit.load", "torch.hub.load", "shutil.unpack_archive"}
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False), "numpy.load": ("allow_pickle", False)}


def calls(text: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.expr) -> str:
    """The name that is called: of ``tarfile.open(x).extractall`` the last part alone."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def harmful(text: str) -> list[str]:
    found = []
    for name, call in calls(text):
        given = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
        extracts = name.rpartition(".")[2] in ("extractall", "extract")
        if name in NEVER or extracts or (name in SAFE and given.get(SAFE[name][0]) is not SAFE[name][1]):
            found.append(f"{name} in line {call.lineno}")
        if given.get("shell"):
            found.append(f"a shell in line {call.lineno}")
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert harmful(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "torch.load(file, weights_only=flag)",
        "np.load(file, allow_pickle=True)",
        "pickle.loads(b'')",
        "eval('1')",
        "yaml.load(file)",
        "subprocess.run('ls', shell=True)",
        "tarfile.open(file).extractall(folder)",
    ],
)
def test_what_would_be_found(text: str) -> None:
    assert harmful(text)
    assert not harmful("torch.load(file, weights_only=True); network.eval(); np.load(file, allow_pickle=False)")


def test_each_exception_to_a_rule_of_security_says_why() -> None:
    for path in (*CODE, *sorted((ROOT / "tests").rglob("*.py"))):
        told = set()  # the first of a file speaks for the next ones of the same rule
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found = re.search(r"# noqa: (?:[A-Z0-9, ]+,)?\s*(S[0-9]{3})(.*)", line)
            if found and found[1] not in told:
                assert re.search(r"\(.+\)", found[2]), f"{path.relative_to(ROOT)}:{number}: {found[1]}, no word why"
                told.add(found[1])
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    for files, rules in lint["per-file-ignores"].items():
        assert "S" not in rules, files  # single rules, not all of them
        line = re.search(rf'^(?:#.*\n)?"{re.escape(files)}" = .*$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        assert line is not None
        assert "#" in line[0], f"{files}: no word why"


def test_every_dataset_has_known_sums_or_is_at_hand() -> None:
    """`Checked` files with sums are all that is downloaded; the tests of downloads go through each of them."""
    assert set(SOURCES) == {*KNOWN, "folder"}
    assert set(SOURCES) - {"folder", "digits"} == set(ARCHIVES)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_an_archive_of_somebody_else_is_never_unpacked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive,) = ARCHIVES[name](tmp_path / "made", monkeypatch)
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w:gz") as made:
        for place in ("../../evil", str(tmp_path / "evil")):
            member = tarfile.TarInfo(place)
            member.size = 4
            made.addfile(member, io.BytesIO(b"evil"))
    place = tmp_path / "a" / "b" / "images"
    monkeypatch.setenv("NAS_DATA", str(place))
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(
        "torchvision.datasets.utils._urlretrieve", lambda url, filename: Path(filename).write_bytes(evil.getvalue())
    )
    with pytest.raises(DataError, match="is damaged"):
        load_dataset(name, input_shape=(3, 8, 8))
    assert not list(tmp_path.rglob("evil"))
    assert [path.name for path in place.iterdir()] == [archive.name]


def bomb(path: Path, side: int = 20_000) -> None:
    """A picture of 400 million pixels in half a megabyte, of which no pixel is needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = side.to_bytes(4) * 2 + bytes([1, 0, 0, 0, 0])
    pack = zlib.compressobj(9)
    rows = b"".join(pack.compress(bytes(1 + side // 8) * 1000) for _ in range(side // 1000)) + pack.flush()
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    packed = (len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4) for kind, body in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def test_a_picture_that_unpacks_to_gigabytes_is_named_and_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        for number in range(12):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("L", (8, 8), number * 20 + (label == "dog")).save(tmp_path / label / f"{number}.png")
    bomb(tmp_path / "cat" / "huge.png")
    assert (tmp_path / "cat" / "huge.png").stat().st_size < 100_000
    spec = f"folder:{tmp_path}"
    with pytest.raises(DataError) as caught:
        load_dataset(spec, input_shape=(1, 8, 8))
    said = str(caught.value)
    assert said.startswith(
        f"1 of 25 images cannot be read, first {tmp_path}/cat/huge.png (Image size (400000000 pixels)"
    )
    assert "\n" not in said
    assert load_dataset(spec, input_shape=(1, 8, 8), skip_broken=True).skipped == 1
    assert survey(spec).broken == (str(tmp_path / "cat" / "huge.png"),)


def test_an_exported_program_that_would_unpack_to_gigabytes_is_not_opened(tmp_path: Path) -> None:
    """torch stores its files as they are; a packed one is of another program."""
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/models/model.json", b" " * 50_000_000)
        archive.writestr("model/data/weights/model_weights_config.json", b" " * 50_000_000)
    assert path.stat().st_size < 200_000
    with pytest.raises(ExportError, match="holds packed files, which torch does not write; it is not opened"):
        load_pt2(path)
