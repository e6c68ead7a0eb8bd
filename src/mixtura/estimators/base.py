"""What all estimators share: choosing a backend, checking and placing rows, runs from several starts, reporting."""

from __future__ import annotations

import inspect
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from mixtura import backends, em
from mixtura.array_kinds import in_kind, is_paths, like, to_host
from mixtura.backends.base import Backend
from mixtura.checkpoints import Checkpoint, described
from mixtura.data.sources import opened
from mixtura.estimators.callbacks import CallbackSupportMixin, Tasks
from mixtura.estimators.listening import Listening
from mixtura.estimators.saved import Saved
from mixtura.estimators.validation import check_all_targets, check_finite, check_rows, check_weights
from mixtura.joint import Joint
from mixtura.mixture import Mixture
from mixtura.online import Online, StandIn
from mixtura.progress import Progress, progress
from mixtura.randomness import generator
from mixtura.streamed import Streamed
from mixtura.table import Table

Float = NDArray[np.float64]
M = TypeVar("M", bound=em.Model)

# Rows, or numbers, up to which `partial_fit` fits all rows so far, in so many iterations each time.
_EARLY_ROWS, _EARLY_NUMBERS = 1 << 15, 1 << 19
_FIRST_ITERATIONS = 30

One = Callable[[int, Callable[[em.Step[M]], bool] | None], em.Fit[M]]

# Takes runs of EM, and gives the same ones, which a checkpoint records.
Recorded = Callable[[Callable[..., em.Fit[Any]]], Callable[..., em.Fit[Any]]]


