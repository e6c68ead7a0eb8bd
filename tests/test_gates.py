"""Gates on their own: what each adds to the log-densities, and what its M-step maximises."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, special, stats

from mixtura import (
    ConstantGate,
    DirichletGate,
    GaussianGate,
    NeuralGate,
    SoftmaxGate,
    SparseGate,
    backends,
)
from mixtura.found import Found
from mixtura.gates.equal import EqualGate
from mixtura.gates.softmax import _HALVINGS
from mixtura.gates.sparse import inverse_digamma
from mixtura.quadratics import Quadratics
from mixtura.table import Table

K, D = 3, 2
RNG = np.random.RandomState(0)


@pytest.fixture
def table(rng):
    X = rng.normal(size=(200, D)) * [1.0, 30.0] + [5.0, -40.0]
    return Table.of(backends.create("reference"), X, rng.uniform(0.5, 2.0, 200))


@pytest.fixture
def resp(rng, table):
    """Responsibilities that follow x."""
    u = (table.x - table.x.mean(axis=0)) / table.x.std(axis=0)
    return special.softmax(u @ rng.normal(size=(D, K)) + 0.5 * rng.normal(size=(200, K)), axis=1)


@pytest.fixture
def found(table, resp):
    moments = table.accumulate(lambda block: resp[block.cut], K, "full")
    return Found(table, moments, resp=resp, given=resp)


def weighted(found):
    return found.resp * found.table.weight[:, None]


# ------------------------------------------------------------------ constant, equal


def test_constant_weights_are_shares_of_the_mass(found):
    gate = ConstantGate().start(K, found.table, RNG)
    np.testing.assert_array_equal(gate.weights, np.full(K, 1 / K))
    gate = gate.maximize(found)
    share = weighted(found).sum(axis=0) / found.table.total_weight
    np.testing.assert_allclose(gate.weights, share, rtol=1e-12)
    np.testing.assert_allclose(gate.log_weights(found.table), np.log(share), rtol=1e-12)
    np.testing.assert_allclose(gate.log_probabilities(found.table), np.log(share), rtol=1e-12)
    assert gate.bound == 0.0
    assert gate.n_parameters(K, D) == K - 1


def test_equal_weights_learn_nothing(found):
    gate = EqualGate().start(K, found.table, RNG)
    assert gate.maximize(found) is gate
    np.testing.assert_array_equal(gate.log_weights(found.table), np.zeros(K))
    np.testing.assert_allclose(np.exp(gate.log_probabilities(found.table)), 1 / K)
    assert gate.n_parameters(K, D) == 0


# ------------------------------------------------------------------ dirichlet


def test_dirichlet_counts_rows_beside_its_prior(found):
    prior = np.array([0.5, 1.0, 2.0])
    gate = DirichletGate(prior).start(K, found.table, RNG)
    np.testing.assert_array_equal(gate.posterior, prior)
    assert gate.bound == pytest.approx(0.0, abs=1e-12)  # nothing has moved yet
    gate = gate.maximize(found)
    np.testing.assert_allclose(gate.posterior, prior + weighted(found).sum(axis=0), rtol=1e-12)
    total = gate.posterior.sum()
    want = special.digamma(gate.posterior) - special.digamma(total)
    np.testing.assert_allclose(gate.log_weights(found.table), want, rtol=1e-12)
    np.testing.assert_allclose(np.exp(gate.log_probabilities(found.table)), gate.posterior / total)
    assert gate.n_parameters(K, D) == K - 1


def test_dirichlets_bound_is_minus_the_divergence_from_the_prior():
    """Of two components it is that of beta distributions, integrated."""
    gate = replace(DirichletGate([2.0, 3.0]), posterior=np.array([7.0, 4.0]))
    posterior, prior = stats.beta(7.0, 4.0), stats.beta(2.0, 3.0)
    x = (np.arange(20000) + 0.5) / 20000
    want = np.mean(posterior.pdf(x) * (posterior.logpdf(x) - prior.logpdf(x)))
    assert gate.bound == pytest.approx(-want, rel=1e-6)


# ------------------------------------------------------------------ gaussian


def test_gaussian_gate_by_definition(found):
    gate = GaussianGate(reg=0.01).start(K, found.table, RNG)
    w, X = weighted(found), found.table.x
    total = found.table.total_weight
    mean = np.average(X, axis=0, weights=found.table.weight)
    variance = np.average((X - mean) ** 2, axis=0, weights=found.table.weight)
    scatter = 0.01 * total / K * variance
    np.testing.assert_allclose(gate.scatter, scatter, rtol=1e-10)
    np.testing.assert_allclose(gate.means, np.tile(mean, (K, 1)), rtol=1e-12)
    gate = gate.maximize(found)
    n = w.sum(axis=0)
    np.testing.assert_allclose(gate.weights, n / total, rtol=1e-12)
    for k in range(K):
        m = w[:, k] @ X / n[k]
        S = ((X - m) * w[:, [k]]).T @ (X - m) / n[k] + np.diag(scatter) / n[k]
        np.testing.assert_allclose(gate.means[k], m, rtol=1e-10)
        np.testing.assert_allclose(gate.covariances[k], S, rtol=1e-8)
    want = [np.trace(np.diag(scatter) @ np.linalg.inv(S)) for S in gate.covariances]
    assert gate.bound == pytest.approx(-0.5 * sum(want), rel=1e-9)
    parts = zip(gate.weights, gate.means, gate.covariances, strict=True)
    log_p = np.stack([np.log(p) + stats.multivariate_normal(m, S).logpdf(X) for p, m, S in parts], axis=1)
    np.testing.assert_allclose(gate.log_weights(found.table), log_p, rtol=1e-9, atol=1e-9)
    want = special.softmax(log_p, axis=1)
    np.testing.assert_allclose(np.exp(gate.log_probabilities(found.table)), want, rtol=1e-8, atol=1e-12)


def test_the_parameters_of_a_gaussian_gate():
    """K - 1 weights, K means, K symmetric matrices."""
    assert GaussianGate().n_parameters(3, 2) == 2 + 6 + 9
    assert GaussianGate().n_parameters(1, 4) == 4 + 10


def test_the_prior_of_a_gaussian_gate_holds_where_a_column_is_constant(rng):
    X = np.column_stack([rng.normal(size=50), np.full(50, 7.0)])
    table = Table.of(backends.create("reference"), X)
    gate = GaussianGate(reg=0.5).start(2, table, RNG)
    assert gate.scatter[1] == pytest.approx(0.5 * 50 / 2)  # as if its variance were 1
    assert np.isfinite(gate.bound)
    with pytest.raises(ValueError, match="reg must be finite and not negative"):
        GaussianGate(reg=-1.0).start(2, table, RNG)
    with pytest.raises(ValueError, match="reg must be finite and not negative"):
        GaussianGate(reg=np.inf).start(2, table, RNG)


def test_a_gaussian_gates_objective_is_not_lowered(found):
    """The M-step maximises sum r (log w + log N) minus the prior's term: no other parameters are better."""
    gate = GaussianGate(reg=0.05).start(K, found.table, RNG).maximize(found)

    def objective(g):
        return float(np.sum(weighted(found) * g.log_weights(found.table))) + g.bound

    best, rng = objective(gate), np.random.default_rng(1)
    for _ in range(20):
        moved = replace(gate, means=gate.means + 0.05 * rng.normal(size=gate.means.shape))
        assert objective(moved) < best
        scale = np.exp(0.05 * rng.normal())
        covariances = gate.covariances * scale
        moved = replace(
            gate, covariances=covariances, precisions_cholesky=gate.precisions_cholesky / np.sqrt(scale)
        )
        assert objective(moved) < best


