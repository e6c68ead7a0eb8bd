"""How fits of experts end: unlike starts, spurious experts, one regression as the least, acceleration, interrupts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from mixtura import EqualMeans, GaussianGate, LinearExpert, MixtureOfExperts, SoftmaxGate, backends, em
from mixtura.estimators.expert_search import ExpertSearch
from mixtura.gates import ConstantGate, DirichletGate
from mixtura.mixture import Mixture
from mixtura.starts_of_experts import CANDIDATES, nearly_equal, residual_bands, through_rows
from mixtura.table import Table

PRIOR = LinearExpert(prior_covariance=4.0)


@pytest.fixture
def crossing(rng):
    """Two regressions that cross, with noise in which they are hard to tell apart."""
    x = rng.uniform(-1.0, 1.0, size=(800, 2))
    side = rng.uniform(size=800) < 0.4
    y = np.where(side, x @ [2.0, 1.0] + 0.5, x @ [-2.0, 0.5]) + 0.5 * rng.normal(size=800)
    return x, y


def planes(rng):
    """Two planes of 100 rows each, over two columns."""
    x = rng.uniform(-5.0, 5.0, size=(200, 2))
    y = np.where(np.arange(200) < 100, x @ [2.0, -1.0] + 10.0, x @ [-1.0, 3.0] - 10.0)
    return x, y + rng.normal(size=200)


# ------------------------------------------------------------------------------------------------------ acceleration


@pytest.mark.parametrize("accelerate", ["squarem", "anderson"])
@pytest.mark.parametrize("noise", ["shared", "per-expert"])
@pytest.mark.parametrize("gate", ["constant", "dirichlet", "softmax", "gaussian"])
@pytest.mark.parametrize("experts", [None, PRIOR])
def test_acceleration_ends_where_em_ends(experts, gate, noise, accelerate, crossing):
    how = {
        "experts": experts,
        "gate": gate,
        "noise": noise,
        "random_state": 0,
        "max_iter": 5000,
        "tol": 1e-10,
    }
    plain = MixtureOfExperts(2, **how).fit(*crossing)
    quick = MixtureOfExperts(2, accelerate=accelerate, **how).fit(*crossing)
    assert quick.converged_
    bounds = np.array(quick.lower_bounds_)
    assert np.all(np.diff(bounds) >= -1e-11 * (1.0 + np.abs(bounds[1:])))
    # Both stop where an EM step gains less than 1e-10; from there the slower may still climb a little.
    assert quick.lower_bound_ == pytest.approx(plain.lower_bound_, abs=1e-6)
    assert quick.n_iter_ <= plain.n_iter_ + 10


def test_acceleration_saves_iterations(rng):
    """Regressions that differ by less than their noise, on which EM is slow."""
    x = rng.uniform(-1.0, 1.0, size=(4000, 1))
    y = np.where(rng.uniform(size=4000) < 0.5, x[:, 0], -x[:, 0]) + 0.6 * rng.normal(size=4000)
    how = {"random_state": 0, "max_iter": 20_000, "tol": 1e-10}
    plain = MixtureOfExperts(2, **how).fit(x, y)
    for accelerate in ("squarem", "anderson"):
        quick = MixtureOfExperts(2, accelerate=accelerate, **how).fit(x, y)
        assert quick.n_iter_ < 0.6 * plain.n_iter_
        assert quick.lower_bound_ > plain.lower_bound_ - 1e-7


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"algorithm": "stochastic"}, "steps are random"),
        ({"gate": "sparse"}, "the sparse gate"),
        ({"experts": LinearExpert(0.0, 1.0, ["prior_mean"])}, "are learnt"),
        ({"experts": PRIOR, "empirical_bayes": True}, "are learnt"),
        ({"experts": PRIOR, "prior_link": EqualMeans(1.0)}, "are learnt"),
    ],
)
def test_what_acceleration_does_not_go_with(parameters, message, crossing):
    with pytest.raises(ValueError, match=message):
        MixtureOfExperts(2, accelerate="squarem", **parameters).fit(*crossing)


@pytest.mark.parametrize("gate", [ConstantGate(), DirichletGate(0.5), SoftmaxGate(), GaussianGate()])
def test_coordinates_lead_back_to_the_same_parameters(gate, crossing):
    x, y = crossing
    table = Table.of(backends.create("reference"), x, None, y[:, None])
    for experts in (None, PRIOR):
        model = MixtureOfExperts(2, gate=gate, experts=experts, random_state=0).fit(x, y)
        mixture = Mixture(model._parameters.gate.resume(2, table, None), model._parameters.components)
        again = mixture.at(mixture.coordinates, table)
        np.testing.assert_allclose(again.coordinates, mixture.coordinates, rtol=1e-12, atol=1e-12)
        assert mixture.scales.shape == mixture.coordinates.shape
        assert np.all(mixture.scales > 0)
        assert again.expect(table).objective == pytest.approx(mixture.expect(table).objective, rel=1e-12)


# ------------------------------------------------------------------------------------------------- spurious experts


def test_an_expert_on_three_rows_does_not_win(rng):
    x, y = planes(rng)
    start = np.where(np.arange(200) < 100, 0, 1)
    start[[3, 50, 150]] = 2  # three rows lie in one plane
    how = {"noise": "per-expert", "max_iter": 200}
    with pytest.warns(ConvergenceWarning, match="Expert 2 is spurious"):
        model = MixtureOfExperts(3, init=start, **how).fit(x, y)
    np.testing.assert_array_equal(model.degenerate_, [False, False, True])
    several = MixtureOfExperts(3, n_init=10, random_state=2, **how).fit(x, y)
    assert not several.degenerate_.any()
    assert several.lower_bound_ < model.lower_bound_


def test_the_number_of_planes_is_chosen_although_likelihoods_have_no_bound(rng):
    x, y = planes(rng)
    criteria = [
        MixtureOfExperts(k, noise="per-expert", n_init=20, random_state=0).fit(x, y).bic(x, y)
        for k in (1, 2, 3, 4)
    ]
    assert np.argmin(criteria) == 1


def test_experts_without_noise_are_not_spurious(rng):
    x = rng.normal(size=(20, 1))
    y = np.where(np.arange(20) < 10, 2.0 * x[:, 0], -x[:, 0] + 3.0)
    model = MixtureOfExperts(2, noise="per-expert", init=np.repeat([0, 1], 10)).fit(x, y)
    assert not model.degenerate_.any()


# ------------------------------------------------------------------------------------------------------------ starts


@pytest.mark.parametrize("gate", ["constant", "softmax", "gaussian"])
@pytest.mark.parametrize("seed", range(6))
def test_two_experts_are_never_below_one_regression(gate, seed):
    """Tables on which clusters of rows are a bad start: rounded targets, ties, few rows."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(40, 2)) * 2.0)
    y = np.round(x @ [1.0, -1.0] + rng.normal(size=40) * (1.0 + (seed % 3)))
    one = MixtureOfExperts(1, gate=gate).fit(x, y)
    two = MixtureOfExperts(2, gate=gate, random_state=seed, max_iter=3000).fit(x, y)
    assert two.lower_bound_ >= one.lower_bound_ - 1e-9


