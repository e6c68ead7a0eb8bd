"""GaussianMixture: answers that are known, laws of EM, and scikit-learn's defects that are absent."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

from mixtura import GaussianMixture
from mixtura.components.covariances import COVARIANCES, LEAST_SHARE

EPS = np.finfo(np.float64).eps
TYPES = ("full", "tied", "diag", "spherical")
FITTED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "lower_bound_")


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def dense(gm):
    K, D = gm.means_.shape
    c = gm.covariances_
    return {
        "full": lambda: c,
        "tied": lambda: np.broadcast_to(c, (K, D, D)),
        "diag": lambda: c[:, :, None] * np.eye(D),
        "spherical": lambda: c[:, None, None] * np.eye(D),
    }[gm.covariance_type]()


# ------------------------------------------------------------------ known answers


@pytest.mark.parametrize("backend", ["reference", "numba", "native"])
def test_old_faithful(faithful, require, backend):
    """The maximum that mclust and every good restart of EM agree on, from any of 20 seeds."""
    require(backend)
    for seed in range(20 if backend == "native" else 2):
        gm = GaussianMixture(2, n_init=5, tol=1e-10, max_iter=1000, random_state=seed, backend=backend)
        gm.fit(faithful)
        assert gm.backend_ == backend
        assert gm.score(faithful) * 272 == pytest.approx(-1130.26396, abs=1e-4)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_same_iterations_as_scikit_learn(covariance_type, blobs):
    """From the same start, the same parameters after the same number of steps."""
    rng = np.random.default_rng(1)
    means = blobs[rng.choice(len(blobs), 3, replace=False)]
    precisions = {
        "full": np.tile(np.eye(3), (3, 1, 1)),
        "tied": np.eye(3),
        "diag": np.ones((3, 3)),
        "spherical": np.ones(3),
    }
    arguments = {
        "covariance_type": covariance_type,
        "weights_init": np.full(3, 1 / 3),
        "means_init": means,
        "precisions_init": precisions[covariance_type],
        "max_iter": 7,
        "tol": 0.0,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours = GaussianMixture(3, **arguments).fit(blobs)
        theirs = SklearnGaussianMixture(3, **arguments).fit(blobs)
    for name in FITTED:
        # scikit-learn's diagonal types lose digits to (mean / spread)^2, about 50 here.
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-12)
    np.testing.assert_allclose(ours.score_samples(blobs), theirs.score_samples(blobs), rtol=1e-10)
    np.testing.assert_allclose(ours.predict_proba(blobs), theirs.predict_proba(blobs), atol=1e-9)
    assert ours.bic(blobs) == pytest.approx(theirs.bic(blobs), rel=1e-12)
    assert ours.aic(blobs) == pytest.approx(theirs.aic(blobs), rel=1e-12)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_density_is_scipys(covariance_type, blobs):
    gm = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(blobs)
    parts = [
        w * stats.multivariate_normal(m, c).pdf(blobs)
        for w, m, c in zip(gm.weights_, gm.means_, dense(gm), strict=True)
    ]
    np.testing.assert_allclose(gm.score_samples(blobs), np.log(sum(parts)), rtol=1e-11)
    np.testing.assert_allclose(gm.predict_proba(blobs), np.transpose(parts / sum(parts)), atol=1e-12)
    assert gm.score(blobs) == pytest.approx(gm.score_samples(blobs).mean(), rel=1e-14)


def test_one_component_is_the_sample_moments(blobs):
    gm = GaussianMixture(1, reg_covar=0.0).fit(blobs)
    np.testing.assert_allclose(gm.means_[0], blobs.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(gm.covariances_[0], np.cov(blobs.T, ddof=0), rtol=1e-11)


# ------------------------------------------------------------------ identities across covariance types


def test_types_agree_in_one_column(rng):
    """With one column, full = diag = spherical; with one component, tied too."""
    X = np.concatenate([rng.normal(size=(100, 1)), rng.normal(size=(150, 1)) * 2 + 7])
    scores = {
        t: GaussianMixture(2, covariance_type=t, random_state=0, tol=1e-8).fit(X).score(X) for t in TYPES
    }
    assert scores["full"] == pytest.approx(scores["diag"], rel=1e-12)
    assert scores["full"] == pytest.approx(scores["spherical"], rel=1e-12)
    assert scores["tied"] < scores["full"]
    one = [GaussianMixture(1, covariance_type=t).fit(X).score(X) for t in TYPES]
    np.testing.assert_allclose(one, one[0], rtol=1e-12)


def test_freer_types_fit_better(blobs):
    score = {
        t: GaussianMixture(3, covariance_type=t, random_state=0, tol=1e-9, max_iter=500)
        .fit(blobs)
        .score(blobs)
        for t in TYPES
    }
    assert score["full"] > score["diag"] > score["spherical"]
    assert score["full"] > score["tied"]


def test_diag_on_rotated_axes_is_full(rng):
    """A full fit knows no axes: rotate the rows and its likelihood stays."""
    X = np.concatenate([rng.normal(size=(200, 2)) * [3, 0.3], rng.normal(size=(200, 2)) * [0.3, 2] + [9, 5]])
    rotation, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    fits = [GaussianMixture(2, random_state=0, tol=1e-9, reg_covar=0.0).fit(Y) for Y in (X, X @ rotation)]
    assert fits[0].score(X) == pytest.approx(fits[1].score(X @ rotation), rel=1e-9)


def test_spherical_variance_is_the_mean_of_diagonal_ones(blobs, quiet):
    one = {t: GaussianMixture(1, covariance_type=t, reg_covar=0).fit(blobs).covariances_ for t in TYPES}
    np.testing.assert_allclose(one["spherical"][0], one["diag"][0].mean(), rtol=1e-13)
    np.testing.assert_allclose(np.diag(one["full"][0]), one["diag"][0], rtol=1e-13)
    np.testing.assert_allclose(one["tied"], one["full"][0], rtol=1e-13)


# ------------------------------------------------------------------ laws of EM


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_bound_never_falls(covariance_type, weighted, rng, quiet):
    """Up to rounding: N eps of the terms' magnitude, per row eps times a few."""
    for _ in range(10):
        K, D, N = rng.integers(1, 6), rng.integers(1, 6), rng.integers(20, 400)
        X = rng.normal(size=(N, D)) @ rng.normal(size=(D, D)) + rng.normal(size=D)
        w = rng.uniform(0, 3, N) if weighted else None
        gm = GaussianMixture(
            K, covariance_type=covariance_type, reg_covar=0.0, tol=0.0, max_iter=60, random_state=0
        )
        try:
            gm.fit(X, sample_weight=w)
        except ValueError as error:  # a component ran into a single point: the bound is infinite there
            assert "ill-defined empirical covariance" in str(error)  # noqa: PT017
            continue
        bounds = np.array(gm.lower_bounds_)
        assert np.all(np.diff(bounds) >= -256 * EPS * np.abs(bounds[1:]))