# ------------------------------------------------------------------ softmax


def probabilities(gate, table):
    u = (table.x - gate.center) / gate.scale
    return special.softmax(gate.level + u @ gate.slope.T, axis=1)


def softmax_objective(gate, found):
    """``sum r log pi - lambda / 2 |v|^2``, by its definition."""
    value = np.sum(weighted(found) * np.log(probabilities(gate, found.table)))
    return value - 0.5 * gate.strength * np.sum(gate.slope**2)


@pytest.mark.parametrize("backend", ["reference", "native", "numba", "emulated"])
def test_softmax_partition_is_value_and_gradient(require, backend, found, rng):
    table = Table.of(require(backend), found.table.x, found.table.weight)
    gate = SoftmaxGate(l2=1e-3).start(K, table, RNG)
    assert gate.strength == pytest.approx(1e-3 * table.total_weight)
    level, slope = rng.normal(size=K), rng.normal(size=(K, D))
    gate = replace(gate, level=level, slope=slope)
    gate = replace(gate, partition=gate._partition(table))
    u = (table.x - gate.center) / gate.scale
    logits = gate.level + u @ gate.slope.T
    want = table.weight @ special.logsumexp(logits, axis=1)
    assert gate.partition.value == pytest.approx(want, rel=1e-12)
    pi = table.weight[:, None] * special.softmax(logits, axis=1)
    gradient = np.column_stack([pi.sum(axis=0), pi.T @ u])
    np.testing.assert_allclose(gate.partition.gradient, gradient, rtol=1e-9, atol=1e-9)
    penalty = 0.5 * gate.strength * np.sum(slope**2)
    assert gate.bound == pytest.approx(-want - penalty, rel=1e-12)


