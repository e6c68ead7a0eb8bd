"""Regularizers: what the prior means of linear local models have to do with each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mixtura.links import EqualMeans, LinkFunction, PriorLink
from mixtura.mixturelib._tensors import Tensor, to_array
from mixtura.mixturelib.local_models import EachModelLinear

__all__ = ["RegularizeFunc", "RegularizeModel", "Regularizers"]


class Regularizers:
    """Base class of regularizers: derive from it to bring one of your own to :class:`MixtureEM`."""

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Called after the local models' E-steps."""
        raise NotImplementedError

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Called after the local models' M-steps."""
        raise NotImplementedError

    def bound(self, HyperParameters: dict[str, Tensor]) -> float:
        """The regularizer's term of the objective."""
        return 0.0


class _OfLink(Regularizers):
    """A regularizer that is one of mixtura's prior links."""

    def __init__(self, ListOfModels: Sequence[EachModelLinear] | None, device: str) -> None:
        self.ListOfModels, self.device = list(ListOfModels or []), device

    @property
    def ListOfModelsW0(self) -> list[tuple[int, Tensor]]:
        """Places and prior means of the models that have one."""
        return [(k, m.w_0) for k, m in enumerate(self.ListOfModels) if m.w_0 is not None]

    def _link(self, HyperParameters: dict[str, Tensor]) -> PriorLink:
        raise NotImplementedError

    def _linked(self) -> list[EachModelLinear]:
        """The models that have a prior."""
        return [m for m in self.ListOfModels if m._experts.priors.present[0]]

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Nothing to do."""

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Move the prior means to where the objective, link included, is largest."""
        models = self._linked()
        if len(models) < 2:
            return
        priors = [m._experts.priors for m in models]
        means = self._link(HyperParameters).maximize(
            np.concatenate([p.mean for p in priors]),
            np.concatenate([p.precision for p in priors]),
            np.concatenate([m._experts.slopes for m in models]),
        )
        for model, prior, mean in zip(models, priors, means, strict=True):
            model._experts = replace(model._experts, priors=replace(prior, mean=mean[None]))

    def bound(self, HyperParameters: dict[str, Tensor]) -> float:
        """The link's value at the prior means."""
        models = self._linked()
        if len(models) < 2:
            return 0.0
        return self._link(HyperParameters).value(np.concatenate([m._experts.priors.mean for m in models]))


class RegularizeModel(_OfLink):
    """Prior means are drawn to each other, with strength 1 / alpha: :class:`mixtura.EqualMeans`.

    Parameters
    ----------
    ListOfModels : list of EachModelLinear
    device : str, default='cpu'

    Examples
    --------
    >>> import torch
    >>> from mixtura.mixturelib.local_models import EachModelLinear
    >>> from mixtura.mixturelib.regularizers import RegularizeModel
    >>> ones = torch.ones(2)
    >>> models = [EachModelLinear(2, A=ones, w=0 * ones), EachModelLinear(2, A=ones, w=ones)]
    >>> RegularizeModel(models).M_step(None, None, None, {"alpha": torch.tensor([1.0, 1e-10])})
    >>> models[0].w_0.view(-1), models[1].w_0.view(-1)
    (tensor([0.3333, 0.5000]), tensor([0.6667, 0.5000]))
    """

    def __init__(self, ListOfModels: Sequence[EachModelLinear] | None = None, device: str = "cpu") -> None:
        super().__init__(ListOfModels, device)

    def _link(self, HyperParameters: dict[str, Tensor]) -> PriorLink:
        if "alpha" not in HyperParameters:
            raise ValueError("RegularizeModel needs the hyperparameter 'alpha', a number or one a column")
        alpha = to_array(HyperParameters["alpha"])
        if not np.all(alpha > 0.0):
            raise ValueError(f"hyperparameter 'alpha' must be positive, got {alpha.tolist()}")
        return EqualMeans(1.0 / alpha)


class RegularizeFunc(_OfLink):
    """Prior means maximise a function of theirs as well: :class:`mixtura.LinkFunction`.

    Parameters
    ----------
    ListOfModels : list of EachModelLinear
    R : callable
        Takes the prior means as a float64 tensor (K, D), gives a scalar tensor, the log of a prior's density.
    epoch : int, default=100
        Accepted; the maximum is found to convergence.
    device : str, default='cpu'
    """

    def __init__(
        self,
        ListOfModels: Sequence[EachModelLinear] | None = None,
        R: Callable[[Any], Any] = lambda W0: 0.0 * W0.sum(),
        epoch: int = 100,
        device: str = "cpu",
    ) -> None:
        super().__init__(ListOfModels, device)
        self.R, self.epoch = R, epoch

    def _link(self, HyperParameters: dict[str, Tensor]) -> PriorLink:
        return LinkFunction(self.R)
