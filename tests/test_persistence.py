"""Model files give back the model."""

import json
import os

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.exceptions import NotFittedError

import mixtura
from mixtura import GaussianMixture, KMeans


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_round_trip(covariance_type, dtype, blobs, tmp_path):
    X = blobs.astype(dtype)
    gm = GaussianMixture(
        3, covariance_type=covariance_type, random_state=5, means_init=blobs[:3], tol=1e-4, n_threads=1
    ).fit(X)
    path = tmp_path / "m.safetensors"
    mixtura.save(gm, path)
    back = mixtura.load(path)
    assert type(back) is GaussianMixture
    np.testing.assert_array_equal(back.predict_proba(X), gm.predict_proba(X))
    for name, value in vars(gm).items():
        if name.endswith("_") and not name.startswith("_"):
            np.testing.assert_array_equal(getattr(back, name), value, err_msg=name)
    want, got = gm.get_params(), back.get_params()
    np.testing.assert_array_equal(got.pop("means_init"), want.pop("means_init"))
    assert got == want
    assert back.summary() == gm.summary()


def test_kmeans_round_trip(blobs, tmp_path):
    km = KMeans(3, random_state=0).fit(blobs)
    mixtura.save(km, tmp_path / "m")
    back = mixtura.load(tmp_path / "m")
    np.testing.assert_array_equal(back.transform(blobs), km.transform(blobs))
    np.testing.assert_array_equal(back.labels_, km.labels_)
    assert back.get_feature_names_out().tolist() == km.get_feature_names_out().tolist()


def test_names_are_kept(blobs, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(blobs, columns=["a", "b", "c"])
    gm = GaussianMixture(2, random_state=0).fit(frame)
    mixtura.save(gm, tmp_path / "m")
    np.testing.assert_array_equal(mixtura.load(tmp_path / "m").predict(frame), gm.predict(frame))


def test_generators_are_not_saved(blobs, tmp_path):
    gm = GaussianMixture(2, random_state=np.random.RandomState(0)).fit(blobs)
    with pytest.warns(UserWarning, match="random_state is a generator"):
        mixtura.save(gm, tmp_path / "m")
    assert mixtura.load(tmp_path / "m").random_state is None


def test_a_failed_save_leaves_the_old_file(blobs, tmp_path, monkeypatch):
    gm = GaussianMixture(2, random_state=0).fit(blobs)
    path = tmp_path / "m"
    mixtura.save(gm, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        mixtura.save(gm, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_what_is_not_a_fitted_model_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        mixtura.save(GaussianMixture(2), tmp_path / "m")
    with pytest.raises(TypeError, match="cannot save a dict"):
        mixtura.save({}, tmp_path / "m")


def test_the_file_is_plain_safetensors(blobs, tmp_path):
    gm = GaussianMixture(2, random_state=0).fit(blobs)
    mixtura.save(gm, tmp_path / "m")
    with safe_open(tmp_path / "m", framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("fitted.means_"), gm.means_)
        header = json.loads(file.metadata()["mixtura"])
    assert header["format"] == 1
    assert header["class"] == "GaussianMixture"
    assert header["fitted"]["n_iter_"] == gm.n_iter_
