"""Stepwise EM: near the fit to all rows, whatever the order of the blocks."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import mixtura
from mixtura import GaussianMixture, KMeans, MixtureOfExperts
from mixtura.data import as_source


def clusters(seed, rows=60_000):
    rng = np.random.default_rng(seed)
    K, D = 4, 5
    means, spreads = 2.0 * rng.normal(size=(K, D)), 0.3 * rng.normal(size=(K, D, D)) + np.eye(D)
    z = rng.integers(0, K, rows)
    return means[z] + np.einsum("nij,nj->ni", spreads[z], rng.normal(size=(rows, D)))


@pytest.mark.parametrize("seed", range(5))
def test_two_passes_are_nearly_as_good_as_em(seed):
    X = clusters(seed)
    X = X[np.argsort(X[:, 0])]  # sorted rows are the hardest order
    em = GaussianMixture(4, random_state=0, tol=1e-6, max_iter=500).fit(X)
    for rows in (X, as_source(X, block_bytes=1 << 18)):
        online = GaussianMixture(4, random_state=0, algorithm="stepwise").fit(rows)
        assert online.score(X) == pytest.approx(em.score(X), rel=1e-3)
        assert online.n_iter_ == 2
        assert online.converged_


def parameters_of(gm):
    return np.concatenate([gm.weights_[:-1], gm.means_.ravel(), np.ravel(gm.covariances_)])


def two_clusters(distance):
    truth = np.array([0.3, -distance, distance, 1.0, 1.0])

    def drawn(rng, rows):
        signs = np.where(rng.uniform(size=rows) < 0.3, -1.0, 1.0)
        return (distance * signs + rng.normal(size=rows))[:, None]

    return drawn, truth, np.array([[-distance], [distance]])


def three_clusters():
    means = np.array([[0.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, 2.5, 1.0]])
    root = np.array([[1.0, 0.3, 0.0], [0.0, 0.8, 0.2], [0.0, 0.0, 1.0]])
    covariances, weights = np.stack([root @ root.T, 0.7 * np.eye(3), 1.3 * root.T @ root]), [0.5, 0.2, 0.3]
    roots = np.linalg.cholesky(covariances)

    def drawn(rng, rows):
        z = rng.choice(3, size=rows, p=weights)
        return means[z] + np.einsum("nij,nj->ni", roots[z], rng.normal(size=(rows, 3)))

    return drawn, np.concatenate([weights[:-1], means.ravel(), covariances.ravel()]), means


@pytest.mark.parametrize(
    ("problem", "covariance"),
    [
        (two_clusters(2.0), "full"),
        (two_clusters(1.5), "diag"),
        (two_clusters(1.2), "spherical"),
        (three_clusters(), "full"),
    ],
    ids=["apart", "near", "nearer", "three"],
)
def test_a_stream_of_blocks_is_as_good_as_maximum_likelihood(problem, covariance):
    """Mean squared errors over streams of 60,000 rows, most of them beyond what `partial_fit` keeps."""
    drawn, truth, means = problem
    online, likelihood = np.zeros(len(truth)), np.zeros(len(truth))
    for seed in range(8 if len(means) == 3 else 16):
        X = drawn(np.random.default_rng(seed), 60_000)
        start = {"covariance_type": covariance, "means_init": means, "random_state": 0}
        gm = GaussianMixture(len(means), **start)
        for block in np.split(X, 150):
            gm.partial_fit(block)
        online += (parameters_of(gm) - truth) ** 2
        whole = GaussianMixture(len(means), tol=1e-8, max_iter=5000, accelerate="newton", **start).fit(X)
        likelihood += (parameters_of(whole) - truth) ** 2
    assert np.mean(online / likelihood) < 1.1
    assert gm.n_iter_ == 150


def test_fixed_weights_stay_as_blocks_come():
    rng = np.random.default_rng(0)
    gm = GaussianMixture(2, fixed={"weights": [True, True]}, weights_init=[0.5, 0.5], random_state=0)
    for _ in range(60):
        gm.partial_fit(
            np.where(rng.uniform(size=1000) < 0.3, -3.0, 3.0)[:, None] + rng.normal(size=(1000, 1))
        )
    assert gm.weights_.tolist() == [0.5, 0.5]


def test_a_stream_of_regressions_is_as_good_as_maximum_likelihood():
    """The example of Cappé and Moulines (2009): a mixture of two regressions."""
    lines, online, likelihood = np.array([[1.0, 2.0], [0.5, -1.0]]), 0.0, 0.0

    def errors(model):
        found = np.column_stack([model.intercept_.ravel(), model.coef_.ravel()])
        return (found[np.argsort(-found[:, 1])] - lines) ** 2

    for seed in range(12):
        rng = np.random.default_rng(seed)
        z, X = rng.integers(0, 2, 50_000), rng.normal(size=(50_000, 1))
        y = lines[z, 0] + lines[z, 1] * X[:, 0] + rng.normal(size=50_000)
        experts = MixtureOfExperts(2, random_state=0)
        for x_block, y_block in zip(np.split(X, 100), np.split(y, 100), strict=True):
            experts.partial_fit(x_block, y_block)
        online += errors(experts)
        likelihood += errors(MixtureOfExperts(2, random_state=0, tol=1e-9, max_iter=2000).fit(X, y))
    assert np.mean(online / likelihood) < 1.1


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_partial_fit_of_mixtures(kind, rng):
    X = rng.permutation(clusters(1))
    em = GaussianMixture(4, covariance_type=kind, random_state=0, tol=1e-6, max_iter=500).fit(X)
    gm = GaussianMixture(4, covariance_type=kind, random_state=0)
    for block in np.array_split(X, 60):
        assert gm.partial_fit(block) is gm
    assert gm.score(X) == pytest.approx(em.score(X), rel=1e-3)
    weighted = GaussianMixture(4, covariance_type=kind, random_state=0)
    for block in np.array_split(X, 60):
        weighted.partial_fit(block, sample_weight=np.full(len(block), 3.0))
    np.testing.assert_allclose(weighted.means_, gm.means_, rtol=1e-3, atol=1e-3)
    streamed = GaussianMixture(4, covariance_type=kind, random_state=0).partial_fit(
        as_source(X, block_bytes=1 << 16)
    )
    assert streamed.score(X) == pytest.approx(em.score(X), rel=1e-3)


def test_few_rows_are_fitted_as_a_whole(rng):
    X = rng.permutation(clusters(2, 3000))
    gm = GaussianMixture(4, random_state=0, init_params="auto")
    for block in np.array_split(X, 10):
        gm.partial_fit(block)
    whole = GaussianMixture(4, random_state=0, init_params="auto", tol=1e-6, max_iter=300).fit(X)
    assert gm.score(X) > whole.score(X) - 0.05


def test_it_goes_on_from_a_fit(rng):
    X = rng.permutation(clusters(3))
    gm = GaussianMixture(4, random_state=0).fit(X[:20_000])
    before = gm.score(X)
    for block in np.array_split(X[20_000:], 40):
        gm.partial_fit(block)
    assert gm.score(X) > before - 1e-3
    again = pickle.loads(pickle.dumps(gm))
    for estimator in (gm, again):
        estimator.partial_fit(X[:500])
    np.testing.assert_array_equal(gm.means_, again.means_)
    gm.fit(X[:5000])
    assert not hasattr(gm, "_online")


def test_kmeans(rng):
    X = rng.permutation(clusters(4))
    whole, online = KMeans(4, random_state=0).fit(X), KMeans(4, random_state=0)
    for block in np.array_split(X, 50):
        online.partial_fit(block)
    assert -online.score(X) < 1.01 * whole.inertia_
    assert len(online.labels_) == len(block)
    assert online.inertia_ == pytest.approx(-online.score(block))


@pytest.mark.parametrize("gate", ["constant", "softmax", "gaussian", "dirichlet"])
def test_experts(gate, rng):
    X = rng.normal(size=(50_000, 2))
    s = rng.uniform(size=len(X)) < 1 / (1 + np.exp(-2 * X[:, 0]))
    y = np.where(s, X @ [1.0, 2.0] + 1.0, X @ [-2.0, 0.5] - 1.0) + 0.3 * rng.normal(size=len(X))
    whole = MixtureOfExperts(2, gate=gate, random_state=0).fit(X, y)
    online = MixtureOfExperts(2, gate=gate, random_state=0)
    for a in range(0, len(X), 1000):
        online.partial_fit(X[a : a + 1000], y[a : a + 1000])
    stepwise = MixtureOfExperts(2, gate=gate, random_state=0, algorithm="stepwise").fit(X, y)
    best = whole.score_samples(X, y).mean()
    for estimator in (online, stepwise):
        assert estimator.score_samples(X, y).mean() > best - 1e-3


@pytest.mark.parametrize("streamed", [False, True])
def test_labels_are_kept(streamed, rng):
    """Labels that have nothing to do with the rows' groups: each component is the mean of its labelled rows."""
    X = rng.normal(size=(20_000, 2)) + 8.0 * rng.integers(0, 2, size=(20_000, 1))
    labels = np.where(X[:, 0] + 8.0 * rng.normal(size=20_000) > 4.0, 1, 0)
    rows = as_source(X, block_bytes=1 << 15) if streamed else X
    gm = GaussianMixture(2, random_state=0, algorithm="stepwise").fit(rows, labels=labels)
    for k in range(2):
        np.testing.assert_allclose(gm.means_[k], X[labels == k].mean(axis=0), atol=0.2)


