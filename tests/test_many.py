"""Many mixtures: each equal to the fit of its group alone, whatever happens to the others."""

import json

import numpy as np
import pytest

import mixtura
from mixtura import GaussianMixture
from mixtura.cli import main
from mixtura.many import ManyMixtures


@pytest.fixture
def groups(rng, require):
    require("native")
    G, n = 12, 300
    means = 4.0 * rng.normal(size=(G, 3, 4))
    z = rng.integers(0, 3, (G, n))
    X = (means[np.arange(G)[:, None], z] + rng.normal(size=(G, n, 4))).reshape(-1, 4)
    return X, np.repeat(np.arange(G), n), z.ravel()


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_each_group_is_the_fit_of_its_rows(kind, groups):
    X, g, z = groups
    many = mixtura.fit_many(X, g, 3, covariance_type=kind, labels=z, tol=1e-9, max_iter=2000)
    assert set(many.status) == {"converged"}
    for group in many:
        own, labels = X[g == group], z[g == group]
        means = np.stack([own[labels == k].mean(axis=0) for k in range(3)])
        variances = np.stack([own[labels == k].var(axis=0) for k in range(3)]) + 1e-6
        matrices = np.stack([np.cov(own[labels == k].T, bias=True) for k in range(3)]) + 1e-6 * np.eye(4)
        shares = np.bincount(labels) / len(labels)
        precisions = {
            "full": np.linalg.inv(matrices),
            "tied": np.linalg.inv(np.einsum("k,kij->ij", shares, matrices)),
            "diag": 1.0 / variances,
            "spherical": 1.0 / variances.mean(axis=1),
        }[kind]
        alone = GaussianMixture(
            3,
            covariance_type=kind,
            weights_init=shares,
            means_init=means,
            precisions_init=precisions,
            tol=1e-9,
            max_iter=2000,
        ).fit(own)
        one = many[group]
        assert one.lower_bound_ == pytest.approx(alone.lower_bound_, rel=1e-10)
        np.testing.assert_allclose(one.means_, alone.means_, rtol=1e-7)
        np.testing.assert_allclose(one.covariances_, alone.covariances_, rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(many.predict(own, np.full(len(own), group)), alone.predict(own))
        assert one.n_iter_ == alone.n_iter_


@pytest.mark.parametrize("dims", [1, 2, 3, 4, 5, 6, 7, 11])
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_any_number_of_columns(dims, kind, rng, require):
    """Small numbers of columns have kernels of their own."""
    require("native")
    X = rng.normal(size=(101, dims)) + 6.0 * (np.arange(101) % 2)[:, None]
    many = mixtura.fit_many(X, np.zeros(101, dtype=int), 2, covariance_type=kind, tol=1e-10, max_iter=500)
    alone = GaussianMixture(2, covariance_type=kind, random_state=0, tol=1e-10, max_iter=500).fit(X)
    assert many.lower_bound[0] == pytest.approx(alone.lower_bound_, rel=1e-8)
    labels = many.predict(X, np.zeros(101, dtype=int))
    np.testing.assert_array_equal(labels, many[0].predict(X))


def test_starts_find_the_clusters(groups):
    X, g, _ = groups
    many = mixtura.fit_many(X, g, 3)
    worse = 0
    for group in many:
        whole = GaussianMixture(3, n_init=5, random_state=0).fit(X[g == group])
        worse += many[group].score(X[g == group]) < whole.score(X[g == group]) - 0.01
    assert worse <= 1


def test_the_result_depends_on_no_order_and_no_threads(groups, rng):
    X, g, _ = groups
    first = mixtura.fit_many(X, g, 3, n_threads=1)
    second = mixtura.fit_many(X, g, 3, n_threads=2)
    np.testing.assert_array_equal(first.means, second.means)
    # Rows of other groups in between: each group's rows come in the same order.
    order = np.argsort(np.tile(np.arange(300), 12), kind="stable")
    mixed = mixtura.fit_many(X[order], g[order], 3)
    np.testing.assert_array_equal(first.means, mixed.means)
    np.testing.assert_array_equal(first.groups, mixed.groups)
    single = mixtura.fit_many(X.astype(np.float32), g, 3)
    np.testing.assert_allclose(single.lower_bound, first.lower_bound, rtol=1e-4)


def test_every_instruction_set(groups):
    from mixtura import _native

    X, g, z = groups
    kept, want = _native.instruction_set(), mixtura.fit_many(X, g, 3, labels=z)
    try:
        for name in _native.instruction_sets():
            _native.set_instruction_set(name)
            got = mixtura.fit_many(X, g, 3, labels=z)
            np.testing.assert_allclose(got.means, want.means, rtol=1e-9)
            assert set(mixtura.fit_many(X, g, 3).status) == {"converged"}
    finally:
        _native.set_instruction_set(kept)


def test_groups_that_fail_let_the_others_go_on(rng, require):
    require("native")
    good = rng.normal(size=(100, 2))
    X = np.concatenate([good, good[:2], np.zeros((50, 2)), 1e200 * good, good])
    g = np.repeat(["a", "few", "equal", "huge", "z"], [100, 2, 50, 100, 100])
    many = mixtura.fit_many(X, g, 3, reg_covar=0.0, tol=1e-2)
    assert dict(zip(many.groups, many.status == "failed", strict=True)) == {
        "a": False, "equal": True, "few": True, "huge": True, "z": False,
    }  # fmt: skip
    reasons = dict(zip(many.groups, many.reason, strict=True))
    assert "singular" in reasons["equal"]
    assert "fewer rows" in reasons["few"]
    assert reasons["huge"]
    with pytest.raises(ValueError, match="'few' has no mixture: fewer rows"):
        many["few"]
    with pytest.raises(KeyError, match="no group 'x'"):
        many["x"]
    labels = many.predict(X, g)
    assert np.all(labels[g == "few"] == -1)
    np.testing.assert_array_equal(labels[g == "a"], many["a"].predict(good))
    stopped = mixtura.fit_many(good, np.zeros(100, dtype=int), 3, max_iter=1, tol=0.0)
    assert stopped.status[0] == "not converged"
    assert "max_iter" in stopped.reason[0]
    assert len(stopped) == 1
    assert "1 failed" not in repr(stopped)


def test_files_and_tables(groups, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    X, g, _ = groups
    names = np.array([f"g{i}" for i in g])
    many = mixtura.fit_many(X, names, 3)
    many.save(tmp_path / "many.safetensors")
    again = ManyMixtures.load(tmp_path / "many.safetensors")
    np.testing.assert_array_equal(again.predict(X, names), many.predict(X, names))
    assert list(again) == list(many)
    assert again.columns == ["x0", "x1", "x2", "x3"]
    table = many.table
    assert isinstance(table, pyarrow.Table)
    assert table.column_names == [
        "group", "status", "reason", "n_rows", "n_iter", "converged", "lower_bound", "weights", "means", "covariances",
    ]  # fmt: skip
    np.testing.assert_allclose(table.column("means").to_pylist()[3], many.means[3].ravel())
    mixtura.save(many["g3"], tmp_path / "one.safetensors")
    assert mixtura.load(tmp_path / "one.safetensors").score(X) == many["g3"].score(X)
    with pytest.raises(ValueError, match="does not hold many"):
        ManyMixtures.load(tmp_path / "one.safetensors")
    (tmp_path / "broken").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="cannot be read"):
        ManyMixtures.load(tmp_path / "broken")


def test_command_line(groups, tmp_path, monkeypatch, capsys):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    monkeypatch.chdir(tmp_path)
    X, g, _ = groups
    columns = {f"c{j}": X[:, j] for j in range(4)}
    parquet.write_table(pyarrow.table(columns | {"site": [f"s{i}" for i in g]}), "t.parquet")
    csv.write_csv(pyarrow.table(columns | {"site": g}), "t.csv")
    for name in ("t.parquet", "t.csv"):
        assert main(["fit", name, "-k", "3", "--by", "site", "-o", "many", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["groups"] == 12
        assert found["failed"] == 0
        assert len(ManyMixtures.load("many")) == 12
        out = f"{name}.labels.parquet"
        assert main(["predict", "many", name, "--by", "site", "-o", out]) == 0
        assert "wrote 3600 rows" in capsys.readouterr().out
        names = np.array([f"s{i}" for i in g]) if name.endswith("parquet") else g
        want = ManyMixtures.load("many").predict(X, names)
        np.testing.assert_array_equal(parquet.read_table(out).column("label").to_numpy(), want)
    assert main(["info", "many"]) == 0
    assert "12 mixtures of 3 Gaussians, covariance 'full', columns c0, c1, c2, c3" in capsys.readouterr().out
    assert main(["info", "many", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == 12
    csv.write_csv(pyarrow.table(columns | {"site": g + 5}), "other.csv")
    for arguments, message in (
        (["many", "t.csv"], "--by COLUMN names the rows' groups"),
        (["many", "t.csv", "--by", "site", "--proba"], "--proba does not go with --by"),
        (["many", "other.csv", "--by", "site"], "5 groups have no mixture in many, such as 12"),
    ):
        assert main(["predict", *arguments, "-o", "x.csv"]) == 2
        assert message in capsys.readouterr().err
    assert main(["fit", "t.csv", "-k", "3", "--by", "site"]) == 0
    assert "12 groups" in capsys.readouterr().out
    assert main(["fit", "t.csv", "-k", "3", "--by", "nowhere"]) == 2
    assert main(["fit", "t.csv", "-k", "bic", "--by", "site"]) == 2
    assert main(["fit", "t.csv", "-k", "3", "--by", "site", "--covariance", "tied"]) == 0


def test_bad_input(groups):
    X, g, z = groups
    for arguments, how, message in (
        ((X, g[:-1], 2), {}, "groups has shape"),
        ((X, np.where(g == 3, np.nan, g), 2), {}, "holds NaN in 300 rows"),
        ((X, np.where(g == 3, None, g.astype(object)), 2), {}, "missing values"),
        ((X, g, 0), {}, "n_components"),
        ((X, g, 2), {"covariance_type": "VVE"}, "covariance_type must be one of"),
        ((X, g, 2), {"tol": -1.0}, "tol"),
        ((X, g, 2), {"max_iter": 0}, "max_iter"),
        ((X, g, 2), {"labels": z}, "integers from 0 to 1"),
        ((X, g, 2), {"random_state": None}, "random_state"),
        ((np.where(X > 5, np.nan, X), g, 2), {}, "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            mixtura.fit_many(*arguments, **how)
    with pytest.raises(ValueError, match="groups has shape"):
        mixtura.fit_many(X, g, 3).predict(X, g[:5])


def test_groups_of_time_are_saved_and_found(tmp_path, rng):
    """Dates in any unit; NaT is refused as NaN is."""
    X, days = rng.normal(size=(200, 2)), np.datetime64("2020-01-01") + np.arange(200) % 3
    for groups in (days, days.astype("datetime64[ns]"), days - days[0]):
        many = mixtura.fit_many(X, groups, 1)
        many.save(tmp_path / "many.safetensors")
        loaded = ManyMixtures.load(tmp_path / "many.safetensors")
        assert loaded.groups.dtype == groups.dtype
        np.testing.assert_array_equal(loaded.groups, np.unique(groups))
        np.testing.assert_allclose(
            loaded[groups[1]].means_[0], X[groups == groups[1]].mean(axis=0), rtol=1e-12
        )
        np.testing.assert_array_equal(loaded.predict(X, groups), 0)
    seconds = mixtura.fit_many(X, days.astype("datetime64[ns]"), 1)
    assert seconds["2020-01-02"].n_features_in_ == 2
    np.testing.assert_array_equal(seconds.predict(X, days), 0)
    whole = mixtura.fit_many(X, days, 1)
    np.testing.assert_array_equal(whole.predict(X, days.astype("datetime64[ns]")), 0)
    for nothing in (np.datetime64("2020-01-01T12", "h"), np.datetime64("2021-01-01"), "nothing", 5):
        with pytest.raises(KeyError, match="there is no group"):
            whole[nothing]
    days[:2] = np.datetime64("NaT")
    with pytest.raises(ValueError, match="groups holds NaT in 2 rows"):
        mixtura.fit_many(X, days, 1)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_sums_of_squares_that_overflow_are_told(kind, rng):
    X = rng.normal(size=(200, 2)) * np.where(np.arange(200) % 2, 1e200, 1.0)[:, None]
    many = mixtura.fit_many(X, np.arange(200) % 2, 2, covariance_type=kind)
    assert many.status.tolist()[0] != "failed"
    assert "cannot be represented" in many.reason[1]


def test_names_of_groups_are_words_of_any_kind(tmp_path, capsys, monkeypatch, rng):
    """A group may be called what stands for a missing value in other columns, or be a day; an empty cell is none."""
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    for first, second in (("NA", "EU"), ("None", "null"), ("2020-01-02", "2020-01-03")):
        lines = [f"{a},{b},{(first, second)[i % 2]}" for i, (a, b) in enumerate(rng.normal(size=(60, 2)))]
        (tmp_path / "t.csv").write_text("\n".join(["a,b,site", *lines]))
        main(["fit", "t.csv", "-k", "1", "--by", "site", "-o", "many.safetensors"])
        assert "2 groups, 0 failed" in capsys.readouterr().out
        many = ManyMixtures.load("many.safetensors")
        assert {str(name) for name in many.groups} == {first, second}
        main(["predict", "many.safetensors", "t.csv", "--by", "site", "-o", "labels.csv"])
    (tmp_path / "t.csv").write_text("\n".join(["a,b,site", *lines]).replace(first, ""))
    capsys.readouterr()
    assert main(["fit", "t.csv", "-k", "1", "--by", "site"]) == 2
    assert "30 missing values; every row needs a group" in capsys.readouterr().err


def test_names_of_any_type(rng, tmp_path):
    """64 bits without a sign, other orders of bytes, days as objects."""
    import datetime

    X, path = rng.normal(size=(60, 1)), tmp_path / "m.safetensors"
    large, first = np.array([2**64 - 1, 2] * 30, dtype=np.uint64), datetime.date(2020, 1, 1)
    for names, one in (
        (large, 2**64 - 1),
        (np.array([1, 2] * 30, dtype=">i8"), 1),
        (np.array([first, datetime.date(2021, 1, 1)] * 30, dtype=object), first),
        (np.array([1, 2] * 30, dtype=object), 1),
    ):
        mixtura.fit_many(X, names, tol=np.float32(1e-3)).save(path)
        loaded = ManyMixtures.load(path)
        np.testing.assert_allclose(loaded[one].means_, [X[::2].mean(axis=0)])
        assert loaded.table.num_rows == 2


def test_whole_numbers_that_no_type_holds_are_words(rng):
    """As floating-point numbers two of them would be one."""
    names = np.array([2**60 + 1, 2**60 + 2, 2**63 + 5] * 20, dtype=object)
    many = mixtura.fit_many(rng.normal(size=(60, 1)), names)
    assert len(many) == 3
    assert many[2**60 + 1].means_ != many[2**60 + 2].means_
    np.testing.assert_array_equal(many.predict(np.zeros((60, 1)), names), np.zeros(60))


def test_text_that_a_file_says_is_text_stays_text(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from mixtura.data.files import any_column

    parquet.write_table(pa.table({"zip": ["01234", "1234", None]}), tmp_path / "z.parquet")
    assert any_column(tmp_path / "z.parquet", "zip").to_pylist() == ["01234", "1234", None]


def test_masked_groups_are_told(rng):
    X, groups = rng.normal(size=(60, 1)), np.repeat([0, 1], 30)
    with pytest.raises(ValueError, match="Input groups has masked values"):
        mixtura.fit_many(X, np.ma.masked_array(groups, groups == 1))
    with pytest.raises(ValueError, match="Input X has masked values"):
        mixtura.fit_many(np.ma.masked_array(X, X > 1.0), groups)


def test_missing_numbers_among_groups_are_missing(tmp_path, capsys, monkeypatch, rng):
    """NA is a name among words, but a missing value among numbers."""
    monkeypatch.chdir(tmp_path)

    def table(name, groups):
        rows = [f"{groups[i % len(groups)]},{a},{b}" for i, (a, b) in enumerate(rng.normal(size=(120, 2)))]
        (tmp_path / name).write_text("\n".join(["g,a,b", *rows]) + "\n")

    table("holes.csv", ["1", "2", "NA"])
    table("whole.csv", ["1", "2"])
    table("words.csv", ["x", "y", "NA"])
    for columns in ([], ["--columns", "a,b"]):
        assert main(["fit", "holes.csv", "-k", "1", "--by", "g", *columns]) != 0
        assert "--by g: the column has 40 missing values; every row needs a group" in capsys.readouterr().err
    fit = [
        "fit",
        "holes.csv",
        "-k",
        "1",
        "--by",
        "g",
        "--columns",
        "a,b",
        "--drop-missing",
        "-o",
        "m.safetensors",
    ]
    assert main(fit) == 0
    assert ManyMixtures.load("m.safetensors").groups.tolist() == [1, 2]
    assert main(["predict", "m.safetensors", "whole.csv", "--by", "g", "-o", "o.csv"]) == 0
    assert main(["predict", "m.safetensors", "holes.csv", "--by", "g", "--drop-missing", "-o", "o.csv"]) == 0
    assert (tmp_path / "o.csv").read_text().splitlines()[:4] == ["label", "0", "0", '""']
    capsys.readouterr()
    assert main(["fit", "words.csv", "-k", "1", "--by", "g", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == 3
