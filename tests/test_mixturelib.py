"""MixtureLib's names: its documentation's numbers, its script, its protocol for models of one's own."""

import warnings

import numpy as np
import pytest
import torch

from mixtura.mixturelib.hyper_models import HyperExpertNN, HyperModelDirichlet, HyperModelGateSparsed
from mixtura.mixturelib.local_models import EachModel, EachModelLinear
from mixtura.mixturelib.mixture import MixtureEM
from mixtura.mixturelib.regularizers import RegularizeFunc, RegularizeModel, Regularizers


@pytest.fixture(autouse=True)
def _seed():
    torch.random.manual_seed(42)


def documented():
    """The rows of the documentation's examples of hyper models."""
    w, X = torch.randn(2, 1), torch.randn(5, 2)
    Z = torch.distributions.dirichlet.Dirichlet(torch.tensor([0.5, 0.5])).sample((5,))
    return X, X @ w + 0.1 * torch.randn(5, 1), Z


def test_dirichlets_numbers():
    X, Y, Z = documented()
    model = HyperModelDirichlet(output_dim=2)
    torch.testing.assert_close(model.LogPiExpectation(X, Y, {}), torch.full((5, 2), -1.0))
    model.E_step(X, Y, Z, {})
    want = torch.tensor([[-0.7118, -0.8310]]).expand(5, 2)
    torch.testing.assert_close(model.LogPiExpectation(X, Y, {}), want, atol=5e-5, rtol=0.0)
    torch.testing.assert_close(model.PredictPi(X, {}).sum(dim=1), torch.ones(5))


def test_gate_sparseds_numbers():
    X, Y, Z = documented()
    model = HyperModelGateSparsed(output_dim=2)
    want = torch.full((5, 2), -1.3863)
    torch.testing.assert_close(model.LogPiExpectation(X, Y, {}), want, atol=5e-5, rtol=0.0)
    model.E_step(X, Y, Z, {})
    want = torch.tensor(
        [[-1.9677, -0.4830], [-1.7785, -0.5417], [-0.5509, -1.7521], [-0.7250, -1.3642], [-0.4839, -1.9644]]
    )
    torch.testing.assert_close(model.LogPiExpectation(X, Y, {}), want, atol=5e-5, rtol=0.0)
    # Other rows than those of the fit, three models: the release fails at both.
    assert model.PredictPi(torch.zeros(9, 2), {}).shape == (9, 2)
    assert model.LogPiExpectation(torch.zeros(9, 2), None, {}).shape == (9, 2)
    assert HyperModelGateSparsed(output_dim=3).LogPiExpectation(X, Y, {}).shape == (5, 3)


def test_regularize_models_numbers():
    ones = torch.ones(2)
    models = [EachModelLinear(2, A=ones, w=0.0 * ones.view(2, 1)), EachModelLinear(2, A=ones, w=ones)]
    plain = EachModelLinear(2)  # without a prior: not linked
    link = RegularizeModel(ListOfModels=[*models, plain])
    link.M_step(None, None, None, {"alpha": torch.tensor([1.0, 1e-10])})
    assert [[f"{v:.4f}" for v in m.w_0.view(-1)] for m in models] == [
        ["0.3333", "0.5000"],
        ["0.6667", "0.5000"],
    ]
    assert plain.w_0 is None
    with pytest.raises(ValueError, match="alpha"):
        link.M_step(None, None, None, {})


def test_regularize_func_maximises_to_convergence():
    """argmax -1/2 |w0 - W|^2 - |w0|^2 = W / 3; R = 0 leaves w0 = W (the release: W / 2)."""
    ones = torch.ones(2)
    models = [EachModelLinear(2, A=ones, w=0.0 * ones), EachModelLinear(2, A=ones, w=3.0 * ones)]
    RegularizeFunc(models, R=lambda W0: -(W0**2).sum()).M_step(None, None, None, {})
    torch.testing.assert_close(models[1].w_0, models[1].W / 3.0, atol=1e-5, rtol=0.0)
    RegularizeFunc(models).M_step(None, None, None, {})
    torch.testing.assert_close(models[1].w_0, models[1].W, atol=1e-5, rtol=0.0)


def test_a_priors_update():
    """B = (A^-1 + X'X / s)^-1 and W = B (A^-1 w0 + X'Y / s); A <- B + (W - w0)(W - w0)' with w0 kept."""
    X, Y, Z = torch.randn(20, 2).double(), torch.randn(20, 1).double(), torch.rand(20, 1).double()
    A = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    model = EachModelLinear(2, A=A, w=torch.tensor([1.0, -1.0]), OptimizedHyper={"A"})
    model.E_step(X, Y, Z, {"beta": 0.3})
    B = torch.linalg.inv(torch.linalg.inv(A.double()) + (Z * X).T @ X / 0.3)
    w0 = torch.tensor([[1.0], [-1.0]]).double()
    W = B @ (torch.linalg.inv(A.double()) @ w0 + (Z * X).T @ Y / 0.3)
    torch.testing.assert_close(model.W.double(), W, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model.B.double(), B, atol=1e-6, rtol=1e-6)
    squares = Y**2 - 2.0 * Y * (X @ W) + torch.einsum("nd,de,ne->n", X, B + W @ W.T, X)[:, None]
    want = -squares / 0.6 - 0.5 * np.log(2.0 * np.pi * 0.3)
    torch.testing.assert_close(model.LogLikeLihoodExpectation(X, Y, {"beta": 0.3}), want)
    part = model.OptimizeHyperParameters(X, Y, Z, {"beta": 0.3}, "beta")
    assert float(part) == pytest.approx(float((Z * 0.3).sum() / 20))  # 'beta' is not learnt
    model.M_step(X, Y, Z, {"beta": 0.3})
    torch.testing.assert_close(model.A.double(), B + (W - w0) @ (W - w0).T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.w_0.double(), w0)


