"""What the host asks of moments and diagonal covariances, in one reading: NumPy's answers."""

import numpy as np
import pytest

from mixtura.backends.reference import ReferenceBackend
from mixtura.components import COVARIANCES, Gaussians
from mixtura.components.estimation import Estimation
from mixtura.factorize import IllDefinedCovarianceError
from mixtura.moments import Moments
from mixtura.threads import allow, native

EPS = float(np.finfo(np.float64).eps)

pytestmark = pytest.mark.skipif(native is None, reason="there are no native kernels")


def numpy_alone():
    """Without the compiled library, as for the reference."""
    return allow(None, ReferenceBackend.compiled, 2)


@pytest.fixture(params=[(3, 2), (40, 7), (700, 100)], ids=str)
def shape(request):
    return request.param


def moments_of(rng, kind, components, dims, offset=0.5):
    rows = 8 * dims
    X = rng.normal(size=(rows, dims)) + offset
    resp = rng.uniform(size=(rows, components)) ** 2
    resp[:, 0] *= 0.0  # a component without mass
    return Moments.of(X, kind, resp=resp)


@pytest.mark.parametrize("kind", ["trace", "diagonal", "full"])
@pytest.mark.parametrize("floor", [0.0, 0.3])
@pytest.mark.parametrize("offset", [0.0, 0.5, 50.0])
def test_cancellation(rng, kind, shape, floor, offset):
    components, dims = min(shape[0], 60), shape[1]
    moments = moments_of(rng, kind, components, dims, offset)
    # Where hardly anything is left of a variance, its last digits are rounding, and so is the ratio to it.
    tolerance = 64 * EPS * max(offset, 1.0) ** 4
    found = moments.cancellation(floor, closely=False), moments.near_pivot(floor)
    with numpy_alone():
        want = moments.cancellation(floor, closely=False), moments.near_pivot(floor)
    np.testing.assert_allclose(found[0], want[0], rtol=tolerance)
    assert found[1] == want[1]
    assert found[0][0] == 0.0
    assert (offset == 50.0) == bool(found[0].max() > 100.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_cancellation_of_what_is_not_finite(rng, bad):
    moments = moments_of(rng, "diagonal", 3, 4)
    moments.second[1, 2] = bad
    assert not moments.near_pivot()
    with numpy_alone():
        want = moments.cancellation()
    np.testing.assert_allclose(moments.cancellation(), want, rtol=64 * EPS)


def test_diagonal_estimates(rng, shape):
    moments = moments_of(rng, "diagonal", *shape)
    added = rng.uniform(0.1, 0.2, size=shape[1])
    family = COVARIANCES["diag"]
    found = Gaussians.from_moments(family, moments, Estimation(added))
    with numpy_alone():
        want = Gaussians.from_moments(family, moments, Estimation(added))
    # The same operations in the same order, but for processors that fuse them.
    scale = np.abs(want.covariances).max()
    np.testing.assert_allclose(found.covariances, want.covariances, rtol=0, atol=8 * EPS * scale)
    np.testing.assert_allclose(found.precisions_cholesky, want.precisions_cholesky, rtol=64 * EPS)
    # The sum of D logarithms, each with a rounding error of its own.
    logs = np.abs(np.log(want.precisions_cholesky)).sum(axis=1)
    determinants = family.storage.log_determinants(found.precisions_cholesky, *shape)
    with numpy_alone():
        expected = family.storage.log_determinants(want.precisions_cholesky, *shape)
    np.testing.assert_allclose(determinants, expected, rtol=0, atol=shape[1] * EPS * (1.0 + logs.max()))


@pytest.mark.parametrize("variance", [0.0, -1.0, np.nan, 1e-320])
def test_singular_diagonals(rng, variance):
    moments = Moments.of(rng.normal(size=(9, 3)), "diagonal")
    moments.first[:] = 0.0
    moments.second[0, 1] = 9.0 * variance
    for context in (None, numpy_alone()):
        with context or allow(None, True, 3), pytest.raises(IllDefinedCovarianceError):
            Gaussians.from_moments(COVARIANCES["diag"], moments, Estimation())


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1.0, 1e200])
@pytest.mark.parametrize("columns", [1, 5, 512, 1300])
def test_sums_of_logarithms(rng, scale, columns):
    numbers = scale * rng.uniform(0.5, 2.0, size=(4, columns))
    want = np.log(numbers).sum(axis=1)
    found = native.sums_of_logarithms(numbers, 2)
    # A few roundings of the sum, and those of its terms.
    np.testing.assert_allclose(found, want, rtol=0, atol=4 * EPS * np.abs(np.log(numbers)).sum(axis=1).max())


def test_sums_of_logarithms_of_no_number():
    numbers = np.array([[1.0, 0.0], [np.inf, 2.0], [np.nan, 1.0], [-2.0, -3.0]])
    np.testing.assert_array_equal(native.sums_of_logarithms(numbers, 1), [-np.inf, np.inf, np.nan, np.nan])


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
def test_elementwise_widths(rng, shape, scalar, bad):
    K, D = shape
    factors = rng.normal(size=K if scalar else (K, D))
    if bad is not None:
        factors.flat[-1] = bad
    means, pivot, around = rng.normal(size=(K, D)), rng.normal(size=D), rng.uniform(size=D)
    found = native.elementwise_widths(factors, means, pivot, around, 2)
    width = around + (means - pivot) ** 2
    sizes = np.abs(factors)
    want = (width * (sizes[:, None] if scalar else sizes) ** 2).max(), sizes.min(), sizes.max()
    np.testing.assert_allclose(found, want, rtol=8 * EPS)


def test_shapes_are_checked(rng):
    one, table = np.ones(2), np.ones((2, 3))
    with pytest.raises(ValueError, match="second"):
        native.ratios_to_spread("diagonal", one, table, np.ones((2, 2)), 0.0, 1.0, True, 1)
    with pytest.raises(ValueError, match="no second moments"):
        native.ratios_to_spread("mean", one, table, table, 0.0, 1.0, True, 1)
    with pytest.raises(ValueError, match="added"):
        native.diagonal_estimates(one, table, table, np.ones(2), 1)
    with pytest.raises(ValueError, match="factors"):
        native.elementwise_widths(np.ones((2, 2)), table, np.ones(3), np.ones(3), 1)


@pytest.mark.parametrize("own", [False, True])
def test_means(rng, shape, own):
    K, D = shape
    moments = moments_of(rng, "diagonal", K, D)
    moments = moments.recenter(rng.normal(size=(K, D) if own else D))
    mass = moments.kept_mass()
    np.testing.assert_array_equal(moments.means(mass), moments.pivot + moments.first / mass[:, None])
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan(moments.means()).all(axis=1).tolist() == [True] + [False] * (K - 1)