def test_a_fit_below_one_regression_is_made_anew(rng, monkeypatch):
    x = rng.normal(size=(100, 1))
    y = 3.0 * x[:, 0] + rng.normal(size=100)

    def stuck(self, run, climbed, resumed, report):
        """A run that ends where it began: with experts that predict 0."""
        K = len(self.experts.slopes)
        start = Mixture(self.gate.start(K, self.table, self.rng), self.experts)
        fit = em.run(start, self.table, max_iter=1, stop=lambda step: True)
        return replace(fit, parameters=start)

    one = MixtureOfExperts(1).fit(x, y)
    monkeypatch.setattr(ExpertSearch, "one", stuck)
    two = MixtureOfExperts(2, random_state=0, max_iter=5000, tol=1e-7).fit(x, y)
    assert two.lower_bound_ >= one.lower_bound_ - 1e-9


def test_auto_tells_parallel_regressions_apart(rng):
    """Clusters of rows follow x; bands of residuals follow the regressions."""
    x = rng.uniform(-10.0, 10.0, size=(600, 3))
    side = rng.uniform(size=600) < 0.5
    y = x @ [1.0, 2.0, -1.0] + np.where(side, 0.0, 4.0) + 0.5 * rng.normal(size=600)
    for seed in range(4):
        model = MixtureOfExperts(2, init="auto", random_state=seed).fit(x, y)
        assert abs(np.diff(model.intercept_)[0]) == pytest.approx(4.0, abs=0.3)


