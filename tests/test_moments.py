"""Laws of the statistic."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixtura.moments import Moments, inverse_norms
from mixtura.triangles import pack_symmetric, unpack_symmetric

KINDS = ("mass", "mean", "trace", "diagonal", "full", "shared")
EPS = np.finfo(np.float64).eps

numbers = st.floats(-1e3, 1e3, allow_nan=False, width=64)


@st.composite
def tables(draw):
    """Rows, responsibilities, weights and a pivot."""
    n, dims, components = draw(st.integers(0, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    X = draw(hnp.arrays(np.float64, (n, dims), elements=numbers))
    resp = draw(hnp.arrays(np.float64, (n, components), elements=st.floats(0, 1)))
    weight = draw(hnp.arrays(np.float64, n, elements=st.floats(0, 10)))
    pivot = draw(hnp.arrays(np.float64, dims, elements=numbers))
    return X, resp, weight, pivot


kinds = st.sampled_from(KINDS)


def close(a, b, X, weight, factor=64.0):
    """Equal to rounding: a few eps of the sums of magnitudes, whose coordinates reach 4e3 about any pivot here."""
    reach = np.abs(X).sum(axis=1).max(initial=0.0) + 4e3
    total = weight.sum() * a.first.shape[0]
    assert a.kind == b.kind
    for name, size in (("mass", 1.0), ("first", reach), ("second", reach**2)):
        np.testing.assert_allclose(
            getattr(a, name),
            getattr(b, name),
            rtol=0,
            atol=factor * EPS * (total + 1e-300) * size,
            err_msg=name,
        )
    assert a.n_samples == b.n_samples


@given(tables(), kinds)
def test_zero_is_neutral(table, kind):
    X, resp, weight, pivot = table
    m = Moments.of(X, kind, resp=resp, pivot=pivot, sample_weight=weight)
    zero = Moments.zero(kind, resp.shape[1], pivot)
    for total in (m + zero, zero + m):
        for name in ("mass", "first", "second", "pivot"):
            np.testing.assert_array_equal(getattr(total, name), getattr(m, name))


@given(tables(), kinds, st.integers(0, 12))
def test_addition_commutes(table, kind, cut):
    X, resp, weight, pivot = table
    a, b = (
        Moments.of(X[part], kind, resp=resp[part], pivot=pivot, sample_weight=weight[part])
        for part in (slice(None, cut), slice(cut, None))
    )
    for name in ("mass", "first", "second"):
        np.testing.assert_array_equal(getattr(a + b, name), getattr(b + a, name))


@given(tables(), kinds, st.lists(st.integers(0, 12), max_size=4))
def test_any_partition_adds_up(table, kind, cuts):
    X, resp, weight, pivot = table
    bounds = sorted({0, len(X), *(min(c, len(X)) for c in cuts)})
    total = Moments.zero(kind, resp.shape[1], pivot)
    for start, stop in itertools.pairwise(bounds):
        part = slice(start, stop)
        # Each part about a pivot of its own, as workers may choose them.
        total += Moments.of(
            X[part], kind, resp=resp[part], pivot=pivot + start % 3, sample_weight=weight[part]
        )
    close(total, Moments.of(X, kind, resp=resp, pivot=pivot, sample_weight=weight), X, weight)


@given(tables(), kinds)
def test_weight_two_is_the_row_twice_and_weight_zero_no_row(table, kind):
    X, resp, _, pivot = table
    weight = np.arange(len(X)) % 3
    m = Moments.of(X, kind, resp=resp, pivot=pivot, sample_weight=weight)
    repeated = Moments.of(
        np.repeat(X, weight, axis=0), kind, resp=np.repeat(resp, weight, axis=0), pivot=pivot
    )
    for name, size in (("mass", 1.0), ("first", 8e3), ("second", 6.4e7)):
        np.testing.assert_allclose(
            getattr(m, name), getattr(repeated, name), rtol=0, atol=64 * EPS * (weight.sum() + 1) * size
        )


@given(tables(), kinds, st.data())
def test_recenter_is_moments_about_the_other_pivot(table, kind, data):
    X, resp, weight, pivot = table
    other = data.draw(hnp.arrays(np.float64, len(pivot), elements=numbers))
    m = Moments.of(X, kind, resp=resp, pivot=pivot, sample_weight=weight)
    want = Moments.of(X, kind, resp=resp, pivot=other, sample_weight=weight)
    got = m.recenter(other)
    close(got, want, X, weight)
    np.testing.assert_array_equal(got.pivot, other)
    close(got.recenter(pivot), m, X, weight)


@given(tables())
def test_kinds_are_slices_of_full(table):
    X, resp, weight, pivot = table
    m = {k: Moments.of(X, k, resp=resp, pivot=pivot, sample_weight=weight) for k in KINDS}
    dims = X.shape[1]
    full = unpack_symmetric(m["full"].second, dims)
    size = 64 * EPS * 6.4e7 * (weight.sum() * resp.shape[1] + 1)
    np.testing.assert_allclose(m["diagonal"].second, np.diagonal(full, axis1=1, axis2=2), rtol=0, atol=size)
    np.testing.assert_allclose(m["trace"].second, np.trace(full, axis1=1, axis2=2), rtol=0, atol=dims * size)
    np.testing.assert_allclose(m["shared"].second, m["full"].second.sum(axis=0), rtol=0, atol=size)


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6), elements=numbers)
)
def test_packing_round_trip(A):
    A = A[: A.shape[1], : A.shape[0]][: min(A.shape), : min(A.shape)]
    S = A + A.T
    np.testing.assert_array_equal(unpack_symmetric(pack_symmetric(S), len(S)), S)


@given(st.integers(0, 2**31), st.sampled_from([0.0, 1e4, -1e6]))
def test_means_and_covariances_are_numpys(seed, offset):
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(30, 3)) + offset, rng.uniform(0.1, 3.0, 30)
    mean = np.average(X, axis=0, weights=w)
    cov = np.cov(X.T, aweights=w, ddof=0)
    pivot = X[0]
    # About a pivot inside the data only the offset's own rounding is left.
    tolerance = 64 * EPS * (1.0 + abs(offset))
    m = Moments.of(X, "full", pivot=pivot, sample_weight=w)
    np.testing.assert_allclose(m.means()[0], mean, rtol=0, atol=tolerance)
    np.testing.assert_allclose(m.covariances()[0], cov, rtol=0, atol=100 * tolerance)
    one = {
        k: Moments.of(X, k, pivot=pivot, sample_weight=w).covariances()
        for k in ("diagonal", "trace", "shared")
    }
    np.testing.assert_allclose(one["diagonal"][0], np.diag(cov), rtol=0, atol=100 * tolerance)
    np.testing.assert_allclose(one["trace"][0], np.trace(cov), rtol=0, atol=300 * tolerance)
    np.testing.assert_allclose(one["shared"], cov, rtol=0, atol=100 * tolerance)


def test_cancellation_says_how_many_digits_are_lost(rng):
    X = rng.normal(size=(1000, 2)) * [1.0, 1e-3] + 1e3
    for kind in ("diagonal", "full", "shared"):
        about_zero = Moments.of(X, kind, pivot=np.zeros(2))
        np.testing.assert_allclose(about_zero.cancellation(), 1e12, rtol=0.2)
        assert np.all(about_zero.cancellation(floor=1.0) < 2e6)
        assert np.all(Moments.of(X, kind, pivot=X.mean(axis=0)).cancellation() < 1e-3)
    assert not Moments.zero("full", 2, np.zeros(2)).cancellation().any()


def test_pickle_keeps_everything_and_refuses_other_versions(rng):
    m = Moments.of(rng.normal(size=(5, 2)), "full")
    back = pickle.loads(pickle.dumps(m))
    np.testing.assert_array_equal(back.second, m.second)
    assert back.n_samples == 5
    with pytest.raises(ValueError, match="version 99 cannot be read"):
        Moments.__new__(Moments).__setstate__({**m.__getstate__(), "version": 99})


def test_adding_what_does_not_fit_is_an_error(rng):
    X = rng.normal(size=(5, 2))
    with pytest.raises(ValueError, match="cannot add moments of kind 'mean'"):
        Moments.of(X, "full") + Moments.of(X, "mean")
    with pytest.raises(TypeError):
        Moments.of(X, "full") + 1


def test_large_triangles_are_written_by_all_threads(rng, monkeypatch):
    """The same numbers, whoever writes them."""
    from mixtura import triangles

    K, D = 23, 9
    moments = Moments("full", np.zeros(D), np.full(K, 9.0), rng.normal(size=(K, D)), rng.normal(size=(K, 45)))
    alone = moments.covariances(), moments.recenter(np.ones(D)).second
    monkeypatch.setattr(triangles, "_MUCH", 1)
    monkeypatch.setattr(triangles, "_LITTLE", 0)
    for threads in (2, 7, 40):
        monkeypatch.setattr(triangles, "thread_limit", lambda n=threads: n)
        np.testing.assert_array_equal(moments.covariances(), alone[0])
        np.testing.assert_array_equal(moments.recenter(np.ones(D)).second, alone[1])


@given(tables(), kinds, st.floats(0.0, 10.0))
def test_a_factor_is_a_factor_of_the_weights(table, kind, factor):
    X, resp, weight, pivot = table
    m = Moments.of(X, kind, resp=resp, pivot=pivot, sample_weight=weight)
    want = Moments.of(X, kind, resp=resp, pivot=pivot, sample_weight=factor * weight)
    close(m * factor, want, X, factor * weight)
    close(factor * m, want, X, factor * weight)
    with pytest.raises(TypeError):
        m * "two"


@given(tables(), st.sampled_from(["mass", "mean", "full", "shared"]), st.data())
def test_an_affine_map_of_moments_is_that_of_the_rows(table, kind, data):
    X, resp, weight, pivot = table
    dims, target = X.shape[1], data.draw(st.integers(1, 4))
    entries = st.floats(-2.0, 2.0, width=32)
    A = data.draw(hnp.arrays(np.float64, (target, dims), elements=entries))
    b = data.draw(hnp.arrays(np.float64, target, elements=entries))
    m = Moments.of(X, kind, resp=resp, pivot=pivot, sample_weight=weight)
    mapped = m.mapped(A, b)
    want = Moments.of(X @ A.T + b, kind, resp=resp, pivot=A @ pivot + b, sample_weight=weight)
    np.testing.assert_allclose(mapped.pivot, A @ pivot + b, rtol=0, atol=16 * EPS * 1e4)
    # About the pivot, coordinates reach 2e3; each of the map's reaches the sum of up to four of them, doubled. Every
    # number is a sum of no more than sixteen such products for each row.
    reach = 8.0 * (np.abs(X).sum(axis=1).max(initial=0.0) + 4e3) + 16.0
    total = weight.sum() * resp.shape[1] + 1e-300
    for name, size in (("mass", 1.0), ("first", reach), ("second", reach**2)):
        bound = 64.0 * EPS * total * size
        np.testing.assert_allclose(
            getattr(mapped, name), getattr(want, name), rtol=0, atol=bound, err_msg=name
        )
    if kind in ("full", "shared"):
        root = data.draw(hnp.arrays(np.float64, (target, target), elements=entries))
        added = np.multiply.outer(m.mass, pack_symmetric(root @ root.T))
        more = m.mapped(A, b, root @ root.T).second - mapped.second
        expected = added if kind == "full" else added.sum(axis=0)
        bound = 8.0 * EPS * (total * reach**2 + np.abs(added).sum())
        np.testing.assert_allclose(more, expected, rtol=0, atol=bound)


def test_a_map_for_each_component(rng):
    """Such as fills in missing columns: the observed ones stay, the others follow each component's regression."""
    X, resp = rng.normal(size=(30, 2)), rng.dirichlet(np.ones(3), 30)
    A, b = rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 4))
    m = Moments.of(X, "full", resp=resp).mapped(A, b)
    for k in range(3):
        want = Moments.of(X @ A[k].T + b[k], "full", resp=resp[:, [k]], pivot=b[k])
        np.testing.assert_allclose(m.second[k], want.second[0], atol=1e-12)
        np.testing.assert_allclose(m.means()[k], want.means()[0], atol=1e-12)
    with pytest.raises(ValueError, match="hold too little for an affine map"):
        Moments.of(X, "diagonal").mapped(A[0])