def test_bad_input(rng, blobs):
    y = blobs @ [1.0, 2.0, 3.0] + rng.normal(size=len(blobs))
    for gate in ("sparse", "neural"):
        assert not hasattr(MixtureOfExperts(2, gate=gate), "partial_fit")
        with pytest.raises(ValueError, match=f"the {gate} gate needs the responsibilities of all rows"):
            MixtureOfExperts(2, gate=gate, algorithm="stepwise", max_iter=2).fit(blobs, y)
    with pytest.raises(ValueError, match="n_samples = 2"):
        GaussianMixture(3).partial_fit(blobs[:2])
    gm = GaussianMixture(3, random_state=0).partial_fit(blobs)
    before = gm.means_.copy()
    with pytest.raises(ValueError, match="features"):
        gm.partial_fit(blobs[:, :2])
    bad = blobs.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        gm.partial_fit(bad)
    np.testing.assert_array_equal(gm.means_, before)
    gm.partial_fit(blobs)  # and goes on
    with pytest.raises(ValueError, match="stepwise' does not go with accelerate"):
        GaussianMixture(3, algorithm="stepwise", accelerate="squarem").fit(blobs)
    with pytest.raises(ValueError, match="drop"):
        GaussianMixture(3, algorithm="stepwise", on_degenerate="drop").fit(blobs)
    with pytest.raises(ValueError, match="partial_fit does not go with"):
        GaussianMixture(3, on_degenerate="drop").partial_fit(blobs)


