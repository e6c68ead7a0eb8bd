"""Models in other programs: ONNX graphs held to our own answers, scikit-learn's estimators, JSON."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import sklearn.cluster
import sklearn.mixture
from numpy.testing import assert_allclose, assert_array_equal

from mixtura import (
    BayesianGaussianMixture,
    GaussianMixture,
    KMeans,
    LinearExpert,
    MixtureOfExperts,
    load,
    save,
)
from mixtura.cli import main
from mixtura.extension import Component, register_component
from mixtura.quadratics import Quadratics

TYPES = ("full", "tied", "diag", "spherical")


@pytest.fixture
def table(rng):
    """Clusters of unlike shapes, far from the origin: rows of which float32 has three digits after the point."""
    centers = 3.0 * rng.normal(size=(4, 3)) + 1000.0
    return (centers[rng.integers(0, 4, 600)] + rng.normal(size=(600, 3))).astype(np.float32)


def answers(graph, X):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", TYPES)
def test_gaussian_mixtures_in_onnx(kind, dtype, table, tmp_path):
    pytest.importorskip("onnx")
    X = table.astype(dtype)
    gm = GaussianMixture(4, covariance_type=kind, random_state=0).fit(X)
    found = answers(gm.to_onnx(tmp_path / "m.onnx", dtype), X)
    assert (tmp_path / "m.onnx").stat().st_size < 20_000
    # The graph computes in float64: what is left is the rounding of the last step, and of expanding |F (x - m)|^2.
    eps = np.finfo(dtype).eps if dtype == "float32" else 1e-10
    assert found["label"].dtype == np.int64
    assert_array_equal(found["label"], gm.predict(X))
    assert found["probabilities"].dtype == X.dtype
    assert_allclose(found["probabilities"], gm.predict_proba(X), rtol=0, atol=4 * eps)
    assert_allclose(found["log_likelihood"], gm.score_samples(X), rtol=4 * eps)


@pytest.mark.parametrize("rows", [1, 0])
def test_graphs_take_any_number_of_rows(rows, table):
    pytest.importorskip("onnx")
    gm = GaussianMixture(2, random_state=0).fit(table)
    assert answers(gm.to_onnx(), table[:rows])["probabilities"].shape == (rows, 2)


def test_kmeans_in_onnx(table):
    pytest.importorskip("onnx")
    km = KMeans(5, random_state=0).fit(table)
    found = answers(km.to_onnx(), table)
    assert_array_equal(found["label"], km.predict(table))
    assert_allclose(found["distances"], km.transform(table), rtol=1e-5)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("gate", ["constant", "dirichlet", "sparse", "softmax", "gaussian", "neural"])
def test_experts_in_onnx(gate, targets, table, rng):
    pytest.importorskip("onnx")
    if gate == "neural":
        pytest.importorskip("torch")
    X = table.astype(np.float64)
    Y = np.stack([np.where(X[:, 0] > 1000.0, X[:, 1], -X[:, 2]), X[:, 0]], axis=1) + rng.normal(size=(600, 2))
    y = Y[:, 0] if targets == 1 else Y
    prior = LinearExpert(prior_covariance=2.0)
    model = MixtureOfExperts(
        2,
        gate=gate,
        experts=[LinearExpert(), prior],
        noise="per-expert",
        random_state=0,
        max_iter=50,
        tol=1e-2,
    ).fit(X, y)
    found = answers(model.to_onnx(dtype="float64"), X)
    mean, std = model.predict(X, return_std=True)
    assert_allclose(found["mean"], mean, rtol=1e-9)
    assert_allclose(found["std"], std, rtol=1e-6)  # a variance that is the difference of two
    assert_allclose(found["probabilities"], model.predict_gate(X), atol=1e-9)


def test_noise_in_onnx(table):
    pytest.importorskip("onnx")
    gm = GaussianMixture(3, noise="flat for onnx", random_state=0).fit(np.vstack([table, table[:20] + 40.0]))
    X = np.vstack([table, table + 60.0]).astype(np.float64)
    found = answers(gm.to_onnx(dtype="float64"), X)
    assert_array_equal(found["label"], gm.predict(X))
    assert_allclose(found["probabilities"], gm.predict_proba(X), atol=1e-9)
    assert found["label"].min() == -1
    with pytest.raises(ValueError, match="no mixture with a noise component"):
        gm.to_sklearn()


@register_component
@dataclass(frozen=True, eq=False)
class Flat(Component):
    """The same density everywhere."""

    name = "flat for onnx"

    def start(self, table):
        return self

    @property
    def quadratics(self):
        return Quadratics("scalar", np.array([-9.0]), np.zeros((1, 3)), np.zeros(1))

    def n_parameters(self, dims):
        return 0

    def sample(self, n, rng):
        return np.zeros((n, 3))


def test_what_has_no_graph_says_so(table):
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match="dtype must be"):
        GaussianMixture(1).fit(table).to_onnx(dtype="float16")
    with pytest.raises(sklearn.exceptions.NotFittedError):
        KMeans(2).to_onnx()


@pytest.mark.parametrize("kind", TYPES)
def test_mixtures_go_to_scikit_learn_and_back(kind, table):
    gm = GaussianMixture(
        3, covariance_type=kind, random_state=0, init_params="auto", reg_covar="auto", n_threads=1
    ).fit(table)
    theirs = gm.to_sklearn()
    assert type(theirs) is sklearn.mixture.GaussianMixture
    theirs._validate_params()
    exact = table.astype(np.float64)  # scikit-learn loses digits of float32 that are far from the origin
    assert_allclose(theirs.score_samples(exact), gm.score_samples(exact), rtol=1e-4)
    assert_array_equal(theirs.predict(exact), gm.predict(exact))
    assert theirs.bic(exact) == pytest.approx(gm.bic(exact), rel=1e-6)
    theirs.means_[:] = 0.0  # a copy
    assert gm.means_.min() > 900.0
    own = sklearn.mixture.GaussianMixture(3, covariance_type=kind, random_state=0).fit(table.astype(float))
    back = GaussianMixture.from_sklearn(own)
    assert back.lower_bounds_ == getattr(own, "lower_bounds_", [own.lower_bound_])
    assert_array_equal(back.predict(table), own.predict(table))
    assert back.n_iter_ == own.n_iter_
    assert back.summary()
    assert_array_equal(back.to_sklearn().covariances_, own.covariances_)


@pytest.mark.parametrize("weights", ["dirichlet_process", "dirichlet_distribution"])
@pytest.mark.parametrize("kind", TYPES)
def test_posteriors_go_to_scikit_learn_and_back(kind, weights, table, tmp_path):
    how = {
        "n_components": 4,
        "covariance_type": kind,
        "weight_concentration_prior_type": weights,
        "random_state": 0,
    }
    X = table.astype(np.float64)
    # Of 'diag' and 'spherical' scikit-learn has other distributions: the shift of a component is known.
    D = X.shape[1]
    shift = {"diag": D * (D - 1.0) / 4.0, "spherical": (D - 1.0) * (D + 2.0) / 4.0}.get(kind, 0.0)

    def near(one):
        """Least degrees of freedom decide: of 'spherical' ours are of all columns, D times as many."""
        least = np.min(one.degrees_of_freedom_) / (D if kind == "spherical" else 1)
        return 1e-9 + 1.3 * shift / least

    model = BayesianGaussianMixture(**how, init_params="hierarchical").fit(X)
    theirs = model.to_sklearn()
    assert type(theirs) is sklearn.mixture.BayesianGaussianMixture
    theirs._validate_params()
    assert theirs.init_params == "kmeans"
    assert_allclose(theirs.score_samples(X), model.score_samples(X), atol=near(model))
    assert_allclose(theirs.predict_proba(X), model.predict_proba(X), atol=near(model))
    theirs.means_[:] = 0.0  # a copy
    assert model.means_.min() > 900.0
    own = sklearn.mixture.BayesianGaussianMixture(**how).fit(X)
    back = BayesianGaussianMixture.from_sklearn(own)
    assert_allclose(
        back.score_samples(X), own.score_samples(X), atol=near(own) * (D if kind == "spherical" else 1)
    )
    assert back.lower_bound_ == own.lower_bound_
    save(back, tmp_path / "m")
    assert load(tmp_path / "m").summary() == back.summary()
    again = back.to_sklearn()
    for name in ("covariances_", "degrees_of_freedom_", "mean_precision_", "weights_"):
        assert_array_equal(getattr(again, name), getattr(own, name))
    for one, other in zip(again.weight_concentration_, own.weight_concentration_, strict=True):
        assert_array_equal(one, other)


def test_centres_go_to_scikit_learn_and_back(table, tmp_path):
    km = KMeans(3, random_state=0, init="auto").fit(table)
    theirs = km.to_sklearn()
    theirs._validate_params()
    assert type(theirs) is sklearn.cluster.KMeans
    assert_array_equal(theirs.predict(table), km.labels_)
    assert_allclose(theirs.transform(table), km.transform(table), rtol=1e-4)
    own = sklearn.cluster.KMeans(3, random_state=0).fit(table)
    back = KMeans.from_sklearn(own)
    assert_array_equal(back.predict(table), own.labels_)
    save(back, tmp_path / "m")
    assert load(tmp_path / "m").summary() == back.summary()


def test_what_scikit_learn_does_not_have(table):
    with pytest.raises(TypeError, match="expected a GaussianMixture of scikit-learn, got KMeans"):
        GaussianMixture.from_sklearn(sklearn.cluster.KMeans(2))
    with pytest.raises(TypeError, match="expected a KMeans of scikit-learn, got int"):
        KMeans.from_sklearn(3)
    with pytest.raises(TypeError, match="expected a BayesianGaussianMixture of scikit-learn, got KMeans"):
        BayesianGaussianMixture.from_sklearn(sklearn.cluster.KMeans(2))
    with pytest.raises(sklearn.exceptions.NotFittedError):
        KMeans.from_sklearn(sklearn.cluster.KMeans(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_models_as_text(dtype, table, tmp_path):
    X = table.astype(dtype)
    models = [
        GaussianMixture(3, random_state=0).fit(X),
        KMeans(3, random_state=0).fit(X),
        MixtureOfExperts(2, gate="softmax", random_state=0, max_iter=5, tol=1.0).fit(X[:, :2], X[:, 2]),
    ]
    for model in models:
        path = tmp_path / f"{type(model).__name__}.json"
        save(model, path)
        text = json.loads(path.read_text())
        assert text["mixtura"]["class"] == type(model).__name__
        back = load(path)
        for name, array in model._arrays().items():
            assert_array_equal(back._arrays()[name], array)
            assert back._arrays()[name].dtype == array.dtype


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("mixtura"),
        lambda t: t.pop("tensors"),
        lambda t: t["mixtura"].pop("format"),
        lambda t: t["mixtura"].update(format=99),
        lambda t: t["tensors"]["fitted.means_"].update(shape=[7]),
        lambda t: t["tensors"]["fitted.means_"].update(dtype="object"),
        lambda t: t["tensors"]["fitted.means_"]["data"].__setitem__(0, "nan"),
        lambda t: t["tensors"]["fitted.means_"]["data"].__setitem__(0, [1]),
        lambda t: t["tensors"].update({"fitted.means_": 3}),
    ],
)
def test_damaged_text_is_refused(change, table, tmp_path):
    save(GaussianMixture(2, random_state=0).fit(table), tmp_path / "m.json")
    held = json.loads((tmp_path / "m.json").read_text())
    change(held)
    (tmp_path / "m.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match=r"m\.json"):
        load(tmp_path / "m.json")


def test_the_command_line_exports(table, tmp_path, capsys):
    pytest.importorskip("onnx")
    save(GaussianMixture(2, random_state=0).fit(table), tmp_path / "m")
    for ending in ("onnx", "json", "safetensors"):
        out = tmp_path / f"out.{ending}"
        assert main(["export", str(tmp_path / "m"), str(out)]) == 0
        assert out.stat().st_size > 500
    assert_array_equal(load(tmp_path / "out.json").means_, load(tmp_path / "out.safetensors").means_)
    assert main(["export", str(tmp_path / "m"), str(tmp_path / "x.pt")]) == 2
    assert "write to a file that ends in .onnx or .json" in capsys.readouterr().err
