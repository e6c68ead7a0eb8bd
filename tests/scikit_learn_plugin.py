"""A pytest plugin that puts our classes in the place of scikit-learn's, before its tests import them."""

import functools
import os

import sklearn.cluster
import sklearn.mixture

import mixtura

# Tests of scikit-learn's private functions and attributes, of its dispatch to other array libraries, and of a
# class that is not ours.
PRIVATE = {
    "test_suffstat_sk_full",
    "test_suffstat_sk_tied",
    "test_suffstat_sk_diag",
    "test_gaussian_suffstat_sk_spherical",
    "test_compute_log_det_cholesky",
    "test_gaussian_mixture_log_probabilities",
    "test_gaussian_mixture_n_parameters",
    "test_gaussian_mixture_aic_bic",
    "test_gaussian_mixture_precisions_init",
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters",
    "test_gaussian_mixture_array_api_compliance",
    "test_gaussian_mixture_raises_where_array_api_not_implemented",
}

create = mixtura.backends.create


@functools.wraps(create)
def _create(name="auto", *arguments):
    """'auto' is the backend under test."""
    return create(os.environ["MIXTURA_TEST_BACKEND"] if name == "auto" else name, *arguments)


mixtura.backends.create = _create
sklearn.mixture.GaussianMixture = mixtura.GaussianMixture
sklearn.cluster.KMeans = mixtura.KMeans


def pytest_collection_modifyitems(config, items):
    def ours(item):
        estimator = getattr(item, "callspec", None) and item.callspec.params.get("estimator")
        return item.originalname not in PRIVATE and (
            estimator is None or isinstance(estimator, mixtura.GaussianMixture)
        )

    dropped = [item for item in items if not ours(item)]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if ours(item)]
    assert any(item.module.GaussianMixture is mixtura.GaussianMixture for item in items)