def two_normals(rng, n):
    return rng.normal(size=(n, 1)) + 6.0 * rng.integers(0, 2, size=(n, 1))


@pytest.mark.parametrize(
    "how", [{}, {"covariance_type": "tied"}, {"prior": "default"}, {"covariance_type": "E"}], ids=str
)
def test_blocks_after_a_fit_count_as_they_should(how, rng):
    """A few rows hardly move a fit to many, however unlike they are; many rows outweigh a fit to few."""
    X = two_normals(rng, 20_000)
    for block in (X[:2], X[:50], X[:50] - 6.0):
        gm = GaussianMixture(2, random_state=0, **how).fit(X)
        before = gm.means_.copy(), gm.covariances_.copy()
        gm.partial_fit(block)
        assert np.abs(gm.means_ - before[0]).max() < 0.1
        assert np.abs(gm.covariances_ - before[1]).max() < 0.4
    gm = GaussianMixture(2, random_state=0, tol=1e-8, **how).fit(two_normals(rng, 300))
    gm.partial_fit(two_normals(rng, 100_000))
    np.testing.assert_allclose(np.sort(gm.means_.ravel()), [0.0, 6.0], atol=0.04)
    assert gm.covariances_ == pytest.approx(1.0, abs=0.06)


def test_centres_after_a_fit(rng):
    X = two_normals(rng, 20_000)
    km = KMeans(2, random_state=0).fit(X)
    before = km.cluster_centers_.copy()
    km.partial_fit(X[:20] + 2.0)
    assert 0.0 < np.abs(km.cluster_centers_ - before).max() < 0.05