@pytest.mark.parametrize("offset", [1e6, -1e8])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_translation(covariance_type, offset, blobs, quiet):
    """X + t gives means + t and the same covariances, to the digits that X + t has kept."""
    gm = GaussianMixture(3, covariance_type=covariance_type, random_state=0, max_iter=20, tol=0).fit(blobs)
    moved = clone(gm).fit(blobs + offset)
    digits = 256 * EPS * abs(offset)
    np.testing.assert_allclose(moved.means_ - offset, gm.means_, rtol=0, atol=digits)
    np.testing.assert_allclose(moved.covariances_, gm.covariances_, rtol=0, atol=100 * digits)
    assert moved.lower_bound_ == pytest.approx(gm.lower_bound_, abs=100 * digits)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_scale(covariance_type, blobs, quiet):
    """s X gives s times the means, s^2 the covariances, and D log s less likelihood; powers of 2 are exact."""
    arguments = {
        "covariance_type": covariance_type,
        "random_state": 0,
        "max_iter": 10,
        "tol": 0,
        "reg_covar": 0,
    }
    gm = GaussianMixture(3, **arguments).fit(blobs)
    for scale in (2.0**40, 2.0**-40):
        scaled = GaussianMixture(3, **arguments).fit(blobs * scale)
        np.testing.assert_allclose(scaled.means_, gm.means_ * scale, rtol=1e-10)
        np.testing.assert_allclose(scaled.covariances_, gm.covariances_ * scale**2, rtol=1e-10)
        assert scaled.lower_bound_ == pytest.approx(gm.lower_bound_ - 3 * np.log(scale), rel=1e-12)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_clusters_a_thousand_million_spreads_apart(covariance_type, rng):
    """The spread of each survives, though one pivot serves both: eps * (1e9)^2 would drown it."""
    one = rng.normal(size=(400, 2))
    X = np.concatenate([one, one[:300] + 1e9])
    gm = GaussianMixture(2, covariance_type=covariance_type, random_state=0, reg_covar=0.0).fit(X)
    order = gm.means_[:, 0].argsort()
    far = X[400:]
    want = [np.cov(one.T, ddof=0), np.cov((far - far[0]).T, ddof=0)]
    if covariance_type == "tied":
        want = [(400 * want[0] + 300 * want[1]) / 700] * 2
    got = dense(gm)[order]
    for a, b in zip(got, want, strict=True):
        if covariance_type == "spherical":
            b = np.eye(2) * np.trace(b) / 2
        np.testing.assert_allclose(np.diag(a), np.diag(b), rtol=1e-6)


def test_n_init_keeps_the_best_and_starts_with_the_single_run(blobs, quiet):
    single = GaussianMixture(4, n_init=1, random_state=3, max_iter=3, init_params="random").fit(blobs)
    many = GaussianMixture(4, n_init=6, random_state=3, max_iter=3, init_params="random").fit(blobs)
    assert many.lower_bound_ >= single.lower_bound_
    rng = np.random.RandomState(3)
    runs = [
        GaussianMixture(4, random_state=rng, max_iter=3, init_params="random").fit(blobs).lower_bound_
        for _ in range(6)
    ]
    assert runs[0] == single.lower_bound_
    assert max(runs) == many.lower_bound_


def test_warm_start_goes_on(blobs, quiet):
    arguments = {"init_params": "random", "random_state": 1, "tol": 0}
    whole = GaussianMixture(3, max_iter=6, **arguments).fit(blobs)
    steps = GaussianMixture(3, max_iter=2, warm_start=True, **arguments)
    for _ in range(3):
        steps.fit(blobs)
    assert steps.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-12)