def test_norms_of_inverse_correlations(rng):
    """They are those of the dense inverses; where less will do, a bound of its largest eigenvalue; else infinity."""
    columns = rng.normal(size=(5, 40, 6))
    columns[1, :, 2] = 1e-6 * columns[1, :, 0]  # singular
    columns[2, :, 3] = 4.0  # does not vary
    columns[3] *= 10.0 ** np.arange(-6.0, 6.0, 2.0)  # units do not matter
    columns[4, :, 0] = columns[4, :, 1] + 1e-3 * columns[4, :, 0]
    covariances = np.stack([np.cov(X, rowvar=False) for X in columns])
    good = [0, 3, 4]
    inverses = np.linalg.inv(np.stack([np.corrcoef(X, rowvar=False) for X in columns[good]]))
    exact = np.abs(inverses).sum(axis=2).max(axis=1)
    norms = inverse_norms(covariances)
    assert norms[1] > 1e12  # rounding decides whether it is infinite
    assert norms[2] == np.inf
    np.testing.assert_allclose(norms[good], exact, rtol=1e-9)  # the last one's inverse has lost six digits
    np.testing.assert_allclose(inverse_norms(covariances[good]), exact, rtol=1e-9)
    eigenvalues = np.linalg.eigvalsh(inverses).max(axis=1)
    bounds = inverse_norms(covariances[good], enough=1e4)
    assert np.all(bounds >= eigenvalues * (1.0 - 1e-9))
    factors = np.linalg.cholesky(
        inverses[:2]
    )  # of another square root U than that of the test, with the same trace
    assert np.all(bounds[:2] <= np.square(factors).sum(axis=(1, 2)) * (1.0 + 1e-9))
    assert np.all(bounds[:2] != exact[:2])
    np.testing.assert_allclose(bounds[2], exact[2], rtol=1e-9)
    each = inverse_norms(covariances[good], enough=np.array([0.0, 1e4, 1e12]))
    np.testing.assert_allclose(each[0], exact[0], rtol=1e-9)
    assert each[2] >= eigenvalues[2] * (1.0 - 1e-9)


