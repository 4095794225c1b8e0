"""Several workers and a dashboard on one SQLite file; the long form is ``scripts/soak sqlite``."""

from __future__ import annotations

from pathlib import Path

from tests.rough import BRIEF, polled


def test_four_workers_and_a_polling_dashboard_meet_no_lock(tmp_path: Path) -> None:
    assert polled(tmp_path, 20, *BRIEF)["answers"] >= 20
