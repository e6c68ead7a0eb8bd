"""Mixtures as distributions, against scipy, numerical integration and each other."""

import numpy as np
import pytest
from scipy import integrate, stats

import mixtura
from mixtura import GaussianMixture
from mixtura import autodiff as ad
from mixtura.distributions import Mixture

ONE = Mixture([0.2, 0.5, 0.3], [-3.0, 0.0, 9.0], [1.0, 0.25, 4.0])


@pytest.fixture
def many(rng):
    """Four Gaussians in five dimensions."""
    A = rng.normal(size=(4, 5, 5))
    covariances = A @ np.swapaxes(A, 1, 2) + 0.3 * np.eye(5)
    return Mixture([0.1, 0.2, 0.3, 0.4], 2.0 * rng.normal(size=(4, 5)), covariances)


def density(mixture, x):
    return sum(
        w * stats.multivariate_normal(m, c).pdf(x)
        for w, m, c in zip(mixture.weights, mixture.means, np.atleast_3d(mixture.covariances), strict=True)
    )


def test_densities(many):
    X = many.sample(200, seed=0)
    np.testing.assert_allclose(many.log_prob(X), np.log(density(many, X)), rtol=1e-11)
    np.testing.assert_allclose(many.prob(X), density(many, X), rtol=1e-11)
    assert isinstance(many.log_prob(X[0]), float)
    assert many.log_prob(X.reshape(4, 50, 5)).shape == (4, 50)
    assert many.log_prob(np.full(5, 1e200)) == -np.inf
    assert many.prob(np.full(5, np.inf)) == 0.0
    resp = many.responsibilities(X)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0)
    x = np.linspace(-8.0, 20.0, 30).reshape(5, 6)
    want = sum(
        w * stats.norm(m, np.sqrt(v)).pdf(x)
        for w, m, v in zip(ONE.weights, ONE.means[:, 0], ONE.covariances, strict=True)
    )
    np.testing.assert_allclose(ONE.prob(x), want, rtol=1e-12)
    assert ONE.log_prob(np.empty(0)).shape == (0,)


