"""What a user knows of a Gaussian mixture: labels, fixed parameters, priors, order; and what must not abort a fit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from mixtura import GaussianMixture, MixtureOfExperts, load, save
from mixtura.components.covariances import COVARIANCES
from mixtura.membership import Allowed, Labels
from mixtura.table import Table

TYPES = ("full", "tied", "diag", "spherical")


@pytest.fixture
def overlapping(rng):
    """Three clusters of which two overlap, (600, 2), and their labels."""
    y = np.repeat([0, 1, 2], 200)
    X = rng.standard_normal((600, 2)) + np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 6.0]])[y]
    return X, y


# ---------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("covariance_type", TYPES)
def test_labels_for_all_rows_give_the_closed_form(covariance_type, overlapping, backend):
    X, y = overlapping
    gm = GaussianMixture(
        3, covariance_type=covariance_type, reg_covar=0.0, backend=backend.name, random_state=0
    )
    gm.fit(X, labels=y)
    clusters = [X[y == k] for k in range(3)]
    covariances = np.stack([np.cov(c.T, bias=True) for c in clusters])
    wanted = {
        "full": covariances,
        "tied": covariances.mean(axis=0),
        "diag": np.diagonal(covariances, axis1=1, axis2=2),
        "spherical": np.trace(covariances, axis1=1, axis2=2) / 2,
    }[covariance_type]
    np.testing.assert_allclose(gm.weights_, 1 / 3, rtol=1e-12)
    np.testing.assert_allclose(gm.means_, [c.mean(axis=0) for c in clusters], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gm.covariances_, wanted, rtol=1e-10, atol=1e-12)
    # The objective is the likelihood of rows and labels together.
    joint = gm.score_samples(X) + np.log(gm.predict_proba(X)[np.arange(600), y])
    assert gm.lower_bound_ == pytest.approx(joint.mean(), rel=1e-11)


def test_a_few_labels_do_not_do_harm_and_name_the_components(overlapping):
    X, y = overlapping
    rng = np.random.default_rng(0)
    for run in range(5):
        named = rng.permutation(3)[y]  # the user's numbers for the clusters
        labels = np.where(rng.random(600) < 0.1, named, -1)
        free = GaussianMixture(3, random_state=run, max_iter=500, tol=1e-6).fit(X)
        gm = GaussianMixture(3, random_state=run, max_iter=500, tol=1e-6).fit(X, labels=labels)
        assert adjusted_rand_score(y, gm.predict(X)) >= adjusted_rand_score(y, free.predict(X)) - 0.02
        assert np.mean(gm.predict(X) == named) > 0.75


def test_labels_may_be_missing_as_nan_or_say_what_is_allowed(overlapping):
    X, y = overlapping
    labels = np.where(np.arange(600) % 4 == 0, y, -1)
    gm = GaussianMixture(3, random_state=0)
    means = gm.fit(X, labels=labels).means_
    with_nan = gm.fit(X, labels=np.where(labels < 0, np.nan, labels)).means_
    allowed = (labels[:, None] == np.arange(3)) | (labels < 0)[:, None]
    as_sets = gm.fit(X, labels=allowed).means_
    np.testing.assert_array_equal(means, with_nan)
    np.testing.assert_array_equal(means, as_sets)
    assert np.all(gm.fit(X, labels=np.full(600, -1)).means_ == gm.fit(X).means_)


def test_a_row_never_belongs_to_a_component_that_is_closed_to_it(overlapping, backend):
    """Component 0 is closed to all rows but those of the first cluster."""
    X, y = overlapping
    allowed = np.ones((600, 3), dtype=bool)
    allowed[y != 0, 0] = False
    gm = GaussianMixture(3, random_state=0, backend=backend.name, tol=1e-8, max_iter=500).fit(
        X, labels=allowed
    )
    resp = gm.predict_proba(X) * allowed
    resp /= resp.sum(axis=1, keepdims=True)
    # The fit has converged, so its M-step gives the same means again.
    np.testing.assert_allclose(gm.means_, resp.T @ X / resp.sum(axis=0)[:, None], atol=1e-2)
    assert gm.weights_[0] == pytest.approx(resp[y == 0, 0].sum() / 600, abs=1e-3)


def test_labels_weights_and_samples_go_together(rng):
    """A large table is fitted on samples first: labels go with the rows."""
    y = np.repeat([0, 1], 40_000)
    X = rng.standard_normal((80_000, 2)) + 5.0 * y[:, None]
    labels = np.where(rng.random(80_000) < 0.01, 1 - y, -1)  # the clusters' numbers swapped
    weight = rng.uniform(0.5, 2.0, size=80_000)
    gm = GaussianMixture(2, random_state=0).fit(X, sample_weight=weight, labels=labels)
    assert gm.n_passes_ < 6
    np.testing.assert_allclose(gm.means_, [[5.0, 5.0], [0.0, 0.0]], atol=0.05)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(599, dtype=int), r"labels has shape \(599,\)"),
        (np.full(600, 3), "row 0 has 3 .600 such rows"),
        (np.full(600, -2), "row 0 has -2"),
        (np.full(600, 0.5), "row 0 has 0.5"),
        (np.array(["a"] * 600), "whole numbers"),
        (np.ones((600, 2)), r"not \(600, 3\)"),
        (np.full((600, 3), 0.5), "true or false"),
        (np.zeros((600, 3), dtype=bool), "allow row 0 no component"),
    ],
)
def test_bad_labels(labels, message, overlapping):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(3).fit(overlapping[0], labels=labels)
    with pytest.raises(ValueError, match="order=None"):
        GaussianMixture(3, order="mean").fit(overlapping[0], labels=overlapping[1])


def test_membership_follows_rows_and_components():
    labels = Labels(np.array([0, -1, 2, 1]))
    allowed = Allowed(np.array([[1, 0, 0], [1, 1, 1], [0, 0, 1], [0, 1, 0]], dtype=bool))
    for known in (labels, allowed):
        np.testing.assert_array_equal(known.labels, [0, -1, 2, 1])
        inside = known.log_weights(slice(1, 3), 4) == 0.0
        np.testing.assert_array_equal(inside, [[1, 1, 1, 1], [0, 0, 1, 0]])
        beyond = known.log_weights(slice(0, 2), 5) == 0.0
        np.testing.assert_array_equal(beyond, [[1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
        np.testing.assert_array_equal(known.taken(np.array([3, 0])).labels, [1, 0])
        # Component 1 is removed: its row may belong to any other.
        np.testing.assert_array_equal(known.part(np.array([True, False, True])).labels, [0, -1, 1, -1])


# ----------------------------------------------------------------------------------------------------------- fixed


@pytest.mark.parametrize("accelerate", [None, "squarem", "anderson"])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_what_is_fixed_keeps_its_value(covariance_type, accelerate, overlapping):
    X, _ = overlapping
    start = GaussianMixture(3, covariance_type=covariance_type, random_state=1).fit(X)
    given = {
        "weights_init": [0.5, 0.2, 0.3],
        "means_init": start.means_ + 0.1,
        "precisions_init": start.precisions_,
    }
    shared = covariance_type == "tied"
    gm = GaussianMixture(
        3,
        covariance_type=covariance_type,
        **given,
        fixed={
            "weights": [True, False, False],
            "means": [False, True, False],
            "covariances": shared or [1, 0, 0],
        },
        accelerate=accelerate,
        tol=1e-10,
        reg_covar=0.0,
        max_iter=200,
    ).fit(X)
    assert gm.weights_[0] == pytest.approx(0.5, rel=1e-15)
    assert gm.weights_.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(gm.means_[1], given["means_init"][1])
    assert np.all(gm.means_[0] != given["means_init"][0])
    held = slice(None) if shared else 0
    np.testing.assert_allclose(gm.precisions_[held], start.precisions_[held], rtol=1e-12, atol=1e-14)
    assert np.diff(gm.lower_bounds_).min() > -1e-12


def test_a_mean_may_be_fixed_in_one_column(rng):
    """The other column goes to the conditional maximum: of one component, it can be computed by hand."""
    C = np.array([[2.0, 1.2], [1.2, 1.0]])
    X = rng.multivariate_normal([1.0, 1.0], C, size=500)
    gm = GaussianMixture(
        1,
        means_init=[[0.0, np.nan]],
        fixed={"means": [[True, False]]},
        reg_covar=0.0,
        tol=1e-13,
        max_iter=500,
    ).fit(X)

    def loss(second):
        z = X - [0.0, second]
        return np.linalg.slogdet(z.T @ z / len(z))[1]

    best = min(np.linspace(-3, 3, 60001), key=loss)
    assert gm.means_[0, 0] == 0.0
    assert gm.means_[0, 1] == pytest.approx(best, abs=2e-4)


def test_values_that_are_not_fixed_may_be_nan(overlapping):
    """One centre is known; the others are looked for beside it."""
    X, y = overlapping
    known = np.full((3, 2), np.nan)
    known[2] = X[y == 2].mean(axis=0)
    gm = GaussianMixture(3, means_init=known, fixed={"means": [0, 0, 1]}, random_state=0).fit(X)
    np.testing.assert_array_equal(gm.means_[2], known[2])
    assert adjusted_rand_score(y, gm.predict(X)) > 0.5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fixed": {"means": True}}, "means of component 0, 1, 2, but means_init gives no value"),
        ({"fixed": {"weights": [1, 0, 0]}}, "weights of component 0, but weights_init"),
        ({"fixed": {"covariances": [0, 1, 0]}}, "covariances of component 1, but precisions_init"),
        (
            {"fixed": {"means": [1, 0]}, "means_init": np.zeros((3, 2))},
            r"shape \(2,\), not \(3,\) or \(3, 2\)",
        ),
        ({"fixed": {"means": [2, 0, 0]}, "means_init": np.zeros((3, 2))}, "true or false"),
        ({"fixed": {"mean": True}}, "keys among 'weights', 'means', 'covariances'"),
        ({"fixed": {"weights": [1, 1, 0]}, "weights_init": [0.7, 0.7, np.nan]}, "cannot sum to 1"),
        ({"fixed": {"weights": True}, "weights_init": [0.1, 0.1, 0.1]}, "should be normalized"),
        (
            {"fixed": {"covariances": [1, 0, 0]}, "covariance_type": "tied", "precisions_init": np.eye(2)},
            "hold all or none",
        ),
        ({"means_init": np.full((3, 2), np.nan)}, "NaN"),
    ],
)
def test_bad_fixed_parameters(parameters, message, overlapping):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(3, **parameters).fit(overlapping[0])


# ---------------------------------------------------------------------------------------------------------- priors


def log_prior(gm, prior, covariance_type):
    """The log-density of the fitted parameters under the prior, from SciPy's distributions."""
    total = 0.0
    K, D = gm.means_.shape
    for k in range(K):
        mean, C = gm.means_[k], gm.covariances_[k]
        if covariance_type == "full":
            total += stats.invwishart.logpdf(C, prior["dof"], prior["scale"])
            total += stats.multivariate_normal.logpdf(mean, prior["mean"], C / prior["shrinkage"])
        elif covariance_type == "diag":
            scale = np.diag(prior["scale"]) / 2
            total += stats.invgamma.logpdf(C, prior["dof"] / 2, scale=scale).sum()
            total += stats.norm.logpdf(mean, prior["mean"], np.sqrt(C / prior["shrinkage"])).sum()
        else:
            scale = np.trace(prior["scale"]) / D / 2
            total += stats.invgamma.logpdf(C, prior["dof"] / 2, scale=scale)
            total += stats.norm.logpdf(mean, prior["mean"], np.sqrt(C / prior["shrinkage"])).sum()
    return total


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_a_fit_with_a_prior_is_at_the_mode_of_the_posterior(covariance_type, overlapping):
    """The objective is the log-likelihood plus SciPy's log-density of the prior, and no small change raises it."""
    X, _ = overlapping
    prior = {
        "mean": np.array([0.5, 1.0]),
        "shrinkage": 30.0,
        "dof": 60.0,
        "scale": np.array([[50.0, 9.0], [9.0, 70.0]]),
    }
    gm = GaussianMixture(
        3,
        covariance_type=covariance_type,
        prior=prior,
        reg_covar=0.0,
        tol=1e-13,
        max_iter=2000,
        random_state=0,
    ).fit(X)
    objective = gm.score(X) * len(X) + log_prior(gm, prior, covariance_type)
    rng = np.random.default_rng(0)
    best = {name: getattr(gm, name).copy() for name in ("weights_", "means_", "covariances_")}
    for _ in range(60):
        for size in (1e-3, 1e-2):
            gm.means_ = best["means_"] + size * rng.standard_normal(best["means_"].shape)
            change = 1.0 + size * rng.standard_normal(best["covariances_"].shape[:1])
            gm.covariances_ = best["covariances_"] * change.reshape(
                -1, *[1] * (best["covariances_"].ndim - 1)
            )
            storage = COVARIANCES[covariance_type].storage
            gm.precisions_cholesky_ = storage.cholesky(gm.covariances_)
            assert gm.score(X) * len(X) + log_prior(gm, prior, covariance_type) < objective
    assert np.diff(gm.lower_bounds_).min() > -1e-12


