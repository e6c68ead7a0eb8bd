"""Passes over rows that lie on several machines, each partition by a backend where it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.base import Backend, Float, Rows
from mixtura.backends.streaming import StreamingBackend
from mixtura.joint import Joint
from mixtura.moments import Kind, Moments

Spread = tuple[Float, Float]


class RemoteBackend(StreamingBackend):
    """A backend for :class:`mixtura.distributed.Partitioned` rows: moments come back, rows stay.

    Parameters
    ----------
    inner : Backend
        Workers make their own of the same kind.
    """

    summary: ClassVar[str] = "where the rows are"

    def _on_workers(self, rows: Rows, function: Any, joint: Joint, *parameters: Any) -> Any:
        """The arguments of a call for each partition."""
        X: Any = rows.X
        n = len(X.parts)
        how = {
            "name": self.inner.name,
            "n_threads": self.n_threads,
            "precision": self.precision,
            "in_double": self.inner.in_double,
        }
        joints = [joint.cut(cut.start, cut.stop) for cut in X.cuts]
        beside = [X.cut(rows.y), X.cut(rows.sample_weight), [rows.spread] * n, [how] * n, joints]
        return X.parts, function, *beside, *([value] * n for value in parameters)

    def _summed(self, rows: Rows, joint: Joint, kind: Kind, pivot: Float) -> Moments:
        X: Any = rows.X
        found: Moments = X.engine.map_reduce(*self._on_workers(rows, _expect, joint, kind, pivot))
        return found

    def expect_each(
        self, rows: Rows, joint: Joint, kind: Kind, pivots: Float, wanted: NDArray[np.bool_]
    ) -> Moments:
        """See :meth:`Backend.expect_each`."""
        X: Any = rows.X
        found: Moments = X.engine.map_reduce(*self._on_workers(rows, _each, joint, kind, pivots, wanted))
        return found

    def accumulate(self, rows: Rows, resp: Float, kind: Kind, pivot: Float) -> Moments:
        """See :meth:`Backend.accumulate`."""
        X: Any = rows.X
        beside = self._on_workers(rows, _accumulate, Joint.of_all(pivot), kind, pivot)
        found: Moments = X.engine.map_reduce(*beside, X.cut(resp))
        return found

    def assign(self, rows: Rows, joint: Joint) -> tuple[NDArray[np.int32], Float]:
        """See :meth:`Backend.assign`."""
        X: Any = rows.X
        parts = X.engine.gather(X.engine.map(*self._on_workers(rows, _assign, joint)))
        labels, best = zip(*parts, strict=True)
        return np.concatenate(labels), np.concatenate(best)

    def posterior(self, rows: Rows, joint: Joint, resp: NDArray[np.floating] | None = None) -> Float:
        """See :meth:`Backend.posterior`."""
        X: Any = rows.X
        wanted = None if resp is None else str(resp.dtype)
        parts = X.engine.gather(X.engine.map(*self._on_workers(rows, _posterior, joint, wanted)))
        if resp is not None:
            resp[:] = np.concatenate([own for _, own in parts])
        return np.concatenate([density for density, _ in parts])


def _placed(
    X: Any, y: Any, weight: Any, spread: Spread | None, how: dict[str, Any], joint: Joint
) -> tuple[Backend, Rows]:
    """A worker's backend, and its partition as that places it."""
    from mixtura import backends

    backend = backends.create(how["name"], how["n_threads"], how["precision"])
    backend.in_double = how["in_double"]
    return backend, replace(backend.place(X, y, weight), spread=spread)


def _expect(
    X: Any, y: Any, weight: Any, spread: Any, how: Any, joint: Joint, kind: Kind, pivot: Float
) -> Moments:
    backend, rows = _placed(X, y, weight, spread, how, joint)
    return backend.expect(rows, joint, kind, pivot)


def _each(
    X: Any, y: Any, weight: Any, spread: Any, how: Any, joint: Joint, kind: Kind, pivots: Float, wanted: Any
) -> Moments:
    backend, rows = _placed(X, y, weight, spread, how, joint)
    return backend.expect_each(rows, joint, kind, pivots, wanted)


def _accumulate(
    X: Any, y: Any, weight: Any, spread: Any, how: Any, joint: Joint, kind: Kind, pivot: Float, resp: Float
) -> Moments:
    backend, rows = _placed(X, y, weight, spread, how, joint)
    return backend.accumulate(rows, resp, kind, pivot)


def _assign(X: Any, y: Any, weight: Any, spread: Any, how: Any, joint: Joint) -> Any:
    backend, rows = _placed(X, y, weight, spread, how, joint)
    return backend.assign(rows, joint)


def _posterior(X: Any, y: Any, weight: Any, spread: Any, how: Any, joint: Joint, wanted: str | None) -> Any:
    backend, rows = _placed(X, y, weight, spread, how, joint)
    resp = None if wanted is None else np.empty((len(X), joint.components), dtype=wanted)
    return backend.posterior(rows, joint, resp), resp
