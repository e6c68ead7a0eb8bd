"""A user's own covariances, components and gates: one class each, registered here, then usable everywhere.

A registered class works on every backend, since kernels evaluate only quadratics. Model files hold its name. It also
works in ``summary``, in pictures and on the command line (``mixtura --extend FILE ...`` runs the user's file first).
"""

from __future__ import annotations

from typing import Any

from mixtura.components.beside import COMPONENTS, Component
from mixtura.components.covariances import COVARIANCES, Covariance
from mixtura.components.linear import LinearExpert
from mixtura.components.storage import Diagonals, Matrices, Scalars, Storage
from mixtura.found import Found
from mixtura.gates import GATES, Gate
from mixtura.layouts import LAYOUTS
from mixtura.links import EqualMeans
from mixtura.moments import Moments
from mixtura.parts import Part, is_registered, state
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
        An instance of the user's class.

    Returns
    -------
    covariance
        The argument.

    Raises
    ------
    TypeError
        It is not an instance of a class derived from :class:`Covariance`, or the class lacks a required attribute.
    ValueError
        Another class is registered under this name.

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
    for attribute, kind in (("name", str), ("kind", str), ("storage", Storage)):
        if not isinstance(getattr(covariance, attribute, None), kind):
            raise TypeError(
                f"{type(covariance).__name__} has no {attribute}: see mixtura.extension.Covariance"
            )
    layout = LAYOUTS.get(covariance.kind)
    if layout is None or not layout.has_second:
        kinds = ", ".join(repr(name) for name, layout in LAYOUTS.items() if layout.has_second)
        raise ValueError(
            f"{type(covariance).__name__}.kind is {covariance.kind!r}; it must be one of {kinds}"
        )
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
        The argument.

    Raises
    ------
    TypeError
        It is not a class derived from :class:`Component`, or it lacks a required method or attribute.
    ValueError
        Another class is registered under this name.
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
        The argument.

    Raises
    ------
    TypeError
        It is not a class derived from :class:`Gate`, or it lacks a required method or attribute.
    ValueError
        Another class is registered under this name.
    """
    _check_class(gate, Gate)
    _add(GATES, gate.name, gate, gate)
    return gate


def _check_class(cls: Any, base: type[Part]) -> None:
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise TypeError(f"a class derived from mixtura.extension.{base.__name__} is needed, got {cls!r}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise TypeError(f"{cls.__name__} does not define {', '.join(missing)}")
    others = (*GATES.values(), *COMPONENTS.values(), LinearExpert, EqualMeans)
    if any(other.__name__ == cls.__name__ and other.__module__ != cls.__module__ for other in others):
        raise ValueError(f"another class is called {cls.__name__}, and model files could not tell them apart")
    if not isinstance(getattr(cls, "name", None), str):
        raise TypeError(f"{cls.__name__} has no name: give it a class attribute, name = '...'")


def _add(registry: dict[str, Any], name: str, entry: Any, cls: type[Any]) -> None:
    """Register an entry; a class of the same module and name (of a module imported again) replaces the old one."""
    if name in registry and not is_registered(registry, name, cls):
        present = registry[name]
        old = present if isinstance(present, type) else type(present)
        raise ValueError(f"the name {name!r} is taken by {old.__module__}.{old.__qualname__}: choose another")
    registry[name] = entry
