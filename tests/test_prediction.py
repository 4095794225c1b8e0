"""What a reading says of the end. Against scikit-learn's regression it stands in `test_pruners.py`, by the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from nas.search.pruners.prediction import ENDED, can_predict, predicted_ends
from nas.search.pruners.rungs import Curves


def curves(costs: np.ndarray, values: np.ndarray, finals: np.ndarray) -> Curves:
    count = len(costs)
    return Curves(costs, (1,), values[:, None], finals, ("",) * count, tuple(range(count)), count - 1)


def crossing(asking: float) -> Curves:
    """Small networks lead at first and large ones in the end; a talent of its own shows at both. The last one asks."""
    place = np.arange(30)
    talent = 0.02 * (place * 7 % 5 - 2)
    costs = np.exp(0.2 * place)
    values, finals = 0.8 - 0.01 * place + talent, 0.5 + 0.01 * place + talent
    values[-1], finals[-1] = asking, np.nan
    return curves(costs, values, finals)


def test_a_reading_is_taken_together_with_the_size() -> None:
    usual = predicted_ends(crossing(0.8 - 0.29))
    assert usual is not None
    # Far behind the small ones at the rung, and as good as its size in the end.
    assert usual[-1, 0] == pytest.approx(0.5 + 0.29, abs=0.02)
    assert usual[-1, 0] > usual[:-1, 0].mean()
    worse = predicted_ends(crossing(0.8 - 0.29 - 0.2))
    assert worse is not None
    assert usual[-1, 0] - worse[-1, 0] > 0.05


@pytest.mark.parametrize("ended", [ENDED - 1, ENDED])
def test_nothing_is_foretold_from_few(ended: int) -> None:
    finals = np.where(np.arange(40) < ended, 0.7, np.nan)
    few = curves(np.arange(1.0, 41.0), np.linspace(0.3, 0.6, 40), finals)
    assert can_predict(few) == (predicted_ends(few) is not None) == (ended == ENDED)


def test_equal_costs_equal_values_and_gaps() -> None:
    values = np.full(30, 0.4)
    values[3] = np.nan
    found = predicted_ends(curves(np.full(30, 7.0), values, np.linspace(0.5, 0.7, 30)))
    assert found is not None
    assert np.isnan(found[3, 0])
    rest = np.delete(found[:, 0], 3)
    assert rest == pytest.approx(np.delete(np.linspace(0.5, 0.7, 30), 3).mean())


def test_the_order_of_the_trials_changes_no_bit() -> None:
    given = crossing(0.4)
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(30)
        mixed = curves(given.costs[order], given.values[order, 0], given.finals[order])
        before, after = predicted_ends(given), predicted_ends(mixed)
        assert before is not None
        assert after is not None
        assert np.array_equal(before[order], after)
