"""Model files give back the model."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import mixtura
from mixtura import GaussianMixture, GaussianMixtureSelector, KMeans, MixtureClassifier, load
from mixtura.components.covariances import COVARIANCES
from mixtura.many import ManyMixtures
from mixtura.persistence import FORMAT, ModelFileError


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


@pytest.fixture
def edited(blobs, tmp_path):
    """A function that saves a model, edits its header and tensors, and loads it."""
    from safetensors.numpy import save_file

    def edit(change, model=None):
        mixtura.save(model or GaussianMixture(2, random_state=0).fit(blobs), tmp_path / "m")
        with safe_open(tmp_path / "m", framework="numpy") as file:
            header = json.loads(file.metadata()["mixtura"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        change(header, tensors)
        save_file(tensors, tmp_path / "edited", {"mixtura": json.dumps(header)})
        return mixtura.load(tmp_path / "edited")

    assert edit(lambda h, t: None).means_.shape == (2, 3)
    return edit


EDITS = {
    "type": lambda h, t: h["parameters"].update(covariance_type="foo"),
    "other type": lambda h, t: h["parameters"].update(covariance_type="diag"),
    "threads": lambda h, t: h["parameters"].update(n_threads=-5),
    "components": lambda h, t: h["parameters"].update(n_components=3),
    "unknown parameter": lambda h, t: h["parameters"].update(colour="red"),
    "no version": lambda h, t: h.pop("version"),
    "format": lambda h, t: h.update(format=True),
    "names": lambda h, t: h.update(feature_names=["a"]),
    "nan": lambda h, t: t["fitted.means_"].__setitem__((0, 0), np.nan),
    "weights": lambda h, t: t.update({"fitted.weights_": np.array([2.5, 2.5])}),
    "shape": lambda h, t: t.update({"fitted.covariances_": np.zeros((2, 3, 4))}),
    "no rows": lambda h, t: t.update({"fitted.means_": np.zeros((0, 3))}),
    "integers": lambda h, t: t.update({"fitted.means_": np.zeros((2, 3), dtype=np.int64)}),
    "attribute": lambda h, t: h["fitted"].update(predict=1),
}


@pytest.mark.parametrize("name", EDITS)
def test_edited_files_are_refused(name, edited):
    with pytest.raises(ValueError, match="edited"):
        edited(EDITS[name])


def test_labels_that_name_no_cluster_are_refused(edited, blobs):
    km = KMeans(2, random_state=0).fit(blobs)
    with pytest.raises(ValueError, match="labels_ names clusters that do not exist"):
        edited(lambda h, t: t["fitted.labels_"].__setitem__(0, 2**27), km)


def test_parameters_changed_since_the_fit_are_not_saved(blobs, tmp_path):
    gm = GaussianMixture(2, random_state=0).fit(blobs).set_params(covariance_type="diag")
    with pytest.raises(ValueError, match="covariances_ is float64"):
        mixtura.save(gm, tmp_path / "m")


def test_permissions_of_a_replaced_file_stay(blobs, tmp_path):
    path = tmp_path / "m"
    path.write_text("old")
    path.chmod(0o640)
    mixtura.save(GaussianMixture(2, random_state=0).fit(blobs), path)
    assert path.stat().st_mode & 0o777 == 0o640


FILES = Path(__file__).parent / "files"


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_files_of_every_format_are_read(version):
    """Files that earlier versions of the package wrote, and what these said of two rows."""
    folder = FILES / f"format-{version}"
    held = json.loads((folder / "answers.json").read_text())
    assert set(held["answers"]) == {path.name for path in folder.iterdir()} - {"answers.json"}
    for name, wanted in held["answers"].items():
        if name.startswith("many"):
            found = ManyMixtures.load(folder / name).predict(held["rows"], ["a", "b"])
        else:
            model = load(folder / name)
            found = (model.score_samples if name.startswith("gaussian") else model.predict)(held["rows"])
        np.testing.assert_allclose(found, wanted, rtol=1e-12, err_msg=name)


def labelled_blobs():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    return rng.normal(size=(150, 2)) + 4.0 * np.column_stack([y, y == 1]), y


CLASSES = {
    "words": np.array(["a", "bb", "c"]),
    "numbers": np.array([3, 5, 7]),
    "objects": np.array(["x", "y", "z"], dtype=object),
}


@pytest.mark.parametrize("ending", ["safetensors", "json"])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("numbers", [1, (1, 2)])
def test_classifiers_come_back(classes, numbers, ending, tmp_path):
    X, y = labelled_blobs()
    model = MixtureClassifier(numbers, covariance_types=["VVV", "EEE"], random_state=0).fit(
        X, CLASSES[classes][y]
    )
    path = tmp_path / f"m.{ending}"
    mixtura.save(model, path)
    again = mixtura.load(path)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.classes_.dtype == model.classes_.dtype
    assert again.summary() == model.summary()
    assert again.get_params()["covariance_types"] == ["VVV", "EEE"]
    assert getattr(again, "covariance_type_", None) == getattr(model, "covariance_type_", None)
    assert list(again._answers(X, True)) == ["label", *(f"proba_{c}" for c in model.classes_)]


def test_classes_of_bytes_are_refused(tmp_path):
    X, y = labelled_blobs()
    model = MixtureClassifier(1, covariance_types=["EEE"]).fit(X, np.array(["a", "b", "c"])[y])
    model.classes_ = model.classes_.astype("S1")
    with pytest.raises(TypeError, match="classes of type"):
        mixtura.save(model, tmp_path / "m")


@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_selectors_come_back(ending, tmp_path):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(labelled_blobs()[0], columns=["a", "b"])
    model = GaussianMixtureSelector([2, 3, 140], covariance_types=["EII", "VVV"], random_state=0).fit(X)
    path = tmp_path / f"m.{ending}"
    mixtura.save(model, path)
    again = mixtura.load(path)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.labels_, model.labels_)
    np.testing.assert_array_equal(again.selection_.values, model.selection_.values)
    assert np.isnan(again.selection_.values).any()
    assert str(again.selection_) == str(model.selection_)
    assert again.summary() == model.summary()
    assert list(again.feature_names_in_) == ["a", "b"]
    assert again.selection_.best_ is again.best_estimator_


def test_models_that_consist_of_others_must_be_whole(edited):
    X, y = labelled_blobs()
    classifier = MixtureClassifier(1, covariance_types=["EEE"]).fit(X, y)
    selector = GaussianMixtureSelector([2], covariance_types=["EII"], random_state=0).fit(X)
    for model in (classifier, selector):
        for change in (
            lambda h, t: h["models"].pop(),
            lambda h, t: h["models"][0]["fitted"].update(n_features_in_=3),
            lambda h, t: h["models"][0].update({"class": "KMeans"}),
            lambda h, t: t.pop("model.0.fitted.means_"),
            lambda h, t: h["fitted"].update(colour=1),
        ):
            with pytest.raises(ModelFileError):
                edited(change, model)
    with pytest.raises(ModelFileError, match="shape"):
        edited(lambda h, t: t.update({"fitted.selection.values": np.zeros((2, 2))}), selector)
    for kind in ("datetime64[s]", "V8"):
        with pytest.raises(ModelFileError):
            edited(lambda h, t, kind=kind: h["fitted"].update({"type of classes": kind}), classifier)

    def with_itself(header, tensors):
        header["models"] = [json.loads(json.dumps(header))]
        tensors |= {f"model.0.{name}": array for name, array in tensors.items()}

    with pytest.raises(ModelFileError, match="should have none"):
        edited(with_itself)


def test_covariances_that_are_objects_are_saved_by_name(blobs, tmp_path):
    """Copies too: a clone has one, and so has another process."""
    for name in ("VVE", "full", "EII"):
        gm = clone(GaussianMixture(2, covariance_type=COVARIANCES[name], random_state=0)).fit(blobs)
        mixtura.save(gm, tmp_path / "m")
        again = mixtura.load(tmp_path / "m")
        assert again.covariance_type == name
        np.testing.assert_array_equal(again.predict(blobs), gm.predict(blobs))


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held["mixtura"].update({"class": ["GaussianMixture"]}),
        lambda held: held["mixtura"]["fitted"].update(lower_bound_={}),
        lambda held: held["mixtura"]["fitted"].update(n_passes_=None),
        lambda held: held["mixtura"]["fitted"].update(n_iter_=True),
        lambda held: held["mixtura"]["fitted"].update(lower_bound_="1"),
    ],
)
def test_values_of_another_type_are_told(change, blobs, tmp_path):
    path = tmp_path / "m.json"
    mixtura.save(GaussianMixture(2, random_state=0).fit(blobs), path)
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))
    with pytest.raises(ModelFileError, match=r"m\.json"):
        mixtura.load(path)


@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_experts_keep_which_of_them_are_degenerate(ending, blobs, tmp_path):
    model = mixtura.MixtureOfExperts(2, random_state=0).fit(blobs[:, :2], blobs[:, 2])
    mixtura.save(model, tmp_path / f"m.{ending}")
    np.testing.assert_array_equal(mixtura.load(tmp_path / f"m.{ending}").degenerate_, model.degenerate_)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("experts", mixtura.LinearExpert(prior_covariance=1.0)),
        ("noise", "per-expert"),
        ("fit_intercept", False),
        ("gate", "softmax"),
    ],
)
def test_experts_that_were_changed_are_not_saved(name, value, blobs, tmp_path):
    model = mixtura.MixtureOfExperts(2, random_state=0).fit(blobs[:, :2], blobs[:, 2])
    model.set_params(**{name: value})
    with pytest.raises(ValueError, match=f"{name}.* was set after the fit"):
        mixtura.save(model, tmp_path / "m.json")


def test_a_family_that_was_set_after_the_fit_is_not_saved(blobs, tmp_path):
    """Not even where covariances of both have the same shape."""
    gm = (
        GaussianMixture(3, covariance_type="diag", random_state=0)
        .fit(blobs)
        .set_params(covariance_type="tied")
    )
    with pytest.raises(ValueError, match="covariance_type was set after the fit, from 'diag' to 'tied'"):
        mixtura.save(gm, tmp_path / "m.json")


def test_files_without_what_predictions_need_are_refused(blobs, tmp_path):
    path = tmp_path / "m.json"
    bayesian = mixtura.BayesianGaussianMixture(n_components=2, random_state=0).fit(blobs)
    experts = mixtura.MixtureOfExperts(2, gate="softmax", random_state=0).fit(blobs[:, :2], blobs[:, 2])
    for model, group, name in (
        (bayesian, "fitted", "degrees_of_freedom_prior_"),
        (bayesian, "fitted", "backend_"),
        (experts, "fitted", "_one_target"),
        (experts, "tensors", "fitted.gate.level"),
    ):
        mixtura.save(model, path)
        content = json.loads(path.read_text())
        del (content["tensors"] if group == "tensors" else content["mixtura"]["fitted"])[name]
        path.write_text(json.dumps(content))
        lacking = name.rsplit(".", maxsplit=1)[-1]
        with pytest.raises(ModelFileError, match=f"not a whole {type(model).__name__} model: .*{lacking}"):
            load(path)


def test_lists_of_numbers_stay_lists(blobs, tmp_path):
    selector = GaussianMixtureSelector([1, 2], covariance_types=["EII", "VII"]).fit(blobs)
    mixtura.save(selector, tmp_path / "m.json")
    assert load(tmp_path / "m.json").get_params() == selector.get_params()
