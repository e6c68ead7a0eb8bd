"""The fourteen families of covariances: maximum likelihood, monotone, and equal to mclust's where that is exact."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import invgamma, invwishart, multivariate_normal

from mixtura import GaussianMixture, em, load, save, standard_errors
from mixtura.autodiff import Parameters, value_and_grad
from mixtura.components import COVARIANCES, Gaussians, families
from mixtura.components.estimation import ConjugatePrior, Estimation
from mixtura.components.families import _disjoint_pairs
from mixtura.gates import ConstantGate
from mixtura.mixture import Mixture
from mixtura.parametric import ParametricMixture
from mixtura.table import Table

NAMES = ["EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV"]
CONSTRAINED = [name for name in NAMES if COVARIANCES[name].constrained]
FILES = Path(__file__).parent / "files" / "mclust"
SETS = ("faithful", "iris", "diabetes", "banknote", "thyroid")


def from_labels(name, X, labels, enough=np.inf, by=None):
    """The converged log-likelihood, or the first above ``enough``, from the M-step of labels, and all bounds.

    ``by`` is a family whose fit from the labels is where this one's begins.
    """
    from mixtura import backends

    table, family, G = Table.of(backends.create(), X), COVARIANCES[by or name], labels.max() + 1
    z = np.eye(G)[labels]
    moments = table.accumulate(lambda block: z[block.cut], G, family.kind)
    start = Mixture(ConstantGate.from_moments(moments), Gaussians.from_moments(family, moments))

    def stop(step):
        return abs(step.change) < 1e-13 * (1.0 + abs(step.bound)) or step.bound * len(X) > enough

    if by is not None:
        start = em.run(start, table, max_iter=20_000, stop=stop).parameters
        start = replace(start, components=replace(start.components, covariance=COVARIANCES[name]))
    fit = em.run(start, table, max_iter=20_000, stop=stop)
    return fit.bound * len(X), fit.bounds


# mclust's M-step of VVE finds the axes that are best for EVE. From these starts EM with the exact M-step ends in a
# lower maximum; from EVE's fit it ends above what mclust reports.
FROM_EVE = {
    ("iris", 5), ("diabetes", 8), ("banknote", 5), ("banknote", 6), ("banknote", 7), ("thyroid", 2), ("thyroid", 7),
}  # fmt: skip

# Here VVE becomes singular on its way up, above what mclust reports.
SINGULAR = {("banknote", 8), ("diabetes", 7)}


@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize("name", NAMES)
def test_not_below_mclust(name, data):
    """From mclust's own starts: its log-likelihood to 1e-6, or more, and its number of parameters."""
    held = json.loads((FILES / f"{data}.json").read_text())
    X, labels = np.array(held["rows"]), np.array(held["labels"]) - 1
    compared = 0
    for groups, (wanted, parameters) in held["log_likelihood_and_parameters"][name].items():
        G, D = int(groups), X.shape[1]
        assert COVARIANCES[name].n_parameters(G, D) + G * D + G - 1 == parameters
        enough = wanted if name == "VVE" and (data, G) in SINGULAR else np.inf
        by = "EVE" if name == "VVE" and (data, G) in FROM_EVE else None
        found, _ = from_labels(name, X, labels[G - 1], enough, by)
        assert found >= wanted - 1e-6 * abs(wanted), G
        compared += 1
    assert compared >= 3


def phi(covariances, scatters, mass):
    inverse = np.linalg.inv(covariances)
    return float(mass @ (np.linalg.slogdet(covariances)[1] + np.einsum("kij,kji->k", inverse, scatters)))


def nearby(name, dense, rng, size):
    """Other covariances of the family, near the given ones."""
    K, D = dense.shape[:2]
    values, axes = np.linalg.eigh(dense)
    if name[2] == "I":
        values, axes = np.diagonal(dense, axis1=1, axis2=2), np.broadcast_to(np.eye(D), dense.shape)
    if name in ("VVE", "EVE", "VEE", "EEE"):  # one orientation: the same order of axes for all
        axes = np.broadcast_to(axes[0], dense.shape)
        values = np.einsum("kdi,kde,kei->ki", axes, dense, axes)
    volumes = np.exp(np.log(values).mean(axis=1))
    shapes = values / volumes[:, None]
    noise = {"E": lambda *shape: np.broadcast_to(rng.normal(size=(1, *shape)), (K, *shape)),
             "V": lambda *shape: rng.normal(size=(K, *shape)), "I": lambda *shape: np.zeros((K, *shape))}  # fmt: skip
    volumes = volumes * np.exp(size * noise[name[0]]())
    moved = size * noise[name[1]](D)
    shapes = shapes * np.exp(moved - moved.mean(axis=1, keepdims=True))
    turns = size * noise[name[2]](D, D)
    axes = np.stack([expm(t - t.T) @ a for t, a in zip(turns, axes, strict=True)])
    return np.einsum("k,kij,kj,klj->kil", volumes, axes, shapes, axes)