def _together(blocks: list[tuple[Any, Any, Any]]) -> tuple[Any, Any, Any]:
    """X, y and weights of several blocks, one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    X = np.concatenate([np.asarray(to_host(x)) for x, _, _ in blocks])
    targets, weights = None, None
    if blocks[0][1] is not None:
        of_blocks = [np.asarray(to_host(y)) for _, y, _ in blocks]
        before, now = of_blocks[0].ndim, of_blocks[-1].ndim
        if now != before:
            some = f"{before} dimension{'s' if before > 1 else ''}"
            raise ValueError(f"y had {some} in the blocks before, and has {now} in this one")
        targets = np.concatenate(of_blocks)
    if any(w is not None for _, _, w in blocks):
        weights = np.concatenate(
            [
                np.ones(len(np.asarray(to_host(x)))) if w is None else np.asarray(to_host(w))
                for x, _, w in blocks
            ]
        )
    return X, targets, weights


def _copied(block: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """A block as arrays of its own: the caller may fill his with other rows."""
    X, y, weight = (None if part is None else np.array(to_host(part)) for part in block)
    return X, y, weight


@cache
def _defaults(init: Callable[..., None]) -> dict[str, Any]:
    """The parameters of an estimator's ``__init__`` and their default values.

    Those without one have a value that nothing else is.
    """
    parameters = inspect.signature(init).parameters
    return {name: p.default for name, p in parameters.items() if name != "self"}


class MixtureEstimator(CallbackSupportMixin, Saved, BaseEstimator):
    """An estimator whose fit is EM from one or several starts.

    All such estimators have the parameters ``max_iter``, ``verbose``, ``verbose_interval``, ``backend``, ``n_threads``,
    ``precision``.
    """

    max_iter: int
    verbose: int
    verbose_interval: int
    backend: str
    n_threads: int | None
    precision: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _validate_params(self) -> None:
        """As in scikit-learn, for the parameters that are not as they are by default: all take a fifth of a small fit.

        Raises
        ------
        InvalidParameterError
            A parameter has a wrong type or value.
        """
        defaults = _defaults(type(self).__init__)
        given = {
            name: value for name, default in defaults.items() if (value := getattr(self, name)) is not default
        }
        validate_parameter_constraints(self._parameter_constraints, given, caller_name=type(self).__name__)

    def _opened(self, X: Any) -> tuple[Backend, Any]:
        """The backend that ``backend`` names, if it can read X, and X itself: as a source where it is not in memory."""
        X = self._read(X)
        return backends.for_rows(X, self.backend, self.n_threads, self.precision), X

    def _read(self, X: Any) -> Any:
        """X, as a source where it is not a table in memory."""
        if hasattr(X, "tocsr") and not self.__sklearn_tags__().input_tags.sparse:
            raise TypeError(
                f"Sparse data was passed for X, which {type(self).__name__} takes as mixtura.data.as_source(X): blocks "
                "of rows then become dense one after the other. Or pass X.toarray()."
            )
        return opened(X)

    def _in_blocks(self, X: Any, y: Any, sample_weight: Any) -> Iterator[tuple[Any, Any, Any]] | None:
        """X, y and weights in blocks, if X is a table that is read block by block."""
        source = self._read(X)
        if not isinstance(source, Streamed):
            return None

        sample_weight = check_weights(sample_weight, source)
        if self.__sklearn_tags__().target_tags.required:
            if y is not None and not is_paths(y):
                check_consistent_length(source, to_host(y))
            y = check_all_targets(self, source, y)

        def part(values: Any, start: int, stop: int) -> Any:
            return None if values is None else np.asarray(to_host(values))[start:stop]

        blocks = (
            (block, part(y, start, start + len(block)), part(sample_weight, start, start + len(block)))
            for start, block in source.blocks()
        )
        # Where none of a block's rows counts there is nothing to learn.
        return (block for block in blocks if block[2] is None or np.any(block[2]))

    def _table(self, X: Any, sample_weight: Any = None, answers_checked: bool = False) -> Table:
        """Check and place rows for which a prediction is wanted.

        Compiled backends give a row that holds NaN or infinity a density that is not finite. If the caller looks for
        that by :meth:`_check_answers`, the rows need not be searched first, unless some may have weight 0.
        """
        check_is_fitted(self)
        backend, X = self._opened(X)
        finite = not (answers_checked and backend.compiled and sample_weight is None)
        X = check_rows(self, X, reset=False, backend=backend, finite=finite)
        return Table.of(backend, X, check_weights(sample_weight, X))

    def _check_answers(self, table: Table, answers: Float, target: str, quantity: str) -> None:
        """Raise ValueError if an answer about a row of positive weight, of ``answers`` (N,), is not finite."""
        not_finite = np.flatnonzero(~np.isfinite(answers))
        if table.counted is not None:
            not_finite = np.intersect1d(not_finite, table.counted)
        if not len(not_finite):
            return
        if isinstance(table.all_x, np.ndarray):
            check_finite(table.all_x, getattr(self, "feature_names_in_", None))
        raise ValueError(
            f"row {not_finite[0] + table.start} of X is so far from every {target} that its {quantity} cannot be "
            f"represented ({len(not_finite)} such rows). Scale the input data, or remove such rows."
        )

    def _search(
        self,
        table: Table,
        n_init: int,
        one: One[M],
        attributes: Callable[[em.Fit[M]], dict[str, Any]],
        score: Callable[[em.Fit[M]], Any] | None = None,
        reporter: Progress | None = None,
        keep: bool = False,
    ) -> tuple[em.Fit[M], Tasks]:
        """The best of ``n_init`` runs, and the callbacks' tasks, which the caller closes once the attributes are set.

        Parameters
        ----------
        table : Table
        n_init : int
        one : callable
            ``one(i, report)`` makes run number i, and calls ``report``, which may be None, after each iteration.
        attributes : callable
            Returns the fitted attributes, by name, of a run that need not be over.
        score : callable, optional
            The score by which runs are compared; by default the bound.
        reporter : Progress, optional
            By default the one that ``verbose`` asks for.
        keep : bool, default=False
            Whether a KeyboardInterrupt ends the search with the best run so far.
        """
        if reporter is None:
            tol = self._least_change() if self.verbose else 0.0
            reporter = progress(self.verbose, self.verbose_interval, len(table), self.max_iter, n_init, tol)
        tasks = Tasks(self, table.x, self._answers_of(table), table.sample_weight, n_init, self.max_iter)
        with table.host_limits():
            best = em.restarts(n_init, one, Listening(reporter, tasks, attributes), score, keep)
        return best, tasks

    def _answers_of(self, table: Table) -> Any:
        """What callbacks get as y."""
        return None

    @contextmanager
    def _checkpointed(
        self, path: Any, every: float, table: Table
    ) -> Iterator[tuple[Recorded, np.random.RandomState]]:
        """What makes a checkpoint record runs of EM, if there is a path, and the random numbers of the fit."""
        seed: Any = getattr(self, "random_state", None)
        if path is None:
            with generator(seed) as rng:
                yield lambda run: run, rng
            return
        self._check_recordable(every, seed)
        drawn = int(np.random.RandomState().randint(2**31)) if seed is None else int(seed)
        with table.host_limits():
            fit = described(self, table)
        checkpoint = Checkpoint.open(path, fit, float(every), drawn)
        try:
            with generator(checkpoint.seed) as rng:
                yield checkpoint.recorded, rng
        finally:
            checkpoint.close()

    def _check_recordable(self, every: Any, seed: Any) -> None:
        """Raise ValueError unless a checkpoint can hold the fit's state."""
        if (
            isinstance(every, bool)
            or not isinstance(every, (int, float, np.integer, np.floating))
            or not every >= 0.0
        ):
            raise ValueError(f"every must be a number of seconds that is not negative, got {every!r}")
        if seed is not None and not isinstance(seed, (int, np.integer)):
            raise ValueError("a fit with a checkpoint needs random_state to be an integer or None")
        if getattr(self, "warm_start", False):
            raise ValueError("checkpoint does not go with warm_start=True, which goes on from an earlier fit")

    def _stepped(
        self, block: tuple[Any, Any, Any], fitted: bool, table_of: Callable[[Any, Any, Any], Table]
    ) -> tuple[Online | None, Table]:
        """The state of stepwise EM after one more block of rows, and the block.

        As long as there are few rows, the estimator is fitted to all of them, and the state is None.

        Parameters
        ----------
        block : tuple
            X, y and sample_weight; y is None where there are no targets.
        fitted : bool
            Whether there are parameters already.
        table_of : callable
            Checks and places such a block.
        """
        state: Online | None = getattr(self, "_online", None)
        early: list[tuple[Any, Any, Any]] | None = getattr(self, "_early", None)
        if state is not None:
            table = table_of(*block)
            with table.host_limits():
                state = state.step(table)
        elif fitted and early is None:
            table = table_of(*block)
            with table.host_limits():
                mixture = self._to_go_on(table)
                gone = self._standing_for(mixture, table)
                steps = max(gone.rows // len(table), 1)
                state = Online.begin(mixture, gone.table, steps, gone.rows, gone.moments).step(table)
        else:
            early = [] if early is None else early
            if fitted:
                table_of(*block)  # whatever is wrong with it is said before anything changes
            X, y, weight = _together([*early, block])
            X = like(block[0])(X) if early else X
            # Of several blocks X is an array, without names.
            names = self.__dict__.pop("feature_names_in_", None) if early else None
            try:
                self._fit_early(X, y, weight, fitted)
                table = table_of(X, y, weight)
            finally:
                if names is not None:
                    self.feature_names_in_ = names
            self._n_steps = len(early) + 1
            if len(table) >= _EARLY_ROWS or len(table) * table.dims >= _EARLY_NUMBERS:
                with table.host_limits():
                    state = Online.begin(self._to_go_on(table), table, self._n_steps)
            else:
                self._early = [*early, _copied(block)]
        if state is None:
            self._match_kind_of(block[0])
        else:
            self._online = state
            self.__dict__.pop("_early", None)
        return state, table

    def _learn(self, attributes: dict[str, Any], X: Any) -> None:
        """Set what a block has changed, as arrays of the library of X."""
        for name, value in attributes.items():
            setattr(self, name, value)
        self._match_kind_of(X)

    def _fit_early(self, X: Any, y: Any, sample_weight: Any, fitted: bool) -> None:
        """Fit to the rows so far, from the parameters that there are."""
        first = copy(self) if fitted else clone(self)
        first.__dict__.pop("_early", None)
        parameters = first.get_params(deep=False)
        changed = {"max_iter": min(self.max_iter, _FIRST_ITERATIONS)}
        if fitted and "warm_start" in parameters:
            changed["warm_start"] = True
        targets = {} if y is None else {"y": y}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            first.set_params(**changed).fit(X, sample_weight=sample_weight, **targets)
        self.__dict__.update({name: v for name, v in vars(first).items() if name not in parameters})

    def _least_change(self) -> float:
        """Change of the bound below which a run has converged; 0 where something else decides."""
        return 0.0

    def _to_go_on(self, table: Table) -> Mixture[Any, Any]:
        """The fitted parameters, for an M-step that follows."""
        raise NotImplementedError

    def _standing_for(self, mixture: Mixture[Any, Any], table: Table) -> StandIn:
        """What stands for the rows of the last fit, which are gone: without better, a block of other rows."""
        return StandIn(table, int(getattr(self, "_n_rows", len(table))))

    def _adopt(self, attributes: dict[str, Any], X: Any, table: Table, tasks: Tasks) -> None:
        """Set the fitted attributes, as arrays of the library of X, and tell callbacks that the fit is over."""
        self.n_passes_ = table.tally.rows / len(table)
        self.__dict__.pop("_online", None)
        self.__dict__.pop("_early", None)
        self._learn(attributes, X)
        tasks.close(dict)


class LabellingEstimator(MixtureEstimator):
    """An estimator that gives each row the label of a component."""

    @abstractmethod
    def _labels(self, table: Table) -> NDArray[np.integer]:
        """Labels of rows, (N,)."""

    def _most_likely(
        self, table: Table, joint: Joint, kind: type[np.integer], target: str, quantity: str
    ) -> NDArray[Any]:
        """The most likely component of each row, (N,), of the wanted type of integer.

        The densities by which they were chosen are looked at in blocks, so that a long table takes little beside it.
        """
        labels = np.empty(len(table), dtype=kind)
        for block in table.blocks(1):
            chosen, density = block.assign(joint)
            self._check_answers(block, density, target, quantity)
            labels[block.start - table.start :][: len(block)] = chosen
        return labels

    @in_kind
    def predict(self, X: ArrayLike) -> NDArray[np.integer]:
        """Most likely component of each row; for k-means, the nearest centre.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        labels : ndarray of shape (N,)
            Integers from 0 to K - 1: int32 from :class:`KMeans` and int64 from :class:`GaussianMixture`, as in
            scikit-learn.
        """
        return self._labels(self._table(X, answers_checked=True))
