"""The fitted attributes of a Gaussian mixture: what is saved of them, what they predict, and how they are judged."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from mixtura import natural
from mixtura.array_kinds import in_kind, like
from mixtura.components.beside import COMPONENTS, Beside, Component
from mixtura.components.covariances import COVARIANCES, Covariance
from mixtura.components.estimation import Estimation
from mixtura.components.gaussian import Gaussians, few_rows
from mixtura.components.surfaces import Surface
from mixtura.components.uniform import Uniform
from mixtura.estimators.base import LabellingEstimator
from mixtura.estimators.gaussian_search import Parameters, apart
from mixtura.estimators.known import check_fixed, n_fixed
from mixtura.estimators.saved import arrays_of, restored
from mixtura.estimators.validation import weighted_sum
from mixtura.gates.constant import ConstantGate
from mixtura.mixture import Mixture
from mixtura.natural import Field
from mixtura.parametric import ParametricMixture
from mixtura.report import summary
from mixtura.table import Table

Float = NDArray[np.float64]

# Largest error of the sum of log-likelihoods that counts as no difference.
_NO_DIFFERENCE = 1e-3


class FittedGaussians(DensityMixin, LabellingEstimator):
    """The part of :class:`mixtura.GaussianMixture` that holds the fitted parameters."""

    n_components: int
    covariance_type: str | Covariance
    noise: str | float | bool | Component | None
    on_degenerate: str
    fixed: Mapping[str, Any] | None
    random_state: Any

    @property
    def _covariance(self) -> Covariance:
        """The family of the covariances, of this fit or of the one that was made."""
        self._check_family()
        return self._wanted_covariance

    def _check_family(self) -> None:
        """Raise ValueError if the family was set after the fit."""
        wanted = self._wanted_covariance.name
        fitted = getattr(self, "_fitted_type", wanted)
        if fitted != wanted:
            raise ValueError(
                f"covariance_type was set after the fit, from {fitted!r} to {wanted!r}: fit again, or set it back"
            )

    @property
    def _wanted_covariance(self) -> Covariance:
        """The family that ``covariance_type`` names or is."""
        family = self.covariance_type
        return family if isinstance(family, Covariance) else COVARIANCES[family]

    @property
    def _has_noise(self) -> bool:
        """Whether noise is part of what was fitted."""
        return hasattr(self, "noise_")

    @property
    def _wants_noise(self) -> bool:
        """Whether the next fit has noise."""
        return self.noise is not None and not (isinstance(self.noise, bool | np.bool_) and not self.noise)

    def _noise(self) -> Component:
        """The component that ``noise`` names or asks for, not yet fitted."""
        if isinstance(self.noise, Component):
            return self.noise
        if isinstance(self.noise, bool | np.bool_):
            return Uniform()
        return COMPONENTS[self.noise]() if isinstance(self.noise, str) else Uniform(float(self.noise))  # type: ignore[arg-type]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of :class:`Saved`, and the state of the noise."""
        noise = arrays_of(self.noise_, "noise") if self._has_noise else {}
        return super()._arrays() | noise

    def _restore(
        self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], models: Sequence[Any]
    ) -> None:
        """Set what was saved."""
        super()._restore(arrays, values, models)
        if self._wants_noise:
            self.noise_ = restored(self._noise(), "noise", arrays)

    def _on_a_few(self, rows: int) -> bool:
        """Whether a component sits on a few of so many rows that are all but equal, or was dropped.

        One that a bound keeps from being narrower on many rows does no harm.
        """
        marked = self.degenerate_
        if len(marked) != len(self.weights_):
            return bool(marked.any())
        few = self._host("weights_").astype(np.float64) * rows < few_rows(self.means_.shape[1])
        return bool((marked & few).any())

    def _gain_of_few(self, rows: int) -> float:
        """What components that sit on a few of so many rows add to twice the log-likelihood by being narrow.

        Of n rows with the determinants of the mixture's covariance and of theirs, it is ``n log(|S| / |S_k|)``. What
        such a component gains beyond that, as where a row lies far from all others, is no matter of its width.
        """
        marked = self.degenerate_
        if len(marked) != len(self.weights_) or not marked.any():
            return 0.0
        (K, D), weights = self.means_.shape, self._host("weights_").astype(np.float64)
        dense = self._covariance.storage.dense(self._host("covariances_").astype(np.float64), K, D)
        away = self._host("means_") - weights @ self._host("means_")
        whole = np.einsum("k,kij->ij", weights, dense) + (weights[:, None] * away).T @ away
        narrower = np.linalg.slogdet(whole)[1] - np.linalg.slogdet(dense)[1]
        few = marked & (weights * rows < few_rows(D))
        return float(np.sum(weights[few] * rows * np.maximum(narrower[few], 0.0)))

    def _may_have(self, components: int) -> bool:
        """Whether a fit may have so many components in the end."""
        return self.on_degenerate == "drop" and 1 <= components <= self.n_components

    def to_onnx(self, path: str | os.PathLike[str] | None = None, dtype: str = "float32") -> Any:
        """The predictions as a graph in ONNX, which other programs and devices run.

        Its input is ``X`` (N, D). Its outputs are ``label`` (N,), ``probabilities`` (N, K) and ``log_likelihood`` (N,),
        of :meth:`predict`, :meth:`predict_proba` and :meth:`score_samples`.
        It computes in float64, whatever the type of X.

        Parameters
        ----------
        path : path-like, default=None
            File to write, usually ``*.onnx``.
        dtype : {'float32', 'float64'}, default='float32'
            Of X, and of what is no label.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ImportError
            The package onnx is not installed: ``pip install 'mixtura[onnx]'``.
        ValueError
            ``dtype`` is unknown.

        Examples
        --------
        >>> import numpy as np
        >>> from mixtura import GaussianMixture
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> graph = GaussianMixture(2, random_state=0, tol=0.1).fit(X).to_onnx()
        >>> [output.name for output in graph.graph.output]
        ['label', 'probabilities', 'log_likelihood']
        """
        from mixtura.interop import onnx

        return onnx.of_gaussian_mixture(self, path, dtype)

    def to_sklearn(self) -> Any:
        """The same model as scikit-learn's estimator, for programs that know only that.

        Parameters that only this class has are left out; those of the next fit that scikit-learn does not know take its
        defaults.

        Returns
        -------
        sklearn.mixture.GaussianMixture

        Raises
        ------
        ValueError
            scikit-learn has no such mixture.

        Examples
        --------
        >>> import numpy as np
        >>> from mixtura import GaussianMixture
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> model = GaussianMixture(2, random_state=0, tol=0.1).fit(X)
        >>> bool((model.to_sklearn().predict(X) == model.predict(X)).all())
        True
        """
        from mixtura.interop import scikit_learn

        return scikit_learn.mixture_to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Any:
        """A fitted estimator of scikit-learn as one of this class.

        Parameters
        ----------
        estimator : sklearn.mixture.GaussianMixture

        Returns
        -------
        GaussianMixture

        Raises
        ------
        TypeError
            It is something else.

        Examples
        --------
        >>> import numpy as np, sklearn.mixture
        >>> from mixtura import GaussianMixture
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> theirs = sklearn.mixture.GaussianMixture(2, random_state=0, tol=0.1).fit(X)
        >>> bool((GaussianMixture.from_sklearn(theirs).predict(X) == theirs.predict(X)).all())
        True
        """
        from mixtura.interop import scikit_learn

        return scikit_learn.mixture_from_sklearn(cls, estimator)

    def _check_state(self) -> None:
        """Raise ValueError unless parameters and fitted attributes are consistent."""
        self._validate_params()
        K, D = np.shape(self.means_)
        shape = self._wanted_covariance.storage.shape(K, D)
        for name, wanted in (
            ("weights_", (K,)),
            ("means_", (K if self._may_have(K) else self.n_components, self.n_features_in_)),
            ("covariances_", shape),
            ("precisions_", shape),
            ("precisions_cholesky_", shape),
        ):
            value = self._host(name)
            if value.shape != wanted or value.dtype not in (np.float32, np.float64):
                raise ValueError(f"{name} is {value.dtype} {value.shape}, not floating-point {wanted}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} is not finite")
        self._check_family()
        weights = self._host("weights_")
        if self._has_noise != (self._wants_noise):
            raise ValueError("noise was set after the fit: fit again")
        if self._has_noise:
            if spec_of(self.noise_) != spec_of(self._noise()) or not 0.0 <= self.noise_weight_ <= 1.0:
                raise ValueError("noise is not what was fitted: fit again")
            weights = np.append(weights, np.asarray(self.noise_weight_, dtype=weights.dtype))
        check_proportions(weights)

    def _mixture(
        self, estimation: Estimation | None = None, fixed_weights: NDArray[np.bool_] | None = None
    ) -> Parameters:
        """The fitted attributes as parameters, with the estimation and the fixed weights for an M-step that follows."""
        weights, means, covariances, cholesky = (
            self._host(name).astype(np.float64)
            for name in ("weights_", "means_", "covariances_", "precisions_cholesky_")
        )
        estimation = Estimation() if estimation is None else estimation
        gaussians = Gaussians(self._covariance, means, covariances, cholesky, estimation)
        if not self._has_noise:
            return Mixture(ConstantGate(weights=weights, fixed=fixed_weights), gaussians)
        weights = np.append(weights, self.noise_weight_)
        fixed = None if fixed_weights is None else np.append(fixed_weights, False)
        return Mixture(ConstantGate(weights=weights, fixed=fixed), Beside(gaussians, self.noise_))

    # ------------------------------------------------------------ derivatives

    def _parametric(self) -> ParametricMixture:
        check_is_fitted(self)
        return self._mixture().parametric()

    def _with_parametric(self, mixture: ParametricMixture) -> Self:
        moved, parameters = copy(self), self._mixture().with_parametric(mixture)
        (gaussians, _), convert = apart(parameters), like(self.means_)
        cholesky = gaussians.precisions_cholesky
        moved.weights_ = convert(parameters.gate.weights)
        moved.means_ = convert(gaussians.means)
        moved.covariances_ = convert(gaussians.covariances)
        moved.precisions_cholesky_ = convert(cholesky)
        moved.precisions_ = convert(self._covariance.storage.precisions(cholesky))
        moved.converged_, moved.n_iter_, moved.lower_bound_, moved.lower_bounds_ = False, 0, math.nan, []
        moved.__dict__.pop("_sampler", None)
        return moved

    def _parameter_names(self, mixture: ParametricMixture) -> list[str]:
        return mixture.names([], self._column_names())

    def _surface(self) -> Surface | None:
        """What of the scales is free; None if all are."""
        return self._mixture().components.surface()

    def _natural(self, mixture: ParametricMixture) -> list[Field]:
        return natural.fields(mixture, [], self._column_names())

    def _rows_to_differentiate(self, X: Any, y: Any, sample_weight: Any) -> Table:
        if y is not None:
            raise ValueError("a Gaussian mixture has no targets: leave y out")
        table = self._table(X, sample_weight, answers_checked=True)
        return replace(table, backend=table.backend.doubled())

    def _column_names(self) -> list[str]:
        return [
            str(name)
            for name in getattr(self, "feature_names_in_", [f"x{j}" for j in range(self.n_features_in_)])
        ]

    # ------------------------------------------------------------ predictions

    def _posterior(self, table: Table, resp: NDArray[np.floating] | None = None) -> Float:
        """Log-likelihood of each row, in float64 so that sums are accurate. Responsibilities are put into ``resp``."""
        density = table.posterior(self._mixture().joint, resp)
        self._check_answers(table, density, "component", "log-density")
        return density

    def _labels(self, table: Table) -> NDArray[np.int64]:
        components = self._most_likely(table, self._mixture().joint, np.int64, "component", "log-density")
        if self._has_noise:
            components[components == len(self.means_)] = -1
        return components

    @in_kind
    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Responsibilities: the probability of each component given the row.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        resp : ndarray of shape (N, K), in the type of X
            (N, K + 1) with ``noise``.
        """
        table = self._table(X, answers_checked=True)
        K = self.means_.shape[0] + self._has_noise
        resp = np.empty((len(table), K), dtype=table.x.dtype)
        self._posterior(table, resp)
        return resp

    @in_kind
    def score_samples(self, X: ArrayLike) -> NDArray[np.floating]:
        """Log-likelihood of each row.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        log_likelihood : ndarray of shape (N,), in the type of X
        """
        table = self._table(X, answers_checked=True)
        return self._posterior(table).astype(table.x.dtype, copy=False)

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Mean log-likelihood per row, or per unit of weight.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        log_likelihood : float
        """
        table = self._table(X, sample_weight, answers_checked=True)
        log_densities = self._posterior(table)
        log_likelihood, total = weighted_sum(log_densities, table.sample_weight)
        exact = log_likelihood / total
        if table.single and sample_weight is None:
            # Return the mean of score_samples(X) where it is as accurate as the sum in float64, so that code which
            # compares the two finds no difference.
            mean = float(log_densities.astype(np.float32).mean())
            if abs(mean - exact) * total <= _NO_DIFFERENCE:
                return mean
        return exact

    def sample(
        self, n_samples: int = 1, random_state: Any = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows from the fitted mixture.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None
            None uses one stream of random numbers, which the estimator's ``random_state`` seeds at the first call after
            a fit, so that two calls give different draws.

        Returns
        -------
        X : ndarray of shape (n_samples, D), float64
        y : ndarray of shape (n_samples,), int64
            The component of each row, -1 for noise. Rows are sorted by component, with noise last.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one sample."
            )
        if random_state is not None:
            rng = check_random_state(random_state)
        else:
            if not hasattr(self, "_sampler"):
                self._sampler = check_random_state(self.random_state)
            rng = self._sampler
        parameters = self._mixture()
        counts = rng.multinomial(n_samples, parameters.gate.weights / parameters.gate.weights.sum())
        convert = like(self.means_)
        labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        gaussians, noise = apart(parameters)
        K = len(gaussians.means)
        X = gaussians.sample(counts[:K], rng)
        if noise is not None:
            X = np.vstack([X, noise.sample(int(counts[K]), rng)])
        return convert(X), convert(np.where(labels == K, -1, labels))

    # ------------------------------------------------------------ criteria

    def _n_parameters(self) -> int:
        """Number of free parameters of the model."""
        K, D = self.means_.shape
        free = self._n_parameters_of_gaussians(K, D)
        if self.fixed is not None and self.n_components == K:  # others were dropped with their masks
            weights, of_gaussians = check_fixed(self.fixed, K, D, self._covariance)
            free -= n_fixed(weights, of_gaussians, self._covariance, K, D)
        return free + 1 + self.noise_.n_parameters(D) if self._has_noise else free

    def _n_parameters_of_gaussians(self, K: int, D: int) -> int:
        """Those of weights, means and covariances."""
        return self._covariance.n_parameters(K, D) + K * D + K - 1

    @property
    def _bound_is_likelihood(self) -> bool:
        """Whether ``lower_bound_`` is the log-likelihood alone: a prior is part of it, and what is added to variances.

        The latter only where the covariances of a family are found together.
        """
        added = self.on_degenerate != "raise" or self.reg_covar != 0.0
        return self.prior is None and not (self._covariance.constrained and added)

    def _log_likelihood_per_row(self, X: Any, sample_weight: Any) -> float:
        """Of the rows that were fitted."""
        return self.lower_bound_ if self._bound_is_likelihood else self.score(X, sample_weight=sample_weight)

    def _log_likelihood(self, X: Any, sample_weight: Any) -> tuple[float, float]:
        """Weighted sum of the rows' log-likelihoods, and sum of their weights."""
        table = self._table(X, sample_weight, answers_checked=True)
        return weighted_sum(self._posterior(table), table.sample_weight)

    def bic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion on X: -2 log-likelihood + parameters * log N. Lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows; N is then the sum of the weights.

        Returns
        -------
        bic : float
        """
        log_likelihood, total = self._log_likelihood(X, sample_weight)
        return -2.0 * log_likelihood + self._n_parameters() * math.log(total)

    def aic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Akaike information criterion on X: -2 log-likelihood + 2 * parameters. Lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows.

        Returns
        -------
        aic : float
        """
        log_likelihood, _ = self._log_likelihood(X, sample_weight)
        return -2.0 * log_likelihood + 2.0 * self._n_parameters()

    def summary(self, X: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> str:
        """The fitted model in a few lines of text: how the fit went, then weights, means and spreads.

        Parameters
        ----------
        X : array-like of shape (N, D), default=None
            The rows that were fitted: the text then has a table of all parameters with standard errors, by
            :func:`mixtura.standard_errors`.
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        text : str
        """
        from mixtura.uncertainty import errors_in_words

        check_is_fitted(self)
        K, D = self.means_.shape
        variances = np.diagonal(
            self._covariance.storage.dense(self._host("covariances_"), K, D),
            axis1=1,
            axis2=2,
        )
        text = summary(
            f"Gaussian mixture, {K} component{'s' if K > 1 else ''}, {self._covariance.name} covariance",
            {
                "rows x columns": f"{self._n_rows} x {D}" if hasattr(self, "_n_rows") else f"? x {D}",
                f"{'log-likelihood' if self._bound_is_likelihood else 'objective'} per row": f"{self.lower_bound_:.8g}",
                "parameters": str(self._n_parameters()),
                "iterations": f"{self.n_iter_} ({'' if self.converged_ else 'not '}converged)",
                "passes over the rows": f"{self.n_passes_:.4g}" if hasattr(self, "n_passes_") else "?",
                **({"weight of noise": f"{self.noise_weight_:.4g}"} if self._has_noise else {}),
                "backend": self.backend_,
            },
            self._column_names(),
            {"weight": self._host("weights_")},
            {"mean": self._host("means_"), "sd": np.sqrt(variances)},
        )
        return text if X is None else f"{text}\n\n{errors_in_words(self, X, None, sample_weight)}"


def spec_of(noise: Component) -> str:
    """A component's class and the user's parameters of it."""
    return f"{type(noise).__qualname__}({noise.parameters})"


def check_proportions(weights: NDArray[np.floating]) -> None:
    """Raise ValueError unless the weights lie in [0, 1] and sum to 1."""
    if np.any(weights < 0.0) or np.any(weights > 1.0):
        # scikit-learn's message swaps the smallest and the largest weight, and its tests expect that.
        raise ValueError(
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{np.min(weights):.5f}, min value {np.max(weights):.5f}"
        )
    if not np.isclose(weights.sum(), 1.0, rtol=0.0, atol=1e-6 if weights.dtype == np.float32 else 1e-8):
        raise ValueError(
            f"The parameter 'weights' should be normalized, but got sum(weights) = {np.sum(weights):.5f}"
        )
