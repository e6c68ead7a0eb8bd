"""What the C++ kernels do beyond the reference: regimes by shape, skipping, single precision, the nearest centre."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mixtura import GaussianMixture, KMeans
from mixtura.backends.reference import ReferenceBackend
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics
from mixtura.table import Table
from problems import (
    EPS,
    FORMS,
    Problem,
    assert_moments_close,
    computing_eps,
    joint_tolerance,
    problem,
    quadratics,
)

try:
    from mixtura import _native
    from mixtura.backends.compiled import relative_width
    from mixtura.backends.native import NativeBackend
except ImportError:
    _native = None
SETS = _native.instruction_sets() if _native else ["none"]


@pytest.fixture(autouse=True)
def _restore(require):
    require("native")
    instruction_set, skipping = _native.instruction_set(), _native.skipping()
    yield
    _native.set_instruction_set(instruction_set)
    _native.set_skipping(skipping)


def clusters(rng, form, components, dims, rows, separation, dtype=np.float64):
    """Rows about the means of random quadratics, ``separation`` apart."""
    q = quadratics(rng, form, components, dims)
    q = Quadratics(form, q.offsets, q.means * separation, q.factors)
    X = (q.means[rng.integers(0, components, rows)] + rng.normal(size=(rows, dims))).astype(dtype)
    return Problem(X, q, np.full(components, -np.log(components)), None, X.mean(axis=0, dtype=np.float64))


# One shape at least for each way to accumulate: few features, panels, products in registers, one component at a time,
# blocks of the triangle; with whole and broken vectors and tiles.
SHAPES = [(8, 2), (9, 7), (5, 8), (23, 13), (16, 16), (3, 16), (30, 16), (7, 33), (2, 48), (4, 100), (1, 130)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("separation", [0.2, 5.0])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("instruction_set", SETS)
def test_every_regime(instruction_set, form, separation, dtype, rng):
    _native.set_instruction_set(instruction_set)
    native, reference = NativeBackend(), ReferenceBackend()
    for components, dims in SHAPES:
        p = clusters(rng, form, components, dims, 200, separation, dtype)
        for kind in ("mean", "trace", "diagonal", "full"):
            arguments = (p.joint, kind, p.pivot)
            got = native.expect(p.placed(native), *arguments)
            want = reference.expect(p.placed(reference), *arguments)
            assert_moments_close(got, want, p, computing_eps(native, p.X))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("instruction_set", SETS)
def test_every_regime_with_a_linear_term(instruction_set, form, dtype, rng):
    """Whole and broken tiles of components; a scalar's linear term in its multiplied-out square and apart from it."""
    _native.set_instruction_set(instruction_set)
    native, reference = NativeBackend(), ReferenceBackend()
    for components, dims in (*SHAPES, (1, 1), (4, 3), (6, 4), (11, 2)):
        for separation in (0.2, 5.0, 50.0):
            p = clusters(rng, form, components, dims, 200, separation, dtype)
            linear = rng.normal(size=(components, dims))
            p = replace(p, quadratics=replace(p.quadratics, linear=linear))
            got = native.expect(p.placed(native), p.joint, "full", p.pivot)
            want = reference.expect(p.placed(reference), p.joint, "full", p.pivot)
            assert_moments_close(got, want, p, computing_eps(native, p.X))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("instruction_set", SETS)
def test_rectangles_of_few_rows(instruction_set, dtype, linear, rng):
    """Components stacked in one tile: whole and broken tiles, and more tiles than the first-level cache holds."""
    _native.set_instruction_set(instruction_set)
    native, reference = NativeBackend(), ReferenceBackend()
    for height in (1, 2, 3, 4, 5):
        for components, dims in ((1, 1), (2, 5), (3, 21), (5, 4), (9, 7), (17, 2), (40, 130)):
            for shared in (False, True):
                p = problem(
                    rng, "rectangle", components, dims, 150, shared=shared, linear=linear, dtype=dtype
                )
                factors = rng.normal(size=(1 if shared else components, height, dims)) / np.sqrt(dims)
                p = replace(p, quadratics=replace(p.quadratics, factors=factors))
                want = reference.log_joint(p.placed(reference), p.joint)
                assert np.all(
                    np.abs(native.log_joint(p.placed(native), p.joint) - want) <= joint_tolerance(p)
                )
                got = native.expect(p.placed(native), p.joint, "full", p.pivot)
                want = reference.expect(p.placed(reference), p.joint, "full", p.pivot)
                assert_moments_close(got, want, p, computing_eps(native, p.X))


