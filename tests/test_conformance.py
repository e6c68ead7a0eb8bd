"""Every backend is held to the reference, and the reference to scipy.stats and to 50 digits."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from mixtura.backends.base import Backend, normalize
from mixtura.backends.reference import ReferenceBackend
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics
from problems import (
    EPS,
    FORMS,
    KINDS,
    Problem,
    assert_moments_close,
    computing_eps,
    joint_tolerance,
    problem,
    quadratics,
)

# Around every edge of the kernels' tiles: 1 lane to several vectors, whole and broken blocks.
SHAPES = [
    (1, 1, 1),
    (2, 3, 5),
    (3, 50, 45),
    (3, 2, 700),
    (5, 8, 257),
    (4, 7, 64),
    (13, 9, 300),
    (9, 17, 130),
    (2, 33, 40),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_log_joint(kernel_backend, form, shared, dtype, rng):
    for components, dims, rows in SHAPES:
        for gate, linear in ((False, False), (True, False), (False, True)):
            p = problem(
                rng, form, components, dims, rows, shared=shared, gate=gate, linear=linear, dtype=dtype
            )
            want = ReferenceBackend().log_joint(p.placed(ReferenceBackend()), p.joint)
            got = kernel_backend.log_joint(p.placed(kernel_backend), p.joint)
            assert got.dtype == np.float64
            assert np.all(np.abs(got - want) <= joint_tolerance(p))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_expect(kernel_backend, kind, form, shared, dtype, rng):
    """The fused pass equals accumulate . normalise . log_joint."""
    reference = ReferenceBackend()
    for i, (components, dims, rows) in enumerate(SHAPES):
        p = problem(
            rng,
            form,
            components,
            dims,
            rows,
            shared=shared,
            gate=i % 2 == 0,
            weighted=i % 3 == 0,
            linear=i % 4 in (1, 2),
            dtype=dtype,
        )
        arguments = (p.joint, kind, p.pivot)
        got = kernel_backend.expect(p.placed(kernel_backend), *arguments)
        want = reference.expect(p.placed(reference), *arguments)
        assert_moments_close(got, want, p, computing_eps(kernel_backend, p.X))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_expect_hard(kernel_backend, kind, form, shared, rng):
    reference = ReferenceBackend()
    # The last ones have more rows a component than wait for each other.
    for i, (components, dims, rows) in enumerate([*SHAPES, (3, 40, 700), (2, 25, 400), (1, 24, 150)]):
        p = problem(
            rng,
            form,
            components,
            dims,
            rows,
            shared=shared,
            gate=i % 2 == 0,
            weighted=i % 3 == 0,
            linear=i % 4 in (1, 2),
        )
        arguments = (replace(p.joint, hard=True), kind, p.pivot)
        joint = reference.log_joint(p.placed(reference), p.joint)
        if components > 1:  # no row so near a border that rounding decides
            second, first = np.sort(joint, axis=1)[:, -2:].T
            assert np.all(first - second > 2 * joint_tolerance(p).max(axis=1))
        got = kernel_backend.expect(p.placed(kernel_backend), *arguments)
        assert_moments_close(got, reference.expect(p.placed(reference), *arguments), p)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_moments_of_the_nearest_centres(kernel_backend, kind, dtype, order, weighted, rng):
    """Rows wait for others of their centre's: more and fewer than wait, columns that fill vectors or do not."""
    reference = ReferenceBackend()
    for components, dims, rows in ((1, 24, 150), (3, 25, 400), (7, 40, 1500), (2, 57, 300), (130, 24, 400)):
        p = problem(rng, "scalar", components, dims, rows, shared=True, weighted=weighted, dtype=dtype)
        if weighted:
            p.sample_weight[::7] = 0.0
        p = replace(p, X=np.asarray(p.X, order=order))
        arguments = (replace(p.joint, hard=True), kind, p.pivot)
        got = kernel_backend.expect(p.placed(kernel_backend), *arguments)
        assert_moments_close(got, reference.expect(p.placed(reference), *arguments), p)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["mean", "trace", "diagonal", "full"])
