"""KMeans: Lloyd's algorithm, to the digit."""

import sys
import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning

from mixtura import GaussianMixture, KMeans, load, save
from mixtura.data import as_source


@pytest.mark.parametrize("backend", ["reference", "numba", "native"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("rows", "dims", "clusters"), [(2000, 2, 5), (3000, 16, 16), (500, 40, 3), (4000, 1, 7)]
)
def test_lloyd_is_scikit_learns(rows, dims, clusters, weighted, backend, require, rng):
    """Same start: same inertia and centres to 1e-10, same labels, same number of iterations."""
    require(backend)
    X = rng.normal(size=(rows, dims)) + rng.integers(0, 4, (rows, 1)) * 2.0 + 100.0
    start = X[rng.choice(rows, clusters, replace=False)]
    w = rng.uniform(0, 2, rows) if weighted else None
    ours = KMeans(clusters, init=start, max_iter=500, tol=0, backend=backend).fit(X, sample_weight=w)
    theirs = SklearnKMeans(clusters, init=start, n_init=1, max_iter=500, tol=0).fit(X, sample_weight=w)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-10)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.labels_.dtype == theirs.labels_.dtype
    np.testing.assert_allclose(ours.transform(X), cdist(X, ours.cluster_centers_), rtol=1e-10)
    assert ours.score(X, sample_weight=w) == pytest.approx(theirs.score(X, sample_weight=w), rel=1e-10)


def test_tolerance_is_scikit_learns(rng):
    X = rng.normal(size=(3000, 4))
    start = X[:6]
    for tol in (1e-2, 1e-4):
        ours = KMeans(6, init=start, tol=tol).fit(X)
        theirs = SklearnKMeans(6, init=start, n_init=1, tol=tol).fit(X)
        assert ours.n_iter_ == theirs.n_iter_
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-9, atol=1e-12)


def test_empty_clusters_move_as_scikit_learns(rng):
    X = np.concatenate(
        [rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + 10, [[40.0, 40.0], [-30.0, 5.0]]]
    )
    start = np.array([[0.0, 0.0], [10.0, 10.0], [500.0, 500.0], [-500.0, 500.0]])
    ours = KMeans(4, init=start).fit(X)
    theirs = SklearnKMeans(4, init=start, n_init=1).fit(X)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-10)


def test_seeding_is_as_good_as_scikit_learns(rng):
    centers = rng.normal(size=(12, 3)) * 15
    X = centers[rng.integers(0, 12, 3000)] + rng.normal(size=(3000, 3))
    ours = [KMeans(12, random_state=s).fit(X).inertia_ for s in range(10)]
    theirs = [SklearnKMeans(12, n_init=1, random_state=s).fit(X).inertia_ for s in range(10)]
    assert np.median(ours) <= 1.05 * np.median(theirs)
    assert min(ours) <= 1.001 * min(theirs)


def test_seeding_does_not_depend_on_the_order_of_rows(rng):
    X = np.round(rng.normal(size=(400, 3)), 1)
    shuffled = rng.permutation(len(X))
    a = KMeans(5, random_state=2).fit(X)
    b = KMeans(5, random_state=2).fit(X[shuffled])
    np.testing.assert_allclose(a.cluster_centers_, b.cluster_centers_, rtol=1e-12)
    np.testing.assert_array_equal(a.labels_[shuffled], b.labels_)


def test_weights_are_repetitions(rng):
    X = rng.normal(size=(300, 2))
    w = rng.integers(0, 4, 300)
    a = KMeans(4, random_state=0).fit(X, sample_weight=w)
    b = KMeans(4, random_state=0).fit(np.repeat(X, w, axis=0))
    np.testing.assert_allclose(a.cluster_centers_, b.cluster_centers_, rtol=1e-10)
    assert a.inertia_ == pytest.approx(b.inertia_, rel=1e-10)


