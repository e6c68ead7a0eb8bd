"""Which family of covariances, and how many components: fits of all that come into question, side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from mixtura import backends, threads
from mixtura.components import COVARIANCES, Gaussians
from mixtura.components.families import ALL, OF_ONE_COLUMN, SECOND_START, WITHIN, check_columns
from mixtura.errors import NotFiniteError, SingularError
from mixtura.estimators import GaussianMixture
from mixtura.estimators.asked import estimation_of, first_values
from mixtura.estimators.gaussian_search import apart
from mixtura.estimators.validation import check_in_memory, check_rows, check_tol, check_weights, weighted_sum
from mixtura.gates import ConstantGate
from mixtura.hierarchical import Tree
from mixtura.mixture import Mixture
from mixtura.starts import rows_of_tree, tree_of
from mixtura.table import Responsibilities, Table

__all__ = ["CRITERIA", "Selection", "select"]

Float = NDArray[np.float64]
Criterion = str | Callable[[GaussianMixture, Any], float]

# Change of the log-likelihood, as a share of it, at which a fit is over by default: mclust's rule.
_TOL = 1e-5

# Numbers in a table from which on fits are worth threads of their own.
_WORTH_THREADS = 20_000

# The best fit goes on to see whether it holds: with so much of the tolerance, for at most so many iterations.
_FURTHER, _MUCH_FURTHER = 1e-4, 2000

_SPURIOUS = "spurious: a component sits on a few rows"
_EARLY = "ended early: it cannot win"

# Fits that may end early have so many iterations at first, and then so many times as many from one look to the next.
_FIRST_LEG, _GROWTH = 8, 2

# A fit is taken to gain at most so many times what its last steps foretell, if each shrinks as the last one did; and
# what is foretold of steps that hardly shrink.
_GENEROUS, _HARDLY = 5.0, 0.99

# Log-likelihood per row by which a family may lie below one that it contains, before it is fitted again from there.
_BELOW = 1e-6


def _spurious(model: GaussianMixture, X: Any, sample_weight: Any) -> bool:
    """Whether a component sits on a few rows."""
    return model._on_a_few(len(X) if sample_weight is None else int(np.count_nonzero(sample_weight)))


def _doubt(model: GaussianMixture, X: Any, sample_weight: Any) -> float:
    """``-2 sum_i w_i log max_k r_ik``: by how much ICL charges more than BIC."""
    return -2.0 * weighted_sum(np.log(model.predict_proba(X).max(axis=1)), sample_weight)[0]


CRITERIA = ("bic", "icl", "aic")

# Those that a higher likelihood always lowers.
_MONOTONE = ("bic", "aic")


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """Fits of families × numbers of components.

    Attributes
    ----------
    covariance_types : list of str
    n_components : list of int
    criterion : str
        The criterion's name; less is better.
    values : ndarray of shape (families, numbers)
        The criterion; NaN where there is no fit.
    log_likelihood : ndarray of the same shape
        Of all rows.
    n_parameters : ndarray of int of the same shape
    status : ndarray of str of the same shape
        'converged', 'not converged', or why there is no fit, or why it does not count. The criterion of a fit that
        ended early is what it had reached.
    best_ : GaussianMixture
        The fit with the least criterion.
    """

    covariance_types: list[str]
    n_components: list[int]
    criterion: str
    values: Float
    log_likelihood: Float
    n_parameters: NDArray[np.int64]
    status: NDArray[Any]
    best_: GaussianMixture

    def top(self, n: int = 3) -> list[tuple[str, int, float]]:
        """The best fits: family, number of components, criterion.

        Parameters
        ----------
        n : int, default=3
        """
        flat = np.where(self._counts, self.values, np.nan).ravel()
        order = [int(i) for i in np.argsort(flat, kind="stable")[:n] if not np.isnan(flat[i])]
        columns = len(self.n_components)
        return [
            (self.covariance_types[i // columns], self.n_components[i % columns], float(flat[i]))
            for i in order
        ]

    @property
    def _counts(self) -> NDArray[np.bool_]:
        return np.isin(self.status, ("converged", "not converged"))

    @property
    def table(self) -> Any:
        """A ``pyarrow.Table`` with a row for each fit: family, number, criterion, likelihood, parameters, status."""
        try:
            import pyarrow
        except ImportError as error:
            raise ImportError("tables need pyarrow: pip install 'mixtura[io]'") from error
        families, numbers = len(self.covariance_types), len(self.n_components)
        return pyarrow.table(
            {
                "covariance_type": np.repeat(self.covariance_types, numbers),
                "n_components": np.tile(self.n_components, families),
                self.criterion: self.values.ravel(),
                "log_likelihood": self.log_likelihood.ravel(),
                "n_parameters": self.n_parameters.ravel(),
                "status": self.status.ravel(),
            }
        )

    def __repr__(self) -> str:
        lines = [f"{self.criterion} of {self._counts.sum()} fits, less is better", ""]
        lines.append("    " + "".join(f"{k:>10}" for k in self.n_components))
        for name, row, counts in zip(self.covariance_types, self.values, self._counts, strict=True):
            cells = (f"{v:>10.1f}" if ok else f"{'-':>10}" for v, ok in zip(row, counts, strict=True))
            lines.append(f"{name:<4}" + "".join(cells))
        lines.append("")
        lines += [
            f"{place + 1}. {name}, {k}: {value:.2f}" for place, (name, k, value) in enumerate(self.top())
        ]
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Draw the criterion over the number of components, a line for each family.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        mixtura.plotting.SelectionDisplay
        """
        from mixtura.plotting import SelectionDisplay

        return SelectionDisplay.from_selection(self, ax=ax)


