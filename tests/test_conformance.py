"""Every backend is held to the reference, and the reference to scipy.stats and to 50 digits."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from scipy import stats

from mixtura.backends.base import Backend, normalize
from mixtura.backends.reference import ReferenceBackend
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics
from problems import (
    EPS,
    FORMS,
    KINDS,
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_expect_hard(kernel_backend, kind, form, rng):
    reference = ReferenceBackend()
    for i, (components, dims, rows) in enumerate(SHAPES):
        p = problem(
            rng, form, components, dims, rows, gate=i % 2 == 0, weighted=i % 3 == 0, linear=i % 4 in (1, 2)
        )
        arguments = (replace(p.joint, hard=True), kind, p.pivot)
        joint = reference.log_joint(p.placed(reference), p.joint)
        if components > 1:  # no row so near a border that rounding decides
            second, first = np.sort(joint, axis=1)[:, -2:].T
            assert np.all(first - second > 2 * joint_tolerance(p).max(axis=1))
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