def test_distribution_function_and_quantiles():
    x = np.linspace(-9.0, 20.0, 12)
    want = [
        integrate.quad(ONE.prob, -40.0, b, points=[-3.0, 0.0, 9.0], epsabs=1e-13, limit=200)[0] for b in x
    ]
    np.testing.assert_allclose(ONE.cdf(x), want, atol=1e-10)
    q = np.array([1e-300, 1e-20, 1e-5, 0.1, 0.2, 0.5, 0.7, 0.9, 1 - 1e-12])
    np.testing.assert_allclose(ONE.cdf(ONE.quantile(q)), q, rtol=1e-12)
    assert ONE.quantile(0.0) == -np.inf
    assert ONE.quantile(1.0) == np.inf
    assert ONE.quantile([[0.5, 0.2]]).shape == (1, 2)
    # The upper tail has its own digits.
    frozen = ONE.to_scipy()
    assert frozen.logsf(60.0) == pytest.approx(np.log(0.3) + stats.norm(9.0, 2.0).logsf(60.0), rel=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_quantiles_of_random_mixtures(seed):
    rng = np.random.default_rng(seed)
    K = int(rng.integers(1, 7))
    scale = 10.0 ** rng.uniform(-3, 3)
    mixture = Mixture(rng.dirichlet(np.ones(K)), scale * rng.normal(size=K), 10.0 ** rng.uniform(-4, 2, K))
    q = rng.uniform(size=300)
    x = mixture.quantile(q)
    # A quantile is known to one unit in its last place, and the distribution function rises by that times the density.
    allowed = 1e-13 + 8.0 * np.spacing(np.abs(x)) * mixture.prob(x)
    assert np.all(np.abs(mixture.cdf(x) - q) <= allowed)


def test_moments_and_samples(many):
    X = many.sample(400_000, seed=1)
    np.testing.assert_allclose(X.mean(axis=0), many.mean, atol=0.03)
    np.testing.assert_allclose(np.cov(X.T), many.covariance, atol=0.12)
    np.testing.assert_allclose(many.variance, np.diag(many.covariance))
    np.testing.assert_allclose(many.stddev**2, many.variance)
    assert ONE.mean == pytest.approx(
        integrate.quad(lambda x: x * ONE.prob(x), -40, 60, points=[0, 9], limit=200)[0]
    )
    assert ONE.variance == pytest.approx(
        integrate.quad(lambda x: (x - ONE.mean) ** 2 * ONE.prob(x), -40, 60, points=[0, 9], limit=200)[0]
    )
    np.testing.assert_array_equal(ONE.sample(5, seed=3), ONE.sample(5, seed=3))
    assert isinstance(ONE.sample(seed=0), float)
    assert many.sample(seed=0).shape == (5,)
    assert many.sample(0).shape == (0, 5)
    assert stats.kstest(ONE.sample(5000, seed=0), ONE.cdf).pvalue > 1e-3


def test_marginals(many):
    pair = many.marginal([3, 1])
    X = many.sample(50, seed=0)
    np.testing.assert_allclose(pair.prob(X[:, [3, 1]]), density(pair, X[:, [3, 1]]), rtol=1e-11)
    np.testing.assert_allclose(pair.covariances, many.covariances[:, [3, 1]][:, :, [3, 1]], atol=1e-13)
    one = many.marginal(-1)
    x = np.linspace(-4.0, 4.0, 9)
    want = sum(
        w * stats.norm(m[4], np.sqrt(c[4, 4])).cdf(x)
        for w, m, c in zip(many.weights, many.means, many.covariances, strict=True)
    )
    np.testing.assert_allclose(one.cdf(x), want, atol=1e-14)


def test_conditionals(many):
    X = many.sample(60, seed=0)
    known, rest = [3, 1], [0, 2, 4]
    batch = many.conditional(known, X[:, known])
    joint, marginal = many.log_prob(X), many.marginal(known).log_prob(X[:, known])
    np.testing.assert_allclose(batch.log_prob(X[:, rest]), joint - marginal, atol=1e-11)
    one = many.conditional(known, X[7, known])
    assert one == batch[7]
    np.testing.assert_allclose(batch.mean[7], one.mean, atol=1e-13)
    np.testing.assert_allclose(batch.covariance[7], one.covariance, atol=1e-13)
    np.testing.assert_allclose(batch.variance[7], one.variance, atol=1e-13)
    np.testing.assert_allclose(batch.stddev[7], one.stddev, atol=1e-13)
    assert len(batch[:5]) == 5
    assert len(list(batch[:3])) == 3
    draws = np.stack([batch[:1].sample(seed=s)[0] for s in range(4000)])
    np.testing.assert_allclose(
        draws.mean(axis=0), batch[0].mean, atol=6 * batch[0].stddev.max() / np.sqrt(4000)
    )
    column = many.conditional([0, 1, 2, 3], X[:, :4])
    assert column.mean.shape == (60,)
    x = np.linspace(-60.0, 60.0, 200_001)
    numeric = np.exp(many.log_prob(np.column_stack([np.tile(X[0, :4], (len(x), 1)), x])))
    numeric /= integrate.trapezoid(numeric, x)
    assert column.mean[0] == pytest.approx(integrate.trapezoid(x * numeric, x), abs=1e-8)
    assert column.variance[0] == pytest.approx(
        integrate.trapezoid((x - column.mean[0]) ** 2 * numeric, x), abs=1e-8
    )


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_regression(many, offset):
    moved = Mixture(many.weights, many.means + offset, many.covariances)
    X = many.sample(3000, seed=0)
    mean, deviation = moved.regress([3, 1], X[:, [3, 1]] + offset)
    batch = many.conditional([3, 1], X[:, [3, 1]])
    atol = 1e-12 if offset == 0.0 else 1e-8
    np.testing.assert_allclose(mean - offset, batch.mean, atol=atol)
    np.testing.assert_allclose(deviation, batch.stddev, atol=atol)
    column = many.regress([0, 1, 2, 3], X[:, :4])[0]
    assert column.shape == (3000, 1)
    assert many.marginal([0, 1]).regress(0, X[:, 0])[1].shape == (3000, 1)


def test_the_default_average_is_the_native_one(kernel_backend, rng):
    from mixtura.backends.reference import ReferenceBackend

    x, resp = rng.normal(size=(9000, 3)), rng.dirichlet(np.ones(4), 9000)
    slopes, levels, variances = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 2)), rng.uniform(size=(4, 2))
    want, got = (
        b.average(b.place(x), resp, slopes, levels, variances) for b in (ReferenceBackend(), kernel_backend)
    )
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_entropy_and_divergence(many):
    want = -integrate.quad(lambda x: ONE.prob(x) * ONE.log_prob(x), -40, 60, points=[-3, 0, 9], limit=300)[0]
    found = ONE.entropy()
    assert found.lower <= want <= found.upper
    assert abs(found.value - want) < 4 * found.error
    single = Mixture([1.0], [[0.0, 0.0]], [[[2.0, 0.3], [0.3, 1.0]]])
    exact = stats.multivariate_normal([0, 0], [[2.0, 0.3], [0.3, 1.0]]).entropy()
    assert single.entropy()[2:] == pytest.approx((exact, exact), rel=1e-14)
    assert ONE.kl(ONE).value == 0.0
    moved = Mixture([1.0], [[1.0, 0.0]], [[[2.0, 0.3], [0.3, 1.0]]])
    away = np.array([1.0, 0.0])
    exact = 0.5 * away @ np.linalg.solve([[2.0, 0.3], [0.3, 1.0]], away)
    divergence = single.kl(moved)
    assert abs(divergence.value - exact) < 4 * divergence.error
    assert many.entropy().lower < many.entropy().upper