@pytest.mark.parametrize("gate", ["constant", "dirichlet", "softmax", "gaussian", "sparse"])
def test_auto_with_every_gate(gate, crossing):
    x, y = crossing
    auto = MixtureOfExperts(2, gate=gate, init="auto", random_state=0).fit(x, y)
    plain = MixtureOfExperts(2, gate=gate, random_state=0).fit(x, y)
    assert auto.lower_bound_ >= plain.lower_bound_ - 1e-6
    assert auto.lower_bounds_[-1] >= auto.lower_bounds_[0]


@pytest.mark.parametrize("gate", ["constant", "dirichlet", "softmax", "gaussian"])
def test_auto_looks_at_samples_of_a_large_table_first(gate, rng):
    N = 60_000
    x = rng.normal(size=(N, 2))
    pick = rng.uniform(size=N) < 1.0 / (1.0 + np.exp(-2.0 * x[:, 0]))
    y = np.where(pick, x @ [1.0, 3.0], x @ [-2.0, 0.0] + 2.0) + 0.3 * rng.normal(size=N)
    weight = rng.uniform(0.5, 1.5, size=N)
    model = MixtureOfExperts(2, gate=gate, init="auto", random_state=0, tol=1e-6).fit(
        x, y, sample_weight=weight
    )
    slopes = model.coef_[np.argsort(model.coef_[:, 0])]
    np.testing.assert_allclose(slopes, [[-2.0, 0.0], [1.0, 3.0]], atol=0.05)
    assert model.n_iter_ < 25


def test_first_responsibilities_sum_to_one_in_blocks(crossing):
    x, y = crossing
    table = Table.of(backends.create("reference"), x, None, y[:, None])
    center, spread = table.column_spread()
    for choose in (*CANDIDATES, residual_bands, through_rows):
        resp = choose(table, 3, center, spread, np.random.RandomState(0))
        whole = resp(table)
        assert whole.shape == (800, 3)
        np.testing.assert_allclose(whole.sum(axis=1), 1.0)
        if choose is not CANDIDATES[-1]:  # random ones depend on where blocks begin
            np.testing.assert_array_equal(resp(table.block(100, 300)), whole[100:300])
    bands = residual_bands(table, 4, center, spread, np.random.RandomState(0))(table)
    np.testing.assert_allclose(bands.sum(axis=0), 200.0, atol=2.0)
    equal = nearly_equal(2, 0.1, np.random.RandomState(0))(table)
    assert np.abs(equal - 0.5).max() <= 0.05 + 1e-12
    assert np.abs(equal - 0.5).max() > 0.01


# -------------------------------------------------------------------------------------------------------- interrupts


def test_an_interrupt_may_keep_the_experts_so_far(crossing, monkeypatch):
    x, y = crossing
    original, passes = Mixture.expect, []

    def interrupted(self, table, rng=None):
        if not self.hard and len(self.gate.weights) == 2:
            passes.append(1)
            if len(passes) == 6:
                raise KeyboardInterrupt
        return original(self, table, rng)

    monkeypatch.setattr(Mixture, "expect", interrupted)
    model = MixtureOfExperts(2, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y)
    passes.clear()
    with pytest.warns(ConvergenceWarning, match="interrupted after 5 iterations"):
        model.set_params(on_interrupt="keep").fit(x, y)
    assert model.n_iter_ == 5
    assert np.isfinite(model.predict(x)).all()


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("gate", ["constant", "dirichlet", "softmax", "gaussian", "sparse"])
def test_labels_hold_throughout_the_fit(gate, crossing, backend):
    x, y = crossing
    side = np.random.default_rng(1).uniform(size=800) < 0.5
    model = MixtureOfExperts(
        2, gate=gate, noise="per-expert", random_state=0, backend=backend.name, max_iter=100
    )
    model.fit(x, y, labels=side.astype(int))
    for k in range(2):
        alone = MixtureOfExperts(1).fit(x[side == k], y[side == k])
        np.testing.assert_allclose(model.coef_[k], alone.coef_[0], rtol=1e-6)
        np.testing.assert_allclose(model.noise_variance_[k], alone.noise_variance_[0], rtol=1e-6)


@pytest.mark.parametrize("init", ["kmeans", "auto", "random"])
def test_a_few_labels_name_the_experts(init, rng):
    x = rng.uniform(-1.0, 1.0, size=(500, 1))
    side = rng.uniform(size=500) < 0.5
    y = np.where(side, 3.0 * x[:, 0], -3.0 * x[:, 0]) + 0.3 * rng.normal(size=500)
    labels = np.where(rng.uniform(size=500) < 0.1, side.astype(int), -1)
    model = MixtureOfExperts(2, init=init, random_state=0).fit(x, y, labels=labels)
    np.testing.assert_allclose(model.coef_[:, 0], [-3.0, 3.0], atol=0.2)
    allowed = np.ones((500, 2), dtype=bool)
    allowed[labels >= 0] = labels[labels >= 0, None] == np.arange(2)
    again = MixtureOfExperts(2, init=init, random_state=0).fit(x, y, labels=allowed)
    np.testing.assert_array_equal(again.coef_, model.coef_)


def test_the_softmax_gate_is_normalised_over_all_experts_whatever_is_known(rng):
    """With labels for all rows it is a multinomial logit of the labels, which scikit-learn fits too."""
    from sklearn.linear_model import LogisticRegression

    x = rng.normal(size=(400, 2))
    side = (rng.uniform(size=400) < 1.0 / (1.0 + np.exp(-1.5 * x[:, 0] + 0.5))).astype(int)
    y = rng.normal(size=400)
    model = MixtureOfExperts(2, gate="softmax", random_state=0, max_iter=3000, tol=1e-12).fit(
        x, y, labels=side
    )
    logit = LogisticRegression(C=1e8, tol=1e-10, max_iter=1000).fit(x, side)
    np.testing.assert_allclose(model.predict_gate(x), logit.predict_proba(x), atol=1e-4)


def test_bad_labels_of_experts(crossing):
    x, y = crossing
    with pytest.raises(ValueError, match="row 0 has 2"):
        MixtureOfExperts(2).fit(x, y, labels=np.full(800, 2))


@pytest.mark.parametrize("seed", range(1, 7))
def test_two_experts_are_not_below_one_exact_regression(seed):
    """Where y is an exact difference of columns, noise is rounding, and has to be found by further steps."""
    x = np.random.default_rng(seed).integers(0, 2, (240, 2)).astype(float)
    y = x[:, 1] - x[:, 0]
    one = MixtureOfExperts(1).fit(x, y)
    two = MixtureOfExperts(2, random_state=seed, max_iter=200).fit(x, y)
    assert two.lower_bound_ >= one.lower_bound_ - 1e-6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_prior_on_columns_that_are_multiples_of_each_other():
    """What the slopes' covariance adds to the noise is not negative, though rounding may say so."""
    for seed in range(5):
        x = np.random.default_rng(seed).normal(size=(100, 1))
        X, y = x * np.arange(1, 6) / 3, x[:, 0]
        model = MixtureOfExperts(1, experts=LinearExpert(prior_covariance=1.0)).fit(X, y)
        assert np.all(model.predict(X, return_std=True)[1] > 0.0)
        assert np.isfinite(model.score_samples(X, y)).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_start_without_an_iteration(rng):
    X = rng.normal(size=(50, 2))
    model = MixtureOfExperts(2, init="auto", max_iter=0, random_state=0).fit(X, X[:, 0])
    assert np.isfinite(model.predict(X)).all()


def test_a_refused_start_leaves_the_last_fit(rng):
    X = rng.normal(size=(100, 2))
    model = MixtureOfExperts(2, random_state=0, warm_start=True).fit(X, X[:, 0] + rng.normal(size=100))
    before = model.predict(X)
    for other, y in ((X[:, :1], X[:, 0]), (X, X)):
        with pytest.raises(ValueError, match="warm_start: the last fit had"):
            model.fit(other, y)
    np.testing.assert_array_equal(model.predict(X), before)