def select(
    X: ArrayLike,
    n_components: Iterable[int] = range(1, 10),
    covariance_types: str | Sequence[str] = "all",
    criterion: Criterion = "bic",
    *,
    init: str = "hierarchical",
    nested: bool = False,
    early: bool = False,
    sample_weight: ArrayLike | None = None,
    tol: float | None = None,
    reg_covar: float = 0.0,
    max_iter: int = 1000,
    random_state: Any = 0,
    n_threads: int | None = None,
    **parameters: Any,
) -> Selection:
    """Fit Gaussian mixtures of several families and sizes, and choose the best by a criterion.

    All fits with the same number of components start from the same groups, and run side by side on threads. Where EVE
    is fitted too, VVE has a second start: EVE's fit, which shares its axes among the components as well. The better of
    both counts; with ``early``, the better after eight iterations.

    Parameters
    ----------
    X : array-like of shape (N, D)
    n_components : iterable of int, default=1 to 9
    covariance_types : 'all' or sequence of str, default='all'
        'all': mclust's fourteen families, for one column 'E' and 'V', and with no more rows than columns those along
        the axes.
    criterion : {'bic', 'icl', 'aic'} or callable, default='bic'
        Less is better. A function takes the fitted model and X.
    init : {'hierarchical', 'auto', 'kmeans', ...}, default='hierarchical'
        'hierarchical': groups of one tree (:mod:`mixtura.hierarchical`), of 2000 rows at random if there are more. Else
        as ``GaussianMixture(init_params=...)``, for each fit by itself.
    nested : bool, default=False
        Whether a fit that ends below that of a family which it contains is made again from there. The table's
        likelihoods are then in the order of the families, and often higher than mclust's.
    early : bool, default=False
        Whether fits whose criterion cannot become the least end before they have converged, which saves much of the
        time: after 8, 16, 32, ... iterations those stop that would lose even if they gained five times what their last
        steps foretell, and what BIC charges for a component. For the criteria 'bic' and 'aic', and not with ``nested``.
    sample_weight : array-like of shape (N,), default=None
        The tree does not look at weights, but leaves out rows of weight 0.
    tol : float, default=None
        Change of the log-likelihood per row at which a fit is over. None: a hundred-thousandth of it, as in mclust,
        which is early where clusters overlap.
    reg_covar : float, default=0
        Added to variances. With 0, families that are singular have that status and are left out.
    max_iter : int, default=1000
    random_state : int, RandomState instance or None, default=0
    n_threads : int, default=None
    **parameters
        Others of :class:`mixtura.GaussianMixture`.

    Returns
    -------
    Selection

    Raises
    ------
    ValueError
        X is not finite, a name is unknown, no fit succeeds, or ``early`` goes with another criterion or ``nested``.

    References
    ----------
    Fraley, Raftery (2002), Model-based clustering, discriminant analysis, and density estimation. Biernacki, Celeux,
    Govaert (2000), Assessing a mixture model for clustering with the integrated completed likelihood.

    Examples
    --------
    >>> import numpy as np, mixtura
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2)) * [1.0, 3.0] + 8.0 * rng.integers(0, 3, size=(300, 1))
    >>> found = mixtura.select(X, range(1, 6))
    >>> found.best_.n_components, found.best_.covariance_type
    (3, 'EEI')
    """
    numbers = _numbers(n_components)
    check_in_memory(X, "select")
    backend = backends.for_rows(X, parameters.get("backend", "auto"))
    named = GaussianMixture()  # keeps the columns' names
    rows = check_rows(named, X, reset=True, min_rows=2, backend=backend)
    weights = check_weights(sample_weight, rows)
    families = families_of(covariance_types, rows.shape)
    if not callable(criterion) and criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)} or a function, got {criterion!r}")
    if early and (nested or criterion not in _MONOTONE):
        raise ValueError(
            "early=True is for the criteria 'bic' and 'aic', which a higher likelihood lowers, and does not go with "
            "nested=True, which needs whole fits"
        )
    table, rng = Table.of(backend, rows, weights), check_random_state(random_state)
    seed = int(rng.randint(1 << 31))
    check_tol(tol)
    starts = _Starts.of(table, rng) if init == "hierarchical" else None
    if tol is None:
        tol = _TOL * abs(
            GaussianMixture(1, reg_covar=1e-12, tol=1.0).fit(rows, sample_weight=weights).lower_bound_
        )
    how = {
        "tol": max(float(tol), 1e-300),
        "reg_covar": reg_covar,
        "max_iter": max_iter,
        "random_state": seed,
        "n_threads": 1,
        "init_params": "kmeans" if starts is not None else init,
        **parameters,
    }
    cells = [_Cell(name, k) for name in families for k in numbers]
    workers = threads.checked(n_threads)
    if len(rows) * rows.shape[1] < _WORTH_THREADS:
        workers = 1  # Python does most of the work of small fits, on one thread at a time
    with ThreadPoolExecutor(workers) as pool:
        longest = sorted(cells, key=lambda cell: (not COVARIANCES[cell.family].slow, -cell.components))
        first = {**how, "max_iter": min(_FIRST_LEG, max_iter)} if early else how
        list(pool.map(lambda cell: cell.fit(rows, weights, first, starts), longest))
        of = {(cell.family, cell.components): cell for cell in cells}
        twice = [
            (of[name, k], of.get((other, k)))
            for name, other in SECOND_START.items()
            if name in families
            for k in numbers
        ]
        list(pool.map(lambda pair: pair[0].start_again(pair[1], rows, weights, first), twice))
        for cell in cells:
            if cell.model is not None:
                cell.model.set_params(max_iter=max_iter)
        for name in families if nested else ():  # each after those that it contains
            again = [of[name, k] for k in numbers]
            within = [[of[n, k] for n in WITHIN.get(name, ()) if (n, k) in of] for k in numbers]
            jobs = zip(again, within, strict=True)
            list(pool.map(lambda job: job[0].improve(job[1], rows, weights, how, table), jobs))
        list(pool.map(lambda cell: cell.judge(rows, weights, criterion), cells))
        while True:
            if early:
                _raced(pool, longest, rows, weights, how, criterion)
            winner = _winner(cells)
            if winner is None or winner.holds(rows, weights, how):
                break
    if winner is not None and hasattr(named, "feature_names_in_"):
        assert winner.model is not None
        winner.model.feature_names_in_ = named.feature_names_in_
    return _selection(cells, families, numbers, criterion)


