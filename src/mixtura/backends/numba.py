"""The fallback where there is no C++ compiler: the loops of the C++ kernels, compiled by Numba.

Kernels are serial and release the interpreter lock; Python threads call them on chunks of rows, and the
chunks' statistics are added in order. (Numba's own threading layers die after a fork, or when two threads
enter them.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from mixtura.backends.base import Backend, Float, Rows
from mixtura.backends.numba_kernels import BLOCK, accumulate_chunk, expect_chunk, log_joint_chunk
from mixtura.joint import Joint
from mixtura.layouts import LAYOUTS, Kind
from mixtura.moments import Moments
from mixtura.quadratics import Quadratics
from mixtura.threads import limit_blas, thread_limit

T = TypeVar("T")

_CHUNK = 32 * BLOCK  # rows of one task; the chunks do not depend on the number of threads

# The numbers by which the loops know the kinds of moments. They keep second moments for each component.
_KINDS = {"mass": 0, "mean": 1, "trace": 2, "diagonal": 3, "full": 4, "shared": 4}
_FORMS = {"scalar": 0, "diagonal": 0, "triangle": 1, "rectangle": 2}


def _arguments(quadratics: Quadratics, pivot: Float) -> tuple[Any, ...]:
    """Quadratics as the kernels take them, about the pivot: form, offsets, means, 3-D factors, biases, linear terms."""
    q = quadratics
    means, offsets, linear = q.means - pivot, q.offsets, np.empty((0, q.dims))
    if q.linear is not None:
        linear = np.ascontiguousarray(q.linear)
        offsets = offsets - np.sum(linear * means, axis=1)
    factors = q.factors
    if q.form == "scalar":
        factors = np.repeat(factors[:, None], q.dims, axis=1)
    if factors.ndim == 2:
        factors, bias = factors[:, None, :], means
    else:
        bias = np.einsum("krd,kd->kr", np.broadcast_to(factors, (q.components, *factors.shape[1:])), means)
    return _FORMS[q.form], offsets, means, np.ascontiguousarray(factors), bias, linear


class NumbaBackend(Backend):
    """Loops compiled by Numba, called on chunks of rows from Python threads."""

    name = "numba"
    summary = "kernels compiled by Numba at first use"

    def _map(self, n: int, task: Callable[[int, int], T]) -> Iterator[T]:
        """Yield task(start, stop) of each chunk, in order; worker threads are at most a few chunks ahead."""
        chunks = [(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]
        threads = min(self.n_threads or thread_limit(), len(chunks))
        if threads <= 1:
            with limit_blas(1):
                for start, stop in chunks:
                    yield task(start, stop)
            return
        with limit_blas(1), ThreadPoolExecutor(threads) as pool:
            ahead: deque[Future[T]] = deque()
            for start, stop in chunks:
                ahead.append(pool.submit(task, start, stop))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def log_joint(self, rows: Rows, joint: Joint) -> Float:
        """See :meth:`mixtura.backends.base.Backend.log_joint`."""
        out = np.empty((len(rows), joint.components))
        pivot = joint.quadratics.center
        arguments = _arguments(joint.quadratics, pivot)

        def task(start: int, stop: int) -> None:
            log_joint_chunk(rows.X, start, stop, pivot, *arguments, out)

        for _ in self._map(len(rows), task):
            pass
        out += joint.log_weights
        return out

    def accumulate(self, rows: Rows, resp: Float, kind: Kind, pivot: Float) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.accumulate`."""
        shape = (resp.shape[1], LAYOUTS[kind].each.size(rows.dims))
        weights = _weights(rows)
        resp = np.ascontiguousarray(resp, dtype=np.float64)

        def task(start: int, stop: int) -> Float:
            out = np.zeros(shape)
            accumulate_chunk(rows.X, start, stop, pivot, resp, weights, _KINDS[kind], out)
            return out

        statistics = np.zeros(shape)
        for part in self._map(len(rows), task):
            statistics += part
        return Moments.from_table(kind, pivot, statistics, 0.0, len(rows))

    def expect(self, rows: Rows, joint: Joint, kind: Kind, pivot: Float) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.expect`; reads the rows once and holds no N x K."""
        shape = (joint.components, LAYOUTS[kind].each.size(rows.dims))
        weights = _weights(rows)
        prior = np.ascontiguousarray(np.atleast_2d(joint.log_weights), dtype=np.float64)
        arguments = _arguments(joint.quadratics, pivot)

        def task(start: int, stop: int) -> tuple[Float, float]:
            out = np.zeros(shape)
            log_likelihood = expect_chunk(
                rows.X, start, stop, pivot, *arguments, prior, weights, joint.hard, _KINDS[kind], out
            )
            return out, log_likelihood

        statistics, log_likelihood = np.zeros(shape), 0.0
        for part, value in self._map(len(rows), task):
            statistics += part
            log_likelihood += value
        return Moments.from_table(kind, pivot, statistics, log_likelihood, len(rows))


def _weights(rows: Rows) -> Float:
    return np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight
