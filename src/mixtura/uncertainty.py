"""How sure a fit is of its parameters: standard errors from the information matrix, or by the bootstrap."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtri

from mixtura.autodiff.functions import Prepared
from mixtura.autodiff.parameters import Parameters
from mixtura.components.surfaces import Surface
from mixtura.errors import InformationError, SingularError
from mixtura.natural import Field
from mixtura.threads import thread_limit

__all__ = ["StandardErrors", "standard_errors"]

Float = NDArray[np.float64]

METHODS = ("observed", "opg", "sandwich", "bootstrap")

# Most parameters for which the information matrix is formed: it then takes 800 MB.
_MOST_PARAMETERS = 10_000

# The information is singular if an eigenvalue, with the diagonal scaled to 1, is below this for each parameter.
_SINGULAR = 1e-13

# A direction that is not identified is named by the parameters that have more than this share of it.
_SHARE = 0.1

# A bootstrap fit has converged when the log-likelihood per row changes by less than this.
_BOOTSTRAP_TOL, _BOOTSTRAP_STEPS = 1e-9, 2000


@dataclass(frozen=True, eq=False, repr=False)
class StandardErrors:
    """Estimates of a model's natural parameters, with their covariance.

    ``errors.weights``, ``errors.means`` and ``errors.covariances`` (for experts ``errors.coef``, ``errors.intercept``,
    ``errors.noise_variance`` and ``errors.weights`` or ``errors.log_odds``) are standard errors in the shapes of the
    model's attributes. ``str(errors)`` is a table.

    Attributes
    ----------
    method : str
    names : list of str
        A name for each parameter.
    estimates : ndarray of shape (n,)
    errors : ndarray of shape (n,)
        Standard errors.
    covariance : ndarray of shape (n, n)
        Covariance of the estimates. It is singular in so far as weights sum to 1.
    theta_covariance : ndarray of shape (P, P)
        Covariance of the parameters of :class:`mixtura.autodiff.Parameters`.
    boundary : list of str
        Parameters at the edge of their range, where standard errors mean little: weights near 0, variances held by a
        bound.
    failed : int
        Bootstrap fits that had no result.
    draws : ndarray of shape (B, n) or None
        The bootstrap's estimates.
    """

    method: str
    fields: list[Field]
    covariance: Float
    theta_covariance: Float
    boundary: list[str]
    failed: int = 0
    draws: Float | None = None

    @property
    def names(self) -> list[str]:
        """A name for each parameter."""
        return [label for field in self.fields for label in field.labels]

    @property
    def estimates(self) -> Float:
        """Estimates, (n,)."""
        return np.concatenate([field.values for field in self.fields])

    @property
    def errors(self) -> Float:
        """Standard errors, (n,)."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))

    def _shaped(self, values: Float) -> dict[str, Float]:
        """Numbers (n, ...) by field, in the shapes of the model's attributes."""
        found, start = {}, 0
        for field in self.fields:
            stop = start + len(field.values)
            found[field.name] = np.asarray(values[start:stop][field.places])
            start = stop
        return found

    def __getattr__(self, name: str) -> Float:
        if not name.startswith("_") and "fields" in self.__dict__:
            shaped = self._shaped(self.errors)
            if name in shaped:
                return shaped[name]
            raise AttributeError(f"there is no {name!r}; there are {', '.join(shaped)}")
        raise AttributeError(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(field.name for field in self.fields)})

    def bounds(self, level: float = 0.95) -> Float:
        """Confidence intervals of all parameters, (n, 2): see :meth:`interval`."""
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must lie between 0 and 1, got {level!r}")
        if self.draws is not None:
            tail = 0.5 * (1.0 - level)
            return np.quantile(self.draws, [tail, 1.0 - tail], axis=0).T
        half = float(ndtri(0.5 + 0.5 * level)) * self.errors
        return np.column_stack([self.estimates - half, self.estimates + half])

    def interval(self, level: float = 0.95) -> dict[str, Float]:
        """Confidence intervals.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        intervals : dict of str to ndarray
            For each kind of parameters lower and upper ends along a last axis: estimate plus and minus a multiple of
            the standard error, or for the bootstrap quantiles of its estimates.
        """
        return self._shaped(self.bounds(level))

    def table(self, level: float = 0.95) -> str:
        """Estimates, standard errors, z and intervals as text.

        Parameters
        ----------
        level : float, default=0.95
            Of the intervals.
        """
        bounds = self.bounds(level)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = self.estimates / self.errors
        head = ["", "estimate", "error", "z", f"{100 * level:g}% from", "to"]
        rows = [head]
        for i, name in enumerate(self.names):
            numbers = (self.estimates[i], self.errors[i], z[i], *bounds[i])
            rows.append([name, *(f"{number:.4g}" for number in numbers)])
        widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
        lines = [
            "  ".join(
                f"{cell:<{width}}" if c == 0 else f"{cell:>{width}}"
                for c, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(0, f"Standard errors ({self.method})")
        if self.boundary:
            lines.append(f"At the edge of their range: {', '.join(self.boundary)}")
        if self.failed:
            lines.append(f"{self.failed} bootstrap fits had no result")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"<StandardErrors of {len(self.estimates)} parameters, {self.method}>"


def standard_errors(
    model: Any,
    X: ArrayLike,
    method: str = "observed",
    sample_weight: ArrayLike | None = None,
    *,
    y: ArrayLike | None = None,
    n_bootstrap: int = 999,
    random_state: int | None = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> StandardErrors:
    """Standard errors of the parameters of a fitted mixture.

    Parameters
    ----------
    model : GaussianMixture or MixtureOfExperts
        Fitted to X by maximum likelihood; experts with a constant or softmax gate and without priors.
    X : array-like of shape (N, D)
    method : {'observed', 'opg', 'sandwich', 'bootstrap'}, default='observed'
        'observed': from the inverse of minus the log-likelihood's Hessian. 'opg': from the outer products of the
        rows' scores. 'sandwich': both, valid also where the model is wrong. 'bootstrap': from fits to rows drawn with
        replacement, each started from the model's parameters.
    sample_weight : array-like of shape (N,), default=None
        A row of weight 2 counts as two rows.
    y : array-like of shape (N,) or (N, M), default=None
        The targets, for experts.
    n_bootstrap : int, default=999
        Number of fits.
    random_state : int or None, default=0
        Seed of the bootstrap.
    n_threads : int, default=None
        Fits of the bootstrap at a time; None takes the limit in force.
    progress : bool, default=False
        Whether the bootstrap shows a progress bar, if ``rich`` is installed, or lines.

    Returns
    -------
    errors : StandardErrors

    Raises
    ------
    TypeError, ValueError
        The model has no derivatives (see :meth:`mixtura.autodiff.Parameters.of`), there are more than 10,000
        parameters, or the information matrix is singular: the message says along which parameters.

    Notes
    -----
    Rows are read twice; memory grows with the square of the number of parameters, not with N.

    References
    ----------
    Louis (1982), Finding the observed information matrix when using the EM algorithm. White (1982), Maximum likelihood
    estimation of misspecified models. Efron, Tibshirani (1993), An Introduction to the Bootstrap.

    Examples
    --------
    >>> import numpy as np, mixtura
    >>> X = np.random.default_rng(0).normal(size=(400, 1))
    >>> gm = mixtura.GaussianMixture(1, reg_covar=0).fit(X)
    >>> errors = mixtura.standard_errors(gm, X)
    >>> bool(np.isclose(errors.means[0, 0], np.sqrt(gm.covariances_[0, 0, 0] / 400)))  # sigma / sqrt(N)
    True
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known are {', '.join(map(repr, METHODS))}")
    parameters = Parameters.of(model)
    P = parameters.mixture.size
    if P > _MOST_PARAMETERS:
        raise InformationError(
            f"the model has {P} parameters, and their information matrix would take {8 * P * P / 2**30:.1f} GiB; the "
            f"limit is {_MOST_PARAMETERS} parameters. Simpler covariances or fewer components have fewer."
        )
    natural = model._natural(parameters.mixture)
    slopes = np.vstack([field.slopes for field in natural])
    boundary = _boundary(model, natural)
    if method == "bootstrap":
        if not hasattr(model, "fit"):
            raise TypeError("the bootstrap fits the model again: it needs an estimator, not a distribution")
        if getattr(model, "fixed", None) is not None and getattr(model, "order", None) is not None:
            raise ValueError(
                "method='bootstrap' fits again from the fitted components, and fixed names those before "
                f"order={model.order!r} sorted them: fit with order=None"
            )
        draws, failed = _bootstrap(
            parameters, X, y, sample_weight, n_bootstrap, random_state, n_threads, progress
        )
        of_theta = np.cov(np.stack([p.mixture.theta for p in draws]), rowvar=False).reshape(P, P)
        values = np.stack([np.concatenate([f.values for f in model._natural(p.mixture)]) for p in draws])
        covariance = np.cov(values, rowvar=False).reshape(len(slopes), len(slopes))
        return StandardErrors(method, natural, covariance, of_theta, boundary, failed, values)
    if np.any([np.any(mask) for mask in (getattr(model, "fixed", None) or {}).values()]):
        raise InformationError(
            f"method={method!r} is for models all of whose parameters are estimated, and some are fixed here: take "
            "method='bootstrap'"
        )
    at = Prepared.of(parameters, X, y, sample_weight)
    with at.table.host_limits():
        of_theta = _covariance(at, method, parameters.names, _surface(parameters.model))
    return StandardErrors(method, natural, slopes @ of_theta @ slopes.T, of_theta, boundary)


def errors_in_words(model: Any, X: Any, y: Any = None, sample_weight: Any = None) -> str:
    """The standard errors of a model's parameters as text, or why there are none."""
    try:
        return str(standard_errors(model, X, sample_weight=sample_weight, y=y))
    except InformationError as error:
        return f"no standard errors: {error}"


def _surface(model: Any) -> Surface | None:
    """What of the model's scales is free; None if all are."""
    surface: Surface | None = model._surface() if hasattr(model, "_surface") else None
    return surface


def _covariance(at: Prepared, method: str, names: list[str], surface: Surface | None) -> Float:
    """Covariance of theta, (P, P): where not all of theta is free, by way of the parameters that are."""
    if surface is None:
        along: Float = np.eye(at.mixture.size)
    else:
        others = at.mixture.gate_size + at.mixture.coefficient_size
        along, names = surface.among(others), names[:others] + surface.names()
    if method == "opg":
        return np.asarray(along @ _inverse(along.T @ at.outer_products() @ along, names) @ along.T)
    _, gradient, second = at.expanded()
    at.checked(second)
    free = second if surface is None else surface.hessian(gradient, second)
    inverse = along @ _inverse(-free, names) @ along.T
    return np.asarray(inverse if method == "observed" else inverse @ at.outer_products() @ inverse)


def _inverse(information: Float, names: list[str]) -> Float:
    """The inverse of an information matrix, or ValueError with the parameters along which it is singular."""
    diagonal = np.diagonal(information)
    scale = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    scaled = information / np.outer(scale, scale)
    values, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
    bad = values <= _SINGULAR * len(values)
    bad |= bool((diagonal <= 0.0).any()) & (values <= 0.0)
    if bad.any():
        shares = np.sum(vectors[:, bad] ** 2, axis=1)
        order = np.argsort(-shares, kind="stable")
        involved = [names[i] for i in order if shares[i] > _SHARE][:12] or [names[order[0]]]
        least = float(values[0])
        reason = (
            "is singular: the rows do not determine"
            if least > -_SINGULAR * len(values)
            else "has negative eigenvalues, so that the fit is not at a maximum of the likelihood, or not one along"
        )
        raise InformationError(
            f"the information matrix {reason} {', '.join(involved)}. Fit with fewer components or simpler "
            "covariances, or with a smaller tol if the fit had not converged."
        )
    whitened = vectors / np.sqrt(values)
    return np.asarray((whitened @ whitened.T) / np.outer(scale, scale))


def _boundary(model: Any, natural: list[Field]) -> list[str]:
    """Names of parameters at the edge of their range."""
    weights = next((field for field in natural if field.name == "weights"), None)
    edge = []
    if weights is not None:
        edge += [label for label, w in zip(weights.labels, weights.values, strict=True) if w < 1e-8]
    marked = np.asarray(getattr(model, "degenerate_", np.zeros(0, dtype=bool)))
    for field in natural:
        if field.name in ("covariances", "noise_variance") and np.shape(field.places)[:1] == (len(marked),):
            for k in np.flatnonzero(marked):
                edge += [field.labels[i] for i in np.unique(field.places[k])]
    return edge


def _bootstrap(
    parameters: Parameters,
    X: Any,
    y: Any,
    sample_weight: Any,
    n: int,
    random_state: int | None,
    n_threads: int | None,
    progress: bool,
) -> tuple[list[Parameters], int]:
    """Parameters of fits to rows drawn with replacement, and how many fits had no result."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 2:
        raise ValueError(f"n_bootstrap must be an integer of at least 2, got {n!r}")
    table = parameters.table(X, y, sample_weight)
    weight = table.weight
    drawn = max(round(table.total_weight), 1)
    seeds = np.random.SeedSequence(random_state).spawn(n)
    start = _warm(parameters.model)
    report, reasons = _reporter(progress, n), list[str]()

    def one(seed: np.random.SeedSequence) -> Parameters | None:
        counts = np.random.default_rng(seed).multinomial(drawn, weight / weight.sum()).astype(np.float64)
        model = copy(start)
        try:
            if y is None:
                model.fit(X, sample_weight=counts)
            else:
                model.fit(X, y, sample_weight=counts)
            found = _aligned(Parameters.of(model), parameters)
        except ValueError as error:  # SingularError and NotFiniteError are such errors
            found = None
            advice = " Fewer components may help." if isinstance(error, SingularError) else ""
            reasons.append(f"{error}{advice}")
        report()
        return found

    threads = thread_limit() if n_threads is None else n_threads
    with warnings.catch_warnings(), ThreadPoolExecutor(max(threads, 1)) as pool:
        warnings.simplefilter("ignore")  # of fits that end early
        found = list(pool.map(one, seeds))
    kept = [p for p in found if p is not None]
    if len(kept) < 2:
        raise ValueError(f"{n - len(kept)} of {n} bootstrap fits had no result, one because: {reasons[0]}")
    return kept, n - len(kept)


def _warm(model: Any) -> Any:
    """A copy of the model that fits on from its parameters, to the end."""
    start = copy(model)
    start.set_params(
        warm_start=True,
        tol=_BOOTSTRAP_TOL,
        max_iter=_BOOTSTRAP_STEPS,
        verbose=0,
        algorithm="em",
        accelerate="squarem",
        n_threads=1,
    )
    return start


def _aligned(found: Parameters, like: Parameters) -> Parameters:
    """The components of a fit in the order in which they resemble those of another one."""
    m, reference = found.mixture, like.mixture
    if m.components != reference.components:
        raise ValueError("components were dropped")
    if m.components == 1:
        return found
    a, b = (p.coefficients.reshape(p.components, -1) for p in (m, reference))
    # In units of the components' own widths, or of the ways between them: what they have in common tells nothing.
    first = reference.gate_size
    widths = reference.sizes[first : first + reference.coefficient_size].reshape(b.shape).max(axis=0)
    scale = np.maximum(np.abs(b - b.mean(axis=0)).max(axis=0), np.maximum(widths, 1e-300))
    distance = (((a[None] - b[:, None]) / scale) ** 2).sum(axis=2)
    order = linear_sum_assignment(distance)[1]
    return found if np.array_equal(order, np.arange(len(order))) else found.at(_permuted(found, order))


def _permuted(found: Parameters, order: NDArray[np.intp]) -> Float:
    """Theta of the same mixture with its components in another order."""
    m = found.mixture
    odds = np.vstack([m.log_odds, np.zeros((1, m.gate_row))])[order]
    scales = m.scales if m.shared else m.scales[order]
    return np.concatenate([(odds[:-1] - odds[-1]).ravel(), m.coefficients[order].ravel(), scales.ravel()])


def _reporter(wanted: bool, n: int) -> Callable[[], None]:
    """Called after each fit."""
    if not wanted:
        return lambda: None
    done = 0
    try:
        from rich.progress import Progress
    except ImportError:

        def line() -> None:
            nonlocal done
            done += 1
            if done % max(n // 10, 1) == 0 or done == n:
                print(f"bootstrap fit {done} of {n}")

        return line
    bar = Progress(transient=False)
    task = bar.add_task("bootstrap", total=n)
    bar.start()

    def step() -> None:
        nonlocal done
        done += 1
        bar.update(task, completed=done)
        if done == n:
            bar.stop()

    return step
