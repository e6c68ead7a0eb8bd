"""Discriminant analysis, and the merging of components, beside mclust's."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, is_valid_linkage
from sklearn.utils.estimator_checks import check_estimator

import mixtura
from mixtura import BayesianGaussianMixture, GaussianMixture, MixtureClassifier, merge_components
from mixtura.components.covariances import COVARIANCES
from mixtura.components.families import ALL

FILES = Path(__file__).parent / "files" / "mclust"


def iris():
    return np.array(json.loads((FILES / "iris.json").read_text())["rows"]), np.repeat(["a", "b", "c"], 50)


def test_one_gaussian_a_class_is_mclusts():
    """MclustDA(iris, modelType = "EDDA"): VEV, log-likelihood -187.7097, 3 errors."""
    X, y = iris()
    found = MixtureClassifier(1, reg_covar=0.0).fit(X, y)
    assert found.covariance_type_ == "VEV"
    assert found.score_samples(X).sum() == pytest.approx(-187.7097, abs=1e-3)
    assert np.sum(found.predict(X) != y) == 3
    np.testing.assert_allclose(found.predict_proba(X).sum(axis=1), 1.0)
    np.testing.assert_array_equal(found.classes_[found.predict_proba(X).argmax(axis=1)], found.predict(X))


@pytest.mark.parametrize("criterion", ["bic", "aic"])
def test_the_family_of_one_gaussian_a_class_has_the_least_criterion(criterion, rng):
    """By log-likelihoods of the labelled rows, and parameters that are counted by hand: EII, VVI and VVV."""
    X, y = rng.normal(size=(60, 3)) * [1.0, 1.2, 0.9], np.repeat([0, 1, 2], 20)
    X += 5.0 * y[:, None]
    values = {}
    for name, free in (("EII", 1), ("VVI", 9), ("VVV", 18)):
        one = MixtureClassifier(1, covariance_types=[name], criterion=criterion, reg_covar=0.0).fit(X, y)
        total = one.score_samples(X).sum()
        values[name] = -2.0 * total + (np.log(60) if criterion == "bic" else 2.0) * (free + 9 + 2)
    chosen = MixtureClassifier(1, covariance_types=list(values), criterion=criterion, reg_covar=0.0).fit(X, y)
    assert chosen.covariance_type_ == min(values, key=values.get)


def test_mixtures_draw_borders_that_no_gaussian_can(rng):
    radius, angle = np.repeat([1.0, 5.0], 300) + 0.4 * rng.normal(size=600), rng.uniform(0, 2 * np.pi, 600)
    X, y = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]), np.repeat([0, 1], 300)
    several, one = MixtureClassifier((1, 4, 8), random_state=0).fit(X, y), MixtureClassifier(1).fit(X, y)
    assert several.score(X, y) > 0.98
    assert several.score(X, y) >= one.score(X, y)
    assert not hasattr(several, "covariance_type_")


def test_priors_and_weights(rng):
    X = np.concatenate([rng.normal(size=(100, 1)), rng.normal(size=(300, 1)) + 1.0])
    y = np.repeat([0, 1], [100, 300])
    own = MixtureClassifier(1).fit(X, y)
    np.testing.assert_allclose(own.priors_, [0.25, 0.75])
    even = MixtureClassifier(1, priors=[0.5, 0.5]).fit(X, y)
    assert np.sum(even.predict(X) == 0) > np.sum(own.predict(X) == 0)
    weights = np.where(y == 0, 3.0, 1.0)
    np.testing.assert_allclose(MixtureClassifier(1).fit(X, y, weights).priors_, [0.5, 0.5])


def test_bad_input(rng):
    X = rng.normal(size=(20, 2))
    with pytest.raises(ValueError, match="class 1 has one row"):
        MixtureClassifier(1).fit(X, (np.arange(20) == 3).astype(int))
    with pytest.raises(ValueError, match="priors must be 2 numbers"):
        MixtureClassifier(1, priors=[0.2, 0.2]).fit(X, np.arange(20) % 2)
    with pytest.raises(ValueError, match="2 features"):
        MixtureClassifier(1).fit(X, np.arange(20) % 2).predict(X[:, :1])
    with pytest.raises(ValueError, match="unknown covariance_type"):
        MixtureClassifier(1, covariance_types=["XXX"]).fit(X, np.arange(20) % 2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("numbers", [1, (1, 2)])
def test_check_estimator(numbers):
    check_estimator(
        MixtureClassifier(numbers, covariance_types=["EII", "VVI"], random_state=0),
        expected_failed_checks={
            "check_sample_weight_equivalence_on_dense_data": "it has a class of one row, of weight 2, which is refused",
            "check_fit2d_1feature": "one column has no families EII and VVI",
        },
    )


def test_merging_lowers_entropy_most(rng):
    """Each step against all pairs."""
    X = rng.normal(size=(300, 2)) * [1.0, 4.0]
    gm = GaussianMixture(5, random_state=0, tol=1e-2).fit(X)
    merged = merge_components(gm, X)

    def entropy(shares):
        return -np.sum(shares * np.log(np.maximum(shares, 1e-300)))

    for n in range(5, 1, -1):
        now, then = merged.predict_proba(n), merged.predict_proba(n - 1)
        pairs = [
            entropy(np.column_stack([np.delete(now, [i, j], axis=1), now[:, i] + now[:, j]]))
            for i in range(n)
            for j in range(i + 1, n)
        ]
        assert entropy(then) == pytest.approx(min(pairs), rel=1e-9)
        assert entropy(then) == pytest.approx(merged.entropy[n - 2], rel=1e-9)
        assert then.shape == (300, n - 1)
    heights = fcluster(merged.linkage(), 2.5, "distance")  # after two merges
    assert len(set(zip(heights, merged.clusters(3), strict=True))) == 3
    tree = merged.linkage()
    np.testing.assert_array_equal(tree[:, 2], np.arange(1, 5))
    assert tree[-1, 3] == 5
    assert sorted(tree[:, :2].ravel()) == list(range(8))
    assert is_valid_linkage(tree)
    assert merged.clusters(1).tolist() == [0] * 5
    assert merged.clusters(5).tolist() == [0, 1, 2, 3, 4]


def test_noise_takes_no_part_in_merging(rng):
    """Shares of the components are what they are among the components."""
    X = np.concatenate([rng.normal(size=(300, 2)), rng.uniform(-30.0, 30.0, size=(100, 2))])
    gm = GaussianMixture(3, noise=True, random_state=0).fit(X)
    merged = merge_components(gm, X)
    shares = gm.predict_proba(X)[:, :3]
    shares = shares / shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(merged.predict_proba(3), shares, atol=1e-12)
    assert merged.entropy[-1] == pytest.approx(-np.sum(shares * np.log(np.maximum(shares, 1e-300))), rel=1e-9)


def test_clusters_that_are_no_gaussians(rng):
    angle = rng.uniform(0, np.pi, 800)
    arch = 6.0 * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.4 * rng.normal(size=(800, 2))
    X, y = np.concatenate([arch, 0.4 * rng.normal(size=(200, 2)) - [0.0, 4.0]]), np.repeat([0, 1], [800, 200])
    found = merge_components(GaussianMixture(6, init_params="auto", random_state=0).fit(X), X)
    assert found.n_clusters == 2
    labels = found.labels()
    assert len(set(zip(labels, y, strict=True))) == 2
    assert "6 components in 2 clusters" in repr(found)
    with pytest.raises(ValueError, match="1 to 6 clusters, not 7"):
        found.clusters(7)
    assert mixtura.merge_components is merge_components


@pytest.mark.parametrize("K", [4, 6, 9])
def test_components_without_rows_do_not_count_as_clusters(K, rng):
    """What a Dirichlet process leaves over is joined first, and two clusters that are apart are kept."""
    X = np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 9.0])
    model = BayesianGaussianMixture(n_components=K, random_state=0).fit(X)
    assert np.sum(model.weights_ < 0.01) == K - 2
    found = merge_components(model, X)
    assert found.n_clusters == 2
    assert sorted(np.bincount(found.labels())) == [300, 300]


@pytest.mark.parametrize("rows", [3, 5, 8])
def test_small_classes_are_found(rows):
    """The density of a class of a few rows is no set of spikes, one at each row."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(rows, 2)) + 8.0])
        model = MixtureClassifier(random_state=0).fit(X, np.arange(len(X)) >= 60)
        assert model.predict(rng.normal(size=(200, 2)) + 8.0).mean() > 0.8