def test_modes(many):
    for mixture in (many, ONE):
        modes = mixture.modes()
        rows = modes if mixture.dims > 1 else modes[:, None]
        assert np.abs(ad.grad_x(mixture, rows)).max() < 1e-12
        assert np.linalg.eigvalsh(ad.hessian_x(mixture, rows)).max() < 0.0
        assert np.all(np.diff(mixture.log_prob(modes)) <= 0.0)
    grid = np.linspace(-8.0, 16.0, 20_001)
    p = ONE.prob(grid)
    peaks = grid[1:-1][(p[1:-1] > p[:-2]) & (p[1:-1] > p[2:])]
    np.testing.assert_allclose(np.sort(ONE.modes()), peaks, atol=2e-3)
    # Two near components have one mode between them, a saddle between two modes is none.
    near = Mixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], np.stack([4.0 * np.eye(2)] * 2))
    np.testing.assert_allclose(near.modes(), np.zeros((1, 2)), atol=1e-12)
    long = np.stack([np.diag([1.0, 9.0]), np.diag([9.0, 1.0]), np.diag([1.0, 9.0])])
    saddle = Mixture([0.45, 0.1, 0.45], [[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0]], long)
    assert len(saddle.modes()) == 2
    assert len(Mixture([0.4, 0.2, 0.4], [-1.5, 0.0, 1.5], [0.5, 2.0, 0.5]).modes()) == 2


def test_regions_of_highest_density(many):
    for probability in (0.1, 0.5, 0.9, 0.999):
        level, intervals = ONE.highest_density_level(probability), ONE.highest_density_intervals(probability)
        mass = sum(ONE.cdf(b) - ONE.cdf(a) for a, b in intervals)
        assert mass == pytest.approx(probability, abs=1e-10)
        for a, b in intervals:
            assert ONE.log_prob(a) == pytest.approx(level, abs=1e-8)
            assert ONE.log_prob(b) == pytest.approx(level, abs=1e-8)
    level = many.highest_density_level(0.8)
    assert np.mean(many.log_prob(many.sample(100_000, seed=9)) >= level) == pytest.approx(0.8, abs=0.01)
    normal = Mixture([1.0], [2.0], [9.0])
    ((low, high),) = normal.highest_density_intervals(0.95)
    np.testing.assert_allclose([low, high], stats.norm(2.0, 3.0).interval(0.95), rtol=1e-9)
    for deviation in (1e-4, 1e4):  # however wide, and nearly all of it
        ((low, high),) = Mixture([1.0], [2.0], [deviation**2]).highest_density_intervals(1.0 - 1e-9)
        np.testing.assert_allclose([low, high], stats.norm(2.0, deviation).interval(1.0 - 1e-9), rtol=1e-6)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_from_estimators(kind, blobs):
    from sklearn.mixture import GaussianMixture as SklearnMixture

    for cls in (GaussianMixture, SklearnMixture):
        gm = cls(3, covariance_type=kind, random_state=0).fit(blobs)
        np.testing.assert_allclose(
            Mixture.from_estimator(gm).log_prob(blobs), gm.score_samples(blobs), rtol=1e-9
        )
    single = GaussianMixture(3, covariance_type=kind, random_state=0).fit(blobs.astype(np.float32))
    assert Mixture.from_estimator(single).dims == 3