def test_softmax_weights_travel_with_the_densities(found, rng):
    gate = SoftmaxGate().start(K, found.table, RNG)
    gate = replace(gate, level=rng.normal(size=K), slope=rng.normal(size=(K, D)))
    densities = Quadratics(
        "diagonal", rng.normal(size=K), rng.normal(size=(K, D)), rng.uniform(0.5, 2, (K, D))
    )
    apart = found.table.log_joint(ConstantGate(weights=np.ones(K)).joint(densities))
    together = found.table.log_joint(gate.joint(densities))
    np.testing.assert_allclose(together, apart + gate.log_weights(found.table), rtol=1e-12, atol=1e-10)
    assert gate.joint(densities, hard=True).hard
    want = np.log(probabilities(gate, found.table))
    np.testing.assert_allclose(gate.log_probabilities(found.table), want, atol=1e-12)
    assert gate.n_parameters(K, D) == (K - 1) * (D + 1)


def test_softmax_steps_climb_to_the_maximum(found):
    """Each step gains; together they reach what a general optimiser finds."""
    gate = SoftmaxGate(l2=1e-2).start(K, found.table, RNG)
    values = [softmax_objective(gate, found)]
    for _ in range(60):
        gate = gate.maximize(found)
        values.append(softmax_objective(gate, found))
    assert np.all(np.diff(values) >= -1e-9)

    def loss(flat):
        level, slope = flat[:K], flat[K:].reshape(K, D)
        return -softmax_objective(replace(gate, level=level, slope=slope), found)

    best = optimize.minimize(loss, np.zeros(K + K * D), method="BFGS", options={"gtol": 1e-6})
    assert values[-1] == pytest.approx(-best.fun, abs=1e-6)
    np.testing.assert_allclose(gate.slope.sum(axis=0), 0.0, atol=1e-9)  # what all share stays where it was
    np.testing.assert_allclose(gate.level.sum(), 0.0, atol=1e-9)


def test_the_first_softmax_step_is_that_of_bohnings_bound(found):
    """Without a memory the step is B^-1 times the gradient, with B = 1/2 sum w [1 | u][1 | u]' + lambda."""
    gate = SoftmaxGate(l2=0.1).start(K, found.table, RNG)
    moved = gate.maximize(found)
    u = np.column_stack([np.ones(200), (found.table.x - gate.center) / gate.scale])
    w = found.table.weight
    B = 0.5 * (u * w[:, None]).T @ u + 0.5 * found.table.total_weight * 1e-8 * np.eye(1 + D)
    B[1:, 1:] += gate.strength * np.eye(D)
    gradient = (weighted(found) - w[:, None] / K).T @ u
    step = np.linalg.solve(B, (gradient - gradient.mean(axis=0)).T).T
    np.testing.assert_allclose(np.column_stack([moved.level, moved.slope]), step, rtol=1e-7, atol=1e-10)
    assert len(moved.curvature.steps) == 1


