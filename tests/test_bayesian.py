"""Bayesian Gaussian mixtures: the exact bound, scikit-learn's numbers where they are right, predictive densities."""

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import digamma, gammaln
from sklearn.mixture import BayesianGaussianMixture as Theirs

import mixtura
from mixtura import BayesianGaussianMixture, em, load, save
from mixtura.components import precisions
from mixtura.data import as_source
from mixtura.gates.sticks import StickGate

TYPES = ("full", "tied", "diag", "spherical")
PROCESSES = ("dirichlet_process", "dirichlet_distribution")


@pytest.fixture
def rows(rng):
    turned = rng.normal(size=(200, 2)) @ [[2.0, 1.0], [0.0, 0.5]] + 6.0
    return np.concatenate([rng.normal(size=(300, 2)), turned, 0.5 * rng.normal(size=(100, 2)) + [0.0, 7.0]])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("iterations", [1, 5000])
def test_from_the_same_start_it_is_scikit_learns(process, iterations, rows):
    """Full covariances, where scikit-learn's formulas are right: weights, means, covariances to 1e-6."""
    how = {
        "n_components": 4, "weight_concentration_prior_type": process, "init_params": "random", "random_state": 1,
        "reg_covar": 0.0, "max_iter": iterations, "tol": 1e-11,
    }  # fmt: skip
    ours, theirs = BayesianGaussianMixture(**how).fit(rows), Theirs(**how).fit(rows)
    for name in ("weights_", "means_", "covariances_", "mean_precision_", "degrees_of_freedom_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(rows), theirs.predict_proba(rows), atol=1e-6)
    np.testing.assert_allclose(ours.score_samples(rows), theirs.score_samples(rows), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kind", TYPES)
def test_the_bound_never_falls(kind, process, rng):
    for seed in range(6):
        D, K = int(rng.integers(1, 6)), int(rng.integers(1, 7))
        X = (
            rng.normal(size=(120, D)) @ rng.normal(size=(D, D))
            + 3.0 * rng.normal(size=(3, D))[rng.integers(0, 3, 120)]
        )
        weights = rng.uniform(0.0, 2.0, 120) if seed % 2 else None
        model = BayesianGaussianMixture(
            n_components=K, covariance_type=kind, weight_concentration_prior_type=process,
            random_state=seed, max_iter=300, tol=1e-8, reg_covar=1e-2,
        ).fit(X, sample_weight=weights)  # fmt: skip
        assert np.diff(model.lower_bounds_).min(initial=0.0) >= -1e-9 * (1.0 + abs(model.lower_bound_))


def bishop(m, X):
    """Equations 10.70 to 10.77, term by term."""
    K, D = m.means_.shape
    alpha, alpha0, beta, beta0 = (
        m.weight_concentration_,
        m.weight_concentration_prior_,
        m.mean_precision_,
        m.mean_precision_prior_,
    )
    nu, nu0, scale = m.degrees_of_freedom_, m.degrees_of_freedom_prior_, m.covariance_prior_
    W = np.linalg.inv(m.covariances_ * nu[:, None, None])
    log_det = np.linalg.slogdet(W)[1]
    precision = digamma(0.5 * (nu[:, None] - np.arange(D))).sum(axis=1) + D * np.log(2.0) + log_det
    weight = digamma(alpha) - digamma(alpha.sum())
    away = X[:, None, :] - m.means_
    square = D / beta + nu * np.einsum("nki,kij,nkj->nk", away, W, away)
    joint = weight + 0.5 * precision - 0.5 * D * np.log(2.0 * np.pi) - 0.5 * square
    resp = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))

    def log_c(a):
        return gammaln(a.sum()) - gammaln(a).sum()

    def log_b(log_det, n):
        halves = gammaln(0.5 * (n - np.arange(D))).sum()
        return -0.5 * n * (log_det + D * np.log(2.0)) - 0.25 * D * (D - 1) * np.log(np.pi) - halves

    total = np.sum(resp * (joint - np.log(np.maximum(resp, 1e-300))))
    total += (
        log_c(np.full(K, alpha0))
        + (alpha0 - 1.0) * weight.sum()
        - log_c(alpha)
        - np.sum((alpha - 1.0) * weight)
    )
    for k in range(K):
        shift = m.means_[k] - m.mean_prior_
        total += 0.5 * (
            D * np.log(beta0 / beta[k]) + D - D * beta0 / beta[k] - beta0 * nu[k] * shift @ W[k] @ shift
        )
        total += log_b(-np.linalg.slogdet(scale)[1], nu0) - log_b(log_det[k], nu[k])
        total += 0.5 * (nu0 - nu[k]) * precision[k] - 0.5 * nu[k] * np.trace(scale @ W[k]) + 0.5 * nu[k] * D
    return total


