"""The fitted attributes of a mixture of experts, and which of them a model file keeps."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from mixtura import natural
from mixtura.array_kinds import like, to_host, unmasked
from mixtura.components.linear import LinearExpert, LinearExperts, Priors
from mixtura.errors import NotFiniteError
from mixtura.estimators.base import MixtureEstimator
from mixtura.estimators.saved import arrays_of, restored
from mixtura.estimators.validation import check_rows, check_weights, largest_spread
from mixtura.gates import GATES, Gate
from mixtura.links import PriorLink
from mixtura.mixture import Mixture
from mixtura.natural import Field
from mixtura.parametric import ParametricMixture
from mixtura.table import Table

Float = NDArray[np.float64]
Experts = Mixture[Gate, LinearExperts]

# The attributes of experts and priors that a model file holds.
_EXPERTS = (
    "noise_floor",
    "anchor",
    "level",
    "slopes",
    "posterior",
    "noise",
    "dependent",
    "empty",
)

_PRIORS = ("mean", "covariance")


class FittedExperts(MixtureEstimator):
    """The part of :class:`MixtureOfExperts` that holds the fitted parameters."""

    n_experts: int
    experts: LinearExpert | Sequence[LinearExpert] | None
    gate: str | Gate
    prior_link: PriorLink | None
    fit_intercept: bool
    noise: str
    empirical_bayes: bool

    _parameters: Experts  # once fitted
    weights_: Any
    _one_target: bool

    _saved_arrays = ("weights_",)
    # Files of an earlier version lack these: which experts are spurious, and the mean (K, D) and covariance (K, D, D)
    # of each expert's covariates.
    _host_arrays = ("degenerate_", "_x_means", "_x_covariances")
    _needed_values = ("converged_", "n_iter_", "lower_bound_", "backend_", "n_features_in_", "_one_target")
    _saved_values = (
        "converged_",
        "n_iter_",
        "lower_bound_",
        "lower_bounds_",
        "n_passes_",
        "backend_",
        "n_features_in_",
        "_n_rows",
        "_one_target",
        "_type",
    )

    def _specs(self) -> list[LinearExpert]:
        """The specification of each expert."""
        if self.experts is None or isinstance(self.experts, LinearExpert):
            return [self.experts or LinearExpert()] * self.n_experts
        specs = list(self.experts)
        if not specs or not all(isinstance(e, LinearExpert) for e in specs):
            raise ValueError("experts must be a LinearExpert or a list of them")
        return specs

    def _gate(self) -> Gate:
        return GATES[self.gate]() if isinstance(self.gate, str) else self.gate

    @property
    def gate_(self) -> Gate:
        """The fitted gate."""
        return self._parameters.gate

    @property
    def coef_(self) -> Float:
        """Slopes."""
        return self._of_targets(self._parameters.components.slopes)

    @property
    def intercept_(self) -> Float:
        """Intercepts: the experts' means at x = 0."""
        return self._of_targets(self._parameters.components.intercepts)

    @property
    def noise_variance_(self) -> Float:
        """Noise variances."""
        return self._of_targets(self._parameters.components.noise)

    @property
    def coef_covariance_(self) -> Float:
        """Covariances of the slopes."""
        return self._of_targets(self._parameters.components.posterior)

    @property
    def prior_mean_(self) -> Float:
        """Means of the slopes' priors."""
        return self._of_targets(self._parameters.components.priors.mean)

    @property
    def prior_covariance_(self) -> Float:
        """Covariances of the slopes' priors."""
        return like(self.weights_)(self._parameters.components.priors.covariance)

    def _of_targets(self, array: Float) -> Any:
        """An array (K, M, ...), without the axis M if y had one dimension, in the library of the fit's X."""
        answer = array[:, 0] if self._one_target else array
        floats = self._host("weights_").dtype == np.float32
        return like(self.weights_)(answer.astype(np.float32) if floats else answer)

    def _in_type_of(self, X: Any, answer: Float) -> NDArray[np.floating]:
        """The answer, in float32 if X is a float32 array of another library than NumPy and the fit was to float32."""
        host = to_host(X)
        other_library = isinstance(host, np.ndarray) and host is not X
        single = other_library and host.dtype == np.float32 and getattr(self, "_type", "float64") == "float32"
        return answer.astype(np.float32) if single else answer

    # Derivatives: see mixtura.autodiff.

    def _parametric(self) -> ParametricMixture:
        check_is_fitted(self)
        return self._parameters.parametric()

    def _with_parametric(self, mixture: ParametricMixture) -> Self:
        moved = copy(self)
        moved._parameters = self._parameters.with_parametric(mixture)
        moved.converged_, moved.n_iter_, moved.lower_bound_, moved.lower_bounds_ = False, 0, math.nan, []
        return moved

    def _names_of(self, mixture: ParametricMixture) -> tuple[list[str], list[str]]:
        """Names of covariates and targets."""
        columns = getattr(self, "feature_names_in_", [f"x{j}" for j in range(mixture.covariates)])
        targets = ["y"] if mixture.targets == 1 else [f"y{m}" for m in range(mixture.targets)]
        return [str(column) for column in columns], targets

    def _parameter_names(self, mixture: ParametricMixture) -> list[str]:
        return mixture.names(*self._names_of(mixture))

    def _natural(self, mixture: ParametricMixture) -> list[Field]:
        return natural.fields(mixture, *self._names_of(mixture), squeezed=self._one_target)

    def _rows_to_differentiate(self, X: Any, y: Any, sample_weight: Any) -> Table:
        if y is None:
            raise ValueError(
                "the log-likelihood of a mixture of experts is that of y given X: pass y as well"
            )
        backend, X = self._opened(X)
        X = check_rows(self, X, reset=False, backend=backend)
        return Table.of(backend.doubled(), X, check_weights(sample_weight, X), self._check_y(y, len(X)))

    def _check_y(self, y: Any, rows: int) -> Float:
        """Targets as (N, M)."""
        Y = np.asarray(unmasked(to_host(y), "y"), dtype=np.float64)
        Y = Y[:, None] if Y.ndim == 1 else Y
        M = self._parameters.components.slopes.shape[1]
        if Y.shape != (rows, M):
            raise ValueError(f"y has shape {np.shape(y)}, but X has {rows} rows and the model {M} target(s)")
        if not np.isfinite(Y).all():
            raise ValueError("Input y contains NaN or infinity")
        if Y.size and np.abs(Y).max() > largest_spread(1):
            raise NotFiniteError("y")
        return Y

    def to_onnx(self, path: str | os.PathLike[str] | None = None, dtype: str = "float32") -> Any:
        """The predictions as a graph in ONNX, which other programs and devices run.

        Its input is ``X`` (N, D). Its outputs are ``mean`` and ``std`` of y, (N,) or (N, M), and ``probabilities``
        (N, K), the gate's.
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
            The gate, one of a user's own, has no graph.

        Examples
        --------
        >>> import numpy as np
        >>> from mixtura import MixtureOfExperts
        >>> x = np.linspace(-1, 1, 50)[:, None]
        >>> graph = MixtureOfExperts(2, random_state=0).fit(x, np.abs(x[:, 0])).to_onnx()
        >>> [output.name for output in graph.graph.output]
        ['mean', 'std', 'probabilities']
        """
        from mixtura.interop import onnx

        return onnx.of_experts(self, path, dtype)

    def _log_likelihood_per_row(self, X: Any, y: Any, sample_weight: Any) -> float:
        """Of the rows that were fitted; with priors, the objective."""
        return self.lower_bound_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_parameters")

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of experts, priors and gate, by name."""
        experts, gate = self._parameters.components, self._parameters.gate
        arrays = {f"experts.{name}": getattr(experts, name) for name in _EXPERTS}
        arrays |= {f"priors.{name}": getattr(experts.priors, name) for name in _PRIORS}
        arrays |= arrays_of(gate, "gate")
        return super()._arrays() | {name: np.asarray(a, order="C") for name, a in arrays.items()}

    def _values(self) -> dict[str, Any]:
        """The values of :class:`Saved`, and the gate's parameters."""
        spec = type(self._parameters.gate)(**self._parameters.gate.parameters)
        return {**super()._values(), "gate": spec}

    def _restore(
        self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], models: Sequence[Any]
    ) -> None:
        """Restore experts, priors and gate."""
        values = dict(values)
        gate = values.pop("gate")
        super()._restore(arrays, values, models)
        _, M, D = arrays["experts.slopes"].shape
        priors = Priors.of(self._specs(), M, D, self.empirical_bayes, self.prior_link).restored(
            **{name: arrays[f"priors.{name}"] for name in _PRIORS}
        )
        experts = LinearExperts(
            self.fit_intercept,
            self.noise == "shared",
            priors,
            **{name: arrays[f"experts.{name}"] for name in _EXPERTS},
        )
        self._parameters = Mixture(restored(gate, "gate", arrays), experts)

    def _check_unchanged(self, what: str) -> None:
        """Raise ValueError if parameters that say what model it is were set after the fit."""
        gate, experts = self._parameters.gate, self._parameters.components
        K, M, D = experts.slopes.shape
        wanted, specs = self._gate(), self._specs()
        changed = {
            "n_experts or experts": len(specs) != K,
            "gate": not wanted.same_as(gate),
            "noise": experts.shared_noise != (self.noise == "shared"),
            "fit_intercept": experts.intercept != self.fit_intercept,
        }
        if len(specs) == K:
            priors = Priors.of(specs, M, D, self.empirical_bayes, self.prior_link)
            changed["experts, empirical_bayes or prior_link"] = not priors.same_kind(experts.priors)
        for name, differs in changed.items():
            if differs:
                raise ValueError(
                    f"{what}: {name} was set after the fit: fit again, set it back, or clone the estimator"
                )

    def _check_state(self) -> None:
        """Raise ValueError unless parameters and fitted attributes are consistent."""
        self._validate_params()
        experts = self._parameters.components
        K, M, D = experts.slopes.shape
        wanted = {
            "anchor": (K, D),
            "level": (K, M),
            "posterior": (K, M, D, D),
            "noise": (K, M),
            "noise_floor": (M,),
            "dependent": (K,),
            "empty": (K,),
        }
        for name, shape in wanted.items():
            if getattr(experts, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(experts, name).shape}, not {shape}")
        if len(self._specs()) != K or self.n_features_in_ != D or self.weights_.shape != (K,):
            raise ValueError(f"the experts' slopes have shape {experts.slopes.shape}")
        self._check_unchanged("this model")
        finite = (experts.slopes, experts.anchor, experts.level, experts.posterior, self._host("weights_"))
        if not all(np.isfinite(a).all() for a in finite) or not np.all(experts.noise > 0.0):
            raise ValueError("the experts are not finite")
