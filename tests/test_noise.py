"""Uniform noise beside the Gaussians: mclust's volume and likelihood."""

import json
from pathlib import Path

import numpy as np
import pytest

from mixtura import GaussianMixture, backends, load, save
from mixtura.cli import main
from mixtura.components import Uniform
from mixtura.data import as_source
from mixtura.table import Table

FILES = Path(__file__).parent / "files" / "mclust"

# mclust::hypvol(X, reciprocal = TRUE)
DENSITIES = {"faithful": 0.00758329485359813, "iris": 0.0367091028980409}


def rows_of(name):
    return np.array(json.loads((FILES / f"{name}.json").read_text())["rows"])


@pytest.mark.parametrize("name", DENSITIES)
def test_the_density_is_mclusts(name):
    found = Uniform().start(Table.of(backends.create(), rows_of(name)))
    assert np.exp(found.log_density) == pytest.approx(DENSITIES[name], rel=1e-12)


def test_the_likelihood_is_mclusts():
    X = rows_of("faithful")
    gm = GaussianMixture(2, noise=True, reg_covar=0.0, tol=1e-12, max_iter=5000, random_state=0).fit(X)
    assert gm.lower_bound_ * len(X) == pytest.approx(-1125.7512322, abs=1e-6)
    np.testing.assert_allclose(np.sort(gm.weights_), [0.3179198, 0.5903743], atol=1e-5)
    assert gm.noise_weight_ == pytest.approx(0.09170593, abs=1e-5)


@pytest.mark.parametrize("noise", [True, 0.002, "uniform", Uniform(0.002)])
def test_ways_to_ask_for_it(noise, rng, tmp_path):
    X = np.concatenate([rng.normal(size=(300, 2)), rng.uniform(-15, 15, size=(100, 2))])
    gm = GaussianMixture(1, noise=noise, random_state=0).fit(X)
    assert gm.noise_weight_ == pytest.approx(0.25, abs=0.05)
    assert 60 <= np.sum(gm.predict(X) == -1) <= 110
    assert gm._n_parameters() == 1 + 2 + 3 + (0 if isinstance(noise, float | Uniform) else 1)
    save(gm, tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").score_samples(X), gm.score_samples(X))
    drawn, labels = gm.sample(2000)
    inside = drawn[labels == -1]
    assert len(inside) > 300
    assert np.abs(inside).max() <= 15.5
    streamed = GaussianMixture(1, noise=noise, random_state=0).fit(as_source(X, block_bytes=1 << 12))
    assert streamed.lower_bound_ == pytest.approx(gm.lower_bound_, rel=1e-9)


def test_rows_of_weight_0_do_not_widen_the_region(rng):
    X = rng.uniform(size=(200, 3))
    X[0] = 1e6
    weights = np.ones(200)
    weights[0] = 0.0
    found = Uniform().start(Table.of(backends.create(), X, weights))
    assert np.exp(found.log_density) >= 1.0
    constant = Uniform().start(Table.of(backends.create(), np.column_stack([X[1:, 0], np.full(199, 3.0)])))
    assert np.isfinite(constant.log_density)


def test_false_is_none(rng):
    X = rng.normal(size=(50, 2))
    gm = GaussianMixture(1, noise=False).fit(X)
    assert not hasattr(gm, "noise_weight_")
    assert gm.partial_fit(X) is gm


def test_a_start_has_its_share_of_noise(rng):
    X = np.concatenate([rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) + 9.0])
    gm = GaussianMixture(2, noise=True, max_iter=0, random_state=0).fit(X)
    assert gm.weights_.sum() + gm.noise_weight_ == pytest.approx(1.0, rel=1e-12)
    assert 0.0 < gm.noise_weight_ < 0.2
    np.testing.assert_allclose(gm.weights_, 0.5 * (1.0 - gm.noise_weight_), rtol=1e-3)


def test_bad_input(rng):
    X = rng.normal(size=(50, 2))
    for noise in (0.0, -1.0, "nonsense"):
        with pytest.raises(ValueError, match="noise"):
            GaussianMixture(1, noise=noise).fit(X)
    with pytest.raises(ValueError, match="density must be positive"):
        GaussianMixture(1, noise=Uniform(np.nan)).fit(X)