def test_the_bound_is_exact(rows):
    model = BayesianGaussianMixture(
        n_components=3, weight_concentration_prior_type="dirichlet_distribution", reg_covar=0.0, random_state=0,
        tol=1e-12, max_iter=5000,
    ).fit(rows)  # fmt: skip
    assert model.lower_bound_ == pytest.approx(bishop(model, rows), rel=1e-12)


def test_sticks_bound_against_integrals():
    """The divergence of beta distributions, by numerical integration."""
    from scipy.stats import beta

    gate = StickGate(0.7)
    gate = type(gate)(0.7, broken=np.array([3.0, 1.5]), left=np.array([2.0, 0.9]))
    total = 0.0
    for a, b in zip(gate.broken, gate.left, strict=True):
        q, p = beta(a, b), beta(1.0, 0.7)
        total += integrate.quad(lambda v: q.pdf(v) * (q.logpdf(v) - p.logpdf(v)), 0.0, 1.0, limit=200)[0]  # noqa: B023
    assert gate.bound == pytest.approx(-total, rel=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_predictive_is_a_density(kind, rows):
    model = BayesianGaussianMixture(n_components=3, covariance_type=kind, random_state=0).fit(rows)
    grid = np.linspace(-60.0, 60.0, 601)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    assert np.exp(model.predictive(points)).sum() * 0.2**2 == pytest.approx(1.0, abs=2e-3)
    # With many rows nothing is left of the uncertainty, and it is the mixture of Gaussians.
    assert model.predictive(rows).mean() == pytest.approx(model.score(rows), abs=0.05)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kind", TYPES)
def test_files_backends_streams_and_weights(kind, process, rows, tmp_path):
    how = {
        "n_components": 4,
        "covariance_type": kind,
        "weight_concentration_prior_type": process,
        "random_state": 0,
    }
    model = BayesianGaussianMixture(**how, max_iter=400).fit(rows)
    save(model, tmp_path / "m")
    back = load(tmp_path / "m")
    np.testing.assert_array_equal(back.predict_proba(rows), model.predict_proba(rows))
    np.testing.assert_array_equal(back.predictive(rows), model.predictive(rows))
    assert back.summary() == model.summary()
    for other in (rows, as_source(rows, block_bytes=1 << 12)):
        again = BayesianGaussianMixture(**how, max_iter=400, backend="reference").fit(other)
        assert again.lower_bound_ == pytest.approx(model.lower_bound_, rel=1e-9)
    weights = np.arange(600) % 3.0
    counted = BayesianGaussianMixture(**how, tol=1e-9, max_iter=3000).fit(rows, sample_weight=weights)
    repeated = BayesianGaussianMixture(**how, tol=1e-9, max_iter=3000).fit(
        np.repeat(rows, weights.astype(int), axis=0)
    )
    assert counted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-4)
    graph = pytest.importorskip("onnx") and model.to_onnx(dtype="float64")
    assert [output.name for output in graph.graph.output] == ["label", "probabilities", "log_likelihood"]
    drawn, labels = model.sample(50)
    assert drawn.shape == (50, 2)
    assert np.all(np.diff(labels) >= 0)


def test_components_that_are_not_needed_lose_their_rows(rows):
    model = BayesianGaussianMixture(n_components=10, max_iter=2000, random_state=0, tol=1e-6).fit(rows)
    assert np.sum(model.weights_ > 0.02) == 3
    bounds = [
        BayesianGaussianMixture(n_components=k, random_state=0, max_iter=2000, init_params="hierarchical")
        .fit(rows)
        .lower_bound_
        for k in (1, 2, 3)
    ]
    assert bounds == sorted(bounds)  # exact, so comparable between numbers of components