def test_softmax_halves_a_step_that_would_not_gain(found):
    """A curvature a thousand times too small promises too much: the step is halved until it gains enough."""
    gate = SoftmaxGate().start(K, found.table, RNG)
    flat = replace(gate, curvature=replace(gate.curvature, factor=gate.curvature.factor * 1000.0**-0.5))
    long, fair = flat.maximize(found), gate.maximize(found)
    ratio = np.linalg.norm(long.slope) / np.linalg.norm(fair.slope)
    halvings = np.log2(1000.0 / ratio)
    assert halvings == pytest.approx(round(halvings), abs=1e-6)
    assert 1 <= round(halvings) < _HALVINGS
    assert softmax_objective(long, found) > softmax_objective(flat, found)
    # One halving less would not have gained a ten-thousandth of what it promised.
    twice = replace(long, level=2.0 * long.level, slope=2.0 * long.slope)
    gradient = (weighted(found) - found.table.weight[:, None] / K).T
    u = np.column_stack([np.ones(200), (found.table.x - gate.center) / gate.scale])
    promised = np.sum((gradient @ u) * np.column_stack([twice.level, twice.slope]))
    gained = softmax_objective(twice, found) - softmax_objective(flat, found)
    assert gained < 1e-4 * promised


def test_softmax_stays_where_no_step_gains(found):
    gate = SoftmaxGate(l2=1e-2).start(K, found.table, RNG)
    little = replace(gate.curvature, factor=gate.curvature.factor * 1e-6)  # a million million times too long
    hopeless = replace(gate, curvature=little)
    assert hopeless.maximize(found) is hopeless
    for _ in range(100):
        gate = gate.maximize(found)
    assert gate.maximize(found) is gate  # the gain left is rounding


def test_softmax_goes_on_with_other_rows(found, rng):
    gate = SoftmaxGate().start(K, found.table, RNG).maximize(found).maximize(found)
    other = Table.of(backends.create("reference"), found.table.x[:50] + 1.0)
    again = gate.without_rows().resume(K, other, RNG)
    np.testing.assert_array_equal(again.slope, gate.slope)
    u = (other.x - gate.center) / gate.scale
    want = special.logsumexp(gate.level + u @ gate.slope.T, axis=1).sum()
    assert again.partition.value == pytest.approx(want, rel=1e-12)
    with pytest.raises(ValueError, match="l2 must be finite and not negative"):
        SoftmaxGate(l2=-1.0).start(K, other, RNG)


# ------------------------------------------------------------------ sparse


