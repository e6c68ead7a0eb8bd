"""Metrics under which starts are looked for, and the direction of least kurtosis."""

import numpy as np
import pytest

from mixtura import backends
from mixtura.components.centers import EUCLIDEAN
from mixtura.metrics import least_kurtosis, several, standardizing
from mixtura.table import Table

REFERENCE = backends.create("reference")


def table_of(X, weights=None):
    return Table.of(REFERENCE, X, weights)


def metrics_of(X):
    return several(table_of(X), np.random.RandomState(0))


def test_the_standard_metric_divides_by_deviations(rng):
    X = rng.normal(size=(400, 3)) * [1.0, 10.0, 0.1] + 7.0
    metric = standardizing(table_of(X))
    assert metric.form == "diagonal"
    np.testing.assert_allclose(metric.factor[0], 1.0 / X.std(axis=0), rtol=1e-9)
    X[:, 1] = 3.0  # a constant column does not count
    np.testing.assert_allclose(standardizing(table_of(X)).factor[0, 1], 0.0)
    assert standardizing(table_of(np.ones((5, 2)))).form == "scalar"


def test_which_metrics_there_are(rng):
    X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3)) * [1.0, 1.1, 0.9]
    X /= X.std(axis=0)
    alike, unlike = metrics_of(X), metrics_of(X * [1.0, 1.0, 2.5])
    assert [m.form for m in alike] == ["diagonal", "rectangle", "rectangle"]
    assert [m.form for m in unlike] == ["diagonal", "scalar", "rectangle", "rectangle"]
    assert unlike[1] is EUCLIDEAN
    whitened = X @ alike[1].factor[0].T
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), np.eye(3), atol=1e-9)
    assert alike[2].factor.shape == (1, 1, 3)
    assert float((X @ alike[2].factor[0].T).std()) == pytest.approx(1.0, rel=1e-6)
    assert [m.form for m in metrics_of(X[:, :1])] == ["diagonal"]
    assert [m.form for m in metrics_of(rng.normal(size=(300, 257)))] == ["diagonal"]
    assert [m.form for m in metrics_of(rng.normal(size=(600, 256)))] == ["diagonal", "rectangle", "rectangle"]
    assert [m.form for m in metrics_of(np.ones((9, 2)))] == ["scalar"]


@pytest.mark.parametrize("dims", [2, 5, 12])
def test_the_direction_of_least_kurtosis_separates_flat_clusters(dims, rng):
    """Two clusters that are far apart beside their width in one direction, and not in any column."""
    Z = rng.normal(size=(1500, dims))
    Z[:, 0] = 0.15 * Z[:, 0] + rng.choice([-1.0, 1.0], size=1500)
    turn = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    found = least_kurtosis(table_of(Z @ turn), np.eye(dims), np.random.RandomState(0))
    assert np.linalg.norm(found) == pytest.approx(1.0)
    assert abs(found @ turn[0]) > 0.97


def test_rows_of_weight_0_have_no_direction(rng):
    Z = rng.normal(size=(800, 3))
    Z[:, 0] = 0.1 * Z[:, 0] + rng.choice([-1.0, 1.0], size=800)
    away = np.column_stack(
        [5.0 * rng.normal(size=800), rng.choice([-9.0, 9.0], size=800), rng.normal(size=800)]
    )
    weights = np.repeat([1.0, 0.0], 800)
    found = least_kurtosis(table_of(np.r_[Z, away], weights), np.eye(3), np.random.RandomState(0))
    assert abs(found[0]) > 0.97
