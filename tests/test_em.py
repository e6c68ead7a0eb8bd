"""The loop on its own: iterate, stop, report, restart."""

import math
from dataclasses import dataclass

import pytest

from mixtura import em


@dataclass
class Statistics:
    objective: float
    finite: bool = True

    def is_finite(self):
        return self.finite


@dataclass
class Halving:
    """A model whose objective comes half as near to 10 with every step."""

    value: float
    broken_at: int = -1
    drawn: object = None

    def expect(self, table, rng=None):
        self.drawn = rng
        return Statistics(4.0 * self.value, self.broken_at != 0)

    def maximize(self, found):
        return Halving(0.5 * (self.value + 10.0), self.broken_at - 1)


class Table:
    total_weight = 4.0


def run(start=0.0, **keywords):
    settings = {"max_iter": 50, "stop": lambda step: abs(step.change) < 1e-3} | keywords
    return em.run(Halving(start), Table(), **settings)


def test_bounds_are_objectives_per_unit_of_weight():
    fit = run()
    assert fit.bounds[:4] == [0.0, 5.0, 7.5, 8.75]
    assert fit.converged
    assert fit.bound == fit.bounds[-1]
    assert fit.n_iter == len(fit.bounds) == 15
    assert fit.found.objective == 4.0 * fit.bound
    assert fit.parameters.value > fit.bound  # the M-step after the last E-step is in it


def test_steps_say_what_happened():
    steps = []
    run(max_iter=3, report=lambda step: bool(steps.append(step)))
    assert [s.n_iter for s in steps] == [1, 2, 3]
    assert [(s.before.value, s.after.value) for s in steps] == [(0.0, 5.0), (5.0, 7.5), (7.5, 8.75)]
    assert [s.change for s in steps] == [math.inf, 5.0, 2.5]
    assert [s.found.objective for s in steps] == [0.0, 20.0, 30.0]


def test_the_first_change_is_counted_from_a_bound_that_is_given():
    changes = []
    run(max_iter=2, bound=-1.0, report=lambda step: bool(changes.append(step.change)))
    assert changes == [1.0, 5.0]


def test_a_report_may_end_a_run():
    fit = run(report=lambda step: step.n_iter == 4)
    assert fit.n_iter == 4
    assert not fit.converged
    assert fit.found.objective == 4.0 * 8.75


def test_a_run_that_stops_and_is_ended_at_once_has_converged():
    fit = run(report=lambda step: step.n_iter == 2, stop=lambda step: step.n_iter == 2)
    assert fit.converged


def test_too_few_iterations():
    fit = run(max_iter=5)
    assert not fit.converged
    assert fit.n_iter == 5
    fit = run(max_iter=0)
    assert (fit.bound, fit.n_iter, fit.found) == (-math.inf, 0, None)
    assert fit.parameters.value == 0.0


def test_sums_that_overflow_end_a_run():
    with pytest.raises(em.NotFiniteError, match="Scale the input data"):
        em.run(Halving(0.0, broken_at=3), Table(), max_iter=10, stop=lambda step: False)


def test_a_generator_goes_to_the_e_step():
    start = Halving(0.0)
    em.run(start, Table(), max_iter=1, stop=lambda step: False, rng="generator")
    assert start.drawn == "generator"


class Arrived:
    """A model that its M-step does not change any more."""

    def __init__(self):
        self.passes = 0

    def expect(self, table, rng=None):
        self.passes += 1
        return Statistics(40.0, True)

    def maximize(self, found):
        return self


def test_a_model_at_rest_is_not_evaluated_again():
    model, steps = Arrived(), []
    report = lambda step: bool(steps.append((step.n_iter, step.change)))  # noqa: E731
    fit = em.run(model, Table(), max_iter=5, stop=lambda step: False, report=report)
    assert model.passes == 1
    assert fit.bounds == [10.0] * 5
    assert steps == [(1, math.inf), (2, 0.0), (3, 0.0), (4, 0.0), (5, 0.0)]
    assert fit.found.objective == 40.0


def test_draws_differ_although_the_model_is_the_same():
    model = Arrived()
    em.run(model, Table(), max_iter=5, stop=lambda step: False, rng="generator")
    assert model.passes == 5


class Listener:
    listens = True

    def __init__(self):
        self.heard = []

    def begin(self, run):
        self.heard.append(f"begin {run}")

    def iteration(self, step):
        self.heard.append(f"iteration {step.n_iter}")
        return False

    def end(self, fit):
        self.heard.append(f"end {fit.bound:g}")

    def close(self):
        self.heard.append("close")


def fits(*bounds):
    return lambda i, report: em.Fit(parameters=i, bound=bounds[i])


def test_the_best_of_several_runs_is_kept_the_first_of_equals():
    assert em.restarts(4, fits(1.0, 3.0, 3.0, 2.0), Listener()).parameters == 1
    assert em.restarts(3, fits(-math.inf, -math.inf, -5.0), Listener()).parameters == 2
    assert em.restarts(2, fits(-math.inf, -math.inf), Listener()).parameters == 0


def test_runs_may_be_compared_by_another_score():
    listener = Listener()
    assert em.restarts(3, fits(1.0, 3.0, 2.0), listener, lambda fit: -fit.bound).parameters == 0
    assert listener.heard == ["begin 0", "end 1", "begin 1", "end 3", "begin 2", "end 2", "close"]

    def score(fit):
        raise AssertionError("not asked for, where there is one run")

    assert em.restarts(1, fits(1.0), Listener(), score).parameters == 0


def test_listeners_hear_of_iterations():
    listener = Listener()
    em.restarts(1, lambda i, report: run(max_iter=2, report=report), listener)
    assert listener.heard == ["begin 0", "iteration 1", "iteration 2", "end 5", "close"]


def test_listeners_are_closed_when_a_run_fails():
    listener = Listener()

    def broken(i, report):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        em.restarts(2, broken, listener)
    assert listener.heard == ["begin 0", "close"]
