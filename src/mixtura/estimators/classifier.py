"""Discriminant analysis by mixtures: a density for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mixtura import backends
from mixtura.array_kinds import unmasked
from mixtura.components import COVARIANCES, Gaussians
from mixtura.components.gaussian import few_rows
from mixtura.errors import SingularError
from mixtura.estimators.asked import estimation_of
from mixtura.estimators.failing import as_before_if_it_fails
from mixtura.estimators.fitted_gaussians import check_proportions
from mixtura.estimators.gaussian_mixture import GaussianMixture
from mixtura.estimators.saved import Saved
from mixtura.estimators.validation import check_in_memory, check_weights, weighted_sum
from mixtura.gates import ConstantGate
from mixtura.mixture import Mixture
from mixtura.selecting import CRITERIA, families_of, select
from mixtura.table import Table

Float = NDArray[np.float64]

# Kinds of classes that a model file holds: truth values, numbers, words, and objects that are one of these.
_KINDS = "biufUO"


class MixtureClassifier(ClassifierMixin, Saved, BaseEstimator):
    """A classifier that models the rows of each class by a Gaussian mixture, or by one Gaussian.

    A new row belongs to the class c with the largest ``p_c f_c(x)``, with p the classes' shares.

    Parameters
    ----------
    n_components : int or sequence of int, default=(1, 2, 3, 4, 5)
        Numbers of components that each class may have. With 1, every class is one Gaussian, and all have the same
        family of covariances, whose parts they share (EDDA); otherwise family and number are chosen class by class
        (MclustDA), of those numbers that leave at least 2 (D + 1) rows of the class to each component, or the least if
        none does.
    covariance_types : 'all' or sequence of str, default='all'
    criterion : {'bic', 'icl', 'aic'} or callable, default='bic'
        By which families and numbers are chosen; a function as for :func:`mixtura.select`, where each class has its own
        choice.
    priors : array-like of shape (classes,), default=None
        Shares of the classes, in the order of ``classes_``; None takes those of the rows.
    reg_covar : float or 'auto', default=1e-6
        Added to the variances.
    random_state : int, RandomState instance or None, default=None
    n_threads : int, default=None

    Attributes
    ----------
    classes_ : ndarray
    priors_ : ndarray of shape (classes,)
    mixtures_ : list of GaussianMixture
        The density of each class.
    covariance_type_ : str
        The common family of all classes; only if each is one Gaussian.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,)

    References
    ----------
    Hastie, Tibshirani (1996), Discriminant analysis by Gaussian mixtures. Bensmail, Celeux (1996), Regularized Gaussian
    discriminant analysis through eigenvalue decomposition. Fraley, Raftery (2002), Model-based clustering, discriminant
    analysis, and density estimation.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import MixtureClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["ring", "disc"], 200)
    >>> angle, radius = rng.uniform(0, 2 * np.pi, 400), np.where(y == "ring", 5.0, 1.0) + 0.3 * rng.normal(size=400)
    >>> X = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    >>> MixtureClassifier(random_state=0).fit(X, y).score(X, y)
    1.0
    """

    _saved_arrays = ("priors_",)
    _saved_values = ("classes_", "covariance_type_", "n_features_in_")

    def __init__(
        self,
        n_components: int | Sequence[int] = (1, 2, 3, 4, 5),
        *,
        covariance_types: str | Sequence[str] = "all",
        criterion: str = "bic",
        priors: ArrayLike | None = None,
        reg_covar: float = 1e-6,
        random_state: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_types = covariance_types
        self.criterion = criterion
        self.priors = priors
        self.reg_covar = reg_covar
        self.random_state = random_state
        self.n_threads = n_threads

    @as_before_if_it_fails
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MixtureClassifier:
        """Fit a density to each class.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : array-like of shape (N,)
            Classes.
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            A class has fewer than two rows, or priors do not fit.
        """
        check_in_memory(X, "MixtureClassifier")
        rows, answers = validate_data(
            self,
            unmasked(X, "X"),
            unmasked(y, "y"),
            dtype=[np.float64, np.float32],
            ensure_min_samples=2,
        )
        check_classification_targets(answers)
        weights = check_weights(sample_weight, rows)
        numbers = self._numbers()
        if self.criterion not in CRITERIA and not (callable(self.criterion) and numbers != [1]):
            raise ValueError(
                f"criterion must be one of {', '.join(CRITERIA)}, or a function where each class has its own fit, "
                f"got {self.criterion!r}"
            )
        if weights is not None:  # rows of weight 0 are not there
            rows, answers, weights = rows[weights > 0.0], answers[weights > 0.0], weights[weights > 0.0]
        self.classes_, codes = np.unique(answers, return_inverse=True)
        shares = np.bincount(codes, weights).astype(np.float64)
        few = (np.bincount(codes) < 2) & (shares < 2.0)  # a row of weight 2 is two rows
        if few.any():
            raise ValueError(
                f"class {self.classes_.tolist()[int(np.argmax(few))]!r} has one row: a density needs two"
            )
        self.priors_ = self._checked_priors(shares / shares.sum())
        if numbers == [1]:
            self._fit_together(rows, codes, weights)
        else:
            self.__dict__.pop("covariance_type_", None)
            self.mixtures_ = [self._fitted(rows, weights, codes == c) for c in range(len(self.classes_))]
        return self

    def _numbers(self) -> list[int]:
        """Numbers of components."""
        numbers = np.ravel(np.asarray(self.n_components))
        if not len(numbers) or numbers.dtype.kind not in "iu" or (numbers < 1).any():
            raise ValueError(f"n_components must be positive integers, got {self.n_components!r}")
        return [int(k) for k in numbers]

    def _checked_priors(self, shares: Float) -> Float:
        if self.priors is None:
            return shares
        priors = np.asarray(self.priors, dtype=np.float64)
        if priors.shape != shares.shape or not np.all(priors >= 0.0) or not np.isclose(priors.sum(), 1.0):
            raise ValueError(f"priors must be {len(shares)} numbers that sum to 1, got {self.priors!r}")
        return priors / priors.sum()

    def _fitted(self, rows: Any, weights: Float | None, own: NDArray[np.bool_]) -> GaussianMixture:
        """The chosen mixture of one class."""
        points, of_points = _two_at_least(rows[own], None if weights is None else weights[own])
        # More components than one for so many rows find spikes of a few rows, not the class.
        # Of weights that are no counts, as those that sum to 1, only the ratios say something.
        count = max(len(points), 0.0 if of_points is None else float(of_points.sum()))
        most = min(max(int(count // few_rows(rows.shape[1])), 1), len(points))
        numbers = [k for k in self._numbers() if k <= most] or [min(*self._numbers(), len(points) - 1)]
        return select(
            points,
            numbers,
            self.covariance_types,
            self.criterion,
            sample_weight=of_points,
            reg_covar=self.reg_covar,
            random_state=self.random_state,
            n_threads=self.n_threads,
        ).best_

    def _fit_together(self, rows: Any, codes: NDArray[np.intp], weights: Float | None) -> None:
        """One Gaussian for each class, of the common family with the least criterion."""
        K, best = len(self.classes_), None
        table = Table.of(backends.create(), rows, weights)
        total = table.total_weight

        def of_class(block: Table) -> Float:
            return np.asarray(codes[block.cut, None] == np.arange(K), dtype=np.float64)

        for name in families_of(self.covariance_types, rows.shape):
            family = COVARIANCES[name]
            moments = table.accumulate(of_class, K, family.kind)
            try:
                estimation = estimation_of(GaussianMixture(reg_covar=self.reg_covar), table)[0]
                found = Gaussians.from_moments(family, moments, estimation)
            except SingularError:
                continue
            if found.without_digits:
                continue
            joint = Mixture(ConstantGate.from_moments(moments), found).joint
            objective = table.expect(joint, "mass").log_likelihood
            n = family.n_parameters(K, rows.shape[1]) + K * rows.shape[1] + K - 1
            value = -2.0 * objective + (2.0 if self.criterion == "aic" else np.log(total)) * n
            if self.criterion == "icl":
                surest = table.assign(joint)[1] - table.posterior(joint)  # log max_c r_ic
                value -= 2.0 * weighted_sum(surest, weights)[0]
            if best is None or value < best[0]:
                best = value, name, found
        if best is None:
            raise ValueError("every family is singular: increase reg_covar")
        _, self.covariance_type_, found = best
        dense = found.covariance.storage.dense(found.covariances, K, rows.shape[1])
        self.mixtures_ = [
            GaussianMixture(
                1,
                weights_init=[1.0],
                means_init=found.means[[k]],
                precisions_init=np.linalg.inv(dense[k])[None],
                max_iter=0,
            ).fit(_two_at_least(rows[codes == k], None)[0])
            for k in range(K)
        ]

    def _log_joint(self, X: ArrayLike) -> Float:
        """``log p_c + log f_c(x)``, (N, classes)."""
        check_is_fitted(self)
        rows = validate_data(self, unmasked(X, "X"), dtype=[np.float64, np.float32], reset=False)
        densities = np.column_stack([mixture.score_samples(rows) for mixture in self.mixtures_])
        with np.errstate(divide="ignore"):
            return np.asarray(densities.astype(np.float64) + np.log(self.priors_))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most likely class of each row.

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        joint = self._log_joint(X)
        return np.asarray(self.classes_[joint.argmax(axis=1)])

    def predict_log_proba(self, X: ArrayLike) -> Float:
        """Log-probability of each class, (N, classes).

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        joint = self._log_joint(X)
        top = joint.max(axis=1, keepdims=True)
        return np.asarray(joint - top - np.log(np.exp(joint - top).sum(axis=1, keepdims=True)))

    def predict_proba(self, X: ArrayLike) -> Float:
        """Probability of each class, (N, classes).

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        return np.exp(self.predict_log_proba(X))

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Share of the rows whose class is predicted rightly.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : array-like of shape (N,)
        sample_weight : array-like of shape (N,), default=None
        """
        return float(super().score(X, y, sample_weight))

    def score_samples(self, X: ArrayLike) -> Float:
        """Log-density of each row under the mixture of all classes, (N,).

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        joint = self._log_joint(X)
        top = joint.max(axis=1)
        return np.asarray(top + np.log(np.exp(joint - top[:, None]).sum(axis=1)))

    # ------------------------------------------------------------------ model files

    def _values(self) -> dict[str, Any]:
        """The values of :class:`Saved`, with the type of the classes."""
        if self.classes_.dtype.kind not in _KINDS:
            raise TypeError(f"a model file cannot hold classes of type {self.classes_.dtype}")
        return {**super()._values(), "type of classes": self.classes_.dtype.str}

    def _restore(
        self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], models: Sequence[Any]
    ) -> None:
        """Set what was saved."""
        values = dict(values)
        kind = np.dtype(str(values.pop("type of classes")))
        if kind.kind not in _KINDS:
            raise ValueError(f"classes of type {kind}")
        super()._restore(arrays, values, [])
        self.classes_ = np.array(values["classes_"], dtype=kind)
        self.mixtures_ = list(models)

    @property
    def _models(self) -> list[Any]:
        return self.mixtures_

    def _check_state(self) -> None:
        """Raise ValueError unless there is a mixture of all columns, and a share, for each class."""
        K = len(self.classes_)
        if self.classes_.ndim != 1 or K < 1 or len(self.mixtures_) != K or self.priors_.shape != (K,):
            raise ValueError(
                f"{K} classes have {len(self.mixtures_)} mixtures and shares of shape {self.priors_.shape}"
            )
        check_proportions(self.priors_)
        for mixture in self.mixtures_:
            if not isinstance(mixture, GaussianMixture) or mixture.n_features_in_ != self.n_features_in_:
                raise ValueError("each class must have a Gaussian mixture of all columns")

    def _answers(self, X: Any, probabilities: bool) -> dict[str, NDArray[Any]]:
        """The class of each row, and the probability of each class, by column name."""
        answers = {"label": self.predict(X)}
        if probabilities:
            columns = self.predict_proba(X).T
            answers |= {f"proba_{c}": column for c, column in zip(self.classes_, columns, strict=True)}
        return answers

    def summary(self) -> str:
        """Return a text table: share, family and number of components of each class."""
        check_is_fitted(self)
        lines = [
            f"{'class':<16}{'share':>8}{'family':>8}{'components':>12}",
            *(
                f"{str(c)[:15]:<16}{p:>8.3f}{self._family_of(m):>8}{len(m.weights_):>12}"
                for c, p, m in zip(self.classes_.tolist(), self.priors_, self.mixtures_, strict=True)
            ),
        ]
        return "\n".join(["MixtureClassifier", "=" * len(lines[0]), *lines])

    def _family_of(self, mixture: GaussianMixture) -> str:
        """Name of the family of a class: the common one, if all share parts."""
        return str(getattr(self, "covariance_type_", mixture.covariance_type))


def _two_at_least(rows: Any, weights: Float | None) -> tuple[Any, Float | None]:
    """The rows, of which a single one, of weight 2 or more, becomes two."""
    if len(rows) > 1:
        return rows, weights
    return np.repeat(rows, 2, axis=0), None if weights is None else np.repeat(weights / 2.0, 2)
