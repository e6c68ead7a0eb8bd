"""The CUDA backend beyond the conformance tests: tiles, streams, lists, ties, arrays on devices, and what goes wrong.

Everything runs on the emulated device; with a GPU, ``--require-backend cuda`` runs it there as well.
"""

import importlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import mixtura
from emulated import CapsuleArray, EmulatedBackend, EmulatedWarpgroups, InterfaceArray
from mixtura import GaussianMixture, KMeans, MixtureOfExperts, backends
from mixtura.array_kinds import to_host
from mixtura.backends.compiled import relative_width
from mixtura.backends.cuda import _in_memory
from mixtura.backends.reference import ReferenceBackend
from mixtura.joint import Joint
from mixtura.moments import Moments
from mixtura.quadratics import Quadratics
from problems import EPS, assert_moments_close, computing_eps, problem

# Every width of the dense product's tiles (8, 32 and 128 components) and of the factors' bands (4 and 8 rows).
REGIMES = [
    ("triangle", 5, 3, 900),
    ("triangle", 20, 17, 500),
    ("triangle", 130, 9, 400),
    ("triangle", 70, 24, 260),
    ("rectangle", 66, 21, 260),
    ("diagonal", 200, 37, 400),
    ("scalar", 65, 130, 300),
]


@pytest.fixture(params=["emulated", "emulated-warpgroups", "cuda"])
def device(request, require):
    """Makes a backend on a device, with options of its constructor."""
    return type(require(request.param))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("form", "components", "dims", "rows"), REGIMES)
def test_regimes_tile_by_tile(device, form, components, dims, rows, dtype, rng):
    """Many tiles, the last one broken, kept on the device or streamed: the reference, and the same bits."""
    reference = ReferenceBackend()
    p = problem(rng, form, components, dims, rows, gate=True, weighted=True, dtype=dtype)
    for kind in ("trace", "diagonal", "full"):
        arguments = (p.joint, kind, p.pivot)
        want = reference.expect(p.placed(reference), *arguments)
        found = []
        for memory in (None, 0):
            backend = device(memory=memory, tile_bytes=1 << 18)
            placed = p.placed(backend)
            assert placed.table.resident == (memory is None)
            found.append(backend.expect(placed, *arguments))
            assert_moments_close(found[-1], want, p, computing_eps(backend, p.X))
        np.testing.assert_array_equal(found[0].second, found[1].second)
        assert found[0].log_likelihood == found[1].log_likelihood


def test_tiles_of_one_panel_add_up(device, rng):
    p = problem(rng, "triangle", 3, 2, 1000)
    arguments = (p.joint, "full", p.pivot)
    whole = device().expect(p.placed(device()), *arguments)
    panels = device(tile_bytes=1)
    assert_moments_close(panels.expect(p.placed(panels), *arguments), whole, p)


def test_the_same_bits_every_time(device, rng):
    p = problem(rng, "triangle", 9, 6, 3000, dtype=np.float32)
    backend = device(tile_bytes=1 << 17)
    placed = p.placed(backend)
    first, again = (backend.expect(placed, p.joint, "full", p.pivot) for _ in range(2))
    np.testing.assert_array_equal(first.second, again.second)
    assert first.log_likelihood == again.log_likelihood


@pytest.mark.parametrize("layout", ["F", "strided", "reversed"])
@pytest.mark.parametrize("memory", [None, 0])
def test_layouts_on_their_way(device, layout, memory, rng):
    p = problem(rng, "triangle", 3, 5, 700)
    X = {
        "F": lambda: np.asfortranarray(p.X),
        "strided": lambda: np.repeat(np.repeat(p.X, 2, axis=0), 3, axis=1)[::2, ::3],
        "reversed": lambda: np.ascontiguousarray(p.X[::-1])[::-1],
    }[layout]()
    backend = device(memory=memory, tile_bytes=1 << 16)
    want, got = (backend.expect(backend.place(a), p.joint, "full", p.pivot) for a in (p.X, X))
    np.testing.assert_array_equal(got.second, want.second)


@pytest.mark.parametrize("memory", [None, 0])
def test_rows_from_two_arrays(device, memory, rng):
    p = problem(rng, "rectangle", 3, 5, 600)
    backend = device(memory=memory, tile_bytes=1 << 16)
    want = backend.expect(p.placed(backend), p.joint, "full", p.pivot)
    both = backend.place(np.asfortranarray(p.X[:, :3]), p.X[:, 3:])
    got = backend.expect(both, p.joint, "full", p.pivot)
    np.testing.assert_array_equal(got.second, want.second)


def test_runs_of_rows(device, rng):
    """A block of placed rows is read where it is."""
    p = problem(rng, "triangle", 3, 4, 900)
    backend = device(tile_bytes=1 << 15)
    placed = p.placed(backend)
    got = backend.log_joint(placed.block(130, 700).block(20, 400), p.joint)
    want = backend.log_joint(backend.place(p.X[150:530]), p.joint)
    np.testing.assert_array_equal(got, want)


# ---------------------------------------------------------------- lists


