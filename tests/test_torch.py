"""Mixture densities as torch functions, against torch's own distributions and its checks of derivatives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mixtura import GaussianMixture  # noqa: E402
from mixtura.distributions import Mixture  # noqa: E402
from mixtura.torch import GaussianMixtureLayer, from_distribution, log_prob, to_distribution  # noqa: E402

of = torch.distributions

# torch's own use of what it deprecates, at the first call of some functions.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def reference(x, weights, means, scale_tril):
    components = of.MultivariateNormal(means, scale_tril=scale_tril.tril(), validate_args=False)
    return of.MixtureSameFamily(
        of.Categorical(weights, validate_args=False), components, validate_args=False
    ).log_prob(x)


def lower(x, weights, means, scale_tril):
    return log_prob(x, weights, means, scale_tril.tril())


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    x, means = torch.randn(7, 2).double(), torch.randn(3, 2).double()
    weights = torch.softmax(torch.randn(3).double(), 0)
    L = 0.3 * torch.randn(3, 2, 2).double().tril(-1) + 0.8 * torch.eye(2).double()
    return [tensor.detach().requires_grad_() for tensor in (x, weights, means, L)]


def test_values_and_gradients_are_torchs(inputs):
    np.testing.assert_allclose(log_prob(*inputs).detach(), reference(*inputs).detach(), rtol=1e-13)
    cotangent = torch.linspace(-1.0, 1.0, 7).double()
    got, want = (torch.autograd.grad(f(*inputs), inputs, cotangent) for f in (lower, reference))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_torchs_own_checks(inputs):
    assert torch.autograd.gradcheck(lower, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lower, inputs, check_fwd_over_rev=True)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("argument", range(4))
def test_transforms(inputs, argument):
    inputs = [tensor.detach() for tensor in inputs]

    def along(f):
        def total(value):
            changed = list(inputs)
            changed[argument] = value
            return f(*changed)

        return total

    at = inputs[argument]
    for transform in (
        torch.func.jacrev,
        torch.func.jacfwd,
        lambda f: torch.func.grad(lambda v: f(v).sum()),
        lambda f: torch.func.hessian(lambda v: f(v).sum()),
        lambda f: torch.func.jacrev(torch.func.jacrev(lambda v: f(v).sum())),
    ):
        got, want = (transform(along(f))(at) for f in (lower, reference))
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)
    batch = torch.stack([at, at * 1.0])
    got, want = (torch.func.vmap(along(f))(batch) for f in (lower, reference))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_shapes_and_types(inputs):
    x, weights, means, L = (tensor.detach() for tensor in inputs)
    assert log_prob(x.reshape(7, 1, 2), weights, means, L).shape == (7, 1)
    assert log_prob(x[0], weights, means, L).shape == ()
    assert log_prob(x[:0], weights, means, L).shape == (0,)
    single = log_prob(*(tensor.float() for tensor in (x, weights, means, L)))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, reference(x, weights, means, L), rtol=1e-4)


def test_layer(blobs):
    torch.manual_seed(0)
    gm = GaussianMixture(3, random_state=0).fit(blobs)
    layer = GaussianMixtureLayer.from_estimator(gm)
    X = torch.tensor(blobs)
    np.testing.assert_allclose(layer(X).detach(), gm.score_samples(blobs), rtol=1e-10)
    fresh = GaussianMixtureLayer(3, 3)
    with torch.no_grad():
        fresh.means.copy_(X[[0, 200, 400]])
    optimizer = torch.optim.Adam(fresh.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = -fresh(X).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 1.0
    assert abs(float(fresh.weights.detach().sum()) - 1.0) < 1e-12
    assert fresh.to_mixture().log_prob(blobs).mean() == pytest.approx(
        float(fresh(X).detach().mean()), rel=1e-10
    )
    np.testing.assert_allclose(
        fresh.to_estimator(blobs).score(blobs), float(fresh(X).detach().mean()), rtol=1e-6
    )
    assert fresh.to_estimator().fit(blobs).converged_
    assert GaussianMixtureLayer.from_estimator(Mixture([1.0], [0.0], [1.0])).means.shape == (1, 1)
    assert set(layer.state_dict()) == {"logits", "means", "scales"}


def test_distributions(blobs):
    gm = GaussianMixture(3, random_state=0).fit(blobs)
    X = torch.tensor(blobs)
    for model in (gm, Mixture.from_estimator(gm), GaussianMixtureLayer.from_estimator(gm)):
        distribution = to_distribution(model)
        np.testing.assert_allclose(distribution.log_prob(X).detach(), gm.score_samples(blobs), rtol=1e-10)
        assert from_distribution(distribution).log_prob(blobs) == pytest.approx(
            gm.score_samples(blobs), rel=1e-10
        )
    independent = of.MixtureSameFamily(
        of.Categorical(torch.tensor([0.25, 0.75])),
        of.Independent(of.Normal(torch.zeros(2, 3), torch.ones(2, 3)), 1),
    )
    assert from_distribution(independent).dims == 3
    with pytest.raises(TypeError, match="MixtureSameFamily is needed"):
        from_distribution(of.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match="Gaussian, got Exponential"):
        from_distribution(of.MixtureSameFamily(of.Categorical(torch.ones(2)), of.Exponential(torch.ones(2))))
    with pytest.raises(ValueError, match="batch"):
        from_distribution(
            of.MixtureSameFamily(of.Categorical(torch.ones(4, 2)), of.Normal(torch.zeros(4, 2), 1.0))
        )


def test_bad_input(inputs):
    x, weights, means, L = (tensor.detach() for tensor in inputs)
    for arguments, error, message in (
        ((x.half(), weights, means, L), TypeError, "float16"),
        ((x.float(), weights, means, L), TypeError, "types differ"),
        ((x.numpy(), weights, means, L), TypeError, "must be a torch tensor"),
        ((x, 1.2 * weights, means, L), ValueError, "sum to 1"),
        ((x, torch.tensor([1.5, -0.5, 0.0]).double(), means, L), ValueError, "positive"),
        ((x, weights[:2], means, L), ValueError, r"weights must have shape \(3,\)"),
        ((x, weights, means[0], L), ValueError, "means must have shape"),
        ((x[:, :1], weights, means, L), ValueError, r"x must have shape \(..., 2\)"),
        ((x, weights, means, L + 1.0), ValueError, "above its diagonal"),
        ((x, weights, means, -L), ValueError, "positive diagonal"),
    ):
        with pytest.raises(error, match=message):
            log_prob(*arguments)


def test_weights_of_a_layer_may_underflow():
    layer = GaussianMixtureLayer(2, 1, torch.float32)
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([0.0, 120.0]))
    out = layer(torch.zeros(3, 1))
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(layer.logits.grad).all()
    one = GaussianMixtureLayer.from_estimator(Mixture([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]))
    x = torch.tensor([[0.5]], dtype=one.means.dtype)
    torch.testing.assert_close(one(x), torch.tensor([-0.5 * 0.25 - 0.9189385332], dtype=one.means.dtype))


def test_forward_derivatives_of_forward_derivatives():
    """Any order of forward and reverse gives the same, up to the third derivative."""
    from itertools import product

    from torch.func import jacfwd, jacrev

    w = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means, L = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[[1.0]], [[1.4]]]).double()
    x = torch.tensor([0.4], dtype=torch.float64)

    def at(x):
        return log_prob(x[None], w, means, L)[0]

    for n in (2, 3):
        found = []
        for kinds in product((jacfwd, jacrev), repeat=n):
            f = at
            for kind in kinds:
                f = kind(f)
            found.append(float(f(x)))
        np.testing.assert_allclose(found, found[-1], rtol=1e-12)
        assert abs(found[-1]) > 0.1


def test_scales_that_are_no_numbers_are_told():
    one = torch.ones(1, dtype=torch.float64)
    with pytest.raises(ValueError, match="scale_tril contains NaN or infinity"):
        log_prob(one[None], one, one[None], one[None, None] * np.nan)


def test_tiny_weights_of_an_estimator_are_kept():
    mixture = Mixture([1e-300, 1.0], [0.0, 1000.0], [1.0, 2.0])
    layer = GaussianMixtureLayer.from_estimator(mixture)
    found = layer(torch.zeros(1, 1, dtype=torch.float64)).item()
    assert found == pytest.approx(mixture.log_prob(0.0), rel=1e-12)
