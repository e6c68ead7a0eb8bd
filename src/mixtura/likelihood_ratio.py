"""How many components? A sequence of likelihood-ratio tests, whose distribution the bootstrap gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from mixtura import threads
from mixtura.array_kinds import to_host, unmasked
from mixtura.errors import NotFiniteError, SingularError
from mixtura.estimators import GaussianMixture
from mixtura.estimators.asked import AUTO_REG, scale_of
from mixtura.estimators.gaussian_search import apart
from mixtura.estimators.validation import check_in_memory, check_tol
from mixtura.many import FORMS, bounds_of_many

Float = NDArray[np.float64]

# Tables that are drawn and fitted before progress is told.
_TOGETHER = 50


@dataclass(frozen=True, eq=False)
class ComponentTests:
    """Tests of K components against K + 1, one after the other.

    Attributes
    ----------
    n_components : list of int
        K of each test.
    statistics : ndarray
        Twice the difference of the log-likelihoods.
    p_values : ndarray
    null : list of ndarray
        The statistics of the tables that were drawn under K components.
    chosen : int
        The first K that is not rejected; one more than the last, if all are.
    """

    n_components: list[int]
    statistics: Float
    p_values: Float
    null: list[Float]
    chosen: int

    def __str__(self) -> str:
        lines = ["components   statistic   p-value"]
        for k, value, p in zip(self.n_components, self.statistics, self.p_values, strict=True):
            lines.append(f"{k} vs {k + 1:<8} {value:>9.4g} {p:>9.3g}")
        return "\n".join([*lines, f"{self.chosen} components"])


def bootstrap_lrt(
    X: ArrayLike,
    n_components: int | Iterable[int] = range(1, 9),
    covariance_type: str = "full",
    *,
    n_bootstrap: int = 199,
    level: float = 0.05,
    tol: float | None = None,
    max_iter: int = 1000,
    reg_covar: float | str = "auto",
    init: str = "hierarchical",
    random_state: Any = 0,
    n_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ComponentTests:
    """Test one number of components after the other against one more, until one is not rejected.

    The likelihood ratio has no known distribution here. So tables are drawn from the fit with K components, and both
    fits are made again from the parameters found, to each of them (McLachlan 1987).

    Parameters
    ----------
    X : array-like of shape (N, D)
    n_components : int or iterable of int, default=1 to 8
    covariance_type : str, default='full'
    n_bootstrap : int, default=199
        Tables for each test; p-values are multiples of one over one more.
    level : float, default=0.05
        A test whose p-value is above this is the last.
    tol : float, default=None
        Change of the log-likelihood per row at which a fit is over. None: a hundred-thousandth of it, as in mclust.
    max_iter : int, default=1000
    reg_covar : float or 'auto', default='auto'
        As for :class:`GaussianMixture`; 'auto' suits any units.
    init : str, default='hierarchical'
        ``init_params`` of the fits to X.
    random_state : int, RandomState instance or None, default=0
    n_threads : int, default=None
        Tables are fitted side by side; the result does not depend on their number.
    progress : callable, optional
        Is called with K and the number of tables so far, after every fifty.

    Returns
    -------
    ComponentTests

    Raises
    ------
    ValueError
        A fit to X becomes singular, or a number is wrong.

    References
    ----------
    McLachlan (1987), On bootstrapping the likelihood ratio test statistic for the number of components in a normal
    mixture.

    Examples
    --------
    >>> import numpy as np, mixtura
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(120, 1)) + 5.0 * rng.integers(0, 2, size=(120, 1))
    >>> mixtura.bootstrap_lrt(X, n_bootstrap=39).chosen
    2
    """
    check_in_memory(X, "bootstrap_lrt")
    rows = np.asarray(unmasked(to_host(X), "X"))
    numbers = list(n_components) if np.iterable(n_components) else [n_components]
    whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) for k in numbers)
    if not numbers or not whole or numbers[0] < 1 or set(np.diff(numbers)) - {1}:
        raise ValueError(f"n_components must be consecutive positive integers, got {n_components!r}")
    whole = isinstance(n_bootstrap, int | np.integer) and not isinstance(n_bootstrap, bool)
    if not whole or n_bootstrap < 1 or not 0.0 < level < 1.0:
        raise ValueError(
            "n_bootstrap must be positive, a whole number, and level between 0 and 1, got "
            f"{n_bootstrap!r} and {level!r}"
        )
    workers = threads.checked(n_threads)
    check_tol(tol)
    if tol is None:
        tol = 1e-5 * abs(GaussianMixture(1, reg_covar=1e-12, tol=1.0).fit(rows).lower_bound_)
    how: dict[str, Any] = {
        "covariance_type": covariance_type,
        "tol": max(tol, 1e-300),
        "max_iter": max_iter,
        "reg_covar": reg_covar,
    }
    rng = check_random_state(random_state)

    def fitted(k: int) -> GaussianMixture:
        model = _quiet(GaussianMixture(k, init_params=init, random_state=0, **how), rows)
        if apart(model._mixture())[0].without_digits:
            raise SingularError(
                f"the fit with {k} components is singular: columns of X depend on each other. Leave some out, or "
                "increase reg_covar"
            )
        return model

    small, statistics, p_values, null = fitted(numbers[0]), list[float](), list[float](), list[Float]()
    for k in numbers:
        large = fitted(k + 1)
        observed = 2.0 * len(rows) * (large.lower_bound_ - small.lower_bound_)
        if not np.isfinite(observed) or np.all(rows == rows[0]):
            raise ValueError(
                f"the fits with {k} and {k + 1} components have no likelihood ratio: max_iter is 0, or all rows are "
                "equal"
            )
        values = list[float]()
        while len(values) < n_bootstrap:
            tables = _drawn(small, min(_TOGETHER, n_bootstrap - len(values)), len(rows), rng)
            bounds = [_bounds(model, tables, how, workers) for model in (small, large)]
            values += list(2.0 * len(rows) * (bounds[1] - bounds[0]))
            if progress is not None:
                progress(k, len(values))
        under = np.array([value for value in values if np.isfinite(value)])
        if not len(under):
            raise ValueError(
                f"no table drawn from the fit with {k} components could be fitted: increase reg_covar"
            )
        statistics.append(observed)
        p_values.append(float((1 + np.sum(under >= observed)) / (1 + len(under))))
        null.append(under)
        if p_values[-1] > level:
            break
        small = large
    tested = numbers[: len(p_values)]
    chosen = tested[-1] if p_values[-1] > level else tested[-1] + 1
    return ComponentTests(tested, np.array(statistics), np.array(p_values), null, chosen)


def _drawn(model: GaussianMixture, tables: int, rows: int, rng: np.random.RandomState) -> Float:
    """Tables drawn from a mixture, (T, N, D)."""
    together, _ = model.sample(tables * rows, random_state=rng)
    order = rng.permutation(len(together))  # a sample comes component by component
    return np.asarray(together[order].reshape(tables, rows, -1), dtype=np.float64)


def _bounds(model: GaussianMixture, tables: Float, how: dict[str, Any], workers: int) -> Float:
    """The bounds of fits to tables (T, N, D), from the parameters of the model; NaN where one became singular."""
    if how["covariance_type"] in FORMS and threads.native is not None:
        storage, D = model._covariance.storage, tables.shape[2]
        each = [how["reg_covar"]] * len(tables)
        if how["reg_covar"] == "auto":
            each = list(AUTO_REG * scale_of(tables.mean(axis=1), tables.var(axis=1)))
        added = np.stack([storage.added(number, D) for number in each])
        return bounds_of_many(
            tables, model, tol=how["tol"], max_iter=how["max_iter"], reg_covar=added, n_threads=workers
        )

    def bound(table: Float) -> float:
        try:
            return float(_again(model, how).fit(table).lower_bound_)
        except (SingularError, NotFiniteError):
            return np.nan

    # Outside of the threads, which would take each other's filters away.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.array(list(pool.map(bound, tables)))


def _quiet(model: GaussianMixture, rows: Any) -> GaussianMixture:
    """The model, fitted, without a warning that it has not converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows)
    return model


def _again(model: GaussianMixture, how: dict[str, Any]) -> GaussianMixture:
    """A mixture that starts where another has ended."""
    weights = np.asarray(model.weights_, dtype=np.float64)
    return GaussianMixture(
        len(weights),
        weights_init=weights / weights.sum(),
        means_init=model.means_,
        precisions_init=model.precisions_,
        n_threads=1,
        **how,
    )