def test_the_bound_of_a_fit_with_a_prior_differs_from_the_posterior_by_a_constant(overlapping):
    X, _ = overlapping
    prior = {"mean": np.zeros(2), "shrinkage": 2.0, "dof": 9.0, "scale": np.eye(2)}
    differences = []
    for K_iter in (1, 2, 40):
        gm = GaussianMixture(3, prior=prior, reg_covar=0.0, max_iter=K_iter, random_state=0, tol=0.0)
        with pytest.warns(ConvergenceWarning):
            gm.fit(X)
        again = GaussianMixture(3, prior=prior, reg_covar=0.0, max_iter=1, tol=0.0, weights_init=gm.weights_)
        again.set_params(means_init=gm.means_, precisions_init=gm.precisions_)
        with pytest.warns(ConvergenceWarning):
            again.fit(X)  # its bound is that of the parameters with which it starts
        differences.append(again.lower_bound_ * len(X) - gm.score(X) * len(X) - log_prior(gm, prior, "full"))
    np.testing.assert_allclose(differences, differences[0], rtol=1e-9)


def test_the_default_prior_is_fraley_and_rafterys(overlapping):
    """One M-step from given labels, against the formulas of their paper."""
    X, y = overlapping
    N, D, K = 600, 2, 3
    center, S = X.mean(axis=0), np.cov(X.T)
    gm = {
        t: GaussianMixture(K, covariance_type=t, prior="default", reg_covar=0.0).fit(X, labels=y)
        for t in TYPES
    }
    kappa, dof = 0.01, D + 2
    scatters, means = [], []
    for k in range(K):
        rows = X[y == k]
        n, mean = len(rows), rows.mean(axis=0)
        W = (rows - mean).T @ (rows - mean)
        scatters.append(W + kappa * n / (kappa + n) * np.outer(mean - center, mean - center))
        means.append((n * mean + kappa * center) / (n + kappa))
    n, scatters = 200, np.stack(scatters)
    ellipsoidal, round_ = S / K ** (2 / D), np.trace(S) / D / K ** (2 / D)
    np.testing.assert_allclose(gm["full"].means_, means, rtol=1e-10)
    np.testing.assert_allclose(
        gm["full"].covariances_, (ellipsoidal + scatters) / (dof + n + D + 2), rtol=1e-9
    )
    np.testing.assert_allclose(
        gm["tied"].covariances_, (ellipsoidal + scatters.sum(axis=0)) / (dof + N + D + K + 1), rtol=1e-9
    )
    np.testing.assert_allclose(
        gm["spherical"].covariances_,
        (round_ + np.trace(scatters, axis1=1, axis2=2)) / (dof + (n + 1) * D + 2),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        gm["diag"].covariances_, (round_ + np.diagonal(scatters, axis1=1, axis2=2)) / (dof + n + 3), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("flat", "prior"),
        ({"strength": 1.0}, "known are 'mean', 'shrinkage', 'dof', 'scale'"),
        ({"shrinkage": -1.0}, "not negative"),
        ({"dof": 1.0}, "greater than D - 1 = 1"),
        ({"mean": [0.0]}, "2 finite numbers"),
        ({"scale": [[1.0, 2.0], [2.0, 1.0]]}, "positive definite"),
        ({"scale": -1.0}, "positive definite"),
        ({"scale": np.ones(3)}, r"has shape \(3,\)"),
    ],
)
def test_bad_priors(prior, message, overlapping):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(3, prior=prior).fit(overlapping[0])


