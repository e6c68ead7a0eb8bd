"""Checks of tables: what a prediction says of rows that hold NaN or infinity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mixtura
from mixtura import GaussianMixture, KMeans, MixtureOfExperts
from mixtura.data import as_source
from mixtura.estimators.validation import check_finite, check_targets, check_weights


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_predictions_locate_values_that_are_not_finite(covariance_type, dtype, bad, backend, rng):
    X = rng.standard_normal((400, 5)).astype(dtype)
    X[:200] += 4.0
    mixture = GaussianMixture(3, covariance_type=covariance_type, max_iter=5, tol=0.1, random_state=0)
    mixture.fit(X).set_params(backend=backend.name)
    X[17, 3] = bad
    for method in (mixture.predict, mixture.predict_proba, mixture.score_samples, mixture.score, mixture.bic):
        with pytest.raises(ValueError, match=r"column 3 has 1 (NaN|infinity)"):
            method(X)


def test_predictions_of_k_means_locate_values_that_are_not_finite(backend, rng):
    X = rng.standard_normal((400, 5))
    clusters = KMeans(3, random_state=0).fit(X).set_params(backend=backend.name)
    X[17, 3] = np.nan
    for method in (clusters.predict, clusters.transform, clusters.score):
        with pytest.raises(ValueError, match="column 3 has 1 NaN"):
            method(X)


def test_weightless_rows_are_searched_too(blobs):
    X, weight = blobs.copy(), np.ones(len(blobs))
    mixture = GaussianMixture(2, random_state=0).fit(X)
    X[3, 1], weight[3] = np.nan, 0.0
    with pytest.raises(ValueError, match="column 1 has 1 NaN"):
        mixture.score(X, sample_weight=weight)


def test_a_finite_table_whose_sum_overflows_is_finite():
    check_finite(np.full((10, 2), 1e308))


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ([0.0, 0.0, 0.0], "non-zero|zero for every row"),
        ([1.0, -1.0, -2.0], "Negative values .*: 2 of them"),
        ([1e308, 1e308, 1.0], "sums to infinity"),
    ],
)
def test_weights_that_cannot_be(weights, match):
    with pytest.raises(ValueError, match=match):
        check_weights(weights, np.zeros((3, 2)))


def test_targets_of_streamed_tables():
    """Whoever has more or fewer targets than rows, or a cube of them, is told."""
    source = as_source(np.arange(20.0).reshape(10, 2))
    for y in (np.zeros(9), np.zeros(11), np.zeros((10, 1, 1))):
        with pytest.raises(ValueError, match=r"and X has 10 rows|dim 3"):
            check_targets(MixtureOfExperts(), source, y)
    _, targets = check_targets(MixtureOfExperts(), source, np.arange(10))
    assert targets.shape == (10, 1)


def test_the_first_of_many_columns_are_named():
    bad = np.full((3, 8), np.nan)
    with pytest.raises(ValueError, match="and 3 more columns"):
        check_finite(bad)
    with pytest.raises(ValueError, match="column 4") as few:
        check_finite(bad[:, :5])
    assert "more columns" not in str(few.value)


@pytest.mark.parametrize("rows", ["a.csv", Path("a.csv"), as_source(np.ones((5, 2)))])
def test_what_wants_rows_in_memory_says_so(rows):
    for call in (
        mixtura.select,
        mixtura.bootstrap_lrt,
        mixtura.GaussianMixtureSelector().fit,
        lambda X: mixtura.MixtureClassifier().fit(X, [0, 1]),
    ):
        with pytest.raises(TypeError, match="takes rows in memory"):
            call(rows)


def test_targets_that_are_not_there(tmp_path, rng):
    X = rng.normal(size=(50, 2))
    np.save(tmp_path / "X.npy", X)
    model = mixtura.MixtureOfExperts(2)
    for rows in (X, tmp_path / "X.npy"):
        with pytest.raises(ValueError, match="requires y to be passed"):
            model.fit(rows, None)
        with pytest.raises(TypeError, match="y must be an array in memory"):
            model.fit(rows, tmp_path / "X.npy")