def test_a_fit_and_blocks_are_as_good_as_all_rows(rng):
    X = rng.normal(size=(30_000, 2)) + 2.5 * rng.integers(0, 2, size=(30_000, 1))
    how = {"random_state": 0, "tol": 1e-10, "max_iter": 2000, "order": "mean"}
    whole, gm = GaussianMixture(2, **how).fit(X), GaussianMixture(2, **how).fit(X[:10_000])
    for start in range(10_000, 30_000, 1000):
        gm.partial_fit(X[start : start + 1000])
    np.testing.assert_allclose(gm.means_, whole.means_, atol=0.01)


def test_blocks_for_other_parameters_are_refused(rng):
    gm = GaussianMixture(2, random_state=0).fit(two_normals(rng, 500))
    for changed, match in (
        ({"n_components": 3}, "components 2, this one 3"),
        ({"covariance_type": "diag"}, "type"),
    ):
        other = clone(gm).fit(two_normals(rng, 500)).set_params(**changed)
        with pytest.raises(ValueError, match=f"partial_fit: the last fit had .*{match}"):
            other.partial_fit(two_normals(rng, 50))
        assert other.means_.shape == (2, 1)


@pytest.mark.parametrize("rows", [1000, 2000, 8000])
def test_a_block_counts_for_its_share_of_the_rows(rows, rng):
    X, Y = rng.normal(size=(2000, 1)), rng.normal(size=(rows, 1)) + 1.0
    km = KMeans(1, random_state=0).fit(X).partial_fit(Y)
    assert km.cluster_centers_[0, 0] == pytest.approx(np.concatenate([X, Y]).mean(), abs=0.12)


def test_blocks_after_a_weighted_fit(rng):
    """Only ratios of weights matter: the same ones, in any unit, of the fit and of the block."""
    X = rng.normal(size=(2000, 1))
    means = [
        GaussianMixture(1)
        .fit(X, sample_weight=np.full(2000, c))
        .partial_fit(X + 1.0, sample_weight=np.full(2000, c))
        for c in (1.0, 1e3, 1e-3)
    ]
    for gm in means:
        assert gm.means_[0, 0] == pytest.approx(means[0].means_[0, 0], rel=1e-6)
        assert 0.4 < gm.means_[0, 0] - X.mean() < 0.75


@pytest.mark.parametrize("apart", [2.0, 5.0])
@pytest.mark.parametrize("sizes", [[1000, 10], [1, 999], [300, 700, 40]])
def test_blocks_of_unlike_lengths_are_as_good_as_one_fit(apart, sizes):
    """The error of the means, in units of that of a fit to all rows."""
    errors = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = np.array([[0.0, 0.0], [apart, 1.0]])
        X = truth[rng.integers(2, size=40_000)] + rng.normal(size=(40_000, 2))
        whole = GaussianMixture(2, random_state=0, tol=1e-8, max_iter=1000).fit(X)
        gm, at, turn = GaussianMixture(2, random_state=0), 0, 0
        gm.partial_fit(X[:2000])
        at = 2000
        while at < len(X):
            size = sizes[turn % len(sizes)]
            gm.partial_fit(X[at : at + size])
            at, turn = at + size, turn + 1

        def error(model, truth=truth):
            return np.sum((model.means_[np.argsort(model.means_[:, 0])] - truth) ** 2)

        errors.append((error(gm), error(whole)))
    got, want = np.sum(errors, axis=0)
    assert got < 1.6 * want


def test_rows_one_by_one_leave_a_good_model_where_it_is():
    rng = np.random.default_rng(3)
    X = np.array([[0.0, 0.0], [5.0, 1.0]])[rng.integers(2, size=40_050)] + rng.normal(size=(40_050, 2))
    gm = GaussianMixture(2, random_state=0).partial_fit(X[:40_000])
    before = gm.means_.copy()
    for row in X[40_000:]:
        gm.partial_fit(row[None])
    assert np.abs(gm.means_ - before).max() < 0.01  # the standard error of the means is 0.007


