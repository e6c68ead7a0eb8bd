"""The loop with extrapolated steps, on a map whose fixed point is known."""

from dataclasses import dataclass

import numpy as np
import pytest

from mixtura import accelerated, em
from mixtura.accelerated import Anderson, Squarem


@dataclass(frozen=True)
class Sums:
    objective: float
    at: np.ndarray

    def is_finite(self):
        return bool(np.isfinite(self.objective))


@dataclass(frozen=True)
class Linear:
    """A point that EM leads to 0, each coordinate by its own factor; the objective is minus the squared distance."""

    x: np.ndarray
    factors: np.ndarray
    wall: float = np.inf

    def expect(self, table, rng=None):
        table.passes += 1
        return Sums(-table.total_weight * float(self.x @ self.x), self.x)

    def maximize(self, found):
        return Linear(found.at * self.factors, self.factors, self.wall)

    @property
    def coordinates(self):
        return self.x

    @property
    def scales(self):
        return np.ones_like(self.x)

    def at(self, coordinates, table):
        if np.abs(coordinates).min() < self.wall and self.wall < np.inf:
            raise em.SingularError
        return Linear(coordinates, self.factors, self.wall)


class Rows:
    total_weight = 3.0

    def __init__(self):
        self.passes = 0


def arrays(*numbers):
    return [np.array([float(x)]) for x in numbers]


def test_squarem_leads_to_the_fixed_point_of_one_linear_coordinate():
    squarem, (a, b, c) = Squarem(), arrays(8, 4, 2)
    assert squarem.suggest(a, b) is None
    np.testing.assert_allclose(squarem.suggest(b, c), [0.0], atol=1e-15)


def test_squarem_takes_no_step_that_is_ems_own():
    squarem, (a, b, c) = Squarem(), arrays(8, -8, 8)
    assert squarem.suggest(a, b) is None
    assert squarem.suggest(b, c) is None
    squarem, (a, b, c) = Squarem(), arrays(1, 2, 3)  # a constant step: there is no end in sight
    assert squarem.suggest(a, b) is None
    assert squarem.suggest(b, c) is None


def test_squarems_longest_step_grows_where_it_was_taken_and_shrinks_where_it_was_refused():
    slow = arrays(8, 7.2, 6.48)  # the fixed point is ten steps ahead

    def suggested(squarem):
        squarem.suggest(slow[0], slow[1])
        return float(squarem.suggest(slow[1], slow[2])[0])

    def led(length):
        return 8.0 + 2.0 * length * -0.8 + length**2 * 0.08

    squarem = Squarem()
    assert suggested(squarem) == pytest.approx(led(4.0))
    squarem.accepted()
    assert suggested(squarem) == pytest.approx(led(10.0))
    squarem.accepted()  # it was not the longest, which stays at 16
    squarem.refused()
    assert suggested(squarem) == pytest.approx(led(4.0))
    squarem.refused()
    squarem.refused()
    assert suggested(squarem) == pytest.approx(led(2.0))


def test_a_change_of_size_begins_anew():
    """Components that were dropped leave fewer coordinates."""
    for extrapolation in (Squarem(), Anderson()):
        extrapolation.suggest(np.ones(3), 0.5 * np.ones(3))
        assert extrapolation.suggest(np.ones(2), 0.5 * np.ones(2)) is None


def test_anderson_leads_to_the_fixed_point_of_as_many_coordinates_as_it_remembers():
    anderson, factors, x = Anderson(), np.array([0.9, 0.5]), np.array([8.0, 3.0])
    anderson._damping = 1e-9
    for _ in range(3):
        ahead = anderson.suggest(x, factors * x)
        x = factors * x
    np.testing.assert_allclose(ahead, 0.0, atol=1e-6)
    anderson.accepted()
    assert anderson._damping == accelerated._LEAST_DAMPING
    for _ in range(3):
        anderson.suggest(x, factors * x)
        x = factors * x
    known = len(anderson._points)
    anderson.refused()
    assert len(anderson._points) == len(anderson._residuals) == known // 2
    assert anderson._damping == 16.0 * accelerated._LEAST_DAMPING
    for _ in range(9):
        anderson.refused()
    assert anderson._damping == 1.0
    assert len(anderson._points) == 1