def test_the_default_prior_needs_a_table_with_spread():
    with pytest.raises(ValueError, match="columns are constant"):
        GaussianMixture(2, prior="default").fit(np.column_stack([np.arange(10.0), np.ones(10)]))


# ------------------------------------------------------------------------------------------------------ degenerate


def degenerate_table(kind, rng):
    X = rng.standard_normal((120, 4))
    X[:60] += 5.0
    return {
        "equal rows": lambda: X[rng.integers(6, size=120)],
        "constant column": lambda: np.column_stack([X, np.full(120, 7.0)]),
        "copied column": lambda: np.column_stack([X, X[:, 0], X.sum(axis=1)]),
        "few rows": lambda: X[:7],
        "huge": lambda: X * 1e90,
        "tiny": lambda: X * 1e-90,
        "unlike units": lambda: np.vstack([X[:1].repeat(30, axis=0), X]) * [1e-7, 1.0, 1e6, 1e9],
        "rounded": lambda: np.round(X),
    }[kind]()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("reg_covar", [1e-6, 0.0, "auto"])
@pytest.mark.parametrize("on_degenerate", ["repair", "drop"])
@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize(
    "kind",
    ["equal rows", "constant column", "copied column", "few rows", "huge", "tiny", "unlike units", "rounded"],
)
def test_degenerate_tables_are_fitted(kind, covariance_type, on_degenerate, reg_covar, rng):
    X = degenerate_table(kind, rng)
    gm = GaussianMixture(
        6,
        covariance_type=covariance_type,
        on_degenerate=on_degenerate,
        reg_covar=reg_covar,
        random_state=0,
        tol=1e-8,
    ).fit(X)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        assert np.isfinite(getattr(gm, name)).all()
    left = len(gm.means_)
    assert gm.degenerate_.shape == (6,)
    assert gm.degenerate_.sum() >= 6 - left
    matrices = COVARIANCES[covariance_type].storage.dense(gm.covariances_, *gm.means_.shape)
    for C in matrices:
        deviations = np.sqrt(np.diag(C))
        np.linalg.cholesky(C / deviations / deviations[:, None])
    assert np.isfinite(gm.score(X))
    if on_degenerate == "repair":
        # The M-step is exact within the bound, so the likelihood rises. Along a bounded direction rows lie within
        # rounding, eps beside a spread of 1e-7 of the table's: squared distances there are off by 1e-9.
        assert left == 6
        bounds = np.array(gm.lower_bounds_)
        assert np.all(np.diff(bounds) >= -1e-9 * (1.0 + np.abs(bounds[1:])))