def test_bad_input(rows):
    for how, message in (
        ({"covariance_prior": np.eye(3)}, "'full covariance_prior' should have the shape of \\(2, 2\\)"),
        ({"covariance_prior": -np.eye(2)}, "should be symmetric, positive-definite"),
        ({"mean_prior": [0.0]}, "'means' should have the shape of \\(2,\\)"),
        ({"degrees_of_freedom_prior": 1.0}, "should be greater than 1"),
        ({"weight_concentration_prior": 0.0}, "weight_concentration_prior"),
        ({"covariance_type": "VVE"}, "covariance_type"),
    ):
        with pytest.raises(ValueError, match=message):
            BayesianGaussianMixture(n_components=2, **how).fit(rows)


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_the_factor_of_a_wishart_density(dims, rng):
    """It is all of scipy's density but the powers of the matrix."""
    root = rng.normal(size=(dims, dims)) + 2.0 * np.eye(dims)
    scale, dof = root @ root.T, dims + 1.5
    at = stats.wishart(df=dof, scale=scale).rvs(random_state=0).reshape(dims, dims)
    powers = 0.5 * (dof - dims - 1.0) * np.linalg.slogdet(at)[1] - 0.5 * np.trace(np.linalg.solve(scale, at))
    volume = np.linalg.slogdet(scale)[1]
    factor = precisions._log_wishart(np.array([volume]), np.array([dof]), dims)
    want = stats.wishart(df=dof, scale=scale).logpdf(at if dims > 1 else at.item())
    assert factor[0] + powers == pytest.approx(float(want), rel=1e-12)


def test_a_warm_start_begins_at_the_last_bound(rng):
    """The bound is that of the last fit, whole, so that a fit that has converged is over after one iteration."""
    X = rng.normal(size=(300, 2)) + 5.0 * rng.integers(0, 2, size=(300, 1))
    model = BayesianGaussianMixture(
        n_components=2, random_state=0, warm_start=True, tol=1e-3, max_iter=500
    ).fit(X)
    bound = model.lower_bound_
    model.fit(X)
    assert model.n_iter_ == 1
    assert bound <= model.lower_bound_ < bound + 1e-3 * len(X)


def test_a_fit_that_goes_on_has_the_prior_of_now():
    X = np.random.default_rng(0).normal(size=(300, 2))
    how = {
        "n_components": 1,
        "max_iter": 1000,
        "tol": 1e-9,
        "random_state": 0,
        "mean_precision_prior": 1000.0,
    }
    moved = 10.0 * X + 100.0
    again = BayesianGaussianMixture(warm_start=True, **how).fit(X).fit(moved)
    anew = BayesianGaussianMixture(**how).fit(moved)
    np.testing.assert_allclose(again.means_, anew.means_, rtol=1e-9)
    np.testing.assert_allclose(again.covariances_, anew.covariances_, rtol=1e-9)
    assert again.lower_bound_ == pytest.approx(anew.lower_bound_, rel=1e-9)
    again.set_params(mean_prior=[0.0, 0.0], degrees_of_freedom_prior=9.0).fit(moved)
    anew.set_params(mean_prior=[0.0, 0.0], degrees_of_freedom_prior=9.0).fit(moved)
    np.testing.assert_allclose(again.means_, anew.means_, rtol=1e-9)


@pytest.mark.parametrize(
    "change", [{"covariance_type": "diag"}, {"weight_concentration_prior_type": "dirichlet_distribution"}]
)
def test_a_fit_that_goes_on_is_of_the_same_kind(change, faithful, tmp_path):
    model = BayesianGaussianMixture(n_components=2, warm_start=True, random_state=0).fit(faithful)
    mixtura.save(model, tmp_path / "m")
    for last in (model, mixtura.load(tmp_path / "m")):
        means = last.means_.copy()
        with pytest.raises(ValueError, match="warm_start: the last fit had"):
            last.set_params(**change).fit(faithful)
        np.testing.assert_array_equal(last.means_, means)


def test_a_fit_that_fails_leaves_the_last_one(faithful, monkeypatch):
    model = BayesianGaussianMixture(n_components=2, random_state=0).fit(faithful)
    before = dict(vars(model))

    def interrupted(*arguments, **how):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(em, "restarts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.set_params(covariance_type="diag", mean_prior=[0.0, 0.0]).fit(faithful)
    model.set_params(covariance_type="full", mean_prior=None)
    assert {name: str(value) for name, value in vars(model).items()} == {n: str(v) for n, v in before.items()}
    model.set_params(warm_start=True).fit(faithful)


def test_priors_are_copies(blobs):
    mean, covariance = np.zeros(3), np.eye(3)
    model = BayesianGaussianMixture(n_components=2, mean_prior=mean, covariance_prior=covariance).fit(blobs)
    mean[:] = covariance[:] = 100.0
    assert not model.mean_prior_.any()
    np.testing.assert_allclose(model.covariance_prior_, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("covariance_type", "diag"), ("weight_concentration_prior_type", "dirichlet_distribution")],
)
def test_what_was_set_after_the_fit_is_told(name, value, blobs):
    model = BayesianGaussianMixture(n_components=2, random_state=0).fit(blobs).set_params(**{name: value})
    with pytest.raises(ValueError, match="was set after the fit"):
        model.score_samples(blobs)
    model.fit(blobs).score_samples(blobs)