def test_expect_each(kernel_backend, kind, form, dtype, hard, rng):
    """Moments about pivots of their own are those about a common one, moved; of components not wanted, nothing."""
    reference = ReferenceBackend()
    for i, (components, dims, rows) in enumerate(SHAPES):
        shared = form == "scalar"  # with hard assignment, the nearest of centres
        p = problem(
            rng,
            form,
            components,
            dims,
            rows,
            shared=shared,
            gate=i % 2 == 0,
            weighted=i % 3 == 0,
            linear=i % 4 in (1, 2),
            dtype=dtype,
        )
        pivots = p.quadratics.means + rng.normal(size=(components, dims))
        wanted = rng.uniform(size=components) < 0.7
        arguments = (replace(p.joint, hard=hard), kind, pivots, wanted)
        got = kernel_backend.expect_each(p.placed(kernel_backend), *arguments)
        want = Backend.expect_each(reference, p.placed(reference), *arguments)
        np.testing.assert_array_equal(got.pivot, pivots)
        assert not got.mass[~wanted].any()
        assert not (len(got.second) and got.second[~wanted].any())
        # The same sums in another order, of responsibilities that are good to the densities' rounding.
        size = np.abs(p.X.astype(np.float64)).max() + np.abs(pivots).max()
        eps = computing_eps(kernel_backend, p.X) / EPS
        bound = 64 * rows * (1.0 + size) ** 2 * eps * max(joint_tolerance(p).max(), EPS)
        for name in ("mass", "first", "second"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_posterior_and_assign(kernel_backend, form, shared, dtype, rng):
    """Densities, responsibilities and labels are those of the joint densities."""
    reference = ReferenceBackend()
    for components, dims, rows in SHAPES:
        for gate, linear in ((False, False), (True, False), (False, True)):
            p = problem(
                rng, form, components, dims, rows, shared=shared, gate=gate, linear=linear, dtype=dtype
            )
            joint = reference.log_joint(p.placed(reference), p.joint)
            want, density = normalize(joint)
            tolerance = joint_tolerance(p).max(axis=1)
            placed = p.placed(kernel_backend)
            for kept in (np.float64, np.float32, None):
                resp = None if kept is None else np.full((rows, components), np.nan, dtype=kept)
                got = kernel_backend.posterior(placed, p.joint, resp)
                assert got.dtype == np.float64
                assert np.all(np.abs(got - density) <= tolerance + 4 * EPS * np.abs(density))
                if kept is not None:
                    # A density wrong by t makes a responsibility wrong by at most t of it, and so does its row's sum.
                    bound = 2 * tolerance[:, None] + 8 * np.finfo(kept).eps
                    assert np.all(
                        np.abs(resp - want) <= bound * want + max(1e-150, float(np.finfo(kept).tiny))
                    )
            labels, best = kernel_backend.assign(placed, p.joint)
            assert labels.dtype == np.int32
            top = joint.max(axis=1)
            np.testing.assert_array_less(np.abs(best - top), tolerance + 4 * EPS * np.abs(top) + 1e-300)
            chosen = np.take_along_axis(joint, labels[:, None].astype(int), axis=1)[:, 0]
            assert np.all(top - chosen <= 2 * tolerance)  # another label only where rounding decides


@pytest.mark.parametrize("kind", KINDS)
def test_accumulate(kernel_backend, kind, rng):
    reference = ReferenceBackend()
    for i, (components, dims, rows) in enumerate(SHAPES):
        p = problem(rng, "scalar", components, dims, rows, weighted=i % 2 == 0)
        resp = rng.dirichlet(np.ones(components), rows) * rng.uniform(0, 2, (rows, 1))  # need not sum to 1
        arguments = (resp, kind, p.pivot)
        got = kernel_backend.accumulate(p.placed(kernel_backend), *arguments)
        assert_moments_close(got, reference.accumulate(p.placed(reference), *arguments), p)


@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed", "readonly"])
def test_layouts(kernel_backend, layout, rng):
    """Rows are read where they lie."""
    p = problem(rng, "triangle", 3, 5, 333)
    X = {
        "C": lambda: p.X,
        "F": lambda: np.asfortranarray(p.X),
        "strided": lambda: np.repeat(np.repeat(p.X, 2, axis=0), 3, axis=1)[::2, ::3],
        "reversed": lambda: np.ascontiguousarray(p.X[::-1])[::-1],
        "readonly": lambda: np.frombuffer(p.X.tobytes()).reshape(p.X.shape),
    }[layout]()
    np.testing.assert_array_equal(X, p.X)
    want = kernel_backend.expect(p.placed(kernel_backend), p.joint, "full", p.pivot)
    got = kernel_backend.expect(kernel_backend.place(X), p.joint, "full", p.pivot)
    np.testing.assert_array_equal(got.second, want.second)
    assert got.log_likelihood == want.log_likelihood


def test_misaligned_rows_are_copied(require, rng):
    native = require("native")
    p = problem(rng, "diagonal", 2, 3, 50)
    raw = np.zeros(p.X.nbytes + 4, dtype=np.uint8)
    X = raw[4:].view(np.float64).reshape(p.X.shape)
    X[:] = p.X
    got = native.expect(native.place(X), p.joint, "mean", p.pivot)
    want = native.expect(p.placed(native), p.joint, "mean", p.pivot)
    np.testing.assert_array_equal(got.first, want.first)


def test_every_instruction_set(require, rng):
    native = require("native")
    from mixtura import _native

    reference, in_use = ReferenceBackend(), _native.instruction_set()
    try:
        for name in _native.instruction_sets():
            _native.set_instruction_set(name)
            assert _native.instruction_set() == name
            for form in FORMS:
                for shared in (False, True):
                    for components, dims, rows in SHAPES:
                        p = problem(
                            rng,
                            form,
                            components,
                            dims,
                            rows,
                            shared=shared,
                            weighted=True,
                            linear=dims % 2 == 1,
                        )
                        for kind in ("trace", "diagonal", "full"):
                            for hard in (False, True):
                                a = (replace(p.joint, hard=hard), kind, p.pivot)
                                got = native.expect(p.placed(native), *a)
                                assert_moments_close(got, reference.expect(p.placed(reference), *a), p)
    finally:
        _native.set_instruction_set(in_use)
    with pytest.raises(ValueError, match="instruction set 'mmx' is not available here; available: "):
        _native.set_instruction_set("mmx")


def test_rows_that_no_component_reaches_have_no_influence_on_others(backend, rng):
    """Far from every component densities underflow, responsibilities do not."""
    q = Quadratics("scalar", np.zeros(2), np.array([[0.0], [1.0]]), np.ones(2))
    X = np.array([[1e6], [-1e6], [0.25]])
    m = backend.expect(backend.place(X), Joint(q, np.zeros(2)), "mean", np.zeros(1))
    near = np.exp(-0.5 * 0.75**2) / (np.exp(-0.5 * 0.75**2) + np.exp(-0.5 * 0.25**2))
    np.testing.assert_allclose(m.mass, [1.0 + 1.0 - near, 1.0 + near], rtol=1e-14)


def test_weights_of_zero_switch_components_off(backend, rng):
    p = problem(rng, "diagonal", 3, 2, 40)
    with np.errstate(divide="ignore"):
        log_weights = np.log([0.5, 0.0, 0.5])
    m = backend.expect(p.placed(backend), Joint(p.quadratics, log_weights), "mean", p.pivot)
    assert m.mass[1] == 0.0
    assert np.all(m.first[1] == 0.0)
    assert m.is_finite()


def test_no_rows(backend):
    q = Quadratics("scalar", np.zeros(2), np.zeros((2, 3)), np.ones(2))
    m = backend.expect(backend.place(np.empty((0, 3))), Joint(q, np.zeros(2)), "full", np.zeros(3))
    assert m.n_samples == 0
    assert not m.mass.any()
    assert not m.second.any()


# ------------------------------------------------------------------ the reference


@pytest.mark.parametrize("form", FORMS)
def test_reference_against_scipy(form, rng):
    """Normalised quadratics are Gaussian log-densities."""
    K, D = 3, 4
    q = quadratics(rng, form, K, D)
    dense = [np.diag(f * np.ones(D)) if form in ("scalar", "diagonal") else f for f in q.factors]
    log_norm = [0.5 * np.linalg.slogdet(f.T @ f)[1] - 0.5 * D * np.log(2 * np.pi) for f in dense]
    q = Quadratics(form, np.array(log_norm), q.means, q.factors)
    X = rng.normal(size=(50, D))
    got = ReferenceBackend().log_joint(ReferenceBackend().place(X), Joint(q, np.zeros(K)))
    for k in range(K):
        want = stats.multivariate_normal(q.means[k], np.linalg.inv(dense[k].T @ dense[k])).logpdf(X)
        condition = np.linalg.cond(dense[k]) ** 2
        np.testing.assert_allclose(got[:, k], want, rtol=0, atol=64 * EPS * condition * np.abs(want).max())


def test_reference_against_fifty_digits(rng):
    """log p(x) of an ill-conditioned mixture far from the origin."""
    mpmath.mp.dps = 50
    D, K, N = 3, 2, 5
    factors = np.tril(rng.normal(size=(K, D, D))) * np.array([1e3, 1.0, 1e-3])[:, None]
    linear = rng.normal(size=(K, D))
    q = Quadratics("triangle", rng.normal(size=K), 1e6 + rng.normal(size=(K, D)), factors, linear)
    X = 1e6 + rng.normal(size=(N, D))
    log_weights = np.log([0.25, 0.75])
    joint = ReferenceBackend().log_joint(ReferenceBackend().place(X), Joint(q, log_weights))
    _, density = normalize(joint)
    for i in range(N):
        terms = []
        for k in range(K):
            z = [mpmath.mpf(float(X[i, d])) - mpmath.mpf(float(q.means[k, d])) for d in range(D)]
            y = [sum(mpmath.mpf(float(factors[k, r, d])) * z[d] for d in range(r + 1)) for r in range(D)]
            square = sum(v * v for v in y)
            tilt = mpmath.fsum(mpmath.mpf(float(linear[k, d])) * z[d] for d in range(D))
            terms.append(mpmath.mpf(float(q.offsets[k] + log_weights[k])) + tilt - square / 2)
            # x - m is exact here (Sterbenz); what remains is D products and sums, squared.
            assert abs(joint[i, k] - float(terms[k])) <= 16 * EPS * float(square + abs(terms[k]))
        want = float(mpmath.log(sum(mpmath.exp(t) for t in terms)))
        assert abs(density[i] - want) <= 32 * EPS * max(abs(want), float(max(map(abs, terms))))


def test_default_expect_is_the_composition(rng):
    """The base class's blocks add up to one accumulate . normalise . log_joint over all rows."""
    reference = ReferenceBackend()
    p = problem(rng, "triangle", 3, 2, 20_000, weighted=True)
    rows = p.placed(reference)
    resp, density = normalize(reference.log_joint(rows, p.joint))
    whole = reference.accumulate(rows, resp, "full", p.pivot)
    got = Backend.expect(reference, rows, p.joint, "full", p.pivot)
    np.testing.assert_allclose(got.second, whole.second, rtol=1e-12)
    np.testing.assert_allclose(got.log_likelihood, density @ p.sample_weight, rtol=1e-12)


def test_hard_is_the_limit_of_soft(backend, rng):
    """Scaling all quadratics up makes responsibilities those of hard assignment."""
    p = problem(rng, "scalar", 4, 3, 200)
    q = Quadratics("scalar", np.zeros(4), p.quadratics.means, np.full(4, 1e4))
    arguments = (Joint(q, np.zeros(4)), "mean", p.pivot)
    soft = backend.expect(p.placed(backend), *arguments)
    hard = backend.expect(p.placed(backend), replace(arguments[0], hard=True), *arguments[1:])
    np.testing.assert_allclose(soft.mass, hard.mass, rtol=1e-12)
    np.testing.assert_allclose(soft.first, hard.first, rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------ linear terms


@pytest.mark.parametrize("form", FORMS)
def test_a_linear_term_is_another_mean(backend, form, rng):
    """Completing the square: c + b.(z - m) - |F (z - m)|^2 / 2 is a quadratic about m + P b with P = (F'F)^-1."""
    p = problem(rng, form, 5, 4, 300, linear=True)
    q = p.quadratics
    dense = [np.diag(f * np.ones(4)) if form in ("scalar", "diagonal") else f for f in q.factors]
    inverse = np.array([np.linalg.inv(f.T @ f) for f in dense])
    shifts = np.einsum("kde,ke->kd", inverse, q.linear)
    offsets = q.offsets + 0.5 * np.einsum("kd,kd->k", shifts, q.linear)
    moved = replace(p, quadratics=Quadratics(form, offsets, q.means + shifts, q.factors))
    got = backend.log_joint(p.placed(backend), p.joint)
    want = backend.log_joint(p.placed(backend), moved.joint)
    # The shifts carry eps times the condition of F'F; a shift wrong by t moves a square by t |F| |F (z - m)|.
    condition = max(np.linalg.cond(f) for f in dense) ** 2
    assert np.all(np.abs(got - want) <= condition * (joint_tolerance(p) + joint_tolerance(moved)))
    assert np.abs(shifts).max() > 0.1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("components", [1, 4, 11])
def test_a_linear_term_alone_is_a_softmax(backend, components, dtype, rng):
    """Factors of 0: responsibilities are the softmax of c + b . (z - m)."""
    D, N = 6, 500
    flat = Quadratics.flat(components, rng.normal(size=D))
    q = replace(flat, offsets=rng.normal(size=components), linear=rng.normal(size=(components, D)))
    p = Problem(rng.normal(size=(N, D)).astype(dtype), q, np.zeros(components), None, rng.normal(size=D))
    logits = (p.X.astype(np.float64) - q.means[0]) @ q.linear.T + q.offsets
    want, density = special.softmax(logits, axis=1), special.logsumexp(logits, axis=1)
    tolerance = joint_tolerance(p)
    resp = np.empty((N, components))
    placed = p.placed(backend)
    assert np.all(np.abs(backend.log_joint(placed, p.joint) - logits) <= tolerance)
    got = backend.posterior(placed, p.joint, resp)
    assert np.all(np.abs(got - density) <= tolerance.max(axis=1) + 4 * EPS * np.abs(density))
    assert np.all(np.abs(resp - want) <= 2 * tolerance.max(axis=1, keepdims=True) + 8 * EPS)
    labels, best = backend.assign(placed, p.joint)
    assert np.all(np.abs(best - logits.max(axis=1)) <= tolerance.max(axis=1) + 4 * EPS * np.abs(best))
    chosen = np.take_along_axis(logits, labels[:, None].astype(int), axis=1)
    assert np.all(logits.max(axis=1, keepdims=True) - chosen <= 2 * tolerance.max(axis=1, keepdims=True))
    m = backend.expect(placed, p.joint, "mean", p.pivot)
    eps = computing_eps(backend, p.X)
    bound = N * (eps + 2 * joint_tolerance(p, eps).max())  # of a responsibility, and of adding N up
    np.testing.assert_allclose(m.mass, want.sum(axis=0), rtol=0, atol=bound)
    z = p.X - p.pivot
    np.testing.assert_allclose(m.first, want.T @ z, rtol=0, atol=bound * np.abs(z).max())
    assert abs(m.log_likelihood - density.sum()) <= bound * max(1.0, np.abs(logits).max())


@pytest.mark.parametrize("form", FORMS)
def test_linear_terms_against_fifty_digits(backend, form, rng):
    """Far from the origin, the means and the rows a few spreads apart: log pi_k + log p_k(z), (N, K)."""
    K, D, N = 3, 4, 6
    q = quadratics(rng, form, K, D)
    q = replace(q, means=1e6 + q.means, linear=10.0 * rng.normal(size=(K, D)))
    p = Problem(1e6 + rng.normal(size=(N, D)), q, np.log([0.2, 0.3, 0.5]), None, q.center)
    joint = backend.log_joint(p.placed(backend), p.joint)
    dense = [np.diag(f * np.ones(D)) if form in ("scalar", "diagonal") else f for f in q.factors]

    def exact(a, b):
        return mpmath.fsum(mpmath.mpf(float(v)) * w for v, w in zip(a, b, strict=True))

    with mpmath.workdps(50):
        for i in range(N):
            for k in range(K):
                z = [
                    mpmath.mpf(float(x)) - mpmath.mpf(float(m))
                    for x, m in zip(p.X[i], q.means[k], strict=True)
                ]
                square = mpmath.fsum(exact(row, z) ** 2 for row in dense[k])
                constant = mpmath.mpf(float(q.offsets[k])) + mpmath.mpf(float(p.log_weights[k]))
                want = constant + exact(q.linear[k], z) - square / 2
                # Differences of numbers near 1e6 are exact here (Sterbenz), so that nothing of eps 1e6 is left, whether
                # z is measured from a mean or, with the mean, from a point among them: terms are as large as `reach`.
                reach = np.abs(p.X[i] - q.center) + np.abs(q.means[k] - q.center)
                size = np.abs(q.linear[k]) @ reach + 0.5 * np.sum((np.abs(dense[k]) @ reach) ** 2)
                bound = (2 * D + 16) * EPS * (size + abs(float(constant)) + 1.0)
                assert abs(joint[i, k] - float(want)) <= bound


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_linear_terms_far_from_the_pivot(kernel_backend, dtype, rng):
    """A pivot 1e6 away costs eps64 1e6 |b| of a log-density, and no more, whatever the rows' type."""
    p = problem(rng, "diagonal", 4, 3, 400, linear=True, dtype=dtype)
    # Squares that are small about the pivot: what is left is the linear terms.
    q = replace(p.quadratics, factors=1e-7 * p.quadratics.factors)
    p = replace(p, quadratics=q, pivot=p.pivot + 1e6)
    reference = ReferenceBackend()
    want = reference.expect(p.placed(reference), p.joint, "mass", p.pivot)
    got = kernel_backend.expect(p.placed(kernel_backend), p.joint, "mass", p.pivot)
    assert joint_tolerance(p).max() < 1e-6
    assert_moments_close(got, want, p)


def test_quadratics_refuse_a_rectangle_without_rows():
    with pytest.raises(ValueError, match="do not fit form 'rectangle'"):
        Quadratics("rectangle", np.zeros(2), np.zeros((2, 3)), np.ones((2, 0, 3)))