def test_repair_is_indifferent_to_units(rng):
    X = degenerate_table("copied column", rng)
    units = np.array([1e-3, 1.0, 1e3, 1e5, 1e-4, 10.0])
    gm = GaussianMixture(2, on_degenerate="repair", reg_covar=0.0, random_state=0)
    with pytest.warns(ConvergenceWarning, match="narrower than the least variance"):
        means = gm.fit(X).means_
    with pytest.warns(ConvergenceWarning, match="narrower than the least variance"):
        in_units = gm.fit(X * units).means_
    np.testing.assert_allclose(np.sort(in_units / units, axis=0), np.sort(means, axis=0), rtol=1e-6)


def test_a_healthy_fit_is_not_repaired(blobs):
    plain = GaussianMixture(2, random_state=0, reg_covar=0.0).fit(blobs)
    for mode in ("repair", "drop"):
        gm = GaussianMixture(2, random_state=0, reg_covar=0.0, on_degenerate=mode).fit(blobs)
        np.testing.assert_allclose(gm.means_, plain.means_, rtol=1e-10)
        assert not gm.degenerate_.any()


def test_what_raises_is_repaired_or_dropped(rng):
    """Half of the rows are equal: one component has no variance at all."""
    X = np.vstack([np.zeros((50, 2)), rng.standard_normal((50, 2)) + 20.0])
    given = {"weights_init": [0.5, 0.5], "means_init": [[0.0, 0.0], [20.0, 20.0]]}
    given["precisions_init"] = np.stack([np.eye(2)] * 2)
    gm = GaussianMixture(2, reg_covar=0.0, **given)
    with pytest.raises(ValueError, match="ill-defined"):
        gm.fit(X)
    with pytest.warns(ConvergenceWarning, match="Component 0 would be narrower"):
        gm.set_params(on_degenerate="repair").fit(X)
    np.testing.assert_array_equal(gm.degenerate_, [True, False])
    np.testing.assert_allclose(np.diag(gm.covariances_[0]), 1e-14 * X.var(axis=0), rtol=1e-6)
    with pytest.warns(ConvergenceWarning, match="1 of 2 components had become singular"):
        gm.set_params(on_degenerate="drop").fit(X)
    np.testing.assert_array_equal(gm.degenerate_, [True, False])
    assert gm.means_.shape == (1, 2)
    assert gm.predict_proba(X).shape == (100, 1)
    assert gm.weights_ == pytest.approx([1.0])


