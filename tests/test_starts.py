"""First parameters of a mixture: how long a search goes on, and on which rows."""

import numpy as np
import pytest

from mixtura import backends, starts
from mixtura.table import Table

REFERENCE = backends.create("reference")


def test_column_variance_is_the_mean_over_the_columns(rng):
    X, weights = rng.normal(size=(50, 3)) * [1.0, 2.0, 3.0], rng.uniform(size=50)
    away = X - np.average(X, axis=0, weights=weights)
    want = np.average(away**2, axis=0, weights=weights).mean()
    assert starts.column_variance(Table.of(REFERENCE, X, weights)) == pytest.approx(want, rel=1e-12)
    assert starts.column_variance(Table.of(REFERENCE, np.ones((5, 2)))) == 0.0


@pytest.mark.parametrize(
    ("rows", "sampled", "kind", "searches", "iterations"),
    [
        (300, False, "full", 1, 300),
        (300, True, "full", 1, 20),
        (2000, False, "mass", 1, 20),
        (2000, False, "full", 3, 60),
    ],
)
def test_searches(rows, sampled, kind, searches, iterations, rng, monkeypatch):
    """One search of the whole table; short ones of a sample, three of them where an iteration does much work."""
    monkeypatch.setattr(starts, "_SAMPLE_ROWS", 500)
    monkeypatch.setattr(starts, "_SAMPLE_ROWS_OF_QUICK", 500)
    monkeypatch.setattr(starts, "_SAMPLE_ROWS_PER_COMPONENT", 1)
    monkeypatch.setattr(starts, "_QUICK", 10)
    seen, lloyd = [], starts.lloyd
    monkeypatch.setattr(
        starts, "lloyd", lambda t, s, **k: seen.append((len(t), k["max_iter"])) or lloyd(t, s, **k)
    )
    table = Table.of(REFERENCE, rng.normal(size=(2 * rows if sampled else rows, 2)))
    if sampled:
        table = table.take(np.arange(rows))
    starts.kmeans(table, 3, kind, 0.0, np.random.RandomState(0))
    assert [n for _, n in seen] == [iterations] * searches
    assert all(n <= 500 for n, _ in seen) if rows > 1000 else all(n == rows for n, _ in seen)
