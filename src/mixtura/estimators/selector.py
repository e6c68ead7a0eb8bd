"""The choice of a Gaussian mixture as an estimator, for pipelines and searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin, DensityMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mixtura.array_kinds import unmasked
from mixtura.estimators.failing import as_before_if_it_fails
from mixtura.estimators.gaussian_mixture import GaussianMixture
from mixtura.estimators.saved import Saved
from mixtura.estimators.validation import check_in_memory
from mixtura.selecting import Criterion, Selection, select

Float = NDArray[np.float64]

# Fields of a selection that are arrays of numbers, and those that are lists of words or numbers.
_TABLES, _LISTS = (
    ("values", "log_likelihood", "n_parameters"),
    ("covariance_types", "n_components", "criterion", "status"),
)


class GaussianMixtureSelector(ClusterMixin, DensityMixin, Saved, BaseEstimator):
    """A Gaussian mixture whose family and number of components are chosen by a criterion: see :func:`mixtura.select`.

    Parameters
    ----------
    n_components : int or sequence of int, default=(1, ..., 9)
    covariance_types : 'all' or sequence of str, default='all'
    criterion : {'bic', 'icl', 'aic'} or callable, default='bic'
    init : str, default='hierarchical'
    nested : bool, default=False
    early : bool, default=False
    tol : float, default=None
    reg_covar : float, default=0.0
    max_iter : int, default=1000
    random_state : int, RandomState instance or None, default=None
    n_threads : int, default=None
        All as for :func:`mixtura.select`.

    Attributes
    ----------
    selection_ : Selection
    best_estimator_ : GaussianMixture
        The fit with the least criterion.
    labels_ : ndarray of shape (N,)
    n_iter_ : int
        Of the best fit.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mixtura import GaussianMixtureSelector
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2)) + 8.0 * rng.integers(0, 2, size=(200, 1))
    >>> pipe = make_pipeline(StandardScaler(), GaussianMixtureSelector(range(1, 4), random_state=0)).fit(X)
    >>> pipe[-1].best_estimator_.n_components
    2
    """

    _saved_arrays = ("labels_",)
    _saved_values = ("n_iter_", "n_features_in_")

    def __init__(
        self,
        n_components: int | Sequence[int] = tuple(range(1, 10)),
        *,
        covariance_types: str | Sequence[str] = "all",
        criterion: Criterion = "bic",
        init: str = "hierarchical",
        nested: bool = False,
        early: bool = False,
        tol: float | None = None,
        reg_covar: float = 0.0,
        max_iter: int = 1000,
        random_state: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_types = covariance_types
        self.criterion = criterion
        self.init = init
        self.nested = nested
        self.early = early
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_threads = n_threads

    @as_before_if_it_fails
    def fit(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> GaussianMixtureSelector:
        """Fit all mixtures, and keep the best.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        self
        """
        check_in_memory(X, "GaussianMixtureSelector")
        rows = validate_data(self, unmasked(X, "X"), dtype=[np.float64, np.float32], ensure_min_samples=2)
        numbers = self.n_components
        self.selection_ = select(
            rows,
            [numbers] if isinstance(numbers, int | np.integer) else numbers,
            self.covariance_types,
            self.criterion,
            init=self.init,
            nested=self.nested,
            early=self.early,
            sample_weight=sample_weight,
            tol=self.tol,
            reg_covar=self.reg_covar,
            max_iter=self.max_iter,
            random_state=self.random_state,
            n_threads=self.n_threads,
        )
        self.best_estimator_ = self.selection_.best_
        self.labels_ = self.best_estimator_.predict(rows)
        self.n_iter_ = self.best_estimator_.n_iter_
        return self

    def _checked(self, X: ArrayLike) -> tuple[GaussianMixture, Any]:
        """The best fit, and rows for it."""
        check_is_fitted(self)
        rows = validate_data(self, unmasked(X, "X"), dtype=[np.float64, np.float32], reset=False)
        return self.best_estimator_, rows

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Most likely component of each row.

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        best, rows = self._checked(X)
        return np.asarray(best.predict(rows))

    def predict_proba(self, X: ArrayLike) -> Float:
        """Probability of each component, (N, K).

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        best, rows = self._checked(X)
        return np.asarray(best.predict_proba(rows))

    def score_samples(self, X: ArrayLike) -> Float:
        """Log-density of each row, (N,).

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        best, rows = self._checked(X)
        return np.asarray(best.score_samples(rows))

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Mean log-density of the rows.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        """
        best, rows = self._checked(X)
        return float(best.score(rows))

    def summary(self) -> str:
        """Return the best fits by the criterion, and the summary of the best, as text."""
        check_is_fitted(self)
        best = "\n".join(f"{family:<16}{K:>4}{value:>16.4f}" for family, K, value in self.selection_.top(3))
        return f"{self.selection_.criterion} of the best\n{best}\n\n{self.best_estimator_.summary()}"

    # ------------------------------------------------------------------ model files

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of :class:`Saved`, and those of the selection."""
        table = {f"selection.{name}": getattr(self.selection_, name) for name in _TABLES}
        return super()._arrays() | table

    def _values(self) -> dict[str, Any]:
        """The values of :class:`Saved`, and those of the selection."""
        table = {f"selection.{name}": getattr(self.selection_, name) for name in _LISTS}
        return super()._values() | table

    def _restore(
        self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], models: Sequence[Any]
    ) -> None:
        """Set what was saved."""
        table = {name: values[f"selection.{name}"] for name in _LISTS}
        table |= {name: arrays[f"selection.{name}"] for name in _TABLES}
        table["status"] = np.array(table["status"], dtype=object)
        super()._restore(arrays, {k: v for k, v in values.items() if not k.startswith("selection.")}, [])
        (self.best_estimator_,) = models
        self.selection_ = Selection(best_=self.best_estimator_, **table)

    @property
    def _models(self) -> list[Any]:
        return [self.best_estimator_]

    def _check_state(self) -> None:
        """Raise ValueError unless the best fit is one of all columns, and the table whole."""
        best, table = self.best_estimator_, self.selection_
        if not isinstance(best, GaussianMixture) or best.n_features_in_ != self.n_features_in_:
            raise ValueError("the best fit must be a Gaussian mixture of all columns")
        shape = (len(table.covariance_types), len(table.n_components))
        for name in (*_TABLES, "status"):
            if np.shape(getattr(table, name)) != shape:
                raise ValueError(f"{name} has shape {np.shape(getattr(table, name))}, not {shape}")