def test_one_singular_start_does_not_end_the_fit(rng, monkeypatch):
    from mixtura import starts
    from mixtura.errors import SingularError

    original, calls = starts.INITIALIZERS["random"], []

    def first_fails(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise SingularError("singular")
        return original(*args, **kwargs)

    monkeypatch.setitem(starts.INITIALIZERS, "random", first_fails)
    X = rng.standard_normal((200, 2))
    gm = GaussianMixture(2, init_params="random", n_init=2, random_state=0, tol=1e-2).fit(X)
    assert len(calls) == 2
    assert np.isfinite(gm.lower_bound_)
    calls.clear()
    with pytest.raises(SingularError):
        gm.set_params(n_init=1).fit(X)


def test_reg_covar_auto_scales_with_the_table(blobs):
    units = np.array([1e-5, 1.0, 1e5])
    plain = GaussianMixture(2, random_state=0, reg_covar="auto").fit(blobs)
    scaled = GaussianMixture(2, random_state=0, reg_covar="auto", means_init=plain.means_ * units).fit(
        blobs * units
    )
    np.testing.assert_allclose(scaled.covariances_ / np.outer(units, units), plain.covariances_, rtol=1e-4)


def test_a_spurious_component_does_not_win(rng):
    """Two rows that nearly coincide have the larger likelihood, and lose against a fit without such a component."""
    X = rng.standard_normal((200, 2))
    X[1] = X[0] + 1e-9
    start = {"weights_init": [0.99, 0.01], "means_init": [X.mean(axis=0), X[0]]}
    start["precisions_init"] = np.stack([np.eye(2), np.eye(2) * 1e12])
    gm = GaussianMixture(2, reg_covar=1e-18, **start)
    with pytest.warns(ConvergenceWarning, match="Component 1 is spurious"):
        gm.fit(X)
    np.testing.assert_array_equal(gm.degenerate_, [False, True])
    healthy = GaussianMixture(2, reg_covar=1e-18, random_state=0, n_init=3).fit(X)
    assert not healthy.degenerate_.any()
    assert healthy.lower_bound_ < gm.lower_bound_


# ----------------------------------------------------------------------------------------------- order, interrupts


@pytest.mark.parametrize("covariance_type", TYPES)
def test_components_are_ordered(covariance_type, overlapping):
    X, _ = overlapping
    X = X[100:]
    plain = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
    by_weight = GaussianMixture(3, covariance_type=covariance_type, random_state=0, order="weight").fit(X)
    by_mean = GaussianMixture(3, covariance_type=covariance_type, random_state=0, order="mean").fit(X)
    assert np.all(np.diff(by_weight.weights_) <= 0)
    assert np.all(np.diff(by_mean.means_[:, 0]) >= 0)
    for gm in (by_weight, by_mean):
        np.testing.assert_allclose(gm.score_samples(X), plain.score_samples(X), rtol=1e-12)


def test_an_interrupt_may_keep_the_best_so_far(overlapping, monkeypatch):
    from mixtura.mixture import Mixture

    X, _ = overlapping
    original, passes = Mixture.maximize, []

    def interrupted(self, found):
        passes.append(1)
        if len(passes) == 5:
            raise KeyboardInterrupt
        return original(self, found)

    monkeypatch.setattr(Mixture, "maximize", interrupted)
    monkeypatch.setattr(Table, "may_advance", lambda self, components, form: False)
    gm = GaussianMixture(3, random_state=0, covariance_type="diag", tol=0.0)
    # k-means uses the same loop: count from the first iteration of EM.
    given = {"weights_init": np.full(3, 1 / 3), "means_init": X[:3], "precisions_init": np.ones((3, 2))}
    gm.set_params(**given)
    with pytest.raises(KeyboardInterrupt):
        gm.fit(X)
    passes.clear()
    with pytest.warns(ConvergenceWarning, match="interrupted after 4 iterations"):
        gm.set_params(on_interrupt="keep").fit(X)
    assert gm.n_iter_ == 4
    assert not gm.converged_
    passes.clear()
    four = GaussianMixture(3, covariance_type="diag", tol=0.0, max_iter=4, **given)
    with pytest.warns(ConvergenceWarning):
        four.fit(X)
    np.testing.assert_array_equal(gm.means_, four.means_)


def test_models_with_all_of_it_are_saved(overlapping, tmp_path):
    """Masks, priors and marks are in the file, and the loaded model may be fitted again."""
    X, _ = overlapping
    means = np.full((3, 2), np.nan)
    means[1] = [0.0, 6.0]
    gm = GaussianMixture(
        3,
        fixed={"means": np.array([False, True, False])},
        means_init=means,
        prior={"shrinkage": 0.1, "scale": np.eye(2)},
        on_degenerate="drop",
        reg_covar="auto",
        accelerate="squarem",
        order="weight",
        on_interrupt="keep",
        init_params="auto",
        random_state=0,
    ).fit(X)
    save(gm, tmp_path / "gm.safetensors")
    again = load(tmp_path / "gm.safetensors")
    np.testing.assert_array_equal(again.degenerate_, gm.degenerate_)
    np.testing.assert_array_equal(again.predict(X), gm.predict(X))
    np.testing.assert_array_equal(again.fit(X).means_, gm.means_)


def test_a_model_with_fewer_components_than_asked_for_is_saved(rng, tmp_path):
    X = np.vstack([np.zeros((50, 2)), rng.standard_normal((50, 2)) + 20.0])
    gm = GaussianMixture(3, reg_covar=0.0, on_degenerate="drop", random_state=0)
    with pytest.warns(ConvergenceWarning, match="dropped"):
        gm.fit(X)
    save(gm, tmp_path / "gm.safetensors")
    again = load(tmp_path / "gm.safetensors")
    np.testing.assert_array_equal(again.means_, gm.means_)
    assert len(again.means_) < 3
    assert "3 components" not in again.summary()


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "VVE"])
def test_a_fit_that_goes_on_holds_what_is_fixed_now(kind, blobs):
    """Not what the last fit had in its place."""
    gm = GaussianMixture(3, covariance_type=kind, random_state=0, warm_start=True).fit(blobs)
    precisions = 2.0 * gm.precisions_
    gm.set_params(
        means_init=[[0.0, 9.0, 0.0], [6.0, np.nan, -1.0], [np.nan] * 3],
        weights_init=[0.4, 0.3, 0.3],
        fixed={"means": [[True] * 3, [True, False, True], [False] * 3], "weights": [True, False, False]},
    ).fit(blobs)
    np.testing.assert_array_equal(gm.means_[0], [0.0, 9.0, 0.0])
    np.testing.assert_array_equal(gm.means_[1, [0, 2]], [6.0, -1.0])
    assert gm.weights_[0] == pytest.approx(0.4, rel=1e-12)
    assert gm.weights_.sum() == pytest.approx(1.0, rel=1e-12)
    gm.set_params(precisions_init=precisions, fixed={"covariances": True}).fit(blobs)
    np.testing.assert_allclose(gm.precisions_, precisions, rtol=1e-9)
    blocks = GaussianMixture(
        3, covariance_type=kind, random_state=0, means_init=gm.means_, fixed={"means": True}
    )
    for _ in range(4):
        blocks.partial_fit(np.tile(blobs, (30, 1)))
    np.testing.assert_array_equal(blocks.means_, gm.means_)