def _numbers(n_components: Iterable[int]) -> list[int]:
    numbers = list(n_components) if np.iterable(n_components) else [n_components]
    whole = [isinstance(k, int | np.integer) and not isinstance(k, bool) for k in numbers]
    if not numbers or not all(whole) or min(numbers) < 1:
        raise ValueError(f"n_components must be positive integers, got {n_components!r}")
    return sorted({int(k) for k in numbers})


def families_of(names: str | Sequence[str], shape: tuple[int, ...]) -> list[str]:
    """The families' names, each after those that it contains."""
    N, D = shape
    if isinstance(names, str):
        every = OF_ONE_COLUMN if D == 1 else ALL[:6] if N <= D else ALL
        names = every if names == "all" else [names]
    unknown = [name for name in names if name not in COVARIANCES]
    if unknown or not len(names):
        raise ValueError(f"unknown covariance_type {unknown}; known are {', '.join(COVARIANCES)}")
    for name in names:
        check_columns(name, D)
    return sorted(dict.fromkeys(names), key=lambda name: ALL.index(name) if name in ALL else len(ALL))


@dataclass(frozen=True)
class _Starts:
    """Groups of one tree of rows."""

    subset: Table
    tree: Tree

    @classmethod
    def of(cls, table: Table, rng: np.random.RandomState) -> _Starts:
        subset = rows_of_tree(table, rng)
        return cls(subset, tree_of(subset))


