"""The mixture: EM over local models, a hyper model and regularizers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mixtura.mixturelib._tensors import Tensor, floating, to_rows, torch
from mixtura.mixturelib.hyper_models import HyperModel, HyperModelDirichlet
from mixtura.mixturelib.local_models import EachModel
from mixtura.mixturelib.regularizers import Regularizers

__all__ = ["Mixture", "MixtureEM"]

# Log-density between the most different models' opinions of a row, below which models count as the same.
_ALIKE = 1.0


class Mixture:
    """Base class of mixtures."""

    def fit(
        self,
        X: Tensor = None,
        Y: Tensor = None,
        epoch: int = 10,
        progress: Callable[[Iterable[int]], Iterable[int]] | None = None,
    ) -> Mixture:
        """Fit hyper model and local models together."""
        raise NotImplementedError

    def predict(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions (N, 1) and probabilities of the local models (N, K)."""
        raise NotImplementedError


class MixtureEM(Mixture):
    """EM for a mixture of local models.

    Parameters
    ----------
    HyperParameters : dict, default={}
        Numbers or tensors by name: 'beta', the variance of the noise; 'alpha' for :class:`RegularizeModel`.
    HyperModel : HyperModel, default: HyperModelDirichlet
    ListofModels : list of EachModel
    ListofRegularizeModel : list of Regularizers, default=[]
    model_type : {'default', 'sample'}, default='default'
        'default': each model sees each row, weighted with its responsibility. 'sample': each row is given to one model,
        drawn from its responsibilities; the hyper model sees the responsibilities themselves.
    device : str, default='cpu'
        Accepted; tensors stay where they are.

    Attributes
    ----------
    pZ : tensor of shape (N, K)
        Responsibilities at the last E-step.
    lower_bounds : list of float
        The objective before each epoch, summed over the rows; with 'default' it does not fall.

    Examples
    --------
    >>> import torch
    >>> from mixtura.mixturelib.local_models import EachModelLinear
    >>> from mixtura.mixturelib.mixture import MixtureEM
    >>> _ = torch.random.manual_seed(0)
    >>> X = torch.randn(100, 1)
    >>> Y = torch.cat([2.0 * X[:50], -3.0 * X[50:]])
    >>> models = [EachModelLinear(1), EachModelLinear(1)]
    >>> _ = MixtureEM({"beta": 1.0}, ListOfModels=models).fit(X, Y, epoch=50)
    >>> sorted(round(float(m.W), 2) for m in models)
    [-3.0, 2.0]
    """

    def __init__(
        self,
        HyperParameters: Mapping[str, Any] | None = None,
        HyperModel: HyperModel | None = None,
        ListOfModels: Sequence[EachModel] | None = None,
        ListOfRegularizeModel: Sequence[Regularizers] | None = None,
        model_type: str = "default",
        device: str = "cpu",
    ) -> None:
        if not ListOfModels:
            raise ValueError("MixtureEM needs local models: ListOfModels=[EachModelLinear(...), ...]")
        if model_type not in ("default", "sample"):
            raise ValueError(f"model_type must be 'default' or 'sample', got {model_type!r}")
        self.ListOfModels = list(ListOfModels)
        self.K = len(self.ListOfModels)
        self.HyperModel = HyperModelDirichlet(self.K) if HyperModel is None else HyperModel
        self.ListOfRegularizeModel = list(ListOfRegularizeModel or [])
        self.HyperParameters: dict[str, Tensor] = {
            name: torch.as_tensor(value) for name, value in (HyperParameters or {}).items()
        }
        self.model_type, self.device = model_type, device
        self.pZ: Tensor = None
        self.lower_bounds: list[float] = []

    def _joint(self, X: Tensor, Y: Tensor) -> Tensor:
        """Expected joint log-density of rows and models, (N, K)."""
        log_pi = self.HyperModel.LogPiExpectation(X, Y, self.HyperParameters)
        densities = [m.LogLikeLihoodExpectation(X, Y, self.HyperParameters) for m in self.ListOfModels]
        if log_pi.shape != (len(X), self.K):
            raise ValueError(
                f"the hyper model gives log-weights of shape {tuple(log_pi.shape)}, not ({len(X)}, {self.K}): "
                "its output_dim must be the number of local models"
            )
        return log_pi + torch.cat(densities, dim=1)

    def objective(self, X: Tensor, Y: Tensor) -> float:
        """Log-likelihood of the rows or, with priors, its evidence lower bound."""
        rows = float(torch.logsumexp(self._joint(X, Y).double(), dim=1).sum())
        own = self.HyperModel.bound + sum(m.bound for m in self.ListOfModels)
        return rows + own + sum(r.bound(self.HyperParameters) for r in self.ListOfRegularizeModel)

    def _weights(self) -> list[Tensor]:
        return [self._given[:, [k]] for k in range(self.K)]

    def E_step(self, X: Tensor, Y: Tensor) -> None:
        """Responsibilities, then the E-steps of local models, regularizers and hyper model."""
        joint = self._joint(X, Y).double()
        if self.pZ is None and self.K > 1 and float((joint - joint[:, [0]]).abs().max()) < _ALIKE:
            # Models that cannot be told apart stay so for long: the first responsibilities are drawn.
            joint = torch.distributions.Exponential(1.0).sample(joint.shape).log().to(joint)
        self.pZ = torch.softmax(joint, dim=-1).to(floating(X))
        self._given = self.pZ
        if self.model_type == "sample":
            drawn = torch.multinomial(self.pZ, num_samples=1).view(-1)
            self._given = torch.nn.functional.one_hot(drawn, self.K).to(floating(X))
        for model, z in zip(self.ListOfModels, self._weights(), strict=True):
            model.E_step(X, Y, z, self.HyperParameters)
        for regularizer in self.ListOfRegularizeModel:
            regularizer.E_step(X, Y, self._given, self.HyperParameters)
        self.HyperModel.E_step(X, Y, self.pZ, self.HyperParameters)

    def M_step(self, X: Tensor, Y: Tensor) -> None:
        """The M-steps of local models, then shared hyperparameters, regularizers and hyper model."""
        if self.pZ is None:
            raise ValueError("M_step needs the responsibilities of an E_step")
        for model, z in zip(self.ListOfModels, self._weights(), strict=True):
            model.M_step(X, Y, z, self.HyperParameters)
        found = {}
        for name in self.HyperParameters:
            parts = [
                self._part(m, X, Y, z, name) for m, z in zip(self.ListOfModels, self._weights(), strict=True)
            ]
            known = [p for p in parts if p is not None]
            if known:
                found[name] = torch.stack(known).sum(dim=0).detach()
        self.HyperParameters.update(found)
        for regularizer in self.ListOfRegularizeModel:
            regularizer.M_step(X, Y, self._given, self.HyperParameters)
        self.HyperModel.M_step(X, Y, self.pZ, self.HyperParameters)

    def _part(self, model: EachModel, X: Tensor, Y: Tensor, z: Tensor, name: str) -> Tensor | None:
        """A model's part of a hyperparameter, if it has one."""
        try:
            return model.OptimizeHyperParameters(X, Y, z, self.HyperParameters, name)
        except NotImplementedError:
            return None

    def _state(self) -> list[dict[str, Any]]:
        return [m.state() for m in (self.HyperModel, *self.ListOfModels)]

    def _restore(self, state: list[dict[str, Any]]) -> None:
        for model, held in zip((self.HyperModel, *self.ListOfModels), state, strict=True):
            model.restore(held)

    def fit(
        self,
        X: Tensor = None,
        Y: Tensor = None,
        epoch: int = 10,
        progress: Callable[[Iterable[int]], Iterable[int]] | None = None,
    ) -> MixtureEM:
        """EM for some epochs; the best parameters on the way are kept.

        Parameters
        ----------
        X : tensor of shape (N, D)
        Y : tensor of shape (N, 1)
        epoch : int, default=10
        progress : callable, default=None
            Wraps the epochs and gives them back one by one, as tqdm does.

        Returns
        -------
        self
        """
        if X is None or Y is None:
            raise ValueError("fit needs X and Y")
        if len(to_rows(X, "X")) != len(to_rows(Y, "Y")):
            raise ValueError(f"X has {len(X)} rows, Y has {len(Y)}")
        self.lower_bounds = []
        self.pZ = None
        best: tuple[float, list[dict[str, Any]], dict[str, Tensor]] | None = None

        def look() -> None:
            nonlocal best
            value = self.objective(X, Y)
            self.lower_bounds.append(value)
            if best is None or value > best[0]:
                best = value, self._state(), dict(self.HyperParameters)

        epochs = range(epoch)
        for _ in epochs if progress is None else progress(epochs):
            look()
            self.E_step(X, Y)
            self.M_step(X, Y)
        look()
        assert best is not None
        self._restore(best[1])
        self.HyperParameters = dict(best[2])
        return self

    def predict(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Means of y given x, ``sum_k pi_k(x) g_k(x)``.

        Returns
        -------
        prediction : tensor of shape (N, 1)
        pi : tensor of shape (N, K)
        """
        pi = self.HyperModel.PredictPi(X, self.HyperParameters)
        each = torch.cat([m(X) for m in self.ListOfModels], dim=1)
        return (pi * each).sum(dim=1, keepdim=True), pi