def test_noise_keeps_its_share_beside_weights_that_are_fixed_later(blobs):
    gm = GaussianMixture(2, noise=True, random_state=0, warm_start=True).fit(blobs)
    gm.set_params(weights_init=[0.25, 0.75], fixed={"weights": [True, False]}).fit(blobs)
    assert gm.weights_[0] == pytest.approx(0.25, rel=1e-12)
    assert gm.weights_.sum() + gm.noise_weight_ == pytest.approx(1.0, rel=1e-12)


def test_what_is_fixed_by_number_is_not_sorted_between_fits(blobs):
    gm = GaussianMixture(
        2, means_init=blobs[:2], fixed={"means": [True, False]}, order="weight", random_state=0
    )
    gm.set_params(warm_start=True).fit(blobs)
    for again in (gm.fit, gm.partial_fit):
        with pytest.raises(ValueError, match="order=None"):
            again(blobs)


@pytest.mark.parametrize(
    "labels",
    [np.zeros(600, dtype=int), np.tile([True, False, True], (600, 1)), np.where(np.arange(600) % 2, 0, 2)],
)
def test_labels_must_leave_each_component_some_row(labels, blobs):
    with pytest.raises(ValueError, match="leave component 1 without rows"):
        GaussianMixture(3).fit(blobs, labels=labels)
    with pytest.raises(ValueError, match="leave expert 1 without rows"):
        MixtureOfExperts(3).fit(blobs[:, :2], blobs[:, 2], labels=labels)
    weight = np.ones(600)
    weight[:5] = 0.0
    open_once = np.where(np.arange(600) < 5, -1, 0)  # but those rows do not count
    with pytest.raises(ValueError, match="without rows"):
        GaussianMixture(3).fit(blobs, labels=open_once, sample_weight=weight)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_fixed_parameters_are_not_counted(kind, blobs):
    fit = GaussianMixture(3, covariance_type=kind, random_state=0).fit(blobs)
    free, each = fit._n_parameters(), {"full": 6, "tied": 6, "diag": 3, "spherical": 1}[kind]
    covariances = {"covariances": True if kind == "tied" else [True, False, False]}
    for fixed, fewer in (
        ({"weights": [True, False, False]}, 1),
        ({"weights": True}, 2),
        ({"means": [True, False, True]}, 6),
        ({"means": np.eye(3)}, 3),
        (covariances, each),
        ({"weights": True, "means": True, **covariances}, 2 + 9 + each),
    ):
        held = GaussianMixture(
            3,
            covariance_type=kind,
            fixed=fixed,
            weights_init=fit.weights_,
            means_init=fit.means_,
            precisions_init=fit.precisions_,
        ).fit(blobs)
        assert held._n_parameters() == free - fewer
        difference = held.bic(blobs) + 2.0 * held.score(blobs) * len(blobs)
        assert difference == pytest.approx((free - fewer) * np.log(len(blobs)))


