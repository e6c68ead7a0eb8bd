"""Newton's method at the end of EM: quadratic convergence, never below EM, and what it does not go with."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from mixtura import GaussianMixture, MixtureOfExperts
from mixtura import autodiff as ad
from mixtura.newton import _Finish

TYPES = ("full", "tied", "diag", "spherical")


def problem(seed):
    """Three clusters in three dimensions, near enough for EM to be slow."""
    rng = np.random.default_rng(seed)
    means = 2.5 * rng.normal(size=(3, 3))
    spreads = 0.4 * rng.normal(size=(3, 3, 3)) + np.eye(3)
    z = rng.integers(0, 3, 1000)
    return means[z] + np.einsum("nij,nj->ni", spreads[z], rng.normal(size=(1000, 3)))


def test_newton_converges_quadratically(monkeypatch):
    X = problem(0)
    norms = []
    expanded = _Finish._expanded

    def recorded(self, mixture):
        found = expanded(self, mixture)
        norms.append(np.abs(found.gradient).max() / len(X))
        return found

    monkeypatch.setattr(_Finish, "_expanded", recorded)
    gm = GaussianMixture(3, random_state=0, accelerate="newton").fit(X)
    assert norms[0] > 1e-4
    assert norms[-1] < 1e-12
    # Each gradient is of the order of the square of the one before, until rounding.
    last = [norm for norm in norms if norm > 1e-13][-3:]
    assert last[1] < 10.0 * last[0] ** 1.7
    assert gm.converged_
    assert np.all(np.diff(gm.lower_bounds_) > -1e-13)


def test_most_problems_take_few_passes_and_none_ends_below_em():
    quick = 0
    for seed in range(50):
        X, kind = problem(seed), TYPES[seed % 4]
        em = GaussianMixture(3, covariance_type=kind, random_state=0, max_iter=1000).fit(X)
        newton = GaussianMixture(
            3, covariance_type=kind, random_state=0, max_iter=1000, accelerate="newton"
        ).fit(X)
        before, after = ad.value_and_grad(em, X)[0], ad.value_and_grad(newton, X)
        assert after[0] >= before - 1e-12 * abs(before)
        quick += np.abs(after[1]).max() < 1e-10 * len(X) and newton.n_iter_ - em.n_iter_ <= 6
    assert quick >= 45


@pytest.mark.parametrize("gate", ["constant", "softmax"])
def test_experts(gate, rng):
    X = rng.normal(size=(500, 2))
    y = np.where(rng.integers(0, 2, 500), X @ [1.0, 2.0] + 1.0, X @ [-2.0, 0.5]) + 0.6 * rng.normal(size=500)
    em = MixtureOfExperts(2, gate=gate, random_state=0, tol=1e-4).fit(X, y)
    newton = MixtureOfExperts(2, gate=gate, random_state=0, tol=1e-4, accelerate="newton").fit(X, y)
    assert newton.lower_bound_ >= em.lower_bound_
    # The softmax gate's objective has a small penalty beside the log-likelihood.
    assert np.abs(ad.value_and_grad(newton, X, y=y)[1]).max() < (1e-12 if gate == "constant" else 1e-8) * len(
        X
    )


def test_the_softmax_penalty_is_part_of_the_objective(rng):
    """With a strong penalty, Newton and a long run of EM end at the same place."""
    from mixtura import SoftmaxGate

    X = rng.normal(size=(300, 2)) * [1.0, 5.0] + 3.0
    y = np.where(X[:, 0] > 3.0, X @ [1.0, 2.0], -X @ [1.0, 2.0]) + 0.5 * rng.normal(size=300)
    gate = SoftmaxGate(l2=0.05)
    long = MixtureOfExperts(2, gate=gate, random_state=0, tol=1e-15, max_iter=5000).fit(X, y)
    newton = MixtureOfExperts(2, gate=gate, random_state=0, tol=1e-4, accelerate="newton").fit(X, y)
    got, want = (ad.Parameters.of(m).theta for m in (newton, long))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_bounds_and_limits(rng):
    X = np.concatenate([rng.normal(size=(200, 2)), rng.normal(6.0, 1e-3, size=(50, 2))])
    for how in ("repair", "drop"):
        gm = GaussianMixture(2, on_degenerate=how, reg_covar=1e-2, random_state=0, accelerate="newton").fit(X)
        assert np.linalg.eigvalsh(gm.covariances_).min() >= 1e-2 * (1 - 1e-9)
    few = GaussianMixture(2, random_state=0, max_iter=3, accelerate="newton", tol=0.1).fit(problem(1))
    assert few.n_iter_ <= 3
    weighted = GaussianMixture(3, random_state=0, accelerate="newton").fit(
        problem(2), sample_weight=rng.uniform(0.0, 2.0, 1000)
    )
    assert weighted.converged_
    single = GaussianMixture(3, random_state=0, accelerate="newton").fit(problem(2).astype(np.float32))
    assert single.converged_


def test_bad_input(blobs, rng):
    for how, reason in (
        ({"prior": "default"}, "a prior"),
        ({"fixed": {"weights": True}, "weights_init": [0.5, 0.5]}, "fixed"),
    ):
        with pytest.raises(ValueError, match=f"newton' does not go with {reason}"):
            GaussianMixture(2, accelerate="newton", **how).fit(blobs)
    with pytest.raises(ValueError, match="labels"):
        GaussianMixture(2, accelerate="newton").fit(blobs, labels=np.arange(len(blobs)) - 599)
    y = blobs @ [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="dirichlet gate"):
        MixtureOfExperts(2, gate="dirichlet", accelerate="newton").fit(blobs, y)


def test_steps_go_on_from_a_saddle():
    """Random responsibilities start near a saddle, at which EM rests: Newton's steps leave it, or say so."""
    better = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = np.concatenate([rng.normal(size=(100, 1)) + m for m in (-5, 0, 5)])
        how = {"covariance_type": "tied", "init_params": "random", "random_state": seed, "tol": 1e-3}
        gm = GaussianMixture(3, accelerate="newton", **how).fit(X)
        assert gm.converged_
        start = {"weights_init": gm.weights_, "means_init": gm.means_, "precisions_init": gm.precisions_}
        on = GaussianMixture(3, covariance_type="tied", tol=1e-9, max_iter=1000, reg_covar=0.0, **start).fit(
            X
        )
        better += on.lower_bound_ < gm.lower_bound_ + 1e-3
    assert better >= 10
    with pytest.warns(ConvergenceWarning):
        GaussianMixture(3, accelerate="newton", max_iter=12, **how | {"tol": 1e-7}).fit(X)


def test_the_maximum_is_the_end_however_small_tol_is():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(300, 1)) + 2.5 * rng.integers(0, 2, size=(300, 1))
        gm = GaussianMixture(2, accelerate="newton", tol=1e-12, max_iter=2000, random_state=0).fit(X)
        assert gm.converged_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_no_component_runs_away_to_a_few_rows():
    """Where EM with the same reg_covar keeps it from them."""
    for seed in (2, 5, 8, 18, 21, 33):
        X = np.random.default_rng(seed).normal(size=(20, 2))
        gm = GaussianMixture(3, reg_covar=1e-2, accelerate="newton", random_state=0).fit(X)
        assert np.linalg.eigvalsh(gm.covariances_).min() > 1e-8
        assert not gm.degenerate_.any()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_starts_race_by_em():
    """Else EM's first step after the race, with reg_covar, would fall from Newton's end."""
    X = np.array([[5065736.5, -98597537.0, 8032904.0], [73067290.0, -25019785.9, 11055875.0]])
    how = {"covariance_type": "spherical", "init_params": "auto", "reg_covar": "auto", "random_state": 0}
    gm = GaussianMixture(2, accelerate="newton", **how).fit(X)
    assert np.diff(gm.lower_bounds_).min(initial=0.0) > -1e-12


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_steps_that_overflow_are_not_taken():
    for seed in range(34, 60):
        X = np.random.default_rng(seed).normal(size=(12, 2))
        gm = GaussianMixture(3, covariance_type="spherical", accelerate="newton", random_state=0).fit(X)
        assert np.isfinite(gm.lower_bound_)


@pytest.mark.parametrize("column", ["constant", "copy", "zero or one"])
@pytest.mark.parametrize("family", ["full", "tied", "diag", "VVE", "VEE", "EEV", "VEI"])
def test_where_the_likelihood_has_no_maximum_em_has_the_last_word(family, column):
    """Rows lie in fewer dimensions than there are columns, and Newton's method does not know of reg_covar."""
    r = np.random.default_rng(0)
    X = r.normal(size=(110, 2)) + np.repeat([[0.0, 0.0], [4.0, 1.0]], [60, 50], axis=0)
    third = {"constant": np.ones(110), "copy": X[:, 0], "zero or one": (X[:, 0] > 2.0).astype(float)}[column]
    Z = np.column_stack([X, third])
    if family in ("diag", "VEI") and column == "copy":
        pytest.skip("diagonal covariances know nothing of other columns")
    em = GaussianMixture(2, covariance_type=family, random_state=0).fit(Z)
    newton = GaussianMixture(2, covariance_type=family, accelerate="newton", random_state=0).fit(Z)
    assert newton.converged_
    assert newton.n_iter_ == em.n_iter_
    np.testing.assert_allclose(newton.covariances_, em.covariances_, atol=1e-9)