def far_apart(rng, components=24, dims=6, rows=4000, dtype=np.float64):
    means = 40.0 * rng.normal(size=(components, dims))
    X = (means[rng.integers(0, components, rows)] + rng.normal(size=(rows, dims))).astype(dtype)
    factors = np.tile(np.eye(dims), (components, 1, 1))
    return X, Quadratics("triangle", np.zeros(components), means, factors)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_lists_lose_nothing_that_matters(device, dtype, rng):
    """Where most pairs do not count, sums over lists of those that do are those over all."""
    X, q = far_apart(rng, dtype=dtype)
    weights = rng.uniform(0.0, 2.0, len(X))
    weights[::7] = 0.0
    reference, backend = ReferenceBackend(), device(tile_bytes=1 << 19)
    arguments = (Joint(q, np.full(24, -np.log(24))), "full", X.mean(axis=0).astype(np.float64))
    want = reference.expect(reference.place(X, None, weights), *arguments)
    got = backend.expect(backend.place(X, None, weights), *arguments)
    eps = computing_eps(backend, X)
    for name in ("mass", "first", "second"):
        a, b = getattr(got, name), getattr(want, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=4096 * eps * np.abs(b).max())
    assert got.mass.sum() == pytest.approx(weights.sum(), rel=1e-15 + 8 * eps)


def test_lists_and_the_dense_product_agree(device, rng):
    """One pair fewer than the threshold, one more: the same moments to rounding."""
    backend, reference = device(), ReferenceBackend()
    X, pivot = rng.normal(size=(512, 6)), np.zeros(6)
    flat = Quadratics("scalar", np.zeros(24), np.zeros((24, 6)), np.full(24, 1e-9))
    for share in (1 / 16 - 1e-3, 1 / 16 + 1e-3):
        # Some rows belong to all components alike, the others to one: so that this share of the pairs counts.
        alike = round(512 * (24 * share - 1) / 23)
        gate = np.where(np.arange(512)[:, None] < alike, 0.0, -1e3 * (np.arange(24) != 3))
        got = backend.expect(backend.place(X), Joint(flat, gate), "full", pivot)
        want = reference.expect(reference.place(X), Joint(flat, gate), "full", pivot)
        np.testing.assert_allclose(got.second, want.second, rtol=1e-12, atol=1e-12)


# -------------------------------------------------------------- nearest


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nearest_centre_where_rounding_could_decide(device, dtype, rng):
    """Labels are those of float64 differences, even of rows midway between centres, and of equal centres."""
    centres = rng.normal(size=(150, 7)).astype(dtype).astype(np.float64)
    centres[140:] = centres[:10]  # the first of equals
    pairs = rng.integers(0, 140, (3000, 2))
    X = (0.5 * (centres[pairs[:, 0]] + centres[pairs[:, 1]])).astype(dtype)
    q = Quadratics("scalar", np.zeros(150), centres, np.ones(1))
    backend = device(tile_bytes=1 << 18)
    labels, best = backend.assign(backend.place(X), Joint(q, np.zeros(150)))
    joint = ReferenceBackend().log_joint(ReferenceBackend().place(X), Joint(q, np.zeros(150)))
    top = joint.max(axis=1)
    np.testing.assert_allclose(best, top, rtol=64 * EPS)
    chosen = joint[np.arange(len(X)), labels]
    assert np.all(top - chosen <= 64 * EPS * np.abs(top))
    clear = np.sort(joint, axis=1)
    clear = clear[:, -1] - clear[:, -2] > 64 * EPS * np.abs(top)
    np.testing.assert_array_equal(labels[clear], joint.argmax(axis=1)[clear])
    assert np.all(labels < 140)


def test_nearest_centre_where_float32_sees_nothing(device, rng):
    """Centres far from the pivot and close to each other: float32 scores are rounding, labels are not."""
    centres = 1000.0 + 0.05 * rng.normal(size=(9, 4))
    X = (centres[rng.integers(0, 9, 2000)] + 0.01 * rng.normal(size=(2000, 4))).astype(np.float32)
    q = Quadratics("scalar", np.zeros(9), centres, np.ones(1))
    reference, backend = ReferenceBackend(), device()
    joint = reference.log_joint(reference.place(X), Joint(q, np.zeros(9)))
    labels, _ = backend.assign(backend.place(X), Joint(q, np.zeros(9)))
    np.testing.assert_array_equal(labels, joint.argmax(axis=1))
    arguments = (Joint(q, np.zeros(9), hard=True), "mass", np.zeros(4))
    got, want = backend.expect(backend.place(X), *arguments), reference.expect(reference.place(X), *arguments)
    np.testing.assert_array_equal(got.mass, want.mass)
    assert got.log_likelihood == pytest.approx(want.log_likelihood, rel=1e-9)


def test_labels_beside_log_joint(device, rng):
    p = problem(rng, "triangle", 40, 5, 900)
    backend = device(tile_bytes=1 << 17)
    labels, best = backend.assign(p.placed(backend), p.joint)
    joint = backend.log_joint(p.placed(backend), p.joint)
    np.testing.assert_array_equal(labels, joint.argmax(axis=1))
    np.testing.assert_allclose(best, joint.max(axis=1), rtol=16 * EPS, atol=1e-12)


# ------------------------------------------------------- by warpgroups


