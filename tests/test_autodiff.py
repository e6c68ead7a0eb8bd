"""Derivatives of log-likelihoods: forward and reverse mode, torch, and 50 digits agree."""

import mpmath
import numpy as np
import pytest

from mixtura import GaussianMixture, LinearExpert, MixtureOfExperts
from mixtura import autodiff as ad
from mixtura.backends.base import Rows
from mixtura.backends.derivatives import Derivatives
from mixtura.distributions import Mixture
from mixtura.parametric import ParametricMixture, packed_scales

TYPES = ("full", "tied", "diag", "spherical")
FORMS = {"full": "triangle", "tied": "triangle", "diag": "diagonal", "spherical": "scalar"}


def model_of(rng, covariance_type, K, D, offset=0.0, backend="auto"):
    """A mixture with random parameters that is at no maximum, and rows near it."""
    X = rng.normal(size=(120, D)) + 2.0 * rng.integers(0, 3, size=(120, 1)) + offset
    gm = GaussianMixture(
        K, covariance_type=covariance_type, max_iter=0, random_state=0, init_params="random", backend=backend
    ).fit(X)
    parameters = ad.Parameters.of(gm)
    theta = parameters.theta + rng.normal(scale=0.3, size=len(parameters))
    return parameters.at(theta), X


def experts_of(rng, gate, noise, M, intercept=True, offset=0.0):
    X = rng.normal(size=(150, 2)) + offset
    s = rng.integers(0, 2, 150)
    Y = (X - offset) @ rng.normal(size=(2, M)) * np.where(s, 1, -1)[:, None] + 0.5 * rng.normal(size=(150, M))
    moe = MixtureOfExperts(
        2, gate=gate, noise=noise, fit_intercept=intercept, random_state=0, max_iter=3
    ).fit(X, Y)
    parameters = ad.Parameters.of(moe)
    scale = 1e-2 / max(offset, 1.0)
    theta = parameters.theta * (1.0 + rng.normal(scale=scale, size=len(parameters)))
    return parameters.at(theta), X, Y


def assert_near(got, want, rtol):
    size = np.abs(want).max()
    np.testing.assert_allclose(got, want, rtol=0.0, atol=rtol * size)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)  # torch's own use of it
@pytest.mark.parametrize("seed", range(50))
def test_forward_reverse_and_torch_agree(seed, require):
    require("native")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    kind = TYPES[seed % 4]
    K, D = int(rng.integers(1, 7)), int(rng.integers(1, 9))
    offset, rtol = (1e6, 1e-8) if seed % 6 == 5 else (0.0, 1e-10)
    parameters, X = model_of(rng, kind, K, D, offset)
    w = rng.uniform(0.0, 2.0, len(X))
    value, gradient = ad.value_and_grad(parameters, X, w)
    H = ad.hessian(parameters, X, w)

    m, x = parameters.mixture, torch.tensor(X)
    weights = torch.tensor(w)

    def total(theta):
        odds = torch.cat([theta[: K - 1], torch.zeros(1, dtype=theta.dtype)])
        means = theta[m.gate_size : m.gate_size + K * D].reshape(K, D)
        scales = theta[m.gate_size + K * D :].reshape(m.scale_count, m.scale_row)
        scales = scales.expand(K, m.scale_row)
        if kind in ("full", "tied"):
            i, j = np.tril_indices(D)
            base = torch.zeros(K, D, D, dtype=theta.dtype)
            L = base.index_put(
                (torch.arange(K)[:, None], torch.tensor(i)[None], torch.tensor(j)[None]), scales
            )
            diagonal = L.diagonal(dim1=-2, dim2=-1)
            L = L - torch.diag_embed(diagonal) + torch.diag_embed(diagonal.exp())
        else:
            L = torch.diag_embed(scales.expand(K, D).exp())
        away = x[:, None] - means
        z = torch.linalg.solve_triangular(L, away.permute(1, 2, 0), upper=False).permute(2, 0, 1)
        log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        joint = torch.log_softmax(odds, 0) - log_det - 0.5 * (z**2).sum(-1) - 0.5 * D * np.log(2 * np.pi)
        return (weights * torch.logsumexp(joint, 1)).sum()

    theta = torch.tensor(parameters.theta)
    assert value == pytest.approx(float(total(theta)), rel=1e-12)
    assert_near(gradient, torch.func.grad(total)(theta).numpy(), rtol)
    forward = ad.value_and_grad(parameters, X, w, mode="forward")[1]
    assert_near(forward, gradient, rtol)
    assert_near(ad.hessian(parameters, X, w, mode="forward"), H, rtol)
    if len(theta) <= 60:
        assert_near(H, torch.func.hessian(total)(theta).numpy(), rtol)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("kind", TYPES)