def test_fixed_weights_stay_in_a_warm_start(rng):
    X = np.where(rng.uniform(size=1000) < 0.3, -3.0, 3.0)[:, None] + rng.normal(size=(1000, 1))
    gm = GaussianMixture(
        2, fixed={"weights": [True, True]}, weights_init=[0.5, 0.5], warm_start=True, random_state=0
    )
    for _ in range(3):
        assert gm.fit(X).weights_.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("constant", [-1e6, -3.0, 0.0, 3.0, 1e6])
def test_a_constant_column_has_the_scale_of_its_number(constant, rng):
    X = np.column_stack([np.full(80, constant), rng.normal(size=80)])
    with pytest.warns(ConvergenceWarning, match="narrower than the least variance"):
        gm = GaussianMixture(1, covariance_type="diag", on_degenerate="repair", reg_covar=0.0).fit(X)
    assert gm.covariances_[0, 0] == pytest.approx(1e-14 * (constant**2 if constant else 1.0), rel=1e-9)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("n_init", 0),
        ("n_components", 0),
        ("max_iter", -1),
        ("tol", -1.0),
        ("verbose_interval", 0),
        ("n_threads", 0),
    ],
)
def test_numbers_out_of_range_are_refused(parameter, value, rng):
    with pytest.raises(ValueError, match=f"'{parameter}' parameter"):
        GaussianMixture(**{parameter: value}).fit(rng.normal(size=(9, 2)))


def test_weights_count_rows_beside_a_prior(rng):
    """A prior is worth so many rows: a table with counts is fitted as the table that it stands for."""
    X, counts = rng.normal(size=(40, 2)), rng.integers(1, 6, size=40)
    prior = {"mean": [0.0, 0.0], "shrinkage": 1.0, "dof": 20.0, "scale": 50.0}
    how = {"prior": prior, "tol": 1e-10, "max_iter": 500}
    counted = GaussianMixture(1, **how).fit(X, sample_weight=counts)
    repeated = GaussianMixture(1, **how).fit(np.repeat(X, counts, axis=0))
    np.testing.assert_allclose(counted.covariances_, repeated.covariances_, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(counted.means_, repeated.means_, rtol=1e-12, atol=1e-14)
    assert counted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-12)


