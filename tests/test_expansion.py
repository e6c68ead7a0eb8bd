"""Parabolas of blocks' log-likelihoods: their sum, their maximum, and when they are not to be had or trusted."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from mixtura import GaussianMixture, MixtureOfExperts, backends
from mixtura.components.uniform import Uniform
from mixtura.expansion import Expansion
from mixtura.likelihood import Likelihood
from mixtura.membership import Labels
from mixtura.table import Table


def table_of(X, **how):
    return Table.of(backends.create("reference"), X, **how)


@pytest.fixture
def rows(rng):
    signs = np.where(rng.uniform(size=2000) < 0.4, -1.0, 1.0)
    return 1.5 * signs[:, None] + rng.normal(size=(2000, 2))


def fitted(X, covariance="full", **how):
    gm = GaussianMixture(2, covariance_type=covariance, random_state=0, backend="reference", **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return gm.fit(X)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_parabola_has_the_slope_and_curvature_of_the_log_likelihood(covariance, weighted, rows, rng):
    mixture = fitted(rows, covariance, max_iter=3, tol=0.0)._mixture()
    table = table_of(rows, sample_weight=rng.uniform(0.5, 2.0, 2000) if weighted else None)
    parabola = Expansion.of(mixture, mixture.expect(table), first=True)
    m = mixture.parametric()
    _, gradient, hessian = Likelihood(m, table).expanded()
    scale = np.abs(hessian).max()
    np.testing.assert_allclose(parabola.curvature, hessian, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(
        parabola.slope + parabola.curvature @ m.theta, gradient, rtol=0, atol=1e-9 * scale
    )
    assert parabola.weight == pytest.approx(table.total_weight)


def test_the_maximum_of_several_blocks_is_that_of_all_rows(rows):
    """Newton's method on blocks: each about other parameters near the maximum."""
    whole = fitted(rows, tol=1e-10, max_iter=2000, accelerate="newton", reg_covar=0.0)._mixture()
    m, total = whole.parametric(), None
    for seed, block in enumerate(np.split(rows, 10)):
        theta = m.theta + 0.003 * np.random.default_rng(seed).normal(size=m.size)
        near = whole.with_parametric(m.at(theta))
        parabola = Expansion.of(near, near.expect(table_of(block)), first=True)
        total = parabola if total is None else total + parabola
    best, gain = total.maximum(near)
    np.testing.assert_allclose(
        best.parametric().theta, m.theta, rtol=0, atol=3e-4
    )  # the square of 0.003, times 30
    assert 0.0 < gain < 1e-3


def test_few_rows_give_the_curvature_of_many(rows):
    mixture = fitted(rows)._mixture()
    found = mixture.expect(table_of(rows))
    every = Expansion.of(mixture, found, first=True)
    some = Expansion.of(mixture, found)
    ratio = np.diagonal(some.curvature) / np.diagonal(every.curvature)
    assert np.all((ratio > 0.6) & (ratio < 1.6))
    assert not np.array_equal(some.curvature, every.curvature)


def test_scaled_parabolas_have_the_same_maximum(rows):
    mixture = fitted(rows, max_iter=2, tol=0.0)._mixture()
    parabola = Expansion.of(mixture, mixture.expect(table_of(rows)), first=True)
    one, other = parabola.maximum(mixture), (parabola * 3.0).maximum(mixture)
    np.testing.assert_allclose(one[0].parametric().theta, other[0].parametric().theta, rtol=1e-9)
    assert one[1] == pytest.approx(other[1], rel=1e-9)
    stays = parabola.at_maximum(mixture).maximum(mixture)
    assert stays[1] == pytest.approx(0.0, abs=1e-12)


def test_a_maximum_that_is_far_or_none_is_not_trusted(rows):
    mixture = fitted(rows)._mixture()
    parabola = Expansion.of(mixture, mixture.expect(table_of(rows)), first=True)
    m = mixture.parametric()
    far = replace(parabola, slope=-parabola.curvature @ (m.theta + 0.6 * m.sizes))
    assert far.maximum(mixture) is None
    assert replace(parabola, curvature=-parabola.curvature).maximum(mixture) is None


@pytest.mark.parametrize(
    "how",
    [
        {"prior": "default"},
        {"fixed": {"weights": [True, True]}, "weights_init": [0.5, 0.5]},
        {
            "fixed": {"means": [True, False]},
            "means_init": [[0.0, 0.0], [np.nan, np.nan]],
        },
        {"reg_covar": 0.1},
        {"covariance_type": "VVE"},
    ],
    ids=["prior", "fixed weights", "fixed means", "added variance", "family"],
)
def test_what_does_not_maximise_the_likelihood_alone_has_none(how, rows):
    gm = GaussianMixture(**{"n_components": 2, "random_state": 0, "backend": "reference", **how}).fit(rows)
    table = table_of(rows)
    mixture = gm._to_go_on(table) if "covariance_type" not in how else gm._mixture()
    assert Expansion.of(mixture, mixture.expect(table)) is None


def test_rows_with_labels_and_mixtures_of_many_parameters_have_none(rows, rng):
    gm = fitted(rows)
    labels = np.where(rng.uniform(size=2000) < 0.5, 0, -1).astype(np.intp)
    table = table_of(rows, membership=Labels(labels))
    assert Expansion.of(gm._mixture(), gm._mixture().expect(table)) is None
    wide = rng.normal(size=(500, 12))
    many = fitted(wide)._mixture()
    assert Expansion.of(many, many.expect(table_of(wide))) is None


def test_gates_that_look_at_rows_have_none(rng):
    X = rng.normal(size=(300, 2))
    y = X[:, 0] + 0.1 * rng.normal(size=300)
    experts = MixtureOfExperts(2, gate="softmax", random_state=0, backend="reference").fit(X, y)
    table = table_of(X, y=y[:, None])
    mixture = experts._to_go_on(table)
    mixture = replace(mixture, gate=mixture.gate.resume(2, table, np.random.RandomState(0)))
    assert Expansion.of(mixture, mixture.expect(table)) is None


def test_noise_beside_gaussians_has_none(rows):
    gm = fitted(rows, noise=True)
    assert isinstance(gm._mixture().components.extra, Uniform)
    assert not gm._mixture().likelihood_alone
