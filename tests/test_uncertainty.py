"""Standard errors against 50 digits, against each other, and against theory."""

import mpmath
import numpy as np
import pytest

import mixtura
from mixtura import GaussianMixture, MixtureOfExperts, standard_errors
from mixtura import autodiff as ad
from mixtura.natural import fields
from mixtura.uncertainty import _aligned


@pytest.fixture(scope="module")
def old_faithful(faithful):
    gm = GaussianMixture(2, reg_covar=0.0, tol=1e-14, max_iter=5000, random_state=0, order="mean")
    return gm.set_params(accelerate="newton").fit(faithful), faithful


def test_the_fit_is_a_maximum(old_faithful):
    gm, X = old_faithful
    assert np.abs(ad.value_and_grad(gm, X)[1]).max() < 1e-8 * len(X)


def _scores_in_fifty_digits(gm, X):
    """Scores (N, P) and Hessian (P, P) of a two-component mixture in two dimensions."""
    mpmath.mp.dps = 50
    theta = [mpmath.mpf(float(v)) for v in ad.Parameters.of(gm).theta]
    P, rows = len(theta), [[mpmath.mpf(float(v)) for v in x] for x in X]
    w0 = 1 / (1 + mpmath.exp(-theta[0]))
    scores, H = [], mpmath.zeros(P, P)
    for x in rows:
        parts, first, second = [], [], []
        for k in range(2):
            m0, m1 = theta[1 + 2 * k : 3 + 2 * k]
            a, b, c = theta[5 + 3 * k : 8 + 3 * k]
            p, q = mpmath.exp(-a), mpmath.exp(-c)
            z0 = (x[0] - m0) * p
            z1 = (x[1] - m1 - b * z0) * q
            weight = w0 if k == 0 else 1 - w0
            parts.append(weight * p * q * mpmath.exp(-(z0**2 + z1**2) / 2) / (2 * mpmath.pi))
            # Derivatives of (z0, z1) by (m0, m1, a, b, c), then of log p = -a - c - (z0^2 + z1^2) / 2.
            d0 = [-p, 0, -z0, 0, 0]
            d1 = [b * p * q, -q, b * q * z0, -q * z0, -z1]
            dd0 = {(0, 2): p, (2, 2): z0}
            dd1 = {
                (0, 2): -b * p * q, (0, 3): p * q, (0, 4): -b * p * q, (1, 4): q, (2, 2): -b * q * z0,
                (2, 3): q * z0, (2, 4): -b * q * z0, (3, 4): q * z0, (4, 4): z1,
            }  # fmt: skip
            g = [-(z0 * u + z1 * v) for u, v in zip(d0, d1, strict=True)]
            g[2] -= 1
            g[4] -= 1
            h = mpmath.zeros(5, 5)
            for i in range(5):
                for j in range(5):
                    key = (min(i, j), max(i, j))
                    h[i, j] = -(d0[i] * d0[j] + d1[i] * d1[j] + z0 * dd0.get(key, 0) + z1 * dd1.get(key, 0))
            first.append(g)
            second.append(h)
        r = [part / sum(parts) for part in parts]
        places = [[1, 2, 5, 6, 7], [3, 4, 8, 9, 10]]
        score = [mpmath.mpf(0)] * P
        score[0] = r[0] - w0
        for k in range(2):
            for i, at in enumerate(places[k]):
                score[at] = r[k] * first[k][i]
        H[0, 0] += -w0 * (1 - w0) + r[0] * (1 - r[0])
        for k in range(2):
            sign = 1 if k == 0 else -1
            for i, at in enumerate(places[k]):
                H[0, at] += sign * r[0] * r[1] * first[k][i]
                H[at, 0] += sign * r[0] * r[1] * first[k][i]
                for j, to in enumerate(places[k]):
                    H[at, to] += r[k] * second[k][i, j] + r[k] * (1 - r[k]) * first[k][i] * first[k][j]
                for j, to in enumerate(places[1 - k]):
                    H[at, to] -= r[0] * r[1] * first[k][i] * first[1 - k][j]
        scores.append(score)
    return mpmath.matrix(scores), H