@pytest.mark.parametrize(
    ("form", "components", "dims", "rows"),
    [
        ("triangle", 8, 12, 300),
        ("triangle", 9, 16, 129),
        ("triangle", 129, 40, 270),
        ("rectangle", 20, 33, 520),
    ],
)
@pytest.mark.parametrize("kind", ["mass", "mean", "trace", "diagonal", "full"])
def test_edges_of_groups_bands_and_panels(device, form, components, dims, rows, kind, rng):
    """One component, row or column more than whole groups, panels and steps hold."""
    reference, backend = ReferenceBackend(), device()
    p = problem(rng, form, components, dims, rows, weighted=True, dtype=np.float32)
    arguments = (p.joint, kind, p.pivot)
    got, want = (
        backend.expect(p.placed(backend), *arguments),
        reference.expect(p.placed(reference), *arguments),
    )
    assert_moments_close(got, want, p, computing_eps(backend, p.X))


@pytest.mark.parametrize("components", [1400, 1500])
def test_components_beyond_what_normalising_holds(device, components, rng):
    """A block keeps a row's numbers of so many components in shared memory; of more it reads them twice."""
    reference, backend = ReferenceBackend(), device()
    p = problem(rng, "triangle", components, 12, 150, weighted=True, dtype=np.float32)
    arguments = (p.joint, "mean", p.pivot)
    got = backend.expect(p.placed(backend), *arguments)
    want = reference.expect(p.placed(reference), *arguments)
    assert_moments_close(got, want, p, computing_eps(backend, p.X))


def test_columns_beyond_what_a_panel_holds(device, rng):
    """Rows so long that no panel of them fits beside the factors: the other kernels."""
    reference, backend = ReferenceBackend(), device()
    p = problem(rng, "triangle", 8, 400, 150, dtype=np.float32)
    arguments = (p.joint, "mean", p.pivot)
    got, want = (
        backend.expect(p.placed(backend), *arguments),
        reference.expect(p.placed(reference), *arguments),
    )
    assert_moments_close(got, want, p, computing_eps(backend, p.X))


def test_densities_keep_the_digits_of_float32(device, rng):
    """Row by row, so that no error hides behind another one's sign."""
    p = problem(rng, "triangle", 8, 64, 40, dtype=np.float32)
    backend, reference = device(), ReferenceBackend()
    there, here = p.placed(backend), p.placed(reference)
    for i in range(len(p.X)):
        got, want = (
            b.expect(rows.block(i, i + 1), p.joint, "mean", p.pivot).log_likelihood
            for b, rows in ((backend, there), (reference, here))
        )
        # Float32's own products are off by up to 4 eps here; two parts in place of three are off by more than 12.
        assert abs(got - want) <= 12.0 * computing_eps(backend, p.X) * max(abs(want), 1.0)


def test_fast_moments_add_up(device, rng):
    """Responsibilities in one part are rounded alike in all moments of a component, and the largest is exact."""
    p = problem(rng, "triangle", 64, 20, 2000, dtype=np.float32)
    backend, reference = device(precision="fast"), ReferenceBackend()
    arguments = (p.joint, "full", p.pivot)
    got, want = (
        backend.expect(p.placed(backend), *arguments),
        reference.expect(p.placed(reference), *arguments),
    )
    assert got.log_likelihood == pytest.approx(want.log_likelihood, rel=1e-5)
    # One bfloat16 rounds a responsibility by 2^-9 of it at most, and over many rows as often up as down.
    assert got.mass.sum() == pytest.approx(len(p.X), rel=2.0**-9)
    np.testing.assert_allclose(got.mass, want.mass, rtol=0, atol=2.0**-8 * want.mass.max())


# ----------------------------------------------------------- hard sums


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("components", "rows"), [(1, 300), (3, 5000), (300, 4500)])
def test_sums_over_hard_assignments(device, components, rows, dtype, rng):
    """Components without rows, rows without weight, and more rows than a block sorts: to double's rounding."""
    X = rng.normal(size=(rows, 4)).astype(dtype)
    means = rng.normal(size=(components, 4))
    means[-1] += 100.0  # nobody's
    weights = rng.uniform(0.5, 2.0, rows)
    weights[::5] = 0.0
    q = Quadratics("diagonal", np.zeros(components), means, np.ones((components, 4)))
    arguments = (Joint(q, np.zeros(components), hard=True), "full", X.mean(axis=0).astype(np.float64))
    reference, backend = ReferenceBackend(), device()
    got, want = (b.expect(b.place(X, None, weights), *arguments) for b in (backend, reference))
    for name in ("mass", "first", "second"):
        a, b = getattr(got, name), getattr(want, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * max(np.abs(b).max(), 1.0))


# -------------------------------- responsibilities, given and asked for


def test_responsibilities_of_the_caller(device, rng):
    reference, backend = ReferenceBackend(), device()
    X, resp = rng.normal(size=(300, 10)), rng.dirichlet(np.ones(70), 300)
    pivot = X.mean(axis=0)
    got, want = (b.accumulate(b.place(X), resp, "full", pivot) for b in (backend, reference))
    np.testing.assert_allclose(got.second, want.second, rtol=0, atol=1e-12 * np.abs(want.second).max())


