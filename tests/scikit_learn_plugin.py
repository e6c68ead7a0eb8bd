"""A pytest plugin that puts our classes in the place of scikit-learn's, before its tests import them."""

import functools
import os

import sklearn.cluster
import sklearn.mixture

import mixtura

# Tests of scikit-learn's private functions and attributes, and one that demands an error where we have an answer.
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
    "test_gaussian_mixture_raises_where_array_api_not_implemented",
    "test_compare_covar_type",
}

# The tests of k-means that touch no private name.
KMEANS = {
    *("test_all_init", "test_centers_not_mutated", "test_feature_names_out", "test_fit_transform"),
    *("test_float_precision", "test_fortran_aligned_data", "test_integer_input", "test_k_means_1_iteration"),
    *(
        "test_k_means_function",
        "test_kmeans_convergence",
        "test_kmeans_copyx",
        "test_kmeans_elkan_iter_attribute",
    ),
    *("test_kmeans_elkan_results", "test_kmeans_empty_cluster_relocated", "test_kmeans_init_fitted_centers"),
    *("test_kmeans_predict", "test_kmeans_relocated_clusters", "test_kmeans_results", "test_kmeans_verbose"),
    *("test_kmeans_warns_less_centers_than_unique_points", "test_kmeans_with_array_like_or_np_scalar_init"),
    *("test_n_init", "test_predict_does_not_change_cluster_centers", "test_relocating_with_duplicates"),
    *("test_result_equal_in_diff_n_threads", "test_sample_weight_unchanged", "test_scaled_weights"),
    *(
        "test_score_max_iter",
        "test_transform",
        "test_unit_weights_vs_no_weights",
        "test_warning_elkan_1_cluster",
    ),
    *("test_warning_n_init_precomputed_centers", "test_weighted_vs_repeated", "test_wrong_params"),
}

create = mixtura.backends.create


@functools.wraps(create)
def _create(name="auto", *arguments):
    """'auto' is the backend under test."""
    return create(os.environ["MIXTURA_TEST_BACKEND"] if name == "auto" else name, *arguments)


mixtura.backends.create = _create
sklearn.mixture.GaussianMixture = mixtura.GaussianMixture
sklearn.mixture.BayesianGaussianMixture = mixtura.BayesianGaussianMixture
sklearn.cluster.KMeans = mixtura.KMeans


def pytest_collection_modifyitems(config, items):
    def ours(item):
        if item.path.name == "test_k_means.py":
            return item.originalname in KMEANS and "MiniBatch" not in item.name
        estimator = getattr(item, "callspec", None) and item.callspec.params.get("estimator")
        return item.originalname not in PRIVATE and (
            estimator is None
            or isinstance(estimator, mixtura.GaussianMixture | mixtura.BayesianGaussianMixture)
        )

    dropped = [item for item in items if not ours(item)]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if ours(item)]
    for item in items:
        theirs = item.module.__dict__
        assert theirs.get("GaussianMixture", mixtura.GaussianMixture) is mixtura.GaussianMixture
        assert theirs.get("KMeans", mixtura.KMeans) is mixtura.KMeans