def test_what_a_classifier_refuses(rng):
    X, y = rng.normal(size=(20, 2)), np.arange(20) % 2
    for how, match in (
        ({"n_components": 2.9}, "positive integers"),
        ({"n_components": []}, "positive integers"),
        ({"n_components": 1, "criterion": "bad"}, "criterion must be one of"),
        ({"criterion": "bad"}, "criterion must be one of"),
    ):
        with pytest.raises(ValueError, match=match):
            MixtureClassifier(**how).fit(X, y)
    with pytest.raises(ValueError, match="Negative values"):
        MixtureClassifier().fit(X, y, sample_weight=np.where(y == 0, -1.0, 1.0))


@pytest.mark.parametrize("numbers", [1, (1, 2)])
def test_regularization_that_scales_with_the_table(numbers, rng):
    y = np.arange(100) % 2
    X = rng.normal(size=(100, 2)) + 6.0 * y[:, None]
    one, other = (
        MixtureClassifier(numbers, reg_covar="auto", random_state=0).fit(Z, y) for Z in (X, 1e-9 * X)
    )
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(1e-9 * X), atol=1e-6)


def test_noise_stays_noise_among_joined_components(rng):
    X = np.concatenate(
        [rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 6.0, rng.uniform(-30, 30, (60, 2))]
    )
    gm = GaussianMixture(3, noise=True, random_state=0).fit(X)
    merged = merge_components(gm, X)
    assert merged.predict_proba(2).shape == (660, 2)
    np.testing.assert_array_equal(merged.labels(3), gm.predict(X))
    assert merged.labels(2).min() == -1
    assert set(merged.labels(2)) == {-1, 0, 1}