@pytest.mark.parametrize("resp_dtype", [None, np.float32, np.float64])
@pytest.mark.parametrize("gate", [False, True])
def test_posteriors_tile_by_tile(device, resp_dtype, gate, rng):
    p = problem(rng, "triangle", 7, 5, 900, gate=gate, dtype=np.float32)
    reference, backend = ReferenceBackend(), device(tile_bytes=1 << 16)
    there, here = (None if resp_dtype is None else np.empty((900, 7), resp_dtype) for _ in range(2))
    got = backend.posterior(p.placed(backend), p.joint, there)
    want = reference.posterior(p.placed(reference), p.joint, here)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    if resp_dtype is not None:
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-12 if resp_dtype == np.float64 else 1e-6)


# ------------------------------------------------- tables that are streamed


def test_pinned_rows_and_gathered_rows(device, rng):
    """From the second pass on rows come from where they lie: the same bits."""
    p = problem(rng, "diagonal", 4, 64, 9000, dtype=np.float32)
    backend = device(memory=0, tile_bytes=1 << 20)
    placed = p.placed(backend)
    first, second, third = (backend.expect(placed, p.joint, "diagonal", p.pivot) for _ in range(3))
    for again in (second, third):
        np.testing.assert_array_equal(again.second, first.second)
        assert again.log_likelihood == first.log_likelihood


def test_files_are_not_pinned(tmp_path, rng):
    np.save(tmp_path / "rows.npy", rng.normal(size=(10, 3)))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    own = rng.normal(size=(10, 3))
    assert not any(map(_in_memory, (mapped, mapped[2:], np.asarray(mapped), np.frombuffer(bytes(24)))))
    assert all(map(_in_memory, (own, own[::2].T)))


# ----------------------------------------------------------- estimators


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_gaussian_mixture_as_on_the_host(device, covariance_type, blobs):
    settings = {"covariance_type": covariance_type, "random_state": 0, "tol": 1e-8}
    host = GaussianMixture(3, backend="native", **settings).fit(blobs)
    there = GaussianMixture(3, backend=device.name, **settings).fit(blobs)
    assert there.backend_ == device.name
    order, other = np.argsort(host.means_[:, 0]), np.argsort(there.means_[:, 0])
    np.testing.assert_allclose(there.means_[other], host.means_[order], rtol=0, atol=1e-5)
    np.testing.assert_allclose(there.score_samples(blobs), host.score_samples(blobs), atol=1e-5)
    assert np.array_equal(np.argsort(other)[there.predict(blobs)], np.argsort(order)[host.predict(blobs)])


def test_kmeans_as_on_the_host(device, blobs):
    host = KMeans(3, backend="native", random_state=0).fit(blobs)
    there = KMeans(3, backend=device.name, random_state=0).fit(blobs)
    np.testing.assert_array_equal(there.labels_, host.labels_)
    assert there.inertia_ == pytest.approx(host.inertia_, rel=1e-13)


def test_experts_as_on_the_host(device, rng):
    X = rng.normal(size=(400, 3))
    y = np.where(X[:, 0] > 0, X @ [1.0, 2.0, -1.0], X @ [-2.0, 0.5, 1.0]) + 0.1 * rng.normal(size=400)
    host = MixtureOfExperts(2, gate="softmax", backend="native", random_state=0).fit(X, y)
    there = MixtureOfExperts(2, gate="softmax", backend=device.name, random_state=0).fit(X, y)
    assert there.lower_bound_ == pytest.approx(host.lower_bound_, rel=1e-6)
    np.testing.assert_allclose(there.predict(X), host.predict(X), atol=1e-3)


# ------------------------------------------------------ arrays on devices


def on_device(name, X):
    """X on the device, in the ways that arrays have to say so."""
    if name != "cuda":
        return [InterfaceArray(X), CapsuleArray(X)]
    cupy, torch = pytest.importorskip("cupy"), pytest.importorskip("torch")
    there = cupy.asarray(X)
    return [there, torch.as_tensor(X, device="cuda"), DlpackOnly(there)]


class DlpackOnly:
    """Shows an array of a device by DLPack alone."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **settings):
        return self.array.__dlpack__(**settings)

    def get(self):
        return self.array.get()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fits_to_arrays_on_the_device(device, dtype, blobs):
    X = blobs.astype(dtype)
    weights = np.linspace(0.0, 1.0, len(X))
    settings = {"backend": device.name, "random_state": 0}
    host = GaussianMixture(3, **settings).fit(X, sample_weight=weights)
    for Z in on_device(device.name, X):
        there = GaussianMixture(3, **settings).fit(Z, sample_weight=weights)
        np.testing.assert_array_equal(there._host("means_"), host.means_)
        assert to_host(there.means_).dtype == dtype
        np.testing.assert_array_equal(there._host("weights_"), host.weights_)
        np.testing.assert_array_equal(host.predict(X), to_host(there.predict(Z)))
        np.testing.assert_array_equal(host.score_samples(X), to_host(there.score_samples(Z)))
        assert there.score(Z) == host.score(X)
    for Z in on_device(device.name, X):
        assert KMeans(3, **settings).fit(Z).inertia_ == KMeans(3, **settings).fit(X).inertia_


def test_rows_that_are_still_being_computed(require, rng):
    """What another library has under way on a stream of its own is finished before rows are read."""
    backend = require("cuda")
    cupy = pytest.importorskip("cupy")
    X = rng.normal(size=(20_000, 8))
    want = backend.place(X).table.survey(None)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        slow = cupy.ones((2048, 2048))
        for _ in range(20):
            slow = slow @ slow * 1e-4
        rows = cupy.asarray(X) + 0.0 * slow[0, 0]
        got = backend.place(rows).table.survey(None)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize(("form", "components", "dims", "rows"), REGIMES)
def test_with_warpgroups_and_without(require, monkeypatch, form, components, dims, rows, precision, rng):
    """Hopper's own products, and those of every device: the same to rounding. Elsewhere both are the latter."""
    kind = type(require("cuda"))
    p = problem(rng, form, components, dims, rows, weighted=True, dtype=np.float32)
    reference = ReferenceBackend()
    for wanted in ("1", "0"):
        monkeypatch.setenv("MIXTURA_CUDA_WARPGROUPS", wanted)
        backend = kind(precision=precision)
        for kind_of_moments in ("trace", "diagonal", "full"):
            arguments = (p.joint, kind_of_moments, p.pivot)
            want = reference.expect(p.placed(reference), *arguments)
            got = backend.expect(p.placed(backend), *arguments)
            if precision == "exact":
                assert_moments_close(got, want, p, computing_eps(backend, p.X))
            else:
                np.testing.assert_allclose(
                    got.second, want.second, rtol=0, atol=4e-3 * np.abs(want.second).max()
                )