def test_command_line(tmp_path, monkeypatch, capsys, rng):
    monkeypatch.chdir(tmp_path)
    X = np.concatenate([rng.normal(size=(300, 2)), rng.uniform(-15, 15, size=(100, 2))])
    np.save("t.npy", X)
    assert main(["fit", "t.npy", "-k", "1", "--noise", "uniform", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["noise_weight"] == pytest.approx(0.25, abs=0.05)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["sum", "copy", "float32", "offset"])
def test_columns_that_depend_on_each_other(kind, rng):
    """An axis along which rows differ by rounding alone is a constant one, and no reason to call all rows noise."""
    A = rng.normal(size=(200, 2)) + 5.0 * rng.integers(2, size=(200, 1))
    X = np.column_stack([A, A[:, 0] if kind == "copy" else A.sum(axis=1)])
    X = X.astype(np.float32) if kind == "float32" else X + 1e6 * (kind == "offset")
    for how in ({}, {"on_degenerate": "repair"}, {"prior": {"scale": 1.0}}):
        gm = GaussianMixture(2, noise=True, random_state=0, **how).fit(X)
        assert gm.noise_weight_ < 0.3
        assert np.isfinite(gm.lower_bound_)


@pytest.mark.parametrize("flag", [True, False])
def test_numpy_truth_values(flag, rng):
    X = rng.normal(size=(100, 2)) + 5.0 * rng.integers(2, size=(100, 1))
    one, other = (GaussianMixture(2, noise=noise, random_state=0).fit(X) for noise in (flag, np.bool_(flag)))
    assert one.lower_bound_ == other.lower_bound_
    assert one._has_noise == other._has_noise == flag


def test_fixed_weights_stay_beside_noise(rng):
    clusters = rng.normal(size=(600, 2)) + np.repeat([[0.0, 0.0], [8.0, 0.0]], 300, axis=0)
    X = np.concatenate([clusters, rng.uniform(-30, 30, size=(60, 2))])
    how = {"noise": True, "random_state": 0, "means_init": [[0.0, 0.0], [8.0, 0.0]]}
    gm = GaussianMixture(2, weights_init=[0.5, np.nan], fixed={"weights": [True, False]}, **how).fit(X)
    assert gm.weights_[0] == pytest.approx(0.5, abs=1e-12)
    assert gm.weights_.sum() + gm.noise_weight_ == pytest.approx(1.0, abs=1e-12)
    assert 0.0 < gm.noise_weight_ < 0.15
    with pytest.raises(ValueError, match="leaves nothing for the noise"):
        GaussianMixture(2, weights_init=[0.6, 0.4], fixed={"weights": True}, **how).fit(X)


@pytest.mark.parametrize("on_degenerate", ["raise", "repair", "drop"])
def test_noise_that_takes_all_rows_is_told(on_degenerate):
    X = np.random.default_rng(0).normal(size=(200, 3))
    with pytest.raises(ValueError, match="has taken all rows"):
        GaussianMixture(2, noise=1e10, on_degenerate=on_degenerate, random_state=0).fit(X)
    wide = np.random.default_rng(0).normal(size=(60, 100)) * 1e5
    with pytest.raises(ValueError, match="has taken all rows"):
        GaussianMixture(2, covariance_type="diag", noise=True, random_state=0).fit(wide)


def test_a_box_that_is_thinner_than_a_gaussian_may_be_is_told():
    """The box along the principal axes is thinner than reg_covar lets a Gaussian be."""
    rng = np.random.default_rng(9)
    X = np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(50, 2)) * [1.0, 2.0] + [8.0, 2.0]])
    Z = np.column_stack([X, X.sum(axis=1) + 1e-6 * rng.normal(size=110)])
    with pytest.raises(ValueError, match=r"has taken all rows.*smaller reg_covar"):
        GaussianMixture(2, noise=True, random_state=0).fit(Z)
    assert GaussianMixture(2, noise=True, reg_covar=1e-14, random_state=0).fit(Z).noise_weight_ < 0.1
