"""Which backends the tests run on, and small tables for them."""

import numpy as np
import pytest
from hypothesis import settings

import emulated  # noqa: F401  makes the backend known
from mixtura import backends

# How long one example takes is the machine's business: a busy one must not fail a law.
settings.register_profile("mixtura", deadline=None)
settings.load_profile("mixtura")

BACKENDS = ("reference", "numba", "native", "emulated", "emulated-warpgroups", "cuda")


def pytest_addoption(parser):
    parser.addoption(
        "--require-backend",
        action="append",
        default=[],
        choices=BACKENDS,
        help="fail, instead of skipping, where this backend is not available (may be repeated)",
    )


@pytest.fixture
def require(request):
    """A backend by name; skips where it is not available, or fails if it was required."""

    def get(name, n_threads=None):
        found = backends.available()[name]
        if not found:
            message = f"backend {name} is not available: {found.reason}"
            if name in request.config.getoption("--require-backend"):
                pytest.fail(message)
            pytest.skip(message)
        return backends.create(name, n_threads)

    return get


@pytest.fixture(params=BACKENDS)
def backend(request, require):
    return require(request.param)


@pytest.fixture(params=[b for b in BACKENDS if b != "reference"])
def kernel_backend(request, require):
    """A backend with kernels of its own, to be held to the reference."""
    return require(request.param)


@pytest.fixture(autouse=True)
def _same_starts_in_every_run():
    """Fits without a ``random_state`` draw from numpy's global generator, which each test finds in the same state."""
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def faithful():
    from pathlib import Path

    return np.loadtxt(Path(__file__).parents[1] / "data" / "faithful.csv", delimiter=",", skiprows=1)


@pytest.fixture
def blobs(rng):
    """600 rows of three clusters in three columns that EM separates without doubt."""
    centers = np.array([[0.0, 0.0, 0.0], [6.0, 1.0, -2.0], [-3.0, 7.0, 4.0]])
    labels = rng.integers(0, 3, 600)
    return centers[labels] + rng.normal(size=(600, 3)) * [1.0, 0.5, 1.5]
