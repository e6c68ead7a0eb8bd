"""Families of covariances: what the components share, and which covariances then maximise the likelihood.

A family says how covariances are kept (:mod:`mixtura.components.storage`) and which moments it needs, and has two
methods. A new family is a class in :data:`COVARIANCES`; users add theirs by
:func:`mixtura.extension.register_covariance`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mixtura.components.storage import Diagonals, Matrices, Scalars, Storage
from mixtura.components.surfaces import Surface
from mixtura.elsewhere import Computed, Transposed
from mixtura.factorize import IllDefinedCovarianceError
from mixtura.moments import Kind, Moments
from mixtura.threads import compiled_allowed, native, threads_for

Float = NDArray[np.float64]

# Share of the table's variance below which a variance is taken to have vanished: a hundred times the rounding error of
# the table's own covariance. It is no larger so that clusters that are narrow beside the table keep their variance.
LEAST_SHARE = 1e-14


class Estimates(Protocol):
    """What an M-step gives: see :class:`mixtura.components.gaussian.Gaussians`."""

    @property
    def means(self) -> Float:
        """(K, D)."""

    @property
    def covariances(self) -> Float:
        """In the shape that the family keeps."""

    @property
    def precisions_cholesky(self) -> Float:
        """In the same shape."""


class Covariance(ABC):
    """A family of covariances of K Gaussians in D dimensions.

    Attributes
    ----------
    name : str
        The name that ``GaussianMixture(covariance_type=...)`` takes.
    kind : str
        The kind of moments that :meth:`estimate` needs: see :class:`mixtura.moments.Moments`.
    storage : Storage
        How the covariances are kept.
    constrained : bool
        Whether the covariances of single components depend on each other, though each is kept: they are then neither
        bounded, fixed nor moved one by one.
    direct : bool
        Whether the M-step is the covariances of the rows themselves, averaged where they are shared: kernels then know
        it, too.
    slow : bool
        Whether the M-step takes far longer than that of most families.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    storage: ClassVar[Storage]
    constrained: ClassVar[bool] = False
    direct: ClassVar[bool] = False
    slow: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        """A family that changes another one's M-step, or how covariances are kept, is not direct unless it says so."""
        super().__init_subclass__(**keywords)
        if "direct" in vars(cls):
            return
        # What it has may come from another base than the family that is direct.
        of_direct = next((base for base in cls.__mro__[1:] if vars(base).get("direct", False)), None)
        decides = ("estimate", "estimated", "factorized", "storage")
        if of_direct is not None and any(
            getattr(cls, name) is not getattr(of_direct, name) for name in decides
        ):
            cls.direct = False

    @abstractmethod
    def estimate(self, moments: Moments, mass: Float) -> Float:
        """Maximum-likelihood covariances, in the shape in which they are kept, for given masses (K,)."""

    def estimated(
        self, moments: Moments, mass: Float, reg_covar: float | Float, before: Float | None
    ) -> Float:
        """:meth:`estimate`, with ``reg_covar`` added to the variances; an iteration may start from those ``before``."""
        return self.storage.regularized(self.estimate(moments, mass), reg_covar)

    def factorized(
        self, moments: Moments, mass: Float, reg_covar: float | Float, before: Estimates | None
    ) -> tuple[Float, Float]:
        """:meth:`estimated`, and the Cholesky factors of the precisions; either may be elsewhere."""
        start = None if before is None else before.covariances
        covariances = self.estimated(moments, mass, reg_covar, start)
        return covariances, self.storage.cholesky(covariances)

    def nearest(self, covariances: Float, before: Float | None = None) -> Float:
        """Covariances of the family in the place of any others, which may have moved away from those ``before``.

        By default the most likely ones of as many rows with each of those covariances.
        """
        if self.direct or self.storage.form == "scalar":
            return covariances
        K, D = 1 if self.storage.shared else len(covariances), covariances.shape[-1]
        none = Moments.zero(self.kind, K, np.zeros(D))
        moments = replace(none, mass=np.ones(K)).added(self.storage.dense(covariances, K, D))
        return self.estimate(moments, np.ones(K))

    def least(self, variances: Float) -> Float:
        """The least variances of the columns, (D,), that the family can tell from none, given those of a table."""
        return LEAST_SHARE * variances

    def singular(
        self,
        moments: Moments,
        mass: Float,
        reg_covar: float | Float,
        before: Float,
        scale: Float,
    ) -> NDArray[np.bool_]:
        """Which covariances would be singular beside the table's, ``scale``: :attr:`storage` has one for each."""
        covariances = self.estimated(moments, mass, reg_covar, before)
        return np.asarray(self.storage.narrowest(covariances, scale, LEAST_SHARE) < LEAST_SHARE)

    def surface(self, covariances: Float) -> Surface | None:
        """What of the covariances is free, near given ones; None if all that is kept is."""
        return None

    @abstractmethod
    def n_parameters(self, components: int, dims: int) -> int:
        """Number of free parameters of the covariances."""


