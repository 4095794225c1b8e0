"""`scripts/browser`: it installs what is missing where it can, says why where it cannot, and never fails."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "browser"
TOOLS = ("bash", "env", "grep", "mktemp", "rm", "tail", "timeout", "true")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine's programs: no browser, no apt-get, no sudo, and not root."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(str(shutil.which(name)))
    has(folder, "id", "echo 1000")
    return folder


def has(machine: Path, name: str, does: str = "exit 0") -> None:
    (machine / name).write_text(f"#!{shutil.which('bash')}\n{does}\n")
    (machine / name).chmod(0o755)


def run(machine: Path, **environment: str) -> str:
    done = subprocess.run(
        [machine / "bash", SCRIPT], env={"PATH": str(machine), **environment}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr


def test_a_browser_that_is_there_is_left_alone(machine: Path) -> None:
    has(machine, "chromium")
    has(machine, "chromedriver")
    has(machine, "apt-get", "echo called >&2; exit 1")
    assert run(machine) == ""


def test_it_says_why_nothing_can_be_installed(machine: Path) -> None:
    has(machine, "chromium")  # its driver is missing
    assert run(machine) == (
        "the browser tests are skipped: no chromium with its driver (Debian: apt-get install chromium "
        "chromium-driver), and no apt-get\n"
    )
    has(machine, "apt-get")
    assert run(machine).endswith("and installing it needs root\n")
    has(machine, "sudo", "exit 1")  # it would ask for a password
    assert run(machine).endswith("and installing it needs root\n")
    has(machine, "id", "echo 0")
    assert run(machine, NAS_TEST_BROWSER="no").endswith("and NAS_TEST_BROWSER=no\n")


@pytest.mark.parametrize("root", [True, False])
def test_it_installs_as_root_or_by_sudo(machine: Path, tmp_path: Path, root: bool) -> None:
    calls = tmp_path / "calls"
    has(machine, "apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {calls}')
    has(machine, "sudo", f'[ "$1" = -n ] || exit 1; shift; echo sudo >> {calls}; exec "$@"')
    if root:
        has(machine, "id", "echo 0")
    assert run(machine) == "installing chromium and its driver for the browser tests\n"
    lines = calls.read_text().splitlines()
    installs = [line for line in lines if "install" in line]
    assert ["--download-only" in line for line in installs] == [True, False]
    assert all(line.startswith("noninteractive ") and " chromium chromium-driver" in line for line in installs)
    assert ("sudo" in lines) != root


def test_old_lists_are_renewed_once_and_a_dead_network_is_said(machine: Path, tmp_path: Path) -> None:
    has(machine, "id", "echo 0")
    calls = tmp_path / "calls"
    has(machine, "apt-get", f'echo "$*" >> {calls}; echo "E: Unable to locate package chromium"; exit 100')
    said = run(machine)
    assert "and apt-get cannot fetch it (E: Unable to locate package chromium)\n" in said
    assert [line.split()[-1] for line in calls.read_text().splitlines()] == ["--download-only", "update"]
    calls.unlink()
    has(machine, "apt-get", f'echo "$*" >> {calls}; [[ $(wc -l < {calls}) != 1 ]]')
    (machine / "wc").symlink_to(str(shutil.which("wc")))
    assert "skipped" not in run(machine)
    assert len(calls.read_text().splitlines()) == 4  # in vain, lists, download, install