class _Cell:
    """One fit of the table."""

    def __init__(self, family: str, components: int) -> None:
        self.family, self.components = family, components
        self.model: GaussianMixture | None = None
        self.status, self.value, self.log_likelihood = "", np.nan, np.nan

    def fit(self, rows: Any, weights: Any, how: dict[str, Any], starts: _Starts | None) -> None:
        """Fit from the groups, or by the estimator's own start."""
        K = self.components
        counted = len(rows) if weights is None else np.count_nonzero(weights)
        if counted < K:
            self.status = "fewer rows than components"
        elif counted == K:
            self.status = "singular"  # each row its own component: no variance, but for rounding
        elif starts is None:
            self.model, self.status = self._fitted(rows, weights, how, {})
        elif starts.tree.rows < K:
            self.status = "fewer rows in the tree than components"
        else:
            labels = starts.tree.labels(K)
            resp: Responsibilities = lambda block: np.eye(K)[labels[block.cut]]  # noqa: E731
            self._from(starts.subset, resp, rows, weights, how)

    def _from(
        self, table: Table, resp: Responsibilities, rows: Any, weights: Any, how: dict[str, Any]
    ) -> None:
        """Fit from the M-step of responsibilities on a table."""
        family = COVARIANCES[self.family]
        model = GaussianMixture(self.components, covariance_type=self.family, **how)
        try:
            moments = table.accumulate(resp, self.components, family.kind)
            first = Gaussians.from_moments(family, moments, estimation_of(model, table)[0])
            gate = ConstantGate.from_moments(moments)
        except SingularError:
            self.model, self.status = None, "singular"
            return
        given = {
            "weights_init": gate.weights / gate.weights.sum(),
            "means_init": first.means,
            "precisions_init": family.storage.precisions(first.precisions_cholesky),
        }
        self.model, self.status = self._fitted(rows, weights, how, given)

    def _fitted(
        self, rows: Any, weights: Any, how: dict[str, Any], given: dict[str, Float]
    ) -> tuple[GaussianMixture | None, str]:
        model = GaussianMixture(self.components, covariance_type=self.family, **{**how, **given})
        try:
            if given:
                # An earlier fit may be so nearly singular that its precisions are not definite.
                first_values(model, rows.shape[1])
        except ValueError:
            return None, "singular"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(rows, sample_weight=weights)
        except (SingularError, np.linalg.LinAlgError):
            return None, "singular"
        except NotFiniteError:
            return None, "not finite"
        if apart(model._mixture())[0].without_digits:
            return None, "singular"
        model.set_params(**dict.fromkeys(given), n_threads=None)
        return model, "converged" if model.converged_ else "not converged"

    def foreseen(self, rows: Any, weights: Any) -> float:
        """The least criterion that a fit which has not converged is given a chance of.

        EM may rest on a plateau and then find a better place for a component: a fit may at least gain what BIC charges
        for one.
        """
        assert self.model is not None
        bounds = self.model.lower_bounds_
        gain = np.inf
        if len(bounds) > 2 and bounds[-2] > bounds[-3]:
            ratio = (bounds[-1] - bounds[-2]) / (bounds[-2] - bounds[-3])
            if ratio < 1.0:  # else the steps grow, and nobody knows how far they lead
                ratio = min(ratio, _HARDLY)
                gain = _GENEROUS * (bounds[-1] - bounds[-2]) * ratio / (1.0 - ratio)
        total = _total(rows, weights)
        of_component = self.model._n_parameters() / self.components * np.log(total)
        return float(self.value - max(2.0 * total * gain, of_component))

    def go_on(self, rows: Any, weights: Any, how: dict[str, Any], criterion: Criterion) -> None:
        """Go on until the fit has had twice as many iterations as now."""
        model = self.model
        assert model is not None
        done = model.lower_bounds_
        more = min(_GROWTH * len(done), how["max_iter"]) - len(done)
        model.set_params(warm_start=True, max_iter=more, n_threads=1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(rows, sample_weight=weights)
        except SingularError:
            self.model, self.status, self.value = None, "singular", np.nan
            return
        model.set_params(warm_start=False, max_iter=how["max_iter"], n_threads=None)
        model.lower_bounds_ = [*done, *model.lower_bounds_]
        model.n_iter_ = len(model.lower_bounds_)
        self.status = "converged" if model.converged_ else "not converged"
        self.judge(rows, weights, criterion)

    def improve(
        self, within: Sequence[_Cell], rows: Any, weights: Any, how: dict[str, Any], table: Table
    ) -> None:
        """Fit again from the best of the families that this one contains, if that is better."""
        others = [cell.model for cell in within if cell.model is not None]
        if not others:
            return
        best = max(others, key=lambda model: model.lower_bound_)
        own = -np.inf if self.model is None else self.model.lower_bound_
        if own >= best.lower_bound_ - _BELOW:
            return
        before = self.model, self.status
        mixture: Mixture[Any, Any] = best._mixture()
        found = mixture.expect(table)
        # Noise is the last of the components, and starts anew.
        resp: Responsibilities = lambda block: found.weighted_with(block)[:, : self.components]  # noqa: E731
        self._from(table, resp, rows, weights, how)
        if self.model is None or self.model.lower_bound_ <= own:
            self.model, self.status = before

    def start_again(self, other: _Cell | None, rows: Any, weights: Any, how: dict[str, Any]) -> None:
        """Fit once more from the parameters of another fit, which this family contains, and keep the better fit."""
        if other is None or other.model is None or other.model._has_noise or self.components == 1:
            return
        model, status = self._fitted(rows, weights, how, _parameters(other.model))
        if model is None or _spurious(model, rows, weights):
            return
        own = self.model
        if own is None or _spurious(own, rows, weights) or model.lower_bound_ > own.lower_bound_:
            self.model, self.status = model, status

    def holds(self, rows: Any, weights: Any, how: dict[str, Any]) -> bool:
        """Whether the fit stays what it is when it goes on; else its status becomes 'singular'.

        A component may be on its way to a singular covariance, with a likelihood that grows without bound, when a rough
        tolerance ends the fit: on rows that are rounded, for instance.
        """
        assert self.model is not None
        model = self.model
        if model._has_noise:
            return True
        further = {**how, "tol": min(how["tol"] * _FURTHER, 1e-7), "max_iter": _MUCH_FURTHER}
        went, status = self._fitted(rows, weights, further, _parameters(model))
        if went is not None and not _spurious(went, rows, weights):
            return True
        self.status = status if went is None else _SPURIOUS
        return False

    def judge(self, rows: Any, weights: Any, criterion: Criterion) -> None:
        """The value of the criterion."""
        if self.model is None:
            return
        model, total = self.model, _total(rows, weights)
        self.log_likelihood = total * model.lower_bound_
        if model.prior is not None or model.reg_covar != 0.0 or not np.isfinite(self.log_likelihood):
            # The bound counts the prior and what is added to variances, or there was no iteration.
            self.log_likelihood = model._log_likelihood(rows, weights)[0]
        if callable(criterion):
            self.value = _number(criterion(model, rows))
        else:
            charge = 2.0 if criterion == "aic" else np.log(total)
            self.value = -2.0 * self.log_likelihood + charge * model._n_parameters()
            if criterion == "icl":
                self.value += _doubt(model, rows, weights)
        if np.isnan(self.value):
            self.status = "the criterion is NaN"
        elif _spurious(model, rows, weights):
            self.status = _SPURIOUS


def _number(value: Any) -> float:
    """What a user's criterion returned."""
    if np.ndim(value) or not isinstance(np.asarray(value).item(), int | float):
        raise TypeError(f"criterion must return a number, the less the better, and returned {value!r}")
    return float(value)


def _parameters(model: GaussianMixture) -> dict[str, Any]:
    """A start at the parameters of a fit."""
    weights = np.asarray(model.weights_, dtype=np.float64)
    return {
        "weights_init": weights / weights.sum(),
        "means_init": model.means_,
        "precisions_init": model.precisions_,
    }


def _total(rows: Any, weights: Any) -> float:
    """The number of rows, or the sum of their weights."""
    return len(rows) if weights is None else float(weights.sum())


def _raced(
    pool: ThreadPoolExecutor,
    cells: Sequence[_Cell],
    rows: Any,
    weights: Any,
    how: dict[str, Any],
    criterion: Criterion,
) -> None:
    """Let fits go on for as long as they can win: the others' status becomes that they ended early.

    All fits have as many iterations as they were granted before any of them is judged, so that the outcome does not
    depend on threads. What ended early goes on if the fit that it lost to turns out not to count.
    """

    def running(cell: _Cell) -> bool:
        waits = cell.status in ("not converged", _EARLY)
        return waits and cell.model is not None and len(cell.model.lower_bounds_) < how["max_iter"]

    while True:
        least = min((c.value for c in cells if c.status in ("converged", "not converged")), default=np.inf)
        chances = []
        for cell in filter(running, cells):
            wins = cell.foreseen(rows, weights) <= least
            cell.status = "not converged" if wins else _EARLY
            chances += [cell] if wins else []
        if not chances:
            return
        list(pool.map(lambda cell: cell.go_on(rows, weights, how, criterion), chances))


def _selection(
    cells: Sequence[_Cell], families: list[str], numbers: list[int], criterion: Criterion
) -> Selection:
    shape = len(families), len(numbers)

    def of(value: Callable[[_Cell], Any]) -> NDArray[Any]:
        return np.array([value(cell) for cell in cells]).reshape(shape)

    best = _winner(cells)
    if best is None:
        reasons = ", ".join(sorted({cell.status for cell in cells}))
        raise ValueError(
            f"no fit succeeded: {reasons}. Try fewer components, reg_covar > 0, or other families"
        )
    assert best.model is not None
    name = getattr(criterion, "__name__", "criterion") if callable(criterion) else criterion
    return Selection(
        families,
        numbers,
        name,
        of(lambda cell: cell.value),
        of(lambda cell: np.nan if cell.model is None else cell.log_likelihood),
        of(lambda cell: 0 if cell.model is None else cell.model._n_parameters()),
        of(lambda cell: cell.status),
        best.model,
    )


def _winner(cells: Sequence[_Cell]) -> _Cell | None:
    """The fit with the least criterion, if there is any."""
    good = [cell for cell in cells if cell.status in ("converged", "not converged")]
    return min(good, key=lambda cell: cell.value, default=None)
