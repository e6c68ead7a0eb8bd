"""Statistics and factors that stay on a device between passes: they equal the host's, and read like any others."""

import copy
import pickle
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from mixtura import GaussianMixture
from mixtura.backends.cuda import DeviceScatters
from mixtura.backends.device_matrices import DeviceFactors
from mixtura.backends.native import NativeBackend
from mixtura.components import COVARIANCES, Gaussians
from mixtura.components.covariances import Diagonal, Full
from mixtura.components.estimation import Estimation
from mixtura.components.storage import Matrices
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
    lengths, bounds = quadratics.lengths(vectors), away.widths(around, vectors)
    norms, close = away.norms(widths, False), away.norms(widths, True)
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
    scaled = F * np.sqrt(widths)[:, None, :]
    exact = np.linalg.norm(scaled, 2, axis=(1, 2)) ** 2
    assert np.all(norms >= exact)
    np.testing.assert_allclose(close, np.abs(np.swapaxes(scaled, 1, 2) @ scaled).sum(2).max(1), rtol=D * EPS)
    assert np.all(close >= exact * (1 - D * EPS))


def test_components_away_from_the_pivot(step):
    """The check for lost digits asks the device for a bound, and gets what the host finds or more."""
    found, _ = step
    moments = found.moments
    bounds = moments._collinearity(np.arange(K), 0.5, np.full(K, 1e9))
    # Where the bound is not good enough, the device looks more closely.
    exact = moments._collinearity(np.arange(K), 0.5, np.zeros(K))
    assert moments.elsewhere("second") is not None
    covariances = moments._scatters(np.arange(K), 0.5)
    np.testing.assert_allclose(exact, inverse_norms(covariances), rtol=1e-9)
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


def test_separated_clusters_stay_there_too(backend, rng, monkeypatch):
    """Means three spreads from the pivot in every column: digits are checked without the matrices."""
    centers = 3.0 * rng.choice([-1.0, 1.0], size=(K, D))
    X = (np.repeat(centers, 100, axis=0) + rng.normal(size=(100 * K, D))).astype(np.float32)
    model, rows = mixture(rng), table(backend, X)
    model = replace(model, components=replace(model.components, means=centers))
    for kind in (DeviceScatters, DeviceFactors):
        monkeypatch.setattr(kind, "brought", lambda self: pytest.fail("brought to the host"))
    for _ in range(3):
        model = model.maximize(model.expect(rows))
    assert model.components.elsewhere("covariances") is not None


def test_moments_about_own_pivots_come_at_once(backend, X, rng):
    model = mixture(rng)
    rows = table(backend, X)
    every = np.ones(K, dtype=bool)
    moments = backend.expect_each(rows.rows, model.joint, "full", model.components.means, every)
    assert moments.elsewhere("second") is None


@pytest.mark.parametrize("megabytes", range(6, 14, 2))
def test_without_room_for_what_stays(megabytes, require, rng):
    """A device on which a fit just fits keeps no matrices rather than fail."""
    backend = require("emulated-warpgroups")
    module = backend.module()
    X = rng.normal(size=(600, 64)).astype(np.float32)
    options = {
        "reg_covar": 0.5,
        "max_iter": 3,
        "tol": 0.0,
        "random_state": 0,
        "init_params": "random_from_data",
    }
    before = module.emulated_allocated()
    module.set_emulated_capacity(before + (megabytes << 20))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it does not converge
            fit = GaussianMixture(64, backend="emulated-warpgroups", **options).fit(X)
        assert np.isfinite(fit.lower_bound_)
        assert module.emulated_allocated() == before
    finally:
        module.set_emulated_capacity(1 << 33)


def test_two_threads_read_the_same(step):
    """Whoever reads first brings the array; the others find it."""
    found, model = step
    things = [
        (found.moments, "second"),
        (model.components, "covariances"),
        (model.components, "precisions_cholesky"),
    ]
    later = Computed(lambda: time.sleep(0.05) or np.ones((1, 1)))
    slow = Moments("full", np.zeros(1), np.ones(1), np.zeros((1, 1)), later)
    with ThreadPoolExecutor(8) as pool:
        for thing, name in [*things, (slow, "second")]:
            assert thing.elsewhere(name) is not None
            arrays = list(pool.map(lambda _, t=thing, n=name: getattr(t, n), range(16)))
            assert all(array is arrays[0] for array in arrays)


class Halved:
    """Changes a family's M-step from beside it."""

    def estimate(self, moments, mass):
        return 0.5 * moments.covariances(mass)


class Ridged(Matrices):
    """Adds to variances more than it is asked to."""

    def regularized(self, covariances, reg_covar):
        return super().regularized(covariances, 3.0 + reg_covar)


@pytest.mark.parametrize(
    ("base", "members"),
    [(Full, {"bases": (Halved,)}), (Full, {"storage": Ridged()}), (Diagonal, {"bases": (Halved,)})],
    ids=["mixin", "storage", "diagonal"],
)
def test_families_that_change_the_m_step_have_their_own(base, members, backend, X, rng):
    bases = (*members.get("bases", ()), base)
    family = type(
        "Changed", bases, {"name": "changed", **{k: v for k, v in members.items() if k != "bases"}}
    )()
    assert base.direct
    assert not family.direct
    moments = mixture(rng).expect(table(backend, X)).moments
    if base is Diagonal:
        moments = replace(moments, kind="diagonal", second=moments.squares()[0] * moments.mass[:, None])
    found = Gaussians.from_moments(family, moments, Estimation(0.1))
    want = family.storage.regularized(family.estimate(moments, moments.kept_mass()), 0.1)
    np.testing.assert_allclose(found.covariances, want, rtol=1e-12)
    np.testing.assert_allclose(family.storage.covariances_of(found.precisions_cholesky), want, atol=1e-9)


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
