"""A user's own covariances, components and gates: one class each, registered here, then known everywhere.

What is registered works on every backend, since kernels know only quadratics; in model files, which hold its name; in
``summary``, in pictures and on the command line, which runs the user's file first (``mixtura --extend FILE ...``).
"""

from __future__ import annotations

from typing import Any

from mixtura.components.beside import COMPONENTS, Component
from mixtura.components.covariances import COVARIANCES, Covariance
from mixtura.components.storage import Diagonals, Matrices, Scalars, Storage
from mixtura.found import Found
from mixtura.gates import GATES, Gate
from mixtura.moments import Moments
from mixtura.parts import Part, state
from mixtura.quadratics import Quadratics
from mixtura.table import Table

__all__ = [
    "Component",
    "Covariance",
    "Diagonals",
    "Found",
    "Gate",
    "Matrices",
    "Moments",
    "Quadratics",
    "Scalars",
    "Storage",
    "Table",
    "register_component",
    "register_covariance",
    "register_gate",
    "state",
]


def register_covariance(covariance: Covariance) -> Covariance:
    """Make a family of covariances known to ``GaussianMixture(covariance_type=...)`` by its name.

    Parameters
    ----------
    covariance : Covariance
        An object of the user's class.

    Returns
    -------
    covariance
        The same.

    Raises
    ------
    TypeError
        Not an object of a class derived from :class:`Covariance`, or one without what every such class has.
    ValueError
        Another class has this name.

    Examples
    --------
    >>> from mixtura.extension import Covariance, Diagonals, register_covariance
    >>> class TiedDiagonal(Covariance):
    ...     name, kind, storage = "tied-diagonal", "diagonal", Diagonals(shared=True)
    ...
    ...     def estimate(self, moments, mass):
    ...         return mass @ moments.covariances(mass) / mass.sum()
    ...
    ...     def n_parameters(self, components, dims):
    ...         return dims
    >>> _ = register_covariance(TiedDiagonal())
    >>> import numpy as np, mixtura
    >>> X = np.random.default_rng(0).normal(size=(100, 2)) * [1.0, 3.0]
    >>> mixtura.GaussianMixture(2, covariance_type="tied-diagonal", random_state=0, tol=0.1).fit(X).covariances_.shape
    (2,)
    """
    if isinstance(covariance, type) or not isinstance(covariance, Covariance):
        raise TypeError(
            f"register_covariance takes an object of a class derived from mixtura.extension.Covariance, got "
            f"{covariance!r}"
        )
    for what, kind in (("name", str), ("kind", str), ("storage", Storage)):
        if not isinstance(getattr(covariance, what, None), kind):
            raise TypeError(f"{type(covariance).__name__} has no {what}: see mixtura.extension.Covariance")
    _add(COVARIANCES, covariance.name, covariance, type(covariance))
    return covariance


def register_component(component: type[Component]) -> type[Component]:
    """Make a single component known to ``GaussianMixture(noise=...)`` by its name; serves as a decorator.

    Parameters
    ----------
    component : subclass of Component

    Returns
    -------
    component
        The same.

    Raises
    ------
    TypeError
        Not a class derived from :class:`Component`, or one that leaves out what every such class has.
    ValueError
        Another class has this name.
    """
    _check_class(component, Component)
    _add(COMPONENTS, component.name, component, component)
    return component


def register_gate(gate: type[Gate]) -> type[Gate]:
    """Make a gate known to ``MixtureOfExperts(gate=...)`` by its name; serves as a decorator.

    Parameters
    ----------
    gate : subclass of Gate

    Returns
    -------
    gate
        The same.

    Raises
    ------
    TypeError
        Not a class derived from :class:`Gate`, or one that leaves out what every such class has.
    ValueError
        Another class has this name.
    """
    _check_class(gate, Gate)
    _add(GATES, gate.name, gate, gate)
    return gate


def _check_class(given: Any, base: type[Part]) -> None:
    if not (isinstance(given, type) and issubclass(given, base)):
        raise TypeError(f"a class derived from mixtura.extension.{base.__name__} is needed, got {given!r}")
    missing = sorted(getattr(given, "__abstractmethods__", ()))
    if missing:
        raise TypeError(f"{given.__name__} does not define {', '.join(missing)}")
    if not isinstance(getattr(given, "name", None), str):
        raise TypeError(f"{given.__name__} has no name: give it a class attribute, name = '...'")


def _add(table: dict[str, Any], name: str, what: Any, cls: type[Any]) -> None:
    """Add to a table; the same class again (a module that is imported anew) replaces the old one."""
    held = table.get(name)
    before = held if isinstance(held, type) or held is None else type(held)
    if before is not None and (before.__module__, before.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"the name {name!r} is taken by {before.__module__}.{before.__qualname__}: choose another"
        )
    table[name] = what
