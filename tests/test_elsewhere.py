"""Statistics and factors that stay on a device between passes: they equal the host's, and read like any others."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from mixtura import GaussianMixture
from mixtura.backends.cuda import DeviceScatters
from mixtura.backends.device_matrices import DeviceFactors
from mixtura.backends.native import NativeBackend
from mixtura.components import COVARIANCES, Gaussians
from mixtura.components.estimation import Estimation
from mixtura.elsewhere import Computed, PartlyElsewhere
from mixtura.factorize import IllDefinedCovarianceError
from mixtura.gates.constant import ConstantGate
from mixtura.mixture import Mixture
from mixtura.moments import Moments, inverse_norms
from mixtura.quadratics import Quadratics
from mixtura.table import Table

EPS = float(np.finfo(np.float64).eps)
K, D, N = 20, 28, 900


@pytest.fixture(params=["emulated-warpgroups", "cuda"])
def backend(request, require):
    """A backend on a device that multiplies by warpgroups."""
    found = require(request.param)
    if request.param == "cuda" and found.module().describe().find("capability 9.0") < 0:
        pytest.skip("this device has no warpgroups")
    return found


@pytest.fixture
def X(rng):  # noqa: N802
    return rng.normal(size=(N, D)).astype(np.float32)


def mixture(rng, estimation=None):
    """K overlapping Gaussians of K different matrices."""
    factors = np.triu(0.1 * rng.normal(size=(K, D, D))) + np.eye(D)
    precisions = factors @ factors.transpose(0, 2, 1)
    gaussians = Gaussians.from_precisions(
        COVARIANCES["full"], 0.5 * rng.normal(size=(K, D)), precisions, estimation or Estimation(0.5)
    )
    return Mixture(ConstantGate(weights=np.full(K, 1.0 / K)), gaussians)


def table(backend, X):
    placed = backend.place(X)
    return Table(backend, placed, X.mean(axis=0, dtype=np.float64), placed.X)


@pytest.fixture
def step(backend, X, rng):
    """Statistics on the device, and the mixture that they give."""
    model = mixture(rng)
    found = model.expect(table(backend, X))
    return found, model.maximize(found)


def test_an_iteration_leaves_matrices_where_they_are(step, backend, X, monkeypatch):
    found, model = step
    assert isinstance(found.moments.elsewhere("second"), DeviceScatters)
    for kind in (DeviceScatters, DeviceFactors):
        monkeypatch.setattr(kind, "brought", lambda self: pytest.fail("brought to the host"))
    rows = table(backend, X)
    for _ in range(3):
        found = model.expect(rows)
        assert found.is_finite()
        model = model.maximize(found)
    assert model.components.elsewhere("covariances") is not None
    assert model.components.elsewhere("precisions_cholesky") is not None


def test_matrices_equal_the_hosts(step):
    found, model = step
    moments = found.moments
    about, of_means = moments.squares()
    gaussians = model.components
    away = gaussians.elsewhere("precisions_cholesky").factors
    host = replace(moments)  # copies all arrays to the host
    assert host.elsewhere("second") is None
    assert host.second.shape == (K, D * (D + 1) // 2)
    want_about, want_of_means = host.squares()
    np.testing.assert_array_equal(about, want_about)
    np.testing.assert_array_equal(of_means, want_of_means)
    want = Gaussians.from_moments(COVARIANCES["full"], host, Estimation(0.5))
    np.testing.assert_array_equal(gaussians.covariances, want.covariances)
    # A factor's relative error is about the condition of its matrix, which is below 100 here.
    tolerance = 100 * D * EPS * np.abs(want.precisions_cholesky).max()
    np.testing.assert_allclose(
        gaussians.precisions_cholesky, want.precisions_cholesky, rtol=0, atol=tolerance
    )
    np.testing.assert_allclose(away.log_determinants, want.quadratics.offsets + 0.5 * D * np.log(2 * np.pi))
    assert gaussians.elsewhere("precisions_cholesky") is None


def test_an_iteration_equals_the_native_one(backend, X, rng):
    model = here = mixture(rng)
    native = NativeBackend()
    rows, host = table(backend, X), table(native, X)
    for _ in range(3):
        there = model.expect(rows)
        want = here.expect(host)
        # Sums of float32 products: a few eps of the log-density, which is about D.
        assert there.objective == pytest.approx(want.objective, rel=1e-6)
        model, here = model.maximize(there), here.maximize(want)
    np.testing.assert_allclose(model.components.means, here.components.means, atol=1e-4)
    np.testing.assert_allclose(model.components.covariances, here.components.covariances, atol=1e-3)


def test_what_the_host_asks_of_factors(step, rng):
    _, model = step
    quadratics = model.components.quadratics
    away = quadratics.elsewhere("factors")
    vectors, around = rng.normal(size=(K, D)), rng.uniform(0.5, 2.0, size=D)
    widths = around + vectors**2
    lengths, norms, bounds = quadratics.lengths(vectors), away.norms(widths), away.widths(around, vectors)
    F = quadratics.factors
    assert quadratics.elsewhere("factors") is None
    np.testing.assert_allclose(lengths, np.sum((F @ vectors[:, :, None]) ** 2, axis=(1, 2)), rtol=D * EPS)
    np.testing.assert_allclose(lengths, quadratics.lengths(vectors), rtol=D * EPS)
    squares = F**2
    np.testing.assert_allclose(bounds[0], (squares @ widths[:, :, None]).max(), rtol=D * EPS)
    np.testing.assert_allclose(bounds[1:], (squares.sum(2).min(), squares.sum(2).max()), rtol=D * EPS)
    G = np.abs(F * np.sqrt(widths)[:, None, :])
    want = np.minimum((G**2).sum((1, 2)), G.sum(1).max(1) * G.sum(2).max(1))
    np.testing.assert_allclose(norms, want, rtol=D * EPS)
    assert np.all(norms >= np.linalg.norm(F * np.sqrt(widths)[:, None, :], 2, axis=(1, 2)) ** 2)


def test_components_away_from_the_pivot(step):
    """The check for lost digits asks the device for a bound, and gets what the host finds or more."""
    found, _ = step
    moments = found.moments
    bounds = moments._collinearity(np.arange(K), 0.5, np.full(K, 1e9))
    assert moments.elsewhere("second") is not None
    # Where the bound is not good enough, the matrices are looked at.
    exact = moments._collinearity(np.arange(K), 0.5, np.zeros(K))
    assert moments.elsewhere("second") is None
    covariances = moments._scatters(np.arange(K), 0.5)
    np.testing.assert_allclose(exact, inverse_norms(covariances))
    largest = 1.0 / np.linalg.eigvalsh(correlations(covariances))[:, 0]
    assert np.all(bounds >= largest * (1 - 1e-9))


def correlations(covariances):
    deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    return covariances / deviations[:, :, None] / deviations[:, None, :]


def test_a_covariance_that_is_not_definite(backend, X, rng):
    X[:, 3] = X[:, 2]
    model = mixture(rng, Estimation())
    found = model.expect(table(backend, X))
    assert found.moments.elsewhere("second") is not None
    with pytest.raises(IllDefinedCovarianceError):
        Gaussians.from_moments(COVARIANCES["full"], found.moments.added(-np.tile(np.eye(D), (K, 1, 1))))
    found = model.expect(table(backend, X))
    away = found.moments.elsewhere("second")
    assert away.factors(found.moments.mass, -10.0) is None
    assert away.factors(found.moments.mass, 1.0) is not None
    model = replace(model, components=replace(model.components, estimation=Estimation(-10.0)))
    with pytest.raises(IllDefinedCovarianceError):
        model.maximize(found)


def test_statistics_that_are_not_finite(backend, X, rng):
    X[7, 2] = np.nan
    assert not mixture(rng).expect(table(backend, X)).is_finite()


def test_factors_of_another_table_and_in_doubles(step, backend, X):
    _, model = step
    joint = model.joint
    others = [table(backend, X[:500]), table(backend.doubled(), X), table(NativeBackend(), X)]
    assert joint.quadratics.elsewhere("factors") is not None
    found = [t.expect(replace(joint, quadratics=model.components.quadratics), "full") for t in others]
    host = replace(joint, quadratics=replace(joint.quadratics))
    for t, got in zip(others, found, strict=True):
        assert got.log_likelihood == pytest.approx(t.expect(host, "full").log_likelihood, rel=1e-12)


def test_predictions_with_factors_that_are_elsewhere(step, backend, X):
    _, model = step
    rows = backend.place(X)
    joint = model.joint
    labels, _ = backend.assign(rows, joint)
    host = replace(joint, quadratics=replace(model.components.quadratics))
    np.testing.assert_array_equal(labels, backend.assign(rows, host)[0])


def test_buffers_are_used_again(step, backend, X):
    """Memory on the device does not grow from one iteration to the next."""
    if backend.name == "cuda":
        pytest.skip("only the emulated device counts its bytes")
    module, model, rows = backend.module(), step[1], table(backend, X)
    bytes_used = []
    for _ in range(12):
        model = model.maximize(model.expect(rows))
        bytes_used.append(module.emulated_allocated())
    assert bytes_used[6] == bytes_used[-1]


def test_copies_and_files_have_the_arrays(step):
    found, model = step
    for thing, name in ((found.moments, "second"), (model.components, "covariances")):
        assert thing.elsewhere(name) is not None
        again = pickle.loads(pickle.dumps(thing))
        assert again.elsewhere(name) is None
        np.testing.assert_array_equal(getattr(again, name), getattr(thing, name))
    quadratics = model.components.quadratics
    np.testing.assert_array_equal(copy.deepcopy(quadratics).factors, quadratics.factors)


def test_a_fit_ends_with_arrays(backend, X):
    """Whatever stayed elsewhere during a fit, its attributes are arrays, and equal a fit on the host."""
    options = {"n_components": K, "reg_covar": 0.5, "max_iter": 4, "tol": 0.0, "random_state": 0}
    with pytest.warns(UserWarning, match="did not converge"):
        there = GaussianMixture(backend=backend.name, **options).fit(X)
    with pytest.warns(UserWarning, match="did not converge"):
        here = GaussianMixture(backend="native", **options).fit(X)
    assert there.lower_bound_ == pytest.approx(here.lower_bound_, rel=1e-6)
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        assert type(getattr(there, name)) is np.ndarray
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), atol=1e-3)


def test_what_is_not_there_is_no_attribute():
    moments = Moments.of(np.ones((3, 2)), "full")
    assert moments.elsewhere("second") is None
    with pytest.raises(AttributeError, match="'Moments' object has no attribute 'third'"):
        _ = moments.third
    assert issubclass(Quadratics, PartlyElsewhere)


def test_an_array_is_brought_once():
    calls = []
    lazy = Computed(lambda: calls.append(1) or np.ones((2, 3)))
    moments = Moments("full", np.zeros(2), np.ones(2), np.zeros((2, 2)), lazy)
    assert not calls
    assert moments.second is moments.second
    assert calls == [1]
