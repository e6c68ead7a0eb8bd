"""Tests of the number of components: mclust's statistics on its own data, and the level under the null."""

import json
from pathlib import Path

import numpy as np
import pytest

import mixtura
from mixtura import likelihood_ratio
from mixtura.likelihood_ratio import bootstrap_lrt

FILES = Path(__file__).parent / "files" / "mclust"


def test_the_statistics_are_mclusts():
    """mclustBootstrapLRT(faithful, "VVV"): 319.065 and 6.13, of which the second is not significant."""
    X = np.array(json.loads((FILES / "faithful.json").read_text())["rows"])
    seen = []
    found = bootstrap_lrt(
        X, reg_covar=0.0, n_bootstrap=99, progress=lambda k, number: seen.append((k, number))
    )
    assert found.chosen == 2
    assert found.n_components == [1, 2]
    np.testing.assert_allclose(found.statistics, [319.065, 6.13], rtol=5e-3)  # both stop early
    assert found.p_values[0] == pytest.approx(1 / 100)
    assert 0.3 < found.p_values[1] < 0.9
    assert seen == [(1, 50), (1, 99), (2, 50), (2, 99)]
    assert "1 vs 2" in str(found)
    assert str(found).endswith("2 components")


def test_the_level_is_kept(rng):
    """Under one component, p-values are about uniform."""
    p = [
        bootstrap_lrt(rng.normal(size=(60, 1)), [1], "E", n_bootstrap=39, random_state=i).p_values[0]
        for i in range(40)
    ]
    assert np.mean(np.array(p) <= 0.25) < 0.45
    assert np.mean(np.array(p) <= 0.75) > 0.5


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_tables_are_fitted_as_one_by_one(covariance_type, require, monkeypatch, rng):
    require("native")
    X = rng.normal(size=(150, 2)) + 4.0 * rng.integers(0, 2, size=(150, 1))
    X *= [1e6, 1.0]  # 'auto' adds what suits each column, and each table
    how = {"covariance_type": covariance_type, "n_bootstrap": 12, "tol": 1e-9, "random_state": 3}
    calls, whole = [], likelihood_ratio.bounds_of_many
    monkeypatch.setattr(likelihood_ratio, "bounds_of_many", lambda *a, **k: calls.append(1) or whole(*a, **k))
    together = bootstrap_lrt(X, [1, 2], **how)
    assert calls
    monkeypatch.setattr(likelihood_ratio, "FORMS", {})
    one_by_one = bootstrap_lrt(X, [1, 2], **how)
    assert together.n_components == one_by_one.n_components
    for a, b in zip(together.null, one_by_one.null, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)  # of statistics about 10, from 150 rows times tol


def test_threads_do_not_matter(rng):
    X = rng.normal(size=(80, 2)) + 5.0 * rng.integers(0, 2, size=(80, 1))
    one, two = (bootstrap_lrt(X, [1, 2], n_bootstrap=19, n_threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.null[0], two.null[0])
    assert one.chosen == two.chosen == 2
    assert mixtura.bootstrap_lrt is bootstrap_lrt


def test_all_rejected(rng):
    X = rng.normal(size=(150, 1)) * 0.3 + np.repeat([0.0, 4.0, 8.0], 50)[:, None]
    assert bootstrap_lrt(X, [1], n_bootstrap=19).chosen == 2


def test_bad_input(rng):
    X = rng.normal(size=(30, 2))
    for how, message in (
        ({"n_components": []}, "consecutive positive integers"),
        ({"n_components": [1, 3]}, "consecutive positive integers"),
        ({"n_bootstrap": 0}, "n_bootstrap must be positive"),
        ({"level": 1.5}, "level between 0 and 1"),
        ({"covariance_type": "XXX"}, "covariance_type"),
    ):
        with pytest.raises(ValueError, match=message):
            bootstrap_lrt(X, **how)


def test_one_table_is_enough(rng):
    found = bootstrap_lrt(rng.normal(size=(80, 1)), n_bootstrap=1)
    assert found.p_values[0] in (0.5, 1.0)
    with pytest.raises(ValueError, match="n_bootstrap"):
        bootstrap_lrt(rng.normal(size=(80, 1)), n_bootstrap=0)


def test_fits_without_a_likelihood_ratio_are_told(blobs):
    for X, how in ((blobs, {"max_iter": 0}), (np.ones((20, 2)), {})):
        with pytest.raises(ValueError, match="have no likelihood ratio"):
            bootstrap_lrt(X, 1, n_bootstrap=9, **how)
    with pytest.raises(ValueError, match="tol must be a number that is not negative"):
        bootstrap_lrt(blobs, 1, n_bootstrap=9, tol=-1.0)
    with pytest.raises(ValueError, match="tol must be a number that is not negative"):
        mixtura.select(blobs, [1], tol=-1.0)
    with pytest.raises(ValueError, match="masked values"):
        bootstrap_lrt(np.ma.masked_array(blobs, blobs > 5.0), 1, n_bootstrap=9)
