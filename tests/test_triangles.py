"""Packed triangles: the same numbers by look-up, row by row, and on several threads."""

import numpy as np
import pytest

from mixtura import triangles


def packed(S):
    return np.array([S[..., i, j] for i in range(S.shape[-1]) for j in range(i + 1)]).T


@pytest.mark.parametrize("way", ["look-up", "rows", "threads"])
@pytest.mark.parametrize("K", [1, 2, 5])
def test_triangles_by_definition(way, K, rng, monkeypatch):
    """Whatever the size: small ones are looked up, large ones filled row by row, very large ones by threads."""
    calls = []
    if way != "look-up":
        monkeypatch.setattr(triangles, "_LITTLE", 0)
    if way == "threads":
        monkeypatch.setattr(triangles, "_MUCH", 1)
        monkeypatch.setattr(triangles, "thread_limit", lambda: 3)
        pool = triangles.ThreadPoolExecutor
        monkeypatch.setattr(triangles, "ThreadPoolExecutor", lambda n: calls.append(n) or pool(n))
    a, b = rng.normal(size=(2, K, 4))
    product = triangles.symmetric_product(a, b)
    S = a[:, :, None] * b[:, None, :] + b[:, :, None] * a[:, None, :]
    np.testing.assert_allclose(product, packed(S), rtol=1e-15)
    np.testing.assert_array_equal(triangles.unpack_symmetric(product, 4)[:, 2, 1], product[:, 4])
    np.testing.assert_allclose(triangles.unpack_symmetric(product, 4), S, rtol=1e-15)
    np.testing.assert_array_equal(triangles.pack_symmetric(triangles.unpack_symmetric(product, 4)), product)
    np.testing.assert_allclose(triangles.packed_diagonal(product, 4), 2.0 * a * b, rtol=1e-15)
    assert triangles.packed_size(4) == product.shape[1] == 10
    # As many threads as components, at most; of one component none but the caller's.
    assert calls == ([min(3, K)] * 4 if way == "threads" and K > 1 else [])


def test_a_vector_against_many(rng):
    a, b = rng.normal(size=4), rng.normal(size=(3, 4))
    want = packed(a[:, None] * b[:, None, :] + b[:, :, None] * a)
    np.testing.assert_allclose(triangles.symmetric_product(np.broadcast_to(a, b.shape), b), want, rtol=1e-14)
