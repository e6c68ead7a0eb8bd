"""The command line as a person types it."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixtura import GaussianMixture, KMeans, load, save
from mixtura.cli import main
from mixtura.cli.arguments import parser_of_commands

FAITHFUL = str(Path(__file__).parents[1] / "data" / "faithful.csv")


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model():
    assert main(["fit", FAITHFUL, "-k", "2", "-o", "model.safetensors", "-q"]) == 0
    return "model.safetensors"


def run(arguments, capsys):
    capsys.readouterr()
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def fails(arguments, capsys):
    """Exit code 2, one line on standard error, nothing on standard output."""
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("mixtura: error: ")
    return err


def test_fit_writes_model_and_picture(capsys):
    code, out, err = run(
        ["fit", FAITHFUL, "-k", "2", "--n-init", "3", "-o", "m.safetensors", "--plot", "m.png"], capsys
    )
    assert (code, err) == (0, "")
    assert "2 components, full covariance" in out
    assert "mean eruptions" in out
    assert "wrote m.safetensors" in out
    assert Path("m.png").read_bytes().startswith(b"\x89PNG")
    gm = load("m.safetensors")
    assert list(gm.feature_names_in_) == ["eruptions", "waiting"]
    assert sorted(p.name for p in Path().iterdir()) == ["m.png", "m.safetensors"]


def test_fit_json(capsys, faithful):
    code, out, _ = run(["fit", FAITHFUL, "-k", "2", "--tol", "1e-10", "--max-iter", "900", "--json"], capsys)
    result = json.loads(out)
    assert code == 0
    assert result["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-3)
    assert result["columns"] == ["eruptions", "waiting"]
    assert result["converged"] is True


def test_seed_and_types(capsys):
    for covariance in ("full", "tied", "diag", "spherical"):
        outs = [
            json.loads(
                run(
                    ["fit", FAITHFUL, "-k", "3", "--covariance", covariance, "--seed", "7", "--json"], capsys
                )[1]
            )
            for _ in range(2)
        ]
        assert outs[0]["means"] == outs[1]["means"]


def test_what_is_known_and_how_a_fit_ends(tmp_path, capsys, rng):
    """Labels with gaps, a constant column that is repaired, sorted components, a prior, acceleration."""
    y = np.repeat([0, 1], 100)
    X = np.column_stack([rng.normal(size=(200, 2)) + 4.0 * y[:, None], np.ones(200)])
    cells = np.where(rng.uniform(size=200) < 0.3, (1 - y).astype(str), "")
    cells[0] = "-1"
    with open("known.csv", "w") as file:
        file.write(
            "a,b,c,who\n"
            + "".join(f"{a!r},{b!r},{c!r},{w}\n" for (a, b, c), w in zip(X.tolist(), cells, strict=True))
        )
    more = ["--labels", "who", "--on-degenerate", "repair", "--reg-covar", "auto", "--accelerate", "squarem"]
    code, out, err = run(["fit", "known.csv", "-k", "2", "--json", *more], capsys)
    assert code == 0
    assert "narrower than the least variance" in err
    got = json.loads(out)
    assert got["columns"] == ["a", "b", "c"]
    np.testing.assert_allclose(got["means"], [[4.0, 4.0, 1.0], [0.0, 0.0, 1.0]], atol=0.5)
    more = [
        "--order",
        "mean",
        "--prior",
        "default",
        "--columns",
        "a,b",
        "--keep-on-interrupt",
        "--init",
        "kmeans",
    ]
    code, out, _ = run(["fit", "known.csv", "-k", "2", "--json", *more], capsys)
    assert code == 0
    np.testing.assert_allclose(json.loads(out)["means"], [[0.0, 0.0], [4.0, 4.0]], atol=0.5)
    code, _, err = run(["fit", "known.csv", "-k", "2", "--labels", "who", "--columns", "a,who"], capsys)
    assert code == 2
    assert "labels are nothing else" in err
    code, _, err = run(["fit", "known.csv", "-k", "2", "--columns", "a,b", "--labels", "a"], capsys)
    assert code == 2
    code, _, err = run(["fit", "known.csv", "-k", "1", "--labels", "who"], capsys)
    assert code != 0
    assert "labels must be whole numbers from 0 to 0" in err


def test_columns_and_weights(tmp_path, capsys, rng):
    X, w = rng.normal(size=(300, 3)), rng.integers(0, 3, 300)
    np.savetxt("t.csv", np.column_stack([X, w]), delimiter=",", header="a,b,c,w", comments="", fmt="%.17g")
    code, out, _ = run(["fit", "t.csv", "-k", "2", "--columns", "c,a", "--weights", "w", "--json"], capsys)
    assert code == 0
    got = json.loads(out)
    want = GaussianMixture(2, init_params="auto", random_state=0).fit(X[:, [2, 0]], sample_weight=w)
    np.testing.assert_allclose(got["means"], want.means_, rtol=1e-10)
    assert got["columns"] == ["c", "a"]
    code, out, _ = run(["fit", "t.csv", "-k", "2", "--weights", "w", "--json"], capsys)
    assert json.loads(out)["columns"] == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy"])
def test_every_kind_of_file(kind, capsys, rng):
    import pyarrow as pa
    from pyarrow import csv, parquet

    X = rng.normal(size=(200, 2))
    table = pa.table({"x0": X[:, 0], "x1": X[:, 1]})
    {
        "csv": lambda: csv.write_csv(table, "t.csv"),
        "parquet": lambda: parquet.write_table(table, "t.parquet"),
        "npy": lambda: np.save("t.npy", X),
    }[kind]()
    assert run(["fit", f"t.{kind}", "-k", "2", "-o", "m.safetensors", "--plot", "m.svg"], capsys)[0] == 0
    want = GaussianMixture(2, init_params="auto", random_state=0).fit(X)
    gm = load("m.safetensors")
    np.testing.assert_allclose(gm.means_, want.means_, rtol=1e-12)
    assert run(["predict", "m.safetensors", f"t.{kind}", "-o", f"out.{kind}", "--proba"], capsys)[0] == 0
    read = {
        "csv": lambda: np.loadtxt("out.csv", delimiter=",", skiprows=1),
        "parquet": lambda: parquet.read_table("out.parquet").to_pandas().to_numpy(),
        "npy": lambda: np.load("out.npy"),
    }[kind]()
    np.testing.assert_array_equal(read[:, 0], want.predict(X))
    np.testing.assert_allclose(read[:, 1:], want.predict_proba(X), rtol=1e-9, atol=1e-12)


def test_labels_alone_and_kmeans_models(capsys, faithful, model):
    assert run(["predict", model, FAITHFUL, "-o", "l.npy"], capsys)[0] == 0
    assert np.load("l.npy").dtype == np.int64
    km = KMeans(2, random_state=0).fit(faithful)
    save(km, "km.safetensors")
    assert run(["predict", "km.safetensors", FAITHFUL, "-o", "l.csv"], capsys)[0] == 0
    lines = Path("l.csv").read_text().split()
    assert lines[0] == '"label"'
    assert [int(v) for v in lines[1:]] == km.labels_.tolist()
    assert "k-means, 2 clusters" in run(["info", "km.safetensors"], capsys)[1]
    assert "no probabilities" in fails(
        ["predict", "km.safetensors", FAITHFUL, "-o", "l.csv", "--proba"], capsys
    )


def test_predict_finds_columns_by_name(capsys, model):
    data = np.loadtxt(FAITHFUL, delimiter=",", skiprows=1)
    swapped = np.column_stack([np.arange(272), data[:, ::-1]])
    np.savetxt("s.csv", swapped, delimiter=",", header="id,waiting,eruptions", comments="", fmt="%.17g")
    assert run(["predict", model, "s.csv", "-o", "a.npy"], capsys)[0] == 0
    assert run(["predict", model, FAITHFUL, "-o", "b.npy"], capsys)[0] == 0
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))


def test_info_and_config(capsys, model):
    code, out, _ = run(["info", model], capsys)
    assert code == 0
    assert "272 x 2" in out
    assert "format 1" in out
    assert json.loads(run(["info", model, "--json"], capsys)[1])["class"] == "GaussianMixture"
    code, out, _ = run(["config"], capsys)
    assert code == 0
    assert "backends (auto = " in out
    assert json.loads(run(["config", "--json"], capsys)[1])["backends"]["reference"]["available"]


def test_module_and_script_are_the_same():
    for command in ([sys.executable, "-m", "mixtura"], [str(Path(sys.executable).parent / "mixtura")]):
        if not os.path.exists(command[0]):
            pytest.fail(f"{command[0]} is not installed")
        out = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
        assert "fit" in out
        assert "predict" in out


def test_unconverged_fits_say_so(capsys):
    code, out, err = run(["fit", FAITHFUL, "-k", "5", "--max-iter", "1"], capsys)
    assert code == 0
    assert "1 (not converged)" in out
    assert err.startswith("mixtura: warning: Best performing initialization did not converge")


def test_closed_pipes_are_quiet():
    command = f"{sys.executable} -m mixtura config | head -1"
    out = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert out.stderr == ""


def write(name, text):
    Path(name).write_text(text)
    return name


def test_bad_tables(capsys):
    def fit(*arguments):
        return fails(["fit", *arguments, "-k", "2"], capsys)

    assert "No such file or directory" in fit("nowhere.csv")
    assert "is empty" in fit(write("e.csv", ""))
    assert "has columns but no rows" in fit(write("h.csv", "a,b\n"))
    assert "unknown kind of file" in fit(write("t.xlsx", "a"))
    assert "is a directory" in fit(".")
    assert "column 'b' is not numeric (string)" in fit(write("s.csv", "a,b\n1,x\n2,y\n"))
    assert "column 'b' has" not in fit(write("s.csv", "a,b\n1,x\n2,y\n"), "--columns", "a,c")
    assert "has no column 'c'; its columns are 'a', 'b'" in fit("s.csv", "--columns", "a,c")
    assert "has no column 'w'" in fit("s.csv", "--columns", "a", "--weights", "w")
    assert "column 1 ('b') has 1 NaN" in fit(write("n.csv", "a,b\n1,2\n3,\n4,5\n6,7\n"))
    assert "column 0 ('a') has 1 infinity" in fit(write("i.csv", "a,b\n1,2\ninf,4\n4,5\n"))
    assert "is not a readable CSV file" in fit(write("r.csv", "a,b\n1,2\n1,2,3\n"))
    assert "is not a readable CSV file" in fit((Path("u.csv").write_bytes(b"a,b\n\xff\xfe,1\n"), "u.csv")[1])
    assert "is not a Parquet file" in fit(write("p.parquet", "not parquet at all"))
    assert "is not a .npy file" in fit(write("p.npy", "nothing"))
    np.save("one.npy", np.arange(4.0))
    assert "shape (4,); a table has two dimensions" in fit("one.npy")
    np.save("text.npy", np.array([["a", "b"], ["c", "d"]]))
    assert "column 'x0' is not numeric" in fit("text.npy")
    np.save("whole.npy", np.random.default_rng(0).normal(size=(100, 2)))
    Path("cut.npy").write_bytes(Path("whole.npy").read_bytes()[:700])
    assert "is cut short" in fit("cut.npy")
    write("w.csv", "a,w\n1,1\n2,-1\n3,1\n4,1\n")
    assert "Negative values in data passed to `sample_weight`" in fit("w.csv", "--weights", "w")
    write("z.csv", "a,w\n1,0\n2,0\n3,0\n4,0\n")
    assert "zero" in fit("z.csv", "--weights", "w")
    assert "Expected n_samples >= n_components" in fails(
        ["fit", "n.csv", "-k", "9", "--columns", "a"], capsys
    )


def test_bad_wishes(capsys, model):
    assert "unknown backend 'gpu'" in fails(["fit", FAITHFUL, "-k", "2", "--backend", "gpu"], capsys)
    assert "'n_components' parameter" in fails(["fit", FAITHFUL, "-k", "0"], capsys)
    assert "no directory" in fails(["fit", FAITHFUL, "-k", "2", "-o", "no/where.safetensors"], capsys)
    assert "ends in .png" in fails(["fit", FAITHFUL, "-k", "2", "--plot", "x.bmp"], capsys)
    assert "ends in .csv" in fails(["predict", model, FAITHFUL, "-o", "x.txt"], capsys)
    write("one.csv", "eruptions\n1\n2\n")
    assert "has no column 'waiting'" in fails(["predict", model, "one.csv", "-o", "l.csv"], capsys)
    assert "X has 1 features" in fails(
        ["predict", model, FAITHFUL, "--columns", "waiting", "-o", "l.csv"], capsys
    )
    with pytest.raises(SystemExit) as stop:
        main(["fit"])
    assert stop.value.code == 2


def test_bad_models(capsys, model):
    from safetensors.numpy import save_file

    def info(path):
        return fails(["info", path], capsys)

    whole = Path(model).read_bytes()
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "No such file" in info("none.safetensors")
    assert "cut short" in info("cut.safetensors")
    assert "not a model file" in info(write("text.safetensors", "hello"))
    assert "not a model file" in info(write("empty.safetensors", ""))
    save_file({"w": np.zeros(3)}, "foreign.safetensors")
    assert "not one that mixtura wrote" in info("foreign.safetensors")
    save_file(
        {"w": np.zeros(3)}, "later.safetensors", {"mixtura": json.dumps({"format": 9, "version": "7.0"})}
    )
    assert "format 9, this mixtura reads format 1" in info("later.safetensors")
    save_file({"w": np.zeros(3)}, "bad.safetensors", {"mixtura": "{"})
    assert "damaged header" in info("bad.safetensors")
    header = {"format": 1, "version": "0", "class": "os.system", "parameters": {}, "fitted": {}}
    save_file({"w": np.zeros(3)}, "alien.safetensors", {"mixtura": json.dumps(header)})
    assert "does not know" in info("alien.safetensors")
    header["class"] = "GaussianMixture"
    save_file({"w": np.zeros(3)}, "part.safetensors", {"mixtura": json.dumps(header)})
    assert "not a whole GaussianMixture" in info("part.safetensors")


def test_more_bad_tables(capsys):
    import gzip

    import pyarrow as pa
    from pyarrow import parquet

    def fit(*arguments):
        return fails(["fit", *arguments, "-k", "2"], capsys)

    assert "has 2 columns named 'a'" in fit(write("d.csv", "a,a,b\n1,2,3\n4,5,6\n7,8,9\n"))
    parquet.write_table(pa.Table.from_arrays([pa.array([1.0, 2.0])] * 2, names=["a", "a"]), "d.parquet")
    assert "has 2 columns named 'a'" in fit("d.parquet")
    whole = gzip.compress(b"a,b\n1,2\n3,4\n5,6\n")
    Path("t.csv.gz").write_bytes(whole[:12])
    assert "is not a readable CSV file" in fit("t.csv.gz")
    Path("c.csv.gz").write_bytes(whole[:15] + bytes(b ^ 255 for b in whole[15:25]) + whole[25:])
    assert "is not a readable CSV file" in fit("c.csv.gz")
    np.save("h.npy", np.zeros((3, 2)))
    header = Path("h.npy").read_bytes().replace(b"(3, 2)", b"(999999999999999999999, 2)")
    Path("h.npy").write_bytes(header)
    assert "is not a .npy file" in fit("h.npy")
    os.mkfifo("f.csv")
    assert "is not a regular file" in fit("f.csv")
    assert "look separated by ';'" in fit(write("s.csv", "a;b\n1;2\n3;4\n"))


def test_numbers_and_missing_cells_in_the_first_line_are_a_row(capsys):
    assert "column 1 ('x1') has 1 NaN" in fails(
        ["fit", write("m.csv", "1.5,\n2,3\n4,5\n"), "-k", "1"], capsys
    )
    assert "column 0 ('x0') has 1 NaN" in fails(
        ["fit", write("m.csv", "NA,2\n2,3\n4,5\n"), "-k", "1"], capsys
    )
    code, out, _ = run(["fit", write("b.csv", "\n1,2\n2,3\n4,6\n"), "-k", "1", "--json"], capsys)
    assert code == 0
    assert json.loads(out)["rows"] == 3


def test_names_with_spaces_and_big_integers(capsys):
    write("n.csv", "a , b\n9007199254740993,1\n9007199254740995,2\n9007199254740999,4\n")
    code, out, _ = run(["fit", "n.csv", "-k", "1", "--columns", "a,b", "--json"], capsys)
    assert code == 0
    assert json.loads(out)["columns"] == ["a", "b"]


def test_outputs_do_not_overwrite_inputs_or_each_other(capsys, model):
    write("d.csv", "a,b\n1,2\n3,4\n5,7\n")
    assert "named twice" in fails(["fit", "d.csv", "-k", "1", "-o", "d.csv"], capsys)
    assert "named twice" in fails(["fit", "d.csv", "-k", "1", "-o", "p.png", "--plot", "./p.png"], capsys)
    assert "named twice" in fails(["predict", model, FAITHFUL, "-o", FAITHFUL], capsys)
    assert "cannot be written" in fails(["fit", "d.csv", "-k", "1", "-o", ""], capsys)
    assert "too long" in fails(["fit", "d.csv", "-k", "1", "-o", "x" * 250], capsys)
    assert Path("d.csv").read_text().startswith("a,b")


def test_links_are_followed_and_devices_written_to(capsys):
    Path("real.st").write_text("old")
    os.symlink("real.st", "link.st")
    assert run(["fit", FAITHFUL, "-k", "2", "-o", "link.st"], capsys)[0] == 0
    assert Path("link.st").is_symlink()
    assert load("real.st").n_components == 2
    assert run(["fit", FAITHFUL, "-k", "2", "-o", os.devnull], capsys)[0] == 0
    assert Path(os.devnull).is_char_device()


def test_wrong_commands_take_one_line(capsys):
    for arguments in (["fit", FAITHFUL], ["fit", FAITHFUL, "-k", "x"], [], ["paint"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        err = capsys.readouterr().err
        assert stop.value.code == 2
        assert err.count("\n") == 1
        assert err.startswith("mixtura: error: ")


def test_fits_without_iterations_are_valid_json(capsys):
    code, out, _ = run(["fit", FAITHFUL, "-k", "2", "--max-iter", "0", "--json", "-o", "m.st"], capsys)
    assert code == 0
    assert "Infinity" not in out
    assert json.loads(out)["log_likelihood_per_row"] is None
    assert "Infinity" not in run(["info", "m.st", "--json"], capsys)[1]
    assert load("m.st").lower_bound_ == -np.inf


def test_pictures_of_odd_data(capsys, rng):
    X = rng.normal(size=(50, 2))
    np.savetxt("t.csv", X * 1e-30, delimiter=",", header=r"$\foo$,b_{", comments="")
    assert run(["fit", "t.csv", "-k", "2", "-o", "m.st", "--plot", "p.png"], capsys)[0] == 0
    assert Path("p.png").stat().st_size > 1000


CO2 = str(Path(__file__).parents[1] / "data" / "co2.csv")
FIT_CO2 = [
    "fit-experts",
    CO2,
    "--columns",
    "GNP",
    "--target",
    "CO2",
    "-k",
    "2",
    "--noise",
    "per-expert",
    "-q",
]


def test_experts_from_fit_to_prediction(capsys):
    code, out, err = run([*FIT_CO2, "--gate", "softmax", "-o", "m", "--plot", "m.png"], capsys)
    assert (code, err) == (0, "")
    assert "softmax gate" in out
    assert "coef GNP" in out
    assert Path("m.png").stat().st_size > 10_000
    assert run(["predict", "m", CO2, "-o", "p.npy", "--proba"], capsys)[0] == 0
    got, model = np.load("p.npy"), load("m")
    X = np.loadtxt(CO2, delimiter=",", skiprows=1, usecols=0)[:, None]
    model.__dict__.pop("feature_names_in_")
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(got, np.column_stack([mean, std, model.predict_gate(X)]), rtol=1e-12)
    assert "softmax gate" in run(["info", "m"], capsys)[1]


def test_experts_as_json_with_several_targets(capsys, rng):
    X = rng.normal(size=(60, 4))
    np.save("t.npy", X)
    command = ["fit-experts", "t.npy", "--target", "x1,x3", "-k", "1", "--json", "-q", "-o", "m"]
    code, out, _ = run(command, capsys)
    facts = json.loads(out)
    assert code == 0
    assert facts["columns"] == ["x0", "x2"]
    want, *_ = np.linalg.lstsq(np.column_stack([X[:, [0, 2]], np.ones(60)]), X[:, [1, 3]])
    np.testing.assert_allclose(facts["coefficients"][0], want[:2].T, atol=1e-10)
    assert run(["predict", "m", "t.npy", "-o", "p.csv"], capsys)[0] == 0
    assert Path("p.csv").read_text().splitlines()[0] == '"mean_0","mean_1","std_0","std_1"'


def test_bad_wishes_of_experts(capsys):
    assert "CO" in fails(["fit-experts", CO2, "--columns", "GNP", "--target", "CO", "-k", "2"], capsys)
    assert "twice" in fails(["fit-experts", CO2, "--columns", "GNP", "--target", "GNP", "-k", "2"], capsys)
    assert "numeric" in fails(["fit-experts", CO2, "--target", "CO2", "-k", "2"], capsys)
    assert "experts" in fails([*FIT_CO2[:7], "90", "-q"], capsys)
    assert "positive definite" in fails([*FIT_CO2, "--prior-variance", "-1"], capsys)


# ---------------------------------------------------------------------------------- files as people have them


@pytest.fixture
def mixed():
    """A table with row names, text, missing values and awkward names."""
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.normal(size=(20, 2)), rng.normal(size=(20, 2)) + 8.0])
    cells = [[f"{v:.6g}" for v in row] for row in X]
    cells[3][0] = cells[30][1] = "NA"
    lines = [f"r{i},{a},text,{b}" for i, (a, b) in enumerate(cells)]
    Path("mixed.csv").write_text('"","first, or so",note,the second\n' + "\n".join(lines) + "\n")
    return X


def test_the_way_on_stands_in_the_error(mixed, capsys):
    assert (
        "--numeric takes the numeric columns alone"
        in fails(["fit", "mixed.csv", "-k", "2"], capsys).splitlines()[-1]
    )
    code, _, err = run(["fit", "mixed.csv", "-k", "2", "--numeric"], capsys)
    assert code == 2
    assert "column 0 ('first, or so') has 1 NaN" in err
    assert "--drop-missing leaves out the rows with missing values" in err


def test_numeric_columns_of_complete_rows(mixed, capsys):
    arguments = ["fit", "mixed.csv", "-k", "2", "--numeric", "--drop-missing", "-o", "m.safetensors"]
    code, out, err = run(arguments, capsys)
    assert code == 0
    assert "38 x 2" in out
    assert [line.startswith("mixtura: note: ") for line in err.splitlines()] == [True] * 3
    assert "column 1 has no name" in err
    assert "left out 1 column(s) that are not numeric: 'note'" in err
    assert "left out 2 of 40 rows, which have missing values" in err
    assert list(load("m.safetensors").feature_names_in_) == ["first, or so", "the second"]

    # predict keeps the file's rows
    fails(["predict", "m.safetensors", "mixed.csv", "-o", "l.csv"], capsys)
    for name in ("l.csv", "p.csv", "l.parquet", "l.npy"):
        more = ["--proba"] if name == "p.csv" else []
        code, out, _ = run(
            ["predict", "m.safetensors", "mixed.csv", "-o", name, "--drop-missing", *more], capsys
        )
        assert (code, "wrote 40 rows" in out) == (0, True)
    pd = pytest.importorskip("pandas")
    for labels in (
        pd.read_csv("l.csv").label,
        pd.read_csv("p.csv").label,
        pd.read_parquet("l.parquet").label,
    ):
        assert np.flatnonzero(labels.isna()).tolist() == [3, 30]
        assert len(set(labels[:20].dropna())) == 1
    assert pd.read_csv("p.csv").isna().to_numpy().sum() == 6
    assert np.flatnonzero(np.isnan(np.load("l.npy"))).tolist() == [3, 30]


def test_columns_by_names_with_commas_and_blanks(mixed, capsys):
    columns = ["--column", "first, or so", "--column", "the second"]
    code, out, _ = run(["fit", "mixed.csv", "-k", "2", *columns, "--drop-missing", "--json"], capsys)
    assert (code, json.loads(out)["columns"]) == (0, ["first, or so", "the second"])
    experts = ["fit-experts", "mixed.csv", "-k", "1", "--target", *columns[1:], "--drop-missing", "--json"]
    code, out, _ = run(experts, capsys)
    assert (code, json.loads(out)["columns"]) == (0, ["the second"])
    assert "no column 'first'" in fails(["fit", "mixed.csv", "-k", "2", "--columns", "first, or so"], capsys)
    every = Path("mixed.csv").read_text().splitlines()
    Path("nothing.csv").write_text("\n".join([every[0], "r0,NA,t,1", "r1,1,t,NA"]) + "\n")
    assert (
        "every row has a missing value"
        in run(["fit", "nothing.csv", "-k", "1", "--numeric", "--drop-missing"], capsys)[2]
    )


def test_headers_of_numbers(capsys):
    X = np.random.default_rng(0).normal(size=(30, 3))
    body = "\n".join(",".join(f"{v:.5f}" for v in row) for row in X) + "\n"
    for name, header in (("default.csv", "0,1,2\n"), ("years.csv", "2019,2020,2021\n"), ("none.csv", "")):
        Path(name).write_text(header + body)
        code, _, err = run(["fit", name, "-k", "1", "-o", "m.safetensors"], capsys)
        assert code == 0
        assert ("--header no says otherwise" in err) is bool(header)
        code, out, err = run(["predict", "m.safetensors", name, "-o", "l.csv"], capsys)
        assert (code, err) == (0, "")  # the model knows its columns: nothing is guessed
        assert "wrote 30 rows" in out
        code, out, _ = run(["fit", name, "-k", "1", "--header", "no", "--json"], capsys)
        assert json.loads(out)["rows"] == 30 + bool(header)


def test_other_layouts(capsys):
    Path("e.txt").write_text("a;b\n0,5;1\n1,5;2\n2,25;4,5\n3;1\n")
    arguments = ["fit", "e.txt", "-k", "1", "--separator", ";", "--decimal", ",", "--json"]
    code, out, _ = run(arguments, capsys)
    assert (code, json.loads(out)["means"]) == (0, [[1.8125, 2.125]])
    Path("t.txt").write_text("a\tb\n0.5\t1\n1.5\t2\n2.5\t4\n")
    code, out, _ = run(["fit", "t.txt", "-k", "1", "--separator", "tab", "--json"], capsys)
    assert (code, json.loads(out)["columns"]) == (0, ["a", "b"])
    assert "separator must be one character" in fails(
        ["fit", "t.txt", "-k", "1", "--separator", "ab"], capsys
    )


def several_files(folder):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    X = rng.normal(size=(9000, 2)) + 5.0 * rng.integers(0, 2, size=(9000, 1))
    for i in range(3):
        part = X[3000 * i : 3000 * (i + 1)]
        parquet.write_table(
            pyarrow.table({"a": part[:, 0], "b": part[:, 1], "name": ["x"] * 3000}),
            folder / f"part-{i}.parquet",
        )
    return X


def test_several_files_are_read_block_by_block(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X = several_files(tmp_path)
    code, out, err = run(
        ["fit", "part-*.parquet", "-k", "2", "--init", "kmeans", "-o", "m", "--plot", "p.png", "--json"],
        capsys,
    )
    assert code == 0
    assert "9,000 rows are read block by block" in err
    from mixtura import GaussianMixture

    whole = GaussianMixture(2, random_state=0).fit(X)
    assert json.loads(out)["log_likelihood_per_row"] == pytest.approx(whole.lower_bound_, rel=1e-9)
    assert json.loads(out)["columns"] == ["a", "b"]
    assert (tmp_path / "p.png").stat().st_size > 5000
    for name in ("labels.csv", "labels.parquet"):
        assert run(["predict", "m", "part-*.parquet", "-o", name, "--proba"], capsys)[0] == 0
    from pyarrow import csv, parquet

    labels = parquet.read_table("labels.parquet")
    assert labels.num_rows == 9000
    assert csv.read_csv("labels.csv").column(0).to_pylist() == labels.column(0).to_pylist()
    counts = np.bincount(labels.column(0).to_numpy())
    assert sorted(counts) == sorted(np.bincount(whole.predict(X)))
    assert (
        run(["fit", "part-*.parquet", "-k", "2", "--columns", "b", "--algorithm", "stepwise", "-q"], capsys)[
            0
        ]
        == 0
    )
    assert "cannot be used with several files" in fails(
        ["fit", "part-*.parquet", "-k", "2", "--weights", "a"], capsys
    )
    assert "no file matches" in fails(["fit", "other-*.parquet", "-k", "2"], capsys)
    assert "are written to .csv or .parquet" in fails(
        ["predict", "m", "part-*.parquet", "-o", "x.npy"], capsys
    )


def test_checkpoints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    several_files(tmp_path)
    fit = ["fit", "part-*.parquet", "-k", "2", "--checkpoint", "c", "--json"]
    assert "there is no checkpoint c" in fails([*fit, "--resume"], capsys)
    code, first, _ = run(fit, capsys)
    assert code == 0
    assert "--resume goes on from it" in fails(fit, capsys)
    code, again, _ = run([*fit, "--resume"], capsys)
    assert code == 0
    for name in ("means", "covariances", "log_likelihood_per_row"):
        assert json.loads(first)[name] == json.loads(again)[name]
    code, _, err = run([*fit, "--resume", "--tol", "1e-5"], capsys)
    assert code == 2
    assert "of another fit" in err
    assert "needs --checkpoint" in fails(["fit", "part-*.parquet", "-k", "2", "--resume"], capsys)
    assert "does not go with --checkpoint" in fails(
        ["fit", "part-0.parquet", "--numeric", "-k", "bic", "--checkpoint", "d"], capsys
    )


def test_numbers_of_components_of_which_bic_takes_the_best(capsys):
    code, text, err = run(["fit", FAITHFUL, "-k", "2:4", "--json"], capsys)
    assert code == 0
    assert json.loads(text)["components"] == 2
    assert "BIC by number of components: 2: 2322.19, 3: " in err
    for wrong in ("0:2", "4:2", "1:x", "two"):
        with pytest.raises(SystemExit) as stop:
            main(["fit", FAITHFUL, "-k", wrong])
        assert stop.value.code == 2
        assert "invalid number of components, A:B or bic" in capsys.readouterr().err


def test_experts_of_several_files_and_their_checkpoints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    several_files(tmp_path)
    fit = ["fit-experts", "part-*.parquet", "--target", "b", "-k", "2", "--checkpoint", "c", "--json"]
    code, first, err = run([*fit, "-o", "m"], capsys)
    assert code == 0
    assert "9,000 rows are read block by block" in err
    assert json.loads(first)["columns"] == ["a"]
    code, again, _ = run([*fit, "--resume"], capsys)
    assert code == 0
    assert json.loads(first)["coefficients"] == json.loads(again)["coefficients"]
    assert "--resume goes on from it" in fails(fit, capsys)
    assert run(["predict", "m", "part-*.parquet", "-o", "means.parquet"], capsys)[0] == 0
    from pyarrow import parquet

    assert parquet.read_table("means.parquet").column_names[:2] == ["mean", "std"]
    assert "cannot be used with several files" in fails([*fit[:5], "3", "--weights", "a"], capsys)


def test_options_are_written_out(capsys):
    """An abbreviation would change its meaning with the next option that begins so."""
    parser = parser_of_commands()
    (commands,) = (a.choices.values() for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for command in (parser, *commands):
        assert not command.allow_abbrev, command.prog
    with pytest.raises(SystemExit):
        main(["fit", "rows.csv", "-k", "2", "--covar", "diag"])
    assert "--covar" in capsys.readouterr().err


def test_several_text_files_obey_the_layout(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(2):
        rows = [f"{a:.6f};{b:.6f}" for a, b in rng.normal(size=(50, 2))]
        Path(f"part{i}.csv").write_text("\n".join(["a;b", *rows]) + "\n")
    code, out, _ = run(["fit", "part*.csv", "-k", "1", "--separator", ";", "--json", "-q"], capsys)
    assert code == 0
    assert json.loads(out)["columns"] == ["a", "b"]
    assert json.loads(out)["rows"] == 100
    np.savetxt("plain.csv", rng.normal(size=(50, 2)), delimiter=",")
    _, out, _ = run(["fit", "pl*.csv", "-k", "1", "--json", "-q"], capsys)
    assert json.loads(out)["rows"] == 50
    _, out, _ = run(["fit", "pl*.csv", "-k", "1", "--json", "-q", "--header", "yes"], capsys)
    assert json.loads(out)["rows"] == 49


def test_no_file_of_a_pattern_and_no_checkpoint_is_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    several_files(tmp_path)
    before = Path("part-0.parquet").read_bytes()
    assert "named twice" in fails(["fit", "part-*.parquet", "-k", "2", "-o", "part-0.parquet"], capsys)
    assert Path("part-0.parquet").read_bytes() == before
    for option in ("-o", "--plot"):
        command = [
            "fit",
            "part-0.parquet",
            "--columns",
            "a,b",
            "-k",
            "2",
            "--checkpoint",
            "c.png",
            option,
            "c.png",
        ]
        assert "named twice" in fails(command, capsys)


def test_pictures_of_several_files_have_a_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("parts").mkdir()
    several_files(Path("parts"))
    for pattern, name in (("parts/*.parquet", "parts.png"), ("parts/part-0.parquet", "part-0.png")):
        command = ["fit", pattern, "--columns", "a,b", "-k", "1", "--plot", "-q"]
        assert run(command, capsys)[0] == 0
        assert Path(name).exists()


def test_columns_one_by_one_for_predictions_of_several_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    several_files(tmp_path)
    assert run(["fit", "part-*.parquet", "-k", "2", "-o", "m", "-q"], capsys)[0] == 0
    command = ["predict", "m", "part-*.parquet", "-o", "x.csv"]
    assert run([*command, "--column", "a", "--column", "b"], capsys)[0] == 0
    one = Path("x.csv").read_text()
    assert run(command, capsys)[0] == 0
    assert Path("x.csv").read_text() == one
    assert (
        run(["fit-experts", "part-*.parquet", "--target", "a,b", "-k", "1", "-q"], capsys)[0] != 0
    )  # no column left


def test_groups_refuse_what_they_cannot_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = [f"{a:.5f};{b:.5f};{i % 3}" for i, (a, b) in enumerate(rng.normal(size=(90, 2)))]
    Path("t.csv").write_text("\n".join(["a;b;site", *lines]) + "\n")
    fit = ["fit", "t.csv", "--separator", ";", "-k", "2", "--columns", "a,b", "--by", "site"]
    assert run(fit, capsys)[0] == 0
    for option in (
        ["--order", "weight"],
        ["--n-init", "5"],
        ["--accelerate", "newton"],
        ["--backend", "reference"],
        ["--algorithm", "stepwise"],
        ["--on-degenerate", "drop"],
        ["--init", "random"],
        ["--reg-covar", "auto"],
        ["--keep-on-interrupt"],
    ):
        assert f"--by does not go with {' '.join(option)}" in fails([*fit, *option], capsys) or option[
            0
        ] in fails([*fit, *option], capsys)
    assert run([*fit, "--backend", "native"], capsys)[0] == 0
    assert "no such column" in fails([*fit[:-1], "nowhere"], capsys)


def test_options_that_need_others_say_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    several_files(tmp_path)
    fit = ["fit", "part-0.parquet", "--columns", "a,b", "-k", "1"]
    assert "--scheduler needs --engine" in fails([*fit, "--scheduler", "tcp://nowhere:1"], capsys)
    assert "--every needs --checkpoint" in fails([*fit, "--every", "5"], capsys)
    assert "Known are" in fails([*fit, "--noise", "nope"], capsys)


@pytest.mark.parametrize("option", [["--prior", "default"], ["--covariance", "VVE"], ["--reg-covar", "auto"]])
def test_a_fit_without_faults_has_no_warning(option, capsys):
    code, _, err = run(["fit", FAITHFUL, "-k", "2", *option, "--json"], capsys)
    assert (code, err) == (0, "")


def test_a_pattern_without_files_is_named(capsys):
    for command in (["fit", "no*.csv", "-k", "2"], ["fit-experts", "no*.csv", "-k", "2", "--target", "y,b"]):
        assert "no*.csv" in fails(command, capsys)
