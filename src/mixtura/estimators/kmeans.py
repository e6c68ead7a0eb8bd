"""k-means with scikit-learn's interface."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from mixtura import em
from mixtura.array_kinds import in_kind, to_host, unmasked
from mixtura.backends.base import PRECISIONS, Precision
from mixtura.components.centers import Centers
from mixtura.estimators.base import LabellingEstimator
from mixtura.estimators.failing import as_before_if_it_fails
from mixtura.estimators.validation import check_fit, check_rows, check_weights, weighted_sum
from mixtura.gates.equal import EqualGate
from mixtura.lloyd import Clusters, lloyd
from mixtura.mixture import Mixture
from mixtura.online import StandIn
from mixtura.progress import CenterLines, Progress
from mixtura.report import summary
from mixtura.starts import AUTO, column_variance, first_centers, random_rows, sample
from mixtura.table import Table

Float = NDArray[np.float64]

# Rows of a table that is read block by block up to which each one's label is kept.
_MOST_LABELS = 1 << 24


def _assigned(centers: Centers, table: Table) -> dict[str, Any]:
    """Fitted attributes that tell of the rows' nearest centres: labels, unless they are too many, sizes, inertia."""
    K = len(centers.means)
    if table.in_memory or len(table) <= _MOST_LABELS:
        labels, distances = centers.nearest(table)
        inertia = float(weighted_sum(distances, table.sample_weight)[0])
        return {"labels_": labels, "_sizes": np.bincount(labels, minlength=K), "inertia_": inertia}
    moments = table.expect(centers.joint, "mass")
    inertia, mass = -2.0 * moments.log_likelihood, moments.mass
    if table.sample_weight is not None:  # the rows themselves are to be counted
        mass = Table.of(table.backend, table.all_x).expect(centers.joint, "mass").mass
    return {"_sizes": mass.round().astype(np.int64), "inertia_": inertia}


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, LabellingEstimator):
    """k-means: hard EM, the limit of a spherical Gaussian mixture whose variance goes to zero.

    The parameters are those of :class:`sklearn.cluster.KMeans`, with the same meaning, and a few more. Lloyd's
    algorithm runs on the same kernels as :class:`GaussianMixture`.

    Parameters
    ----------
    n_clusters : int, default=8
        K.
    init : {'k-means++', 'auto', 'random'}, callable or array-like of shape (K, D), default='k-means++'
        First centres. 'k-means++': greedy k-means++, on a random sample of 65,536 rows (8192 with few clusters and
        columns), or of 128 rows per cluster if that is more, unless the table is at most twice as long as the sample.
        'auto': k-means++ in batches, followed by swaps: centres that share a cluster merge, and others that cover two
        are split, for as long as that lowers the inertia. It finds nearly all of many clusters; 'k-means++' does the
        same where rows times clusters exceed 8 million. 'random': rows drawn by weight. A callable is called as
        ``init(X, n_clusters, random_state=...)``. An array holds the centres themselves.
    n_init : 'auto' or int, default='auto'
        Number of runs, of which the one with the least inertia is kept. 'auto': 10 for 'random' and callables, else 1.
    max_iter : int, default=300
        Most iterations of a run.
    tol : float, default=1e-4
        A run stops when the squared shifts of the centres sum to at most this, in units of the mean variance
        of the columns.
    verbose : int, default=0
        1: a progress bar if standard error is a terminal and the ``rich`` package is installed; otherwise, and for more
        than 1, scikit-learn's lines. The bound shown is minus half the inertia per unit of weight.
    random_state : int, RandomState instance or None, default=None
        Seed of the first centres.
    copy_x : bool, default=True
        Accepted for compatibility with scikit-learn; X is never changed.
    algorithm : {'lloyd', 'elkan'}, default='lloyd'
        Accepted for compatibility with scikit-learn; both run Lloyd's algorithm, since the result is the same. On the
        processor, iterations after the first look only at rows whose centre may have changed (Hamerly 2010), for
        which 12 bytes a row are kept during the run.
    verbose_interval : int, default=1
        Number of iterations from one line to the next.
    on_interrupt : {'raise', 'keep'}, default='raise'
        'keep': Ctrl-C during a fit ends it with the best centres so far and a ConvergenceWarning.
    backend : {'auto', 'native', 'numba', 'reference', 'cuda'}, default='auto'
    n_threads : int, default=None
    precision : {'exact', 'fast'}, default='exact'
        As in :class:`GaussianMixture`. Nearest centres are exact either way.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (K, D), in the type of X
    labels_ : ndarray of shape (N,), int32
        Nearest centre of each row. Of a table that is read block by block they are kept up to 2^24 rows;
        :meth:`predict` gives them for more.
    inertia_ : float
        Weighted sum of squared distances of the rows to their nearest centre.
    n_iter_ : int
    converged_ : bool
        False if the best run ended at ``max_iter``.
    lower_bound_ : float
        Minus half the inertia per unit of weight at the best run's last iteration, before its centres moved.
    lower_bounds_ : list of float
        The same at each of its iterations; it never falls.
    n_passes_ : float
        Rows that the fit looked at, initialisation included, over the number of rows.
    backend_ : str
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,)

    References
    ----------
    Lloyd (1982), Least squares quantization in PCM. Arthur, Vassilvitskii (2007), k-means++: the advantages
    of careful seeding. Bahmani et al. (2012), Scalable k-means++. Fränti (2018), Efficiency of random swap clustering.
    Hamerly (2010), Making k-means even faster.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> km = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> km.inertia_
    16.0
    >>> km.cluster_centers_[km.predict([[0, 0]])[0]]
    array([1., 2.])
    """

    _gives_probabilities = False
    _saved_arrays = ("cluster_centers_",)
    _arrays_if_any = ("labels_", "_sizes")
    _needed_values = ("converged_", "n_iter_", "lower_bound_", "backend_", "n_features_in_")
    _saved_values = (
        "inertia_",
        "n_iter_",
        "converged_",
        "lower_bound_",
        "lower_bounds_",
        "n_passes_",
        "backend_",
        "n_features_in_",
        "_n_features_out",
    )
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"k-means++", AUTO, "random"}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
        "on_interrupt": [StrOptions({"raise", "keep"})],
        "backend": [str],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "precision": [StrOptions(set(PRECISIONS))],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | ArrayLike | Callable[..., ArrayLike] = "k-means++",
        n_init: str | int = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        verbose_interval: int = 1,
        on_interrupt: str = "raise",
        backend: str = "auto",
        n_threads: int | None = None,
        precision: Precision = "exact",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.verbose_interval = verbose_interval
        self.on_interrupt = on_interrupt
        self.backend = backend
        self.n_threads = n_threads
        self.precision = precision

    @_fit_context(prefer_skip_nested_validation=True)
    @as_before_if_it_fails
    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: float = 60.0,
    ) -> KMeans:
        """Find the centres.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, D), source or path
            More rows than memory holds are read block by block: see :func:`mixtura.data.as_source`.
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
        checkpoint : path-like, default=None
            A file to which the fit writes what it has reached: see :meth:`mixtura.GaussianMixture.fit`.
        every : float, default=60.0
            Seconds from one writing to the next.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is not finite (the message says where), is not two-dimensional, or has fewer rows than clusters; weights
            are negative or all zero; given centres have the wrong shape.
        """
        given_rows = X
        backend, X = self._opened(X)
        X = check_rows(self, X, reset=True, backend=backend, finite=False)
        if X.shape[0] < self.n_clusters:
            raise ValueError(f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}.")
        weights = check_weights(sample_weight, X)
        check_fit(X, weights, self.n_clusters, getattr(self, "feature_names_in_", None))
        if self.algorithm == "elkan" and self.n_clusters == 1:
            warnings.warn(
                "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' instead.",
                RuntimeWarning,
                stacklevel=4,
            )
        table = Table.of(backend, X, weights)
        n_init = self._runs()
        variance = column_variance(table)
        reporter: Progress | None = CenterLines(
            table.total_weight, self.tol * variance, self.verbose_interval
        )
        if not self.verbose or (self.verbose == 1 and sys.stderr.isatty()):
            reporter = None

        keep, tol = self.on_interrupt == "keep", self.tol * variance

        def attributes(fit: em.Fit[Clusters]) -> dict[str, Any]:
            return {
                "cluster_centers_": fit.parameters.components.means.astype(X.dtype),
                "n_iter_": fit.n_iter,
                "converged_": fit.converged,
                "lower_bound_": fit.bound,
                "lower_bounds_": fit.bounds,
                "backend_": backend.name,
                "_n_features_out": self.n_clusters,
            }

        # A fit's bound is for the centres before their last move. Runs are compared by the inertia of their final
        # centres.
        with self._checkpointed(checkpoint, every, table) as (recorded, rng):
            run = recorded(em.run)

            def one(_: int, report: Callable[[em.Step[Clusters]], bool] | None) -> em.Fit[Clusters]:
                start = self._first_centers(table, X, given_rows, rng)
                return lloyd(table, start, max_iter=self.max_iter, tol=tol, report=report, keep=keep, run=run)

            best, tasks = self._search(
                table,
                n_init,
                one,
                attributes,
                lambda fit: -fit.parameters.components.inertia(table),
                reporter,
                keep,
            )
        if best.interrupted:
            warnings.warn(
                f"The fit was interrupted after {best.n_iter} iterations: the best centres so far are kept.",
                ConvergenceWarning,
                stacklevel=4,
            )
        fitted = attributes(best)
        # Use the centres in the type of X, so that labels and inertia agree with later predictions.
        assigned = _assigned(Centers(fitted["cluster_centers_"].astype(np.float64)), table)
        distinct = int(np.count_nonzero(assigned["_sizes"]))
        if distinct < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({distinct}) found smaller than "
                f"n_clusters ({self.n_clusters}). Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=4,
            )
        self.__dict__.pop("labels_", None)
        self._adopt({**fitted, **assigned}, given_rows, table, tasks)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    @as_before_if_it_fails
    def partial_fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> KMeans:
        """Go on with a block of rows: each centre moves towards the rows that are nearest to it, by less and less.

        The first block is fitted by itself, unless the estimator is fitted already.

        Parameters
        ----------
        X : array-like of shape (n, D)
            A block. Of a streamed table (:func:`mixtura.data.as_source`) all blocks are taken.
        y : Ignored
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self
            ``labels_`` and ``inertia_`` are those of the last block or, as long as all rows are fitted, of them.

        References
        ----------
        Sculley (2010), Web-scale k-means clustering. Cappé, Moulines (2009), On-line expectation-maximization algorithm
        for latent data models.

        Examples
        --------
        >>> import numpy as np
        >>> from mixtura import KMeans
        >>> rng = np.random.default_rng(0)
        >>> km = KMeans(2, random_state=0)
        >>> for _ in range(20):
        ...     _ = km.partial_fit(rng.normal(size=(300, 1)) + 9.0 * rng.integers(0, 2, size=(300, 1)))
        >>> np.sort(km.cluster_centers_[:, 0]).round().astype(int).tolist()
        [0, 9]
        """
        if (blocks := self._in_blocks(X, None, sample_weight)) is not None:
            for block in blocks:
                self.partial_fit(*block)
            return self
        fitted = hasattr(self, "cluster_centers_")
        clusters = len(self._host("cluster_centers_")) if fitted else self.n_clusters
        if clusters != self.n_clusters:
            raise ValueError(
                f"partial_fit: the last fit had {clusters} clusters, this one {self.n_clusters}. Clone the estimator "
                "for a new start."
            )
        state, table = self._stepped((X, None, sample_weight), fitted, self._block)
        if state is None:
            self.n_iter_ = self._n_steps
            return self
        estimate, _ = state.estimate(table)
        centers = estimate.components.means.astype(table.x.dtype)
        attributes = {
            "cluster_centers_": centers,
            **_assigned(Centers(centers.astype(np.float64)), table),
            "n_iter_": state.steps,
            "converged_": False,
            "lower_bound_": state.bound,
            "lower_bounds_": [state.bound],
        }
        self._learn(attributes, X)
        return self

    def _block(self, X: Any, y: Any, sample_weight: Any) -> Table:
        return self._table(X, sample_weight)

    def _to_go_on(self, table: Table) -> Clusters:
        return Mixture(EqualGate(components=self.n_clusters), self._centers(), hard=True)

    def _standing_for(self, mixture: Clusters, table: Table) -> StandIn:
        """See :meth:`MixtureEstimator._standing_for`: each centre is the mean of its rows."""
        if not hasattr(self, "_sizes"):  # from a file of an earlier version
            return super()._standing_for(mixture, table)
        sizes = self._host("_sizes").astype(np.float64)
        components = mixture.components
        shares = sizes / sizes.sum()
        return StandIn.of_components(table, int(sizes.sum()), components.kind, shares, components.means)

    @in_kind
    def fit_predict(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int32]:
        """Fit, and return the labels of the same rows.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        labels : ndarray of shape (N,), int32
        """
        self.fit(X, sample_weight=sample_weight)
        if not hasattr(self, "labels_"):
            return np.asarray(self.predict(X), dtype=np.int32)
        return self._host("labels_").astype(np.int32, copy=False)

    def fit_transform(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Fit, and return the distances of the same rows to the centres.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        distances : ndarray of shape (N, K), in the type of X
        """
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def _runs(self) -> int:
        """The number of runs that ``n_init`` asks for."""
        centers_given = not isinstance(self.init, str) and not callable(self.init)
        if isinstance(self.n_init, str):
            return 10 if (not centers_given and self.init == "random") or callable(self.init) else 1
        if centers_given and self.n_init != 1:
            warnings.warn(
                "Explicit initial center position passed: performing only one init in KMeans instead of "
                f"n_init={self.n_init}.",
                RuntimeWarning,
                stacklevel=5,
            )
            return 1
        return self.n_init

    def _first_centers(
        self, table: Table, X: NDArray[np.floating], given_rows: Any, rng: np.random.RandomState
    ) -> Float:
        if isinstance(self.init, str) and self.init != "random":
            swap = True if self.init == AUTO else None
            return first_centers(sample(table, self.n_clusters, rng), self.n_clusters, rng, swap=swap).means
        if isinstance(self.init, str):
            return np.asarray(X[random_rows(table, self.n_clusters, rng)], dtype=np.float64)
        centers: Any = self.init
        if callable(centers):
            rows = X if isinstance(X, np.ndarray) else given_rows
            centers = centers(rows, self.n_clusters, random_state=rng)
        centers = check_array(unmasked(to_host(centers), "init"), dtype=np.float64, copy=True)
        for count, wanted, unit in (
            (centers.shape[0], self.n_clusters, "clusters"),
            (centers.shape[1], X.shape[1], "features of the data"),
        ):
            if count != wanted:
                raise ValueError(
                    f"The shape of the initial centers {centers.shape} does not match the number of {unit} {wanted}."
                )
        return np.asarray(centers)

    def to_onnx(self, path: str | os.PathLike[str] | None = None, dtype: str = "float32") -> Any:
        """The predictions as a graph in ONNX, which other programs and devices run.

        Its input is ``X`` (N, D). Its outputs are ``label`` (N,) and ``distances`` (N, K) to the centres.
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
        >>> from mixtura import KMeans
        >>> graph = KMeans(2, random_state=0).fit([[0.0], [1.0], [5.0]]).to_onnx()
        >>> [output.name for output in graph.graph.output]
        ['label', 'distances']
        """
        from mixtura.interop import onnx

        return onnx.of_kmeans(self, path, dtype)

    def to_sklearn(self) -> Any:
        """The same model as scikit-learn's estimator, for programs that know only that.

        Parameters that only this class has are left out; those of the next fit that scikit-learn does not know take its
        defaults.

        Returns
        -------
        sklearn.cluster.KMeans

        Examples
        --------
        >>> import numpy as np
        >>> from mixtura import KMeans
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> model = KMeans(2, random_state=0).fit(X)
        >>> bool((model.to_sklearn().predict(X) == model.predict(X)).all())
        True
        """
        from mixtura.interop import scikit_learn

        return scikit_learn.kmeans_to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Any:
        """A fitted estimator of scikit-learn as one of this class.

        Parameters
        ----------
        estimator : sklearn.cluster.KMeans

        Returns
        -------
        KMeans

        Raises
        ------
        TypeError
            It is something else.

        Examples
        --------
        >>> import numpy as np, sklearn.cluster
        >>> from mixtura import KMeans
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> theirs = sklearn.cluster.KMeans(2, random_state=0).fit(X)
        >>> bool((KMeans.from_sklearn(theirs).predict(X) == theirs.predict(X)).all())
        True
        """
        from mixtura.interop import scikit_learn

        return scikit_learn.kmeans_from_sklearn(cls, estimator)

    def _check_state(self) -> None:
        """Raise ValueError unless parameters and fitted attributes are consistent."""
        self._validate_params()
        centers = self._host("cluster_centers_")
        labels = self._host("labels_") if hasattr(self, "labels_") else np.zeros(0, dtype=np.int32)
        wanted = (self.n_clusters, self.n_features_in_)
        if centers.shape != wanted or centers.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"cluster_centers_ is {centers.dtype} {centers.shape}, not floating-point {wanted}"
            )
        if not np.isfinite(centers).all():
            raise ValueError("cluster_centers_ is not finite")
        if labels.ndim != 1 or labels.dtype != np.int32:
            raise ValueError(f"labels_ is {labels.dtype} {labels.shape}, not int32 (N,)")
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.n_clusters):
            raise ValueError("labels_ names clusters that do not exist")

    def _centers(self) -> Centers:
        return Centers(self._host("cluster_centers_").astype(np.float64))

    def _labels(self, table: Table) -> NDArray[np.int32]:
        return self._most_likely(table, self._centers().joint, np.int32, "centre", "squared distance")

    @in_kind
    def transform(self, X: ArrayLike) -> NDArray[np.floating]:
        """Distances to the centres.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        distances : ndarray of shape (N, K), in the type of X
        """
        table = self._table(X)
        return np.sqrt(self._centers().squared_distances(table)).astype(table.x.dtype)

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Minus the inertia of X.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        score : float
        """
        return -self._centers().inertia(self._table(X, sample_weight))

    def summary(self) -> str:
        """The fitted clusters in a few lines of text.

        Returns
        -------
        text : str
        """
        check_is_fitted(self)
        K, D = self.cluster_centers_.shape
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(D)])
        if hasattr(self, "_sizes"):
            sizes = self._host("_sizes")
        else:  # from a file of an earlier version
            sizes = np.bincount(self._host("labels_"), minlength=K)
        return summary(
            f"k-means, {K} clusters",
            {
                "rows x columns": f"{int(sizes.sum())} x {D}",
                "inertia": f"{self.inertia_:.8g}",
                "iterations": f"{self.n_iter_} ({'' if self.converged_ else 'not '}converged)",
                "passes over the rows": f"{self.n_passes_:.4g}" if hasattr(self, "n_passes_") else "?",
                "backend": self.backend_,
            },
            [str(name) for name in names],
            {"rows": sizes.astype(np.float64)},
            {"centre": self._host("cluster_centers_")},
        )
