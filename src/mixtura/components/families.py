"""The families of Celeux and Govaert: covariances that share volume, shape or orientation.

A covariance is ``S_k = l_k D_k A_k D_k'``: a volume l, a shape A (diagonal, of determinant 1) and an orientation D. A
family has three letters, for these three: E if it is equal for all components, V if it varies, I if it is the identity.
The M-step minimises

    Phi = sum_k n_k log |S_k| + tr(W_k S_k^-1),

with n_k the mass of a component and W_k its scatter. Four families have names of their own in scikit-learn: VVV is
'full', EEE 'tied', VVI 'diag', VII 'spherical'.

Five M-steps are iterations. Those of VEI, VEE and VEV run until Phi falls by less than 1e-12 of the mass. Those of EVE
and VVE do so too, but with many columns they turn their axes only a few times in each iteration of EM, and go on from
there in the next. Each step lowers Phi, so that the likelihood of EM cannot fall.

References
----------
Celeux, Govaert (1995), Gaussian parsimonious clustering models. Browne, McNicholas (2014), Estimating common principal
components in high dimensions. Flury, Gautschi (1986), An algorithm for simultaneous orthogonal transformation.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.components.covariances import COVARIANCES, LEAST_SHARE, Covariance
from mixtura.components.storage import Diagonals, Matrices, Scalars
from mixtura.components.surfaces import Surface
from mixtura.factorize import IllDefinedCovarianceError
from mixtura.moments import Kind, Moments
from mixtura.threads import compiled_allowed, native

Float = NDArray[np.float64]

# mclust's families, each after those that it contains; and which these are, one step down.
ALL = ("EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV")
WITHIN = {
    "VII": ("EII",),
    "EEI": ("EII",),
    "VEI": ("VII", "EEI"),
    "EVI": ("EEI",),
    "VVI": ("VEI", "EVI"),
    "EEE": ("EEI",),
    "VEE": ("EEE", "VEI"),
    "EVE": ("EVI", "EEE"),
    "VVE": ("VVI", "VEE", "EVE"),
    "EEV": ("EEE",),
    "VEV": ("VEE", "EEV"),
    "EVV": ("EVE", "EEV"),
    "VVV": ("VVE", "VEV", "EVV"),
}
OF_ONE_COLUMN = ("E", "V")

# A family whose likelihood has several maxima in the axes that its components share, and one whose fit is where it
# starts a second time.
SECOND_START = {"VVE": "EVE"}

# An iteration is over when Phi per unit of mass falls by less, or after so many rounds.
_DROP = 1e-12
_ROUNDS = 500

# Angles that a search for the best rotation of two axes looks at first; steps that make the best one exact, after such
# a search and without; an angle that is too small to be looked for.
_ANGLES = 32
_REFINEMENTS_FAR, _REFINEMENTS = 6, 2
_SMALL_ANGLE = 1e-9

# Sweeps over all pairs of axes in an M-step that starts from the last axes: at most so many, or so many over D^2. In
# the first M-step: at most so many, and so many, which look at all angles, for each start; how many components' own
# axes are such starts.
_FEW_SWEEPS, _SWEEPS = 3, 200
_MANY_SWEEPS, _FIRST_SWEEPS = 100, 2
_OWN_AXES = 4

_TINY = float(np.finfo(np.float64).tiny)

# A variance along an axis that is a smaller share of the largest one, for each column, is rounding.
_SINGULAR = 4.0 * float(np.finfo(np.float64).eps)

# So many times that, a variance has two digits, with which the M-step is good to four.
_SURE = 32.0


class Constrained(Covariance):
    """A family of which the covariances are found together, from scatters to which ``reg_covar`` was added before."""

    constrained: ClassVar[bool] = True

    @property
    def _shared(self) -> tuple[bool, bool, bool]:
        """Whether volume, shape and orientation are the same for all components."""
        volume, shape, orientation = (letter == "E" for letter in self.name)
        return volume, shape, orientation

    @abstractmethod
    def constrain(self, covariances: Float, mass: Float, before: Float | None) -> Float:
        """The most likely covariances of the family.

        Parameters
        ----------
        covariances : ndarray
            Those of the components' rows, ``W_k / n_k``, in the shape in which they are kept: not of the family.
        mass : ndarray of shape (K,)
        before : ndarray, optional
            Covariances of the family, from which an iteration starts.
        """

    def estimate(self, moments: Moments, mass: Float) -> Float:
        """See :meth:`Covariance.estimate`."""
        return self.estimated(moments, mass, 0.0, None)

    def estimated(
        self, moments: Moments, mass: Float, reg_covar: float | Float, before: Float | None
    ) -> Float:
        """See :meth:`Covariance.estimated`."""
        return self._constrained(self._of_rows(moments, mass, reg_covar), mass, before)

    def _of_rows(self, moments: Moments, mass: Float, reg_covar: float | Float) -> Float:
        return self.storage.regularized(np.array(moments.covariances(mass)), reg_covar)

    def _constrained(self, covariances: Float, mass: Float, before: Float | None) -> Float:
        """:meth:`constrain`, of covariances that may be singular."""
        try:
            with np.errstate(
                divide="ignore", invalid="ignore", over="ignore"
            ):  # a component without a volume
                found = self.constrain(covariances, mass, before)
        except np.linalg.LinAlgError as error:
            raise IllDefinedCovarianceError from error
        if not np.isfinite(found).all():
            raise IllDefinedCovarianceError
        return found

    def nearest(self, covariances: Float, before: Float | None = None) -> Float:
        """See :meth:`Covariance.nearest`: the most likely ones of as many rows with each of those covariances."""
        return self._constrained(covariances, np.ones(len(covariances)), before)

    def singular(
        self,
        moments: Moments,
        mass: Float,
        reg_covar: float | Float,
        before: Float,
        scale: Float,
    ) -> NDArray[np.bool_]:
        """See :meth:`Covariance.singular`.

        Where what the components share is itself singular, it is those whose own rows are, or the one with fewest rows.
        """
        try:
            return super().singular(moments, mass, reg_covar, before, scale)
        except IllDefinedCovarianceError:
            own = self._of_rows(moments, mass, reg_covar)
            narrow = self.storage.narrowest(own, scale, LEAST_SHARE) < LEAST_SHARE
            return np.asarray(narrow if narrow.any() else np.arange(len(mass)) == np.argmin(mass))


class _Axes(Constrained):
    """A family whose ellipses lie along the axes: diagonals."""

    kind: ClassVar[Kind] = "diagonal"
    storage = Diagonals()

    def surface(self, covariances: Float) -> Surface:
        """See :meth:`Covariance.surface`."""
        return Surface(np.log(covariances), None, *self._shared)


class _Turned(Constrained):
    """A family whose ellipses may be turned: matrices."""

    kind: ClassVar[Kind] = "full"
    storage = Matrices()

    def least(self, variances: Float) -> Float:
        """See :meth:`Covariance.least`: along axes that are turned, the digits of the largest column count."""
        rounding = _SURE * _SINGULAR * len(variances) * variances.max()
        return np.asarray(np.maximum(super().least(variances), rounding))

    def surface(self, covariances: Float) -> Surface:
        """See :meth:`Covariance.surface`."""
        axes = np.linalg.eigh(covariances)[1]
        if self._shared[2]:
            axes = np.broadcast_to(_common_axes(covariances), covariances.shape)
        spreads = np.einsum("kid,kij,kjd->kd", axes, covariances, axes)
        return Surface(np.log(spreads), axes, *self._shared)


class EII(Covariance):
    """One variance for all components and columns, ()."""

    name = "EII"
    kind = "trace"
    storage = Scalars(shared=True)
    direct = True

    def estimate(self, moments: Moments, mass: Float) -> Float:
        """The mean over rows and columns."""
        return np.asarray(mass @ moments.covariances(mass) / (mass.sum() * moments.first.shape[1]))

    def n_parameters(self, components: int, dims: int) -> int:
        """One."""
        return 1


class EEI(Covariance):
    """One variance for each column, the same for all components, (D,)."""

    name = "EEI"
    kind = "diagonal"
    storage = Diagonals(shared=True)
    direct = True

    def estimate(self, moments: Moments, mass: Float) -> Float:
        """The mean over the rows."""
        return np.asarray(mass @ moments.covariances(mass) / mass.sum())

    def n_parameters(self, components: int, dims: int) -> int:
        """D."""
        return dims


class VEI(_Axes):
    """Ellipses along the axes, of one shape and any volumes."""

    name = "VEI"

    def constrain(self, covariances: Float, mass: Float, before: Float | None) -> Float:
        """See :meth:`Constrained.constrain`."""
        return _volumes_of_one_shape(covariances, mass, None if before is None else _volumes(before))

    def n_parameters(self, components: int, dims: int) -> int:
        """K volumes and D - 1 ratios."""
        return components + dims - 1


class EVI(_Axes):
    """Ellipses along the axes, of one volume and any shapes."""

    name = "EVI"

    def constrain(self, covariances: Float, mass: Float, before: Float | None) -> Float:
        """See :meth:`Constrained.constrain`."""
        return _of_one_volume(covariances, _volumes(covariances)[:, None], mass)

    def n_parameters(self, components: int, dims: int) -> int:
        """One volume, and D - 1 ratios of each component."""
        return 1 + components * (dims - 1)


class VEE(_Turned):
    """Ellipses of one shape and orientation, and any volumes."""

    name = "VEE"

    def constrain(self, covariances: Float, mass: Float, before: Float | None) -> Float:
        """See :meth:`Constrained.constrain`."""
        D = covariances.shape[1]
        # A component of few rows has no volume of its own at first.
        volumes = np.trace(covariances, axis1=1, axis2=2) / D if before is None else _matrix_volumes(before)
        total = np.inf
        for _ in range(_ROUNDS):
            common = np.einsum("k,kij->ij", mass / volumes, covariances)
            common = common / max(_matrix_volumes(common[None])[0], _TINY)
            volumes = np.einsum("kij,ji->k", covariances, np.linalg.inv(common)) / D
            last, total = total, D * float(mass @ np.log(volumes))
            if not last - total > _DROP * mass.sum():
                break
        return np.asarray(volumes[:, None, None] * common)

    def n_parameters(self, components: int, dims: int) -> int:
        """One matrix, and K - 1 ratios of volumes."""
        return components - 1 + dims * (dims + 1) // 2


class EEV(_Turned):
    """Ellipses of one volume and shape, turned in any way."""

    name = "EEV"

    def constrain(self, covariances: Float, mass: Float, before: Float | None) -> Float:
        """See :meth:`Constrained.constrain`."""
        values, axes = np.linalg.eigh(covariances)
        return _composed(axes, np.broadcast_to(mass @ values / mass.sum(), values.shape))

    def n_parameters(self, components: int, dims: int) -> int:
        """D variances, and a rotation for each component."""
        return dims + components * dims * (dims - 1) // 2


class VEV(_Turned):
    """Ellipses of one shape, turned in any way, of any volumes."""

    name = "VEV"

    def constrain(self, covariances: Float, mass: Float, before: Float | None) -> Float:
        """See :meth:`Constrained.constrain`."""
        values, axes = np.linalg.eigh(covariances)
        start = None if before is None else _matrix_volumes(before)
        return _composed(axes, _volumes_of_one_shape(values, mass, start))

    def n_parameters(self, components: int, dims: int) -> int:
        """K volumes, D - 1 ratios, and a rotation for each component."""
        return components + dims - 1 + components * dims * (dims - 1) // 2


class EVV(_Turned):
    """Ellipses of one volume, of any shapes and orientations."""

    name = "EVV"

    def constrain(self, covariances: Float, mass: Float, before: Float | None) -> Float:
        """See :meth:`Constrained.constrain`."""
        return _of_one_volume(covariances, _matrix_volumes(covariances)[:, None, None], mass)

    def n_parameters(self, components: int, dims: int) -> int:
        """One volume, and what else a matrix has for each component."""
        return 1 - components + components * dims * (dims + 1) // 2


class _CommonAxes(_Turned):
    """A family with one orientation and variances of each component's own along it."""

    slow = True
    one_volume: ClassVar[bool]

    @abstractmethod
    def variances(self, spreads: Float, mass: Float) -> Float:
        """The most likely variances (K, D) along the axes, given those of the rows there (K, D)."""

    @abstractmethod
    def _terms(self, product: Float, others: Float, mass: Float, dims: int) -> tuple[Float, Float, Float]:
        """The part of Phi of pairs of axes as a function of the product of the rows' variances along both, (K, ...).

        Value, first and second derivative; ``others`` are the logarithms of the products along all other axes.
        """

    def constrain(self, covariances: Float, mass: Float, before: Float | None) -> Float:
        """See :meth:`Constrained.constrain`."""
        if before is not None:
            sweeps = max(_FEW_SWEEPS, _SWEEPS // covariances.shape[1] ** 2)
            axes = self._turned(covariances, mass, _common_axes(before), sweeps)
            found = self._on(covariances, mass, axes)
            # Axes that components hardly tell apart come back from their covariances with few digits.
            return found if _phi(found, covariances, mass) <= _phi(before, covariances, mass) else before
        starts = [self._turned(covariances, mass, s, _FIRST_SWEEPS, True) for s in _starts(covariances, mass)]
        best = min(starts, key=lambda axes: self._phi(_along(covariances, axes), mass))
        return self._on(covariances, mass, self._turned(covariances, mass, best, _MANY_SWEEPS))

    def nearest(self, covariances: Float, before: Float | None = None) -> Float:
        """See :meth:`Covariance.nearest`: on axes that a few sweeps reach from those ``before``."""
        mass = np.ones(len(covariances))
        axes = _common_axes(covariances if before is None else before)
        return self._on(covariances, mass, self._turned(covariances, mass, axes, _FEW_SWEEPS))

    def _on(self, covariances: Float, mass: Float, axes: Float) -> Float:
        """The most likely covariances on given axes."""
        variances = self.variances(_spreads(covariances, axes), mass)
        return _composed(np.broadcast_to(axes, covariances.shape), variances)

    def _phi(self, W: Float, mass: Float) -> float:
        """Phi, up to a constant, of covariances that are given along the axes."""
        spreads = np.maximum(np.diagonal(W, axis1=1, axis2=2), _TINY)
        return float(mass @ np.log(self.variances(spreads, mass)).sum(axis=1))

    def _turned(self, covariances: Float, mass: Float, axes: Float, sweeps: int, far: bool = False) -> Float:
        """The axes after sweeps of rotations in the planes of all pairs of them, each of which lowers Phi.

        ``far`` looks at all angles, else only at those nearby. The compiled kernels turn one pair after the other;
        NumPy, which tests them, all pairs at once that have no axis in common.
        """
        W = _along(covariances, axes)
        W = W / max(
            float(np.trace(W, axis1=1, axis2=2).max()), _TINY
        )  # units do not matter, and could overflow
        if native is not None and compiled_allowed():
            angles, steps = (_ANGLES, _REFINEMENTS_FAR) if far else (0, _REFINEMENTS)
            return native.common_axes(W, axes, mass, self.one_volume, sweeps, angles, steps, _DROP)
        phi = self._phi(W, mass)
        for _ in range(sweeps):
            last = phi
            for pairs in _disjoint_pairs(len(axes)):
                turn = self._rotation(W, pairs, mass, far)
                turned = turn.T @ W @ turn
                after = self._phi(turned, mass)
                if after < phi:
                    W, axes, phi = turned, axes @ turn, after
                    continue
                for pair in pairs.T:  # together they went too far
                    turn = self._rotation(W, pair[:, None], mass, far)
                    turned = turn.T @ W @ turn
                    after = self._phi(turned, mass)
                    if after < phi:
                        W, axes, phi = turned, axes @ turn, after
            if not last - phi > _DROP * mass.sum():
                break
        return axes

    def _rotation(self, W: Float, pairs: NDArray[np.intp], mass: Float, far: bool) -> Float:
        """The rotation (D, D) that turns each of several pairs of axes (2, P) by its best angle.

        With a = (w_ii + w_jj) / 2, b = (w_ii - w_jj) / 2, c = w_ij, the variances along two axes that are turned by
        half the angle f have the product a^2 - u^2, u = b cos f + c sin f.
        """
        D, (i, j) = W.shape[1], pairs
        own, other = W[:, i, i], W[:, j, j]
        a, b, c = 0.5 * (own + other), 0.5 * (own - other), W[:, i, j]
        logs = np.log(np.maximum(np.diagonal(W, axis1=1, axis2=2), _TINY))
        others, weight = logs.sum(axis=1)[:, None] - logs[:, i] - logs[:, j], mass[:, None]

        def at(f: Float) -> tuple[Float, Float, Float]:
            """Value, slope and bend of this part of Phi at angles (..., P)."""
            cos, sin = np.cos(f)[..., None, :], np.sin(f)[..., None, :]
            u, v = b * cos + c * sin, c * cos - b * sin
            value, first, second = self._terms(np.maximum(a * a - u * u, _TINY), others, weight, D)
            slope, bend = -2.0 * u * v, -2.0 * (v * v - u * u)
            slopes, bends = (first * slope).sum(axis=-2), (second * slope**2 + first * bend).sum(axis=-2)
            return value.sum(axis=-2), slopes, bends

        here, start = at(np.zeros(len(i))), np.zeros(len(i))
        if far:
            angles = np.arange(_ANGLES) * (math.pi / _ANGLES)
            start = angles[np.argmin(at(np.tile(angles[:, None], len(i)))[0], axis=0)]
        width = math.pi / _ANGLES
        low, high, f = start - width, start + width, start
        for _ in range(
            _REFINEMENTS_FAR if far else _REFINEMENTS
        ):  # Newton's method for a zero of the slope, within a bracket
            _, slope, bend = at(f) if f is not start or far else here
            low, high = np.where(slope < 0.0, f, low), np.where(slope < 0.0, high, f)
            convex = bend > 0.0
            newton = f - slope / np.where(convex, bend, 1.0)
            inside = convex & (newton > low) & (newton < high)
            moved = np.where(inside, newton, 0.5 * (low + high))
            if np.abs(moved - f).max(initial=0.0) < _SMALL_ANGLE:
                break
            f = moved
        f = np.where(at(f)[0] < here[0], f, 0.0)
        turn, cos, sin = np.eye(D), np.cos(0.5 * f), np.sin(0.5 * f)
        turn[i, i], turn[j, j], turn[i, j], turn[j, i] = cos, cos, -sin, sin
        return turn


class VVE(_CommonAxes):
    """Ellipses of one orientation, of any volumes and shapes."""

    name = "VVE"
    one_volume = False

    def variances(self, spreads: Float, mass: Float) -> Float:
        """See :meth:`_CommonAxes.variances`."""
        return spreads

    def _terms(self, product: Float, others: Float, mass: Float, dims: int) -> tuple[Float, Float, Float]:
        return mass * np.log(product), mass / product, -mass / product**2

    def n_parameters(self, components: int, dims: int) -> int:
        """D variances for each component, and one rotation."""
        return components * dims + dims * (dims - 1) // 2


class EVE(_CommonAxes):
    """Ellipses of one volume and orientation, of any shapes."""

    name = "EVE"
    one_volume = True

    def variances(self, spreads: Float, mass: Float) -> Float:
        """See :meth:`_CommonAxes.variances`."""
        return _of_one_volume(spreads, _volumes(spreads)[:, None], mass)

    def _terms(self, product: Float, others: Float, mass: Float, dims: int) -> tuple[Float, Float, Float]:
        # n_k times the geometric mean of the variances along all axes.
        p = 1.0 / dims
        power = mass * np.exp(p * (np.log(product) + others))
        return power, p * power / product, p * (p - 1.0) * power / product**2

    def n_parameters(self, components: int, dims: int) -> int:
        """One volume, D - 1 ratios for each component, and one rotation."""
        return 1 + components * (dims - 1) + dims * (dims - 1) // 2


# ---------------------------------------------------------------- volumes, shapes, orientations


def _volumes(variances: Float) -> Float:
    """Geometric means of variances (K, D): volumes, (K,)."""
    return np.asarray(np.exp(np.log(np.maximum(variances, 0.0)).mean(axis=1)))


def _matrix_volumes(covariances: Float) -> Float:
    """``|S_k|^(1/D)``, (K,)."""
    sign, log_det = np.linalg.slogdet(covariances)
    return np.asarray(np.where(sign > 0.0, np.exp(log_det / covariances.shape[1]), 0.0))


def _of_one_volume(covariances: Float, volumes: Float, mass: Float) -> Float:
    """Covariances of the same shapes, whose volume is the mean of theirs."""
    mean = float(mass @ volumes.ravel()) / mass.sum()
    return np.asarray(np.where(volumes > 0.0, covariances / volumes * mean, 0.0))


def _volumes_of_one_shape(variances: Float, mass: Float, volumes: Float | None) -> Float:
    """The most likely variances (K, D) that are multiples l_k of one shape a, given those of the rows.

    ``l_k = mean_j w_kj / a_j`` and ``a ~ sum_k n_k w_k / l_k`` in turns. Phi is convex in the logarithms of both, so
    that any start leads to its minimum.
    """
    D = variances.shape[1]
    volumes = variances.mean(axis=1) if volumes is None else volumes
    total = np.inf
    for _ in range(_ROUNDS):
        shape = (mass / volumes) @ variances
        shape = shape / np.exp(np.log(shape).mean())
        volumes = (variances / shape).mean(axis=1)
        last, total = total, D * float(mass @ np.log(volumes))
        if not last - total > _DROP * mass.sum():
            break
    return np.asarray(np.nan_to_num(volumes[:, None] * shape))


def _composed(axes: Float, variances: Float) -> Float:
    """``D_k diag(variances_k) D_k'``, exactly symmetric, (K, D, D).

    Raises
    ------
    IllDefinedCovarianceError
        A variance is 0, but for rounding.
    """
    if not np.all(variances > _SINGULAR * variances.shape[1] * variances.max(axis=1, keepdims=True)):
        raise IllDefinedCovarianceError
    half = axes * np.sqrt(np.maximum(variances, 0.0))[:, None, :]
    return np.asarray(half @ half.transpose(0, 2, 1))


def _phi(covariances: Float, scatters: Float, mass: Float) -> float:
    """``sum_k n_k (log |S_k| + tr(S_k^-1 W_k / n_k))``; infinity for covariances that are singular."""
    sign, log_det = np.linalg.slogdet(covariances)
    if not np.all(sign > 0.0):
        return math.inf
    traces = np.trace(np.linalg.solve(covariances, scatters), axis1=1, axis2=2)
    return float(mass @ (log_det + traces))


def _spreads(covariances: Float, axes: Float) -> Float:
    """Variances along axes, the columns of a matrix, (K, D)."""
    return np.asarray(np.einsum("id,kij,jd->kd", axes, covariances, axes))


def _along(covariances: Float, axes: Float) -> Float:
    """Covariances in the basis of axes, the columns of a matrix, (K, D, D)."""
    return np.asarray(axes.T @ covariances @ axes)


@cache
def _disjoint_pairs(dims: int) -> tuple[NDArray[np.intp], ...]:
    """All pairs of D axes in rounds (2, P) in which no axis comes twice: a tournament in which each meets each."""
    players = list(range(dims + dims % 2))
    rounds = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        games = [
            (p, q) for p, q in zip(players[:half], players[: half - 1 : -1], strict=True) if max(p, q) < dims
        ]
        rounds.append(np.array(games, dtype=np.intp).T)
        players = [players[0], players[-1], *players[1:-1]]
    return tuple(rounds)


def _common_axes(covariances: Float) -> Float:
    """The eigenvectors that covariances have in common: those of a sum in which no two eigenvalues need coincide."""
    shares = 1.0 + np.cos(np.arange(len(covariances)) + 1.0) / 2.0
    scaled = covariances / np.maximum(np.trace(covariances, axis1=1, axis2=2), _TINY)[:, None, None]
    return np.asarray(np.linalg.eigh(np.einsum("k,kij->ij", shares, scaled))[1])


def _starts(covariances: Float, mass: Float) -> Iterator[Float]:
    """Orientations from which the first search for common axes begins."""
    yield np.eye(covariances.shape[1])
    yield np.linalg.eigh(np.einsum("k,kij->ij", mass, covariances))[1]
    for k in np.argsort(-mass, kind="stable")[:_OWN_AXES]:
        yield np.linalg.eigh(covariances[k])[1]


def check_columns(name: object, dims: int) -> None:
    """Raise ValueError if the family that users call so is not one for so many columns."""
    if name in ALL and dims == 1:
        raise ValueError(
            f"covariance_type={name!r}: one column (n_features = 1) has no shape and no orientation; take 'E', one "
            "variance, or 'V', one for each component"
        )
    if name in OF_ONE_COLUMN and dims > 1:
        raise ValueError(
            f"covariance_type={name!r} is for one column, and X has {dims}: 'EII' and 'VII' are the same for more"
        )


def _register() -> None:
    """Make the families known by mclust's names, scikit-learn's four and two more by these too."""
    made: list[Callable[[], Covariance]] = [EII, EEI, VEI, EVI, VEE, EVE, VVE, EEV, VEV, EVV]
    for family in (make() for make in made):
        COVARIANCES[family.name] = family
    aliases = {"VII": "spherical", "VVI": "diag", "EEE": "tied", "VVV": "full"}
    aliases |= {"tied_diag": "EEI", "tied_spherical": "EII", "E": "EII", "V": "spherical"}
    for alias, name in aliases.items():
        COVARIANCES[alias] = COVARIANCES[name]


_register()