def test_against_fifty_digits(old_faithful):
    gm, X = old_faithful
    S, H = _scores_in_fifty_digits(gm, X)
    P = H.rows
    near = ad.hessian(gm, X)
    np.testing.assert_allclose(near, np.array(H.tolist(), dtype=float), atol=1e-11 * np.abs(near).max())
    inverse, outer = (-H) ** -1, S.T * S
    wanted = {"observed": inverse, "opg": outer**-1, "sandwich": inverse * outer * inverse}
    for method, want in wanted.items():
        got = standard_errors(gm, X, method).theta_covariance
        for i in range(P):
            assert np.sqrt(got[i, i]) == pytest.approx(float(mpmath.sqrt(want[i, i])), rel=1e-6), (method, i)


def test_the_bootstrap_is_near_the_sandwich(old_faithful):
    gm, X = old_faithful
    bootstrap, sandwich = (standard_errors(gm, X, method) for method in ("bootstrap", "sandwich"))
    np.testing.assert_allclose(bootstrap.errors, sandwich.errors, rtol=0.15)
    assert bootstrap.failed == 0
    assert bootstrap.draws.shape == (999, 12)
    again = standard_errors(gm, X, "bootstrap", n_bootstrap=20, n_threads=1)
    other = standard_errors(gm, X, "bootstrap", n_bootstrap=20, n_threads=2)
    np.testing.assert_array_equal(again.covariance, other.covariance)
    low, high = np.moveaxis(bootstrap.interval(0.9)["means"], -1, 0)
    assert np.all((low < gm.means_) & (gm.means_ < high))


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_delta_method(kind, rng):
    gm = GaussianMixture(3, covariance_type=kind, random_state=0, tol=0.1).fit(rng.normal(size=(200, 3)))
    parameters = ad.Parameters.of(gm)

    def values(theta):
        found = fields(parameters.mixture.at(theta), [], ["a", "b", "c"])
        return np.concatenate([field.values for field in found])

    found = fields(parameters.mixture, [], ["a", "b", "c"])
    slopes = np.vstack([field.slopes for field in found])
    steps = 1e-6 * np.eye(len(parameters))
    numeric = [(values(parameters.theta + h) - values(parameters.theta - h)) / 2e-6 for h in steps]
    np.testing.assert_allclose(slopes, np.stack(numeric, axis=1), atol=1e-8)
    for field, attribute in zip(found, (gm.weights_, gm.means_, gm.covariances_), strict=True):
        np.testing.assert_allclose(field.values[field.places], attribute, rtol=1e-12)
        assert len(field.labels) == len(field.values) == len(set(field.labels))


def test_one_gaussian_has_the_textbook_errors(rng):
    X = rng.normal(size=(500, 2)) @ [[2.0, 0.5], [0.0, 1.0]]
    errors = standard_errors(GaussianMixture(1, reg_covar=0.0).fit(X), X)
    S = np.cov(X.T, bias=True)
    np.testing.assert_allclose(errors.means[0], np.sqrt(np.diag(S) / 500), rtol=1e-10)
    want = np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / 500)  # of a Wishart matrix
    np.testing.assert_allclose(errors.covariances[0], want, rtol=1e-10)
    assert errors.weights[0] == 0.0


def test_one_regression_has_the_textbook_errors(rng):
    X = rng.normal(size=(300, 2))
    y = X @ [1.0, -2.0] + 0.5 + rng.normal(size=300)
    moe = MixtureOfExperts(1, tol=1e-14).fit(X, y)
    errors = standard_errors(moe, X, y=y)
    design = np.column_stack([np.ones(300), X])
    s2 = float(np.ravel(moe.noise_variance_)[0])
    want = np.sqrt(np.diag(s2 * np.linalg.inv(design.T @ design)))
    np.testing.assert_allclose(errors.intercept, want[:1], rtol=1e-8)
    np.testing.assert_allclose(errors.coef, want[None, 1:], rtol=1e-8)
    assert errors.noise_variance[0] == pytest.approx(s2 * np.sqrt(2 / 300), rel=1e-8)