def test_other_libraries(many):
    torch = pytest.importorskip("torch")
    X = many.sample(20, seed=0)
    np.testing.assert_allclose(
        many.to_torch().log_prob(torch.tensor(X)).numpy(), many.log_prob(X), rtol=1e-11
    )
    np.testing.assert_allclose(ONE.to_torch().cdf(torch.tensor([0.3])).numpy(), ONE.cdf([0.3]), rtol=1e-6)
    frozen = ONE.to_scipy()
    assert frozen.median() == ONE.quantile(0.5)
    assert frozen.interval(0.5) == (ONE.quantile(0.25), ONE.quantile(0.75))
    assert frozen.rvs((2, 3), random_state=0).shape == (2, 3)
    assert frozen.rvs(4, random_state=np.random.RandomState(0)).shape == (4,)
    assert frozen.pdf(0.0) == ONE.prob(0.0)
    assert frozen.sf(0.0) == pytest.approx(1.0 - ONE.cdf(0.0))
    assert frozen.std() == pytest.approx(np.sqrt(frozen.var()))
    assert many.to_scipy().logpdf(X).shape == (20,)
    if hasattr(stats, "Mixture"):
        parts = [
            stats.Normal(mu=m, sigma=np.sqrt(v))
            for m, v in zip(ONE.means[:, 0], ONE.covariances, strict=True)
        ]
        theirs = stats.Mixture(parts, weights=ONE.weights)
        x = np.linspace(-5.0, 12.0, 9)
        np.testing.assert_allclose(ONE.cdf(x), theirs.cdf(x), rtol=1e-12)
        np.testing.assert_allclose(ONE.variance, theirs.variance(), rtol=1e-12)


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        ONE.weights = np.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        ONE.means[0] = 1.0
    assert Mixture([0.2, 0.5, 0.3], [-3.0, 0.0, 9.0], [1.0, 0.25, 4.0]) == ONE
    assert Mixture([0.3, 0.4, 0.3], [-3.0, 0.0, 9.0], [1.0, 0.25, 4.0]) != ONE
    assert (ONE == 3) is False
    assert repr(ONE) == "Mixture(weights=[0.2, 0.5, 0.3], means=[-3, 0, 9], variances=[1, 0.25, 4])"


def test_a_weight_of_zero_is_allowed():
    mixture = Mixture([0.5, 0.0, 0.5], [0.0, 99.0, 4.0], [1.0, 1.0, 1.0])
    assert mixture.log_prob(0.0) == pytest.approx(Mixture([0.5, 0.5], [0.0, 4.0], [1.0, 1.0]).log_prob(0.0))
    assert mixture.quantile(0.5) == pytest.approx(2.0)
    assert len(mixture.modes()) == 2
    assert mixture.entropy(100).lower < 3.0
    assert mixture.highest_density_intervals(0.9)[-1][1] < 10.0
    with pytest.raises(ValueError, match="the weight of component 1 is 0: leave it out"):
        mixture._parametric()


