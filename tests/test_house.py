"""The house: a file imports only from the lines above its own, so that a trial can be followed in one direction."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nas

PACKAGE = Path(nas.__file__).parent
ORDER = [
    ["errors"],
    ["beside"],
    ["checksums"],
    ["metric"],
    ["curve"],
    ["seeds"],
    ["counting", "interval"],
    ["architecture"],
    ["plain"],
    ["references"],
    ["recipe"],
    ["rule", "budget", "space_file", "shapes", "space", "space_draft"],
    ["projection", "width_line"],
    ["pareto"],
    ["data"],
    ["models"],
    ["whitening", "optimiser", "reading", "training"],
    ["costs"],
    ["evaluation"],
    [
        "context",
        "database",
        "outage",
        "tables",
        "migrations",
        "records",
        "study_folder",
        "files",
        "outcome",
        "refined",
        "baseline_rows",
        "held",
        "headline",
        "cache",
        "record_cells",
        "record_checks",
        "record_trainings",
        "record_file",
        "study_images",
        "study_space",
        "seal",
        "chosen",
        "redundancy",
        "trained",
    ],
    ["search"],
    ["refine"],
    ["baselines"],
    ["final_test", "activations", "studies", "doctor"],
    ["report", "export", "deployed", "dashboard"],
    ["library"],
    ["cli"],
]
LINE = {name: number for number, names in enumerate(ORDER) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Parts of the package that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("nas.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    if part(path) in ("__init__", "__main__") or path == PACKAGE / "search" / "__init__.py":  # doors to the library
        return
    assert part(path) in LINE, f"{path.name} has no place in the house: add it to ORDER and to the README"
    wrong = {name for name in imported(path) if name in LINE and LINE[name] > LINE[part(path)]}
    assert not wrong, f"{path} imports {wrong} from below"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_too_long_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
