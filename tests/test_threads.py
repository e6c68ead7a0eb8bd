"""The same bits from any number of threads; forks; limits."""

import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import threadpoolctl
from sklearn.exceptions import ConvergenceWarning

from mixtura import GaussianMixture, KMeans, threads

FITTED = ("weights_", "means_", "covariances_", "precisions_cholesky_")


@pytest.fixture
def long_table(rng):
    """Enough rows for dozens of chunks."""
    centers = rng.normal(size=(4, 5)) * 2
    return centers[rng.integers(0, 4, 70_000)] + rng.normal(size=(70_000, 5))


@pytest.mark.parametrize("backend", ["numba", "native"])
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_the_same_bits_from_1_2_and_7_threads(covariance_type, backend, require, long_table):
    require(backend)
    fits = []
    for n in (1, 2, 7):
        gm = GaussianMixture(
            4,
            covariance_type=covariance_type,
            max_iter=5,
            tol=0,
            random_state=0,
            backend=backend,
            n_threads=n,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(gm.fit(long_table))
    for other in fits[1:]:
        assert other.lower_bounds_ == fits[0].lower_bounds_
        for name in FITTED:
            np.testing.assert_array_equal(getattr(other, name), getattr(fits[0], name), err_msg=name)
        np.testing.assert_array_equal(other.score_samples(long_table), fits[0].score_samples(long_table))


def test_the_same_bits_with_weights_and_from_kmeans(require, long_table, rng):
    require("native")
    w = rng.uniform(0, 2, len(long_table))
    fits = [
        KMeans(6, random_state=0, n_threads=n, backend="native").fit(long_table, sample_weight=w)
        for n in (1, 2, 7)
    ]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.cluster_centers_, fits[0].cluster_centers_)
        assert other.inertia_ == fits[0].inertia_


def test_large_statistics_merge_in_order(require, rng):
    """Many components: few buffers, threads that wait for their turn."""
    native = require("native", 7)
    from problems import problem

    p = problem(rng, "triangle", 60, 30, 9000)
    passes = [type(native)(n).expect(p.placed(native), p.joint, "full", p.pivot) for n in (1, 2, 7, 7, 7)]
    for m in passes[1:]:
        np.testing.assert_array_equal(m.second, passes[0].second)
        assert m.log_likelihood == passes[0].log_likelihood


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_after_fork_fits_too(require, long_table):
    """The parent's threads do not exist in the child, which must make its own and not hang."""
    require("native")
    gm = GaussianMixture(4, random_state=0, max_iter=2, tol=1e9, backend="native", n_threads=2).fit(
        long_table
    )
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork of a process with threads: the point here
        child = os.fork()
    if child == 0:
        try:
            import signal

            signal.alarm(60)
            again = GaussianMixture(4, random_state=0, max_iter=2, tol=1e9, backend="native", n_threads=2)
            os.write(write, again.fit(long_table).means_.tobytes())
        finally:
            os._exit(0)
    os.close(write)
    got = b""
    while part := os.read(read, 1 << 16):
        got += part
    os.waitpid(child, 0)
    assert got == gm.means_.tobytes()
    # And the parent goes on.
    np.testing.assert_array_equal(gm.fit(long_table).means_.tobytes(), got)


