"""Many matrices at once, on all threads: the numbers of NumPy's one after another."""

import pickle

import numpy as np
import pytest

from mixtura import _native
from mixtura.backends.base import Rows
from mixtura.backends.compiled import relative_width
from mixtura.factorize import IllDefinedCovarianceError, inverse_cholesky, inverse_choleskys, transposes
from mixtura.layouts import LAYOUTS, Layout
from mixtura.quadratics import Quadratics
from mixtura.triangles import pack_symmetric

SHAPES = [(1, 300), (3, 1), (40, 47), (70, 33), (9, 128)]


def moments(rng, components, dims):
    """Packed second moments, first moments and masses of random rows about a pivot."""
    mass = rng.uniform(5.0, 50.0, components)
    roots = rng.normal(size=(components, dims, 2 * dims)) / np.sqrt(dims)
    means = rng.normal(size=(components, dims))
    second = mass[:, None, None] * (roots @ roots.transpose(0, 2, 1) + means[:, :, None] * means[:, None, :])
    return pack_symmetric(second), mass[:, None] * means, mass


@pytest.mark.parametrize(("components", "dims"), SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_covariances_are_those_of_numpy_to_the_bit(components, dims, threads, rng):
    second, first, mass = moments(rng, components, dims)
    want = Layout.about_means(LAYOUTS["full"], second, first, mass)
    np.testing.assert_array_equal(_native.covariances(second, first, mass, threads), want)


@pytest.mark.parametrize(("components", "dims"), SHAPES)
def test_factors_lie_as_kernels_read_them(components, dims, rng):
    second, first, mass = moments(rng, components, dims)
    covariances = _native.covariances(second, first, mass, 2)
    upper = inverse_choleskys(covariances)
    np.testing.assert_array_equal(upper, np.stack([inverse_cholesky(c) for c in covariances]))
    factors = transposes(upper)
    assert factors.flags.c_contiguous
    np.testing.assert_array_equal(factors, np.swapaxes(upper, 1, 2))
    if covariances.size >= 1 << 16 and components > 1:
        assert np.shares_memory(factors, upper)


def test_transposes(rng):
    matrices = rng.normal(size=(50, 37, 61))
    np.testing.assert_array_equal(_native.transposed(matrices, 2), np.swapaxes(matrices, 1, 2))
    np.testing.assert_array_equal(transposes(matrices), np.swapaxes(matrices, 1, 2))


@pytest.mark.parametrize("harm", ["indefinite", "nan"])
def test_one_bad_matrix_among_many_is_told(harm, rng):
    second, first, mass = moments(rng, 40, 48)
    covariances = _native.covariances(second, first, mass, 2)
    covariances[17] = -np.eye(48) if harm == "indefinite" else np.nan
    with pytest.raises(IllDefinedCovarianceError):
        inverse_choleskys(covariances)


@pytest.mark.parametrize(("components", "rows", "dims"), [(1, 1, 1), (5, 7, 3), (40, 128, 64)])
def test_widths(components, rows, dims, rng):
    factors, variances = rng.normal(size=(components, rows, dims)), rng.uniform(size=(components, dims))
    widest, least, largest = _native.widths(factors, variances, 2)
    squares = factors**2
    want = np.matmul(squares, variances[:, :, None]).max(), squares.sum(2).min(), squares.sum(2).max()
    np.testing.assert_allclose([widest, least, largest], want, rtol=8 * dims * np.finfo(float).eps)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_widths_of_what_is_not_finite_are_not_finite(value):
    factors = np.ones((3, 4, 5))
    factors[1, 2, 3] = value
    assert not np.isfinite(_native.widths(factors, np.ones((3, 5)), 1)[0])


def test_the_width_of_a_table_with_kernels_and_without(rng, monkeypatch):
    q = Quadratics(
        "triangle", np.zeros(20), rng.normal(size=(20, 30)), np.tril(rng.normal(size=(20, 30, 30)))
    )
    X, pivot = rng.normal(size=(500, 30)).astype(np.float32), rng.normal(size=30)
    found = relative_width(Rows(X), q, pivot)
    monkeypatch.setattr("mixtura.backends.compiled.native", None)
    assert relative_width(Rows(X), q, pivot) == pytest.approx(found, rel=1e-13)


def test_a_width_is_found_once(rng, monkeypatch):
    q = Quadratics("triangle", np.zeros(2), rng.normal(size=(2, 3)), np.tril(rng.normal(size=(2, 3, 3))))
    rows = Rows(rng.normal(size=(50, 3)).astype(np.float32))
    found = [relative_width(rows, q, np.full(3, pivot)) for pivot in (0.0, 1.0, 0.0)]
    assert found[0] == found[2] != found[1]
    monkeypatch.setattr("mixtura.backends.compiled._relative_width", None)
    assert relative_width(rows, q, np.zeros(3)) == found[0]


def test_rows_go_to_other_processes_without_what_they_remember(rng):
    rows = Rows(rng.normal(size=(50, 3)))
    q = Quadratics("triangle", np.zeros(1), np.zeros((1, 3)), np.eye(3)[None])
    relative_width(rows, q, np.zeros(3))
    again = pickle.loads(pickle.dumps(rows))
    assert rows.width is not None
    assert again.width is None
    np.testing.assert_array_equal(again.X, rows.X)


def test_wrong_shapes_are_refused(rng):
    second, first, mass = moments(rng, 3, 4)
    with pytest.raises(ValueError, match="second"):
        _native.covariances(second[:, 1:], first, mass, 1)
    with pytest.raises(ValueError, match="mass"):
        _native.covariances(second, first, mass[1:], 1)
    with pytest.raises(ValueError, match="variances"):
        _native.widths(np.ones((2, 3, 4)), np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match=r"\(K, R, C\)"):
        _native.transposed(np.ones((2, 3)), 1)
