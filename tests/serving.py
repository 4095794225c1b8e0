"""A dashboard that listens while a test asks it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nas.dashboard.server import Dashboard
from nas.study_folder import StudyFolder


@contextmanager
def served(folder: StudyFolder, **options: Any) -> Iterator[Dashboard]:
    dashboard = Dashboard(folder.url, artifacts=folder.artifacts, port=0, **options)
    thread = threading.Thread(target=dashboard.serve, daemon=True)
    thread.start()
    try:
        yield dashboard
    finally:
        dashboard.close()
        thread.join(timeout=30)
        assert not thread.is_alive()