@pytest.mark.parametrize("gate", ["constant", "softmax"])
@pytest.mark.parametrize("targets", [1, 2])
def test_experts(gate, targets, rng):
    X = rng.normal(size=(400, 2))
    s = rng.integers(0, 2, 400)
    Y = np.where(s[:, None], X @ rng.normal(size=(2, targets)) + 2.0, -X @ rng.normal(size=(2, targets)))
    Y = Y + 0.3 * rng.normal(size=Y.shape)
    Y = Y[:, 0] if targets == 1 else Y
    moe = MixtureOfExperts(2, gate=gate, random_state=0, tol=1e-12, max_iter=3000).fit(X, Y)
    errors = standard_errors(moe, X, y=Y)
    assert errors.coef.shape == moe.coef_.shape
    assert errors.intercept.shape == moe.intercept_.shape
    assert errors.noise_variance.shape == moe.noise_variance_.shape
    assert (errors.weights if gate == "constant" else errors.log_odds).shape == (
        (2,) if gate == "constant" else (1, 3)
    )
    bootstrap = standard_errors(moe, X, "bootstrap", y=Y, n_bootstrap=200)
    np.testing.assert_allclose(bootstrap.coef, errors.coef, rtol=0.4)
    assert "coef[0, " in moe.summary(X, Y)


def test_weights_count_as_copies(faithful):
    gm = GaussianMixture(2, random_state=0, tol=1e-12, max_iter=2000).fit(np.repeat(faithful, 2, axis=0))
    doubled = standard_errors(gm, np.repeat(faithful, 2, axis=0))
    for method in ("observed", "opg", "sandwich"):
        weighted = standard_errors(gm, faithful, method, sample_weight=np.full(len(faithful), 2.0))
        repeated = standard_errors(gm, np.repeat(faithful, 2, axis=0), method)
        np.testing.assert_allclose(weighted.errors, repeated.errors, rtol=1e-9)
    assert len(doubled.names) == 12


def test_intervals_table_and_summary(old_faithful):
    gm, X = old_faithful
    errors = standard_errors(gm, X)
    low, high = np.moveaxis(errors.interval(0.95)["means"], -1, 0)
    np.testing.assert_allclose(high - low, 2 * 1.959963984540054 * errors.means)
    np.testing.assert_allclose(0.5 * (low + high), gm.means_, rtol=1e-12)
    text = gm.summary(X)
    for name in errors.names:
        assert name in text
    assert "95% from" in text
    assert "estimate" in str(errors)
    assert "99% from" in errors.table(0.99)
    np.testing.assert_allclose(np.sqrt(np.diag(errors.covariance)), errors.errors)
    assert set(dir(errors)) >= {"weights", "means", "covariances"}
    with pytest.raises(AttributeError, match="there are weights, means, covariances"):
        errors.coef  # noqa: B018
    with pytest.raises(ValueError, match="level"):
        errors.interval(95)


def test_bad_input(rng, faithful):
    gm = GaussianMixture(2, random_state=0, tol=1e-10, max_iter=1000).fit(faithful)
    with pytest.raises(ValueError, match="unknown method 'fisher'"):
        standard_errors(gm, faithful, "fisher")
    with pytest.raises(ValueError, match="n_bootstrap"):
        standard_errors(gm, faithful, "bootstrap", n_bootstrap=1)
    with pytest.raises(TypeError, match="fits the model again"):
        standard_errors(mixtura.distributions.Mixture.from_estimator(gm), faithful, "bootstrap")
    # Two components in the same place: nothing tells their weights apart.
    same = GaussianMixture(
        2, weights_init=[0.5, 0.5], means_init=[[0.0], [0.0]], precisions_init=[[[1.0]], [[1.0]]], max_iter=0
    ).fit(rng.normal(size=(50, 1)))
    with pytest.raises(ValueError, match=r"log_odds\[0\]"):
        standard_errors(same, rng.normal(size=(50, 1)), "opg")
    with pytest.raises(ValueError, match=r"not at a maximum|singular"):
        standard_errors(same, rng.normal(size=(50, 1)))
    X = rng.normal(size=(300, 1))
    wide = GaussianMixture(1, covariance_type="diag").fit(np.hstack([X] * 5001))
    with pytest.raises(ValueError, match="limit is 10000 parameters"):
        standard_errors(wide, np.hstack([X] * 5001))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_parameters_at_a_bound_are_named(rng):
    X = np.concatenate([rng.normal(size=(200, 1)), rng.normal(9.0, 1e-3, size=(60, 1))])
    gm = GaussianMixture(2, on_degenerate="repair", reg_covar=1e-4, random_state=0, order="mean").fit(X)
    errors = standard_errors(gm, X, "opg")
    assert errors.boundary == ["covariance[1, x0, x0]"]
    assert "At the edge" in str(errors)


