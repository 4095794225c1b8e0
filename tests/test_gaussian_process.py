"""The model behind the cost-aware sampler, against textbook formulas and numeric gradients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.spatial.distance import cdist

from nas.search.gaussian_process import FITTED, LEAST, GaussianProcess, negative_log_posterior


def seen(count: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = rng.random((count, columns))
    return points, 3 * points[:, 0] + np.sin(4 * points[:, -1]) + 0.1 * rng.standard_normal(count)


def matern(distances: np.ndarray) -> np.ndarray:
    r = np.sqrt(5) * distances
    return (1 + r + r**2 / 3) * np.exp(-r)


@pytest.mark.parametrize("amounts", [0, 1, 2])
def test_it_is_the_textbook_posterior(amounts: int) -> None:
    points, values = seen(30, 4)
    variances = np.linspace(0, 0.05, 30)
    model = GaussianProcess(points, values, amounts=amounts, variances=variances)
    linear, first, second, near, far, noise = np.exp(model._log)
    at = np.random.default_rng(1).random((7, 4))

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = (a - points.mean(0)) / points.std(0), (b - points.mean(0)) / points.std(0)
        total = linear * a @ b.T / 4 + second * matern(cdist(a, b) / far)
        return total + (first * matern(cdist(a[:, :amounts], b[:, :amounts]) / near) if amounts else 0)

    inverse = np.linalg.inv(covariance(points, points) + np.diag(noise + 1e-6 + variances / values.std() ** 2))
    means, stds = model.predict(at)
    expected = values.mean() + covariance(at, points) @ inverse @ (values - values.mean())
    left = covariance(at, at) - covariance(at, points) @ inverse @ covariance(points, at)
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    np.testing.assert_array_equal(model.means(at), means)
    np.testing.assert_allclose(stds, values.std() * np.sqrt(np.diag(left)), rtol=1e-5)


@pytest.mark.parametrize("amounts", [0, 2])
def test_the_gradient_is_that_of_the_value(amounts: int) -> None:
    points, values = seen(25, 3)
    points, values = (points - points.mean(0)) / points.std(0), (values - values.mean()) / values.std()
    cost, means = negative_log_posterior(points, values, np.full(25, 0.01), amounts)
    for seed in range(5):
        log = means + 0.5 * np.random.default_rng(seed).standard_normal(6)
        numeric = approx_fprime(log, lambda log: cost(log)[0], 1e-6)
        np.testing.assert_allclose(cost(log)[1], numeric, rtol=1e-3, atol=1e-3)


def test_it_learns_and_knows_what_it_does_not_know() -> None:
    points, values = seen(80, 3)
    at, _ = seen(500, 3, seed=1)
    truth = 3 * at[:, 0] + np.sin(4 * at[:, -1])
    means, stds = GaussianProcess(points, values, amounts=1).predict(at)
    assert np.mean((means - truth) ** 2) < 0.02 * np.var(truth)
    assert np.mean(abs(means - truth) < 2 * stds) > 0.85
    _, fewer = GaussianProcess(points[:10], values[:10], amounts=1).predict(at)
    assert np.median(fewer) > 1.5 * np.median(stds)


def test_what_is_left_out_is_not_seen() -> None:
    points, values = seen(12, 2)
    variances = np.linspace(0, 0.1, 12)
    model = GaussianProcess(points, values, amounts=1, variances=variances)
    for row in range(12):
        others = np.arange(12) != row
        rest = GaussianProcess(points[others], values[others], amounts=1, variances=variances[others], like=model)
        # the same standardisation: the model without a point has not another scale
        rest._middle, rest._spread, rest._mean, rest._scale = model._middle, model._spread, model._mean, model._scale
        rest._points = model._points[others]
        noise = np.exp(model._log[5]) + variances[others] / model._scale**2 + 1e-6
        covariance = model._covariance(rest._points, rest._points) + np.diag(noise)
        rest._factor = np.linalg.cholesky(covariance)
        rest._weights = np.linalg.solve(covariance, (values[others] - model._mean) / model._scale)
        assert model.left_out()[row] == pytest.approx(rest.predict(points[row : row + 1])[0][0], rel=1e-6)


def test_an_uncertain_value_weighs_less() -> None:
    points, values = seen(40, 2)
    wrong = values.copy()
    wrong[0] += 10
    plain = GaussianProcess(points, values)

    def error(variance: float) -> float:
        model = GaussianProcess(points, wrong, variances=np.array([variance, *np.zeros(39)]), like=plain)
        return float(abs(model.predict(points[:1])[0][0] - values[0]))

    assert error(1e4) < 0.3 < error(0.0)


def test_a_column_that_varies_by_rounding_says_nothing() -> None:
    points, values = seen(40, 2)
    rounding = LEAST / 50 * np.random.default_rng(3).random((40, 1))
    plain, with_noise = GaussianProcess(points, values), GaussianProcess(np.hstack([points, rounding]), values)
    at, _ = seen(50, 2, seed=4)
    apart = with_noise.predict(np.hstack([at, np.full((50, 1), rounding.mean())]))[0] - plain.predict(at)[0]
    assert np.abs(apart).max() < 0.1 * values.std()


def test_constant_values_and_many_points() -> None:
    points, values = seen(3 * FITTED, 2)
    means, stds = GaussianProcess(points, np.ones(len(points))).predict(points[:5])
    np.testing.assert_allclose(means, 1.0)
    assert np.isfinite(stds).all()
    means, _ = GaussianProcess(points, values).predict(points)
    assert np.corrcoef(means, values)[0, 1] > 0.95


@pytest.mark.parametrize(
    ("points", "values", "message"),
    [
        (np.zeros((1, 2)), np.zeros(1), "at least 2 points, got 1"),
        (np.array([[0.0], [np.nan]]), np.zeros(2), "finite points and values"),
        (np.array([[0.0], [1.0]]), np.array([0.0, np.inf]), "finite points and values"),
    ],
)
def test_what_it_refuses(points: np.ndarray, values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianProcess(points, values)
