"""Time and memory of fits. Times are for graphs: gate on the track_ benchmarks, which do not depend on the machine."""

import warnings

import numpy as np

from mixtura import GaussianMixture, KMeans, autodiff
from mixtura.distributions import Mixture

SHAPES = {
    "200k x 2, K=8": (200_000, 2, 8),
    "200k x 16, K=16": (200_000, 16, 16),
    "20k x 64, K=32": (20_000, 64, 32),
}
TYPES = ["full", "tied", "diag", "spherical"]


def draw(rows, dims, components):
    g = np.random.default_rng(7)
    means = g.normal(size=(components, dims)) * 4.0 / np.sqrt(2.0 * dims)
    return means[g.integers(0, components, rows)] + g.normal(size=(rows, dims)), means


class Iterations:
    """Five EM iterations from given parameters, checks included."""

    params = (list(SHAPES), TYPES, ["float64", "float32"])
    param_names = ("shape", "covariance", "dtype")

    def setup(self, shape, covariance, dtype):
        warnings.simplefilter("ignore")
        rows, dims, components = SHAPES[shape]
        X, means = draw(rows, dims, components)
        self.X = X.astype(dtype)
        precisions = {
            "full": np.tile(np.eye(dims), (components, 1, 1)),
            "tied": np.eye(dims),
            "diag": np.ones((components, dims)),
            "spherical": np.ones(components),
        }[covariance]
        self.model = GaussianMixture(
            components,
            covariance_type=covariance,
            weights_init=np.full(components, 1.0 / components),
            means_init=means,
            precisions_init=precisions,
            max_iter=5,
            tol=0.0,
        )
        self.model.fit(self.X)

    def time_fit(self, shape, covariance, dtype):
        self.model.fit(self.X)

    def time_predict(self, shape, covariance, dtype):
        self.model.predict(self.X)

    def peakmem_fit(self, shape, covariance, dtype):
        self.model.fit(self.X)


class Skipping:
    """Clusters far apart, where most statistics do not count: leaving them out, and not."""

    params = ([True, False], ["float64", "float32"])
    param_names = ("skipping", "dtype")

    def setup(self, skipping, dtype):
        from mixtura import _native

        warnings.simplefilter("ignore")
        g = np.random.default_rng(7)
        means = 8.0 * g.normal(size=(64, 16))
        self.X = (means[g.integers(0, 64, 100_000)] + g.normal(size=(100_000, 16))).astype(dtype)
        self.model = GaussianMixture(
            64, means_init=means, max_iter=5, tol=0.0, init_params="random_from_data"
        )
        self.before = _native.skipping()
        _native.set_skipping(skipping)
        self.model.fit(self.X)

    def teardown(self, skipping, dtype):
        from mixtura import _native

        _native.set_skipping(self.before)

    def time_fit(self, skipping, dtype):
        self.model.fit(self.X)


class Seeds:
    """First centres, by looking at every row, and in batches with swaps."""

    params = [16, 1000]
    param_names = ("clusters",)

    def setup(self, clusters):
        warnings.simplefilter("ignore")
        self.X = np.random.default_rng(0).normal(size=(100_000, 8))

    def time_seeds(self, clusters):
        KMeans(clusters, random_state=0, max_iter=1).fit(self.X)


class Whole:
    """Fits from the data alone."""

    params = list(SHAPES)
    param_names = ("shape",)

    def setup(self, shape):
        warnings.simplefilter("ignore")
        self.components = SHAPES[shape][2]
        self.X, _ = draw(*SHAPES[shape])

    def time_gaussian_mixture(self, shape):
        GaussianMixture(self.components, random_state=0, tol=1e-4).fit(self.X)

    def time_kmeans(self, shape):
        KMeans(self.components, random_state=0).fit(self.X)

    def track_iterations_to_converge(self, shape):
        return GaussianMixture(self.components, random_state=0, tol=1e-4).fit(self.X).n_iter_


class Small:
    """Where Python, not arithmetic, takes the time."""

    def setup(self):
        warnings.simplefilter("ignore")
        self.X, _ = draw(1000, 4, 3)

    def time_fit_1000_rows(self):
        GaussianMixture(3, random_state=0).fit(self.X)


def time_import():
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", "import mixtura"], check=True)


class Derivatives:
    """Gradient, Hessian and regression of a mixture of 16 Gaussians in 16 columns."""

    def setup(self):
        g = np.random.default_rng(0)
        means = 2.0 * g.normal(size=(16, 16))
        self.X = means[g.integers(0, 16, 100_000)] + g.normal(size=(100_000, 16))
        self.gm = GaussianMixture(16, means_init=means, max_iter=1, random_state=0).fit(self.X)
        self.mixture = Mixture.from_estimator(self.gm)

    def time_value_and_grad(self):
        autodiff.value_and_grad(self.gm, self.X)

    def time_grad_x(self):
        autodiff.grad_x(self.gm, self.X)

    def time_hessian(self):
        autodiff.hessian(self.gm, self.X[:5000])

    def time_regress(self):
        self.mixture.regress(range(8), self.X[:, :8])
