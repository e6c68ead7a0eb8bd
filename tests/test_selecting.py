"""Trees of rows, and the choice of family and number of components: mclust's answers on its own data."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import mixtura
from mixtura import (
    GaussianMixture,
    GaussianMixtureSelector,
    MixtureClassifier,
    bootstrap_lrt,
    load,
    selecting,
)
from mixtura.cli import main
from mixtura.components import families
from mixtura.components.families import ALL
from mixtura.hierarchical import scaled, tree
from mixtura.selecting import select

FILES = Path(__file__).parent / "files" / "mclust"

# What mclust 6.0.0 reports: family, number of components, BIC with its sign.
TOP = {
    "faithful": [("EEE", 3, -2314.316), ("VVE", 2, -2320.433), ("VEE", 3, -2322.103)],
    "iris": [("VEV", 2, -561.7285), ("VEV", 3, -562.5522), ("VVV", 2, -574.0178)],
}


def rows_of(name):
    held = json.loads((FILES / f"{name}.json").read_text())
    return np.array(held["rows"]), np.array(held["labels"])


def same_groups(one, other):
    pairs = set(zip(one, other, strict=True))
    return len(pairs) == len(set(one)) == len(set(other))


@pytest.mark.parametrize("name", ["faithful", "iris", "diabetes", "banknote", "thyroid"])
def test_trees_are_mclusts(name):
    X, labels = rows_of(name)
    found = tree(scaled(X, "svd"))
    for groups in range(1, 10):
        assert same_groups(found.labels(groups), labels[groups - 1]), groups


@pytest.mark.parametrize("criterion", ["VVV", "EII"])
@pytest.mark.parametrize("dims", [1, 2, 4])
def test_each_merge_is_the_cheapest(criterion, dims, rng):
    """Against all pairs, costed anew from the rows in each step."""
    X = rng.normal(size=(24, dims))
    found = tree(X, criterion)
    least = np.sum((X - X.mean(axis=0)) ** 2) / X.size

    def cost(rows):
        W = (rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0))
        if criterion == "EII":
            return np.trace(W)
        n, spread = len(rows), (np.trace(W) + least) / len(rows)
        return n * np.log(spread + (np.linalg.det(W / n) if n > dims else 0.0))

    for groups in range(24, 1, -1):
        now, then = found.labels(groups), found.labels(groups - 1)
        members = [X[now == g] for g in range(groups)]
        (merged,) = [g for g in range(groups - 1) if len(set(now[then == g])) == 2]
        a, b = set(now[then == merged])
        increase = {
            (i, j): cost(np.vstack([members[i], members[j]])) - cost(members[i]) - cost(members[j])
            for i in range(groups)
            for j in range(i + 1, groups)
        }
        assert increase[min(a, b), max(a, b)] <= min(increase.values()) + 1e-9


def test_trees_of_strange_rows():
    assert tree(np.zeros((5, 2))).labels(5).tolist() == [0, 1, 2, 3, 4]
    assert tree(np.zeros((1, 2))).labels(1).tolist() == [0]
    assert len(set(tree(np.repeat(np.eye(3), 4, axis=0)).labels(3))) == 3
    with pytest.raises(ValueError, match="no cut into 6"):
        tree(np.zeros((5, 2))).labels(6)
    assert scaled(np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]]), "svd").shape == (3, 1)  # a constant column


@pytest.mark.parametrize("name", TOP)
def test_selections_are_mclusts(name):
    X, _ = rows_of(name)
    found = select(X)
    assert [(family, k) for family, k, _ in found.top()] == [(family, k) for family, k, _ in TOP[name]]
    for (family, _, value), (_, _, wanted) in zip(found.top(), TOP[name], strict=True):
        # mclust's VVE is not quite the maximum.
        assert -value == pytest.approx(wanted, abs=0.2 if family == "VVE" else 0.05)
    assert found.best_.covariance_type == TOP[name][0][0]
    assert found.best_.n_components == TOP[name][0][1]
    assert found.best_.means_init is None
    assert -found.best_.bic(X) == pytest.approx(TOP[name][0][2], abs=0.05)


@pytest.mark.parametrize(("data", "groups"), [("iris", 5), ("banknote", 6), ("thyroid", 2), ("thyroid", 7)])
def test_common_axes_have_a_second_start(data, groups):
    """VVE goes on from EVE's fit as well, whose axes lead above mclust where those of its own start do not."""
    held = json.loads((FILES / f"{data}.json").read_text())
    X, wanted = np.array(held["rows"]), held["log_likelihood_and_parameters"]["VVE"][str(groups)][0]
    how = {"tol": 1e-9, "max_iter": 10_000, "reg_covar": 0.0}
    alone = select(X, groups, ["VVE"], **how).log_likelihood[0, 0]
    both = select(X, groups, ["VVE", "EVE"], **how).log_likelihood
    assert alone < wanted - 1.0
    assert both[1, 0] >= wanted - 1e-6 * abs(wanted)
    assert both[1, 0] > both[0, 0]  # VVE contains EVE


