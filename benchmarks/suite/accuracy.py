"""What must not get worse: errors against the float64 reference, and bytes per row."""

import subprocess
import sys

import numpy as np

from mixtura import backends
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics


class Error:
    """Largest relative error of log-likelihood and moments, in units of machine epsilon."""

    params = (["triangle", "diagonal", "scalar"], ["float64", "float32"], [0.0, 1e4])
    param_names = ("factor", "dtype", "offset")
    unit = "eps"

    def setup(self, factor, dtype, offset):
        g = np.random.default_rng(0)
        K, D, N = 5, 12, 20_000
        factors = {
            "triangle": np.tril(g.normal(size=(K, D, D)) / 4 + np.eye(D)),
            "diagonal": g.uniform(0.5, 2.0, (K, D)),
            "scalar": g.uniform(0.5, 2.0, K),
        }[factor]
        means = g.normal(size=(K, D)) * 2 + offset
        self.X = (g.normal(size=(N, D)) * 2 + offset).astype(dtype)
        self.arguments = (
            Joint(Quadratics(factor, g.normal(size=K), means, factors), np.zeros(K)),
            "full",
            means.mean(axis=0),
        )

    def _passes(self):
        for name in ("native", "reference"):
            backend = backends.create(name)
            yield backend.expect(backend.place(self.X), *self.arguments)

    def track_log_likelihood_error(self, factor, dtype, offset):
        ours, reference = self._passes()
        error = abs(ours.log_likelihood / reference.log_likelihood - 1.0)
        return error / np.finfo(np.float64).eps

    def track_second_moment_error(self, factor, dtype, offset):
        ours, reference = self._passes()
        scale = np.abs(reference.second).max()
        return np.abs(ours.second - reference.second).max() / scale / np.finfo(np.float64).eps


def track_bytes_per_row():
    """Memory that a fit of W2's shape takes beside X, per row: what scikit-learn holds is 8 K and more."""
    code = (
        "import resource, warnings, numpy as np; warnings.simplefilter('ignore')\n"
        "from mixtura import GaussianMixture\n"
        "g = np.random.default_rng(0)\n"
        "GaussianMixture(2, max_iter=2).fit(g.normal(size=(5000, 16)))\n"
        "X = g.normal(size=(500_000, 16))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); GaussianMixture(16, max_iter=2, random_state=0).fit(X)\n"
        "print((peak() - before) / len(X))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(out.stdout)


track_bytes_per_row.unit = "bytes"