def test_max_iter_zero_is_the_initialisation(blobs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gm = GaussianMixture(3, max_iter=0, random_state=0).fit(blobs)
    assert gm.n_iter_ == 0
    assert gm.lower_bound_ == -np.inf
    assert not gm.converged_


# ------------------------------------------------------------------ weights


@pytest.mark.parametrize("backend", ["reference", "numba", "native"])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_weights_are_repetitions(covariance_type, backend, require, blobs, rng, quiet):
    require(backend)
    w = rng.integers(0, 4, len(blobs))
    repeated = np.repeat(blobs, w, axis=0)
    arguments = {
        "covariance_type": covariance_type,
        "random_state": 0,
        "max_iter": 15,
        "tol": 0,
        "backend": backend,
    }
    a = GaussianMixture(3, **arguments).fit(blobs, sample_weight=w)
    b = GaussianMixture(3, **arguments).fit(repeated)
    for name in FITTED:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-8, atol=1e-10, err_msg=name)
    assert a.score(blobs, sample_weight=w) == pytest.approx(b.score(repeated), rel=1e-10)


def test_constant_weights_change_nothing(blobs, quiet):
    a = GaussianMixture(3, random_state=0).fit(blobs)
    b = GaussianMixture(3, random_state=0).fit(blobs, sample_weight=np.full(len(blobs), 4.0))
    for name in FITTED:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-12, err_msg=name)


# ------------------------------------------------------------------ types


@pytest.mark.parametrize("covariance_type", TYPES)
def test_float32_stays_and_is_as_good_as_float64(covariance_type, blobs):
    X = blobs.astype(np.float32)
    a = GaussianMixture(3, covariance_type=covariance_type, random_state=0, tol=1e-6).fit(X)
    b = GaussianMixture(3, covariance_type=covariance_type, random_state=0, tol=1e-6).fit(
        X.astype(np.float64)
    )
    for name in FITTED[:-1]:
        assert getattr(a, name).dtype == np.float32
        # Rounding of float32 in moments about a pivot some spreads away, averaged over the rows.
        tolerance = 8 * np.finfo(np.float32).eps * np.abs(X).max() ** 2
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance)
    assert a.score_samples(X).dtype == a.predict_proba(X).dtype == np.float32
    assert a.predict(X).dtype == np.int64
    assert isinstance(a.score(X), float)


def test_float32_far_from_zero_keeps_its_digits(rng):
    """Two points a float32 apart: scikit-learn's diagonal types give a variance of 112 for 0.1."""
    X = np.array([[9999.0], [9999.5], [0.0], [0.5]], dtype=np.float32)
    for covariance_type in TYPES:
        gm = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
        np.testing.assert_allclose(np.ravel(gm.covariances_), 0.0625, rtol=1e-4)


def test_integers_at_predict_are_not_truncated(rng):
    X = rng.poisson([3.0, 8.0], (400, 2))
    gm = GaussianMixture(3, random_state=0).fit(X)
    np.testing.assert_array_equal(gm.predict(X), gm.predict(X.astype(float)))
    np.testing.assert_array_equal(gm.score_samples(X), gm.score_samples(X.astype(float)))
    assert gm.bic(X) == gm.bic(X.astype(float))


def test_all_initial_parameters_without_iterations(blobs):
    means, precisions = blobs[:3].copy(), np.tile(np.diag([1.0, 2.0, 4.0]), (3, 1, 1))
    gm = GaussianMixture(
        3, weights_init=[0.2, 0.3, 0.5], means_init=means, precisions_init=precisions, max_iter=0
    ).fit(blobs)
    np.testing.assert_array_equal(gm.means_, means)
    np.testing.assert_allclose(gm.covariances_[0], np.diag([1.0, 0.5, 0.25]), rtol=1e-14)
    np.testing.assert_allclose(gm.precisions_, precisions, rtol=1e-14)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_initial_parameters_are_left_alone(covariance_type, blobs, quiet):
    first = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(blobs)
    given = {
        "means_init": first.means_ + 0.1,
        "precisions_init": first.precisions_.copy(),
        "weights_init": [0.5, 0.25, 0.25],
    }
    before = copy.deepcopy(given)
    gm = GaussianMixture(3, covariance_type=covariance_type, max_iter=3, **given).fit(blobs)
    for name, value in before.items():
        np.testing.assert_array_equal(given[name], value)
        assert getattr(gm, name) is given[name]


def test_sample_goes_on_and_can_be_seeded(blobs):
    gm = GaussianMixture(3, random_state=0).fit(blobs)
    (a, ya), (b, _) = gm.sample(50), gm.sample(50)
    assert not np.array_equal(a, b)
    assert np.all(np.diff(ya) >= 0)
    assert ya.dtype == np.int64
    np.testing.assert_array_equal(gm.sample(9, random_state=4)[0], gm.sample(9, random_state=4)[0])
    np.testing.assert_array_equal(clone(gm).fit(blobs).sample(50)[0], a)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_samples_have_the_mixtures_moments(covariance_type, blobs):
    gm = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(blobs)
    X, y = gm.sample(60_000)
    for k in range(3):
        rows = X[y == k]
        np.testing.assert_allclose(rows.mean(axis=0), gm.means_[k], atol=5 * 2.0 / np.sqrt(len(rows)))
        np.testing.assert_allclose(np.cov(rows.T), dense(gm)[k], atol=0.12)


# ------------------------------------------------------------------ state and reports


