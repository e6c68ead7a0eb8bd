"""Densities of one column, and pictures of distributions."""

import json

import numpy as np
import pytest

import mixtura
from mixtura.cli import main
from mixtura.distributions import Mixture


@pytest.fixture
def grades(rng):
    """Two groups in an exam."""
    return np.concatenate([rng.normal(2.5, 0.6, 300), rng.normal(5.0, 0.2, 100)])


def test_two_groups_are_found(grades):
    for k in ("bic", 2):
        mixture = mixtura.fit_density(grades, k)
        assert mixture.n_components == 2
        np.testing.assert_allclose(mixture.means[:, 0], [2.5, 5.0], atol=0.15)
        np.testing.assert_allclose(mixture.weights, [0.75, 0.25], atol=0.05)
    assert mixtura.fit_density(grades[:, None], 3).n_components == 3
    weighted = mixtura.fit_density(grades, 1, sample_weight=np.arange(400) < 300)
    assert weighted.mean == pytest.approx(grades[:300].mean())


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_units_do_not_matter(grades, scale):
    mixture = mixtura.fit_density(grades * scale + 3.0 * scale)
    np.testing.assert_allclose(mixture.means[:, 0] / scale - 3.0, [2.5, 5.0], atol=0.15)


def test_numbers_on_a_grid_are_no_mixture_of_points(rng, grades):
    thirds = np.round(grades * 3.0) / 3.0
    assert mixtura.fit_density(thirds).n_components == 2
    dice = mixtura.fit_density(rng.integers(1, 7, 600))
    assert dice.covariances.min() >= 0.25 * (1 - 1e-9)


def test_bad_input(grades):
    for x, message in (
        ([1.0, 1.0], "2 numbers, all equal"),
        ([3.0], "1 number, all equal"),
        ([1.0, np.nan], "NaN"),
        (np.ones((3, 2)), "one column"),
    ):
        with pytest.raises(ValueError, match=message):
            mixtura.fit_density(x)
    with pytest.raises(ValueError, match="or 'bic'"):
        mixtura.fit_density(grades, "aic")
    with pytest.raises(ValueError, match="n_components"):
        mixtura.fit_density(grades, 0)