def test_a_second_start_is_not_better_for_a_component_of_a_few_rows():
    X, _ = rows_of("diabetes")
    found = select(X, 8, ["EVE", "VVE"], tol=1e-9, max_iter=10_000, reg_covar=0.0)
    assert found.status.ravel().tolist() == ["converged", "converged"]
    assert not found.best_.degenerate_.any()


def test_nested_families_are_in_order():
    from mixtura.components.families import WITHIN

    X, _ = rows_of("iris")
    found = select(X, range(1, 5), nested=True)
    place = {name: i for i, name in enumerate(found.covariance_types)}
    for name, within in WITHIN.items():
        for other in within:
            above, below = found.log_likelihood[place[name]], found.log_likelihood[place[other]]
            fitted = np.isfinite(above) & np.isfinite(below)
            assert np.all(above[fitted] >= below[fitted] - 1e-5 * len(X))


@pytest.mark.parametrize("criterion", ["bic", "aic"])
@pytest.mark.parametrize("name", TOP)
def test_fits_that_cannot_win_end_early(name, criterion):
    """The winner is that of whole fits, to rounding; fits that ended had reached less, in fewer iterations."""
    X, _ = rows_of(name)
    whole, early = (select(X, range(1, 6), criterion=criterion, early=e, tol=1e-7) for e in (False, True))
    assert whole.top(1)[0][:2] == early.top(1)[0][:2]
    assert early.best_.lower_bound_ == pytest.approx(whole.best_.lower_bound_, abs=1e-10)
    assert early.best_.n_iter_ == len(early.best_.lower_bounds_) == whole.best_.n_iter_
    assert not early.best_.warm_start
    assert early.best_.max_iter == 1000
    ended = early.status == "ended early: it cannot win"
    assert ended.sum() > 10
    both = ended & np.isfinite(whole.log_likelihood)  # some would become singular
    assert np.all(early.log_likelihood[both] <= whole.log_likelihood[both] + 1e-6)
    assert np.nanmin(early.values[ended]) > early.top(1)[0][2]
    again = select(X, range(1, 6), criterion=criterion, early=True, tol=1e-7, n_threads=1)
    np.testing.assert_array_equal(again.values, early.values)


def test_what_ended_early_goes_on_if_the_winner_does_not_count(monkeypatch):
    """A fit that is on its way to a singular covariance is above all others, until it is found out."""
    X, _ = rows_of("iris")
    holds = selecting._Cell.holds

    def only_of_others(cell, *others):
        if (cell.family, cell.components) in (("VEV", 2), ("VEV", 3), ("VVV", 2)):
            cell.status = "singular"
            return False
        return holds(cell, *others)

    monkeypatch.setattr(selecting._Cell, "holds", only_of_others)
    whole, early = (select(X, range(1, 6), early=e, tol=1e-7) for e in (False, True))
    assert (whole.status == "singular").sum() >= 3
    assert whole.top(1)[0][:2] == early.top(1)[0][:2]
    assert early.best_.lower_bound_ == pytest.approx(whole.best_.lower_bound_, abs=1e-10)


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl"])
def test_criteria(criterion, rng):
    X = np.concatenate([rng.normal(size=(150, 2)), rng.normal(size=(150, 2)) + 7.0])
    found = select(X, range(1, 4), ["EII", "VVV"], criterion)
    assert found.best_.n_components == 2
    model = found.best_
    charge = {"bic": np.log(300), "aic": 2.0, "icl": np.log(300)}[criterion]
    value = -2.0 * 300 * model.lower_bound_ + charge * model._n_parameters()
    if criterion == "icl":
        value -= 2.0 * np.log(model.predict_proba(X).max(axis=1)).sum()
    assert found.values.min() == pytest.approx(value, rel=1e-12)
    assert found.table.column_names[2] == criterion
    assert "1. " in repr(found)


def test_what_cannot_be_fitted_has_a_status(rng):
    X = np.repeat(rng.normal(size=(6, 2)), 3, axis=0)
    found = select(X, range(1, 20))
    assert set(np.unique(found.status)) >= {"singular", "fewer rows than components"}
    assert np.isfinite(found.values[found.status == "converged"]).all()
    assert np.isnan(found.values[found.status == "singular"]).all()

    def criterion(model, rows):
        return np.nan if model.n_components > 1 else model.bic(rows)

    judged = select(rng.normal(size=(60, 2)), range(1, 4), ["EII"], criterion)
    assert judged.status.tolist() == [["converged", "the criterion is NaN", "the criterion is NaN"]]
    assert judged.criterion == "criterion"


