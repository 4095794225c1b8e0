"""The package as a user installs it: a wheel, used outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_finds_its_search_spaces_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    code = (
        "import json, nas, sys; from nas.space import list_spaces, load_space; "
        "print(json.dumps([nas.__file__, list_spaces(), load_space('digits').smallest().params]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    where, spaces, params = json.loads(done.stdout)
    assert Path(where).is_relative_to(site)
    assert {path.stem for path in (ROOT / "search_spaces").glob("*.toml")} == set(spaces)
    assert params <= 1_000
    assert (site / "nas" / "py.typed").exists()