def test_numbers_that_no_class_allows(rng):
    """The least number that was asked for is taken where none leaves enough rows to each component."""
    y = np.arange(80) % 2
    X = rng.normal(size=(80, 10)) + y[:, None]
    model = MixtureClassifier(2, covariance_types=["EEI"], random_state=0).fit(X, y)
    assert [m.n_components for m in model.mixtures_] == [2, 2]


def test_components_that_are_apart_are_not_joined(rng):
    for K in (3, 4, 5):
        X = np.arange(K)[rng.integers(K, size=600), None] * [50.0, 0.0] + rng.normal(size=(600, 2))
        merged = mixtura.merge_components(GaussianMixture(K, random_state=0).fit(X), X)
        assert merged.n_clusters == K
    # Two that overlap are joined, others not.
    places = np.array([0.0, 2.0, 60.0, 120.0])
    X = places[rng.integers(4, size=2000), None] * [1.0, 0.0] + rng.normal(size=(2000, 2))
    gm = GaussianMixture(4, means_init=np.c_[places, np.zeros(4)], random_state=0).fit(X)
    merged = mixtura.merge_components(gm, X)
    assert merged.n_clusters == 3
    assert merged.clusters()[0] == merged.clusters()[1]


def test_only_mixtures_are_merged(faithful):
    selector = mixtura.GaussianMixtureSelector([1, 2], covariance_types=["EII"]).fit(faithful)
    with pytest.raises(TypeError, match="best_estimator_"):
        mixtura.merge_components(selector, faithful)


def test_icl_chooses_the_common_family():
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 60)
    X = rng.normal(size=(120, 2))
    X[y == 1] = X[y == 1] * [1.3, 0.8] + 0.7
    values = {}
    for family in ALL:
        model = MixtureClassifier(1, covariance_types=[family]).fit(X, y)
        parameters = COVARIANCES[family].n_parameters(2, 2) + 5
        values[family] = (
            -2.0 * model.score_samples(X).sum()
            + parameters * np.log(120)
            - 2.0 * np.log(model.predict_proba(X).max(axis=1)).sum()
        )
    chosen = MixtureClassifier(1, criterion="icl").fit(X, y).covariance_type_
    assert chosen == min(values, key=values.get)
    assert chosen != MixtureClassifier(1).fit(X, y).covariance_type_


