"""Mixtures of regressions and of experts: known numbers, laws, scale, bad input."""

import pickle
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import mixtura
from mixtura import (
    ConstantGate,
    DirichletGate,
    EqualMeans,
    GaussianGate,
    LinearExpert,
    LinkFunction,
    MixtureOfExperts,
    NeuralGate,
    SoftmaxGate,
    SparseGate,
    em,
)
from mixtura.components import normal_equations
from mixtura.components.linear import least_squares
from mixtura.components.normal_equations import root_of
from mixtura.joint import Joint
from mixtura.table import Table

GATES = ["constant", "dirichlet", "sparse", "softmax", "gaussian", "neural"]
QUICK = [g for g in GATES if g != "neural"]
PRIOR = LinearExpert(prior_covariance=10.0)


@pytest.fixture
def planes():
    """Chapter 3 of the MixtureLib text: two planes through the origin, 100 rows each, noise of deviation 5."""
    rng = np.random.RandomState(42)
    X = rng.randn(200, 2)
    X[:100, 1] *= 0.8
    X[100:, 0] *= 0.8
    y = np.concatenate([X[:100] @ [10.0, 0.0], X[100:] @ [0.0, 30.0]])
    return X, y + 5.0 * rng.randn(200, 1)[:, 0]


@pytest.fixture
def lines(rng):
    """Two crossing lines with an intercept each; which one a row is on depends on x."""
    x = rng.uniform(-2.0, 2.0, size=(300, 1))
    first = rng.uniform(size=300) < 1.0 / (1.0 + np.exp(-2.0 * x[:, 0]))
    y = np.where(first, 1.0 + 2.0 * x[:, 0], -1.0 - 1.5 * x[:, 0]) + 0.2 * rng.normal(size=300)
    return x, y


# ------------------------------------------------------------------------------------------------- known numbers


@pytest.mark.parametrize(
    ("gate", "noise", "log_likelihood"),
    [
        ("constant", "shared", -705.94640),
        ("constant", "per-expert", -704.41265),
        ("softmax", "shared", -704.18666),
        ("softmax", "per-expert", -702.55335),
    ],
)
def test_two_planes(planes, gate, noise, log_likelihood):
    """The optimum, from 19 of 20 seeds with five starts each."""
    X, y = planes
    found = 0
    for seed in range(20):
        model = MixtureOfExperts(
            2, gate=gate, noise=noise, fit_intercept=False, n_init=5, random_state=seed
        ).fit(X, y)
        assert model.converged_
        found += abs(model.score_samples(X, y).sum() - log_likelihood) < 1e-4
        assert np.all(np.diff(model.lower_bounds_) >= -1e-12 * abs(model.lower_bound_))
    assert found >= 19