def test_inverse_digamma():
    x = np.array([1e-8, 1e-3, 0.5, 1.0, 3.0, 1e4])
    np.testing.assert_allclose(inverse_digamma(special.digamma(x)), x, rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_sparse_gate_by_definition(gamma, found):
    gate = SparseGate(gamma=gamma, mu=[1.0, 2.0, 1.0]).start(K, found.table, RNG)
    mu = np.array([0.25, 0.5, 0.25])
    np.testing.assert_allclose(gate.mean, mu)
    assert gate.bound == 0.0
    gate = gate.maximize(found)
    alpha = gamma * mu + found.resp
    np.testing.assert_allclose(gate.alpha, alpha, rtol=1e-12)
    want = special.digamma(alpha) - special.digamma(gamma + 1.0)
    np.testing.assert_allclose(gate.log_weights(found.table), want, rtol=1e-9, atol=1e-12)
    block = found.table.block(50, 80)
    np.testing.assert_allclose(gate.log_weights(block), want[50:80], rtol=1e-9, atol=1e-12)

    def divergence(a, b):
        out = special.gammaln(a.sum()) - special.gammaln(a).sum()
        out -= special.gammaln(b.sum()) - special.gammaln(b).sum()
        return out + (a - b) @ (special.digamma(a) - special.digamma(a.sum()))

    lost = sum(w * divergence(a, gamma * mu) for w, a in zip(found.table.weight, alpha, strict=True))
    assert gate.bound == pytest.approx(-lost, rel=1e-10)
    np.testing.assert_allclose(gate.log_probabilities(found.table), np.log(mu))
    assert gate.n_parameters(K, D) == 0
    assert SparseGate(gamma).n_parameters(K, D) == K - 1


@pytest.mark.parametrize("gamma", [0.1, 1.0, 20.0])
def test_the_mean_that_a_sparse_gate_learns_is_the_best(gamma, found):
    gate = SparseGate(gamma=gamma).start(K, found.table, RNG)
    for _ in range(200):
        gate = gate.maximize(found)
    alpha, w = gamma * gate.mean + found.resp, found.table.weight
    expected = w @ (special.digamma(gate.alpha) - special.digamma(gate.alpha.sum(axis=1, keepdims=True)))
    assert alpha.shape == gate.alpha.shape

    def loss(logits):
        mu = special.softmax(logits)
        return -float(gamma * mu @ expected - w.sum() * special.gammaln(gamma * mu).sum())

    best = optimize.minimize(loss, np.log(gate.mean), method="BFGS").fun
    assert loss(np.log(gate.mean)) <= best + 1e-6 * abs(best)
    assert gate.mean.sum() == pytest.approx(1.0, abs=1e-12)


# ------------------------------------------------------------------ neural


def test_neural_gate_by_definition(found):
    pytest.importorskip("torch")
    gate = NeuralGate(hidden=(5, 4), steps=3).start(K, found.table, np.random.RandomState(0))
    np.testing.assert_allclose(np.exp(gate.log_weights(found.table)), 1 / K)  # none is preferred
    w = found.table.weight
    center = np.average(found.table.x, axis=0, weights=w)
    np.testing.assert_allclose(gate.center, center, rtol=1e-12)
    spread = np.sqrt(np.average((found.table.x - center) ** 2, axis=0, weights=w))
    np.testing.assert_allclose(gate.scale, spread, rtol=1e-12)

    def objective(g):
        return np.sum(weighted(found) * g.log_weights(found.table))

    moved = gate.maximize(found)
    assert objective(moved) > objective(gate)
    W1, b1, W2, b2, W3, b3 = moved.layers
    h = np.maximum((found.table.x - center) / spread @ W1 + b1, 0.0)
    logits = np.maximum(h @ W2 + b2, 0.0) @ W3 + b3
    want = special.log_softmax(logits, axis=1)
    np.testing.assert_allclose(moved.log_weights(found.table), want, atol=1e-12)
    np.testing.assert_allclose(moved.log_probabilities(found.table), want, atol=1e-12)
    assert gate.n_parameters(K, D) == (2 + 1) * 5 + (5 + 1) * 4 + (4 + 1) * (K - 1)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("batch_size", [50, 1 << 17])
def test_neural_steps_that_lead_down_are_not_taken(found, steps, batch_size):
    """Of steps that are much too long none is better: the layers stay as they are, and the next steps are shorter."""
    pytest.importorskip("torch")
    gate = NeuralGate(hidden=(5,), steps=steps, learning_rate=300.0, batch_size=batch_size)
    gate = gate.start(K, found.table, np.random.RandomState(0))
    stayed = gate.maximize(found)
    for before, after in zip(gate.layers, stayed.layers, strict=True):
        np.testing.assert_array_equal(before, after)
    assert gate.trainer._rate == 150.0


def test_neural_steps_keep_the_best_on_the_way(found):
    """Long steps overshoot: what is returned is no worse than after fewer of them."""
    pytest.importorskip("torch")

    def objective(steps):
        gate = NeuralGate(hidden=(5,), steps=steps, learning_rate=0.5)
        moved = gate.start(K, found.table, np.random.RandomState(0)).maximize(found)
        return float(np.sum(weighted(found) * moved.log_weights(found.table)))

    reached = [objective(steps) for steps in range(1, 30)]
    assert np.all(np.diff(reached) >= -1e-9 * np.abs(reached[0]))


def test_gates_that_look_at_rows_are_worked_out_by_blocks(found, monkeypatch):
    """Sparse and neural gates: the same numbers from small blocks as from one."""
    monkeypatch.setattr("mixtura.table._HELD", 1024 * K)
    X = np.tile(found.table.x, (20, 1))
    table, resp = Table.of(backends.create("reference"), X), np.tile(found.resp, (20, 1))
    gate = SparseGate().start(K, table, RNG)
    moments = table.accumulate(lambda block: resp[block.cut], K, "full")
    gate = gate.maximize(Found(table, moments, resp=resp))
    densities = Quadratics("scalar", np.zeros(K), X[:K], np.full(K, 0.1))
    joint = gate.joint(densities)
    assert joint.held == K
    assert len(list(table.blocks(joint.held))) == 4
    whole = table.log_joint(joint)
    top = whole.max(axis=1, keepdims=True)
    want = (top + np.log(np.exp(whole - top).sum(axis=1, keepdims=True)))[:, 0]
    np.testing.assert_allclose(table.posterior(joint), want, rtol=1e-12)
    labels, best = table.assign(joint)
    np.testing.assert_array_equal(labels, whole.argmax(axis=1))
    np.testing.assert_allclose(best, whole.max(axis=1), rtol=1e-12)
    found_mass = table.expect(joint, "mass")
    np.testing.assert_allclose(found_mass.mass, np.exp(whole - want[:, None]).sum(axis=0), rtol=1e-10)
    assert found_mass.log_likelihood == pytest.approx(want.sum(), rel=1e-12)


def test_the_softmax_penalty_and_its_derivatives(found, rng):
    """By the definition for standardised slopes that sum to 0, and by differences."""
    gate = replace(
        SoftmaxGate(l2=0.7).start(K, found.table, np.random.RandomState(0)),
        slope=rng.normal(size=(K, D)),
        level=rng.normal(size=K),
    )
    odds = gate.log_odds
    slope = gate.slope - gate.slope.mean(axis=0)
    value, gradient, hessian = gate.penalty
    assert value == pytest.approx(-0.5 * gate.strength * np.sum(slope**2), rel=1e-12)

    def penalty(flat):
        return gate.with_log_odds(flat.reshape(odds.shape)).penalty

    for i in range(odds.size):
        step = np.zeros(odds.size)
        step[i] = 0.1
        above, below = penalty(odds.ravel() + step), penalty(odds.ravel() - step)
        # Of a square, differences are exact.
        assert (above[0] - below[0]) / 0.2 == pytest.approx(gradient[i], rel=1e-8, abs=1e-8 * abs(value))
        np.testing.assert_allclose(
            (above[1] - below[1]) / 0.2, hessian[:, i], rtol=1e-8, atol=1e-8 * np.abs(hessian).max()
        )


def test_a_softmax_gate_that_goes_on_knows_the_curvature_of_other_rows(rng):
    """Half the moments of [1 | u] in the columns' first units, whatever rows come next; of few, also the units' own."""
    first, other = rng.normal(size=(500, 2)), rng.normal(size=(300, 2)) * [3.0, 0.5] + [4.0, -2.0]
    gate = SoftmaxGate(l2=0.01).start(
        3, Table.of(backends.create("reference"), first), np.random.RandomState(0)
    )
    weight = rng.uniform(0.5, 1.5, 300)
    moved = gate.resume(3, Table.of(backends.create("reference"), other, weight), np.random.RandomState(0))
    np.testing.assert_array_equal(moved.center, gate.center)
    u = np.column_stack([np.ones(300), (other - gate.center) / gate.scale])
    want = 0.5 * (weight[:, None] * u).T @ u + 0.5 * weight.sum() * (3 / 300) * np.eye(3)
    want[1:, 1:] += 0.01 * weight.sum() * np.eye(2)
    factor = moved.curvature.factor
    np.testing.assert_allclose(factor @ factor.T, want, rtol=1e-10)
    one = gate.resume(3, Table.of(backends.create("reference"), other[:1]), np.random.RandomState(0))
    assert np.linalg.cond(one.curvature.factor) < 100.0