def test_it_is_the_limit_of_a_spherical_mixture(rng):
    """Equal weights, one shared variance gone to zero: EM's means stay at the centres that k-means found."""
    centers = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    X = centers[rng.integers(0, 3, 600)] + rng.normal(size=(600, 2))
    km = KMeans(3, random_state=0).fit(X)
    gm = GaussianMixture(
        3,
        covariance_type="spherical",
        weights_init=np.full(3, 1 / 3),
        means_init=km.cluster_centers_,
        precisions_init=np.full(3, 1e8),
        max_iter=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        gm.fit(X)
    np.testing.assert_allclose(gm.means_, km.cluster_centers_, rtol=1e-12)


def test_labels_are_those_of_predict(rng):
    X = rng.normal(size=(5000, 3)).astype(np.float32)
    km = KMeans(9, random_state=0).fit(X)
    np.testing.assert_array_equal(km.labels_, km.predict(X))
    np.testing.assert_array_equal(km.fit_predict(X), km.labels_)
    assert km.cluster_centers_.dtype == np.float32
    assert km.get_feature_names_out().tolist() == [f"kmeans{k}" for k in range(9)]
    assert -km.score(X) == pytest.approx(km.inertia_, rel=1e-6)
    assert "k-means, 9 clusters" in km.summary()
    assert km.converged_
    assert len(km.lower_bounds_) == km.n_iter_
    assert np.all(np.diff(km.lower_bounds_) >= -1e-14 * abs(km.lower_bound_))
    assert -2.0 * len(X) * km.lower_bound_ == pytest.approx(km.inertia_, rel=1e-3)


@pytest.mark.parametrize("init", ["k-means++", "random", lambda X, k, random_state: X[:k]])
def test_starts(init, blobs):
    km = KMeans(3, init=init, random_state=0).fit(blobs)
    assert sorted(np.bincount(km.labels_)) == sorted(np.bincount(KMeans(3, n_init=5).fit(blobs).labels_))


def test_all_rows_equal():
    with pytest.warns(
        ConvergenceWarning, match="distinct clusters \\(1\\) found smaller than n_clusters \\(3\\)"
    ):
        km = KMeans(3, random_state=0).fit(np.full((10, 2), 4.0))
    np.testing.assert_array_equal(km.cluster_centers_, 4.0)
    assert km.inertia_ == 0.0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 601}, "n_samples=600 should be >= n_clusters=601"),
        ({"init": np.zeros((2, 3))}, "does not match the number of clusters 3"),
        ({"init": np.zeros((3, 2))}, "does not match the number of features of the data 3"),
        ({"init": "forgy"}, "'init' parameter of KMeans"),
        ({"max_iter": 0}, "'max_iter' parameter of KMeans"),
    ],
)
def test_bad_input(parameters, message, blobs):
    with pytest.raises(ValueError, match=message):
        KMeans(**{"n_clusters": 3, **parameters}).fit(blobs)


def test_values_near_the_limits(blobs):
    X = blobs.copy()
    X[0, 0] = 1e300
    with pytest.raises(ValueError, match="too large for their squares"):
        KMeans(2).fit(X)


def test_given_centres_and_n_init(blobs):
    with pytest.warns(RuntimeWarning, match="performing only one init"):
        KMeans(3, init=blobs[:3], n_init=4).fit(blobs)


def test_rows_too_far_to_have_a_nearest_centre(blobs):
    km = KMeans(2, random_state=0).fit(blobs)
    with pytest.raises(ValueError, match="row 0 of X is so far from every centre"):
        km.predict(np.full((1, 3), 1e200))


def test_weights_of_any_scale_and_rows_of_none(blobs, rng):
    w = rng.uniform(0.1, 2.0, len(blobs))
    a = KMeans(3, random_state=0).fit(blobs, sample_weight=w)
    b = KMeans(3, random_state=0).fit(blobs, sample_weight=w * 1e-200)
    np.testing.assert_allclose(a.cluster_centers_, b.cluster_centers_, rtol=1e-12)
    far = np.vstack([blobs, np.full((1, 3), 1e100)])
    c = KMeans(3, random_state=0).fit(far, sample_weight=np.r_[w, 0.0])
    np.testing.assert_allclose(a.cluster_centers_, c.cluster_centers_, rtol=1e-12)
    # Empty clusters move to rows that count.
    start = np.vstack([blobs[:2], np.full((2, 3), 500.0)])
    d = KMeans(4, init=start).fit(far, sample_weight=np.r_[w, 0.0])
    assert np.all(np.bincount(d.labels_[:-1], minlength=4) > 0)


def test_exact_fits_have_no_negative_zero():
    assert str(KMeans(2, random_state=0).fit([[0.0], [1.0]]).inertia_) == "0.0"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_labels_and_inertia_are_those_of_the_centres_that_predict(dtype, rng):
    """Of centres far from 0 that float32 rounds: what was found before rounding is not what predict finds."""
    X = (1e4 + rng.normal(size=(2000, 1)) * [1e-2, 1e-2]).astype(dtype)
    km = KMeans(5, random_state=0).fit(X)
    np.testing.assert_array_equal(km.labels_, km.predict(X))
    assert km.inertia_ == pytest.approx(-km.score(X), rel=1e-12)


def test_scikit_learns_parameters_are_accepted(blobs):
    fits = [
        KMeans(3, random_state=0, algorithm=a, copy_x=c).fit(blobs)
        for a in ("lloyd", "elkan")
        for c in (True, False)
    ]
    for km in fits[1:]:
        np.testing.assert_array_equal(km.cluster_centers_, fits[0].cluster_centers_)
    np.testing.assert_array_equal(
        KMeans(3, random_state=0).fit_predict(blobs, None, np.ones(len(blobs))), fits[0].labels_
    )
    np.testing.assert_array_equal(
        KMeans(3, random_state=0).fit_transform(blobs, None, np.ones(len(blobs))), fits[0].transform(blobs)
    )
    with pytest.warns(RuntimeWarning, match="doesn't make sense for a single cluster"):
        KMeans(1, algorithm="elkan").fit(blobs)
    with pytest.raises(ValueError, match="algorithm"):
        KMeans(3, algorithm="hamerly").fit(blobs)