@pytest.mark.parametrize("gate", ["constant", "dirichlet", "softmax", "gaussian"])
@pytest.mark.parametrize("sizes", [[20], [1] * 30])
def test_short_blocks_after_a_fit_of_experts(gate, sizes, tmp_path):
    """What the fit learnt stands for its rows, also when the model comes from a file."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_100, 2)) + 5.0 * rng.integers(0, 2, size=(20_100, 1))
    y = X[:, 0] * rng.choice([-1.0, 1.0], 20_100) + 0.1 * rng.normal(size=20_100)
    fitted = MixtureOfExperts(2, gate=gate, random_state=0).fit(X[:20_000], y[:20_000])
    mixtura.save(fitted, tmp_path / "m")
    loaded = mixtura.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.degenerate_, fitted.degenerate_)
    before, slopes = fitted.score_samples(X, y).mean(), fitted.coef_.copy()
    for model in (fitted, loaded):
        at = 20_000
        for size in sizes:
            model.partial_fit(X[at : at + size], y[at : at + size])
            at += size
        assert model.score_samples(X, y).mean() > before - 1e-3
        assert np.abs(model.coef_ - slopes).max() < 0.01


def test_blocks_whose_rows_do_not_count_are_passed_over(tmp_path):
    rng = np.random.default_rng(0)
    X = np.array([[0.0, 0.0], [5.0, 1.0]])[rng.integers(2, size=20_000)] + rng.normal(size=(20_000, 2))
    weight = np.repeat([1.0, 0.0], 10_000)
    source = as_source(X, block_bytes=1 << 14)
    for model in (GaussianMixture(2, random_state=0), KMeans(2, random_state=0, n_init=1)):
        alone = clone(model).partial_fit(as_source(X[:10_000], block_bytes=1 << 14))
        model.partial_fit(source, sample_weight=weight)
        name = "means_" if hasattr(model, "means_") else "cluster_centers_"
        np.testing.assert_allclose(getattr(model, name), getattr(alone, name), rtol=1e-2, atol=1e-2)


def test_targets_keep_their_dimensions_from_block_to_block():
    x, y = np.arange(20.0)[:, None], np.arange(20.0)
    model = MixtureOfExperts(1).partial_fit(x, y)
    with pytest.raises(ValueError, match="y had 1 dimension in the blocks before, and has 2"):
        model.partial_fit(x, y[:, None])


def reused_and_not(new, blocks):
    """The same estimator, fitted to blocks that are written into one buffer, and to blocks of their own."""
    reused, own = new(), new()
    buffers = [np.empty_like(part) for part in blocks[0]]
    for block in blocks:
        for buffer, part in zip(buffers, block, strict=True):
            buffer[:] = part
        reused.partial_fit(*buffers)
        own.partial_fit(*block)
    return reused, own


def test_blocks_may_come_in_a_buffer_that_is_filled_again(rng):
    rows = [rng.normal(size=(300, 2)) + 5.0 * (i + np.arange(300) % 2)[:, None] for i in range(4)]
    reused, own = reused_and_not(lambda: KMeans(2, random_state=0), [(X,) for X in rows])
    np.testing.assert_array_equal(reused.cluster_centers_, own.cluster_centers_)
    reused, own = reused_and_not(lambda: GaussianMixture(2, random_state=0), [(X,) for X in rows])
    np.testing.assert_array_equal(reused.means_, own.means_)
    pairs = [(X, X[:, 0] + 0.1 * rng.normal(size=300)) for X in rows]
    reused, own = reused_and_not(lambda: MixtureOfExperts(2, random_state=0), pairs)
    np.testing.assert_array_equal(reused.coef_, own.coef_)


def test_blocks_of_a_frame_keep_its_names(rng, recwarn):
    pandas = pytest.importorskip("pandas")
    frames = [pandas.DataFrame(rng.normal(size=(200, 2)), columns=["a", "b"]) for _ in range(4)]
    for model in (KMeans(2, random_state=0), GaussianMixture(2, random_state=0)):
        for frame in frames:
            model.partial_fit(frame)
            assert model.feature_names_in_.tolist() == ["a", "b"]
        model.predict(frames[0])
        with pytest.raises(ValueError, match="feature names"):
            model.partial_fit(frames[0].rename(columns={"a": "c"}))
    experts = MixtureOfExperts(2, random_state=0)
    for frame in frames:
        experts.partial_fit(frame, rng.normal(size=200))
    assert experts.feature_names_in_.tolist() == ["a", "b"]
    assert not [w for w in recwarn if "feature names" in str(w.message)]


def test_targets_and_weights_of_a_source_are_looked_at_before_its_blocks(rng):
    X = rng.normal(size=(2000, 2))
    source = as_source(X, block_bytes=1 << 13)
    for weights, message in ((np.ones(2100), "sample_weight.shape"), (np.zeros(2000), "zero")):
        model = GaussianMixture(2, random_state=0)
        with pytest.raises(ValueError, match=message):
            model.partial_fit(source, sample_weight=weights)
        assert not hasattr(model, "means_")
    for y in (np.ones(1900), np.ones(2100)):
        model = MixtureOfExperts(2, random_state=0)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            model.partial_fit(source, y)
        assert not hasattr(model, "weights_")


def test_what_stands_for_the_rows_of_experts_moves_with_them(rng):
    """The covariates that a file remembers are those of all blocks, and a fit that fails changes nothing."""
    model = MixtureOfExperts(2, gate="softmax", random_state=0)
    X = rng.normal(size=(2000, 1))
    model.fit(X, np.abs(X[:, 0]) + 0.1 * rng.normal(size=2000))
    for _ in range(30):
        far = rng.normal(size=(2000, 1)) + 20.0
        model.partial_fit(far, np.abs(far[:, 0] - 20.0) + 0.1 * rng.normal(size=2000))
    assert np.all(model.weights_ @ model._x_means > 10.0)
    before = model._x_means.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning):
            model.set_params(n_experts=3, max_iter=1).fit(X, X[:, 0])
    np.testing.assert_array_equal(model._x_means, before)
    model.set_params(n_experts=2).partial_fit(far, far[:, 0])


@pytest.mark.parametrize("rows", [300, 40_000])
def test_attributes_are_of_the_blocks_library(rows):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    X, y = torch.tensor(rng.normal(size=(rows, 2))), torch.tensor(rng.normal(size=rows))
    gm, km, experts = GaussianMixture(2, random_state=0), KMeans(2, random_state=0), MixtureOfExperts(1)
    for _ in range(3):
        gm.partial_fit(X)
        km.partial_fit(X)
        experts.partial_fit(X, y)
        for fitted in (gm.means_, km.cluster_centers_, experts.weights_, experts.coef_):
            assert isinstance(fitted, torch.Tensor)
            assert fitted.dtype == torch.float64


def test_masked_and_missing_targets_of_a_source_are_told():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 2))
    masked = np.ma.array(X @ [1.0, 2.0], mask=rng.random(3000) < 0.3)
    with pytest.raises(ValueError, match="Input y has masked values"):
        MixtureOfExperts(1).partial_fit(as_source(X), masked)
    with pytest.raises(TypeError, match="y must be an array in memory"):
        MixtureOfExperts(1).partial_fit(as_source(X), "y.npy")
    with pytest.raises(ValueError, match="requires y to be passed"):
        MixtureOfExperts(1).partial_fit(as_source(X), None)


def test_a_source_with_a_bad_block_teaches_nothing():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 2))
    bad = X.copy()
    bad[-1] = np.nan
    for model, y in (
        (GaussianMixture(1), ()),
        (KMeans(2, random_state=0), ()),
        (MixtureOfExperts(1), (X[:, 0],)),
    ):
        model.partial_fit(X, *y)
        before = {name: np.array(value) for name, value in vars(model).items() if name.endswith("_")}
        with pytest.raises(ValueError, match="NaN"):
            model.partial_fit(as_source(bad, block_bytes=1 << 14), *y)
        for name, value in before.items():
            np.testing.assert_array_equal(getattr(model, name), value)


def test_experts_that_were_changed_do_not_go_on():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1))
    y = np.where(rng.random(400) < 0.5, x[:, 0], -x[:, 0]) + 0.1 * rng.normal(size=400)
    for changed, name in (
        ({"n_experts": 3}, "n_experts"),
        ({"gate": "softmax"}, "gate"),
        ({"noise": "per-expert"}, "noise"),
        ({"fit_intercept": False}, "fit_intercept"),
        ({"experts": mixtura.LinearExpert(prior_covariance=1.0)}, "experts"),
    ):
        model = MixtureOfExperts(2, random_state=0).fit(x, y).set_params(**changed)
        with pytest.raises(ValueError, match=f"partial_fit: {name}.* was set after the fit"):
            model.partial_fit(x, y)
