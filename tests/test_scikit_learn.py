"""scikit-learn's own checks of estimators, and its own tests of Gaussian mixtures, on our classes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn
from sklearn.utils.estimator_checks import parametrize_with_checks

from mixtura import BayesianGaussianMixture, GaussianMixture, KMeans, MixtureOfExperts

ESTIMATORS = [
    GaussianMixture(),
    GaussianMixture(2, covariance_type="tied"),
    GaussianMixture(2, covariance_type="diag", init_params="k-means++"),
    GaussianMixture(covariance_type="spherical", init_params="random"),
    GaussianMixture(2, init_params="random_from_data", n_init=2),
    GaussianMixture(warm_start=True),
    BayesianGaussianMixture(),
    BayesianGaussianMixture(
        n_components=2,
        covariance_type="diag",
        weight_concentration_prior_type="dirichlet_distribution",
        n_init=2,
    ),
    BayesianGaussianMixture(n_components=2, covariance_type="tied", warm_start=True),
    KMeans(),
    KMeans(3, init="random", n_init=2),
    MixtureOfExperts(),
    MixtureOfExperts(gate="softmax", max_iter=50),
    MixtureOfExperts(3, noise="per-expert"),
    MixtureOfExperts(gate="dirichlet", fit_intercept=False),
    MixtureOfExperts(gate="sparse", max_iter=50),
    MixtureOfExperts(gate="gaussian"),
    MixtureOfExperts(gate="neural", max_iter=5),
]


def expected_failures(estimator):
    drawn = "random_from_data" in repr(estimator) or "init='random'" in repr(estimator)
    if isinstance(estimator, GaussianMixture) and estimator.n_components == 1:
        drawn = False
    reason = "rows are drawn without replacement: one that stands there twice can be drawn twice"
    rows = ("dense", "sparse") if drawn else ()
    return {f"check_sample_weight_equivalence_on_{kind}_data": reason for kind in rows}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_estimator(estimator, check):
    check(estimator)


def run_scikit_learns(backend, *arguments, **environment):
    """Its own tests, with our classes in the place of its own: how many passed, and what was printed."""
    package = Path(sklearn.__file__).parent
    out = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "scikit_learn_plugin", "-p", "no:cacheprovider", "-c", os.devnull),
            f"--rootdir={package}",
            *(str(package / a) if a.endswith(".py") else a for a in arguments),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            "MIXTURA_TEST_BACKEND": backend,
            "SKLEARN_RUN_FLOAT32_TESTS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stdout[-5000:] + out.stderr[-2000:]
    return int(re.search(r"(\d+) passed", out.stdout).group(1)), out.stdout


# How many tests there are depends on scikit-learn's version; these are those of 1.9.
KNOWN = sklearn.__version__.startswith("1.9")


@pytest.mark.parametrize("backend", ["native", "numba", "reference"])
def test_scikit_learns_own_tests(require, backend):
    """Of mixtures and k-means, all that touch no private name of scikit-learn's."""
    require(backend)
    passed, out = run_scikit_learns(
        backend,
        "mixture/tests/test_gaussian_mixture.py",
        "mixture/tests/test_bayesian_mixture.py",
        "mixture/tests/test_mixture.py",
        *("-k", "not array_api_compliance"),
    )
    assert passed >= 78 or not KNOWN, out[-500:]
    assert "skipped" not in out
    passed, out = run_scikit_learns(backend, "cluster/tests/test_k_means.py")
    assert passed >= 70 or not KNOWN, out[-500:]
    assert "skipped" not in out


def test_scikit_learns_own_tests_of_other_arrays(require):
    """Tensors on the host and strict arrays, in and out."""
    require("native")
    passed, out = run_scikit_learns(
        "native",
        "mixture/tests/test_gaussian_mixture.py",
        *("-k", "array_api_compliance"),
        SCIPY_ARRAY_API="1",
    )
    assert passed >= 80 or not KNOWN, out[-500:]