def test_experts_of_arrays_on_the_device(device, rng):
    """Copied to the host, fitted with the device's kernels."""
    X = rng.normal(size=(200, 2))
    y = X @ [1.0, -1.0] + 0.1 * rng.normal(size=200)
    settings = {"backend": device.name, "random_state": 0}
    host = MixtureOfExperts(2, **settings).fit(X, y)
    for Z in on_device(device.name, X):
        there = MixtureOfExperts(2, **settings).fit(Z, y)
        assert there.lower_bound_ == host.lower_bound_
        np.testing.assert_array_equal(to_host(there.predict(Z)), host.predict(X))
        assert there.bic(Z, y) == host.bic(X, y)


def test_experts_are_scored_on_the_device(require, rng):
    require("emulated")
    X = rng.normal(size=(100, 2))
    y = X @ [1.0, -1.0]
    model = MixtureOfExperts(2, backend="emulated", random_state=0).fit(X, y)
    assert model.score(InterfaceArray(X), InterfaceArray(y)) == model.score(X, y)


def test_float32_clusters_far_from_the_pivot(device, rng):
    """Their centres and inertia are sums of the table's own digits."""
    start = np.array([[0.0, 0.0], [1e-5, 1e-5], [1e3, 1e3]])
    X = start[np.repeat([0, 1, 2], [500, 500, 1000])]
    X[:1000] += 1e-6 * rng.normal(size=(1000, 2))
    X = X.astype(np.float32)
    want = KMeans(3, init=start, n_init=1, backend="reference").fit(X)
    got = KMeans(3, init=start, n_init=1, backend=device.name).fit(X)
    np.testing.assert_array_equal(got.labels_, want.labels_)
    # A sum about the pivot, 500 away, is good to eps of that.
    np.testing.assert_allclose(
        got.cluster_centers_, want.cluster_centers_, rtol=1e-6, atol=16 * 2.0**-52 * 500
    )
    assert got.inertia_ == pytest.approx(want.inertia_, rel=1e-6)
    for covariance_type in ("full", "spherical"):  # hard moments start a mixture
        settings = {"covariance_type": covariance_type, "reg_covar": 1e-14, "max_iter": 0, "random_state": 0}
        want = GaussianMixture(3, backend="reference", **settings).fit(X)
        got = GaussianMixture(3, backend=device.name, **settings).fit(X)
        np.testing.assert_allclose(got.covariances_, want.covariances_, rtol=1e-4, atol=1e-15)