def test_kernels_refuse_linear_terms_of_another_shape():
    table = _native.Table(np.zeros((5, 2)), None)
    bad = _native.Quadratics("scalar", np.zeros(3), np.zeros((3, 2)), np.ones(1), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="linear has the wrong shape"):
        _native.log_joint(table, bad, np.zeros(3), np.zeros(2), 1)


@pytest.mark.parametrize("dims", [1, 20, 400])
def test_single_precision_of_a_linear_term(dims, rng):
    """Just inside the widest linear term that float32 serves for, masses keep four digits; beyond it, all."""
    native, reference = NativeBackend(), ReferenceBackend()
    X = rng.normal(size=(2000, dims)).astype(np.float32)
    placed, pivot = native.place(X), X.mean(axis=0, dtype=np.float64)
    slopes = rng.normal(size=dims) + 1e-3 * rng.normal(size=(3, dims))  # nearly the same: rows stay undecided
    q = Quadratics("scalar", np.zeros(3), np.zeros((3, dims)), np.full(1, 0.1), slopes)
    for width, inside in ((250.0, True), (262.0, False)):
        q = replace(q, linear=q.linear * (width / relative_width(placed, q, pivot)))
        joint = Joint(q, np.zeros(3))
        assert native._single_enough(placed, joint, pivot) == inside
        got = native.expect(placed, joint, "mass", pivot)
        want = reference.expect(reference.place(X), joint, "mass", pivot)
        error = np.abs(got.mass / want.mass - 1.0).max()
        assert error < (1e-4 if inside else 1e-11)


