"""Checkpoints: fits go on to the same bits, wherever they were killed, and wrong files are refused."""

import io
import os
import pickle
import random
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from mixtura import (
    EqualMeans,
    GaussianMixture,
    KMeans,
    LinearExpert,
    LinkFunction,
    MixtureOfExperts,
    em,
)
from mixtura.checkpoints import _HEAD, CheckpointError, _Reader, _Writer
from mixtura.data import as_source
from mixtura.estimators import gaussian_mixture
from mixtura.table import Table

FIT = """
import sys, warnings, hashlib
warnings.simplefilter("ignore")
import numpy as np
from mixtura import GaussianMixture
rng = np.random.default_rng(0)
means = 1.2 * rng.normal(size=(8, 6))
X = means[rng.integers(0, 8, 60000)] + rng.normal(size=(60000, 6))
print("begins", flush=True)
gm = GaussianMixture(8, random_state=3, n_init=3, tol=1e-5, max_iter=200)
gm.fit(X, checkpoint=sys.argv[1] if len(sys.argv) > 1 else None, every=0.0)
found = gm.means_.tobytes() + gm.covariances_.tobytes() + gm.weights_.tobytes()
print(hashlib.sha256(found).hexdigest(), gm.n_iter_, gm.n_passes_, gm.lower_bounds_)
"""