def test_what_follows_a_fit_to_an_array_on_the_device(require, blobs, tmp_path, monkeypatch):
    """Fitted arrays of another library's kind: saved, loaded, and start the next fit."""
    require("emulated")

    class Strict(InterfaceArray):
        def __array__(self, *_, **__):
            raise TypeError("Implicit conversion to a NumPy array is not allowed")

    for module in ("gaussian_mixture", "kmeans"):
        monkeypatch.setattr(f"mixtura.estimators.{module}.in_kind", lambda method: method)
    monkeypatch.setattr("mixtura.estimators.saved.like", lambda X: Strict)
    X = Strict(blobs)
    mixture = GaussianMixture(3, backend="emulated", random_state=0).fit(X)
    assert type(mixture.means_) is Strict
    again = GaussianMixture(
        3, means_init=mixture.means_, precisions_init=mixture.precisions_, backend="emulated", random_state=0
    ).fit(X)
    clusters = KMeans(3, init=mixture.means_, n_init=1, backend="emulated").fit(X)
    for model in (mixture, again, clusters):
        mixtura.save(model, tmp_path / "model.safetensors")
        loaded = mixtura.load(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(to_host(loaded.predict(blobs)), to_host(model.predict(blobs)))
        assert model.summary()


def test_a_callable_chooses_centres_from_the_callers_own_array(require, blobs):
    require("emulated")
    X = InterfaceArray(blobs)
    seen = []

    def init(rows, n_clusters, random_state):
        seen.append(rows)
        return blobs[:n_clusters]

    KMeans(3, init=init, n_init=1, backend="emulated").fit(X)
    assert seen == [X]


def test_views_on_the_device(require, rng):
    require("emulated")
    X = rng.normal(size=(300, 8))
    for view in (X[::2], X[:, ::3], X.T[:5].T, X[::-1, ::-1]):
        got = GaussianMixture(2, backend="emulated", random_state=0).fit(InterfaceArray(view))
        want = GaussianMixture(2, backend="emulated", random_state=0).fit(np.ascontiguousarray(view))
        np.testing.assert_array_equal(got.means_, want.means_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data"])
def test_every_start_on_the_device(require, init, rng):
    """Equal numbers in the first column too, by which rows are ordered for the draws."""
    require("emulated")
    X = np.round(rng.normal(size=(400, 3)), 1)
    settings = {"backend": "emulated", "random_state": 0, "init_params": init, "max_iter": 3, "tol": 0.0}
    got = GaussianMixture(4, **settings).fit(InterfaceArray(X))
    want = GaussianMixture(4, **settings).fit(X)
    np.testing.assert_array_equal(got.means_, want.means_)


def test_a_table_on_the_device_is_indexed_like_an_array(require, rng):
    require("emulated")
    X = rng.normal(size=(50, 4)).astype(np.float32)
    there = EmulatedBackend().place(InterfaceArray(X)).X
    assert there.shape == X.shape
    some = rng.integers(0, 50, 7)
    for index in (
        3,
        -1,
        slice(None),
        slice(4, 30, 5),
        slice(None, None, -3),
        some,
        X[:, 0] > 0,
        (slice(None), 1),
    ):
        np.testing.assert_array_equal(there[index], X[index])
        assert there[index].dtype == X.dtype
    np.testing.assert_array_equal(np.asarray(there, dtype=np.float64), X)
    with pytest.raises(IndexError, match="row beyond the table"):
        there[[50]]


def test_a_table_on_the_device_is_looked_at_there(require, rng):
    require("emulated")
    X = rng.normal(size=(1000, 5))
    X[3, 1] = np.nan
    X[[5, 7], 4] = np.inf
    X[8, 4] = -np.inf
    with pytest.raises(ValueError, match=r"column 1 has 1 NaN; column 4 has 3 infinity"):
        GaussianMixture(2, backend="emulated").fit(InterfaceArray(X))
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        GaussianMixture(1, backend="emulated").fit(InterfaceArray(X[:1]))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D"):
        GaussianMixture(2, backend="emulated").fit(InterfaceArray(X[:, 0].copy()))
    masked, askew = InterfaceArray(rng.normal(size=(9, 2))), InterfaceArray(rng.normal(size=(9, 2)))
    masked.__cuda_array_interface__["mask"] = masked
    askew.__cuda_array_interface__["data"] = (askew.__cuda_array_interface__["data"][0] + 4, False)
    with pytest.raises(ValueError, match="has a mask"):
        GaussianMixture(2, backend="emulated").fit(masked)
    with pytest.raises(ValueError, match="not aligned"):
        GaussianMixture(2, backend="emulated").fit(askew)
    with pytest.raises(TypeError, match="int64; only float32 and float64"):
        GaussianMixture(2, backend="emulated").fit(InterfaceArray(np.arange(10).reshape(5, 2)))
    good = rng.normal(size=(50, 5))
    model = GaussianMixture(2, backend="emulated").fit(InterfaceArray(good))
    with pytest.raises(ValueError, match="expecting 5 features"):
        model.predict(InterfaceArray(good[:, :3].copy()))
    far = good.copy()
    far[7] = 1e200
    with pytest.raises(ValueError, match=r"(?i)scale the input"):
        GaussianMixture(2, backend="emulated").fit(InterfaceArray(far))
    weights = np.ones(50)
    weights[7] = 0.0  # a row that does not count may lie anywhere
    GaussianMixture(2, backend="emulated").fit(InterfaceArray(far), sample_weight=weights)


@pytest.mark.parametrize("name", ["native", "numba", "reference"])
def test_host_backends_refuse_arrays_on_devices(require, name, blobs):
    require(name)
    for estimator in (GaussianMixture(2, backend=name), KMeans(2, backend=name)):
        with pytest.raises(
            TypeError, match=f"X lies on a CUDA device, and backend '{name}' reads host memory"
        ):
            estimator.fit(InterfaceArray(blobs))


def test_auto_takes_the_device_that_rows_lie_on(blobs):
    if backends.available()["cuda"]:
        pytest.skip("a device is here: an array of the host that says it lies there would be read there")
    with pytest.raises(ImportError, match="backend 'cuda' is not available: "):
        GaussianMixture(2).fit(InterfaceArray(blobs))


# ------------------------------------------------------------ what goes wrong


@pytest.fixture
def little_memory(require):
    """An emulated device with so much memory; gives it back."""
    require("emulated")
    module = EmulatedBackend.module()
    yield module.set_emulated_capacity
    module.set_emulated_capacity(1 << 33)


def test_out_of_device_memory(little_memory, rng):
    """Says how much was needed, frees everything, and the process goes on."""
    module = EmulatedBackend.module()
    X = rng.normal(size=(2000, 20))
    before = module.emulated_allocated()
    little_memory(before + 200_000)
    with pytest.raises(MemoryError, match=r"out of device memory: .* needs \d+ MB, \d+ MB are free"):
        GaussianMixture(50, backend="emulated", random_state=0).fit(X)
    assert module.emulated_allocated() == before
    little_memory(1 << 33)
    GaussianMixture(2, backend="emulated", random_state=0).fit(X)


def test_tiles_shrink_where_little_memory_is_free(little_memory, rng):
    """Products by warpgroups prefer large tiles, and do with small ones: no less fits than without them."""
    p = problem(rng, "triangle", 513, 16, 900, dtype=np.float32)
    little_memory(EmulatedBackend.module().emulated_allocated() + (5 << 20))
    found = []
    for kind in (EmulatedWarpgroups, EmulatedBackend):
        backend = kind()
        moments = backend.expect(p.placed(backend), p.joint, "full", p.pivot)
        found.append(replace(moments))  # all of it on the host, and the device's memory is free again
        del moments
    assert_moments_close(found[0], found[1], p, computing_eps(backend, p.X))


def test_rows_of_no_weight_may_hold_anything(device, rng):
    """Also in what a gate or the caller says of them."""
    p = problem(rng, "triangle", 20, 4, 300, gate=True)
    weights = np.ones(300)
    weights[::3] = 0.0
    X, gate, resp = p.X.copy(), p.log_weights.copy(), rng.dirichlet(np.ones(20), 300)
    X[::3], gate[::3], resp[::3] = np.nan, np.nan, np.nan
    kept, backend = weights > 0.0, device()
    got = backend.expect(backend.place(X, None, weights), Joint(p.quadratics, gate), "full", p.pivot)
    want = backend.expect(backend.place(X[kept]), Joint(p.quadratics, gate[kept]), "full", p.pivot)
    np.testing.assert_allclose(got.second, want.second, rtol=1e-12, atol=1e-12)
    assert got.log_likelihood == pytest.approx(want.log_likelihood, rel=1e-13)
    got = backend.accumulate(backend.place(X, None, weights), resp, "full", p.pivot)
    want = backend.accumulate(backend.place(X[kept]), resp[kept], "full", p.pivot)
    np.testing.assert_allclose(got.second, want.second, rtol=1e-12, atol=1e-12)


def test_a_table_larger_than_the_device_streams(little_memory, rng):
    X = rng.normal(size=(20_000, 8))
    module = EmulatedBackend.module()
    backend = EmulatedBackend(tile_bytes=1 << 16)
    little_memory(module.emulated_allocated() + X.nbytes // 2)
    placed = backend.place(X)
    assert not placed.table.resident
    q = Quadratics("scalar", np.zeros(2), rng.normal(size=(2, 8)), np.ones(2))
    got = backend.expect(placed, Joint(q, np.zeros(2)), "mean", np.zeros(8))
    want = ReferenceBackend().expect(ReferenceBackend().place(X), Joint(q, np.zeros(2)), "mean", np.zeros(8))
    np.testing.assert_allclose(got.first, want.first, rtol=1e-11, atol=1e-9)


def test_the_budget_from_the_environment(require, monkeypatch, rng):
    require("emulated")
    X = rng.normal(size=(100, 2))
    monkeypatch.setenv("MIXTURA_CUDA_MEMORY", "1e3")
    assert not EmulatedBackend().place(X).table.resident
    monkeypatch.setenv("MIXTURA_CUDA_MEMORY", "2e3")
    assert EmulatedBackend().place(X).table.resident
    for bad in ("much", "inf", "-5"):
        monkeypatch.setenv("MIXTURA_CUDA_MEMORY", bad)
        with pytest.raises(ValueError, match=f"MIXTURA_CUDA_MEMORY is '{bad}'; it must be a number of bytes"):
            EmulatedBackend().place(X)
    for option in ("memory", "tile_bytes", "device"):
        with pytest.raises(ValueError, match=f"{option} must not be negative"):
            EmulatedBackend(**{option: -1})
    assert EmulatedBackend(memory=1e9, tile_bytes=1e6).place(X).table.resident


def test_without_a_device(tmp_path):
    """``mixtura._cuda``, where it was built, is imported without a driver, and the reason is told."""
    found = backends.available()["cuda"]
    if found:
        pytest.skip("a device is here")
    assert "driver" in found.reason or "not in this installation" in found.reason
    with pytest.raises(ImportError, match="backend 'cuda' is not available: "):
        GaussianMixture(2, backend="cuda").fit(np.eye(4))
    code = "import mixtura, sys; mixtura.show_config(); print([m for m in sys.modules if 'cupy' in m])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.reason in out
    assert out.rstrip().endswith("[]")
    assert mixtura.backends.create("auto").name != "cuda"


def test_where_nvcc_is_the_kernels_are_built():
    """A machine that can build them does."""
    from shutil import which

    if which("nvcc") is None and "CUDACXX" not in os.environ:
        pytest.skip("no nvcc")
    module = importlib.import_module("mixtura._cuda")
    assert not module.emulated()


def test_dlpack_capsules_are_checked(require, blobs):
    require("emulated")
    module = EmulatedBackend.module()
    address, shape, kind, strides = module.read_dlpack(blobs.T.__dlpack__())
    assert address == blobs.ctypes.data
    assert (shape, kind, strides) == (blobs.T.shape, "f8", (1, 3))
    importlib.import_module("mixtura")
    if not backends.available()["cuda"]:
        cuda = pytest.importorskip("mixtura._cuda")
        with pytest.raises(ValueError, match="does not lie on a CUDA device"):
            cuda.read_dlpack(blobs.__dlpack__())


def test_moments_from_a_device_add_up_with_others(device, rng):
    """One monoid, wherever the rows were."""
    p = problem(rng, "triangle", 3, 4, 600)
    arguments = (p.joint, "full", p.pivot)
    backend = device()
    here = ReferenceBackend().expect(ReferenceBackend().place(p.X[:200]), *arguments)
    there = backend.expect(backend.place(p.X[200:]), *arguments)
    whole = ReferenceBackend().expect(p.placed(ReferenceBackend()), *arguments)
    total = here + there
    assert isinstance(total, Moments)
    assert_moments_close(total, whole, p)


# --------------------------------------------------------- tensor cores


@pytest.mark.parametrize("form", ["triangle", "rectangle"])
def test_fast_is_nearly_exact(device, form, rng):
    """Log-likelihoods good to 1e-5, moments to the rounding of 16 digits."""
    p = problem(rng, form, 70, 37, 700, weighted=True, dtype=np.float32)
    q = Quadratics(form, p.quadratics.offsets, 0.3 * p.quadratics.means, 0.7 * p.quadratics.factors)
    arguments = (Joint(q, p.log_weights), "full", 0.1 * p.pivot)
    want = ReferenceBackend().expect(p.placed(ReferenceBackend()), *arguments)
    exact, fast = device(tile_bytes=1 << 18), device(tile_bytes=1 << 18, precision="fast")
    assert fast._fast_enough(p.placed(fast), q, 0.1 * p.pivot)
    found, beside = fast.expect(p.placed(fast), *arguments), exact.expect(p.placed(exact), *arguments)
    assert found.log_likelihood != beside.log_likelihood  # it is another arithmetic
    assert found.log_likelihood == pytest.approx(want.log_likelihood, rel=1e-5)
    for name in ("mass", "first", "second"):
        a, b = getattr(found, name), getattr(want, name)
        # Responsibilities carry the absolute error of log-densities, up to about 1e-5 of these.
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * np.abs(b).max())


def test_fast_with_a_linear_term(device, rng):
    """Linear terms are float32's products on tensor cores, too: steep ones do not widen the table for bfloat16."""
    p = problem(rng, "triangle", 70, 37, 700, weighted=True, linear=True, dtype=np.float32)
    q = p.quadratics
    q = replace(q, means=0.3 * q.means, factors=0.7 * q.factors, linear=2.0 * q.linear)
    arguments = (Joint(q, p.log_weights), "full", 0.1 * p.pivot)
    reference = ReferenceBackend()
    want = reference.expect(p.placed(reference), *arguments)
    exact, fast = device(tile_bytes=1 << 18), device(tile_bytes=1 << 18, precision="fast")
    assert relative_width(p.placed(fast), q, 0.1 * p.pivot) > 8.0
    found, beside = fast.expect(p.placed(fast), *arguments), exact.expect(p.placed(exact), *arguments)
    assert found.log_likelihood != beside.log_likelihood  # it is another arithmetic
    # Errors are those of the squares, which the linear terms cancel for a good part in the log-likelihood.
    squares = Joint(replace(q, linear=None), p.log_weights)
    size = abs(reference.expect(p.placed(reference), squares, *arguments[1:]).log_likelihood)
    assert abs(found.log_likelihood - want.log_likelihood) < 1e-5 * size
    for name in ("mass", "first", "second"):
        a, b = getattr(found, name), getattr(want, name)
        # Responsibilities carry the absolute error of log-densities, up to about 1e-5 of these.
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * np.abs(b).max())


def test_fast_is_exact_where_it_would_not_be_nearly(device, rng):
    """A narrow component, few components, float64 rows, hard assignment."""
    narrow = problem(rng, "triangle", 70, 16, 300, dtype=np.float32)
    narrow.quadratics.factors[3] *= 30.0
    few = problem(rng, "triangle", 8, 16, 300, dtype=np.float32)
    double = problem(rng, "triangle", 70, 16, 300)
    for p in (narrow, few, double):
        arguments = (p.joint, "full", p.pivot)
        found, want = (
            backend.expect(p.placed(backend), *arguments) for backend in (device(precision="fast"), device())
        )
        np.testing.assert_array_equal(found.second, want.second)


def test_fast_sees_what_is_not_a_number(device, rng):
    """NaN in a row is NaN in the result, not 0."""
    p = problem(rng, "triangle", 70, 16, 300, dtype=np.float32)
    X = p.X.copy()
    X[5, 3] = np.nan
    backend = device(precision="fast")
    backend._fast_enough = lambda *_: True
    m = backend.expect(backend.place(X), p.joint, "full", p.pivot)
    assert np.isnan(m.log_likelihood)


def test_precisions_have_names(device):
    with pytest.raises(ValueError, match="unknown precision 'quick'; known are 'exact' and 'fast'"):
        device(precision="quick")