def test_pickle_and_clone(blobs):
    gm = GaussianMixture(3, random_state=0).fit(blobs)
    gm.sample(3)
    back = pickle.loads(pickle.dumps(gm))
    np.testing.assert_array_equal(back.predict_proba(blobs), gm.predict_proba(blobs))
    np.testing.assert_array_equal(back.sample(5)[0], gm.sample(5)[0])
    assert not hasattr(clone(gm), "means_")


def test_summary(faithful):
    text = GaussianMixture(2, random_state=0).fit(faithful).summary()
    assert "2 components, full covariance" in text
    assert "272 x 2" in text
    assert "log-likelihood per row  -4.155" in text
    wide = GaussianMixture(25, covariance_type="diag", random_state=0, tol=1.0)
    with pytest.warns(ConvergenceWarning, match="spurious"):  # some components have a single row
        wide.fit(np.random.default_rng(0).normal(size=(100, 30)))
    assert "... and 5 more components" in wide.summary()
    assert "... and 20 more columns" in wide.summary()


def test_verbose_lines(blobs, capsys):
    GaussianMixture(3, random_state=0, verbose=2, verbose_interval=1).fit(blobs)
    out = capsys.readouterr().out
    assert "Initialization 0\n" in out
    assert "  Iteration 1\t time lapse" in out
    assert "rows/s" in out
    assert "Initialization converged. time lapse" in out


def test_verbose_bar(blobs, capsys):
    pytest.importorskip("rich")
    GaussianMixture(3, random_state=0, verbose=1, n_init=2).fit(blobs)
    err = capsys.readouterr().err
    assert "EM 2/2" in err
    assert "rows/s" in err
    assert "converged" in err


def test_verbose_without_rich(blobs, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    GaussianMixture(3, random_state=0, verbose=1, verbose_interval=1).fit(blobs)
    assert "Initialization 0\n  Iteration 1\n" in capsys.readouterr().out


def test_callbacks(blobs):
    """scikit-learn's callbacks see each iteration, get a fitted estimator of it, and may stop the fit."""
    callback = pytest.importorskip("sklearn.callback")

    class Watch:
        def __init__(self):
            self.scores, self.tasks = [], []

        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            self.tasks.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.tasks.append(context.task_name)

        def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
            if context.task_name == "iteration":
                self.scores.append(fitted_estimator.score(X))
                return len(self.scores) == 4
            return False

    watch = Watch()
    assert isinstance(watch, callback.FitCallback)
    gm = GaussianMixture(3, random_state=0, tol=0.0, init_params="random").set_callbacks(watch)
    with pytest.warns(ConvergenceWarning):
        gm.fit(blobs)
    assert gm.n_iter_ == 4
    assert watch.tasks == ["fit", "initialization", *["iteration"] * 4, "teardown"]
    assert watch.scores[-1] == pytest.approx(gm.score(blobs), rel=1e-12)
    assert np.all(np.diff(watch.scores) > 0)


# ------------------------------------------------------------------ hard cases and bad input


def test_constant_columns_and_duplicated_rows(rng):
    X = np.concatenate([np.ones((300, 1)) * 7.0, np.repeat(rng.integers(0, 3, (100, 2)), 3, axis=0)], axis=1)
    for covariance_type in TYPES:
        gm = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
        assert all(np.isfinite(getattr(gm, name)).all() for name in FITTED)
        np.testing.assert_allclose(gm.means_[:, 0], 7.0)


def test_more_components_than_distinct_rows(quiet):
    X = np.repeat(np.array([[0.0, 1.0], [5.0, 2.0]]), 20, axis=0)
    gm = GaussianMixture(6, random_state=0).fit(X)
    assert all(np.isfinite(getattr(gm, name)).all() for name in FITTED)
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        GaussianMixture(6, random_state=0, reg_covar=0.0).fit(X)


@pytest.mark.parametrize("size", [1e-160, 1e-100, 1e100, 1e150])
def test_extreme_scales(size, blobs):
    gm = GaussianMixture(3, random_state=0, reg_covar=0.0)
    if size in (1e-160, 1e150):  # squares leave the range of float64 somewhere on the way
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            try:
                gm.fit(blobs * size)
            except ValueError as error:
                assert "cale the input data" in str(error)  # noqa: PT017
                return
    gm.fit(blobs * size)
    np.testing.assert_allclose(np.sort(gm.means_[:, 0]) / size, [-3, 0, 6], atol=0.3)


@pytest.mark.parametrize("value", [1e200, 1.7e308, -1.7e308])
def test_values_near_the_limits_are_refused_not_fitted_to_nan(value, blobs):
    X = blobs.copy()
    X[5, 1] = value
    for covariance_type in TYPES:
        with pytest.raises(ValueError, match="too large for their squares"):
            GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    X[:] = value
    gm = GaussianMixture(1).fit(X)  # all equal: nothing to square
    np.testing.assert_allclose(gm.means_, value)


def test_rows_too_far_at_predict(blobs):
    gm = GaussianMixture(2, random_state=0).fit(blobs)
    with pytest.raises(ValueError, match="row 1 of X is so far from every component"):
        gm.predict([[0.0, 0.0, 0.0], [1e200, 0.0, 0.0]])


def test_float32_results_that_do_not_fit(blobs):
    with pytest.raises(ValueError, match="cannot be represented in float32"):
        GaussianMixture(2, random_state=0).fit((blobs * 1e25).astype(np.float32))


def test_bad_values_are_located(blobs):
    X = blobs.copy()
    X[3, 1] = X[4, 1] = np.nan
    X[9, 2] = np.inf
    with pytest.raises(ValueError, match=r"column 1 has 2 NaN; column 2 has 1 infinity"):
        GaussianMixture(2).fit(X)
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"column 1 \('b'\) has 2 NaN"):
        GaussianMixture(2).fit(pandas.DataFrame(X, columns=list("abc")))