def chapter_3():
    np.random.seed(42)
    X = np.random.randn(200, 2)
    X[:100, 1] *= 0.8
    X[100:, 0] *= 0.8
    first, second = np.array([[10.0], [0.0]]), np.array([[0.0], [30.0]])
    y = np.vstack([X[:100] @ first, X[100:] @ second]) + 5 * np.random.randn(200, 1)
    return torch.FloatTensor(X), torch.FloatTensor(y), np.hstack([first, second])


def chapter_3_gate(name):
    if name == "dirichlet":
        return HyperModelDirichlet(output_dim=2)
    return HyperExpertNN(input_dim=2, hidden_dim=5, output_dim=2, epochs=100)


# A network's 100 steps an epoch take time: fewer seeds here, all 20 in benchmarks/experts.py.
@pytest.mark.parametrize(("gate", "seeds"), [("dirichlet", 20), ("network", 2)])
@pytest.mark.parametrize(
    ("kind", "slopes", "noise", "least"), [("default", 1.6, 0.2, 0.95), ("sample", 2.5, 0.25, 0.9)]
)
def test_chapter_3(gate, seeds, kind, slopes, noise, least):
    X, Y, truth = chapter_3()
    close = 0
    for seed in range(seeds):
        torch.random.manual_seed(seed)
        models = [EachModelLinear(input_dim=2), EachModelLinear(input_dim=2)]
        mixture = MixtureEM(
            HyperParameters={"beta": 1.0},
            HyperModel=chapter_3_gate(gate),
            ListOfModels=models,
            model_type=kind,
        )
        mixture.fit(X, Y, epoch=100)
        W = np.hstack([m.W.numpy() for m in mixture.ListOfModels])
        off = min(np.abs(W - truth).max(), np.abs(W[:, ::-1] - truth).max())
        close += off < slopes and abs(float(mixture.HyperParameters["beta"]) - 25.0) < noise * 25.0
    assert close >= least * seeds


def test_chapter_3_as_printed():
    """Its own 10 epochs: never worse than at the start, progress bars wrapped, predictions of both kinds."""
    X, Y, _ = chapter_3()
    seen = []

    def progress(epochs):
        for e in epochs:
            seen.append(e)
            yield e

    for seed in range(10):
        torch.random.manual_seed(seed)
        mixture = MixtureEM(
            HyperParameters={"beta": 1.0},
            HyperModel=chapter_3_gate("dirichlet"),
            ListOfModels=[EachModelLinear(input_dim=2), EachModelLinear(input_dim=2)],
            model_type="sample",
        )
        start = mixture.objective(X, Y)
        mixture.fit(X, Y, progress=progress)
        assert mixture.objective(X, Y) >= start
    assert seen == list(range(10)) * 10
    prediction, pi = mixture.predict(X)
    assert prediction.shape == (200, 1)
    assert pi.shape == (200, 2)
    assert prediction.dtype == torch.float32


@pytest.mark.parametrize("learnt", [{"beta"}, {"beta", "A"}, {"beta", "A", "w_0"}])
def test_the_objective_never_falls(learnt):
    X, Y, _ = chapter_3()
    X, Y, ones = X.double(), Y.double(), torch.ones(2)
    models = [EachModelLinear(2, A=30.0 * ones, w=k * ones, OptimizedHyper=learnt) for k in (-1.0, 5.0)]
    for regularizers in ([], [RegularizeModel(models)], [RegularizeFunc(models, R=lambda W: -(W**4).sum())]):
        mixture = MixtureEM(
            HyperParameters={"beta": 9.0, "alpha": 2.0},
            ListOfModels=models,
            ListOfRegularizeModel=regularizers,
        )
        bounds = np.array(mixture.fit(X, Y, epoch=30).lower_bounds)
        # Between 'A' and 'w_0', learnt in one M-step, and a link's later move of 'w_0', nothing is optimised jointly.
        if regularizers and learnt != {"beta"}:
            assert mixture.objective(X, Y) == pytest.approx(bounds.max(), abs=1e-9)
        else:
            assert np.all(np.diff(bounds) >= -1e-9 * np.abs(bounds[1:]))