def outcome(*arguments, after=None):
    """What the fit prints; None if it was killed, so many seconds after it began, before it was over."""
    process = subprocess.Popen(
        [sys.executable, "-c", FIT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begins\n"
    try:
        out, error = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    assert process.returncode == 0, error
    return out


def test_killed_fits_go_on_to_the_same_bits(tmp_path):
    whole = outcome()
    assert outcome(tmp_path / "whole") == whole
    generator = random.Random(0)
    for trial in range(2):
        found = None
        for _ in range(4):
            found = outcome(tmp_path / f"{trial}", after=generator.uniform(0.0, 0.4))
            if found is not None:
                break
        assert (found or outcome(tmp_path / f"{trial}")) == whole
    assert not [name for name in os.listdir(tmp_path) if "partial" in name]


class DiedError(Exception):
    pass


def interrupted(monkeypatch, iterations, hard=False):
    """EM, or k-means, that dies after so many iterations in all."""
    left, maximized = [iterations], em.expected

    def expected(*arguments):
        left[0] -= arguments[0].hard == hard
        if left[0] < 0:
            raise DiedError
        return maximized(*arguments)

    monkeypatch.setattr(em, "expected", expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("source", [False, True])
def test_wherever_it_dies(source, tmp_path, monkeypatch):
    """A few starts on samples, then the whole table: killed in every part of it."""
    rng = np.random.default_rng(1)
    means = 2.0 * rng.normal(size=(3, 3))
    X = means[rng.integers(0, 3, 40_000)] + rng.normal(size=(40_000, 3))
    rows = as_source(X, block_bytes=1 << 16) if source else X
    make = {"n_components": 3, "random_state": 0, "n_init": 4, "tol": 1e-7, "max_iter": 60}
    whole = GaussianMixture(**make).fit(rows)
    deaths = 0
    for iterations in (1, 2, 9, 17, 30, 45, 70, 100, 140):
        path = tmp_path / f"{iterations}"
        with monkeypatch.context() as patch:
            interrupted(patch, iterations)
            try:
                GaussianMixture(**make).fit(rows, checkpoint=path, every=0.0)
            except DiedError:
                deaths += 1
        again = GaussianMixture(**make).fit(rows, checkpoint=path, every=0.0)
        for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
            np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
        assert again.lower_bounds_ == whole.lower_bounds_
        assert again.n_passes_ == whole.n_passes_
    assert deaths >= 6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_runs_that_become_singular_are_counted(tmp_path, monkeypatch):
    """Of eight runs some end on a point that stands in the table eight times; whatever dies in between goes on."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(60, 2)), np.repeat([[1.7, 1.7]], 8, axis=0)])
    make = {
        "n_components": 5,
        "reg_covar": 0.0,
        "n_init": 8,
        "random_state": 1,
        "tol": 1e-9,
        "max_iter": 1000,
    }
    failures, run = [], gaussian_mixture.ALGORITHMS["em"]

    def counted(*arguments, **how):
        try:
            return run(*arguments, **how)
        except em.SingularError:
            failures.append(arguments)
            raise

    monkeypatch.setitem(gaussian_mixture.ALGORITHMS, "em", counted)
    monkeypatch.setattr(
        Table, "may_advance", lambda self, components, form: False
    )  # pass by pass, to die in between
    whole = GaussianMixture(**make).fit(X)
    assert 0 < len(failures) < 8
    deaths = 0
    for iterations in (40, 160, 340, 600):
        path = tmp_path / f"{iterations}"
        with monkeypatch.context() as patch:
            interrupted(patch, iterations)
            try:
                GaussianMixture(**make).fit(X, checkpoint=path, every=0.0)
            except DiedError:
                deaths += 1
        again = GaussianMixture(**make).fit(X, checkpoint=path, every=0.0)
        np.testing.assert_array_equal(again.means_, whole.means_)
        assert again.lower_bounds_ == whole.lower_bounds_
        assert again.n_passes_ == whole.n_passes_
    assert deaths >= 3
    for _ in range(2):  # where all runs fail, they fail again
        with pytest.raises(ValueError, match="ill-defined empirical covariance"):
            GaussianMixture(
                6, reg_covar=0.0, init_params="random", n_init=3, tol=1e-9, max_iter=1000, random_state=0
            ).fit(X, checkpoint=tmp_path / "all", every=0.0)


def test_a_finished_fit_is_not_made_again(blobs, tmp_path, monkeypatch):
    first = GaussianMixture(3, random_state=0).fit(blobs, checkpoint=tmp_path / "c")
    with monkeypatch.context() as patch:
        interrupted(patch, 0)
        again = GaussianMixture(3, random_state=0).fit(blobs, checkpoint=tmp_path / "c")
    np.testing.assert_array_equal(again.means_, first.means_)


def test_a_seed_that_nobody_chose_is_kept(blobs, tmp_path):
    one, two = (
        GaussianMixture(3, init_params="random").fit(blobs, checkpoint=tmp_path / "c") for _ in range(2)
    )
    np.testing.assert_array_equal(one.means_, two.means_)


def test_kmeans(blobs, tmp_path, monkeypatch):
    make = {"n_clusters": 5, "init": "random", "n_init": 6, "random_state": 0}
    whole = KMeans(**make).fit(blobs)
    for iterations in (3, 11, 20):
        with monkeypatch.context() as patch:
            interrupted(patch, iterations, hard=True)
            with pytest.raises(DiedError):
                KMeans(**make).fit(blobs, checkpoint=tmp_path / f"{iterations}", every=0.0)
        again = KMeans(**make).fit(blobs, checkpoint=tmp_path / f"{iterations}")
        np.testing.assert_array_equal(again.cluster_centers_, whole.cluster_centers_)


def died_and_gone_on(make, rows, path, monkeypatch, iterations):
    """The fit that another one, which died after so many iterations, went on to; None if it did not die."""
    with monkeypatch.context() as patch:
        interrupted(patch, iterations)
        try:
            make().fit(*rows, checkpoint=path, every=0.0)
            return None
        except DiedError:
            pass
    return make().fit(*rows, checkpoint=path, every=0.0)


EXPERTS = {
    "constant": {"n_init": 3},
    "softmax": {"gate": "softmax", "n_init": 2},
    "gaussian": {"gate": "gaussian"},
    "dirichlet": {"gate": "dirichlet"},
    "sparse": {"gate": "sparse", "n_init": 2},
    "neural": {"gate": "neural", "max_iter": 12},
    "stochastic": {"algorithm": "stochastic", "n_init": 2},
    "stepwise": {"algorithm": "stepwise"},
    "auto": {"init": "auto"},
    "softmax, auto": {"init": "auto", "gate": "softmax"},
    "priors": {
        "experts": LinearExpert(prior_covariance=np.full(2, 3.0)),
        "empirical_bayes": True,
        "prior_link": EqualMeans(0.1),
    },
    "squarem": {"accelerate": "squarem", "gate": "softmax"},
    "anderson": {"accelerate": "anderson"},
    "newton": {"accelerate": "newton"},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", EXPERTS)
def test_experts(name, tmp_path, monkeypatch):
    """Wherever a mixture of experts dies, whatever its gate keeps, the next fit ends at the same bits."""
    if name == "neural":
        pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    n = 45_000 if "auto" in name else 5000
    x = rng.normal(size=(n, 2))
    slopes, which = (
        np.array([[1.0, 0.5], [-1.0, 0.8]]),
        (rng.uniform(size=n) < 1.0 / (1.0 + np.exp(-x[:, 0]))),
    )
    y = np.sum(slopes[which.astype(int)] * x, axis=1) + rng.normal(size=n)

    def make():
        return MixtureOfExperts(2, random_state=0, tol=1e-8, **{"max_iter": 60, **EXPERTS[name]})

    whole, deaths = make().fit(x, y), 0
    for iterations in (1, 4, 9, 17, 30, 63, 100):
        again = died_and_gone_on(make, (x, y), tmp_path / f"{iterations}", monkeypatch, iterations)
        if again is None:
            continue
        deaths += 1
        for attribute in ("weights_", "coef_", "intercept_", "noise_variance_"):
            np.testing.assert_array_equal(getattr(again, attribute), getattr(whole, attribute))
        np.testing.assert_array_equal(again.predict(x[:100]), whole.predict(x[:100]))
        assert again.lower_bounds_ == whole.lower_bounds_
        assert again.n_passes_ == whole.n_passes_
    assert deaths >= 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize(
    "how", [{"accelerate": "squarem"}, {"accelerate": "anderson"}, {"algorithm": "stepwise"}], ids=str
)
def test_other_runs(how, source, tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    means = 1.2 * rng.normal(size=(3, 3))
    X = means[rng.integers(0, 3, 40_000)] + rng.normal(size=(40_000, 3))
    rows = as_source(X, block_bytes=1 << 16) if source else X

    def make():
        return GaussianMixture(3, random_state=0, tol=1e-6, max_iter=60, **how)

    whole, deaths = make().fit(rows), 0
    for iterations in (1, 4, 9, 15, 22, 40, 70):
        again = died_and_gone_on(make, (rows,), tmp_path / f"{iterations}", monkeypatch, iterations)
        if again is None:
            continue
        deaths += 1
        np.testing.assert_array_equal(again.means_, whole.means_)
        assert again.lower_bounds_ == whole.lower_bounds_
        assert again.n_passes_ == whole.n_passes_
    assert deaths >= 4


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_newton_and_repair(blobs, tmp_path):
    for how in (
        {"accelerate": "newton"},
        {"on_degenerate": "drop"},
        {"prior": "default"},
        {"covariance_type": "tied"},
    ):
        path = tmp_path / next(iter(how))
        one, two = (GaussianMixture(3, random_state=0, **how).fit(blobs, checkpoint=path) for _ in range(2))
        np.testing.assert_array_equal(one.means_, two.means_)


def test_other_fits_are_refused(blobs, tmp_path):
    path = tmp_path / "c"
    gm = GaussianMixture(3, random_state=0).fit(blobs, checkpoint=path)
    before = path.read_bytes()
    for estimator, rows, message in (
        (GaussianMixture(4, random_state=0), blobs, "n_components is '3', and here it is '4'"),
        (GaussianMixture(3, random_state=1), blobs, "random_state"),
        (GaussianMixture(3, random_state=0, tol=1e-4), blobs, "tol"),
        (GaussianMixture(3, random_state=0), blobs[:-1], "number of rows is 600, and here it is 599"),
        (GaussianMixture(3, random_state=0), blobs + 1e-9, "data"),
        (GaussianMixture(3, random_state=0), blobs[np.r_[1, 0, 2:600]], "data"),
        (GaussianMixture(3, random_state=0, backend="reference"), blobs, "backend"),
        (KMeans(3, random_state=0), blobs, "class"),
    ):
        with pytest.raises(CheckpointError, match=message):
            estimator.fit(rows, checkpoint=path)
    with pytest.raises(CheckpointError, match="data"):
        GaussianMixture(3, random_state=0).fit(blobs, sample_weight=np.ones(600), checkpoint=path)
    assert path.read_bytes() == before
    GaussianMixture(3, random_state=0, n_threads=1, verbose=0).fit(
        blobs, checkpoint=path
    )  # neither changes the result
    assert gm.converged_


def test_files_that_are_wrong(blobs, tmp_path):
    path = tmp_path / "c"
    GaussianMixture(3, random_state=0).fit(blobs, checkpoint=path)
    content = path.read_bytes()
    for broken in (content[:-5], content[:60], b"", b"something else", content[:100] + b"x" + content[101:]):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"damaged|no checkpoint"):
            GaussianMixture(3, random_state=0).fit(blobs, checkpoint=path)
        assert path.read_bytes() == broken  # whose it is, is the user's to say

    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    import hashlib

    body = pickle.dumps({"fit": Evil()})
    path.write_bytes(_HEAD + hashlib.sha256(body).digest() + body)
    with pytest.raises(CheckpointError, match="which no checkpoint of ours does"):
        GaussianMixture(3, random_state=0).fit(blobs, checkpoint=path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        GaussianMixture(3).fit(blobs, checkpoint=tmp_path / "nowhere" / "c")


@pytest.mark.parametrize(
    "name",
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("mixtura.data.sources", "import_module"),
        ("mixtura.data.sources", "_FileRows"),
        ("mixtura.checkpoints", "Checkpoint"),
        ("mixtura.checkpoints", "_Reader"),
        ("mixtura.checkpoints", "partial"),
        ("mixtura.files", "write_whole"),
        ("mixtura.gates.neural", "np"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    ],
)
def test_what_a_checkpoint_may_not_name(name):
    """Functions, modules, classes that do things, and what makes arrays of any memory."""
    written = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in name) + b"\x93."
    with pytest.raises(pickle.UnpicklingError, match="which no checkpoint of ours does"):
        _Reader(io.BytesIO(written)).load()


def test_arrays_and_numbers_come_back_as_they_were(rng):
    values = [
        rng.normal(size=(3, 4)), np.asfortranarray(rng.normal(size=(3, 4))), np.zeros((0, 3), dtype=np.float32),
        np.array(["ab", "c"]), np.array([True, False]), np.arange(5)[::2], np.array(1.5), np.float32(2.5), np.int64(3),
    ]  # fmt: skip
    written = io.BytesIO()
    _Writer(written, protocol=5).dump(values)
    for got, want in zip(_Reader(io.BytesIO(written.getvalue())).load(), values, strict=True):
        assert type(got) is type(want)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
        assert not isinstance(got, np.ndarray) or got.flags.writeable
    assert _Reader(io.BytesIO(written.getvalue())).load()[1].flags.f_contiguous


class Alike(EqualMeans):
    """Nobody has registered this one."""


def test_what_could_not_be_read_again_is_refused_at_the_first_writing(blobs, tmp_path):
    linked = MixtureOfExperts(
        2, experts=LinearExpert(prior_covariance=1.0), prior_link=Alike(1.0), max_iter=5, random_state=0
    )
    with pytest.raises(CheckpointError, match="could not be read again"):
        linked.fit(blobs[:, :1], blobs[:, 1], checkpoint=tmp_path / "c", every=0.0)


def test_functions_as_parameters_are_told_by_what_they_are(blobs, tmp_path):
    """Not by where they lie in memory, which is elsewhere in another process."""

    class Start:
        def __init__(self, shift):
            self.shift = shift

        def __call__(self, X, n_clusters, random_state):
            return X[:n_clusters] + self.shift

    for one, same, other in (
        (Start(0.0), Start(0.0), Start(1.0)),
        (partial(first_rows, by=2), partial(first_rows, by=2), partial(first_rows, by=3)),
        (partial(first_rows, by=2, kind=len), partial(first_rows, by=2, kind=len), partial(first_rows, by=2)),
    ):
        path = tmp_path / str(len(os.listdir(tmp_path)))
        KMeans(3, init=one, n_init=1).fit(blobs, checkpoint=path)
        KMeans(3, init=same, n_init=1).fit(blobs, checkpoint=path)
        with pytest.raises(CheckpointError, match="its init is"):
            KMeans(3, init=other, n_init=1).fit(blobs, checkpoint=path)


def first_rows(X, n_clusters, random_state, by, kind=None):
    return X[: by * n_clusters : by]


def test_two_fits_with_one_checkpoint(blobs, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with open(tmp_path / "c.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="of a fit that is running"):
            GaussianMixture(3, random_state=0).fit(blobs, checkpoint=tmp_path / "c")
    GaussianMixture(3, random_state=0).fit(blobs, checkpoint=tmp_path / "c")
    assert os.listdir(tmp_path) == ["c"]


def test_bad_input(blobs, tmp_path):
    path = tmp_path / "c"
    for how, message in (
        ({"warm_start": True}, "does not go with warm_start"),
        ({"random_state": np.random.RandomState(0)}, "random_state to be an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            GaussianMixture(3, **how).fit(blobs, checkpoint=path)
    with pytest.raises(ValueError, match="every"):
        GaussianMixture(3).fit(blobs, checkpoint=path, every=-1.0)
    linked = MixtureOfExperts(2, experts=LinearExpert(prior_covariance=1.0), prior_link=LinkFunction(np.sum))
    with pytest.raises(ValueError, match="cannot hold functions"):
        linked.fit(blobs[:, :1], blobs[:, 1], checkpoint=path)
    assert os.listdir(tmp_path) == []


class Shifted:
    """First centres without a dictionary of attributes."""

    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by

    def start(self, X, n_clusters, random_state):
        return X[self.by :][:n_clusters]


def test_values_that_look_alike_are_told_apart(blobs, tmp_path):
    """Their text is cut short, rounded, or that of another function of the same name."""
    pd, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    labels = np.repeat([0, 1, 2], 200)
    other = labels.copy()
    other[100:300] = 2 - other[100:300]
    means = blobs[:3]

    def experts(init):
        return MixtureOfExperts(3, init=init, max_iter=2, random_state=0), (blobs[:, :2], blobs[:, 2])

    def gaussians(start):
        return GaussianMixture(3, means_init=start, max_iter=2, tol=10.0), (blobs,)

    def kmeans(init):
        return KMeans(3, init=init, n_init=1), (blobs,)

    for make, one, same, unlike in (
        (experts, pd.Series(labels), pd.Series(labels), pd.Series(other)),
        (experts, torch.tensor(labels), torch.tensor(labels), torch.tensor(other)),
        (gaussians, torch.tensor(means), torch.tensor(means.copy()), torch.tensor(means + 4e-6)),
        (kmeans, Shifted(0).start, Shifted(0).start, Shifted(50).start),
        (
            kmeans,
            lambda X, n_clusters, random_state: X[:n_clusters],
            lambda X, n_clusters, random_state: X[:n_clusters],
            lambda X, n_clusters, random_state: X[5 : 5 + n_clusters],
        ),
    ):
        path = tmp_path / str(len(os.listdir(tmp_path)))
        for value in (one, same):
            model, rows = make(value)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(*rows, checkpoint=path)
        model, rows = make(unlike)
        with pytest.raises(CheckpointError, match=r"its (means_)?init is"):
            model.fit(*rows, checkpoint=path)


def test_the_type_of_the_rows_counts(blobs, tmp_path):
    single = blobs.astype(np.float32)
    GaussianMixture(3, random_state=0).fit(single, checkpoint=tmp_path / "c")
    with pytest.raises(CheckpointError, match="its type of the rows is 'float32'"):
        GaussianMixture(3, random_state=0).fit(single.astype(np.float64), checkpoint=tmp_path / "c")


def test_rows_of_a_source_that_changed_places_are_others(tmp_path):
    X = np.random.default_rng(0).normal(size=(20_000, 2))
    moved = X.copy()
    moved[[1, 2]] = moved[[2, 1]]
    GaussianMixture(1).fit(as_source(X), checkpoint=tmp_path / "c")
    GaussianMixture(1).fit(as_source(X, block_bytes=1 << 15), checkpoint=tmp_path / "c")
    with pytest.raises(CheckpointError, match="rows, in this order"):
        GaussianMixture(1).fit(as_source(moved), checkpoint=tmp_path / "c")


def test_an_object_is_told_by_its_class_and_attributes():
    from mixtura.checkpoints import _as_text

    class Own:
        def __init__(self, least):
            self.least = least

    assert _as_text(Own(1.0)) == _as_text(Own(1.0)) != _as_text(Own(2.0))
    assert " at 0x" not in _as_text(Own(1.0))


def first_of(X, n_clusters, random_state, how="head", *, among=frozenset({"first", "head", "top", "begin"})):
    return X[:n_clusters] if how in among and how in {"first", "head", "top", "begin"} else X[-n_clusters:]


def test_what_is_the_same_has_the_same_text_in_every_process(tmp_path):
    """Sets have another order in each process, and objects another address."""
    script = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from test_checkpoints import first_of
from mixtura.checkpoints import _as_text
class Own:
    def __init__(self, rng): self.rng, self.itself, self.start = rng, self, self.draw
    def draw(self, X, n_clusters, random_state): return X[:n_clusters]
def later():
    def inner(): return not_yet
    if 0: not_yet = 1
    return inner
own = Own(np.random.default_rng(0))
for value in (first_of, own, own.draw, np.mean, np.ndarray, later(), np.random.RandomState(0), {"a", "b"}):
    print(_as_text(value))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", script, os.path.dirname(__file__)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_functions_differ_in_what_they_hold():
    from mixtura.checkpoints import _as_text

    def start(by):
        return lambda X, *, first=by: (lambda i: i + 1)(X[first:])

    def other(by):
        return lambda X, *, first=by: (lambda i: i + 2)(X[first:])

    assert _as_text(start(0)) == _as_text(start(0)) != _as_text(start(1))
    assert _as_text(start(0)).split()[-1] != _as_text(other(0)).split()[-1]


@pytest.mark.parametrize(
    "turned",
    [
        lambda a: a,
        lambda a: a.transpose(0, 2, 1),
        lambda a: a.transpose(2, 0, 1),
        lambda a: a.transpose(2, 1, 0),
        lambda a: a.transpose(1, 0, 2)[::2, :, 1:],
        lambda a: a[:, :0],
        lambda a: a[:1].transpose(0, 2, 1),
    ],
)
def test_arrays_lie_as_they_lay(turned, rng):
    """Sums go in the order of memory: were it another one, the last bits of what follows would be."""
    array = turned(rng.normal(size=(6, 5, 7)))
    written = io.BytesIO()
    _Writer(written, protocol=5).dump(array)
    again = _Reader(io.BytesIO(written.getvalue())).load()
    np.testing.assert_array_equal(again, array)
    assert again.flags.writeable
    assert np.einsum("abc->", again) == np.einsum("abc->", array)
    long = [axis for axis in range(3) if array.shape[axis] > 1 and array.size]
    assert sorted(long, key=lambda axis: again.strides[axis]) == sorted(
        long, key=lambda axis: array.strides[axis]
    )