BAD = [
    ({}, lambda X: X[:, 0], ValueError, "Expected 2D array"),
    ({}, lambda X: X[:1], ValueError, "minimum of 2 is required"),
    (
        {"n_components": 601},
        lambda X: X,
        ValueError,
        "Expected n_samples >= n_components but got n_components = 601",
    ),
    ({}, lambda X: np.full((5, 2), "a"), ValueError, "could not convert string to float"),
    (
        {"backend": "fortran"},
        lambda X: X,
        ValueError,
        "unknown backend 'fortran'; known are 'auto', 'native'",
    ),
    ({"n_components": 0}, lambda X: X, ValueError, "'n_components' parameter of GaussianMixture must be"),
    ({"covariance_type": "oval"}, lambda X: X, ValueError, "'covariance_type' parameter of GaussianMixture"),
    ({"tol": -1.0}, lambda X: X, ValueError, "'tol' parameter of GaussianMixture"),
    ({"n_threads": 0}, lambda X: X, ValueError, "'n_threads' parameter of GaussianMixture"),
]


@pytest.mark.parametrize(("parameters", "change", "error", "message"), BAD)
def test_bad_input(parameters, change, error, message, blobs):
    with pytest.raises(error, match=message):
        GaussianMixture(**{"n_components": 2, **parameters}).fit(change(blobs))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-np.ones(600), "Negative values in data passed to `sample_weight`: 600"),
        (np.zeros(600), "non-zero|zero for every row"),
        (np.ones(599), "599"),
        (np.ones((600, 1)), "Sample weights must be 1D"),
        (np.full(600, np.nan), "NaN"),
    ],
)
def test_bad_weights(weight, message, blobs):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2).fit(blobs, sample_weight=weight)


def test_wrong_feature_count_at_predict(blobs):
    gm = GaussianMixture(2, random_state=0).fit(blobs)
    for method in (gm.predict, gm.predict_proba, gm.score_samples, gm.score):
        with pytest.raises(ValueError, match="X has 2 features, but GaussianMixture is expecting 3 features"):
            method(blobs[:, :2])


def test_unavailable_backend_says_why(blobs, monkeypatch):
    from mixtura import backends

    def missing():
        raise ImportError("no such compiler")

    monkeypatch.setitem(backends._FACTORIES, "native", missing)
    backends._warn_of_slow_backend.cache_clear()
    with pytest.raises(ImportError, match="backend 'native' is not available: no such compiler"):
        GaussianMixture(2, backend="native").fit(blobs)
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ kernels"):
        gm = GaussianMixture(2, random_state=0).fit(blobs)
    assert gm.backend_ != "native"
    assert backends.available()["native"] == (False, "no such compiler")


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e-8, 1e8, 1e300])
def test_only_ratios_of_weights_matter(scale, blobs, rng, quiet):
    w = rng.uniform(0.1, 2.0, len(blobs))
    arguments = {"random_state": 0, "max_iter": 10, "tol": 0}
    a = GaussianMixture(3, **arguments).fit(blobs, sample_weight=w)
    b = GaussianMixture(3, **arguments).fit(blobs, sample_weight=w * scale)
    for name in FITTED:
        np.testing.assert_allclose(getattr(b, name), getattr(a, name), rtol=1e-9, atol=1e-12, err_msg=name)
    assert b.score(blobs, sample_weight=w * scale) == pytest.approx(
        a.score(blobs, sample_weight=w), rel=1e-12
    )


@pytest.mark.parametrize("init_params", ["kmeans", "random"])
@pytest.mark.parametrize("backend", ["reference", "numba", "native"])
@pytest.mark.parametrize("far", [1e18, 1e100, 1e300])
def test_rows_of_weight_zero_do_not_exist(far, backend, init_params, require, blobs, quiet):
    require(backend)
    X = np.vstack([blobs, np.full((2, 3), far)])
    w = np.r_[np.ones(len(blobs)), 0.0, 0.0]
    arguments = {"random_state": 0, "max_iter": 5, "tol": 0, "backend": backend, "init_params": init_params}
    a = GaussianMixture(3, **arguments).fit(X, sample_weight=w)
    b = GaussianMixture(3, **arguments).fit(blobs, sample_weight=w[:-2])
    for name in FITTED:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-12, err_msg=name)


def test_too_few_rows_of_positive_weight(blobs):
    w = np.zeros(len(blobs))
    w[:3] = 1.0
    for init in ("kmeans", "random_from_data"):
        with pytest.raises(
            ValueError, match="only 3 rows have a positive weight, fewer than the 4 components"
        ):
            GaussianMixture(4, init_params=init).fit(blobs, sample_weight=w)


def test_weights_that_overflow(blobs):
    with pytest.raises(ValueError, match="sample_weight sums to infinity"):
        GaussianMixture(2).fit(blobs, sample_weight=np.full(len(blobs), 1e307))