def test_verbose_lines_are_scikit_learns(blobs, capsys):
    for tol, why in ((0.0, "strict convergence."), (1e-2, "within tolerance")):
        KMeans(3, random_state=0, verbose=1, tol=tol).fit(blobs)
        out = capsys.readouterr().out.splitlines()
        assert out[0] == "Initialization complete"
        assert out[1].startswith("Iteration 0, inertia ")
        assert out[-1].startswith("Converged at iteration ")
        assert out[-1].endswith(why) or why in out[-1]


def test_rows_of_weight_0_may_lie_anywhere(blobs):
    X = np.vstack([blobs, np.full((1, blobs.shape[1]), 1e155)])
    km = KMeans(3, random_state=0).fit(X, sample_weight=np.append(np.ones(len(blobs)), 0.0))
    assert km.inertia_ == pytest.approx(KMeans(3, random_state=0).fit(blobs).inertia_, rel=1e-12)


def test_masked_centres_are_refused(blobs):
    centres = np.ma.masked_array(blobs[:3], mask=np.eye(3, blobs.shape[1]))
    for init in (centres, lambda X, k, random_state: centres):
        with pytest.raises(ValueError, match="Input init has masked values"):
            KMeans(3, init=init, n_init=1).fit(blobs)


@pytest.mark.parametrize("seed", range(5))
def test_more_runs_never_raise_the_inertia(seed):
    """Nor where runs end before they settle: each is judged by the centres that it ended with."""
    X = np.random.default_rng(seed).normal(size=(60, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = [
            KMeans(6, init="random", n_init=n, max_iter=1, tol=0.0, random_state=seed).fit(X).inertia_
            for n in range(1, 8)
        ]
    assert np.all(np.diff(found) <= 1e-12 * found[0])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array([0, 1, 2], dtype=np.int32), "names clusters that do not exist"),
        (np.array([0, -1, 1], dtype=np.int32), "names clusters that do not exist"),
        (np.array([0, 1, 1], dtype=np.int64), "not int32"),
        (np.array([[0], [1]], dtype=np.int32), "not int32"),
        (np.array([0, 1, 1, 0, 1], dtype=np.int32), None),
        (np.array([], dtype=np.int32), None),
    ],
)
def test_labels_that_belong_to_no_cluster_are_not_saved(labels, says):
    km = KMeans(2, random_state=0).fit([[0.0], [1.0], [9.0]])
    km.labels_ = labels
    if says is None:
        km._check_state()
        return
    with pytest.raises(ValueError, match=says):
        km._check_state()


@pytest.mark.parametrize("weighted", [False, True])
def test_labels_of_more_rows_than_fit_are_not_kept(weighted, blobs, monkeypatch, tmp_path):
    """A table of more rows than memory holds may have more labels than memory holds."""
    monkeypatch.setattr("mixtura.estimators.kmeans._MOST_LABELS", 100)
    weights = np.linspace(0.5, 2.0, len(blobs)) if weighted else None
    whole = KMeans(3, random_state=0).fit(blobs, sample_weight=weights)
    streamed = KMeans(3, random_state=0).fit(as_source(blobs, block_bytes=1 << 12), sample_weight=weights)
    assert not hasattr(streamed, "labels_")
    assert streamed.inertia_ == pytest.approx(whole.inertia_, rel=1e-12)
    np.testing.assert_array_equal(streamed.predict(blobs), whole.labels_)
    assert streamed.summary().splitlines()[:3] == whole.summary().splitlines()[:3]
    save(streamed, tmp_path / "m")
    assert load(tmp_path / "m").summary() == streamed.summary()
    again = streamed.fit_predict(as_source(blobs, block_bytes=1 << 12), sample_weight=weights)
    np.testing.assert_array_equal(again, whole.labels_)
    streamed.fit(blobs, sample_weight=weights)
    np.testing.assert_array_equal(streamed.labels_, whole.labels_)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_lines_are_printed_where_no_progress_is_shown(verbose, terminal, blobs, capsys, monkeypatch):
    """A terminal shows one run's progress instead of the lines, which then need verbose=2."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    KMeans(3, random_state=0, verbose=verbose).fit(blobs)
    lines = "Initialization complete" in capsys.readouterr().out
    assert lines == (verbose == 2 or (verbose == 1 and not terminal))


def test_blocks_do_not_go_on_with_another_number_of_clusters(rng):
    model = KMeans(3, random_state=0).fit(rng.normal(size=(200, 2)))
    centers = model.cluster_centers_.copy()
    with pytest.raises(ValueError, match="the last fit had 3 clusters, this one 5"):
        model.set_params(n_clusters=5).partial_fit(rng.normal(size=(200, 2)))
    np.testing.assert_array_equal(model.cluster_centers_, centers)