@pytest.mark.parametrize("form", ["triangle", "diagonal"])
@pytest.mark.parametrize("dims", [16, 13, 100])
def test_skipping_loses_less_than_it_says(dims, form, rng):
    """Left out are responsibilities below 2^-50 / K of a row's largest: in all, less than 1e-15 of the mass."""
    components, rows = 24, 3000
    native = NativeBackend()
    # 8.6 spreads: the neighbour's responsibility is about 2^-53, on either side of the threshold.
    means = np.zeros((components, dims))
    means[:, 0] = 8.6 * np.arange(components)
    one = np.eye(dims) if form == "triangle" else np.ones(dims)
    q = Quadratics(form, np.zeros(components), means, np.stack([one] * components))
    X = means[rng.integers(0, components, rows)] + rng.normal(size=(rows, dims)) * 0.5
    pivot = X.mean(axis=0)
    results = []
    for on in (True, False):
        _native.set_skipping(on)
        results.append(native.expect(native.place(X), Joint(q, np.zeros(components)), "full", pivot))
    some, everything = results
    # Of many columns the E half leaves them out as well.
    assert abs(some.log_likelihood - everything.log_likelihood) <= 1e-15 * rows + EPS * abs(
        everything.log_likelihood
    )
    reach = np.abs(X - pivot).max()
    rounding = 2 * rows * EPS  # of adding the rows up in another order
    for name, power in (("mass", 0), ("first", 1), ("second", 2)):
        difference = np.abs(getattr(some, name) - getattr(everything, name))
        assert difference.max() <= (1e-15 + rounding) * rows * reach**power


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("components", "dims", "rows", "told_by"),
    [
        (4, 64, 700, slice(None)),  # candidates from the first bound, most others left out by it
        (9, 67, 1100, slice(0, 8)),  # broken tiles and vectors; only the first columns tell components apart
        (12, 70, 900, slice(20, 34)),  # only the second bound does
        (
            12,
            70,
            900,
            slice(50, 70),
        ),  # only the last columns do: whole blocks are evaluated, and may stop early
        (130, 64, 500, slice(None)),  # more components than rows of a block
        (6, 200, 300, slice(None)),
        (4, 97, 6000, slice(None)),  # rows of a component wait for others, and fill their bin
        (40, 35, 800, slice(None)),
    ],
)
@pytest.mark.parametrize("form", ["triangle", "diagonal"])
@pytest.mark.parametrize("instruction_set", SETS)
def test_pairs_left_out_before_they_are_evaluated(
    instruction_set, form, components, dims, rows, told_by, weighted, dtype, rng
):
    """The sums are those of all pairs, whichever part of the columns tells components apart."""
    _native.set_instruction_set(instruction_set)
    native, reference = NativeBackend(n_threads=2), ReferenceBackend()
    q = quadratics(rng, form, components, dims)
    means = np.zeros((components, dims))
    means[:, told_by] = rng.normal(size=means[:, told_by].shape)
    means *= 25.0 / np.sqrt((means**2).sum(axis=1).mean())
    means[-1] = means[0] + 0.05 * rng.normal(size=dims)  # two that share their rows
    if form == "triangle":
        factors = np.tile(np.eye(dims), (components, 1, 1)) + 0.05 * np.tril(q.factors, -1)
    else:
        factors = 1.0 + 0.05 * q.factors
    labels = rng.integers(components, size=rows)
    X = (means[labels] + rng.normal(size=(rows, dims))).astype(dtype)
    X[::50] = X[::50].mean(axis=0)  # between all components
    weights = rng.integers(3, size=rows).astype(float) if weighted else None
    q = Quadratics(form, q.offsets, means, factors)
    p = Problem(X, q, np.full(components, -np.log(components)), weights, X.mean(axis=0, dtype=np.float64))
    found = {}
    for on in (True, False):
        _native.set_skipping(on)
        found[on] = native.expect(p.placed(native), p.joint, "full", p.pivot)
        assert_moments_close(
            found[on],
            reference.expect(p.placed(reference), p.joint, "full", p.pivot),
            p,
            computing_eps(native, p.X),
        )
    density = {}
    for on in (True, False):
        _native.set_skipping(on)
        density[on] = native.posterior(p.placed(native), p.joint)
        labels, best = native.assign(p.placed(native), p.joint)
        want_labels, want_best = reference.assign(p.placed(reference), p.joint)
        assert (labels == want_labels).mean() > 0.99  # rounding decides rows between two
        assert np.all(abs(best - want_best) <= joint_tolerance(p).max())
    assert np.all(abs(density[True] - density[False]) <= joint_tolerance(p).max())
    # What is left out is less than 1e-15 of a row; the rest is rounding, which differs where lists are summed.
    eps = computing_eps(native, p.X)
    assert abs(found[True].mass - found[False].mass).max() <= 100 * eps * rows
    size = abs(found[False].log_likelihood)
    assert abs(found[True].log_likelihood - found[False].log_likelihood) <= 50 * eps * size


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-37, 1e30, 1e200])
@pytest.mark.parametrize("narrow", [1.0, 1e-3, 1e-7])
@pytest.mark.parametrize("instruction_set", SETS)
def test_bounds_in_single_precision(instruction_set, narrow, scale, weighted, rng):
    """They leave out no pair that counts, whatever single precision makes of the rows.

    Components differ along all columns alike, so that no part of a factor tells them apart, and are narrow along half
    of the directions. A quarter of the rows lie between two components.
    """
    _native.set_instruction_set(instruction_set)
    K, D, N = 6, 96, 500
    widths = np.where(rng.permutation(D) % 2, 1.0, narrow)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    means = scale * (rng.normal(size=(K, D)) * widths) @ turn.T
    labels = rng.integers(K, size=N)
    X = means[labels] + scale * (rng.normal(size=(N, D)) * widths) @ turn.T
    X[::4] += 0.5 * (means[rng.integers(K, size=N // 4)] - means[labels[::4]])
    # A lower triangle whose square is the precision.
    factor = np.linalg.qr((turn / widths).T[:, ::-1])[1][::-1, ::-1]
    factors = np.tile(factor, (K, 1, 1)) * (1.0 + 0.05 * rng.normal(size=(K, 1, 1))) / scale
    native, offsets = NativeBackend(n_threads=2), rng.normal(size=K)
    weights = rng.integers(3, size=N).astype(float) if weighted else None
    rows, joint = (
        native.place(X, None, weights),
        Joint(Quadratics("triangle", offsets, means, factors), np.zeros(K)),
    )
    found, density = {}, {}
    for on in (True, False):
        _native.set_skipping(on)
        found[on] = native.expect(rows, joint, "mean", X.mean(axis=0))
        density[on] = native.posterior(rows, joint)
    # Pairs that are left are evaluated alike, but for the order of sums.
    rounding = 64 * np.finfo(np.float64).eps * np.abs(density[False])
    assert np.all(np.abs(density[True] - density[False]) <= 1e-14 + rounding)
    assert np.all(np.abs(found[True].mass - found[False].mass) <= (1e-14 + rounding.max()) * 3 * N)
    assert abs(found[True].log_likelihood - found[False].log_likelihood) <= 3 * N * (1e-14 + rounding.max())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("K", "D"), [(60, 10), (30, 15), (9, 35), (64, 33), (20, 100)])
@pytest.mark.parametrize("instruction_set", SETS)
def test_bounds_along_a_few_directions(instruction_set, K, D, weighted, dtype, rng):
    """They leave out no pair that counts where columns depend on each other, and have units of their own.

    Clusters lie apart along a few directions of all columns, along which they are narrow; two lie at nearly the same
    place, one has a weight of 0, and a fifth of the rows lie between two.
    """
    _native.set_instruction_set(instruction_set)
    N, shift = 4500, 3.0 if dtype is np.float32 else 1e3
    units = 10.0 ** rng.uniform(-1, 1, D) ** (1 if dtype is np.float32 else 3)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    widths = np.where(np.arange(D) < 4, 0.1, 1.0) * np.exp(0.3 * rng.normal(size=(K, D)))
    means = rng.normal(size=(K, D)) * np.where(np.arange(D) < 4, 3.0, 0.3)
    means[1] = means[0] + 0.05 * rng.normal(size=D)
    labels = rng.integers(K, size=N)
    X = means[labels] + widths[labels] * rng.normal(size=(N, D))
    X[::5] += 0.5 * (means[rng.integers(K, size=N // 5)] - means[labels[::5]])
    X, means = ((z @ turn.T + shift) * units for z in (X, means))
    X = X.astype(dtype)
    # Lower triangles whose squares are the precisions, by QR from the last column on.
    factors = np.stack([np.linalg.qr((turn / w / units[:, None]).T[:, ::-1])[1][::-1, ::-1] for w in widths])
    log_weights = np.log(rng.dirichlet(np.ones(K)))
    log_weights[2] = -np.inf
    offsets = np.log(np.abs(np.einsum("kdd->kd", factors) * units)).sum(axis=1)
    weights = rng.integers(3, size=N).astype(float) if weighted else None
    q = Quadratics("triangle", offsets, means, np.ascontiguousarray(factors))
    p = Problem(X, q, log_weights, weights, X.mean(axis=0, dtype=np.float64))
    native, reference = NativeBackend(n_threads=2), ReferenceBackend()
    rows, found = p.placed(native), {}
    for on in (True, False):
        _native.set_skipping(on)
        moments = native.expect(rows, p.joint, "full", p.pivot)
        found[on] = moments, native.posterior(rows, p.joint), native.assign(rows, p.joint)
    want = reference.log_joint(p.placed(reference), p.joint)
    tolerance = joint_tolerance(p).max()
    densities, every = found[True][1], found[False][1]
    assert np.all(abs(densities - every) <= tolerance)
    labels, best = found[True][2]
    assert np.all(abs(best - want.max(axis=1)) <= tolerance)
    assert np.all(want[np.arange(N), labels] >= want.max(axis=1) - 2.0 * tolerance)
    assert found[True][0].mass[2] == 0.0
    eps = computing_eps(native, X)
    for name in ("mass", "first", "second"):
        some, whole = (getattr(found[on][0], name) for on in (True, False))
        assert abs(some - whole).max() <= 200 * max(eps, tolerance) * N * max(abs(whole).max() / N, 1.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("told_by", [slice(0, 8), slice(None)])
@pytest.mark.parametrize("form", ["triangle", "diagonal"])
@pytest.mark.parametrize("instruction_set", SETS)
def test_labels_need_only_the_most_likely_component(instruction_set, form, told_by, dtype, rng):
    """Components that another one surely beats are left out, others are not: rows that lie nearly between two."""
    _native.set_instruction_set(instruction_set)
    K, D, N = 7, 96, 600
    means = np.zeros((K, D))
    means[:, told_by] = rng.normal(size=(K, D))[:, told_by] * (1.5 if told_by == slice(None) else 4.0)
    means[4] = means[1]  # of equal components the first is the label
    factors = np.tril(rng.normal(size=(K, D, D)) * 0.05) + np.eye(D)
    if form == "diagonal":
        factors = np.einsum("kdd->kd", factors).copy()
    factors[4] = factors[1]
    to, other = rng.integers(0, K, N), rng.integers(0, K, N)
    share = np.where(np.arange(N) % 2, 0.5 + 1e-9 * rng.normal(size=N), 0.0)[:, None]
    X = (means[to] * (1.0 - share) + means[other] * share + 0.1 * rng.normal(size=(N, D))).astype(dtype)
    native, reference = NativeBackend(), ReferenceBackend()
    p = Problem(
        X, Quadratics(form, np.zeros(K), means, factors), np.zeros(K), None, X.mean(0, dtype=np.float64)
    )
    found = {}
    for on in (True, False):
        _native.set_skipping(on)
        found[on] = native.assign(p.placed(native), p.joint)
    labels, best = found[True]
    assert not np.any(labels == 4)
    assert set(np.unique(labels)) == {0, 1, 2, 3, 5, 6}
    assert np.all(abs(best - found[False][1]) <= joint_tolerance(p).max())
    joint = reference.log_joint(p.placed(reference), p.joint)
    assert np.all(joint[np.arange(N), labels] >= joint.max(axis=1) - 2.0 * joint_tolerance(p).max())


def test_what_skipping_leaves_out(rng):
    """A component that no row reaches gets nothing with skipping, and next to nothing without."""
    native, dims = NativeBackend(), 16
    means = np.zeros((5, dims))
    means[1:4, 1] = [10.0, 20.0, 30.0]
    means[4, 0] = 9.5  # exp(-9.5^2 / 2) = 2^-65, but not 0
    q = Quadratics("triangle", np.zeros(5), means, np.tile(np.eye(dims), (5, 1, 1)))
    X = means[rng.integers(0, 4, 2000)] + rng.normal(size=(2000, dims)) * 0.01
    moments = {}
    for on in (True, False):
        _native.set_skipping(on)
        moments[on] = native.expect(native.place(X), Joint(q, np.zeros(5)), "full", X.mean(axis=0))
    assert np.all(moments[True].first[4] == 0.0)
    assert np.all(moments[True].second[4] == 0.0)
    assert 0.0 < np.abs(moments[False].first[4]).max() < 1e-15 * len(X)


def test_skipping_can_be_turned_off_from_outside():
    code = "from mixtura import _native; print(_native.skipping())"
    for value, want in (("0", "False"), ("", "True"), ("1", "True")):
        environment = {**os.environ, "MIXTURA_SKIPPING": value}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert out.stdout.strip() == want, out.stderr


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_log_likelihood_is_the_references(covariance_type, offset, rng):
    """1e-12 relative in float64; float32 rows, whatever they are computed in, 1e-5."""
    X = rng.normal(size=(5000, 6)) + rng.integers(0, 4, (5000, 1)) * 3.0 + offset
    gm = GaussianMixture(4, covariance_type=covariance_type, random_state=0, tol=1e-4).fit(X)
    native, reference = NativeBackend(), ReferenceBackend()
    for dtype, bound in ((np.float64, 1e-12), (np.float32, 1e-5)):
        rows = X.astype(dtype)
        got, want = (gm._mixture().expect(Table.of(b, rows)).objective for b in (native, reference))
        assert abs(got / want - 1.0) < bound


def test_single_precision_where_it_loses_nothing(rng):
    """Float32 rows are computed with in float32, unless a table is wide in spreads of a component."""
    native = NativeBackend()
    narrow = rng.normal(size=(500, 3)).astype(np.float32)
    q = Quadratics("scalar", np.zeros(2), np.zeros((2, 3)), np.ones(2))
    assert NativeBackend()._single_enough(native.place(narrow), Joint(q, np.zeros(2)), np.zeros(3))
    assert not NativeBackend()._single_enough(native.place(narrow * 1000), Joint(q, np.zeros(2)), np.zeros(3))
    assert not NativeBackend()._single_enough(native.place(narrow), Joint(q, np.zeros(2)), np.full(3, 1e3))
    tiny = Quadratics("scalar", np.zeros(2), np.zeros((2, 3)), np.full(2, 1e20))
    assert not NativeBackend()._single_enough(
        native.place(narrow * 1e-20), Joint(tiny, np.zeros(2)), np.zeros(3)
    )
    correlated = Quadratics("triangle", np.zeros(1), np.zeros((1, 2)), np.array([[[1.0, 0.0], [-1e4, 1e4]]]))
    assert not NativeBackend()._single_enough(
        native.place(narrow[:, :2]), Joint(correlated, np.zeros(1)), np.zeros(2)
    )


@pytest.mark.parametrize("form", ["scalar", "diagonal", "triangle"])
def test_the_width_of_a_table_by_definition(form, rng):
    """Spreads of the narrowest component that the table is wide, from its pivot, along the rows of its factor."""
    X = (rng.normal(size=(4000, 2)) * [2.0, 3.0] + [1.0, -1.0]).astype(np.float32)
    rows = NativeBackend().place(X)
    means, pivot = np.array([[4.0, 0.0], [0.0, 5.0]]), np.array([0.5, 0.5])
    factors = {
        "scalar": np.array([1.0, 3.0]),
        "diagonal": np.array([[1.0, 2.0], [3.0, 0.5]]),
        "triangle": np.array([[[1.0, 0.0], [2.0, 3.0]], [[0.5, 0.0], [-4.0, 1.0]]]),
    }[form]
    double = X.astype(np.float64)
    wide = double.var(axis=0) + (double.mean(axis=0) - pivot) ** 2 + (means - pivot) ** 2
    dense = factors.reshape(2, 1, -1) * np.eye(2) if form != "triangle" else factors
    want = max(np.sqrt((dense[k] ** 2 @ wide[k]).max()) for k in range(2))
    q = Quadratics(form, np.zeros(2), means, factors)
    assert relative_width(rows, q, pivot) == pytest.approx(want, rel=1e-6)
    # A linear term counts as one more row.
    linear = np.array([[0.0, 0.0], [100.0, 50.0]])
    want = max(want, float(np.sqrt(linear[1] ** 2 @ wide[1])))
    assert relative_width(rows, replace(q, linear=linear), pivot) == pytest.approx(want, rel=1e-6)


def test_float32_up_to_256_spreads(rng):
    """Just under and just over the limit."""
    X = rng.normal(size=(2000, 3)).astype(np.float32)
    native = NativeBackend()
    rows, pivot = native.place(X), X.mean(axis=0).astype(np.float64)
    deviation = X.astype(np.float64).std(axis=0).max()
    for scale, enough in ((255.9 / deviation, True), (256.1 / deviation, False)):
        joint = Joint(Quadratics("scalar", np.zeros(1), pivot[None], np.array([scale])), np.zeros(1))
        assert native._single_enough(rows, joint, pivot) is enough
        assert native.rounding(rows, joint, pivot) == (2.0**-23 if enough else 2.0**-52)
    for scale in (1e-13, 1e13):  # squares leave the range of float32
        joint = Joint(Quadratics("scalar", np.zeros(1), pivot[None], np.array([scale])), np.zeros(1))
        assert not native._single_enough(native.place(X / np.float32(scale)), joint, pivot / scale)
    hard = Joint(Quadratics("scalar", np.zeros(1), pivot[None], np.ones(1)), np.zeros(1), hard=True)
    assert not native._single_enough(rows, hard, pivot)
    assert not native._single_enough(native.place(X.astype(np.float64)), replace(hard, hard=False), pivot)
    mixed, four = native.place(X, X[:, :1].astype(np.float64)), np.zeros(4)
    wide = Joint(Quadratics("scalar", np.zeros(1), four[None], np.ones(1)), np.zeros(1))
    assert not native._single_enough(mixed, wide, four)


def test_a_float32_row_whose_square_only_float64_holds(rng):
    X = rng.normal(size=(1000, 2)).astype(np.float32)
    X[700] = 1e25
    q = Quadratics("scalar", np.zeros(2), np.array([[-1.0, 0.0], [1.0, 0.0]]), np.ones(2))
    arguments = (Joint(q, np.zeros(2)), "full", np.zeros(2))
    native, reference = NativeBackend(), ReferenceBackend()
    placed = native.place(X)
    placed.spread = np.zeros(2), np.ones(2)  # as if the sample had missed it
    got, want = native.expect(placed, *arguments), reference.expect(reference.place(X), *arguments)
    np.testing.assert_allclose(got.second, want.second, rtol=1e-12)
    assert got.log_likelihood == pytest.approx(want.log_likelihood, rel=1e-12)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nearest_centre_is_exact(instruction_set, dtype, rng):
    """Rows that single precision cannot decide are decided in double: ties of integers go to the first centre."""
    _native.set_instruction_set(instruction_set)
    native, reference = NativeBackend(), ReferenceBackend()
    grid = np.stack(np.meshgrid(np.arange(40.0), np.arange(25.0)), axis=-1).reshape(-1, 2)
    for offset in (0.0, 4096.0):
        X = (grid + offset).astype(dtype)
        centres = np.array([[2.0, 2.0], [4.0, 2.0], [2.0, 4.0], [30.0, 20.0], [32.0, 20.0]]) + offset
        q = Quadratics("scalar", np.zeros(5), centres, np.ones(1))
        arguments = (Joint(q, np.zeros(5), hard=True), "mean", X.mean(axis=0, dtype=np.float64))
        got, want = (
            native.expect(native.place(X), *arguments),
            reference.expect(reference.place(X), *arguments),
        )
        np.testing.assert_array_equal(got.mass, want.mass)
        np.testing.assert_allclose(got.first, want.first, rtol=1e-12, atol=1e-9)
        assert got.log_likelihood == pytest.approx(want.log_likelihood, rel=1e-13)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_nearest_centre_where_single_precision_sees_nothing(scale, rng):
    """Two close pairs, far from each other: each row's best two centres differ by less than a float32 shows."""
    centres = scale * np.array([[0.0, 0.0], [1e-3, 0.0], [1e4, 1e4], [1e4 + 1e-3, 1e4]])
    labels = rng.integers(0, 4, 2000)
    X = centres[labels] + scale * 1e-4 * rng.uniform(-1, 1, (2000, 2))
    km = KMeans(4, init=centres, max_iter=1).fit(X)
    np.testing.assert_array_equal(km.labels_, labels)


def test_batches_when_rows_are_equal(monkeypatch):
    monkeypatch.setattr("mixtura.seeding._GREEDY_WORK", 0)
    with pytest.warns(UserWarning, match="distinct"):
        km = KMeans(3, random_state=0).fit(np.ones((10, 2)))
    assert km.inertia_ == 0.0