def test_sampling_from_what_float32_keeps(rng):
    """A covariance that is positive definite before it is rounded, and not after."""
    z = rng.normal(size=(500, 1)) * 1e4
    X = np.hstack([z, z + rng.normal(size=(500, 1)), rng.normal(size=(500, 1)) * 1e4]).astype(np.float32)
    drawn, _ = GaussianMixture(1).fit(X).sample(4000)
    np.testing.assert_allclose(np.std(drawn[:, 1] - drawn[:, 0]), np.std(X[:, 1] - X[:, 0]), rtol=0.1)


def test_many_cholesky_factors_on_all_threads(require, rng, monkeypatch):
    """What LAPACK gives one by one."""
    require("native")
    from mixtura import factorize

    A = rng.normal(size=(40, 48, 48))
    covariances = A @ A.transpose(0, 2, 1) + np.eye(48)
    assert covariances.size >= factorize._MANY
    together = factorize.inverse_choleskys(covariances)
    monkeypatch.setattr(factorize, "native", None)
    one_by_one = factorize.inverse_choleskys(covariances)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12, atol=1e-14)
    assert not np.tril(together, -1).any()
    monkeypatch.undo()
    for bad in (-1.0, np.nan):
        broken = covariances.copy()
        broken[17, 5, 5] = bad
        with pytest.raises(factorize.IllDefinedCovarianceError):
            factorize.inverse_choleskys(broken)
    kept = covariances.copy()
    factorize.inverse_choleskys(covariances)
    np.testing.assert_array_equal(covariances, kept)


