"""Which backend 'auto' takes, and what it says where that is a slow one."""

import warnings

import numpy as np
import pytest

from mixtura import GaussianMixture, backends
from mixtura.config import config


@pytest.fixture
def _no_kernels(monkeypatch):
    def missing():
        raise ImportError("no kernels")

    monkeypatch.setitem(backends._FACTORIES, "native", missing)
    backends._warn_of_slow_backend.cache_clear()
    yield
    backends._warn_of_slow_backend.cache_clear()


@pytest.mark.usefixtures("_no_kernels")
def test_an_installation_without_kernels_says_so_once():
    X = np.random.default_rng(0).normal(size=(100, 2))
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ kernels.*show_config"):
        found = GaussianMixture(1).fit(X)
    assert found.backend_ in ("numba", "reference")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GaussianMixture(1).fit(X)
        assert config()["auto"] == found.backend_


def test_auto_is_the_first_that_is_there():
    assert backends.automatic() == backends.create().name