def test_progress_reports(faithful, capfd):
    gm = GaussianMixture(2, random_state=0).fit(faithful)
    standard_errors(gm, faithful, "bootstrap", n_bootstrap=10, progress=True)
    assert "bootstrap" in "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_fits_of_the_bootstrap_are_aligned(kind, rng):
    """Components in another order are put back, with all that belongs to them."""
    X = rng.normal(size=(300, 2)) + 9.0 * rng.integers(0, 4, size=(300, 1))
    gm = GaussianMixture(4, covariance_type=kind, random_state=0, order="mean").fit(X)
    like = ad.Parameters.of(gm)
    order = [2, 0, 3, 1]
    other = GaussianMixture(
        4, covariance_type=kind, weights_init=gm.weights_[order], means_init=gm.means_[order],
        precisions_init=gm.precisions_ if kind == "tied" else gm.precisions_[order], max_iter=0,
    ).fit(X)  # fmt: skip
    found = ad.Parameters.of(other)
    assert not np.allclose(found.theta, like.theta)
    np.testing.assert_allclose(_aligned(found, like).theta, like.theta, rtol=1e-9, atol=1e-9)
    assert _aligned(like, like) is like


def test_the_bootstrap_fits_by_em_whatever_the_algorithm_was(blobs):
    gm = GaussianMixture(3, algorithm="stepwise", random_state=0).fit(blobs)
    by_em = GaussianMixture(3, random_state=0, tol=1e-6).fit(blobs)
    errors = [standard_errors(m, blobs, "bootstrap", n_bootstrap=30).means for m in (gm, by_em)]
    order = [np.lexsort(m.means_.T) for m in (gm, by_em)]
    np.testing.assert_allclose(errors[0][order[0]], errors[1][order[1]], rtol=0.2)


@pytest.mark.parametrize("method", ["observed", "opg", "sandwich"])
@pytest.mark.parametrize("fixed", [{"means": True}, {"weights": [True, False, False]}])
def test_what_is_fixed_has_no_information(method, fixed, blobs):
    how = {"means_init": blobs[[0, 5, 9]], "weights_init": [0.3, 0.3, 0.4]}
    gm = GaussianMixture(3, fixed=fixed, random_state=0, **how).fit(blobs)
    with pytest.raises(ValueError, match="method='bootstrap'"):
        standard_errors(gm, blobs, method)
    assert standard_errors(gm, blobs, "bootstrap", n_bootstrap=5).failed == 0
    free = GaussianMixture(3, fixed={"means": False}, random_state=0, **how).fit(blobs)
    assert standard_errors(free, blobs, method).means.min() > 0.0


def test_components_that_share_a_mean_are_told_apart():
    """By what they differ in, not by noise in what they have in common."""
    for seed in (1, 4):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(500, 2))
        X[300:, 0] += 10.0
        gm = GaussianMixture(2, random_state=0).fit(X)
        got = standard_errors(gm, X, "bootstrap", n_bootstrap=40).means
        np.testing.assert_allclose(got, standard_errors(gm, X).means, rtol=0.5)
    x = rng.normal(size=(400, 1))
    y = np.where(rng.random(400) < 0.5, 3.0, -3.0) * x[:, 0] + 0.3 * rng.normal(size=400)
    model = MixtureOfExperts(2, random_state=0).fit(x, y)
    assert standard_errors(model, x, "bootstrap", y=y, n_bootstrap=30).errors.max() < 0.1


def test_a_summary_says_why_there_are_no_errors():
    said = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = np.concatenate([rng.normal(size=(60, 2)), rng.normal([4.0, 1.0], size=(50, 2))])
        gm = GaussianMixture(3, covariance_type="spherical", random_state=0).fit(X)
        said.append("no standard errors: the information matrix" in gm.summary(X))
        if said[-1]:
            with pytest.raises(ValueError, match="information matrix"):
                standard_errors(gm, X)
    assert set(said) == {True, False}


def test_values_that_stand_for_no_covariances_are_told():
    X = np.random.default_rng(0).normal(size=(60, 2))
    parameters = ad.Parameters.of(GaussianMixture(2, random_state=0).fit(X))
    for size in (-1e3, 1e3):
        there = parameters.at(np.full(len(parameters), size))
        with pytest.raises(ValueError, match="cannot be represented"):
            there.to_model()
        with pytest.raises(ValueError, match="cannot be represented"):  # and warns of nothing
            ad.value_and_grad(there, X)