def test_answers_about_rows_agree(kind, offset, backend, rng):
    for K, D in ((1, 1), (3, 2), (2, 9)):
        parameters, X = model_of(rng, kind, K, D, offset, backend.name)
        rtol = 1e-10 if offset == 0.0 else 1e-8
        J, c = ad.jacobian(parameters, X), rng.normal(size=len(X))
        direction = rng.normal(size=len(parameters))
        assert_near(ad.jvp(parameters, X, direction), J @ direction, rtol)
        assert_near(ad.vjp(parameters, X, c), c @ J, rtol)
        assert_near(ad.value_and_grad(parameters, X)[1], J.sum(axis=0), rtol)
        assert_near(ad.grad_x(parameters, X, mode="forward"), ad.grad_x(parameters, X), rtol)
        assert_near(ad.hessian_x(parameters, X, mode="forward"), ad.hessian_x(parameters, X), rtol)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("noise", ["shared", "per-expert"])
@pytest.mark.parametrize("gate", ["constant", "softmax"])
def test_experts(gate, noise, targets, offset, rng):
    for intercept in (True, False):
        parameters, X, Y = experts_of(rng, gate, noise, targets, intercept, offset)
        w = rng.uniform(0.0, 2.0, len(X))
        rtol = 1e-9 if offset == 0.0 else 1e-7
        value, gradient = ad.value_and_grad(parameters, X, w, y=Y)
        forward = ad.value_and_grad(parameters, X, w, y=Y, mode="forward")
        assert value == pytest.approx(forward[0], rel=1e-10)
        assert_near(gradient, forward[1], rtol)
        of_reference = Derivatives().forward_sums(parameters.mixture, Rows(X, Y), w)
        for got, want in zip(of_reference[:2], forward, strict=True):
            assert_near(got, want, 1e-10)
        assert_near(w @ ad.jacobian(parameters, X, y=Y), forward[1], rtol)
        assert_near(
            ad.hessian(parameters, X, w, y=Y), ad.hessian(parameters, X, w, y=Y, mode="forward"), rtol
        )
        assert_near(ad.grad_x(parameters, X, y=Y), ad.grad_x(parameters, X, y=Y, mode="forward"), rtol)
        assert_near(ad.hessian_x(parameters, X, y=Y), ad.hessian_x(parameters, X, y=Y, mode="forward"), rtol)
        moved = parameters.to_model()
        assert_near(ad.Parameters.of(moved).theta, parameters.theta, 1e-12)
        assert w @ moved.score_samples(X, Y) == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize("form", ["scalar", "diagonal", "triangle"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("K", "Q", "M", "softmax"), [(1, 0, 1, False), (4, 0, 9, False), (3, 2, 2, True), (2, 3, 1, False)]
)
def test_native_equals_the_reference(require, form, shared, K, Q, M, softmax, rng):
    require("native")
    from mixtura import _native
    from mixtura.backends.native_derivatives import NativeDerivatives

    shape = ParametricMixture(
        K, Q, M, form, np.zeros(_size(K, Q, M, form, shared, softmax)), softmax=softmax, shared=shared
    )
    m = shape.at(0.5 * rng.normal(size=shape.size))
    Z = rng.normal(size=(1050, Q + M)).astype(np.float32)
    for rows in (Rows(Z), Rows(Z[:, :Q], np.asfortranarray(Z[:, Q:].astype(np.float64)))):
        want = Derivatives().adjoints(m, rows, resp=True, scores=True, gradient=True, hessian=True)
        kept = _native.instruction_set()
        try:
            for name in _native.instruction_sets():
                _native.set_instruction_set(name)
                answers = [
                    NativeDerivatives(n).adjoints(
                        m, rows, resp=True, scores=True, gradient=True, hessian=True
                    )
                    for n in (1, 3)
                ]
                for field in ("density", "resp", "scores", "gradient", "hessian"):
                    first, other = (getattr(answer, field) for answer in answers)
                    assert_near(first, getattr(want, field), 1e-12)
                    np.testing.assert_array_equal(first, other)  # whatever the number of threads
        finally:
            _native.set_instruction_set(kept)


def _size(K, Q, M, form, shared, softmax):
    scale = {"scalar": 1, "diagonal": M, "triangle": M * (M + 1) // 2}[form]
    return (K - 1) * (1 + Q if softmax else 1) + K * M * (1 + Q) + (1 if shared else K) * scale


def test_the_reference_equals_fifty_digits(rng):
    K, D = 2, 2
    theta = np.concatenate([[0.3], rng.normal(size=4), [0.1, -0.4, -0.2, 0.2, 0.5, 0.0]])
    m = ParametricMixture(K, 0, D, "triangle", theta)
    X = rng.normal(size=(6, D)) * 3
    mpmath.mp.dps = 50

    def total(*t):
        t = [mpmath.mpf(v) for v in t]
        log_w = [t[0] - mpmath.log(1 + mpmath.exp(t[0])), -mpmath.log(1 + mpmath.exp(t[0]))]
        out = mpmath.mpf(0)
        for x in X:
            parts = []
            for k in range(K):
                a, b, c = t[5 + 3 * k : 8 + 3 * k]
                z0 = (mpmath.mpf(float(x[0])) - t[1 + 2 * k]) / mpmath.exp(a)
                z1 = (mpmath.mpf(float(x[1])) - t[2 + 2 * k] - b * z0) / mpmath.exp(c)
                parts.append(log_w[k] - a - c - mpmath.log(2 * mpmath.pi) - (z0**2 + z1**2) / 2)
            out += mpmath.log(sum(mpmath.exp(p) for p in parts))
        return out

    gradient, H = np.zeros(m.size), np.zeros((m.size, m.size))
    point = [mpmath.mpf(float(v)) for v in theta]
    for i in range(m.size):
        orders = [0] * m.size
        orders[i] = 1
        gradient[i] = float(mpmath.diff(total, point, tuple(orders)))
        for j in range(i + 1):
            orders = [0] * m.size
            orders[i] += 1
            orders[j] += 1
            H[i, j] = H[j, i] = float(mpmath.diff(total, point, tuple(orders)))
    mixture = Mixture.of_choleskys(np.exp(m.log_weights), m.coefficients[:, :, 0], m.choleskys)
    for mode in ("reverse", "forward"):
        assert_near(ad.value_and_grad(mixture, X, mode=mode)[1], gradient, 1e-13)
        assert_near(ad.hessian(mixture, X, mode=mode), H, 1e-12)
    value, of_reference, second = Derivatives().forward_sums(m, Rows(X), None)
    assert value == pytest.approx(float(total(*point)), rel=1e-14)
    assert_near(of_reference, gradient, 1e-13)
    assert_near(second, H, 1e-12)


def test_parameters_are_in_the_stated_order():
    mixture = Mixture([0.2, 0.8], [[1.0, 2.0], [3.0, 4.0]], [[[4.0, 2.0], [2.0, 5.0]], np.eye(2)])
    parameters = ad.Parameters.of(mixture)
    want = [np.log(0.25), 1.0, 2.0, 3.0, 4.0, np.log(2.0), 1.0, np.log(2.0), 0.0, 0.0, 0.0]
    np.testing.assert_allclose(parameters.theta, want, atol=1e-15)
    assert parameters.names == [
        "log_odds[0]", "mean[0, x0]", "mean[0, x1]", "mean[1, x0]", "mean[1, x1]",
        "log_cholesky[0, x0, x0]", "cholesky[0, x1, x0]", "log_cholesky[0, x1, x1]",
        "log_cholesky[1, x0, x0]", "cholesky[1, x1, x0]", "log_cholesky[1, x1, x1]",
    ]  # fmt: skip
    assert len(parameters) == 11
    np.testing.assert_allclose(parameters.to_model().covariances, mixture.covariances, atol=1e-15)
    np.testing.assert_array_equal(packed_scales("diagonal", np.eye(2)[None] * 2.0), np.log([[2.0, 2.0]]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", TYPES)
def test_parameters_make_models(kind, rng):
    parameters, X = model_of(rng, kind, 3, 4)
    model = parameters.to_model()
    assert_near(ad.Parameters.of(model).theta, parameters.theta, 1e-13)
    assert ad.value_and_grad(model, X)[0] == pytest.approx(model.score_samples(X).sum(), rel=1e-12)
    assert model.predict(X).shape == (len(X),)
    np.testing.assert_allclose(
        model._covariance.storage.precisions(model.precisions_cholesky_), model.precisions_, rtol=1e-12
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rows_of_weight_zero_do_not_count(rng):
    parameters, X = model_of(rng, "full", 2, 3)
    w = np.ones(len(X))
    w[[3, 70]] = 0.0
    dirty = X.copy()
    dirty[3] = 1e200  # its square overflows
    dirty[70] = -1e250
    kept = w > 0
    for f in (ad.value_and_grad, ad.hessian):
        for mode in ("reverse", "forward"):
            got, want = f(parameters, dirty, w, mode=mode), f(parameters, X[kept], mode=mode)
            got, want = (answer if isinstance(answer, tuple) else (answer,) for answer in (got, want))
            for a, b in zip(got, want, strict=True):
                assert_near(a, b, 1e-12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_float32_rows_are_summed_in_float64(rng):
    parameters, X = model_of(rng, "full", 3, 4)
    X = X.astype(np.float32)
    got, want = (ad.value_and_grad(parameters, rows)[1] for rows in (X, X.astype(np.float64)))
    assert_near(got, want, 1e-12)


def test_far_components_keep_their_digits(rng):
    """Components a million of their deviations apart: moments about a common pivot would keep no digit."""
    means = np.array([[0.0, 0.0], [1e4, 0.0], [0.0, 1e4]])
    mixture = Mixture(np.full(3, 1 / 3), means, np.stack([1e-4 * np.eye(2)] * 3))
    X = mixture.sample(300, seed=0)
    got = ad.value_and_grad(mixture, X)[1]
    assert_near(got, ad.jacobian(mixture, X).sum(axis=0), 1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_bad_input(rng):
    parameters, X = model_of(rng, "full", 2, 2)
    with pytest.raises(TypeError, match="got int"):
        ad.value_and_grad(3, X)
    with pytest.raises(Exception, match="not fitted"):
        ad.value_and_grad(GaussianMixture(2), X)
    with pytest.raises(ValueError, match="mode"):
        ad.hessian(parameters, X, mode="backward")
    with pytest.raises(ValueError, match=r"direction has shape \(3,\)"):
        ad.jvp(parameters, X, np.ones(3))
    with pytest.raises(ValueError, match=r"cotangent\[0\] is not finite"):
        ad.vjp(parameters, X, np.full(len(X), np.nan))
    with pytest.raises(ValueError, match="leave y out"):
        ad.value_and_grad(parameters, X, y=X[:, 0])
    with pytest.raises(ValueError, match=r"theta has shape \(2,\)"):
        parameters.at([1.0, 2.0])
    with pytest.raises(ValueError, match=r"theta\[0\] is not finite"):
        parameters.at(np.full(len(parameters), np.inf))
    bad = X.copy()
    bad[5, 1] = np.nan
    for f in (ad.value_and_grad, ad.hessian, ad.jacobian, ad.grad_x, ad.hessian_x):
        with pytest.raises(ValueError, match="NaN"):
            f(parameters, bad)
    with pytest.raises(ValueError, match="cannot be represented"):
        ad.value_and_grad(parameters, X * 1e200)
    gm = parameters.to_model()
    gm.weights_ = np.array([1.0, 0.0])
    with pytest.raises(ValueError, match="weight of component 1 is 0"):
        ad.value_and_grad(gm, X)
    y = X @ [1.0, 2.0]
    dirichlet = MixtureOfExperts(2, gate="dirichlet", max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="dirichlet gate"):
        ad.value_and_grad(dirichlet, X, y=y)
    prior = MixtureOfExperts(2, experts=LinearExpert(prior_covariance=1.0), max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="prior"):
        ad.value_and_grad(prior, X, y=y)
    plain = MixtureOfExperts(2, max_iter=1, random_state=0).fit(X, y + rng.normal(size=len(y)))
    with pytest.raises(ValueError, match="pass y as well"):
        ad.value_and_grad(plain, X)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_curvature_far_from_all_components(backend, require):
    """There it is that of the nearest component, to all digits."""
    require(backend)
    X = np.random.default_rng(0).normal(size=(100, 2))
    gm = GaussianMixture(1, random_state=0, backend=backend).fit(X)
    for far in (0.0, 1e4, 1e8, 1e10):
        got = ad.hessian_x(gm, [[far, 0.7 * far]])[0]
        np.testing.assert_allclose(got, -gm.precisions_[0], rtol=1e-9)
    two = GaussianMixture(2, random_state=0, backend=backend).fit(np.r_[X, X + 20.0])
    nearest = two.predict([[1e8, 1e8]])[0]
    np.testing.assert_allclose(ad.hessian_x(two, [[1e8, 1e8]])[0], -two.precisions_[nearest], rtol=1e-9)
