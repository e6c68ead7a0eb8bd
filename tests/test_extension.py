"""Users' own covariances, components and gates: the page that explains them runs, what it makes works everywhere."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import mixtura
from mixtura import GaussianMixture
from mixtura.components import COMPONENTS, COVARIANCES
from mixtura.extension import (
    Component,
    Covariance,
    Gate,
    Matrices,
    Scalars,
    register_component,
    register_covariance,
    register_gate,
    state,
)
from mixtura.gates import GATES
from mixtura.persistence import ModelFileError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
FILE = ROOT / "examples" / "my_parts.py"


def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def parts():
    """What the page registers, for one test."""
    before = [(table, dict(table)) for table in (COVARIANCES, COMPONENTS, GATES)]
    space = {"__name__": "my_parts"}
    for block in blocks()[:4]:
        exec(block, space)
    yield space
    for table, held in before:
        table.clear()
        table.update(held)


@pytest.fixture
def clusters(rng):
    means = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    X = (means[:, None] + rng.normal(size=(3, 150, 2)) * [1.0, 0.3]).reshape(-1, 2)
    return np.vstack([X, rng.uniform(-20.0, 20.0, size=(60, 2))])


def test_the_page_runs(parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(blocks()[4], parts)


def test_the_page_is_the_example():
    """The file in examples/ is what the page says, but for its first line."""
    text = FILE.read_text()
    for block in blocks()[:4]:
        assert block.strip() in text


def test_a_covariance_of_ones_own_is_maximum_likelihood(parts, backend, clusters):
    """One E-step, then the closed form: the pooled variances of the columns."""
    gm = mixtura.GaussianMixture(
        3,
        covariance_type="common_diag",
        backend=backend.name,
        random_state=0,
        tol=1e-8,
        max_iter=500,
        reg_covar=0.0,
    ).fit(clusters)
    assert gm.covariances_.shape == (2,)
    resp = gm.predict_proba(clusters)
    away = clusters[:, None] - gm.means_
    want = np.einsum("nk,nkd->d", resp, away**2) / len(clusters)
    np.testing.assert_allclose(gm.covariances_, want, rtol=1e-4)
    assert np.all(np.diff(gm.lower_bounds_) > -1e-12)
    log_p = np.stack(
        [stats.multivariate_normal(m, np.diag(gm.covariances_)).logpdf(clusters) for m in gm.means_], axis=1
    )
    want = np.log(np.exp(log_p) @ gm.weights_)
    np.testing.assert_allclose(gm.score_samples(clusters), want, rtol=1e-10)
    n_parameters = 2 + 6 + 2
    assert gm.bic(clusters) == pytest.approx(-2 * want.sum() + n_parameters * np.log(len(clusters)))


def test_a_covariance_of_ones_own_takes_precisions_and_draws(parts, clusters):
    gm = mixtura.GaussianMixture(
        3, covariance_type="common_diag", precisions_init=[1.0, 4.0], random_state=0, tol=1e-2
    ).fit(clusters.astype(np.float32))
    assert gm.precisions_.dtype == np.float32
    np.testing.assert_allclose(gm.precisions_ * gm.covariances_, 1.0, rtol=1e-6)
    X, y = gm.sample(20_000)
    pooled = np.mean([X[y == k].var(axis=0) for k in range(3)], axis=0)
    np.testing.assert_allclose(pooled, gm.covariances_, rtol=0.1)
    with pytest.raises(ValueError, match="should have the shape of"):
        mixtura.GaussianMixture(3, covariance_type="common_diag", precisions_init=np.ones((3, 2))).fit(
            clusters
        )


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical", "common_diag"])
def test_noise_takes_the_rows_that_belong_to_no_cluster(parts, covariance_type, backend, clusters):
    gm = mixtura.GaussianMixture(
        3,
        covariance_type=covariance_type,
        noise="box",
        backend=backend.name,
        random_state=0,
        tol=1e-9,
        max_iter=500,
    ).fit(clusters)
    assert np.all(np.diff(gm.lower_bounds_) > -1e-10)
    assert gm.noise_weight_ == pytest.approx(60 / 510, abs=0.03)
    assert gm.weights_.sum() + gm.noise_weight_ == pytest.approx(1.0, abs=1e-12)
    labels, resp = gm.predict(clusters), gm.predict_proba(clusters)
    assert resp.shape == (510, 4)
    np.testing.assert_array_equal(labels, np.where(resp.argmax(axis=1) == 3, -1, resp.argmax(axis=1)))
    assert np.mean(labels[450:] == -1) > 0.8
    assert np.mean(labels[:450] == -1) < 0.02
    # The density is that of its parts.
    volume = np.prod(clusters.max(axis=0) - clusters.min(axis=0))
    dense = COVARIANCES[covariance_type].storage.dense(gm.covariances_, 3, 2)
    parts_of = [
        w * stats.multivariate_normal(m, c).pdf(clusters)
        for w, m, c in zip(gm.weights_, gm.means_, dense, strict=True)
    ]
    want = np.log(np.sum(parts_of, axis=0) + gm.noise_weight_ / volume)
    np.testing.assert_allclose(gm.score_samples(clusters), want, rtol=1e-9)
    assert "weight of noise" in gm.summary()
    X, y = gm.sample(4000)
    assert np.mean(y == -1) == pytest.approx(gm.noise_weight_, abs=0.03)
    assert X.shape == (4000, 2)


def test_tied_covariances_do_not_share_with_noise(parts, clusters):
    """What components share is estimated from their rows alone."""
    gm = mixtura.GaussianMixture(
        3, covariance_type="tied", noise="box", random_state=0, tol=1e-9, max_iter=500
    )
    gm.fit(clusters)
    resp = gm.predict_proba(clusters)[:, :3]
    away = clusters[:, None] - gm.means_
    want = np.einsum("nk,nkd,nke->de", resp, away, away) / resp.sum()
    np.testing.assert_allclose(gm.covariances_, want, rtol=1e-3, atol=1e-4)


def test_noise_goes_on_from_where_it_was(parts, clusters):
    gm = mixtura.GaussianMixture(3, noise="box", random_state=0, warm_start=True, tol=1e-9, max_iter=500).fit(
        clusters
    )
    bound = gm.lower_bound_
    gm.fit(clusters)
    assert gm.n_iter_ < 5
    assert gm.lower_bound_ >= bound - 1e-9


def test_the_box_of_a_large_table_holds_all_rows(parts, rng):
    """Also those that are in no sample of it."""
    X = np.vstack([rng.normal(size=(40_000, 2)), [[50.0, -60.0]]])
    gm = mixtura.GaussianMixture(2, noise="box", random_state=0, tol=1e-2).fit(X)
    np.testing.assert_array_equal(gm.noise_.low, X.min(axis=0))
    np.testing.assert_allclose(gm.noise_.high, X.max(axis=0), rtol=1e-14)


def test_noise_in_files(parts, clusters, tmp_path):
    path = tmp_path / "model.safetensors"
    for noise in ("box", parts["Box"](margin=0.25)):
        gm = mixtura.GaussianMixture(
            3, covariance_type="common_diag", noise=noise, random_state=0, tol=1e-2
        ).fit(clusters)
        mixtura.save(gm, path)
        again = mixtura.load(path)
        np.testing.assert_array_equal(again.predict_proba(clusters), gm.predict_proba(clusters))
        assert again.summary() == gm.summary()
        assert isinstance(again.noise_, parts["Box"])
    COMPONENTS.clear()
    with pytest.raises(
        ModelFileError, match=r"not known here: import the module that registers it \(mixtura\.extension\)"
    ):
        mixtura.load(path)
    del COVARIANCES["common_diag"]
    mixtura.GaussianMixture(3, random_state=0, tol=1.0).fit(clusters)


def test_pictures_of_ones_own_parts(parts, clusters, tmp_path):
    pytest.importorskip("matplotlib")
    from mixtura.plotting import save_picture

    gm = mixtura.GaussianMixture(3, covariance_type="common_diag", noise="box", random_state=0, tol=1e-2).fit(
        clusters
    )
    save_picture(gm, clusters, path=tmp_path / "clusters.png")
    assert (tmp_path / "clusters.png").stat().st_size > 10_000


def test_a_gate_of_ones_own(parts, backend, rng, tmp_path):
    x = rng.uniform(-2.0, 2.0, size=(600, 1))
    y = np.where(x[:, 0] > 0.0, 3.0 * x[:, 0], 1.0 - 2.0 * x[:, 0]) + 0.1 * rng.normal(size=600)
    model = mixtura.MixtureOfExperts(
        2, gate="binned", backend=backend.name, init=(x[:, 0] > 0).astype(int)
    ).fit(x, y)
    assert np.all(np.diff(model.lower_bounds_) > -1e-9)
    pi = model.predict_gate(np.array([[-1.5], [1.5]]))
    assert pi.max(axis=1).min() > 0.99
    assert pi.argmax(axis=1)[0] != pi.argmax(axis=1)[1]
    assert "binned gate" in model.summary()
    path = tmp_path / "model.safetensors"
    mixtura.save(model, path)
    np.testing.assert_array_equal(mixtura.load(path).predict(x), model.predict(x))


def test_on_the_command_line(clusters, tmp_path):
    """In a process of its own, where nothing is registered before."""
    table = tmp_path / "table.csv"
    np.savetxt(table, clusters, delimiter=",", header="a,b", comments="")

    def run(*arguments, fails=False):
        out = subprocess.run(
            [sys.executable, "-m", "mixtura", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert out.returncode == (2 if fails else 0), out.stderr
        return out

    model, labels = tmp_path / "model.safetensors", tmp_path / "labels.csv"
    fit = ("fit", table, "-k", 3, "--covariance", "common_diag", "--noise", "box", "-o", model, "--json")
    found = json.loads(run("--extend", FILE, *fit, "--plot", tmp_path / "clusters.png").stdout)
    assert found["covariance"] == "common_diag"
    assert 0.05 < found["noise_weight"] < 0.2
    run("predict", model, table, "--extend", FILE, "-o", labels, "--proba")
    assert labels.read_text().splitlines()[0].replace('"', "") == "label,proba_0,proba_1,proba_2,proba_noise"
    assert "-1" in {line.split(",")[0] for line in labels.read_text().splitlines()[1:]}
    assert "common_diag" in run("--extend", FILE, "info", model).stdout
    experts = ("fit-experts", table, "--target", "b", "-k", 2, "--gate", "binned", "--json")
    assert json.loads(run("--extend", FILE, *experts).stdout)["gate"] == "binned"
    assert "invalid choice: 'common_diag'" in run(*fit, fails=True).stderr
    assert "not known here" in run("predict", model, table, "-o", labels, fails=True).stderr
    assert "No such file" in run("--extend", "absent.py", "config", fails=True).stderr
    (tmp_path / "broken.py").write_text("import mixtura\nmixtura.nothing_of_this_name\n")
    assert "broken.py: AttributeError" in run("--extend", "broken.py", "config", fails=True).stderr
    assert (
        "absent_module: ModuleNotFoundError" in run("--extend", "absent_module", "config", fails=True).stderr
    )


def test_what_cannot_be_registered(parts):
    with pytest.raises(TypeError, match="an object of a class derived"):
        register_covariance(parts["TiedDiagonal"])
    with pytest.raises(TypeError, match=r"a class derived from mixtura\.extension\.Gate is needed"):
        register_gate(parts["Box"])
    with pytest.raises(TypeError, match=r"a class derived from mixtura\.extension\.Component is needed"):
        register_component(parts["Box"]())

    class Unfinished(Component):
        name = "unfinished"

    with pytest.raises(TypeError, match="Unfinished does not define n_parameters, quadratics, sample, start"):
        register_component(Unfinished)

    class Nameless(parts["BinnedGate"]):
        name = None

    with pytest.raises(TypeError, match="Nameless has no name"):
        register_gate(Nameless)

    class Full(Covariance):
        name = "full"
        kind = "full"
        storage = COVARIANCES["full"].storage

        def estimate(self, moments, mass):
            return moments.covariances(mass)

        def n_parameters(self, components, dims):
            return 0

    with pytest.raises(
        ValueError, match=r"the name 'full' is taken by mixtura\.components\.covariances\.Full"
    ):
        register_covariance(Full())
    Full.storage = None
    with pytest.raises(TypeError, match="Full has no storage"):
        register_covariance(Full())
    assert isinstance(parts["BinnedGate"](), Gate)
    register_component(parts["Box"])  # the same again is no mistake
    with pytest.raises(ValueError, match="noise"):
        mixtura.GaussianMixture(2, noise="fog").fit(np.zeros((5, 2)))


def test_noise_does_not_starve_components_of_single_rows(parts, clusters):
    """Starts whose components are single rows have one iteration without noise: it would take all other rows."""
    best = mixtura.GaussianMixture(3, noise="box", random_state=0).fit(clusters)
    for init in ("k-means++", "random_from_data"):
        gm = mixtura.GaussianMixture(3, noise="box", init_params=init, n_init=5, random_state=0).fit(clusters)
        assert gm.noise_weight_ < 0.3
        assert gm.lower_bound_ > best.lower_bound_ - 0.5


def test_one_variance_for_all(parts, clusters, tmp_path):
    """A family without an axis at all: files, precisions that are given, other types."""

    class TiedSpherical(Covariance):
        name, kind, storage = "common_spherical", "trace", Scalars(shared=True)

        def estimate(self, moments, mass):
            return mass @ moments.covariances(mass) / mass.sum() / moments.first.shape[1]

        def n_parameters(self, components, dims):
            return 1

    family = register_covariance(TiedSpherical())
    for X in (clusters, clusters.astype(np.float32)):
        gm = mixtura.GaussianMixture(
            3, covariance_type="common_spherical", precisions_init=2.0, random_state=0
        ).fit(X)
        assert gm.covariances_.shape == ()
        mixtura.save(gm, tmp_path / "model.safetensors")
        np.testing.assert_array_equal(mixtura.load(tmp_path / "model.safetensors").predict(X), gm.predict(X))
    same = mixtura.GaussianMixture(3, covariance_type=family, precisions_init=2.0, random_state=0).fit(X)
    np.testing.assert_array_equal(same.predict(X), gm.predict(X))
    mixtura.save(same, tmp_path / "model.safetensors")
    assert mixtura.load(tmp_path / "model.safetensors").covariance_type == "common_spherical"
    assert "common_spherical covariance" in same.summary()
    del COVARIANCES["common_spherical"]
    assert np.isfinite(same.score(X))  # the object is enough to go on with
    with pytest.raises(TypeError, match="TiedSpherical, which is not registered"):
        mixtura.save(same, tmp_path / "model.safetensors")


def test_a_warm_start_needs_the_same_noise(parts, clusters):
    gm = mixtura.GaussianMixture(3, warm_start=True, random_state=0, tol=1e-2).fit(clusters)
    with pytest.raises(ValueError, match=r"the last fit had noise None, this one Box\(\{'margin': 0\.0\}\)"):
        gm.set_params(noise="box").fit(clusters)
    gm.set_params(warm_start=False).fit(clusters).set_params(warm_start=True, noise=parts["Box"](margin=1.0))
    with pytest.raises(ValueError, match="warm_start: the last fit had noise"):
        gm.fit(clusters)


def test_noise_that_was_set_after_the_fit(parts, clusters):
    """What was fitted is what predicts; a model file must not say otherwise."""
    gm = mixtura.GaussianMixture(3, random_state=0, tol=1e-2).fit(clusters)
    before = gm.score(clusters)
    gm.set_params(noise="box")
    assert gm.score(clusters) == before
    assert gm.predict_proba(clusters).shape == (510, 3)
    with pytest.raises(ValueError, match="noise was set after the fit: fit again"):
        mixtura.save(gm, "model.safetensors")
    gm.fit(clusters)
    with_noise = gm.score(clusters)
    gm.set_params(noise=None)
    assert gm.score(clusters) == with_noise
    gm.fit(clusters)
    assert not hasattr(gm, "noise_")
    assert not hasattr(gm, "noise_weight_")
    assert gm.score(clusters) == before


def test_rows_of_weight_0_are_not_in_the_box(parts, clusters):
    X, weights = np.vstack([clusters, [[1e6, 1e6]]]), np.append(np.ones(510), 0.0)
    gm = mixtura.GaussianMixture(3, noise="box", random_state=0, tol=1e-2).fit(X, sample_weight=weights)
    np.testing.assert_allclose(gm.noise_.high, clusters.max(axis=0), rtol=1e-14)


def test_parts_that_model_files_cannot_hold(parts, clusters, tmp_path):
    """Said by name, before anything is written."""

    class Unregistered(parts["Box"]):
        name = "unregistered"

    gm = mixtura.GaussianMixture(3, noise=Unregistered(), random_state=0, tol=1e-2).fit(clusters)
    with pytest.raises(TypeError, match="cannot save a Unregistered, which is not registered"):
        mixtura.save(gm, tmp_path / "model.safetensors")

    class SoftmaxGate(parts["BinnedGate"]):
        name = "mine"

    with pytest.raises(ValueError, match="another class is called SoftmaxGate"):
        register_gate(SoftmaxGate)

    class Kindless(Covariance):
        name, kind, storage = "kindless", "ful", Scalars()

        def estimate(self, moments, mass):
            return mass

        def n_parameters(self, components, dims):
            return 1

    with pytest.raises(
        ValueError, match=r"Kindless\.kind is 'ful'; it must be one of 'trace', 'diagonal', 'full'"
    ):
        register_covariance(Kindless())


class CompoundSymmetry(Covariance):
    """One variance and one covariance for all pairs of columns, in each component."""

    name = "compound"
    kind = "full"
    storage = Matrices()

    def estimate(self, moments, mass):
        own = moments.covariances(mass)
        D = own.shape[1]
        variance = np.trace(own, axis1=1, axis2=2) / D
        shared = (own.sum(axis=(1, 2)) - D * variance) / (D * (D - 1))
        return shared[:, None, None] * np.ones((D, D)) + ((variance - shared)[:, None, None] * np.eye(D))

    def n_parameters(self, components, dims):
        return 2 * components


@pytest.mark.parametrize("accelerate", ["squarem", "anderson"])
def test_extrapolated_steps_stay_in_the_family(accelerate):
    """The likelihood does not rise above that of the family, to fall when the next M-step is in it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3)) + 1.5 * rng.integers(0, 2, size=(400, 1))
    how = {"covariance_type": CompoundSymmetry(), "random_state": 0, "tol": 1e-10, "max_iter": 3000}
    plain = GaussianMixture(2, **how).fit(X)
    fast = GaussianMixture(2, accelerate=accelerate, **how).fit(X)
    assert np.diff(fast.lower_bounds_).min() > -1e-9
    assert fast.lower_bound_ == pytest.approx(plain.lower_bound_, abs=1e-6)
    assert fast.n_iter_ < plain.n_iter_


def test_a_state_that_is_no_number_is_told(tmp_path):
    @dataclass(frozen=True, eq=False)
    class Tagged(mixtura.components.Uniform):
        name = "tagged"
        tag: str = state()

        def start(self, table):
            return replace(super().start(table), tag="hello")

    register_component(Tagged)
    try:
        X = np.random.default_rng(0).normal(size=(100, 2))
        gm = GaussianMixture(2, noise=Tagged(), random_state=0).fit(X)
        for ending in ("safetensors", "json"):
            with pytest.raises(TypeError, match="'tag', of the state of a Tagged"):
                mixtura.save(gm, tmp_path / f"m.{ending}")
    finally:
        del COMPONENTS["tagged"]
