"""What pictures show: regions, uncertainty, and trees."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, is_valid_linkage

from mixtura import GaussianMixture, merge_components, plotting
from mixtura.distributions import Mixture
from mixtura.hierarchical import scaled, tree
from mixtura.plotting import MixtureDisplay, TreeDisplay

pytest.importorskip("matplotlib")


@pytest.fixture
def clusters(rng):
    means = [[0.0, 0.0, 0.0], [8.0, 0.0, 1.0], [0.0, 8.0, 2.0]]
    return np.concatenate([rng.normal(mean, 1.0, size=(80, 3)) for mean in means])


def same_partition(a, b):
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


def test_regions_are_where_predict_says(clusters):
    X = clusters[:, :2]
    gm = GaussianMixture(3, random_state=0).fit(X)
    ax = MixtureDisplay.from_estimator(gm, X, background="regions").axes_[0]
    filled = ax.collections[0]  # a path for each region
    inside = np.array([path.contains_points(X) for path in filled.get_paths()])
    # Rows within a cell of the grid of a boundary may lie on the other side of it.
    sure = gm.predict_proba(X).max(axis=1) > 0.99
    assert sure.sum() > 200
    assert same_partition(inside[:, sure].argmax(axis=0), gm.predict(X)[sure])


def test_uncertain_rows_are_larger(rng):
    X = np.concatenate([rng.normal(0.0, 1.0, size=(200, 2)), rng.normal(2.0, 1.0, size=(200, 2))])
    gm = GaussianMixture(2, random_state=0).fit(X)
    ax = MixtureDisplay.from_estimator(gm, X, background="uncertainty").axes_[0]
    sizes = next(c.get_sizes() for c in ax.collections if len(c.get_offsets()) == len(X))
    assert np.array_equal(np.argsort(sizes), np.argsort(1.0 - gm.predict_proba(X).max(axis=1)))
    assert sizes.max() > 3.0 * sizes.min()


@pytest.mark.parametrize("background", ["density", "uncertainty", "regions"])
@pytest.mark.parametrize(("components", "dims"), [(1, 2), (3, 1), (3, 3)])
def test_backgrounds_of_all_sizes(clusters, background, components, dims):
    X = clusters[:, :dims]
    gm = GaussianMixture(components, covariance_type="EVE" if dims > 1 else "E", random_state=0).fit(X)
    found = MixtureDisplay.from_estimator(gm, X, background=background)
    found.figure_.canvas.draw()
    assert len(found.axes_) == (6 if dims == 3 else 1)


def test_no_such_background(clusters):
    gm = GaussianMixture(2, random_state=0).fit(clusters)
    with pytest.raises(
        ValueError, match="background must be one of density, uncertainty, regions, not 'red'"
    ):
        MixtureDisplay.from_estimator(gm, clusters, background="red")


def test_tree_of_rows(clusters):
    found = tree(scaled(clusters, "svd"))
    table = found.linkage()
    assert is_valid_linkage(table)
    for groups in (2, 3, 7, 100):
        assert same_partition(fcluster(table, groups, "maxclust"), found.labels(groups))
    for most in (3, 30, 1000):
        ax = found.plot(most).ax_
        ax.figure.canvas.draw()
        assert ax.get_title() == f"240 rows in {min(most, 240)} groups and fewer"
        assert ax.get_yticklabels()[0].get_text() == "1"


def test_tree_of_merged_components(clusters):
    gm = GaussianMixture(5, random_state=0).fit(clusters)
    merged = merge_components(gm, clusters)
    table = merged.linkage()
    assert is_valid_linkage(table)
    for n in (1, 2, 3, 4):
        assert same_partition(fcluster(table, n, "maxclust"), merged.clusters(n))
    assert np.all(merged.entropy >= 0.0)
    ax = merged.plot().ax_
    ax.figure.canvas.draw()
    assert len(ax.get_yticklabels()) == 5
    single = merge_components(GaussianMixture(1).fit(clusters), clusters)
    with pytest.raises(ValueError, match="one component makes no tree"):
        TreeDisplay.from_merged(single)


def test_conditional_densities_of_rows_far_out_and_alike():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    X = np.c_[x, 3.0 * x + 0.3 * rng.normal(size=300)]
    mixture = Mixture.from_estimator(GaussianMixture(1).fit(X))
    for rows in (np.r_[X, [[10.0, 0.0]]], X[:1], np.c_[np.ones(5), X[:5, 1]]):
        ax = plotting.ConditionalDisplay.from_mixture(mixture, 0, 1, rows).ax_
        assert ax.get_xlim()[0] < ax.get_xlim()[1]


def test_pictures_of_the_wrong_things_are_told(blobs):
    from sklearn.exceptions import NotFittedError

    from mixtura import KMeans

    fitted = GaussianMixture(1).fit(blobs)
    with pytest.raises(NotFittedError):
        MixtureDisplay.from_estimator(GaussianMixture(2), blobs)
    with pytest.raises(TypeError, match="takes a GaussianMixture"):
        MixtureDisplay.from_estimator(KMeans(2, random_state=0).fit(blobs), blobs)
    with pytest.raises(ValueError, match="masked"):
        MixtureDisplay.from_estimator(fitted, np.ma.masked_array(blobs, blobs > 5.0))
    with pytest.raises(TypeError, match=r"plot_density takes a mixtura\.distributions.Mixture"):
        plotting.plot_density(fitted, blobs[:, 0])
    normal = Mixture([1.0], [0.0], [1.0])
    for x, message in (([np.nan], "NaN"), ([], "no numbers")):
        with pytest.raises(ValueError, match=message):
            plotting.plot_density(normal, x)
    of_rows = tree(blobs[:20])
    for most in (0, 1, 2.5):
        with pytest.raises(ValueError, match="most must be a whole number"):
            of_rows.plot(most=most)
    with pytest.raises(ValueError, match=r"no cut into 2\.5 groups"):
        of_rows.labels(2.5)
    with pytest.raises(ValueError, match=r"not 1\.5"):
        merge_components(GaussianMixture(2, random_state=0).fit(blobs), blobs).clusters(1.5)