def test_weights_threads_one_column_and_more_rows_than_a_tree_holds(rng):
    X = rng.normal(size=(400, 2)) + 6.0 * rng.integers(0, 2, size=(400, 1))
    weights = rng.integers(1, 3, 400).astype(float)
    counted = select(X, [2], ["EII", "VVV"], sample_weight=weights, init="kmeans", tol=1e-8)
    repeated = select(np.repeat(X, weights.astype(int), axis=0), [2], ["EII", "VVV"], init="kmeans", tol=1e-8)
    np.testing.assert_allclose(counted.values, repeated.values, rtol=1e-6)
    one, two = (select(X, range(1, 4), n_threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.values, two.values)
    single = select(X[:, :1], range(1, 4))
    assert single.covariance_types == ["E", "V"]
    assert single.best_.n_components == 2
    assert select(rng.normal(size=(5, 6)), [1]).covariance_types == list(ALL[:6])
    many = rng.normal(size=(5000, 2)) + 6.0 * rng.integers(0, 2, size=(5000, 1))
    assert select(many, range(1, 4), ["EII", "VVV"]).best_.n_components == 2


def test_hierarchical_start(rng):
    X, labels = rows_of("iris")
    gm = GaussianMixture(3, init_params="hierarchical", max_iter=0).fit(X)
    np.testing.assert_allclose(np.sort(gm.weights_), np.sort(np.bincount(labels[2] - 1) / 150.0), rtol=1e-9)
    assert GaussianMixture(2, init_params="hierarchical").fit(rng.normal(size=(3000, 2))).converged_


def test_bad_input(rng):
    X = rng.normal(size=(30, 2))
    for how, message in (
        ({"n_components": []}, "positive integers"),
        ({"n_components": [0, 1]}, "positive integers"),
        ({"covariance_types": ["XYZ"]}, "unknown covariance_type"),
        ({"criterion": "cic"}, "criterion must be one of"),
        ({"n_components": [40]}, "no fit succeeded: fewer rows than components"),
        ({"early": True, "criterion": "icl"}, "early=True is for the criteria 'bic' and 'aic'"),
        ({"early": True, "nested": True}, "early=True is for the criteria 'bic' and 'aic'"),
    ):
        with pytest.raises(ValueError, match=message):
            select(X, **how)
    with pytest.raises(ValueError, match="NaN"):
        select(np.where(X > 2.0, np.nan, X) if (X > 2.0).any() else X * np.nan)


def test_the_estimator():
    X, _ = rows_of("faithful")
    pipe = make_pipeline(StandardScaler(), GaussianMixtureSelector(range(1, 5), random_state=0)).fit(X)
    chosen = pipe[-1]
    assert chosen.best_estimator_.n_components == 3
    np.testing.assert_array_equal(pipe.predict(X), chosen.labels_)
    assert pipe.score(X) == pytest.approx(chosen.best_estimator_.score(StandardScaler().fit_transform(X)))
    assert mixtura.select is select


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")  # arrays of other libraries
def test_check_estimator():
    check_estimator(
        GaussianMixtureSelector((1, 2), covariance_types=["EII"], reg_covar=1e-3),
        expected_failed_checks={
            f"check_sample_weight_equivalence_on_{kind}_data": "the tree of rows does not look at weights"
            for kind in ("dense", "sparse")
        },
    )


def test_command_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    X, _ = rows_of("faithful")
    np.savetxt("t.csv", X, delimiter=",", header="eruptions,waiting", comments="")
    assert main(["select", "t.csv", "-k", "1:4", "-o", "m", "--plot", "p.png"]) == 0
    assert "1. EEE, 3: 2314.3" in capsys.readouterr().out
    assert load("m").covariance_type == "EEE"
    assert Path("p.png").stat().st_size > 5000
    assert main(["select", "t.csv", "-k", "1:4", "--early"]) == 0
    assert "1. EEE, 3: 2314.3" in capsys.readouterr().out
    assert main(["select", "t.csv", "-k", "2", "--covariances", "EII,VVV", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["covariance"] == "full"
    assert len(found["fits"]) == 2
    assert main(["fit", "t.csv", "-k", "2", "--covariance", "VEE", "--init", "hierarchical", "-q"]) == 0
    assert main(["select", "t.csv", "--covariances", "XYZ"]) == 2
    for bad in ("0", "3:1", "x"):
        with pytest.raises(SystemExit):
            main(["select", "t.csv", "-k", bad])


@pytest.mark.parametrize(
    ("bounds", "gain"),
    [
        ([-3.0, -2.0, -1.5], 5 * 0.5 * 0.5 / 0.5),
        ([-9.0, -3.0, -2.0, -1.9], 5 * 0.1 * 0.1 / 0.9),
        ([-3.0, -2.0, -1.001], 5 * 0.999 * 0.99 / 0.01),  # steps that hardly shrink
        ([-3.0, -2.0, -0.9], np.inf),  # steps that grow
        ([-3.0, -2.0], np.inf),
        ([-3.0, -3.0, -2.9], np.inf),
    ],
)
def test_what_a_fit_is_given_a_chance_of(bounds, gain):
    cell, X = selecting._Cell("VVV", 2), np.zeros((50, 2))
    cell.model, cell.value = GaussianMixture(2), 400.0
    cell.model.means_, cell.model.lower_bounds_, cell.model.n_features_in_ = np.zeros((2, 2)), bounds, 2
    cell.model.weights_ = np.full(2, 0.5)
    of_component = cell.model._n_parameters() / 2 * np.log(50)
    assert cell.foreseen(X, None) == pytest.approx(400.0 - max(2.0 * 50 * gain, of_component))
    halves = np.full(50, 0.5)
    assert cell.foreseen(X, halves) == pytest.approx(
        400.0 - max(2.0 * 25 * gain, cell.model._n_parameters() / 2 * np.log(25))
    )


@pytest.mark.parametrize("seed", range(3))
def test_tables_that_are_nearly_singular(seed):
    """Families whose fit is as good as singular have that status, and the others are compared."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, 2))
    for table, numbers in (
        (np.column_stack([X, X[:, 0]]), [1, 2, 3]),
        (rng.dirichlet(np.ones(3), 200), [1, 2, 3]),
        (rng.normal(size=(10, 4)), range(1, 6)),
    ):
        found = select(table, numbers)
        assert "singular" in found.status
        assert np.isfinite(found.best_.score(table))


@pytest.mark.parametrize("criterion", ["bic", "icl", "aic"])
def test_weights_count_rows(criterion):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 1)) + 3.0 * rng.integers(0, 2, size=(80, 1))
    counts = rng.integers(1, 40, 80)
    how = {"init": "kmeans", "tol": 1e-9, "random_state": 0}
    one = select(X, [1, 2], ["E"], criterion, sample_weight=counts, **how)
    other = select(np.repeat(X, counts, axis=0), [1, 2], ["E"], criterion, **how)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-6)
    np.testing.assert_allclose(one.log_likelihood, other.log_likelihood, rtol=1e-6)


def test_nested_families_beside_noise():
    rng = np.random.default_rng(0)
    clusters = rng.normal(size=(300, 2)) + np.repeat([[0.0], [7.0]], 150, axis=0)
    X = np.concatenate([clusters, rng.uniform(-20, 20, size=(50, 2))])
    found = select(X, [1, 2, 3], noise=True, nested=True)
    assert found.best_.n_components == 2
    assert found.best_.noise_weight_ > 0.05


@pytest.mark.parametrize("init", ["hierarchical", "kmeans"])
def test_repaired_fits_are_compared(init):
    """A constant column has a bound on its variance in every component, which is no fault of the fit."""
    X = np.column_stack([np.random.default_rng(0).normal(size=(200, 2)), np.ones(200)])
    found = select(X, [1, 2], ["VVV", "EEE"], on_degenerate="repair", init=init)
    assert np.isfinite(found.values).all()
    assert found.best_.n_components == 1
    assert select(X[:, :2], [1, 2], reg_covar="auto").best_.n_components == 1


def test_one_component_for_each_row_is_singular():
    for seed in range(20):
        found = select(np.random.default_rng(seed).normal(size=(4, 2)), [1, 4])
        assert set(found.status[:, 1]) == {"singular"}
        assert found.best_.n_components == 1


def test_names_of_columns_are_kept():
    import pandas as pd

    X = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 2)), columns=["height", "width"])
    best = select(X, [1, 2], ["VVV"]).best_
    assert best.feature_names_in_.tolist() == ["height", "width"]
    with pytest.raises(ValueError, match="feature names should match"):
        best.predict(X[["width", "height"]])


def test_tables_that_are_no_tree():
    X = np.random.default_rng(0).normal(size=(20, 2))
    assert len(tree(X.tolist()).labels(3)) == 20
    for bad in (X[:, 0], np.full((5, 2), np.nan)):
        with pytest.raises(ValueError, match=r"2D array|NaN"):
            tree(bad)
        with pytest.raises(ValueError, match=r"2D array|NaN"):
            scaled(bad, "svd")
    with pytest.raises(ValueError, match="scaling must be"):
        scaled(X, "zzz")
    with pytest.raises(ValueError, match="criterion must be"):
        tree(X, "zzz")


@pytest.mark.parametrize("numbers", [2.0, None, True, [True], [0], []])
def test_numbers_of_components_that_are_none(numbers):
    with pytest.raises(ValueError, match="positive integers"):
        select(np.zeros((10, 2)), numbers)


def test_fits_that_end_early_keep_the_users_iterations():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
        X = np.concatenate([rng.normal(size=(100, 2)) * s for s in ([3.0, 0.5], [0.5, 3.0])]) @ turn
        assert select(X, [1, 2], ["EVE", "VVE"], early=True, tol=1e-2).best_.max_iter == 1000


DEPENDENT = {
    "copy": lambda X: np.c_[X, X[:, 0]],
    "scaled": lambda X: np.c_[X, 1.8 * X[:, 0] + 32.0],
    "sum": lambda X: np.c_[X, X.sum(axis=1)],
    "shares": lambda X: np.exp(X) / np.exp(X).sum(axis=1, keepdims=True),
}


@pytest.mark.parametrize("kind", DEPENDENT)
def test_columns_that_depend_on_each_other_leave_families_out(kind):
    """Their covariances are singular but for rounding, which is no likelihood."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = DEPENDENT[kind](rng.normal(size=(60, 4)) + 2.0 * rng.integers(0, 2, size=(60, 1)))
        found = select(X, [1, 2])
        assert "singular" in found.status[found.covariance_types.index("EEE")]
        for family in ("EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV"):
            assert set(found.status[found.covariance_types.index(family)]) <= {"singular"}
        y = np.arange(60) % 2
        assert MixtureClassifier(1, reg_covar=0.0).fit(X, y).covariance_type_ in ALL[:6]
        with pytest.raises(ValueError, match=r"depend on each other|ill-defined"):
            bootstrap_lrt(X, [1], "EEE", reg_covar=0.0, n_bootstrap=2)


@pytest.mark.parametrize(
    "how", [{"prior": {"shrinkage": 5.0, "dof": 50.0}}, {"prior": "default"}, {"reg_covar": 0.05}]
)
def test_criteria_are_of_the_likelihood_alone(how, faithful):
    """Not of a prior, nor of what is added to variances."""
    found = select(faithful, range(1, 4), **how)
    own = select(faithful, range(1, 4), criterion=lambda model, X: model.bic(X), **how)
    np.testing.assert_allclose(found.values, own.values, rtol=1e-9)
    best = found.best_
    place = found.covariance_types.index(best.covariance_type), found.n_components.index(best.n_components)
    assert found.log_likelihood[place] == pytest.approx(best.score(faithful) * len(faithful), rel=1e-9)


@pytest.mark.parametrize("value", [None, "a", [1.0], 1j])
def test_a_criterion_must_return_a_number(value, faithful):
    with pytest.raises(TypeError, match="must return a number"):
        select(faithful, [1], ["EII"], criterion=lambda model, X: value)


@pytest.mark.parametrize("value", [np.inf, -np.inf, True, np.float32(3.0)])
def test_a_criterion_may_return_any_number(value, faithful):
    found = select(faithful, [1, 2], ["EII"], criterion=lambda model, X: value)
    assert found.top(1) == [("EII", 1, float(value))]
    assert found.plot().ax_.get_title() == "EII with 1 components"


def test_fits_without_an_iteration_have_a_criterion(faithful):
    found = select(faithful, [2], ["EII"], max_iter=0)
    assert found.values[0, 0] == pytest.approx(found.best_.bic(faithful), rel=1e-12)


@pytest.mark.parametrize("n_threads", [0, -1, 1.5, True])
def test_threads_are_a_positive_number(n_threads, faithful):
    for call in (select, bootstrap_lrt):
        with pytest.raises(ValueError, match="n_threads must be a positive integer"):
            call(faithful, [1], n_threads=n_threads)


@pytest.mark.parametrize("compiled", [True, False])
def test_equal_rows_have_a_tree(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(families, "native", None)
    X = np.ones((5, 2))
    assert GaussianMixture(1, init_params="hierarchical").fit(X).means_.tolist() == [[1.0, 1.0]]
    assert select(X, [1], reg_covar=1e-6).best_.means_.tolist() == [[1.0, 1.0]]