@pytest.mark.parametrize("kind", ["trace", "diagonal", "full"])
def test_a_spread_that_is_rounding_error_is_taken_for_none(kind):
    """Of the second component's first column alone; of the third's all."""
    pivots = np.array([[1.0, 1.0], [0.1, 3.0], [0.1, 0.3]])
    away = np.array([[1.0, 1.0], [1e-17, 1.0], [1e-17, 1e-17]])
    first = away.copy()
    matrices = away[:, :, None] * away[:, None, :]
    second = {
        "trace": np.trace(matrices, axis1=1, axis2=2),
        "diagonal": np.diagonal(matrices, axis1=1, axis2=2),
        "full": pack_symmetric(matrices),
    }[kind]
    moments = Moments(kind, pivots, np.ones(3), first, second, 0.0, 1).without_rounding()
    zero = np.array([[False, False], [kind != "trace", False], [True, True]])
    np.testing.assert_array_equal(moments.first == 0.0, zero)
    if kind == "trace":
        np.testing.assert_array_equal(moments.second == 0.0, [False, False, True])
    elif kind == "diagonal":
        np.testing.assert_array_equal(moments.second == 0.0, zero)
    else:
        np.testing.assert_array_equal(moments.second == 0.0, [[False] * 3, [True, True, False], [True] * 3])
    np.testing.assert_array_equal(moments.first[~zero], first[~zero])
