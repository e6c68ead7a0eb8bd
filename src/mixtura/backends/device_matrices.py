"""Second moments and factors of many large components that stay on a CUDA device between passes."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura.elsewhere import Factors, Scatters

Float = NDArray[np.float64]


class DeviceScatters(Scatters):
    """Second moments that a pass has left on its device.

    Parameters
    ----------
    scatters : Scatters of the CUDA module
    threads : int
        Of the host, which put them in their places if they are brought.
    """

    def __init__(self, scatters: Any, threads: int) -> None:
        self._scatters = scatters
        self._threads = threads
        self.diagonals: Float = scatters.diagonals
        self.finite: bool = scatters.finite
        self._last: tuple[Float, Float, DeviceFactors | None] | None = None

    def brought(self) -> Float:
        """See :meth:`mixtura.elsewhere.Elsewhere.brought`."""
        return np.asarray(self._scatters.brought(self._threads))

    def factors(self, mass: Float, added: float | Float) -> DeviceFactors | None:
        """See :meth:`mixtura.elsewhere.Scatters.factors`; asked again for the same, the same ones."""
        variances = np.ascontiguousarray(np.broadcast_to(added, self.diagonals.shape[1]), dtype=np.float64)
        last = self._last
        if last is None or not (np.array_equal(last[0], mass) and np.array_equal(last[1], variances)):
            factors = self._scatters.factors(mass, variances)
            made = None if factors is None else DeviceFactors(factors, self._threads)
            last = self._last = mass.copy(), variances.copy(), made
        return last[2]


class DeviceFactors(Factors):
    """Factors that are on a device.

    Parameters
    ----------
    factors : Factors of the CUDA module
    threads : int
        As above.
    """

    def __init__(self, factors: Any, threads: int) -> None:
        self.handle = factors
        self._threads = threads
        self.log_determinants: Float = factors.log_determinants

    @cached_property
    def _on_host(self) -> Float:
        return np.asarray(self.handle.brought(self._threads))

    def brought(self) -> Float:
        """See :meth:`mixtura.elsewhere.Elsewhere.brought`: once for all who ask."""
        return self._on_host

    def widths(self, around: Float, vectors: Float) -> tuple[float, float, float]:
        """See :meth:`mixtura.elsewhere.Factors.widths`."""
        widest, least, most, _, _ = self.handle.measured(around, vectors).T
        return float(widest.max()), float(least.min()), float(most.max())

    def lengths(self, vectors: Float) -> Float:
        """See :meth:`mixtura.elsewhere.Factors.lengths`."""
        return np.asarray(self.handle.measured(np.zeros(vectors.shape[1]), vectors)[:, 3])

    def norms(self, variances: Float, closely: bool) -> Float:
        """See :meth:`mixtura.elsewhere.Factors.norms`."""
        return np.asarray(self.handle.norms(variances) if closely else self.handle.measured(variances)[:, 4])
