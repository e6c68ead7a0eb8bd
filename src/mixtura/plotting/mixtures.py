"""Pictures of Gaussian mixtures: rows, ellipses and density."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from mixtura.array_kinds import to_host, unmasked
from mixtura.estimators.validation import check_finite
from mixtura.natural import fields
from mixtura.plotting.figures import MOST_POINTS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mixtura.estimators import GaussianMixture
    from mixtura.uncertainty import StandardErrors

_MOST_COLUMNS = 5
_SIGMAS = (1.0, 2.0)

# Draws of the parameters from which bands are taken.
_DRAWS = 400


class MixtureDisplay:
    """Rows coloured by component, with the components' ellipses over the density's contours.

    One column gives a histogram under the density, two columns a single picture, and more columns a grid with the pairs
    and marginals of the first five. Use :meth:`from_estimator` to make one.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
    """

    def __init__(self, figure: Figure, axes: list[Axes]) -> None:
        self.figure_, self.axes_ = figure, axes

    @classmethod
    def from_estimator(
        cls,
        estimator: GaussianMixture,
        X: ArrayLike,
        *,
        ax: Axes | None = None,
        names: list[str] | None = None,
        background: str = "density",
        errors: StandardErrors | None = None,
        random_state: int = 0,
    ) -> MixtureDisplay:
        """Draw a fitted mixture.

        Parameters
        ----------
        estimator : GaussianMixture
            A fitted model.
        X : array-like of shape (N, D)
            Rows to show; if there are more than 20,000, a random sample of that size is shown.
        ax : matplotlib Axes, default=None
            Where to draw one or two columns; None makes a figure.
        names : list of str, default=None
            Names of the columns; None takes the estimator's.
        background : {'density', 'uncertainty', 'regions'}, default='density'
            What lies behind the rows of two columns: contours of the density; the probability that the most likely
            component is the wrong one, ``1 - max_k r_k``, from white at 0 to dark, with rows the larger the less
            certain they are; or each component's region, where it is the most likely one. Of more than two columns,
            all of this is of the two that a picture shows.
        errors : StandardErrors, default=None
            If given, each ellipse at 1 standard deviation lies in a band that has it with 95% probability: what
            :func:`mixtura.standard_errors` says of means and covariances.
        random_state : int, default=0
            Chooses the rows that are shown.

        Returns
        -------
        MixtureDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            ``ax`` was given for more than two columns, or there is no such background.
        """
        if background not in _BACKGROUNDS:
            raise ValueError(f"background must be one of {', '.join(_BACKGROUNDS)}, not {background!r}")
        check_is_fitted(estimator)
        if not hasattr(estimator, "_mixture") or not hasattr(estimator, "covariances_"):
            raise TypeError(
                f"a picture of Gaussians takes a GaussianMixture or a BayesianGaussianMixture, not a "
                f"{type(estimator).__name__}; of a GaussianMixtureSelector pass its best_estimator_"
            )
        rows: NDArray[np.float64] = check_array(
            unmasked(to_host(X), "X"), dtype=np.float64, ensure_all_finite=False
        )
        check_finite(rows, getattr(estimator, "feature_names_in_", None))
        D = rows.shape[1]
        if names is None:
            names = [str(n) for n in getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(D)])]
        if len(rows) > MOST_POINTS:
            rows = rows[np.random.default_rng(random_state).choice(len(rows), MOST_POINTS, replace=False)]
        picture = _Picture(estimator, rows, names, background, errors)
        if D <= 2:
            if ax is None:
                figure = new_figure(7.5, 5.5)
                ax = figure.subplots()
            (picture.histogram if D == 1 else picture.pair)(ax, *range(D))
            ax.set_title(picture.title())
            return cls(ax.get_figure(), [ax])  # type: ignore[arg-type]
        if ax is not None:
            raise ValueError(f"ax takes one picture, and {D} columns need a grid of them")
        shown = min(D, _MOST_COLUMNS)
        figure = new_figure(2.4 * shown + 1, 2.4 * shown)
        grid = figure.subplots(shown, shown, sharex="col", squeeze=False)
        for i in range(shown):
            for j in range(shown):
                if j > i:
                    grid[i, j].remove()
                elif i == j:
                    picture.histogram(grid[i, i], i)
                    grid[i, i].set_ylabel("")
                    grid[i, i].set_yticks([])
                else:
                    picture.pair(grid[i, j], j, i)
                if i < shown - 1:
                    grid[i, j].set_xlabel("")
                if j and i != j:
                    grid[i, j].set_ylabel("")
        more = f" (first {shown} of {D} columns)" if shown < D else ""
        figure.suptitle(picture.title() + more)
        return cls(figure, [a for row in grid for a in row if a.figure is not None])


class _Picture:
    """Draws the parts of a picture. A marginal of the mixture is the mixture of the components' marginals."""

    def __init__(
        self,
        estimator: GaussianMixture,
        X: NDArray[np.float64],
        names: list[str],
        background: str,
        errors: StandardErrors | None,
    ) -> None:
        import matplotlib as mpl

        self.estimator, self.X, self.names, self.errors = estimator, X, names, errors
        self.background = _BACKGROUNDS[background]
        self.sized = background == "uncertainty"
        self.weights = np.asarray(estimator.weights_, dtype=np.float64)
        self.means = np.asarray(estimator.means_, dtype=np.float64)
        K, D = self.means.shape
        self.covariances = estimator._covariance.storage.dense(
            np.asarray(estimator.covariances_, dtype=np.float64), K, D
        )
        nameless = copy.copy(estimator)  # X has no column names here, which would make scikit-learn warn
        nameless.__dict__.pop("feature_names_in_", None)
        shares = nameless.predict_proba(X)
        self.labels, self.uncertainty = nameless.predict(X), 1.0 - shares.max(axis=1)
        palette = mpl.colormaps["tab10" if K <= 10 else "turbo"]
        self.colors = [palette(k if K <= 10 else k / (K - 1)) for k in range(K)]

    def title(self) -> str:
        K = len(self.weights)
        kind = self.estimator._covariance.name
        return (
            f"{K} component{'s' if K > 1 else ''}, {kind} covariance: ellipses at 1 and 2 standard deviations"
        )

    def _range(self, column: int) -> tuple[float, float]:
        low, high = self.X[:, column].min(), self.X[:, column].max()
        margin = 0.08 * (high - low) or 1.0
        return low - margin, high + margin

    def histogram(self, ax: Axes, column: int) -> None:
        """A column's histogram under its marginal density."""
        x = np.linspace(*self._range(column), 400)
        sd = np.sqrt(self.covariances[:, column, column])
        parts = self.weights * norm.pdf(x[:, None], self.means[:, column], sd)
        bins = int(np.clip(2.0 * len(self.X) ** (1 / 3), 10, 80))
        ax.hist(self.X[:, column], bins=bins, density=True, color="0.85", edgecolor="white")
        for k, color in enumerate(self.colors):
            ax.plot(x, parts[:, k], color=color, lw=1.0)
        ax.plot(x, parts.sum(axis=1), color="0.15", lw=1.5)
        ax.set(xlim=(x[0], x[-1]), ylabel="density")
        ax.set_xlabel(self.names[column], parse_math=False)

    def pair(self, ax: Axes, i: int, j: int) -> None:
        """Draw two columns: what lies behind the rows, the rows, and the components' ellipses and means."""
        from matplotlib.patches import Ellipse

        (x0, x1), (y0, y1) = self._range(i), self._range(j)
        gx, gy = np.meshgrid(np.linspace(x0, x1, 120), np.linspace(y0, y1, 120))
        parts = np.empty((len(self.weights), *gx.shape))
        pairs = zip(self.weights, self.means[:, [i, j]], self._pair(i, j), strict=True)
        for part, (w, mean, covariance) in zip(parts, pairs, strict=True):
            inverse = np.linalg.inv(covariance)
            dx, dy = gx - mean[0], gy - mean[1]
            q = inverse[0, 0] * dx * dx + 2.0 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy * dy
            part[:] = np.log(w / (2.0 * np.pi)) - 0.5 * (q + np.log(np.linalg.det(covariance)))
        self.background(ax, gx, gy, parts, self.colors)
        size = float(np.clip(4000.0 / len(self.X), 0.5, 16.0))
        # Rasterised, since 20,000 points would make a large vector file.
        ax.scatter(
            self.X[:, i],
            self.X[:, j],
            s=size * (0.5 + 4.0 * self.uncertainty) if self.sized else size,
            c=[self.colors[k] if k >= 0 else "0.6" for k in self.labels],  # noise is grey
            alpha=0.75 if len(self.X) < 2000 else 0.3,
            linewidths=0,
            rasterized=True,
        )
        for k, (mean, covariance) in enumerate(zip(self.means[:, [i, j]], self._pair(i, j), strict=True)):
            values, vectors = np.linalg.eigh(covariance)
            angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
            for sigma in _SIGMAS:
                if sigma * np.sqrt(values[1]) > 100.0 * max(x1 - x0, y1 - y0):
                    continue  # no part of the ellipse is visible, and drawing it would take minutes
                ax.add_patch(
                    Ellipse(
                        (mean[0], mean[1]),
                        2.0 * sigma * np.sqrt(values[1]),
                        2.0 * sigma * np.sqrt(max(values[0], 0.0)),
                        angle=angle,
                        fill=False,
                        lw=1.6,
                        ec=self.colors[k],
                    )
                )
            self._band(ax, k, i, j)
            ax.plot(*mean, marker="+", ms=9, mew=2, color="black")
        ax.set(xlim=(x0, x1), ylim=(y0, y1))
        ax.set_xlabel(self.names[i], parse_math=False)
        ax.set_ylabel(self.names[j], parse_math=False)

    def _band(self, ax: Axes, k: int, i: int, j: int) -> None:
        """Draw where the ellipse of component k at 1 standard deviation lies with 95% probability."""
        if self.errors is None:
            return
        angles = np.linspace(0.0, 2.0 * np.pi, 181)
        circle = np.stack([np.cos(angles), np.sin(angles)])
        mean, at = self.means[k, [i, j]], np.ix_([i, j], [i, j])
        outlines = np.array([m[k, [i, j], None] + _root(C[k][at]) @ circle for m, C in self._draws()])
        # Each outline as its distance from the mean in fixed directions.
        away = outlines - mean[:, None]
        directions, distances = np.arctan2(away[:, 1], away[:, 0]), np.hypot(away[:, 0], away[:, 1])
        grid = np.linspace(-np.pi, np.pi, 181)
        radii = np.array(
            [
                np.interp(grid, *_by_first(d, r), period=2.0 * np.pi)
                for d, r in zip(directions, distances, strict=True)
            ]
        )
        low, high = np.quantile(radii, [0.025, 0.975], axis=0)
        unit = np.stack([np.cos(grid), np.sin(grid)])
        outer, inner = mean[:, None] + high * unit, mean[:, None] + low * unit
        band = np.hstack([outer, inner[:, ::-1]])
        ax.fill(*band, color=self.colors[k], alpha=0.25, lw=0)

    def _draws(self) -> list[tuple[Any, Any]]:
        """Means and covariances as the standard errors have them vary: (K, D) and (K, D, D)."""
        from mixtura.autodiff import Parameters

        assert self.errors is not None
        if not hasattr(self, "_drawn"):
            parameters = Parameters.of(self.estimator)
            K, D = self.means.shape
            thetas = np.random.default_rng(0).multivariate_normal(
                parameters.theta, self.errors.theta_covariance, size=_DRAWS, method="eigh"
            )
            self._drawn = []
            for theta in thetas:
                mixture = parameters.mixture.at(theta)
                found = {f.name: f.values[f.places] for f in fields(mixture, [], self.names)}
                storage = self.estimator._covariance.storage
                self._drawn.append((found["means"], storage.dense(found["covariances"], K, D)))
        return self._drawn

    def _pair(self, i: int, j: int) -> Any:
        return self.covariances[:, [i, j]][:, :, [i, j]]


def _density(ax: Axes, gx: Any, gy: Any, parts: NDArray[np.float64], colors: list[Any]) -> None:
    """Contours of the density, in steps of the logarithm."""
    log_density = np.maximum(logsumexp(parts, axis=0), -690.0)
    top = log_density.max()
    levels = np.linspace(top - 8.0, top, 13)
    # Levels from white to light grey, so that the rows are visible on the highest level.
    ax.contourf(gx, gy, log_density, levels=levels, cmap="Greys", vmin=top - 8.0, vmax=top + 14.0)


def _uncertainty(ax: Axes, gx: Any, gy: Any, parts: NDArray[np.float64], colors: list[Any]) -> None:
    """The probability that the most likely component is the wrong one."""
    wrong = -np.expm1(parts.max(axis=0) - logsumexp(parts, axis=0))
    levels = np.linspace(0.0, 1.0 - 1.0 / max(len(parts), 2), 11)
    ax.contourf(gx, gy, wrong, levels=levels, cmap="Greys", vmin=0.0, vmax=1.5 * levels[-1])


def _regions(ax: Axes, gx: Any, gy: Any, parts: NDArray[np.float64], colors: list[Any]) -> None:
    """Where each component is the most likely one, with the boundaries between them."""
    largest = parts.argmax(axis=0)
    edges = np.arange(len(parts) + 1) - 0.5
    ax.contourf(gx, gy, largest, levels=edges, colors=colors, alpha=0.2)
    for k, part in enumerate(parts):
        if len(parts) > 1:
            others = np.delete(parts, k, axis=0).max(axis=0)
            ax.contour(gx, gy, part - others, levels=[0.0], colors="0.3", linewidths=0.8)


_BACKGROUNDS = {"density": _density, "uncertainty": _uncertainty, "regions": _regions}


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A square root of a 2 x 2 covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _by_first(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[Any, Any]:
    """Both arrays in the order of the first."""
    order = np.argsort(a)
    return a[order], b[order]
