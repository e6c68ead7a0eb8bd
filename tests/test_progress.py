"""Progress: guesses at the time that is left, and the bar that shows them."""

import io
import math

import numpy as np
import pytest

from mixtura import GaussianMixture
from mixtura.progress import _duration, iterations_left


def test_changes_that_shrink_by_a_constant_factor_tell_the_end():
    changes = [math.inf, *(0.5**n for n in range(10))]
    # The last change is 2^-9; the first below 1e-6 is 2^-20, eleven iterations later.
    assert iterations_left(changes, 1e-6, 1000) == 11
    assert iterations_left(changes, 1e-6, 7) == 7
    assert iterations_left(changes, 0.1, 1000) == 0


@pytest.mark.parametrize("changes", [[], [math.inf], [math.inf, 1.0], [math.inf, 1.0, 2.0], [0.0, 1.0]])
def test_where_the_changes_say_nothing_it_is_the_most(changes):
    assert iterations_left(changes, 1e-3, 12) == 12
    assert iterations_left([1.0, 0.5], 0.0, 12) == 12


def test_durations():
    seconds = (0.5, 42.0, 150.0, 7200.0, 3e6)
    assert [_duration(s) for s in seconds] == ["0.5 s", "42 s", "2.5 min", "2 h", "35 days"]


def test_the_bar_shows_bound_speed_and_time_left(monkeypatch, rng):
    console = pytest.importorskip("rich.console")
    out = io.StringIO()
    monkeypatch.setattr(console.Console, "file", property(lambda _: out))
    X = np.concatenate([rng.normal(size=(500, 2)), rng.normal(size=(500, 2)) + 2.0])
    GaussianMixture(2, tol=1e-7, max_iter=500, verbose=1, random_state=0).fit(X)
    assert "bound -" in out.getvalue()
    assert "rows/s" in out.getvalue()
    assert "converged" in out.getvalue()