def test_anderson_remembers_so_many_steps():
    anderson, x = Anderson(), np.array([1.0, 2.0])
    for _ in range(20):
        anderson.suggest(x, 0.9 * x)
        x = 0.9 * x
    assert len(anderson._points) == accelerated._MEMORY + 1
    assert anderson.suggest(np.zeros(2), np.zeros(2)) is not None
    assert anderson.suggest(np.array([-np.inf, 0.0]), np.zeros(2)) is None


@pytest.mark.parametrize("run", [accelerated.squarem, accelerated.anderson])
def test_fewer_passes_and_a_bound_that_never_falls(run):
    start, steps = Linear(np.array([8.0, 3.0, 1.0]), np.array([0.95, 0.7, 0.2])), []

    def stop(step):
        return abs(step.change) < 1e-12

    plain, quick = Rows(), Rows()
    slow = em.run(start, plain, max_iter=1000, stop=stop)
    fit = run(start, quick, max_iter=1000, stop=stop, report=lambda step: bool(steps.append(step)))
    assert slow.converged
    assert fit.converged
    assert quick.passes < 0.7 * plain.passes
    assert np.all(np.diff(fit.bounds) >= 0.0)
    assert [step.n_iter for step in steps] == list(range(1, len(fit.bounds) + 1))
    assert [step.bound for step in steps] == fit.bounds
    np.testing.assert_allclose([step.change for step in steps[1:]], np.diff(fit.bounds))
    assert fit.bounds[0] == pytest.approx(-float(start.x @ start.x))
    assert fit.bound == fit.bounds[-1]
    # What is returned is EM's own step from the last point.
    np.testing.assert_array_equal(fit.parameters.x, steps[-1].after.x)


@pytest.mark.parametrize("run", [accelerated.squarem, accelerated.anderson])
def test_a_step_that_lowers_the_bound_is_taken_back_and_costs_one_pass(run):
    """Far from its fixed point the map is another one, so that extrapolations mislead."""

    @dataclass(frozen=True)
    class Bent(Linear):
        def maximize(self, found):
            x = found.at * np.where(np.abs(found.at) > 1.0, 0.97, 0.3)
            return Bent(x, self.factors)

        def at(self, coordinates, table):
            return Bent(coordinates * np.where(np.abs(coordinates) < 5.0, -9.0, 1.0), self.factors)

    rows, start = Rows(), Bent(np.array([8.0, 6.0]), np.ones(2))
    fit = run(start, rows, max_iter=300, stop=lambda step: abs(step.change) < 1e-12)
    assert fit.converged
    assert np.all(np.diff(fit.bounds) >= 0.0)
    assert rows.passes > len(fit.bounds)
    assert fit.bound == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("run", [accelerated.squarem, accelerated.anderson])
def test_points_that_cannot_be_are_not_taken(run):
    rows, start = Rows(), Linear(np.array([8.0, 3.0]), np.array([0.9, 0.5]), wall=1e300)
    fit = run(start, rows, max_iter=400, stop=lambda step: abs(step.change) < 1e-12)
    plain = em.run(start, Rows(), max_iter=400, stop=lambda step: abs(step.change) < 1e-12)
    assert fit.bounds == plain.bounds


def test_the_first_change_is_counted_from_a_bound_that_is_given_and_iterations_end():
    start, rows, seen = Linear(np.array([8.0]), np.array([0.9])), Rows(), []
    fit = accelerated.squarem(
        start, rows, max_iter=7, stop=lambda step: bool(seen.append(step.change)), bound=-100.0
    )
    assert seen[0] == pytest.approx(36.0)
    assert not fit.converged
    assert rows.passes == 7
    none = accelerated.squarem(start, rows, max_iter=0, stop=lambda step: True)
    assert none.bound == -np.inf
    assert none.parameters is start
    ended = accelerated.squarem(
        start, rows, max_iter=7, stop=lambda step: False, report=lambda step: step.n_iter == 3
    )
    assert len(ended.bounds) == 3
    assert not ended.converged