def test_python_threads_may_fit_at_once(require, long_table):
    require("native")
    want = GaussianMixture(3, random_state=0, max_iter=3, tol=1e9, backend="native").fit(long_table).means_
    results = []

    def fit():
        gm = GaussianMixture(3, random_state=0, max_iter=3, tol=1e9, backend="native", n_threads=2)
        results.append(gm.fit(long_table).means_)

    workers = [threading.Thread(target=fit) for _ in range(6)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert len(results) == 6
    for means in results:
        np.testing.assert_array_equal(means, want)


def test_threadpoolctl_sets_the_limit(require):
    require("native")
    found = [lib for lib in threadpoolctl.threadpool_info() if lib["internal_api"] == "mixtura"]
    assert len(found) == 1
    before = threads.thread_limit()
    assert found[0]["num_threads"] == before
    with threadpoolctl.threadpool_limits(1):
        assert threads.thread_limit() == 1
    with threadpoolctl.threadpool_limits(3, user_api="openmp"):
        assert threads.thread_limit() == 3
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert threads.thread_limit() == before
    assert threads.thread_limit() == before


@pytest.mark.parametrize(("value", "want"), [("3", 3), ("5,2", 5), ("0", None), ("many", None)])
def test_omp_num_threads(require, value, want):
    require("native")
    code = "from mixtura.threads import thread_limit; print(thread_limit())"
    env = {**os.environ, "OMP_NUM_THREADS": value}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert int(out.stdout) == (want or len(os.sched_getaffinity(0)))


def test_n_threads_bounds_the_work(require, rng):
    """One thread uses one processor: process time does not exceed wall time by more than noise."""
    import time

    native = require("native", 1)
    from problems import problem

    p = problem(rng, "triangle", 8, 16, 60_000)
    rows = p.placed(native)
    native.expect(rows, p.joint, "full", p.pivot)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(5):
        native.expect(rows, p.joint, "full", p.pivot)
    assert time.process_time() - cpu <= 1.2 * (time.perf_counter() - wall) + 0.02


def test_an_interrupted_child_does_not_matter_at_exit(require):
    """Waiting threads do not keep the interpreter from leaving."""
    require("native")
    code = (
        "import numpy as np; from mixtura import GaussianMixture;"
        "GaussianMixture(2, n_threads=4, backend='native').fit(np.random.default_rng(0).normal(size=(50000, 3)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_hosts_half_uses_the_threads_that_the_user_allowed(monkeypatch, rng):
    """Cholesky factors and symmetric unpacking: n_threads, and no library of kernels beside the reference."""
    from mixtura import factorize
    from mixtura.components import storage

    seen = []
    found = factorize.inverse_choleskys

    def listening(covariances):
        blas = {lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"}
        seen.append((threads.thread_limit(), threads.compiled_allowed(), blas))
        return found(covariances)

    monkeypatch.setattr(storage, "inverse_choleskys", listening)
    X = rng.normal(size=(50, 2))
    GaussianMixture(2, n_threads=1, random_state=0, max_iter=2, tol=10).fit(X)
    assert {s[0] for s in seen} == {1}
    assert all(s[2] <= {1} for s in seen)
    seen.clear()
    GaussianMixture(2, backend="reference", random_state=0, max_iter=2, tol=10).fit(X)
    assert {s[1] for s in seen} == {False}
    assert threads.thread_limit() == threads._limit_in_force()
    assert threads.compiled_allowed() is (threads.native is not None)


def blas_threads():
    return {lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"}


def test_blas_has_one_thread_beside_the_kernels(monkeypatch, require, rng):
    """For a table of some columns, and of few that start no threads anyway as many as before."""
    require("native")
    from mixtura.components import storage

    seen = []
    found = storage.inverse_choleskys
    monkeypatch.setattr(storage, "inverse_choleskys", lambda c: (seen.append(blas_threads()), found(c))[1])
    with threadpoolctl.threadpool_limits(2, "blas"):
        for dims, backend, most in ((20, "native", 1), (2, "native", 2), (20, "reference", 2)):
            seen.clear()
            X = rng.normal(size=(200, dims))
            GaussianMixture(2, backend=backend, random_state=0, max_iter=2, tol=10).fit(X)
            assert max(n for numbers in seen for n in numbers) == most
        assert blas_threads() == {2}


@pytest.mark.parametrize("order", ["first in, first out", "nested"])
@pytest.mark.parametrize("numbers", [(1, 1), (1, 2), (2, 1)])
def test_the_last_one_to_limit_blas_restores_its_threads(numbers, order):
    """Whoever comes first; the least limit of those in force holds."""
    with threadpoolctl.threadpool_limits(3, "blas"):
        held = [threads.limit_blas(n) for n in numbers]
        for i, limit in enumerate(held):
            limit.__enter__()
            assert blas_threads() == {min(numbers[: i + 1])}
        first, last = (0, 1) if order == "first in, first out" else (1, 0)
        held[first].__exit__(None, None, None)
        assert blas_threads() == {numbers[last]}
        held[last].__exit__(None, None, None)
        assert blas_threads() == {3}
        with pytest.raises(ValueError, match="within"), threads.limit_blas(1):
            raise ValueError("within")
        assert blas_threads() == {3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_forgets_the_limits_of_its_parents_threads():
    """A fork in the midst of another thread's fit, which may even hold the lock."""
    code = """
import os, sys, threading, threadpoolctl
from mixtura import threads
def number():
    return {lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"}
threadpoolctl.threadpool_limits(2, "blas")
inside, done = threading.Event(), threading.Event()
def fit():
    with threads.limit_blas(1):
        threads._limits.lock.acquire()
        inside.set()
        done.wait()
        threads._limits.lock.release()
other = threading.Thread(target=fit)
other.start()
inside.wait()
child = os.fork()
if not child:
    good = number() == {2}
    with threads.limit_blas(1):
        good &= number() == {1}
    os._exit(not (good and number() == {2}))
done.set()
other.join()
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(status or number() != {2})
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "kill"), reason="no signals")
@pytest.mark.parametrize("listening", ["default", "own"])
def test_ctrl_c_ends_a_long_pass(require, listening):
    """One pass of some seconds; the signal comes in its midst."""
    require("native")
    script = f"""
import os, signal, threading, time
import numpy as np
from mixtura import backends
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics

class Own(Exception): ...
def handler(*_): raise Own
# Set either way: what a shell starts in the background inherits that SIGINT is ignored.
signal.signal(signal.SIGINT, handler if {listening == "own"} else signal.default_int_handler)
backend = backends.create("native", 1)
rows = backend.place(np.ones((1 << 20, 32)))
q = Quadratics("triangle", np.zeros(256), np.zeros((256, 32)), np.stack([np.eye(32)] * 256))
sent = []
def interrupt():
    time.sleep(0.5)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    backend.expect(rows, Joint(q, np.zeros(256)), "full", np.zeros(32))
    print("finished")
except (KeyboardInterrupt, Own) as error:
    print(type(error).__name__, time.perf_counter() - sent[0])
# The kernels go on as before.
small = backend.place(np.ones((100, 32)))
assert backend.expect(small, Joint(q, np.zeros(256)), "mass", np.zeros(32)).mass.sum() > 99.0
"""
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert out[0] == ("Own" if listening == "own" else "KeyboardInterrupt")
    assert float(out[1]) < 0.2


def test_answers_come_in_order_and_few_wait():
    from mixtura.threads import allow, in_order

    for n in (1, 3):
        begun = []

        def work(i, begun=begun):
            begun.append(i)
            return i * i

        with allow(n, True, 2):
            answers = in_order(work, range(20))
            assert next(answers) == 0
            assert len(begun) <= 2 * n + 1
            assert list(answers) == [i * i for i in range(1, 20)]


def test_derivatives_do_not_depend_on_the_number_of_threads():
    from mixtura import autodiff

    rng = np.random.default_rng(0)
    X = np.array([[0, 0, 0], [4, 0, 1], [0, 5, 2.0]])[rng.integers(3, size=60_000)] + rng.normal(
        size=(60_000, 3)
    )
    weight, found = rng.uniform(size=len(X)), []
    for n in (1, 2, 3):
        gm = GaussianMixture(3, accelerate="newton", random_state=0, n_threads=n).fit(X)
        blocks = GaussianMixture(3, random_state=0, n_threads=n)
        for block in np.array_split(X, 10):
            blocks.partial_fit(block)
        with threadpoolctl.threadpool_limits(n):
            inertia = KMeans(3, random_state=0, n_threads=n, n_init=1).fit(X, sample_weight=weight).inertia_
            found.append(
                (gm.means_.tobytes(), blocks.means_.tobytes(), autodiff.hessian(gm, X).tobytes(), inertia)
            )
    assert found[0] == found[1] == found[2]