def test_two_planes_slopes_and_bic(planes):
    X, y = planes
    model = MixtureOfExperts(2, fit_intercept=False, n_init=5, random_state=0).fit(X, y)
    order = np.argsort(-model.coef_[:, 0])
    want = [[11.08418, 0.32470], [-0.20997, 30.10775]]
    np.testing.assert_allclose(model.coef_[order], want, atol=1e-4)
    np.testing.assert_allclose(model.noise_variance_, 25.1314, atol=1e-4)
    assert model.bic(X, y) == pytest.approx(1443.683, abs=1e-3)
    fits = [
        MixtureOfExperts(k, fit_intercept=False, noise="per-expert", n_init=5, random_state=0)
        for k in range(1, 5)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        bic = [m.fit(X, y).bic(X, y) for m in fits]
    assert np.argmin(bic) == 1
    np.testing.assert_allclose(bic[:2], [1655.1, 1445.9], atol=0.05)


def test_a_neural_gate_is_at_least_as_likely_as_a_linear_one(planes):
    X, y = planes
    softmax = MixtureOfExperts(2, gate="softmax", fit_intercept=False, n_init=5, random_state=0).fit(X, y)
    neural = MixtureOfExperts(
        2,
        gate=NeuralGate((10, 10), learning_rate=0.005, steps=10),
        fit_intercept=False,
        max_iter=150,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        neural.fit(X, y)
    assert neural.score_samples(X, y).sum() > softmax.score_samples(X, y).sum()
    assert np.all(np.diff(neural.lower_bounds_) >= -1e-12 * abs(neural.lower_bound_))


def test_one_expert_is_least_squares(rng):
    X, y = rng.normal(size=(80, 4)) + 100.0, rng.normal(size=(80, 3))
    model = MixtureOfExperts(1).fit(X, y)
    want, *_ = np.linalg.lstsq(np.column_stack([X - 100.0, np.ones(80)]), y)
    np.testing.assert_allclose(model.coef_[0], want[:4].T, atol=1e-9)
    residuals = y - model.predict(X)
    np.testing.assert_allclose(model.noise_variance_[0], (residuals**2).mean(axis=0), rtol=1e-9)
    assert model.predict_expert(X).shape == (80, 1, 3)
    np.testing.assert_allclose(model.predict_expert(X)[:, 0], model.predict(X), atol=1e-9)


def test_one_expert_with_a_prior_is_the_conjugate_posterior(rng):
    X, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    A, w0 = np.diag([1.0, 2.0, 0.5]) + 0.2, np.array([0.3, -1.0, 2.0])
    expert = LinearExpert(prior_mean=w0, prior_covariance=A)
    model = MixtureOfExperts(1, experts=expert, fit_intercept=False, tol=0.0, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    s = model.noise_variance_[0]
    B = np.linalg.inv(np.linalg.inv(A) + X.T @ X / s)
    np.testing.assert_allclose(model.coef_covariance_[0], B, rtol=1e-8)
    np.testing.assert_allclose(model.coef_[0], B @ (np.linalg.inv(A) @ w0 + X.T @ y / s), rtol=1e-8)
    # With one expert nothing is approximated: the bound is the evidence, and s maximises it.
    covariance = s * np.eye(30) + X @ A @ X.T
    evidence = multivariate_normal(X @ w0, covariance).logpdf(y)
    assert model.lower_bound_ * 30 == pytest.approx(evidence, abs=1e-8)
    for other in (0.99 * s, 1.01 * s):
        less = multivariate_normal(X @ w0, covariance + (other - s) * np.eye(30)).logpdf(y)
        assert less < evidence


# ----------------------------------------------------------------------------------------------------------- laws


@contextmanager
def every_step(model):
    """Keep the objective of each step of EM as it was found, also of one that ends the fit and is not taken."""
    run, found = em.run, []

    def listening(*arguments, **keywords):
        fit = run(*arguments, **keywords)
        found[:] = fit.bounds  # of the last run: those before it are k-means'
        return fit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(em, "run", listening)
        yield
    model.every_bound = found


def steps_of(model):
    return np.array(model.every_bound)


@pytest.mark.parametrize("gate", QUICK)
@pytest.mark.parametrize("noise", ["shared", "per-expert"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=12, derandomize=True)
@given(data=st.data())
def test_the_objective_never_falls(gate, noise, data):
    """Over random problems, priors, links, weights, starts: by no more than rounding."""
    draw = data.draw
    seed, N, D = draw(st.integers(0, 999)), draw(st.integers(12, 80)), draw(st.integers(1, 3))
    K, M = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    kind = draw(st.sampled_from(["none", "number", "diagonal", "matrix", "mixed"]))
    link = draw(st.sampled_from([None, EqualMeans(0.7), EqualMeans(1e4)]))
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(D, D))
    prior = {
        "none": None,
        "number": LinearExpert(prior_covariance=2.0),
        "diagonal": LinearExpert(0.5, np.linspace(0.5, 2.0, D), draw(st.sampled_from([None, "prior_mean"]))),
        "matrix": LinearExpert(prior_covariance=root @ root.T + np.eye(D)),
        "mixed": [LinearExpert(), *[LinearExpert(prior_covariance=1.0)] * (K - 1)],
    }[kind]
    linked = kind not in ("none", "mixed") and K > 1
    X = rng.normal(size=(N, D)) * rng.uniform(0.1, 10.0, D)
    y = rng.normal(size=(N, M)) + np.where(rng.uniform(size=N) < 0.5, 2.0, -1.0)[:, None] * X[:, :1]
    weights = rng.integers(1, 4, size=N).astype(float) if draw(st.booleans()) else None
    model = MixtureOfExperts(
        K,
        experts=prior,
        gate=gate,
        noise=noise,
        prior_link=link if linked else None,
        empirical_bayes=draw(st.booleans()),
        fit_intercept=draw(st.booleans()),
        init=draw(st.sampled_from(["kmeans", "random"])),
        max_iter=40,
        tol=0.0,
        random_state=seed,
    )
    with every_step(model):
        model.fit(X, y, sample_weight=weights)
    bounds = steps_of(model)
    # Sums are good to eps of their terms, of which those of an expert that meets its rows are as large as its noise.
    assert np.all(np.diff(bounds) >= -1e-11 * (1.0 + np.abs(bounds[1:])))


@pytest.mark.parametrize("gate", ["constant", "softmax", "gaussian", "sparse"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=25, derandomize=True)
@given(data=st.data())
def test_the_objective_never_falls_on_awkward_tables(gate, data):
    """As tables of observations are: units far apart, offsets, copies, near copies and sums of columns, whole numbers,
    columns that vary among few rows, more columns than an expert has rows, targets that are met exactly."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    N, D = draw(st.integers(30, 120)), draw(st.integers(2, 8))
    X = rng.normal(size=(N, D))
    kinds = {
        "copy": lambda j: X[:, 0],
        "near copy": lambda j: X[:, 0] + 10.0 ** -draw(st.integers(3, 9)) * X[:, j],
        "trend": lambda j: np.arange(N) + 1950.0,
        "square of a trend": lambda j: (np.arange(N) + 1950.0) ** 2,
        "sum": lambda j: X[:, :j].sum(axis=1),
        "dummy": lambda j: (rng.uniform(size=N) < 0.2).astype(float),
        "rare": lambda j: np.where(np.arange(N) < 3, X[:, j], 0.0),
        "whole": lambda j: np.round(5.0 * X[:, j]),
        "constant": lambda j: np.full(N, 7.3),
    }
    for j in range(1, D):
        X[:, j] = kinds[draw(st.sampled_from(sorted(kinds)))](j) if draw(st.booleans()) else X[:, j]
    X *= 10.0 ** np.array(draw(st.lists(st.integers(-6, 9), min_size=D, max_size=D)))
    slopes = rng.normal(size=(2, D)) / np.maximum(np.abs(X).max(axis=0), 1e-300)
    side = rng.uniform(size=N) < draw(st.sampled_from([0.05, 0.3, 0.5]))
    noise = draw(st.sampled_from([1.0, 1e-2, 1e-6, 0.0]))
    y = np.where(side, X @ slopes[0], X @ slopes[1] + 3.0) + noise * rng.normal(size=N)
    y = draw(st.sampled_from([1.0, 1e-15, 1e12])) * (np.round(y) if draw(st.booleans()) else y)
    model = MixtureOfExperts(
        2, gate=gate, noise=draw(st.sampled_from(["shared", "per-expert"])), max_iter=60, random_state=0
    )
    with every_step(model):
        model.fit(X, y)
    bounds = steps_of(model)
    # A residual is good to eps of the terms of W x that it is left of, and so is the objective, a row, to the square of
    # what that is of the noise's deviation.
    terms = np.abs(model.coef_) @ np.ptp(X, axis=0) + np.ptp(y)
    rounding = np.max(8 * 2.0**-52 * terms / np.sqrt(model.noise_variance_))
    size = 1.0 + np.abs(bounds).max()
    assert np.all(np.diff(bounds) >= -1e-10 * size - rounding**2)
    assert np.all(np.diff(model.lower_bounds_) >= -1e-9 * size)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_objective_never_falls_with_a_link_function_or_a_neural_gate(lines):
    x, y = lines
    link = LinkFunction(lambda w: -((w[0] + w[1]) ** 2).sum() - (w**4).sum())
    for gate in ("constant", NeuralGate((5,), steps=5)):
        model = MixtureOfExperts(
            2, experts=PRIOR, gate=gate, prior_link=link, max_iter=30, tol=0.0, random_state=0
        )
        bounds = np.array(model.fit(x, y).lower_bounds_)
        assert np.all(np.diff(bounds) >= -1e-11 * np.abs(bounds[1:]))
        assert bounds[-1] > bounds[0]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_expert_that_dies_earns_nothing(rng):
    """More experts than the rows need must not look better by their number alone."""
    x = rng.uniform(-1.0, 1.0, size=(40, 1))
    y = x[:, 0] + 0.5 * rng.normal(size=40)
    bounds = [
        MixtureOfExperts(k, experts=PRIOR, init="random", random_state=0, max_iter=3000)
        .fit(x, y)
        .lower_bound_
        for k in (1, 2, 3, 4)
    ]
    assert max(np.diff(bounds)) < 0.1
    tiny = MixtureOfExperts(2, experts=PRIOR, random_state=0, max_iter=50)
    assert np.isfinite(tiny.fit(x, y, sample_weight=np.full(40, 1e-12)).coef_).all()


@pytest.mark.parametrize("backend", ["native", "numba", "reference"])
@pytest.mark.parametrize("gate", QUICK)
def test_backends_agree(require, backend, gate, lines):
    require(backend)
    x, y = lines
    fits = [
        MixtureOfExperts(2, gate=gate, init=(y > 0).astype(int), max_iter=500, backend=b).fit(x, y)
        for b in ("reference", backend)
    ]
    np.testing.assert_allclose(fits[1].coef_, fits[0].coef_, rtol=1e-6)
    np.testing.assert_allclose(fits[1].lower_bounds_, fits[0].lower_bounds_, rtol=1e-9)
    assert fits[1].backend_ == backend


def test_rows_of_two_arrays_are_rows_of_one(kernel_backend, rng):
    """place(X, y) against place([X, y]), types mixed, strides odd."""
    wide = rng.normal(size=(700, 11))
    for left, right in (
        (wide[:, :7], wide[:, 7:9]),
        (np.asfortranarray(wide[:, :5]), wide[:, [9]].astype(np.float32)),
        (wide[::2, 1:9].astype(np.float32), wide[::2, [0]].astype(np.float32)),
        (wide[:, :1], wide[:, 1:]),
    ):
        table = Table.of(kernel_backend, left, y=right)
        whole = np.hstack([left, right])
        one = kernel_backend.place(whole)
        quadratics = mixtura.quadratics.Quadratics(
            "rectangle", np.zeros(3), whole[:3].astype(float), rng.normal(size=(3, 2, whole.shape[1]))
        )
        joint = Joint(quadratics, np.zeros(3))
        arguments = (joint, "full", table.pivot)
        got = kernel_backend.expect(table.rows, *arguments)
        want = kernel_backend.expect(one, *arguments)
        # Both float32: the pivot is taken off in two float32 steps on the left, in one float64 step on the right.
        eps = 2.0**-52 if whole.dtype == np.float64 else 2.0**-23
        scale = np.abs(want.second).max()
        np.testing.assert_allclose(got.second, want.second, rtol=0.0, atol=8 * eps * scale)
        np.testing.assert_allclose(got.first, want.first, rtol=0.0, atol=8 * eps * scale)
        assert got.log_likelihood == pytest.approx(want.log_likelihood, rel=8 * eps)
        resp = rng.dirichlet(np.ones(3), len(whole))
        np.testing.assert_array_equal(
            kernel_backend.accumulate(table.rows, resp, "full", table.pivot).second,
            kernel_backend.accumulate(one, resp, "full", table.pivot).second,
        )
        np.testing.assert_array_equal(
            kernel_backend.log_joint(table.rows.block(13, 400), joint),
            kernel_backend.log_joint(kernel_backend.place(whole[13:400]), joint),
        )


def test_threads_do_not_matter(require, rng):
    require("native")
    X = rng.normal(size=(40_000, 5))
    y = np.where(X[:, 0] > 0, X[:, 1], -X[:, 2]) + 0.3 * rng.normal(size=40_000)
    for gate in ("constant", "softmax"):
        fits = [
            MixtureOfExperts(2, gate=gate, tol=1e-4, random_state=0, n_threads=n).fit(X, y) for n in (1, 2, 7)
        ]
        for other in fits[1:]:
            np.testing.assert_array_equal(other.coef_, fits[0].coef_)


@pytest.mark.parametrize("gate", QUICK)
@pytest.mark.parametrize("expert", [LinearExpert(), PRIOR], ids=["likelihood", "prior"])
def test_a_weight_is_a_repetition(gate, expert, lines, rng):
    x, y = lines
    labels, weights = (y > 0).astype(int), rng.integers(0, 3, size=300)
    x[weights == 0] = 1e3  # not looked at
    model = MixtureOfExperts(2, experts=expert, gate=gate, max_iter=30, tol=0.0)
    again = np.repeat(np.arange(300), weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        weighted = clone(model).set_params(init=labels).fit(x, y, sample_weight=weights)
        repeated = clone(model).set_params(init=labels[again]).fit(x[again], y[again])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-7)
    np.testing.assert_allclose(weighted.lower_bounds_, repeated.lower_bounds_, rtol=1e-9)


@pytest.mark.parametrize("gate", QUICK)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-6), (np.float32, 1e-3)])
def test_far_offsets_change_no_slope(gate, dtype, tolerance, lines):
    x, y = lines
    x = (np.round(x * 64.0) / 64.0).astype(dtype)  # exact at either place
    labels = (y > 0).astype(int)
    near, far = (
        MixtureOfExperts(2, gate=gate, init=labels).fit(x + dtype(o), y.astype(dtype)) for o in (0.0, 1e4)
    )
    np.testing.assert_allclose(far.coef_, near.coef_, rtol=tolerance)
    np.testing.assert_allclose(far.predict(x + dtype(1e4)), near.predict(x), atol=10 * tolerance)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("gate", ["constant", "softmax", NeuralGate(steps=5)])
def test_stochastic_em_finds_the_planes(planes, gate):
    X, y = planes
    for seed in range(3):
        model = MixtureOfExperts(
            2,
            algorithm="stochastic",
            gate=gate,
            fit_intercept=False,
            n_init=3,
            random_state=seed,
            max_iter=60,
        ).fit(X, y)
        order = np.argsort(-model.coef_[:, 0])
        assert np.abs(model.coef_[order] - [[10.0, 0.0], [0.0, 30.0]]).max() < 2.5
        assert model.lower_bound_ == max(model.lower_bounds_)


@pytest.mark.parametrize("gate", QUICK)
def test_densities_by_definition(gate, lines):
    x, y = lines
    model = MixtureOfExperts(2, gate=gate, noise="per-expert", init=(y > 0).astype(int)).fit(x, y)
    pi, means = model.predict_gate(x), model.predict_expert(x)[:, :, 0]
    np.testing.assert_allclose(pi.sum(axis=1), 1.0)
    joint = np.log(pi) + norm.logpdf(y[:, None], means, np.sqrt(model.noise_variance_))
    np.testing.assert_allclose(model.score_samples(x, y), logsumexp(joint, axis=1), rtol=1e-9)
    resp = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(model.responsibilities(x, y), resp, atol=1e-9)
    mean, std = model.predict(x, return_std=True)
    np.testing.assert_allclose(mean, np.sum(pi * means, axis=1))
    second = np.sum(pi * (means**2 + model.noise_variance_), axis=1)
    np.testing.assert_allclose(std, np.sqrt(second - mean**2), rtol=1e-6)
    drawn = np.stack([model.sample(x[:5], random_state=s) for s in range(4000)])
    assert np.abs((drawn.mean(axis=0) - mean[:5]) / (std[:5] / np.sqrt(4000))).max() < 5.0


def test_the_gates_learn_where_experts_live(lines):
    x, y = lines
    for gate in ("softmax", "gaussian", "neural"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = MixtureOfExperts(2, gate=gate, random_state=0, n_init=3, max_iter=60).fit(x, y)
        up = int(model.coef_[:, 0].argmax())
        pi = model.predict_gate([[-1.5], [1.5]])[:, up]
        assert pi[0] < 0.2 < 0.8 < pi[1], gate


@pytest.mark.parametrize("gate", ["softmax", "sparse", "constant"])
def test_warm_starts_go_on(gate, lines):
    x, y = lines
    model = MixtureOfExperts(2, gate=gate, max_iter=15, tol=0.0, random_state=0, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        before = model.fit(x, y).lower_bound_
        after = model.fit(x, y).lower_bound_
        assert after >= before - 1e-9
        # Changed options are obeyed.
        model.set_params(gate="dirichlet", noise="per-expert", experts=PRIOR, fit_intercept=False).fit(x, y)
    assert type(model.gate_) is DirichletGate
    np.testing.assert_array_equal(model.prior_covariance_, [[[10.0]]] * 2)
    np.testing.assert_allclose(model.intercept_, 0.0, atol=1e-12)


@pytest.mark.parametrize("gate", ["softmax", "gaussian"])
def test_a_warm_start_keeps_the_gate_unless_it_has_changed(gate, lines):
    """The first iteration's bound is that of the last parameters, gate included, or another."""
    x, y = lines
    model = MixtureOfExperts(2, gate=gate, max_iter=300, tol=1e-7, random_state=0, warm_start=True).fit(x, y)
    end = model.lower_bound_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        first = model.set_params(max_iter=1).fit(x, y).lower_bounds_[0]
        assert first == pytest.approx(end, abs=1e-5)
        anew = model.set_params(gate="constant").fit(x, y).lower_bounds_[0]
    assert abs(anew - end) > 0.05


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("two", [False, True], ids=["one target", "two targets"])
def test_files_and_pickles_give_back_the_model(gate, two, lines, tmp_path):
    x, y = lines
    y = np.column_stack([y, -y]) if two else y
    experts = [PRIOR, LinearExpert(prior_mean=1.0, prior_covariance=[2.0])]
    link = EqualMeans(0.5) if gate == "constant" else None
    model = MixtureOfExperts(
        experts=experts, gate=gate, prior_link=link, max_iter=5, random_state=0, empirical_bayes=True
    ).fit(x, y)
    mixtura.save(model, tmp_path / "m")
    for back in (mixtura.load(tmp_path / "m"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(back.predict(x), model.predict(x))
        np.testing.assert_array_equal(back.score_samples(x, y), model.score_samples(x, y))
        np.testing.assert_array_equal(back.coef_covariance_, model.coef_covariance_)
        np.testing.assert_array_equal(back.prior_covariance_, model.prior_covariance_)
        assert back.summary() == model.summary()
        assert back.lower_bounds_ == model.lower_bounds_


# ---------------------------------------------------------------------------------------------- gates and links


def test_softmax_gate_is_multinomial_logit(rng):
    """Given certain experts, the gate alone is a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    X = rng.normal(size=(500, 2)) * [1.0, 30.0] + [0.0, 100.0]
    logits = X @ [[1.0, -1.0, 0.0], [0.03, 0.0, -0.03]] - [3.0, 0.0, -3.0]
    labels = np.argmax(logits + rng.gumbel(size=(500, 3)), axis=1)
    y = 1000.0 * labels + rng.normal(size=500)
    model = MixtureOfExperts(3, gate=SoftmaxGate(l2=1e-8), init=labels, tol=1e-13).fit(X, y)
    wanted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit((X - X.mean(0)) / X.std(0), labels)
    want = wanted.predict_proba((X - X.mean(0)) / X.std(0))
    np.testing.assert_allclose(model.predict_gate(X), want, atol=1e-4)


def test_sparse_gate_predicts_for_new_rows(lines):
    x, y = lines
    model = MixtureOfExperts(2, gate=SparseGate(gamma=0.5), random_state=0).fit(x, y)
    np.testing.assert_allclose(model.predict_gate(x[:7]), np.tile(model.gate_.mean, (7, 1)))
    fixed = MixtureOfExperts(2, gate=SparseGate(mu=[3.0, 1.0]), random_state=0).fit(x, y)
    np.testing.assert_allclose(fixed.gate_.mean, [0.75, 0.25])


def test_equal_means_against_a_plain_solver(rng):
    """The link's linear system against the stacked normal equations."""
    K, D, a = 3, 2, np.array([0.5, 4.0])
    W, roots = rng.normal(size=(K, 1, D)), rng.normal(size=(K, D, D))
    P = roots @ roots.transpose(0, 2, 1) + np.eye(D)
    got = EqualMeans(a).maximize(np.zeros_like(W), P, W)
    whole = np.zeros((K * D, K * D))
    for k in range(K):
        for j in range(K):
            whole[k * D : (k + 1) * D, j * D : (j + 1) * D] = (
                P[k] + (K - 1) * np.diag(a) if k == j else -np.diag(a)
            )
    want = np.linalg.solve(whole, np.concatenate([P[k] @ W[k, 0] for k in range(K)])).reshape(K, 1, D)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_link_function_of_equal_means_is_equal_means(rng):
    W, P = rng.normal(size=(2, 1, 3)), np.stack([np.eye(3)] * 2)
    link = LinkFunction(lambda w: -0.5 * 0.7 * ((w[0] - w[1]) ** 2).sum())
    want = EqualMeans(0.7).maximize(W, P, W)
    np.testing.assert_allclose(link.maximize(W, P, W), want, atol=1e-7)


def test_the_equations_of_several_experts(rng):
    """Together they have each one's own solution, also where one of them has dependent columns."""
    X, Y = rng.normal(size=(4, 50, 3)) * [1.0, 30.0, 1e-3], rng.normal(size=(4, 50, 2))
    xx, xy = X.transpose(0, 2, 1) @ X, X.transpose(0, 2, 1) @ Y
    assert normal_equations._regular(xx, xy) is not None
    singular, nearly, constant = xx.copy(), xx.copy(), xx.copy()
    copied = X[2].copy()
    copied[:, 1] = copied[:, 0]
    singular[2] = copied.T @ copied
    copied[:, 1] += 1e-5 * X[2, :, 1]
    nearly[2] = copied.T @ copied
    constant[1, 2], constant[1, :, 2] = 0.0, 0.0
    for some in (singular, nearly, constant):
        assert normal_equations._regular(some, xy) is None
    for some in (xx, singular, nearly, constant):
        found = normal_equations.least_squares_each(some, xy)
        for k in range(len(some)):
            alone = least_squares(some[k], xy[k])
            np.testing.assert_allclose(found.slopes[k], alone.slopes, rtol=1e-10)
            np.testing.assert_allclose(found.inverse[k], alone.inverse, rtol=1e-10)
            np.testing.assert_allclose(found.explained[k], alone.explained, rtol=1e-10)
            assert (found.dependent[k], found.delicate[k]) == (alone.dependent, alone.delicate)
            # The condition is known, or estimated within a small factor.
            np.testing.assert_array_less(found.spoilt[k], 20.0 * alone.spoilt + 1e-300)
            np.testing.assert_array_less(alone.spoilt, 20.0 * found.spoilt[k] + 1e-300)


def test_least_squares_of_least_norm(rng):
    X = rng.normal(size=(50, 3))
    X = np.column_stack([X, X[:, 0], np.zeros(50)])
    y = rng.normal(size=(50, 1))
    found = least_squares(X.T @ X, X.T @ y)
    assert found.dependent
    assert not found.delicate  # copies and zeros leave nothing to be told
    np.testing.assert_allclose(found.explained, np.sum((X @ found.slopes.T) ** 2, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.slopes[0], np.linalg.pinv(X) @ y[:, 0], atol=1e-10)


# ------------------------------------------------------------------------------------------------ units and floors


@pytest.fixture
def regimes():
    """Two regressions on three columns with noise 1 : 100, of their own."""
    rng = np.random.default_rng(3)
    first = rng.uniform(size=500) < 0.4
    X = rng.normal(size=(500, 3))
    y = np.where(first, 5.0 + X @ [1.0, 2.0, 3.0], -X @ [2.0, 0.0, 1.0])
    return X, y + np.where(first, 0.1, 1e-3) * rng.normal(size=500)


def fitted(X, y, gate="constant", noise="per-expert", sample_weight=None):
    model = MixtureOfExperts(2, gate=gate, noise=noise, n_init=2, random_state=0)
    model.fit(X, y, sample_weight=sample_weight)
    order = np.argsort(model.weights_)
    return model.noise_variance_[order], model.coef_[order], model.predict_gate(X)[:, order]


@pytest.mark.parametrize("gate", ["constant", "softmax", "gaussian", "sparse"])
@pytest.mark.parametrize("scale", [1e-150, 1.6e-19, 1e10, 1e148])
def test_units_change_nothing(gate, scale, regimes):
    X, y = regimes
    noise, slopes, pi = fitted(X, y, gate)
    for x_scale, y_scale in ((1.0, scale), (scale, 1.0)):
        found = fitted(X * x_scale, y * y_scale, gate)
        # The fit ends where the objective gains less than 1e-9 a row: parameters are good to about its root.
        np.testing.assert_allclose(found[0] / y_scale / y_scale, noise, rtol=1e-5)
        np.testing.assert_allclose(found[1] * (x_scale / y_scale), slopes, atol=1e-6)
        np.testing.assert_allclose(found[2], pi, atol=1e-5)


@pytest.mark.parametrize("noise", ["shared", "per-expert"])
@pytest.mark.parametrize("offset", [2.46e6, 1.7e9])
def test_offsets_change_nothing(noise, offset, regimes):
    """Julian dates, seconds since 1970: only the digits that y is written with are lost, 2e-16 of the offset."""
    X, y = regimes
    plain = fitted(X, y, noise=noise)
    for found in (fitted(X, y + offset, noise=noise), fitted(X + offset, y, noise=noise)):
        np.testing.assert_allclose(found[0], plain[0], rtol=1e-4)
        np.testing.assert_allclose(found[1], plain[1], atol=1e-5)


@pytest.mark.parametrize("gap", [1e7, 1e10, 1e12])
def test_the_least_noise_is_not_that_of_regimes_far_apart(gap, rng):
    X = rng.normal(size=(400, 1))
    deviation = max(1e-2, 1e-14 * gap)
    y = X[:, 0] + np.where(np.arange(400) < 200, 0.0, gap) + deviation * rng.normal(size=400)
    noise, _, _ = fitted(X, y)
    np.testing.assert_allclose(noise, deviation**2 + (gap * 2.0**-52) ** 2 / 12, rtol=0.3)


def test_the_least_noise_is_not_that_of_an_outlier(rng):
    X = rng.normal(size=(200, 1))
    y = X[:, 0] + 1e-8 * rng.normal(size=200)
    y[0] = 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        noise, _, _ = fitted(X, y)
    np.testing.assert_allclose(noise[1], 1e-16, rtol=0.3)


def test_priors_have_units(rng):
    X = rng.uniform(-1.0, 1.0, size=(200, 2))
    y = X @ [1.0, 2.0] + 0.1 * rng.normal(size=200)
    noise = [
        MixtureOfExperts(1, experts=LinearExpert(prior_covariance=10.0 * s * s))
        .fit(X, y * s)
        .noise_variance_[0]
        / s
        / s
        for s in (1.0, 1e-90, 1e77, 1e100)
    ]
    np.testing.assert_allclose(noise, noise[0], rtol=1e-9)


def test_rows_of_weight_0_may_lie_anywhere(rng):
    X = rng.normal(size=(100, 2))
    for y in (X[:, 0], X[:, 0] + 0.1 * rng.normal(size=100)):
        model = MixtureOfExperts(2, random_state=0, max_iter=20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            want = model.fit(X, y).lower_bound_
            weights = np.append(np.ones(100), 0.0)
            got = model.fit(
                np.vstack([X, [[0.0, 0.0]]]), np.append(y, 1e150), sample_weight=weights
            ).lower_bound_
        assert got == pytest.approx(want, rel=1e-10)


def test_targets_that_are_met_exactly_have_the_noise_of_their_digits(rng):
    """Some rounding of y, in its own units; nothing absolute."""
    X = rng.normal(size=(100, 2))
    for scale in (1e-100, 1.0, 1e100):
        model = MixtureOfExperts(1).fit(X, scale * (X @ [1.0, -2.0]))
        assert 1e-24 < model.noise_variance_[0] / scale**2 < 1e-17
        np.testing.assert_allclose(model.coef_[0] / scale, [1.0, -2.0], rtol=1e-12)
    for constant in (0.0, 7.0):
        model = MixtureOfExperts(1).fit(X, np.full(100, constant))
        np.testing.assert_allclose(model.predict(X), constant, atol=1e-14)
        assert model.noise_variance_[0] > 0.0


@pytest.mark.parametrize("gate", ["constant", "softmax", "gaussian", "sparse"])
@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1e6, 1e30])
def test_a_common_factor_of_the_weights_changes_nothing(gate, factor, regimes, rng):
    X, y = regimes
    weights = rng.uniform(0.1, 2.0, size=len(y))
    for a, b in zip(
        fitted(X, y, gate, sample_weight=weights),
        fitted(X, y, gate, sample_weight=factor * weights),
        strict=True,
    ):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("gamma", [1e-6, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("share", [0.01, 0.3])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sparse_gates_live_with_rare_groups(gamma, share, rng):
    x = rng.normal(size=(1500, 1))
    rare = rng.uniform(size=1500) < share
    y = np.where(rare, 5.0 + 3.0 * x[:, 0], -x[:, 0]) + 0.1 * rng.normal(size=1500)
    labels = rare.astype(int)
    model = MixtureOfExperts(2, gate=SparseGate(gamma), init=labels, random_state=0, max_iter=50).fit(x, y)
    np.testing.assert_allclose(model.gate_.mean.sum(), 1.0, rtol=1e-12)
    if gamma <= 1.0:  # more of it makes shares of 1/2 likelier than any row can deny
        np.testing.assert_allclose(model.weights_, [1.0 - rare.mean(), rare.mean()], atol=2e-3)
        np.testing.assert_allclose(model.coef_[:, 0], [-1.0, 3.0], atol=0.2)


def test_sparse_gates_live_with_one_group(rng):
    x = rng.normal(size=(200, 2))
    with pytest.warns(ConvergenceWarning):
        model = MixtureOfExperts(2, gate="sparse", random_state=0).fit(x, 2.0 * x[:, 0])
    k = int(model.weights_.argmax())
    assert model.gate_.mean[k] > 0.99
    np.testing.assert_allclose(model.predict_expert(x)[:, k, 0], 2.0 * x[:, 0], atol=1e-8)


def test_masked_targets_are_refused(regimes):
    X, y = regimes
    masked = np.ma.masked_less(y, np.sort(y)[7])
    model = MixtureOfExperts(2, random_state=0)
    with pytest.raises(ValueError, match="Input y has masked values, which are missing: 7 masked"):
        model.fit(X, masked)
    model.fit(X, masked.data)
    for method in (model.score, model.score_samples, model.bic):
        with pytest.raises(ValueError, match="Input y has masked"):
            method(X, masked)


def test_weighted_criteria_are_those_of_repeated_rows(regimes, rng):
    X, y = regimes
    weights = rng.integers(0, 4, size=len(y))
    model = MixtureOfExperts(2, random_state=0).fit(X, y)
    again = np.repeat(X, weights, axis=0), np.repeat(y, weights)
    for criterion in (model.aic, model.bic, model.score):
        assert criterion(X, y, sample_weight=weights) == pytest.approx(criterion(*again), rel=1e-11)


# ------------------------------------------------------------------------------------------------------ bad input


def test_nothing_is_predicted_before_a_fit():
    for method in ("predict", "predict_gate", "predict_expert", "sample"):
        with pytest.raises(NotFittedError):
            getattr(MixtureOfExperts(), method)([[1.0]])
    with pytest.raises(NotFittedError):
        MixtureOfExperts().score_samples([[1.0]], [1.0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"experts": LinearExpert(prior_covariance=-1.0)}, "positive definite"),
        ({"experts": LinearExpert(prior_covariance=[[1.0, 2.0], [2.0, 1.0]])}, "smallest eigenvalue is -1"),
        ({"experts": LinearExpert(prior_covariance=[1.0, 1.0, 1.0])}, "shape"),
        ({"experts": LinearExpert(prior_mean=1.0)}, "needs a prior_covariance"),
        ({"experts": LinearExpert(prior_covariance=1.0, optimize=["noise"])}, "optimize takes names"),
        ({"experts": []}, "list of them"),
        ({"prior_link": EqualMeans()}, "at least two experts need one"),
        ({"prior_link": LinkFunction(lambda w: w), "experts": PRIOR}, "one number"),
        ({"prior_link": LinkFunction(lambda w: w.detach().sum()), "experts": PRIOR}, "differentiate"),
        ({"prior_link": LinkFunction(lambda w: 1e9 * (w**2).sum()), "experts": PRIOR}, "without bound"),
        ({"init": [0, 1]}, "not one for each"),
        ({"init": [0] * 40}, "no row is given to expert 1"),
        ({"init": [0, 2] * 20}, "experts from 0 to 1"),
        ({"init": [0.5] * 40}, "whole numbers"),
        ({"gate": DirichletGate(0.0)}, "positive"),
        ({"gate": DirichletGate([1.0, 1.0, 1.0])}, "shape"),
        ({"gate": SparseGate(gamma=-1.0)}, "positive"),
        ({"gate": SoftmaxGate(l2=-1.0)}, "l2"),
        ({"gate": GaussianGate(reg=np.nan)}, "reg"),
        ({"gate": NeuralGate(hidden=3)}, "hidden"),
        ({"gate": NeuralGate(device="nowhere")}, "device"),
        ({"gate": "soft"}, "gate"),
        ({"n_experts": 41}, "too few"),
    ],
)
def test_wrong_wishes_are_named(parameters, message, rng):
    X, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    with pytest.raises(ValueError, match=message):
        MixtureOfExperts(**parameters).fit(X, y)


def test_wrong_rows_are_named(rng):
    X, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    hole = X.copy()
    hole[3, 1] = np.nan
    with pytest.raises(ValueError, match="column 1 has 1 NaN"):
        MixtureOfExperts().fit(hole, y)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        MixtureOfExperts().fit(X, np.where(np.arange(40) == 2, np.nan, y))
    with pytest.raises(ValueError, match="inconsistent"):
        MixtureOfExperts().fit(X, y[:30])
    with pytest.raises(ValueError, match="n_samples=1"):
        MixtureOfExperts(1).fit(X[:1], y[:1])
    with pytest.raises(TypeError, match="function"):
        LinkFunction(3)
    model = MixtureOfExperts(random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :1])
    with pytest.raises(ValueError, match="y has shape"):
        model.score_samples(X, y[:5])


def test_degenerate_columns_warn_and_give_the_shortest_slopes(rng):
    X = rng.normal(size=(60, 1))
    X = np.column_stack([X, X, np.ones(60)])
    y = 2.0 * X[:, 0] + 0.1 * rng.normal(size=60)
    with pytest.warns(ConvergenceWarning, match="do not determine"):
        model = MixtureOfExperts(1).fit(X, y)
    np.testing.assert_allclose(model.coef_[0], [1.0, 1.0, 0.0], atol=0.05)
    assert model.coef_[0, 0] == pytest.approx(model.coef_[0, 1], rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MixtureOfExperts(1, experts=PRIOR).fit(X, y)


def test_an_expert_without_rows_is_dropped_and_said_so(rng):
    """Expert 1 begins with two rows of one line: the prior of the gate takes them away."""
    x = rng.uniform(-1.0, 1.0, size=(40, 1))
    start = np.zeros(40, dtype=int)
    start[:2] = 1
    model = MixtureOfExperts(2, gate=DirichletGate(1e-3), init=start, max_iter=3000, tol=1e-13)
    with pytest.warns(ConvergenceWarning, match="No rows are left for expert 1"):
        model.fit(x, x[:, 0] + rng.normal(size=40))
    assert model.weights_[1] < 1e-12
    assert np.isfinite(model.predict(x)).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_expert_of_one_row_has_no_slope(rng):
    """Its row may stand there four times, or weigh four: variances that are rounding tell of no slope."""
    X, y = rng.normal(size=(12, 5)) + 3.0, rng.normal(size=12)
    labels, weights = (np.arange(12) == 7).astype(int), np.where(np.arange(12) == 7, 4, 1)
    model = MixtureOfExperts(2, noise="per-expert", max_iter=0)
    for again in (
        clone(model).set_params(init=labels).fit(X, y, sample_weight=weights),
        clone(model).set_params(init=labels.repeat(weights)).fit(X.repeat(weights, 0), y.repeat(weights)),
    ):
        np.testing.assert_array_equal(again.coef_[1], 0.0)
        assert again.intercept_[1] == pytest.approx(y[7], rel=1e-14)


def test_torch_is_asked_for_by_name(monkeypatch, lines):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"mixtura\[torch\]"):
        MixtureOfExperts(gate="neural").fit(*lines)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_gates_are_values():
    assert repr(ConstantGate()) == "ConstantGate()"
    gate = SoftmaxGate(l2=0.5)
    MixtureOfExperts(2, gate=gate, max_iter=1, tol=1e9, random_state=0).fit([[0.0], [1.0], [3.0]], [0, 1, 5])
    assert gate.slope is None  # the user's own stays as it was


def test_callbacks_hear_of_experts_and_k_means(rng):
    """Each iteration of each run, with an estimator that predicts."""
    callback = pytest.importorskip("sklearn.callback")
    X = rng.normal(size=(200, 2))
    y = np.where(X[:, 0] > 0.0, X[:, 1], -X[:, 1]) + 0.1 * rng.normal(size=200)

    class Watch:
        def __init__(self):
            self.tasks = []

        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            self.tasks.append(context.task_name)

        def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
            if context.task_name == "iteration":
                assert np.isfinite(fitted_estimator.predict(X)).all()
            return False

    for model in (mixtura.KMeans(3, n_init=2, random_state=0), MixtureOfExperts(2, n_init=2, random_state=0)):
        watch = Watch()
        assert isinstance(watch, callback.FitCallback)
        model.set_callbacks(watch).fit(X, y)
        assert watch.tasks.count("initialization") == 2
        assert watch.tasks.count("iteration") >= model.n_iter_


def test_a_root_of_a_matrix_that_is_only_semidefinite(rng):
    root = rng.normal(size=(4, 2))
    found = root_of(root @ root.T)
    np.testing.assert_allclose(found @ found.T, root @ root.T, atol=1e-12)
    definite = root @ root.T + np.eye(4)
    np.testing.assert_allclose(np.tril(root_of(definite)), root_of(definite))


def test_learnt_priors_of_another_shape_are_refused(rng):
    x, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    ridge = LinearExpert(prior_mean=0.0, prior_covariance=1.0)
    priors = MixtureOfExperts(2, experts=ridge, tol=1.0).fit(x, y)._parameters.components.priors
    same = priors.restored(priors.mean + 1.0, 2.0 * priors.covariance)
    np.testing.assert_allclose(same.precision[same.present], 0.5 * priors.precision[priors.present])
    for mean, covariance in ((priors.mean[:1], priors.covariance), (priors.mean, priors.covariance[:1])):
        with pytest.raises(ValueError, match="priors of shape"):
            priors.restored(mean, covariance)


@pytest.mark.parametrize("gate", ["softmax", "constant"])
def test_slopes_of_nearly_equal_columns_far_from_the_middle(gate, rng):
    """What the experts' densities look at, the residuals, tells nothing of how thin the columns' cloud is."""
    x, side = rng.normal(size=(800, 3)), np.repeat([-1.0, 1.0], 400)
    x[:, 2] = x[:, 1] + 1e-3 * rng.normal(size=800)
    x[:, 1:] += 1e4 * side[:, None]
    slopes = np.array([1.0, -10.0, 10.0])
    y = side * (x @ slopes) + np.where(side > 0.0, 0.0, 3.0) + 0.1 * rng.normal(size=800)
    labels = (side > 0.0).astype(int)
    model = MixtureOfExperts(2, gate=gate, init=labels, random_state=0).fit(x, y)
    up = int(model.coef_[:, 0].argmax())
    for k, rows in ((up, side > 0.0), (1 - up, side < 0.0)):
        design = np.column_stack([x[rows] - x[rows].mean(axis=0), np.ones(400)])
        alone = np.linalg.lstsq(design, y[rows], rcond=None)[0][:3]
        assert np.abs(model.coef_[k] - alone).max() < 1e-4


@pytest.mark.parametrize(("noise", "of_noise"), [("shared", 2), ("per-expert", 6)])
@pytest.mark.parametrize("intercept", [False, True])
def test_parameters_of_several_targets(noise, of_noise, intercept, rng):
    x, labels = rng.normal(size=(300, 4)), np.repeat([0, 1, 2], 100)
    y = np.stack([labels + x[:, 0], labels - x[:, 1]], axis=1) + 0.1 * rng.normal(size=(300, 2))
    model = MixtureOfExperts(
        3, noise=noise, fit_intercept=intercept, init=labels, random_state=0, gate="constant"
    ).fit(x, y)
    assert model._parameters.components.n_parameters() == 3 * 2 * (4 + intercept) + of_noise


def two_planes(rows=400):
    rng = np.random.default_rng(0)
    x = rng.uniform(-3.0, 3.0, (rows, 2))
    return x, np.where(rng.random(rows) < 0.5, 1.0 + 2.0 * x[:, 0], -x[:, 0]) + 0.5 * rng.normal(size=rows)


def test_a_fit_that_fails_leaves_the_shape_of_the_last_one():
    x, y = two_planes()
    model = MixtureOfExperts(2, random_state=0).fit(x, y)
    before = model.coef_
    for how in ({"labels": [0]}, {"sample_weight": -np.ones(len(x))}):
        with pytest.raises(ValueError, match=r"labels|Negative"):
            model.fit(x, np.column_stack([y, y]), **how)
        np.testing.assert_array_equal(model.coef_, before)
        assert model.predict(x).shape == y.shape


@pytest.mark.parametrize("gate", ["gaussian", "softmax", "constant"])
def test_rows_that_are_too_far_for_a_prediction_are_told(gate):
    x, y = two_planes()
    model = MixtureOfExperts(2, gate=gate, max_iter=1000, random_state=0).fit(x, y)
    far = [[1e160, 1e160]]
    for ask in (
        lambda: model.predict(far, return_std=True),
        lambda: model.score_samples(far, [1e150]),
        lambda: model.responsibilities(far, [1e150]),
    ):
        with pytest.raises(ValueError, match="row 0 of X is so far from every expert"):
            ask()


def test_it_is_y_that_is_too_large():
    x, y = two_planes()
    model = MixtureOfExperts(2, random_state=0).fit(x, y)
    for ask in (
        lambda: MixtureOfExperts(2).fit(x, y * 1e200),
        lambda: model.score_samples(x[:1], [1e200]),
        lambda: model.responsibilities(x[:1], [1e200]),
    ):
        with pytest.raises(ValueError, match="some values of y are too large"):
            ask()


def test_the_second_fit_has_the_types_of_the_first():
    torch = pytest.importorskip("torch")
    x, y = (torch.tensor(values, dtype=torch.float32) for values in two_planes())
    model = MixtureOfExperts(2, random_state=0)
    for _ in range(2):
        assert model.fit(x, y).coef_.dtype == model.predict(x).dtype == torch.float32


def test_callbacks_get_the_targets():
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="r2")
    x, y = two_planes()
    MixtureOfExperts(2, random_state=0).set_callbacks(monitor).fit(x, y)
    assert "r2" in monitor.get_logs().data[-1]