def test_models_of_ones_own():
    """The documented protocol: anything with these methods can be a local model."""

    class Constant(EachModel):
        def __init__(self, value):
            self.value = torch.tensor([value])

        def E_step(self, X, Y, Z, HyperParameters):
            if Z.sum() > 0:
                self.value[:] = (Z * Y).sum() / Z.sum()  # in place: states must be copies

        def M_step(self, X, Y, Z, HyperParameters):
            pass

        def LogLikeLihoodExpectation(self, X, Y, HyperParameters):
            return -0.5 * (Y - self.value) ** 2

        def forward(self, input):
            return self.value.expand(len(input), 1)

    class Nothing(Regularizers):
        calls = 0

        def E_step(self, X, Y, Z, HyperParameters):
            Nothing.calls += 1

        M_step = E_step

    X = torch.zeros(20, 1)
    Y = torch.cat([torch.full((10, 1), -4.0), torch.full((10, 1), 4.0)])
    models = [Constant(-1.0), Constant(1.0)]
    mixture = MixtureEM({}, ListOfModels=models, ListOfRegularizeModel=[Nothing()]).fit(X, Y, epoch=5)
    assert [round(float(m.value), 3) for m in models] == [-4.0, 4.0]
    assert Nothing.calls == 10
    assert mixture.predict(X)[0].abs().max() < 1e-3


def test_bad_input():
    X, Y = torch.randn(10, 2), torch.randn(10, 1)
    with pytest.raises(ValueError, match="needs local models"):
        MixtureEM()
    with pytest.raises(ValueError, match="model_type"):
        MixtureEM(ListOfModels=[EachModelLinear(2)], model_type="hard")
    with pytest.raises(ValueError, match="'beta'"):
        MixtureEM(ListOfModels=[EachModelLinear(2)]).fit(X, Y)
    with pytest.raises(ValueError, match="one positive number"):
        MixtureEM({"beta": -1.0}, ListOfModels=[EachModelLinear(2)]).fit(X, Y)
    with pytest.raises(ValueError, match="NaN"):
        MixtureEM({"beta": 1.0}, ListOfModels=[EachModelLinear(2)]).fit(X, Y * float("nan"))
    with pytest.raises(ValueError, match="output_dim"):
        MixtureEM(
            {"beta": 1.0}, HyperModel=HyperModelDirichlet(2), ListOfModels=[EachModelLinear(2)] * 3
        ).fit(X, Y)
    with pytest.raises(ValueError, match="X and Y must be"):
        MixtureEM({"beta": 1.0}, ListOfModels=[EachModelLinear(3)]).fit(X, Y)
    with pytest.raises(ValueError, match="positive definite"):
        EachModelLinear(2, A=torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="OptimizedHyper"):
        EachModelLinear(2, OptimizedHyper={"gamma"})
    with pytest.raises(ValueError, match="columns"):
        HyperExpertNN(input_dim=3, output_dim=2).LogPiExpectation(X, Y, {})
    with pytest.raises(ValueError, match="E_step"):
        MixtureEM({"beta": 1.0}, ListOfModels=[EachModelLinear(2)]).M_step(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MixtureEM({"beta": 1.0}, ListOfModels=[EachModelLinear(2)]).fit(X, Y, epoch=2)


def test_whole_numbers_are_computed_with_as_others():
    """Tensors of integers have the answers of the same numbers in floating point."""
    torch.manual_seed(0)
    X = torch.randint(-5, 6, (80, 2))
    Y = torch.where(
        torch.arange(80)[:, None] % 2 == 0, X @ torch.tensor([[2], [1]]), X @ torch.tensor([[-1], [3]])
    )

    def fitted(X, Y, **how):
        torch.manual_seed(1)
        models = [EachModelLinear(2), EachModelLinear(2)]
        return MixtureEM({"beta": 1.0}, ListOfModels=models, **how).fit(X, Y, epoch=20)

    for how in ({}, {"model_type": "sample"}, {"HyperModel": HyperExpertNN(2, output_dim=2)}):
        whole, real = fitted(X, Y, **how), fitted(X.float(), Y.float(), **how)
        answers, want = whole.predict(X[:5]), real.predict(X[:5].float())
        if "HyperModel" not in how:  # which has learnt in between
            for got, expected in zip(answers, want, strict=True):
                torch.testing.assert_close(got, expected)
        assert answers[0].dtype == torch.get_default_dtype()
        assert torch.all(answers[1] > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_are_met_exactly_leave_a_little_noise(dtype):
    X = torch.arange(-10, 10, dtype=dtype).reshape(-1, 2)
    for Y in (X @ torch.tensor([[1.0], [2.0]], dtype=dtype), torch.zeros(10, 1, dtype=dtype)):
        model = EachModelLinear(2)
        fit = MixtureEM({"beta": 1.0}, ListOfModels=[model]).fit(X, Y, epoch=60)
        torch.testing.assert_close(fit.predict(X)[0], Y, atol=1e-5, rtol=1e-5)
        assert fit.HyperParameters["beta"] > 0.0
        assert np.isfinite(fit.lower_bounds).all()
