"""Arrays of other libraries, in and out."""

import numpy as np
import pytest
import sklearn

from mixtura import GaussianMixture, KMeans, MixtureOfExperts
from mixtura.array_kinds import like, to_host

torch = pytest.importorskip("torch")
strict = pytest.importorskip("array_api_strict")

LIBRARIES = {
    "torch": lambda a: torch.as_tensor(a),
    "array_api_strict": lambda a: strict.asarray(a),
    "array_api_strict on another device": lambda a: strict.asarray(a, device=strict.Device("device1")),
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture
def rows(rng):
    return np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 9.0])


def test_host_arrays_are_read_where_they_lie(library, rows):
    assert np.shares_memory(to_host(library(rows)), rows)
    assert to_host(rows) is rows
    for other in ([1.0], "text", None, 3.0):
        assert to_host(other) is other


def test_torch_tensors_that_want_a_gradient_are_read(rows):
    tensor = torch.tensor(rows, requires_grad=True)
    np.testing.assert_array_equal(to_host(tensor), rows)


def same_kind(answer, X, dtype=None):
    assert type(answer) is type(X)
    assert answer.device == X.device
    assert dtype is None or to_host(answer).dtype == dtype


@pytest.mark.parametrize("dispatch", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_answers_are_of_the_kind_of_the_rows(library, dtype, dispatch, rows, monkeypatch):
    if dispatch:
        monkeypatch.setenv("SCIPY_ARRAY_API", "1")
        import scipy._lib._array_api as scipy_array_api

        monkeypatch.setattr(scipy_array_api, "SCIPY_ARRAY_API", "1", raising=False)
    rows = rows.astype(dtype)
    X, y = library(rows), library(rows[:, 0] - 2.0 * rows[:, 1])
    with sklearn.config_context(array_api_dispatch=dispatch):
        host, gm = (GaussianMixture(2, random_state=0).fit(Z) for Z in (rows, X))
        for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
            same_kind(getattr(gm, name), X, dtype)
            np.testing.assert_array_equal(to_host(getattr(gm, name)), getattr(host, name))
        for method, of in (("predict", np.int64), ("predict_proba", dtype), ("score_samples", dtype)):
            answer = getattr(gm, method)(X)
            same_kind(answer, X, of)
            np.testing.assert_array_equal(to_host(answer), getattr(host, method)(rows))
        for answer in gm.sample(5):
            same_kind(answer, X)
        same_kind(gm.fit_predict(X), X, np.int64)
        assert gm.score(X) == host.score(rows)
        assert gm.bic(X, library(np.ones(120))) == host.bic(rows, np.ones(120))

        km = KMeans(2, random_state=0).fit(X)
        for answer, of in (
            (km.cluster_centers_, dtype),
            (km.labels_, np.int32),
            (km.predict(X), np.int32),
            (km.transform(X), dtype),
            (km.fit_predict(X), np.int32),
            (km.fit_transform(X), dtype),
        ):
            same_kind(answer, X, of)

        model = MixtureOfExperts(2, random_state=0, max_iter=5, tol=1.0).fit(X, y)
        for answer in (model.coef_, model.intercept_, model.noise_variance_, model.weights_):
            same_kind(answer, X)
        for answer in (
            model.predict(X),
            *model.predict(X, return_std=True),
            model.predict_gate(X),
            model.predict_expert(X),
            model.responsibilities(X, y),
            model.score_samples(X, y),
            model.sample(X, random_state=0),
        ):
            same_kind(answer, X, dtype)
        assert model.bic(X, y) == MixtureOfExperts(2, random_state=0, max_iter=5, tol=1.0).fit(
            rows, to_host(y)
        ).bic(rows, to_host(y))


def test_what_has_no_kind_of_its_own_gets_numpy():
    for X in ([[1.0]], np.ones((1, 1))):
        assert type(like(X)(np.ones(3))) is np.ndarray
