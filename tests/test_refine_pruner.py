"""A search that goes on after a refinement prunes by the deviation between seeds that it measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas.refined import add_refinement
from nas.search.loop import Stop
from nas.search.options import SearchOptions
from nas.search.pruners import PRUNERS
from nas.search.setup import set_up
from nas.search.worker import SearchWorker
from tests import refining
from tests.refining import refinement


@pytest.mark.parametrize("name", ["conformal", "conformal-stop"])
def test_a_larger_deviation_widens_what_is_near_and_a_smaller_one_changes_nothing(name: str) -> None:
    def near(seed_std: float | None) -> Any:
        made = PRUNERS[name].for_search(seed=0, last_step=9, validation_images=1000, seed_std=seed_std)
        return vars(made)["_near"]

    unrefined = vars(PRUNERS[name].for_search(seed=0, last_step=9, validation_images=1000))["_near"]
    assert near(None) == near(0.001) == unrefined
    assert near(0.03) == 0.03 > unrefined


def test_a_search_hands_its_rule_what_the_study_has_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SearchOptions(space="tiny", studies_dir=str(tmp_path), train_limit=200, device="cpu", no_cache=True)
    setup = set_up(options, 0)
    records, study = setup.opened.records, setup.opened.record.id
    rows = refining.networks()
    for row in rows:
        records.add(study, row)
    given: list[float | None] = []
    real = PRUNERS["conformal"].for_search

    def for_search(*, seed_std: float | None = None, **known: Any) -> Any:
        given.append(seed_std)
        return real(seed_std=seed_std, **known)

    monkeypatch.setattr(PRUNERS["conformal"], "for_search", for_search)
    worker: Any = SimpleNamespace(id="here")

    def search() -> None:
        SearchWorker(options, setup, worker, 0, Stop(), lambda event: None)

    search()
    add_refinement(records, study, refinement(rows[0], 0.70))
    search()
    add_refinement(records, study, refinement(rows[0], 0.76, 2))
    search()
    records.close()
    assert given == [None, None, pytest.approx(0.06 / 2**0.5)]
