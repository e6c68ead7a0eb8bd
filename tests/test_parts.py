"""What is equal between two values of a part: parameters, and all numbers after an M-step that changed nothing."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from mixtura.components.covariances import COVARIANCES
from mixtura.components.gaussian import Gaussians
from mixtura.gates import ConstantGate
from mixtura.parts import unchanged


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


def test_gates_and_components():
    gate = ConstantGate(weights=np.array([0.25, 0.75]))
    assert unchanged(gate, replace(gate, weights=np.array([0.25, 0.75])))
    assert not unchanged(gate, replace(gate, weights=np.array([0.5, 0.5])))
    components = Gaussians.from_precisions(COVARIANCES["full"], np.eye(2), np.stack([np.eye(2)] * 2))
    assert unchanged(components, replace(components, means=np.eye(2)))
    assert not unchanged(components, replace(components, bounded=np.array([True, False])))
