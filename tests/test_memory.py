"""Peak memory: X and at most 64 MB, whatever N."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")

# Not getrusage, whose peak a process begins with its parent's.
PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
"""

CODE = """
import sys, warnings
import numpy as np
from mixtura import GaussianMixture, KMeans
warnings.simplefilter("ignore")
rows, dims, components, kind = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
small = np.random.default_rng(0).normal(size=(3000, dims))
X = np.random.default_rng(1).normal(size=(rows, dims))
X[: rows // 2] += 3.0
# Everything is loaded and every thread has run before the count starts.
def model(n):
    if kind == "random":
        return GaussianMixture(n, covariance_type="spherical", max_iter=2, random_state=0, init_params="random")
    if kind == "kmeans":
        return KMeans(n, max_iter=2, random_state=0)
    return GaussianMixture(n, covariance_type=kind, max_iter=2, random_state=0)
model(2).fit(small)
before = peak()
m = model(components).fit(X)
fitted = peak() - before
m.predict(X)
print(fitted, peak() - before)
"""


@pytest.mark.parametrize(
    ("rows", "dims", "components", "kind"),
    [
        (1_000_000, 16, 16, "full"),
        (200_000, 64, 48, "full"),  # K D^2 = 2e5
        (200_000, 16, 512, "full"),
        (500_000, 32, 64, "diag"),
        (1_000_000, 16, 16, "tied"),
        (1_000_000, 16, 16, "spherical"),
        (1_000_000, 8, 32, "kmeans"),
        (20_000_000, 1, 2, "diag"),
        (200_000, 2, 1000, "random"),
    ],
)
def test_fit_holds_x_and_64_mb(require, rows, dims, components, kind):
    require("native")
    arguments = [str(rows), str(dims), str(components), kind]
    out = subprocess.run(
        [sys.executable, "-c", PEAK + CODE, *arguments], capture_output=True, text=True, check=True
    )
    fitted, predicted = map(float, out.stdout.split())
    assert fitted <= 64.0, f"fit took {fitted:.0f} MB beside X"
    assert predicted <= 64.0 + 8e-6 * rows, f"predict took {predicted:.0f} MB beside X"


EXPERTS = """
import sys, warnings
import numpy as np
from mixtura import MixtureOfExperts
warnings.simplefilter("ignore")
gate = sys.argv[1]
rng = np.random.default_rng(0)
def fit(n):
    X = rng.normal(size=(n, 20))
    y = rng.normal(size=n)
    before = peak()
    MixtureOfExperts(4, gate=gate, max_iter=2, random_state=0).fit(X, y)
    return peak() - before
fit(3000)
print(fit(1_000_000))
"""


@pytest.mark.parametrize("gate", ["constant", "softmax", "gaussian"])
def test_experts_hold_x_and_64_mb(require, gate):
    require("native")
    out = subprocess.run(
        [sys.executable, "-c", PEAK + EXPERTS, gate], capture_output=True, text=True, check=True
    )
    assert float(out.stdout) <= 64.0, f"fit took {float(out.stdout):.0f} MB beside X and y"