# -------------------------------------------------------------------------------- components without spread


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_rows_that_are_all_equal_have_no_variance_but_reg_covar(covariance_type, dtype, backend):
    """Saturated readings, codes for missing values: what rounding leaves about a far pivot is no variance."""
    levels = np.array([-32768.0, 1e5 / 3, 1e5, 2.5e8]).astype(dtype)
    Z = np.repeat(levels, 100)[:, None]
    gm = GaussianMixture(4, covariance_type=covariance_type, random_state=0, backend=backend.name).fit(Z)
    np.testing.assert_allclose(np.sort(gm.means_[:, 0]), levels, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(np.ravel(gm.covariances_), 1e-6, rtol=1e-6)
    np.testing.assert_allclose(gm.weights_, 0.25)
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        gm.set_params(reg_covar=0.0).fit(Z)


def test_a_constant_column_of_a_far_component(rng):
    """Beside columns that vary: its own variance is reg_covar, and it covaries with nothing."""
    X = rng.normal(size=(400, 3))
    X[200:, 0] += 1e5
    X[:200, 1], X[200:, 1] = 1e6 / 3, -1e6 / 7
    gm = GaussianMixture(2, random_state=0).fit(X)
    np.testing.assert_allclose(gm.covariances_[:, 1, 1], 1e-6, rtol=1e-9)
    np.testing.assert_array_equal(gm.covariances_[:, 1, [0, 2]], 0.0)
    part = X[np.abs(X[:, 0]) < 1e4]
    k = int(np.abs(gm.means_[:, 0]).argmin())
    np.testing.assert_allclose(
        gm.covariances_[k][np.ix_([0, 2], [0, 2])],
        np.cov(part[:, [0, 2]].T, ddof=0) + 1e-6 * np.eye(2),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@pytest.mark.parametrize("distance", [3e3, 1e5])
def test_far_clusters_of_nearly_collinear_columns(covariance_type, distance, rng):
    """No column alone shows that the smallest eigenvalues drown in rounding about the common pivot."""
    t, u = rng.normal(size=(2, 400, 1))
    parts = [
        np.hstack([t, 2.0 * t + 1e-6 * u]) + distance,
        np.hstack([t, 2.0 * t + 1e-6 * u[::-1]]) - distance,
    ]
    gm = GaussianMixture(2, covariance_type=covariance_type, random_state=0, reg_covar=0.0).fit(
        np.vstack(parts)
    )
    # Of the table as it is stored: about its own mean, in float64.
    exact = [np.cov((p - p[0]).T, ddof=0) for p in parts]
    exact = (
        [exact[int(m[0] < 0)] for m in gm.means_]
        if covariance_type == "full"
        else [(exact[0] + exact[1]) / 2]
    )
    for found, want in zip(np.reshape(gm.covariances_, (-1, 2, 2)), exact, strict=True):
        ratio = np.linalg.eigvalsh(found) / np.linalg.eigvalsh(want)
        # The smallest eigenvalue is 1e-14 of the largest: 1e-2 of it is rounding of the matrix itself.
        np.testing.assert_allclose(ratio, 1.0, rtol=0.1)


# ------------------------------------------------------------------------------------------- kinds of arrays


@pytest.mark.parametrize("covariance_type", TYPES)
def test_weighted_criteria_are_those_of_repeated_rows(covariance_type, blobs, rng):
    gm = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(blobs)
    weights = rng.integers(0, 4, size=len(blobs))
    repeated = np.repeat(blobs, weights, axis=0)
    for criterion in (gm.aic, gm.bic, gm.score):
        assert criterion(blobs, sample_weight=weights) == pytest.approx(criterion(repeated), rel=1e-12)
    assert gm.bic(blobs, np.ones(len(blobs))) == pytest.approx(gm.bic(blobs), rel=1e-13)
    with pytest.raises(ValueError, match="Negative values"):
        gm.aic(blobs, sample_weight=-weights - 1.0)


def test_criteria_of_float32_rows_are_sums_in_float64(rng):
    X = np.concatenate([rng.normal(size=(150_000, 4)), rng.normal(size=(150_000, 4)) * 3 + 40]).astype(
        np.float32
    )
    gm = GaussianMixture(2, covariance_type="diag", random_state=0, tol=0.1).fit(X)
    want = -2.0 * gm.score_samples(X.astype(np.float64)).sum()
    for criterion, penalty in ((gm.aic, 2.0), (gm.bic, np.log(len(X)))):
        assert criterion(X) == pytest.approx(want + penalty * gm._n_parameters(), abs=1e-3)
    assert gm.score(X) == pytest.approx(-0.5 * want / len(X), rel=1e-12)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_float32_matrices_stay_definite(covariance_type, rng):
    """Correlations nearer to 1 than float32 tells: the fitted matrices start another fit all the same."""
    t = rng.normal(size=(500, 1))
    X = np.hstack(
        [t, 1e4 * t + 1e-1 * rng.normal(size=(500, 1)), 1e-3 * t + 1e-8 * rng.normal(size=(500, 1))]
    )
    X = X.astype(np.float32)
    gm = GaussianMixture(2, covariance_type=covariance_type, random_state=0, reg_covar=1e-16).fit(X)
    for name in ("covariances_", "precisions_"):
        matrices = getattr(gm, name)
        assert matrices.dtype == np.float32
        for m in np.reshape(matrices, (-1, 3, 3)).astype(np.float64):
            np.linalg.cholesky(m)
            np.testing.assert_array_equal(m, m.T)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        GaussianMixture(
            2,
            covariance_type=covariance_type,
            reg_covar=1e-16,
            max_iter=1,
            weights_init=gm.weights_,
            means_init=gm.means_,
            precisions_init=gm.precisions_,
        ).fit(X)


@pytest.mark.parametrize("where", ["X", "weights"])
def test_masked_values_are_missing_values(where, blobs):
    mask = np.zeros(blobs.shape, dtype=bool)
    mask[[1, 5, 7], 1] = mask[2, 2] = True
    X = np.ma.masked_array(blobs, mask if where == "X" else False)
    w = np.ma.masked_array(np.ones(len(blobs)), mask[:, 1] if where == "weights" else False)
    gm = GaussianMixture(2, random_state=0)
    message = (
        "column 1 has 3 masked; column 2 has 1 masked"
        if where == "X"
        else "sample_weight has masked.*3 masked"
    )
    with pytest.raises(ValueError, match=message):
        gm.fit(X, sample_weight=w)
    nothing = np.ma.masked_array(blobs, mask=np.zeros_like(mask))
    assert gm.fit(nothing).lower_bound_ == gm.fit(blobs).lower_bound_
    rows = [np.ma.masked_array(row, m) for row, m in zip(blobs[:9], mask[:9], strict=True)]
    with pytest.raises(ValueError, match="masked"):
        gm.fit(rows)
    if where == "X":
        for method in (gm.predict, gm.score, gm.bic):
            with pytest.raises(ValueError, match="masked"):
                method(X)


@pytest.mark.parametrize(
    "change",
    [{"n_components": 2}, {"covariance_type": "diag"}, {"covariance_type": "spherical"}, "columns"],
)
def test_a_warm_start_of_another_shape_is_refused(change, blobs):
    """K = D = 3: tied covariances and diagonal ones have the same shape. The last fit stays as it is."""
    gm = GaussianMixture(3, covariance_type="tied", random_state=0, warm_start=True).fit(blobs)
    X, before = blobs, gm.predict(blobs)
    if change == "columns":
        X = blobs[:, :2]
    else:
        gm.set_params(**change)
    with pytest.raises(ValueError, match="warm_start: the last fit had"):
        gm.fit(X)
    gm.set_params(n_components=3, covariance_type="tied")
    np.testing.assert_array_equal(gm.predict(blobs), before)
    assert GaussianMixture(3, random_state=0, warm_start=True).fit(X).converged_


@pytest.mark.parametrize("covariance_type", TYPES)
def test_far_clusters_cost_one_pass(covariance_type, rng, monkeypatch):
    """However many there are: each about its own mean. What covariances share takes a second pass."""
    from mixtura.backends.native import NativeBackend

    means = rng.uniform(0.0, 1e4, size=(20, 3))
    X = means[np.arange(4000) % 20] + 1e-3 * rng.normal(size=(4000, 3))
    passes = []
    for name in ("expect", "expect_each"):
        found = getattr(NativeBackend, name)

        def counting(*arguments, name=name, found=found, **keywords):
            passes.append(name)
            return found(*arguments, **keywords)

        monkeypatch.setattr(NativeBackend, name, counting)
    # Or there is one pass alone, since nothing changes after it.
    monkeypatch.setattr("mixtura.mixture.unchanged", lambda *values: False)
    K, D = means.shape
    precisions = {
        "full": np.stack([np.eye(D)] * K),
        "tied": np.eye(D),
        "diag": np.ones((K, D)),
        "spherical": np.ones(K),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        gm = GaussianMixture(
            K,
            covariance_type=covariance_type,
            weights_init=np.full(K, 1.0 / K),
            means_init=means,
            precisions_init=1e6 * precisions[covariance_type],
            reg_covar=0.0,
            max_iter=4,
            tol=0.0,
            backend="native",
        ).fit(X)
    assert passes.count("expect_each") == 4
    # Of tied covariances also a pass each about the common pivot, and one for the rows' own second moment.
    assert passes.count("expect") == (5 if covariance_type == "tied" else 0)
    first = X[::20]
    want = np.cov((first - first[0]).T, ddof=0)
    k = int(np.abs(gm.means_ - means[0]).sum(axis=1).argmin())
    np.testing.assert_allclose(gm.means_[k], first.mean(axis=0), rtol=1e-14)
    if covariance_type == "full":
        np.testing.assert_allclose(gm.covariances_[k], want, rtol=1e-9, atol=1e-17)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_float32_columns_that_become_constant_in_a_component(covariance_type):
    """Sums in float32 hold no digit of a variance that vanishes while the fit goes on."""
    for seed in range(40):
        r = np.random.default_rng(seed)
        group = r.integers(0, 3, size=200)
        levels = r.choice([0.1, 1.0, 3.0, 7.3, 15.0, 100.7], size=3, replace=False)
        Z = np.column_stack(
            [
                levels[group],
                r.normal(size=200) * r.choice([1, 10]) + group * r.choice([0, 1, 5]),
                r.choice([0.0, 1.0], size=200),
                r.normal(size=200) * 20,
            ]
        ).astype(np.float32)
        settings = {"covariance_type": covariance_type, "random_state": 0, "max_iter": 30}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            single, double = (GaussianMixture(3, **settings).fit(X) for X in (Z, Z.astype(np.float64)))
        assert single.lower_bound_ == pytest.approx(double.lower_bound_, abs=2e-2)


def test_rows_of_weight_0_may_lie_anywhere(blobs):
    X = np.vstack([blobs, np.full((1, blobs.shape[1]), 1e155)])
    weights = np.append(np.ones(len(blobs)), 0.0)
    gm = GaussianMixture(2, random_state=0).fit(X, sample_weight=weights)
    assert gm.bic(X, weights) == pytest.approx(gm.bic(blobs), rel=1e-13)
    with pytest.raises(ValueError, match="so far from every component"):
        gm.bic(X)


def test_the_least_variance_of_a_family_is_a_share_of_each_columns():
    variances = np.array([1e-20, 1e-3, 1e9])
    for name in ("full", "diag", "spherical", "tied"):
        np.testing.assert_allclose(COVARIANCES[name].least(variances), LEAST_SHARE * variances)


def test_a_matrix_in_each_storage():
    """A multiple of the identity has the mean variance, a diagonal has the variances."""
    matrix = np.array([[4.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    for name, want in (("full", matrix), ("tied", matrix), ("diag", [4.0, 2.0, 3.0]), ("spherical", 3.0)):
        np.testing.assert_allclose(COVARIANCES[name].storage.of_matrix(matrix), want)


def test_a_family_that_was_set_after_the_fit_is_told(blobs):
    gm = GaussianMixture(3, covariance_type="diag", random_state=0).fit(blobs)
    before = gm.score_samples(blobs)
    gm.set_params(covariance_type="tied")
    for ask in (gm.sample, gm.summary, gm.to_sklearn, lambda: gm.score(blobs), lambda: gm.bic(blobs)):
        with pytest.raises(
            ValueError, match="set after the fit, from 'diag' to 'tied': fit again, or set it back"
        ):
            ask()
    np.testing.assert_array_equal(
        gm.set_params(covariance_type="VVI").score_samples(blobs), before
    )  # an alias
    gm.set_params(covariance_type="tied").fit(blobs).score(blobs)


@pytest.mark.parametrize(
    "kind", ["GaussianMixture", "BayesianGaussianMixture", "KMeans", "GaussianMixtureSelector"]
)
def test_a_fit_that_fails_leaves_the_last_one(kind, blobs):
    import pandas as pd

    import mixtura

    makes = {
        "GaussianMixture": lambda: GaussianMixture(2, random_state=0),
        "BayesianGaussianMixture": lambda: mixtura.BayesianGaussianMixture(n_components=2, random_state=0),
        "KMeans": lambda: mixtura.KMeans(2, random_state=0),
        "GaussianMixtureSelector": lambda: mixtura.GaussianMixtureSelector([2], covariance_types=["VVI"]),
    }
    model = makes[kind]().fit(blobs)
    before = model.predict(blobs)
    wide = np.column_stack([blobs, blobs[:, 0]])
    for X, weights in (
        (pd.DataFrame(wide[:1], columns=list("abcd")), None),
        (np.full((9, 4), np.nan), None),
        (wide, -np.ones(len(wide))),
    ):
        with pytest.raises(ValueError, match=r"sample|NaN|Negative"):
            model.fit(X, sample_weight=weights)
        assert model.n_features_in_ == 3
        assert not hasattr(model, "feature_names_in_")
        np.testing.assert_array_equal(model.predict(blobs), before)


def test_the_only_component_that_is_left_has_all_rows():
    """Were it estimated from its own rows, all of which are equal, the next bound would be -3e14."""
    X = np.repeat(np.random.default_rng(3).normal(size=(5, 2)), 20, axis=0)
    with pytest.warns(ConvergenceWarning, match="4 of 5 components had become singular"):
        gm = GaussianMixture(
            5, on_degenerate="drop", reg_covar=0.0, init_params="hierarchical", random_state=0
        ).fit(X)
    np.testing.assert_allclose(gm.covariances_[0], np.cov(X.T, bias=True))
    assert min(gm.lower_bounds_) >= gm.lower_bound_