@pytest.mark.parametrize("dims", [2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_nearby_is_more_likely(name, dims, rng):
    """The M-step is the maximum: no covariances of the family near it have a smaller Phi."""
    family, K = COVARIANCES[name], 4
    roots = rng.normal(size=(K, dims, dims))
    scatters = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(dims)
    mass = rng.uniform(5.0, 50.0, K)
    if family.constrained:
        own = scatters if family.kind == "full" else np.diagonal(scatters, axis1=1, axis2=2)
        found = family.storage.dense(family.constrain(own, mass, None), K, dims)
        again = family.storage.dense(family.constrain(own, mass, family.constrain(own, mass, None)), K, dims)
        np.testing.assert_allclose(again, found, rtol=1e-4, atol=1e-6)
    else:
        means = {
            "EII": lambda: np.tile(
                np.trace(mass @ scatters.transpose(1, 0, 2)) / dims / mass.sum() * np.eye(dims), (K, 1, 1)
            ),
            "EEI": lambda: np.tile(np.diag(np.einsum("k,kii->i", mass, scatters)) / mass.sum(), (K, 1, 1)),
            "VII": lambda: np.einsum("kii->k", scatters)[:, None, None] / dims * np.eye(dims),
            "VVI": lambda: np.stack([np.diag(np.diag(s)) for s in scatters]),
            "EEE": lambda: np.tile(np.einsum("k,kij->ij", mass, scatters) / mass.sum(), (K, 1, 1)),
            "VVV": lambda: scatters,
        }[name]
        found = means()
    least = phi(found, scatters, mass)
    for size in (1e-4, 1e-3, 1e-2, 0.1):
        for _ in range(25):
            assert phi(nearby(name, found, rng, size), scatters, mass) >= least - 1e-9 * abs(least)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", NAMES)
def test_the_bound_never_falls(name, rng):
    for _ in range(6):
        K, D, n = rng.integers(1, 6), rng.integers(2, 8), 400
        X = (
            rng.normal(size=(n, D)) @ rng.normal(size=(D, D))
            + 3.0 * rng.normal(size=(K, D))[rng.integers(0, K, n)]
        )
        dtype = rng.choice(["float32", "float64"])
        weights = rng.uniform(0.0, 2.0, n) if rng.uniform() < 0.5 else None
        # Whatever is added to variances counts in the bound, but for scikit-learn's own families.
        added = rng.choice([0.0, 1e-6, 0.3]) if name in CONSTRAINED else 1e-6
        gm = GaussianMixture(K, covariance_type=name, tol=1e-9, max_iter=300, reg_covar=added, random_state=0)
        gm.fit(X.astype(dtype), sample_weight=weights)
        slack = 1e-10 if dtype == "float64" else 1e-6
        assert np.diff(gm.lower_bounds_).min(initial=0.0) >= -slack * (1.0 + abs(gm.lower_bound_))


@pytest.mark.parametrize("name", NAMES)
def test_families_save_load_predict_and_sample(name, rng, tmp_path):
    X = rng.normal(size=(300, 3)) * [1.0, 2.0, 3.0] + 6.0 * rng.integers(0, 2, size=(300, 1))
    gm = GaussianMixture(2, covariance_type=name, random_state=0).fit(X)
    save(gm, tmp_path / "m")
    back = load(tmp_path / "m")
    assert back.covariance_type == name
    np.testing.assert_array_equal(back.score_samples(X), gm.score_samples(X))
    drawn, _ = gm.sample(20)
    assert drawn.shape == (20, 3)
    assert gm.summary()
    assert gm._n_parameters() == COVARIANCES[name].n_parameters(2, 3) + 2 * 3 + 1
    again = GaussianMixture(2, covariance_type=name, random_state=0, backend="reference").fit(X)
    np.testing.assert_allclose(again.means_, gm.means_, rtol=1e-8)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", CONSTRAINED)
def test_reg_covar_does_not_leave_the_family(name, rng):
    X = rng.normal(size=(60, 3))
    gm = GaussianMixture(2, covariance_type=name, reg_covar=0.5, random_state=0, tol=0.0, max_iter=30)
    gm.fit(X)
    values = np.sort(np.linalg.eigvalsh(gm._covariance.storage.dense(gm.covariances_, 2, 3)), axis=1)
    volumes = np.prod(values, axis=1)
    if name[0] == "E":
        np.testing.assert_allclose(volumes, volumes[0], rtol=1e-8)
    if name[1] == "E":
        shapes = values / np.cbrt(volumes)[:, None]
        np.testing.assert_allclose(shapes, np.broadcast_to(shapes[0], shapes.shape), rtol=1e-8)


def test_names():
    assert COVARIANCES["VVV"] is COVARIANCES["full"]
    assert COVARIANCES["EEE"] is COVARIANCES["tied"]
    assert COVARIANCES["VVI"] is COVARIANCES["diag"]
    assert COVARIANCES["VII"] is COVARIANCES["spherical"]
    assert COVARIANCES["tied_diag"] is COVARIANCES["EEI"]
    assert COVARIANCES["tied_spherical"] is COVARIANCES["EII"]


def test_pairs_meet_once():
    for dims in range(2, 9):
        rounds = _disjoint_pairs(dims)
        games = [tuple(sorted(pair)) for pairs in rounds for pair in pairs.T]
        assert sorted(games) == [(i, j) for i in range(dims) for j in range(i + 1, dims)]
        for pairs in rounds:
            assert len(set(pairs.ravel())) == pairs.size


def test_bad_input(rng):
    X = rng.normal(size=(50, 2))
    for how, message in (
        ({"covariance_type": "VVW"}, "covariance_type"),
        ({"covariance_type": "E"}, "is for one column, and X has 2"),
        (
            {"covariance_type": "EVE", "fixed": {"covariances": [True, False]}},
            "share parts of their covariances",
        ),
        (
            {
                "covariance_type": "VEE",
                "fixed": {"covariances": True},
                "precisions_init": [np.eye(2), np.diag([1.0, 9.0])],
            },
            "are not of the family 'VEE'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            GaussianMixture(2, **how).fit(X)
    with pytest.raises(ValueError, match="has no shape and no orientation; take 'E'"):
        GaussianMixture(2, covariance_type="VEE").fit(X[:, :1])
    for name in ("E", "V"):
        assert GaussianMixture(2, covariance_type=name, random_state=0, tol=0.1).fit(X[:, :1]).converged_
    same = np.repeat(X[:3], 4, axis=0)
    for name in CONSTRAINED:
        with pytest.raises(ValueError, match="ill-defined empirical covariance"):
            GaussianMixture(4, covariance_type=name, reg_covar=0.0, random_state=0).fit(same)


def at_maximum(name, X, **how):
    return GaussianMixture(
        2, covariance_type=name, reg_covar=0.0, max_iter=5000, accelerate="newton", random_state=0, **how
    ).fit(X)


@pytest.fixture(scope="module")
def two_clusters():
    rng = np.random.default_rng(3)
    first = rng.normal(size=(300, 2)) @ [[1.5, 0.6], [0.0, 0.7]]
    second = rng.normal(size=(500, 2)) @ [[1.0, 0.3], [0.0, 1.2]] + [5.0, 4.0]
    return np.r_[first, second]


@pytest.mark.parametrize("name", NAMES)
def test_standard_errors(name, two_clusters):
    """The sandwich is near the bootstrap, where the model is wrong too; covariances that are equal err equally."""
    model = at_maximum(name, two_clusters)
    found = standard_errors(model, two_clusters, "sandwich")
    bootstrap = standard_errors(model, two_clusters, "bootstrap", n_bootstrap=200)
    assert found.covariances.shape == model.covariances_.shape
    assert np.all(found.errors > 0.0)
    assert not found.boundary
    assert bootstrap.failed == 0
    np.testing.assert_allclose(np.median(found.errors / bootstrap.errors), 1.0, atol=0.2)
    free = np.linalg.matrix_rank(found.theta_covariance, tol=1e-9 * np.abs(found.theta_covariance).max())
    assert free == COVARIANCES[name].n_parameters(2, 2) + 5


@pytest.mark.parametrize("name", CONSTRAINED)
def test_information_of_a_family(name, two_clusters):
    """Minus the inverse of the covariance of the free parameters is the log-likelihood's Hessian, by differences."""
    model = at_maximum(name, two_clusters)
    parameters, surface = Parameters.of(model), model._surface()
    others = len(parameters) - len(surface.tangent())
    along = surface.among(others)

    def value(step):
        return value_and_grad(parameters.at(surface.moved(parameters.theta, step)), two_clusters)[0]

    covariance = standard_errors(model, two_clusters).theta_covariance
    back = np.linalg.pinv(along)
    found = -np.linalg.inv(back @ covariance @ back.T)
    n, h = along.shape[1], 1e-3
    for _ in range(5):
        d = np.random.default_rng(n).normal(size=n)
        numeric = (
            -value(2 * h * d) + 16 * value(h * d) - 30 * value(0 * d) + 16 * value(-h * d) - value(-2 * h * d)
        ) / (12 * h * h)
        assert d @ found @ d == pytest.approx(numeric, rel=1e-5)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_newton_ends_at_the_maximum_of_a_family(name, two_clusters):
    model = at_maximum(name, two_clusters)
    gradient = value_and_grad(model, two_clusters)[1]
    surface = model._surface()
    along = surface.among(len(gradient) - len(surface.tangent()))
    assert np.abs(along.T @ gradient).max() < 1e-7 * len(two_clusters)
    assert np.diff(model.lower_bounds_).min() >= -1e-14 * abs(model.lower_bound_)
    is_of_family(name, model.covariances_)
    plain = GaussianMixture(2, covariance_type=name, reg_covar=0.0, tol=1e-12, max_iter=9999, random_state=0)
    assert model.lower_bound_ >= plain.fit(two_clusters).lower_bound_ - 1e-12
    # Where a bound holds, it stays.
    bounded = at_maximum(name, two_clusters, on_degenerate="repair")
    assert bounded.lower_bound_ == pytest.approx(model.lower_bound_, abs=1e-9)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_surface(name, rng):
    """Its places are of the family; its tangent and bend are the first and second derivatives of the scales."""
    family, K, D = COVARIANCES[name], 3, 3
    roots = rng.normal(size=(K, D, D))
    own = roots @ roots.transpose(0, 2, 1) + 0.2 * np.eye(D)
    own = own if family.kind == "full" else np.array(np.diagonal(own, axis1=1, axis2=2))
    covariances = family.constrain(own, np.array([5.0, 7.0, 9.0]), None)
    surface = family.surface(covariances)
    n = family.n_parameters(K, D)
    assert surface.size == n
    assert len(set(surface.names())) == n
    theta = np.concatenate([np.zeros(K - 1 + K * D), surface.at(np.zeros(n)).ravel()])
    form = "diagonal" if family.kind == "diagonal" else "triangle"
    step = np.concatenate([np.zeros(K - 1 + K * D), 0.3 * rng.normal(size=n)])
    for moved, wanted in ((0.0 * step, covariances), (step, None)):
        roots = ParametricMixture(K, 0, D, form, surface.moved(theta, moved)).choleskys
        dense = roots @ roots.transpose(0, 2, 1)
        found = dense if form == "triangle" else np.diagonal(dense, axis1=1, axis2=2)
        is_of_family(name, found)
        if wanted is not None:
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    h, units = 1e-4, np.eye(n)
    slopes = np.stack([(surface.at(h * u) - surface.at(-h * u)).ravel() / (2 * h) for u in units], axis=1)
    np.testing.assert_allclose(surface.tangent(), slopes, atol=1e-5)
    weights = rng.normal(size=len(slopes))
    bend = surface.bend(weights)
    for _ in range(5):
        d = rng.normal(size=n)
        d /= np.linalg.norm(d)
        second = (surface.at(h * d) - 2 * surface.at(0 * d) + surface.at(-h * d)).ravel() / h**2
        assert d @ bend @ d == pytest.approx(weights @ second, abs=1e-4 * (1.0 + np.abs(bend).max()))


@pytest.mark.parametrize("name", ["EVE", "VVE"])
def test_compiled_axes_are_as_good_as_numpys(name, require, rng, monkeypatch):
    """Both searches for common axes end at the same objective, where there is one maximum in reach."""
    require("native")
    for _ in range(20):
        D, K = int(rng.integers(2, 8)), int(rng.integers(1, 6))
        axes = np.linalg.qr(rng.normal(size=(D, D)))[0]
        spread = np.geomspace(1.0, 30.0, D)
        rows = [(rng.normal(size=(20 * D, D)) * np.sqrt(rng.permutation(spread))) @ axes.T for _ in range(K)]
        scatters, mass = np.stack([r.T @ r / len(r) for r in rows]), rng.uniform(20.0, 200.0, K)
        compiled = COVARIANCES[name].constrain(scatters, mass, None)
        again = COVARIANCES[name].constrain(scatters, mass, compiled)
        with monkeypatch.context() as patched:
            patched.setattr(families, "native", None)
            numpys = COVARIANCES[name].constrain(scatters, mass, None)
        objective, wanted = (
            families._phi(found, scatters, mass) / mass.sum() for found in (compiled, numpys)
        )
        # A sweep that lowers the objective by less than 1e-12 ends both searches; they converge quadratically.
        assert objective == pytest.approx(wanted, abs=1e-10)
        np.testing.assert_allclose(again, compiled, rtol=1e-4, atol=1e-5 * spread[-1])
        assert families._phi(again, scatters, mass) <= families._phi(compiled, scatters, mass)


def overlapping(rng, rows=600, dims=3, components=3):
    """Rows of clusters that overlap, on which EM is slow."""
    means = 2.0 * rng.normal(size=(components, dims))
    roots = rng.normal(size=(components, dims, dims))
    k = rng.integers(components, size=rows)
    return means[k] + np.einsum("nij,nj->ni", roots[k], rng.normal(size=(rows, dims)))


def is_of_family(name, covariances):
    nearest = COVARIANCES[name].nearest(np.array(covariances), np.array(covariances))
    np.testing.assert_allclose(nearest, covariances, rtol=1e-6, atol=1e-7 * np.abs(covariances).max())


def test_what_is_nearest_to_a_family_is_of_it(rng):
    roots = rng.normal(size=(4, 3, 3))
    others = roots @ roots.transpose(0, 2, 1)
    for name in CONSTRAINED:
        family = COVARIANCES[name]
        given = others if family.kind == "full" else np.diagonal(others, axis1=1, axis2=2)
        found = family.nearest(given)
        assert not np.allclose(found, given, rtol=1e-3)
        is_of_family(name, found)


@pytest.mark.parametrize("accelerate", ["squarem", "anderson"])
@pytest.mark.parametrize("name", CONSTRAINED)
def test_extrapolation_stays_in_the_family(name, accelerate):
    """The same maximum; the bound never falls on the way, and what is shared stays shared. SQUAREM is quick."""
    X = overlapping(np.random.default_rng(0), 2000)
    how = {"covariance_type": name, "tol": 1e-9, "max_iter": 5000, "random_state": 0}
    plain = GaussianMixture(3, **how).fit(X)
    quick = GaussianMixture(3, accelerate=accelerate, **how).fit(X)
    assert np.diff(quick.lower_bounds_).min() >= -1e-12 * abs(quick.lower_bound_)
    assert quick.lower_bound_ >= plain.lower_bound_ - 1e-6
    if accelerate == "squarem":
        assert quick.n_passes_ < plain.n_passes_
    is_of_family(name, quick.covariances_)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_prior_of_a_family(name, rng):
    """The M-step is the mode of the posterior: nothing near it in the family is more likely, by SciPy's densities."""
    family, K, D, added = COVARIANCES[name], 3, 3, 0.05
    X, table_of = overlapping(rng, 60, D, K), Table.of
    resp = rng.dirichlet(np.ones(K), size=len(X))
    from mixtura import backends

    moments = table_of(backends.create("reference"), X).accumulate(lambda b: resp[b.cut], K, family.kind)
    scale = np.diag([1.0, 2.0, 3.0]) if family.kind == "diagonal" else np.eye(D) + 0.3
    prior = ConjugatePrior(rng.normal(size=D), 0.7, 6.0, scale)
    found = Gaussians.from_moments(family, moments, Estimation(added, prior=prior))

    def log_posterior(means, dense):
        total = 0.0
        for k in range(K):
            total += float(resp[:, k] @ multivariate_normal(means[k], dense[k]).logpdf(X))
            total += multivariate_normal(prior.mean, dense[k] / prior.shrinkage).logpdf(means[k])
            if family.kind == "diagonal":
                total += invgamma(prior.dof / 2.0, scale=np.diag(scale) / 2.0).logpdf(np.diag(dense[k])).sum()
            else:
                total += invwishart(prior.dof, scale).logpdf(dense[k])
            rows = resp[:, k].sum() + prior.rows(K, D, family.storage)
            total -= 0.5 * added * rows * np.trace(np.linalg.inv(dense[k]))
        return total

    dense = family.storage.dense(found.covariances, K, D)
    most = log_posterior(found.means, dense)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(25):
            assert log_posterior(found.means, nearby(name, dense, rng, size)) <= most + 1e-9 * abs(most)
            assert log_posterior(found.means + size * rng.normal(size=(K, D)), dense) <= most

    with_prior = GaussianMixture(K, covariance_type=name, prior="default", tol=1e-9, max_iter=500).fit(X)
    assert np.diff(with_prior.lower_bounds_).min() >= -1e-12 * abs(with_prior.lower_bound_)
    is_of_family(name, with_prior.covariances_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", CONSTRAINED)
def test_fixed_covariances_of_a_family(name, rng):
    X = overlapping(rng)
    first = GaussianMixture(3, covariance_type=name, random_state=0).fit(X)
    held = GaussianMixture(
        3,
        covariance_type=name,
        precisions_init=first.precisions_,
        fixed={"covariances": True},
        random_state=0,
    ).fit(X[::2])
    np.testing.assert_allclose(held.covariances_, first.covariances_, rtol=1e-9)
    own = COVARIANCES[name].n_parameters(3, 3)
    assert held._n_parameters() == first._n_parameters() - own
    # As a start, others than those of the family do.
    other = np.linalg.inv(np.cov(X.T)) + np.arange(3)[:, None, None] * np.diag([0.0, 0.3, 0.1])
    other = other if COVARIANCES[name].kind == "full" else np.diagonal(other, axis1=1, axis2=2)
    is_of_family(
        name, GaussianMixture(3, covariance_type=name, precisions_init=other, max_iter=5).fit(X).covariances_
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", CONSTRAINED)
def test_degenerate_rows_of_a_family(name, rng):
    """With equal rows 'repair' bounds what would vanish and says which; 'drop' goes on without it."""
    X = np.r_[rng.normal(size=(100, 3)), np.tile([8.0, 8.0, 8.0], (40, 1))]
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        GaussianMixture(4, covariance_type=name, reg_covar=0.0, random_state=0).fit(
            np.repeat(X[-3:], 4, axis=0)
        )
    repaired = GaussianMixture(2, covariance_type=name, on_degenerate="repair", tol=1e-8, random_state=0).fit(
        X
    )
    assert np.isfinite(repaired.precisions_cholesky_).all()
    assert np.diff(repaired.lower_bounds_).min() >= -1e-10 * abs(repaired.lower_bound_)
    narrow = int(np.argmax(repaired.means_[:, 0]))
    if name in ("VEI", "VEE", "VEV"):  # a volume of its own vanishes
        assert repaired.degenerate_.tolist() == [k == narrow for k in range(2)]
    dropped = GaussianMixture(
        2, covariance_type=name, on_degenerate="drop", reg_covar=0.0, tol=1e-8, random_state=0
    ).fit(X)
    assert np.isfinite(dropped.precisions_cholesky_).all()
    if name in ("VEI", "VEE", "VEV", "EVI", "EVV"):
        assert dropped.degenerate_.sum() == 1
        assert len(dropped.means_) == 1


@pytest.mark.parametrize("name", ["EVE", "VVE"])
def test_slopes_and_bends_of_common_axes(name, rng):
    """The part of the objective that two axes have, and its derivatives by the product of their variances."""
    family, dims = COVARIANCES[name], 3
    product, others = rng.uniform(0.5, 3.0, size=(4, 2)), rng.normal(size=(4, 2))
    mass, step = rng.uniform(10.0, 50.0, size=(4, 1)), 1e-5
    value, slope, bend = family._terms(product, others, mass, dims)
    above, below = (family._terms(product + s, others, mass, dims) for s in (step, -step))
    # Differences of second order: their error is about step^2, or eps / step.
    np.testing.assert_allclose((above[0] - below[0]) / (2.0 * step), slope, rtol=1e-7)
    np.testing.assert_allclose((above[1] - below[1]) / (2.0 * step), bend, rtol=1e-7)
    logs = np.log(product) + others
    want = mass * np.exp(logs / dims) if name == "EVE" else mass * np.log(product)
    np.testing.assert_allclose(value, want, rtol=1e-12)
