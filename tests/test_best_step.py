"""Runs whose objective may fall return the best of their steps."""

from dataclasses import dataclass

import numpy as np
import pytest

from mixtura import best_step, em


@dataclass(frozen=True)
class Sums:
    objective: float
    moments: object = None

    def is_finite(self):
        return True


@dataclass(frozen=True)
class Listed:
    """Parameters whose objectives are a list, one for each iteration."""

    objectives: tuple
    place: int = 0

    def expect(self, table, rng=None):
        return Sums(self.objectives[self.place], f"moments {self.place}")

    def maximize(self, found):
        return Listed(self.objectives, self.place + 1)


class Rows:
    total_weight = 1.0


def made(objectives, **how):
    return best_step.run(
        em.run, Listed(tuple(objectives)), Rows(), **{"max_iter": len(objectives), "tol": 1e-3, **how}
    )


def test_em_ends_where_it_gains_little():
    fit = made([-5.0, -4.0, -3.9995, -1.0])
    assert fit.converged
    assert fit.bounds == [-5.0, -4.0, -3.9995]
    assert fit.parameters.place == 3


def test_em_ends_where_it_falls_with_the_step_before():
    fit = made([-5.0, -4.0, -4.5, -1.0])
    assert fit.converged
    assert fit.bounds == [-5.0, -4.0]
    assert fit.bound == -4.0
    assert fit.parameters.place == 1  # those of the best E-step
    assert fit.found.moments == "moments 1"
    assert fit.found.objective == -4.0


@pytest.mark.parametrize(
    ("size", "rounding", "falls"), [(1.0, 1e-10, False), (1.0, 1e-9, True), (1e6, 1e-9, False)]
)
def test_rounding_is_no_fall(size, rounding, falls):
    """What counts is the size of the objective."""
    fit = made([-5.0 * size, -4.0 * size, -4.0 * size - rounding, -1.0], tol=0.0, max_iter=3)
    assert fit.converged == falls
    assert (fit.parameters.place == 1) == falls


def test_stochastic_em_has_patience():
    """It ends so many iterations after the last that gained the tolerance, and returns that one."""
    climbing = [-100.0 + i for i in range(10)]
    resting = [-91.0 + 0.0005 * (i % 2) - 0.1 * (i % 3) for i in range(100)]
    fit = made([*climbing, *resting], rng=np.random.RandomState(0))
    assert fit.converged
    assert len(fit.bounds) == 10 + best_step._PATIENCE
    assert fit.bound == -91.0
    assert fit.parameters.place == 9
    late = made([*climbing, *resting[:40], -50.0, *resting], rng=np.random.RandomState(0))
    assert late.bound == -50.0
    assert len(late.bounds) == 51 + best_step._PATIENCE


def test_reports_and_iterations_end_a_run():
    seen = []
    fit = made([-3.0, -2.0, -1.0], report=lambda step: bool(seen.append(step.n_iter)) or step.n_iter == 2)
    assert seen == [1, 2]
    assert not fit.converged
    assert fit.bounds == [-3.0, -2.0]
    none = made([-3.0], max_iter=0)
    assert none.bounds == []
    assert none.parameters.place == 0


def test_a_run_goes_on_from_a_state():
    objectives = [-100.0 + i for i in range(10)] + [-95.0] * 100
    saved = []
    whole = made(objectives, rng=np.random.RandomState(0), save=saved.append)
    for state in (saved[3], saved[30]):
        again = made(objectives, rng=np.random.RandomState(5), state=state)
        assert again.bounds == whole.bounds
        assert again.parameters.place == whole.parameters.place == 9
        assert state.bounds == whole.bounds[: len(state.bounds)]