def test_a_fit_goes_on_with_the_components_that_are_left():
    for seed in range(4, 8):
        rng = np.random.default_rng(seed)
        X = np.repeat(rng.normal(size=(3, 2)), 20, axis=0)
        X[40:] += rng.normal(size=(20, 2))
        gm = GaussianMixture(4, on_degenerate="drop", reg_covar=0.0, random_state=0, warm_start=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            left, bound = len(gm.fit(X).means_), gm.lower_bound_
            gm.fit(X)
        assert left < 4
        assert len(gm.means_) == len(gm.degenerate_) == left
        assert gm.lower_bound_ >= bound - 1e-9


def test_fixed_values_find_their_clusters(rng):
    """Whatever the order in which components are listed, the start gives what is fixed to the rows that it fits."""
    small = np.concatenate([rng.normal(size=(200, 2)), 0.01 * rng.normal(size=(40, 2)) + 5.0])
    unlike = np.concatenate([0.2 * rng.normal(size=(200, 2)), 2.0 * rng.normal(size=(100, 2)) + [8.0, 0.0]])
    means, precisions = np.array([[5.0, 5.0], [0.0, 0.0]]), np.array([np.eye(2) * 25.0, np.eye(2) * 0.25])
    for X, given, fixed in (
        (small, {"means_init": means}, {"means": True}),
        (unlike, {"precisions_init": precisions}, {"covariances": True}),
        (unlike, {"precisions_init": precisions}, {"covariances": [True, False]}),
        (unlike, {"weights_init": np.array([2 / 3, 1 / 3])}, {"weights": True}),
        (unlike, {"weights_init": np.array([2 / 3, np.nan])}, {"weights": [True, False]}),
        (unlike, {"weights_init": np.array([np.nan, 1 / 3])}, {"weights": [False, True]}),
    ):
        swapped = {name: value[::-1] for name, value in given.items()}
        mask = {name: value if value is True else value[::-1] for name, value in fixed.items()}
        one = GaussianMixture(2, fixed=fixed, random_state=0, tol=1e-8, max_iter=500, **given).fit(X)
        other = GaussianMixture(2, fixed=mask, random_state=0, tol=1e-8, max_iter=500, **swapped).fit(X)
        assert one.lower_bound_ == pytest.approx(other.lower_bound_, abs=1e-6)
        np.testing.assert_allclose(one.means_, other.means_[::-1], atol=1e-3)
    assert one.predict(unlike[:200]).mean() < 0.01


def test_a_prior_from_the_table_does_not_vanish_with_the_weights(rng):
    """Its scale is the covariance of the rows, of which there are as many as have a weight."""
    X = rng.normal(size=(100, 2))
    for total in (1e-3, 1.0, 1e3):
        gm = GaussianMixture(1, prior="default").fit(X, sample_weight=np.full(100, total / 100))
        assert 0.1 < np.linalg.eigvalsh(gm.covariances_[0]).min() < 2.0


def test_what_is_fixed_has_no_place_after_components_were_dropped():
    X = np.repeat(np.random.default_rng(4).normal(size=(3, 2)), 20, axis=0)
    gm = GaussianMixture(4, on_degenerate="drop", reg_covar=0.0, random_state=0, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        gm.fit(X)
        left = len(gm.means_)
        assert left < 4
        for changed in ({"n_components": 5}, {"fixed": {"weights": True}, "weights_init": np.full(4, 0.25)}):
            with pytest.raises(ValueError, match="warm_start: the last fit had components"):
                clone(gm).set_params(warm_start=False).fit(X).set_params(warm_start=True, **changed).fit(X)


@pytest.mark.parametrize("how", [{"reg_covar": "auto"}, {"reg_covar": 0.0, "on_degenerate": "repair"}])
@pytest.mark.parametrize("scale", [1e-150, 1e-100, 1e100, 1e150])
def test_bounds_suit_units_as_small_as_numbers_are(scale, how, blobs):
    want = GaussianMixture(3, random_state=0, **how).fit(blobs)
    got = GaussianMixture(3, random_state=0, **how).fit(blobs * scale)
    np.testing.assert_allclose(got.covariances_ / scale / scale, want.covariances_, rtol=1e-6)
    assert not got.degenerate_.any()


@pytest.mark.parametrize("gate", ["constant", "softmax", "gaussian"])
@pytest.mark.parametrize("init", ["kmeans", "random", "auto"])
def test_experts_do_not_depend_on_how_labels_are_numbered(gate, init):
    """The first guess has its clusters in the order that agrees best with what is known."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.uniform(-3.0, 3.0, size=(500, 1))
        first = rng.uniform(size=500) < 1.0 / (1.0 + np.exp(-3.0 * x[:, 0]))
        y = np.where(first, 1.0 + 2.0 * x[:, 0], -x[:, 0]) + 0.3 * rng.normal(size=500)
        labels = np.where(np.arange(500) < 60, first, -1)
        other = np.where(labels < 0, -1, 1 - labels)
        one, two = (
            MixtureOfExperts(2, gate=gate, init=init, random_state=0, max_iter=2000).fit(x, y, labels=known)
            for known in (labels, other)
        )
        assert two.lower_bound_ == pytest.approx(one.lower_bound_, abs=1e-3)
        np.testing.assert_allclose(two.coef_[::-1], one.coef_, atol=0.02)