def test_families_must_be_for_so_many_columns(faithful):
    y = faithful[:, 0] > 3
    for X, family in ((faithful, "E"), (faithful[:, :1], "VVV")):
        for numbers in (1, 2):
            with pytest.raises(ValueError, match="column"):
                MixtureClassifier(numbers, covariance_types=family).fit(X, y)


def test_classes_of_equal_rows():
    X, y = np.repeat([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], 10, axis=0), np.repeat([0, 1], 10)
    for numbers in (1, (1, 2)):
        assert MixtureClassifier(numbers).fit(X, y).score(X, y) == 1.0


def test_priors_that_sum_to_one_roughly_are_saved(tmp_path, rng):
    X, y = rng.normal(size=(100, 2)), np.arange(100) % 2
    for priors in ([0.333333, 0.666666], np.array([1 / 3, 2 / 3], dtype=np.float32)):
        model = MixtureClassifier(1, priors=priors).fit(X, y)
        assert model.priors_.sum() == pytest.approx(1.0, abs=1e-15)
        mixtura.save(model, tmp_path / "m.safetensors")
        np.testing.assert_array_equal(mixtura.load(tmp_path / "m.safetensors").priors_, model.priors_)


def test_a_weight_is_so_many_rows():
    rng = np.random.default_rng(9)
    X, y = rng.normal(size=(10, 1)), np.repeat([0, 1], 5)
    weighted = MixtureClassifier([1, 2], random_state=0).fit(X, y, sample_weight=np.full(10, 10.0))
    repeated = MixtureClassifier([1, 2], random_state=0).fit(np.repeat(X, 10, axis=0), np.repeat(y, 10))
    assert [m.n_components for m in weighted.mixtures_] == [m.n_components for m in repeated.mixtures_]
    one = MixtureClassifier(1).fit(
        np.append(X[:3], [[5.0]], axis=0), [0, 0, 0, 1], sample_weight=[1, 1, 1, 2]
    )
    two = MixtureClassifier(1).fit(np.append(X[:3], [[5.0], [5.0]], axis=0), [0, 0, 0, 1, 1])
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-12)
    with pytest.raises(ValueError, match="class 1 has one row"):
        MixtureClassifier(1).fit(X[:4], [0, 0, 0, 1], sample_weight=[1, 1, 1, 1.5])


def test_a_fit_that_fails_leaves_the_last_one(blobs):
    y = np.repeat(["a", "b"], 300)
    model = MixtureClassifier(1).fit(blobs, y)
    before = model.predict_proba(blobs)
    singular = np.ones((6, 2)), [0, 0, 1, 1, 2, 2], None
    for X, classes, priors in ((blobs, np.repeat([0, 1], 300), [0.2, 0.3]), singular):
        with pytest.raises(ValueError, match=r"priors|singular"):
            model.set_params(priors=priors, reg_covar=0.0).fit(X, classes)
        np.testing.assert_array_equal(model.predict_proba(blobs), before)


def test_masked_rows_and_classes_are_told(blobs):
    masked, y = np.ma.masked_array(blobs, blobs > 5.0), np.repeat([0, 1], 300)
    model = MixtureClassifier(1).fit(blobs, y)
    selector = mixtura.GaussianMixtureSelector([1], covariance_types=["EII"]).fit(blobs)
    for ask in (
        lambda: model.predict(masked),
        lambda: MixtureClassifier(1).fit(masked, y),
        lambda: MixtureClassifier(1).fit(blobs, np.ma.masked_array(y, y == 1)),
        lambda: selector.predict(masked),
        lambda: mixtura.GaussianMixtureSelector([1]).fit(masked),
        lambda: mixtura.hierarchical.tree(masked),
    ):
        with pytest.raises(ValueError, match="masked values"):
            ask()


def test_of_weights_that_are_no_counts_the_ratios_say_how_many_components_there_may_be():
    rng = np.random.default_rng(0)
    X = 0.3 * rng.normal(size=(800, 2)) + np.repeat(
        [[-3.0, 0.0], [3.0, 0.0], [0.0, 0.0], [6.0, 0.0]], 200, axis=0
    )
    y = np.repeat([0, 1], 400)
    model = MixtureClassifier([1, 2], random_state=0).fit(X, y, sample_weight=np.full(800, 1.0 / 800))
    assert model.score(X, y) == 1.0