def test_command_line(grades, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    np.savetxt("grades.csv", grades, header="grade", comments="")
    assert main(["fit", "grades.csv", "--columns", "grade", "-k", "bic", "--plot", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["components"] == 2
    assert "BIC by number of components: 1: " in err
    assert (tmp_path / "grades.png").stat().st_size > 5000
    with pytest.raises(SystemExit):
        main(["fit", "grades.csv", "-k", "two"])
    assert "A:B or bic" in capsys.readouterr().err
    np.savetxt(
        "labelled.csv",
        np.column_stack([grades, np.full(400, -1)]),
        header="grade,group",
        comments="",
        delimiter=",",
    )
    assert main(["fit", "labelled.csv", "-k", "bic", "--labels", "group"]) == 2
    assert "does not go with --labels" in capsys.readouterr().err
    assert main(["fit", "grades.csv", "-k", "2", "--accelerate", "newton", "--json"]) == 0


def test_pictures(grades, faithful, tmp_path):
    pytest.importorskip("matplotlib")
    from mixtura.plotting import ConditionalDisplay, ConvergenceDisplay, DensityDisplay, MixtureDisplay

    mixture = mixtura.fit_density(grades)
    display = mixtura.plot_density(mixture, grades, name="grade", bins=12)
    assert isinstance(display, DensityDisplay)
    assert display.ax_.get_xlabel() == "grade"
    lines = {line.get_label(): line for line in display.ax_.lines}
    assert set(lines) == {"component 0", "component 1", "mixture"}
    x, y = lines["mixture"].get_data()
    np.testing.assert_allclose(y, mixture.prob(x))
    assert mixtura.plot_density(mixture, ax=display.ax_).ax_ is display.ax_
    with pytest.raises(ValueError, match="one dimension"):
        mixtura.plot_density(Mixture([1.0], [[0.0, 0.0]], np.eye(2)[None]))

    gm = mixtura.GaussianMixture(2, random_state=0, tol=1e-10, max_iter=1000).fit(faithful)
    errors = mixtura.standard_errors(gm, faithful)
    plain, banded = (MixtureDisplay.from_estimator(gm, faithful, errors=e).axes_[0] for e in (None, errors))
    assert len(banded.patches) == len(plain.patches) + 2
    from matplotlib.patches import Polygon

    bands = [patch.get_xy() for patch in banded.patches if isinstance(patch, Polygon)]
    for band, mean in zip(bands, gm.means_, strict=True):  # its outer edge goes around the mean
        assert np.all(band.min(axis=0) < mean)
        assert np.all(band.max(axis=0) > mean)
    conditional = ConditionalDisplay.from_mixture(
        Mixture.from_estimator(gm), 0, 1, faithful, names=["e", "w"]
    )
    mean = next(line for line in conditional.ax_.lines if line.get_label() == "mean")
    x, y = mean.get_data()
    np.testing.assert_allclose(y, Mixture.from_estimator(gm).regress(0, x)[0][:, 0])
    assert ConditionalDisplay.from_mixture(Mixture.from_estimator(gm)).ax_.get_ylabel() == "x1"

    newton = mixtura.GaussianMixture(2, random_state=0, accelerate="newton").fit(faithful)
    together = ConvergenceDisplay.from_estimators({"EM": gm, "Newton": newton})
    assert [line.get_label() for line in together.ax_.lines] == ["EM", "Newton"]
    assert len(together.ax_.lines[1].get_xdata()) == newton.n_iter_
    together.figure_.savefig(tmp_path / "convergence.png")
    with pytest.raises(ValueError, match="no iteration"):
        ConvergenceDisplay.from_estimators(gm.set_params(max_iter=0).fit(faithful))


@pytest.mark.parametrize("n", [2, 10, 15, 20])
def test_few_numbers_have_no_spikes(n):
    """A component is never one number: the likelihood of that has no bound."""
    for seed in range(6):
        x = np.random.default_rng(seed).normal(size=n)
        found = mixtura.fit_density(x)
        assert found.n_components <= max(n // 4, 1)
        assert found.covariances.min() > 1e-4 * x.var()


def test_weights_that_count_numbers():
    """A histogram is the numbers that it counts, and numbers of weight 0 are not there."""
    values, counts = np.arange(6.0), np.array([10, 40, 5, 80, 20, 3])
    one, other = (
        mixtura.fit_density(values, sample_weight=counts),
        mixtura.fit_density(np.repeat(values, counts)),
    )
    assert one.n_components == other.n_components == 2
    assert one.covariances.min() > 0.1
    np.testing.assert_array_equal(one.means, other.means)
    x = np.random.default_rng(0).normal(size=400)
    few = mixtura.fit_density(x, sample_weight=(np.arange(400) < 2).astype(float))
    assert few.means.ravel() == pytest.approx([x[:2].mean()])
    with pytest.raises(ValueError, match="no numbers"):
        mixtura.fit_density([])


def test_one_number_far_out_is_a_component_of_its_own():
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(0.0, 1.0, 300), rng.normal(20.0, 1.0, 300), 1000.0]
    np.testing.assert_allclose(mixtura.fit_density(x).means.ravel(), [0.0, 20.0, 1000.0], atol=0.2)
    assert mixtura.fit_density(rng.standard_cauchy(1000)).n_components > 2


def test_weights_that_are_no_counts_matter_by_their_ratios():
    x = np.random.default_rng(0).normal(size=400)
    w = np.random.default_rng(1).uniform(0.5, 1.5, 400)
    for factor in (1.0, 1.0 / 400, 37.0):
        density = mixtura.fit_density(x, sample_weight=factor * w)
        assert density.n_components == 1
        np.testing.assert_allclose(density.means, np.average(x, weights=w), rtol=1e-6, atol=1e-9)


def test_one_number_far_from_all_others_widens_none():
    x = np.random.default_rng(0).normal(size=300)
    mixture = mixtura.fit_density(np.append(x, 1e6))
    assert mixture.covariances.ravel()[0] == pytest.approx(x.var(), rel=0.05)


@pytest.mark.parametrize(
    ("factor", "message"), [(1e-170, "multiply x by a large number"), (1e200, "of x are too large")]
)
def test_numbers_whose_squares_cannot_be_represented_are_told(factor, message):
    with pytest.raises(ValueError, match="(?i)" + message):
        mixtura.fit_density(factor * np.random.default_rng(0).normal(size=100))