def test_bad_input(many, blobs):
    eye = np.eye(2)
    for arguments, message in (
        (([0.5, 0.6], [0, 1], [1, 1]), "sum to 1"),
        (([1.5, -0.5], [0, 1], [1, 1]), "negative"),
        (([0.5, 0.5], [0, 1], [1, -1]), "component 1 is not positive definite"),
        (([0.5, 0.5], [0, 1, 2], [1, 1]), r"K = 2"),
        (([1.0], [[0, 0]], [[[1, 2], [0, 1]]]), "not symmetric"),
        (([0.5, 0.5], np.zeros((2, 2)), eye), "covariance_type"),
        (([1.0], [np.nan], [1.0]), "means contains NaN"),
        (([[1.0]], [0.0], [1.0]), r"shape \(K,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Mixture(*arguments)
    with pytest.raises(TypeError, match="float16"):
        Mixture([1.0], np.zeros(1, dtype=np.float16), [1.0])
    with pytest.raises(TypeError, match="real numbers"):
        Mixture([1.0], ["a"], [1.0])
    for call, message in (
        (lambda: many.marginal([7]), r"dims \[7\] out of range"),
        (lambda: many.marginal([1, -4]), "twice"),
        (lambda: many.marginal([]), "one or several"),
        (lambda: many.marginal(1.5), "one or several"),
        (lambda: many.conditional(range(5), np.zeros(5)), "none is left"),
        (lambda: many.conditional([0, 1], [0.0, np.nan]), "values contains NaN"),
        (lambda: many.conditional([0, 1], [0.0]), "values must have shape"),
        (lambda: many.regress([0, 1], np.zeros((3, 3))), r"X must have shape \(N, 2\)"),
        (lambda: many.cdf(0.0), "one dimension"),
        (lambda: many.quantile(0.5), "one dimension"),
        (lambda: ONE.quantile(1.5), r"\[0, 1\]"),
        (lambda: many.log_prob(np.zeros(4)), "5 numbers along its last axis"),
        (lambda: ONE.log_prob([np.nan]), "x contains NaN"),
        (lambda: ONE.highest_density_level(1.0), "between 0 and 1"),
        (lambda: many.kl(ONE), "5 and 1 dimensions"),
        (lambda: ONE.sample(-1), "at least 0"),
        (lambda: ONE.entropy(n=2.5), "integer"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"distributions\.Mixture"):
        ONE.kl(3)
    with pytest.raises(TypeError, match="float16"):
        ONE.log_prob(np.float16(1.0))
    with pytest.raises(Exception, match="not fitted"):
        Mixture.from_estimator(GaussianMixture(2))
    from sklearn.cluster import KMeans

    with pytest.raises(TypeError, match="got KMeans"):
        Mixture.from_estimator(KMeans(2, n_init=1).fit(blobs))


def test_what_is_too_far_to_condition_on():
    joint = Mixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [np.eye(2), np.eye(2)])
    assert np.isfinite(joint.conditional(0, 1e150).weights).all()
    with pytest.raises(ValueError, match="so far from every component"):
        joint.conditional(0, 1e160)
    with pytest.raises(ValueError, match="row 1 is so far from every component"):
        joint.regress(0, [0.0, 1e160])


def test_upper_tails_have_their_own_digits():
    frozen = Mixture([1.0], [0.0], [1.0]).to_scipy()
    q = np.array([1e-300, 1e-17, 1e-16, 0.3, 0.5, 1.0, 0.0])
    np.testing.assert_allclose(frozen.isf(q), stats.norm.isf(q), rtol=1e-12, atol=1e-15)
    two = Mixture([0.3, 0.7], [0.0, 5.0], [1.0, 4.0])
    np.testing.assert_allclose(two.to_scipy().isf([0.2, 0.9]), two.quantile([0.8, 0.1]), rtol=1e-12)
    with_none = Mixture([1.0, 0.0], [0.0, 100.0], [1.0, 1.0]).to_scipy()
    assert with_none.logsf(50.0) == pytest.approx(stats.norm.logsf(50.0), rel=1e-12)


def test_modes_in_unlike_units():
    units = np.array([1.0, 1e6, 1e-6])
    S = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.3], [0.2, 0.3, 1.0]]) * np.outer(units, units)
    means = np.array([[0.0, 0.0, 0.0], [6.0, 6.0, -6.0]]) * units
    modes = Mixture([0.5, 0.5], means, [S, S]).modes()
    np.testing.assert_allclose(modes[np.argsort(modes[:, 0])] / units, means / units, atol=1e-6)


def test_masked_numbers_are_refused():
    x = np.ma.masked_array([1.0, 2.0, 3.0, 100.0], [0, 0, 0, 1])
    for call in (mixtura.fit_density, Mixture([1.0], [0.0], [1.0]).log_prob):
        with pytest.raises(ValueError, match="masked"):
            call(x)


def test_points_without_a_density_have_no_responsibilities():
    mixture = Mixture([0.5, 0.5], [0.0, 100.0], [1.0, 1.0])
    for x in (np.inf, -np.inf, 1e200):
        with pytest.raises(ValueError, match="so far from every component"):
            mixture.responsibilities([0.0, x])


def test_derivatives_at_no_rows():
    mixture = Mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
    none = np.zeros((0, 2))
    assert ad.value_and_grad(mixture, none)[0] == 0.0
    assert ad.jacobian(mixture, none).shape == (0, 5)
    assert ad.grad_x(mixture, none).shape == (0, 2)
    assert not ad.hessian(mixture, none).any()
    assert ad.value_and_grad(mixture, np.ones((3, 2)), np.zeros(3))[0] == 0.0