class Full(Covariance):
    """Each component has a covariance matrix of its own, (K, D, D)."""

    name = "full"
    kind = "full"
    storage = Matrices()
    direct = True

    def estimate(self, moments: Moments, mass: Float) -> Float:
        return moments.covariances(mass)

    def factorized(
        self, moments: Moments, mass: Float, reg_covar: float | Float, before: Estimates | None
    ) -> tuple[Float, Float]:
        """See :meth:`Covariance.factorized`: where the moments are, if that is elsewhere."""
        scatters = moments.elsewhere("second") if self.direct else None
        factors = None if scatters is None else scatters.factors(mass, reg_covar)
        if factors is None:
            return super().factorized(moments, mass, reg_covar, before)
        covariances = Computed(lambda: self.estimated(moments, mass, reg_covar, None))
        return cast(Float, covariances), cast(Float, Transposed(factors))

    def n_parameters(self, components: int, dims: int) -> int:
        return components * dims * (dims + 1) // 2


class Tied(Covariance):
    """All components share one covariance matrix, (D, D)."""

    name = "tied"
    kind = "shared"
    storage = Matrices(shared=True)
    direct = True

    def estimate(self, moments: Moments, mass: Float) -> Float:
        return moments.covariances(mass)

    def n_parameters(self, components: int, dims: int) -> int:
        return dims * (dims + 1) // 2


class Diagonal(Covariance):
    """Each component has a variance for each column, (K, D)."""

    name = "diag"
    kind = "diagonal"
    storage = Diagonals()
    direct = True

    def estimate(self, moments: Moments, mass: Float) -> Float:
        return moments.covariances(mass)

    def factorized(
        self, moments: Moments, mass: Float, reg_covar: float | Float, before: Estimates | None
    ) -> tuple[Float, Float]:
        """See :meth:`Covariance.factorized`: in one reading, where the compiled library is to be had."""
        if native is None or not compiled_allowed() or not self.direct:
            return super().factorized(moments, mass, reg_covar, before)
        added = np.ascontiguousarray(np.broadcast_to(reg_covar, moments.first.shape[1]), dtype=np.float64)
        threads = threads_for(moments.first.size)
        found = native.diagonal_estimates(mass, moments.first, moments.second, added, threads)
        if found is None:
            raise IllDefinedCovarianceError
        return found

    def n_parameters(self, components: int, dims: int) -> int:
        return components * dims


class Spherical(Covariance):
    """Each component has one variance for all columns, (K,)."""

    name = "spherical"
    kind = "trace"
    storage = Scalars()
    direct = True

    def estimate(self, moments: Moments, mass: Float) -> Float:
        return np.asarray(moments.covariances(mass) / moments.first.shape[1])

    def n_parameters(self, components: int, dims: int) -> int:
        return components


COVARIANCES: dict[str, Covariance] = {c.name: c for c in (Full(), Tied(), Diagonal(), Spherical())}
