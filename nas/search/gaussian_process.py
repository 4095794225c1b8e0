"""A Gaussian process for values of few, noisy trainings: smooth in a few known amounts, smoother in everything else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]

FITTED = 100
"""Rows that hyperparameters are fitted to, at most: six numbers need no more, and the time grows with the cube."""

LEAST = 0.05
"""A column that differs by less is taken as if it differed by this: what varies by rounding only says nothing."""

STEPS = 40
JITTER = 1e-6

# Weights of the three kernels, two length scales and the noise, all of standardised values, as logarithms: a priori
# normal around these means. Values are first of all a line in everything; what is left depends on the amounts.
MEANS = np.log([1.0, 1.0, 0.3, 1.5, 1.5, 0.1])
SPREADS = np.array([1.0, 1.0, 1.0, 0.7, 0.7, 1.5])


class GaussianProcess:
    """Values at points, with the uncertainty of the function itself: the noise of one reading is not in it.

    The covariance is a sum of a linear kernel over all columns, a Matern 5/2 kernel over the first `amounts` ones and
    one over all of them, each with one length scale; the six hyperparameters are those of highest posterior density
    (Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, chapters 2 and 5). Columns and values are
    standardised. No length scale for every column: with tens of points and tens of columns these cannot be learned.

    Args:
        points: (n, d) finite, n >= 2, d >= 1; columns that range over about 1.
        values: (n,) finite.
        amounts: how many of the first columns are amounts that the value depends on most, 0..d.
        variances: (n,) >= 0, in squared units of the values: what a value is less certain by than the others.
        like: one of as many columns and amounts, whose hyperparameters are taken instead of fitting them.

    Raises:
        ValueError: fewer than two points, or numbers that are not finite.
    """

    def __init__(
        self,
        points: FloatArray,
        values: FloatArray,
        *,
        amounts: int = 0,
        variances: FloatArray | None = None,
        like: GaussianProcess | None = None,
    ) -> None:
        if len(points) < 2:
            raise ValueError(f"a Gaussian process needs at least 2 points, got {len(points)}")
        if not (np.isfinite(points).all() and np.isfinite(values).all()):
            raise ValueError("a Gaussian process needs finite points and values")
        self._amounts = amounts
        self._middle, self._spread = points.mean(axis=0), points.std(axis=0)
        self._spread = np.maximum(self._spread, LEAST)
        self._mean, self._scale = float(values.mean()), float(values.std()) or 1.0
        self._points = (points - self._middle) / self._spread
        extra = np.zeros(len(points)) if variances is None else variances / self._scale**2
        goal = (values - self._mean) / self._scale
        if like is None:
            some = np.arange(min(len(points), FITTED)) * len(points) // min(len(points), FITTED)
            self._log = _fitted(self._points[some], goal[some], extra[some], amounts)
        else:
            self._log = like._log
        noise = np.exp(self._log[5]) + extra + JITTER
        self._factor = np.linalg.cholesky(self._covariance(self._points, self._points) + np.diag(noise))
        self._goal = goal
        self._weights = cho_solve((self._factor, True), goal)

    def predict(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(mean, standard deviation) of the function at (m, d) points, each (m,), in the units of the values."""
        at = (points - self._middle) / self._spread
        cross = self._covariance(at, self._points)
        explained = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        linear, first, second = np.exp(self._log[:3])
        own = linear * (at * at).mean(axis=1) + (first if self._amounts else 0.0) + second
        variance = np.maximum(own - (explained * explained).sum(axis=0), 1e-12)
        return self._mean + self._scale * (cross @ self._weights), self._scale * np.sqrt(variance)

    def means(self, points: FloatArray) -> FloatArray:
        """The first of `predict` alone, in a fraction of its time."""
        cross = self._covariance((points - self._middle) / self._spread, self._points)
        return np.asarray(self._mean + self._scale * (cross @ self._weights))

    def left_out(self) -> FloatArray:
        """(n,) what the model would say of each of its own points without having seen that value; same hyperparameters.

        Rasmussen & Williams 2006, section 5.4.2.
        """
        root = solve_triangular(self._factor, np.eye(len(self._points)), lower=True, check_finite=False)
        return np.asarray(self._mean + self._scale * (self._goal - self._weights / (root * root).sum(axis=0)))

    def _covariance(self, a: FloatArray, b: FloatArray) -> FloatArray:
        linear, first, second, near, far, _ = np.exp(self._log)
        c = self._amounts
        total = linear * (a @ b.T) / a.shape[1] + second * _matern(_squared(a, b) / far**2)
        if c:
            total += first * _matern(_squared(a[:, :c], b[:, :c]) / near**2)
        return np.asarray(total)


def _fitted(points: FloatArray, goal: FloatArray, extra: FloatArray, amounts: int) -> FloatArray:
    """Logarithms of the hyperparameters: a maximum a posteriori, by gradient."""
    cost, means = negative_log_posterior(points, goal, extra, amounts)
    bounds = list(zip(means - 4 * SPREADS, means + 4 * SPREADS, strict=True))
    found = minimize(cost, means, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    return np.asarray(found.x, dtype=np.float64)


def negative_log_posterior(
    points: FloatArray, goal: FloatArray, extra: FloatArray, amounts: int
) -> tuple[Callable[[FloatArray], tuple[float, FloatArray]], FloatArray]:
    """(function, means): of the logarithms of the six hyperparameters its value and gradient; where they are expected.

    Args:
        points, goal: standardised.
        extra: variances beyond the noise.
        amounts: see `GaussianProcess`.
    """
    count, columns = points.shape
    means = MEANS + np.array([0, 0, 0, 0, 0.5 * np.log(columns), 0])  # distances grow with the columns
    line = points @ points.T / columns
    near_squared = _squared(points[:, :amounts], points[:, :amounts])
    far_squared = _squared(points, points)
    eye = np.eye(count)

    def cost(log: FloatArray) -> tuple[float, FloatArray]:
        linear, first, second, near, far, noise = np.exp(log)
        if not amounts:
            first = 0.0
        near_kernel, near_slope = _matern_and_slope(near_squared / near**2)
        far_kernel, far_slope = _matern_and_slope(far_squared / far**2)
        covariance = linear * line + first * near_kernel + second * far_kernel
        covariance[np.diag_indices(count)] += noise + extra + JITTER
        factor = np.linalg.cholesky(covariance)
        root = solve_triangular(factor, eye, lower=True, check_finite=False)
        inverse = root.T @ root
        weights = inverse @ goal
        pull = np.outer(weights, weights) - inverse
        slopes = (
            linear * (pull * line).sum(),
            first * (pull * near_kernel).sum(),
            second * (pull * far_kernel).sum(),
            first * (pull * near_slope).sum(),
            second * (pull * far_slope).sum(),
            noise * np.trace(pull),
        )
        away = (log - means) / SPREADS
        value = 0.5 * goal @ weights + np.log(np.diag(factor)).sum() + 0.5 * (away**2).sum()
        return float(value), -0.5 * np.array(slopes) + away / SPREADS

    return cost, means


def _squared(a: FloatArray, b: FloatArray) -> FloatArray:
    """(n, m) squared distances."""
    apart = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * a @ b.T
    return np.asarray(np.maximum(apart, 0.0))


def _matern(squared: FloatArray) -> FloatArray:
    """The Matern 5/2 kernel of squared distances in length scales."""
    r = np.sqrt(5 * squared)
    kernel = r * r
    kernel /= 3
    kernel += 1 + r
    kernel *= np.exp(np.negative(r, out=r), out=r)
    return np.asarray(kernel)


def _matern_and_slope(squared: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same, and its slope in the logarithm of the scale."""
    r = np.sqrt(5 * squared)
    decay = np.exp(-r)
    return (r * r / 3 + (1 + r)) * decay, 5 / 3 * squared * (1 + r) * decay