def test_components_at_any_distance_do_not_disturb_each_other():
    """The density of one component must not lose digits because another one lies far away in its units."""
    normal = stats.norm(0.0, 1.0)
    for far in (1e9, 1e17, 1e200):
        x = np.array([-3.0, 0.0, 3.0, far])
        found = Mixture([0.5, 0.5], [0.0, far], [1.0, 1.0]).log_prob(x)
        expected = np.log(0.5) + np.append(normal.logpdf(x[:3]), normal.logpdf(0.0))
        np.testing.assert_allclose(found, expected, rtol=1e-13)
    x = np.array([0.0, 1e-8, -2e-8])
    narrow = Mixture([1.0, 0.0], [0.0, 1e6], [1e-16, 1e10]).log_prob(x)
    np.testing.assert_allclose(narrow, stats.norm(0.0, 1e-8).logpdf(x), rtol=1e-13)


def test_intervals_that_cannot_be_told_are_an_error():
    for means, variances in (([0.0, 1e20], [1.0, 1.0]), ([3.0, 0.0], [1e-60, 1.0])):
        mixture = Mixture([0.5, 0.5], means, variances)
        for ask in (mixture.highest_density_intervals, mixture.highest_density_level):
            with pytest.raises(
                ValueError, match="neighbouring numbers are apart by more than a tenth of that"
            ):
                ask(0.5)


@pytest.mark.parametrize("probability", [-0.5, 0.0, 1.0, 1.5, float("nan")])
def test_intervals_of_what_is_no_probability(probability):
    with pytest.raises(ValueError, match="probability must lie between 0 and 1"):
        ONE.highest_density_intervals(probability)


@pytest.mark.parametrize("probability", [1e-12, 1e-8, 1e-5, 0.3])
def test_intervals_have_their_probability_however_small(probability):
    for mixture in (
        Mixture([0.5, 0.5], [0.0, 4.0], [1.0, 2.0]),
        Mixture([0.5, 0.5], [-9.0, 9.0], [1.0, 1.0]),
    ):
        intervals = mixture.highest_density_intervals(probability)
        # An end has an error of eps, which is so much of a short interval.
        total = sum(mixture.cdf(high) - mixture.cdf(low) for low, high in intervals)
        assert total == pytest.approx(probability, rel=max(1e-5, 1e-15 / probability))


def test_intervals_about_large_numbers_are_told_as_far_as_they_can_be():
    ((low, high),) = Mixture([1.0], [1e6], [1e-16]).highest_density_intervals(0.5)
    assert high - low == pytest.approx(2.0 * 0.6745e-8, rel=0.03)


def test_points_may_be_objects_that_are_numbers():
    from decimal import Decimal

    assert Mixture([1.0], [0.0], [1.0]).log_prob([Decimal(1)])[0] == Mixture([1.0], [0.0], [1.0]).log_prob(
        1.0
    )
    with pytest.raises(TypeError, match="x must be real numbers"):
        Mixture([1.0], [0.0], [1.0]).log_prob(np.array(["a"], dtype=object))


@pytest.mark.parametrize("x", [1 + 5j, np.array(["2020-01-01"], dtype="M8[D]"), np.array(["1"])])
def test_points_that_are_no_real_numbers_are_told(x):
    with pytest.raises(TypeError, match="x must be real numbers"):
        Mixture([1.0], [0.0], [1.0]).log_prob(x)


def test_batches_take_the_points_that_mixtures_take():
    batch = Mixture([1.0], [[0.0, 0.0]], [np.eye(2)]).conditional(0, [0.0, 1.0])
    for x in (np.inf, 1e200):
        np.testing.assert_array_equal(batch.log_prob(x), [-np.inf, -np.inf])
    with pytest.raises(ValueError, match=r"x must have shape \(2,\), one point for each mixture, got \(3,\)"):
        batch.log_prob([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="x contains NaN"):
        batch.log_prob(np.nan)


def test_draws_have_the_shapes_that_scipys_have():
    frozen, normal = Mixture([0.5, 0.5], [0.0, 4.0], [1.0, 2.0]).to_scipy(), stats.norm(0.0, 1.0)
    for size in ((), None, 1, 3, (2, 3)):
        assert np.shape(frozen.rvs(size=size)) == np.shape(normal.rvs(size=size))
    assert np.ndim(frozen.rvs()) == np.ndim(normal.rvs()) == 0


def test_parameters_of_other_kinds_are_told():
    with pytest.raises(ValueError, match="unknown covariance_type"):
        Mixture([1.0], [0.0], [1.0], covariance_type=["full"])
    assert Mixture([1.0], [0.0], [1.0]).marginal(np.array(0)).dims == 1
