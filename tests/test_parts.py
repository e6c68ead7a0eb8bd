"""What is equal between two values of a part: parameters, and all numbers after an M-step that changed nothing."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from mixtura.components.beside import Beside
from mixtura.components.covariances import COVARIANCES
from mixtura.components.gaussian import Gaussians
from mixtura.components.uniform import Uniform
from mixtura.gates import ConstantGate
from mixtura.parts import ROUNDING, unchanged


@dataclass(frozen=True, eq=False)
class Inner:
    numbers: np.ndarray
    size: float = 1.0


@dataclass(frozen=True, eq=False)
class Outer:
    inner: Inner
    what: object = None


ONE = Outer(Inner(np.array([1.0, 2.0])))


def test_equal_numbers_in_the_same_places_are_unchanged():
    assert unchanged(ONE, ONE)
    assert unchanged(ONE, Outer(Inner(np.array([1.0, 2.0]))))


@pytest.mark.parametrize(
    "other",
    [
        Outer(Inner(np.array([1.0, np.nextafter(2.0, 3.0)]))),
        Outer(Inner(np.array([1.0, 2.0, 3.0]))),
        Outer(Inner(np.array([1.0, 2.0]), 2.0)),
        Outer(Inner(np.array([1.0, 2.0])), what=object()),
        Inner(np.array([1.0, 2.0])),
        None,
    ],
    ids=["a last bit", "another shape", "a number", "another object", "another class", "nothing"],
)
def test_anything_else_is_a_change(other):
    assert not unchanged(ONE, other)


def test_what_is_not_a_number_is_never_unchanged():
    assert not unchanged(Inner(np.array([np.nan])), Inner(np.array([np.nan])))


def test_objects_that_do_not_say_what_they_hold_are_unchanged_only_if_they_are_the_same():
    assert unchanged(Outer(ONE.inner, what=np.random), Outer(ONE.inner, what=np.random))
    assert not unchanged(Outer(ONE.inner, what={1}), Outer(ONE.inner, what={1}))


def test_numbers_may_differ_by_rounding_if_asked():
    near = Outer(Inner(np.array([1.0, np.nextafter(2.0, 3.0)])))
    assert unchanged(ONE, near, ROUNDING)
    assert not unchanged(ONE, Outer(Inner(np.array([1.0, 2.0 * (1.0 + 2.0 * ROUNDING)]))), ROUNDING)
    assert not unchanged(Inner(np.array([1, 2])), Inner(np.array([1, 3])), ROUNDING)
    assert not unchanged(Inner(np.array([0.0])), Inner(np.array([1e-300])), ROUNDING)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical", "tied_diag"])
def test_components_stay_where_changes_are_rounding_in_their_own_spreads(covariance_type):
    """Whatever the units of the columns, and wherever the means lie."""
    units, K, D = np.array([1e-9, 1.0, 1e9]), 2, 3
    covariance = COVARIANCES[covariance_type]
    storage = covariance.storage
    matrix = np.outer(units, units) * (np.eye(D) + 0.5)
    if covariance_type == "spherical":
        units, matrix = np.ones(D), 3.0 * np.eye(D)
    covariances = np.stack([storage.of_matrix(matrix)] * (1 if storage.shared else K))
    covariances = covariances[0] if storage.shared else covariances
    components = Gaussians(
        covariance, np.array([0.0 * units, units]), covariances, storage.cholesky(covariances)
    )

    def moved(by, of_covariances=0.0):
        means = components.means + by * units
        return replace(components, means=means, covariances=covariances * (1.0 + of_covariances))

    assert components.stays(moved(0.5 * ROUNDING, 0.3 * ROUNDING))
    assert not components.stays(moved(4.0 * ROUNDING))
    assert not components.stays(moved(0.0, 4.0 * ROUNDING))
    assert not components.stays(replace(components, bounded=np.array([True, False])))
    with_noise = Beside(components, Uniform(0.1))
    assert with_noise.stays(Beside(moved(0.5 * ROUNDING), with_noise.extra))
    assert not with_noise.stays(Beside(components, Uniform(0.2)))


def test_gates_and_components():
    gate = ConstantGate(weights=np.array([0.25, 0.75]))
    assert unchanged(gate, replace(gate, weights=np.array([0.25, 0.75])))
    assert not unchanged(gate, replace(gate, weights=np.array([0.5, 0.5])))
    components = Gaussians.from_precisions(COVARIANCES["full"], np.eye(2), np.stack([np.eye(2)] * 2))
    assert unchanged(components, replace(components, means=np.eye(2)))
    assert not unchanged(components, replace(components, bounded=np.array([True, False])))
