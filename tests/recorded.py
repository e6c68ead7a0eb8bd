"""Scenarios whose answers are on record: seeded fits and what users ask of them, over the whole of the package.

python tests/recorded.py            # say which answers differ from the record
python tests/recorded.py --write    # record the answers of today

Other tests say what is right; these say what has changed. A fit with a seed is to give the same answer from one version
to the next, on every machine, and where a change of the code moves an answer, the difference is to be seen in its diff
and to be meant.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import mixtura
from mixtura import autodiff, distributions, hierarchical, plotting
from mixtura.data import as_source

RECORD = Path(__file__).parent / "files" / "recorded.json"
FAITHFUL = Path(__file__).parents[1] / "data" / "faithful.csv"

Answers = dict[str, Any]
SCENARIOS: dict[str, Callable[[], Answers]] = {}


def scenario(function: Callable[..., Answers], *args: Any, name: str | None = None, **how: Any) -> Any:
    """Record what a function answers, under its name or another."""
    SCENARIOS[name or function.__name__] = lambda: function(*args, **how)
    return function


# ---------------------------------------------------------------------- what is kept of an answer


def digest(value: Any) -> Any:
    """What is kept of an answer: numbers and words as they are, of an array its shape and three sums.

    The first sum is of magnitudes, and gives the scale of rounding errors; the others are of the elements with weights
    that differ from one to the next, so that no element changes and no two change places unseen.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, dict):
        return {key: digest(of) for key, of in value.items()}
    array = np.asarray(value)
    if array.dtype.kind in "USO":
        return array.tolist()
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    if array.ndim == 0:
        number = array.item()
        return float(f"{number:.10g}") if isinstance(number, float) else number
    flat = np.ravel(array).astype(np.float64)
    finite = np.where(np.isfinite(flat), flat, 0.0)
    at = np.arange(1.0, len(flat) + 1.0)
    sums = [np.abs(finite).sum(), finite @ np.cos(at), finite @ np.sin(np.sqrt(7.0) * at)]
    lost = len(flat) - int(np.isfinite(flat).sum())
    return {"shape": list(array.shape), "not finite": lost, "sums": [float(f"{v:.10g}") for v in sums]}


def differences(got: Any, want: Any, where: str = "", tolerance: float = 1e-7) -> list[str]:
    """Where two digests differ by more than rounding does.

    Sums over rows have rounding errors near 1e-15 of their size, which kernels for other processors add up in another
    order. Iterations of EM magnify them by the rate at which they converge, seldom a thousandfold; 1e-7 is far above
    that, and far below what a stopping rule leaves open. Sums over float32 rows may be in float32, a million times
    coarser, and scenarios of such rows are given a tolerance of their own.
    """
    if isinstance(want, dict) and isinstance(got, dict):
        if set(got) != set(want):
            return [f"{where}: has {sorted(got)}, on record {sorted(want)}"]
        if "sums" in want:
            scale = max(abs(want["sums"][0]), abs(got["sums"][0]), 1e-300)
            same = got["shape"] == want["shape"] and got["not finite"] == want["not finite"]
            same = same and all(
                abs(a - b) <= tolerance * scale for a, b in zip(got["sums"], want["sums"], strict=True)
            )
            return [] if same else [f"{where}: {got}, on record {want}"]
        return [
            line for key in want for line in differences(got[key], want[key], f"{where}/{key}", tolerance)
        ]
    if isinstance(want, float) or isinstance(got, float):
        both_numbers = all(isinstance(v, (int, float)) for v in (got, want))
        if both_numbers and (got == want or abs(got - want) <= tolerance * max(abs(got), abs(want))):
            return []
        if both_numbers and np.isnan(got) and np.isnan(want):
            return []
    elif got == want:
        return []
    return [f"{where}: {got}, on record {want}"]


def changes(name: str, record: Answers) -> list[str]:
    """Where a scenario's answers differ from those on record."""
    return differences(answered(name), record.get(name), name, 1e-4 if "float32" in name else 1e-7)


def answered(name: str) -> Any:
    """Digests of a scenario's answers."""
    np.random.seed(0)  # noqa: NPY002  scenarios without a seed of their own draw from here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {key: digest(value) for key, value in SCENARIOS[name]().items()}


# ---------------------------------------------------------------------- tables


def clusters(
    rows: int = 400, dims: int = 3, count: int = 3, apart: float = 4.0, seed: int = 1, dtype: Any = np.float64
) -> np.ndarray:
    """Correlated clusters of unlike sizes that overlap a little."""
    rng = np.random.default_rng(seed)
    sizes = rng.dirichlet(np.full(count, 5.0))
    labels = rng.choice(count, rows, p=sizes)
    centers = apart * rng.normal(size=(count, dims))
    factors = np.eye(dims) + 0.5 * rng.normal(size=(count, dims, dims))
    rows_ = centers[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(rows, dims)))
    return rows_.astype(dtype)


def planes(rows: int = 300, seed: int = 2, targets: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two regressions, one on each side of a boundary that is not sharp."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    side = x[:, 0] + 0.3 * rng.normal(size=rows) > 0.2
    slopes = rng.normal(size=(2, 2, targets)) * 2.0
    y = np.einsum("nd,ndm->nm", x, slopes[side.astype(int)]) + 1.5 * side[:, None]
    y = y + 0.2 * rng.normal(size=y.shape)
    return x, y[:, 0] if targets == 1 else y


def weights(rows: int, seed: int = 3) -> np.ndarray:
    """Weights of which some are 0."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, rows) * rng.uniform(0.5, 1.5, rows)


# ---------------------------------------------------------------------- Gaussian mixtures


def of_gaussians(model: Any, X: Any, rows: Any = None) -> Answers:
    """What a fitted Gaussian mixture says of itself and of some rows."""
    rows = X[:50] if rows is None else rows
    found = {
        "weights": model.weights_,
        "means": model.means_,
        "covariances": model.covariances_,
        "precisions": model.precisions_,
        "bounds": np.asarray(model.lower_bounds_),
        "iterations": model.n_iter_,
        "passes": round(float(model.n_passes_), 6),
        "converged": bool(model.converged_),
        "degenerate": np.asarray(model.degenerate_),
        "densities": model.score_samples(rows),
        "probabilities": model.predict_proba(rows),
        "labels": model.predict(rows),
        "bic": model.bic(rows),
        "aic": model.aic(rows),
    }
    if len(model.weights_) < 8:
        sample = model.sample(7)
        found |= {"sample": sample[0], "labels of the sample": sample[1]}
    return found


def gaussians(X: Any, weighted: bool = False, fitted: Any = None, ties: bool = False, **how: Any) -> Answers:
    how = {"n_components": 3, "random_state": 0, **how}
    model = mixtura.GaussianMixture(**how)
    model.fit(X, sample_weight=weights(len(X)) if weighted else None, **(fitted or {}))
    found = of_gaussians(model, X)
    if ties:  # how many passes k-means takes depends on rounding where rows are copies of each other
        del found["passes"]
    return found


FAMILIES = ["EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV"]
X = clusters(apart=1.5)

for family in FAMILIES:
    scenario(gaussians, X, covariance_type=family, tol=1e-5, name=f"family {family}")
    scenario(
        gaussians,
        clusters(200, 2, 2, seed=4),
        n_components=2,
        weighted=True,
        covariance_type=family,
        reg_covar="auto",
        init_params="hierarchical",
        name=f"family {family}, weighted, from a tree",
    )
for kind in ("full", "tied", "diag", "spherical", "tied_diag", "tied_spherical"):
    scenario(
        gaussians,
        clusters(dtype=np.float32, apart=2.0, seed=30),
        covariance_type=kind,
        name=f"{kind}, float32",
    )
    scenario(
        gaussians,
        X,
        covariance_type=kind,
        weighted=True,
        accelerate="squarem",
        tol=1e-7,
        name=f"{kind}, squarem",
    )
    scenario(
        gaussians,
        X,
        covariance_type=kind,
        accelerate="anderson",
        tol=1e-7,
        n_init=2,
        name=f"{kind}, anderson",
    )
    scenario(gaussians, X, covariance_type=kind, prior="default", name=f"{kind}, prior")
    scenario(gaussians, X, covariance_type=kind, noise="uniform", name=f"{kind}, noise")
    scenario(gaussians, X, covariance_type=kind, backend="reference", max_iter=5, name=f"{kind}, reference")
    scenario(gaussians, X, covariance_type=kind, algorithm="stepwise", name=f"{kind}, stepwise")
    scenario(
        gaussians,
        np.vstack([X[:100], np.repeat(X[30:32], 20, axis=0)]),
        covariance_type=kind,
        n_components=6,
        reg_covar=0.0,
        on_degenerate="repair",
        ties=True,
        name=f"{kind}, repair",
    )
    scenario(
        gaussians,
        np.vstack([X[:60], np.repeat(X[60:61], 20, axis=0)]),
        covariance_type=kind,
        n_components=5,
        reg_covar=0.0,
        on_degenerate="drop",
        ties=True,
        name=f"{kind}, drop",
    )
for kind in ("full", "tied", "diag", "spherical", "VVE", "EVE", "VEI"):
    scenario(gaussians, X, covariance_type=kind, accelerate="newton", tol=1e-9, name=f"{kind}, newton")
for start in ("kmeans", "k-means++", "random", "random_from_data", "auto", "hierarchical"):
    scenario(gaussians, clusters(500, 4, 5, 2.0, 5), n_components=5, init_params=start, name=f"start {start}")
    scenario(
        gaussians,
        clusters(300, 2, 4, 2.0, 6),
        n_components=4,
        init_params=start,
        n_init=3,
        weighted=True,
        covariance_type="diag",
        name=f"start {start}, three, weighted",
    )
scenario(gaussians, clusters(40_000, 2, 6, 2.0, 7), n_components=6, name="long table")
scenario(
    gaussians,
    clusters(40_000, 2, 6, 2.0, 7),
    n_components=6,
    n_init=4,
    weighted=True,
    name="long table, race",
)
scenario(
    gaussians,
    clusters(30_000, 3, 8, 3.0, 8),
    n_components=8,
    covariance_type="diag",
    init_params="auto",
    name="long table, auto",
)
scenario(
    gaussians,
    clusters(3_000, 5, 40, 5.0, 9),
    n_components=40,
    covariance_type="spherical",
    init_params="auto",
    name="many components, auto",
)
scenario(gaussians, clusters(200, 1, 2, 4.0, 10), n_components=2, covariance_type="V", name="one column, V")
scenario(gaussians, clusters(200, 1, 2, 4.0, 10), n_components=2, covariance_type="E", name="one column, E")
scenario(
    gaussians, 1e3 + 1e-3 * clusters(300, 2, 12, 400.0, 11), n_components=12, reg_covar=0.0, name="far apart"
)
scenario(gaussians, X, order="mean", n_components=4, name="ordered by mean")
scenario(gaussians, X, order="weight", n_components=4, covariance_type="tied", name="ordered by weight")


@scenario
def labels_known_in_part() -> Answers:
    model = mixtura.GaussianMixture(3, random_state=0)
    labels = mixtura.KMeans(3, random_state=0).fit(X).labels_
    labels = np.where(np.arange(len(X)) % 7 == 0, labels, -1)
    return of_gaussians(model.fit(X, labels=labels), X)


@scenario
def components_allowed() -> Answers:
    allowed = np.ones((len(X), 3), dtype=bool)
    allowed[::5, 0], allowed[1::5, 2] = False, False
    return of_gaussians(
        mixtura.GaussianMixture(3, random_state=0, covariance_type="diag").fit(X, labels=allowed), X
    )


@scenario
def some_values_fixed() -> Answers:
    start = mixtura.GaussianMixture(3, random_state=1).fit(X)
    model = mixtura.GaussianMixture(
        3,
        weights_init=[0.2, 0.3, 0.5],
        means_init=start.means_,
        precisions_init=start.precisions_,
        fixed={
            "weights": [True, False, False],
            "means": [False, True, False],
            "covariances": [False, False, True],
        },
        random_state=0,
    )
    return of_gaussians(model.fit(X + 0.3), X)


@scenario
def prior_of_ones_own() -> Answers:
    prior = {"mean": np.zeros(3), "shrinkage": 0.1, "dof": 6.0, "scale": np.eye(3)}
    return gaussians(X, prior=prior, tol=1e-8)


@scenario
def in_blocks() -> Answers:
    model = mixtura.GaussianMixture(3, random_state=0)
    for block in np.array_split(clusters(3000), 6):
        model.partial_fit(block)
    found = {"weights": model.weights_, "means": model.means_, "covariances": model.covariances_}
    fitted = mixtura.GaussianMixture(3, random_state=0, covariance_type="diag").fit(X)
    fitted.partial_fit(X[:100] + 0.5, sample_weight=weights(100))
    return {**found, "after a fit": fitted.means_, "its covariances": fitted.covariances_}


@scenario
def gone_on_with() -> Answers:
    model = mixtura.GaussianMixture(3, random_state=0, warm_start=True, max_iter=3).fit(X)
    first = model.lower_bound_
    model.fit(X)
    return {"first": first, **of_gaussians(model, X)}


@scenario
def from_a_file() -> Answers:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, clusters(20_000, 2, 3, seed=12))
        source = as_source(path, block_bytes=1 << 15)
        model = mixtura.GaussianMixture(3, random_state=0).fit(source)
        stepwise = mixtura.GaussianMixture(3, random_state=0, algorithm="stepwise").fit(source)
        means = mixtura.KMeans(3, random_state=0, n_init=2).fit(source)
        saved = Path(folder) / "model.safetensors"
        mixtura.save(model, saved)
        again = mixtura.load(saved)
        labels = again.predict(source)
    return {
        "means": model.means_,
        "passes": round(float(model.n_passes_), 6),
        "stepwise": stepwise.means_,
        "its passes": round(float(stepwise.n_passes_), 6),
        "centers": means.cluster_centers_,
        "labels": labels,
    }


# ---------------------------------------------------------------------- k-means


def of_centers(X: Any, weighted: bool = False, **how: Any) -> Answers:
    model = mixtura.KMeans(**{"n_clusters": 4, "random_state": 0, **how})
    given = weights(len(X)) if weighted else None
    distances = model.fit_transform(X, sample_weight=given)
    return {
        "centers": model.cluster_centers_,
        "labels": model.labels_,
        "inertia": model.inertia_,
        "iterations": model.n_iter_,
        "passes": round(float(model.n_passes_), 6),
        "distances": distances[:20],
        "score": model.score(X, sample_weight=given),
    }


for start in ("k-means++", "random", "auto"):
    scenario(of_centers, clusters(500, 3, 4, 2.0, 13), init=start, name=f"k-means, {start}")
    scenario(
        of_centers,
        clusters(300, 2, 6, 1.5, 14, np.float32),
        n_clusters=6,
        n_init=3,
        weighted=True,
        init=start,
        name=f"k-means, {start}, three, weighted, float32",
    )
scenario(of_centers, clusters(2_500, 4, 40, 4.0, 15), n_clusters=40, init="auto", name="k-means, many, auto")
scenario(of_centers, clusters(20_000, 3, 5, 1.0, 16), n_clusters=5, name="k-means, long table")
scenario(of_centers, clusters(6_000, 3, 200, 3.0, 17), n_clusters=600, max_iter=4, name="k-means, very many")
scenario(of_centers, X, backend="reference", max_iter=3, name="k-means, reference")


@scenario
def centers_in_blocks() -> Answers:
    model = mixtura.KMeans(3, random_state=0)
    for block in np.array_split(clusters(2000), 5):
        model.partial_fit(block)
    return {"centers": model.cluster_centers_}


# ---------------------------------------------------------------------- experts


def of_experts(
    targets: int = 1, weighted: bool = False, fitted: Any = None, rows: int = 300, **how: Any
) -> Answers:
    x, y = planes(rows, targets=targets)
    model = mixtura.MixtureOfExperts(**{"n_experts": 2, "random_state": 0, **how})
    model.fit(x, y, sample_weight=weights(len(x)) if weighted else None, **(fitted or {}))
    new = x[:20]
    mean, std = model.predict(new, return_std=True)
    return {
        "weights": model.weights_,
        "coefficients": model.coef_,
        "intercepts": model.intercept_,
        "noise": model.noise_variance_,
        "covariance of coefficients": model.coef_covariance_,
        "bounds": np.asarray(model.lower_bounds_),
        "iterations": model.n_iter_,
        "passes": round(float(model.n_passes_), 6),
        "converged": bool(model.converged_),
        "predicted": mean,
        "its spread": std,
        "gate": model.predict_gate(new),
        "experts": model.predict_expert(new),
        "responsibilities": model.responsibilities(x[:20], y[:20]),
        "densities": model.score_samples(x[:20], y[:20]),
        "bic": model.bic(x, y),
        "aic": model.aic(x, y),
        "sample": model.sample(new[:5]),
    }


for gate in ("constant", "dirichlet", "sparse", "softmax", "gaussian"):
    scenario(of_experts, gate=gate, name=f"gate {gate}")
    scenario(
        of_experts, gate=gate, noise="per-expert", weighted=True, n_init=2, name=f"gate {gate}, per-expert"
    )
    scenario(
        of_experts,
        gate=gate,
        targets=2,
        init="auto",
        n_experts=3,
        max_iter=12,
        name=f"gate {gate}, two targets",
    )
    if gate != "sparse":  # its steps are not those of one objective
        scenario(of_experts, gate=gate, accelerate="squarem", tol=1e-8, name=f"gate {gate}, squarem")
for how in ("anderson", "newton"):
    scenario(of_experts, accelerate=how, tol=1e-9, name=f"experts, {how}")
    scenario(of_experts, accelerate=how, gate="softmax", noise="per-expert", tol=1e-9, name=f"softmax, {how}")
scenario(of_experts, fit_intercept=False, name="experts without intercepts")
scenario(of_experts, algorithm="stochastic", max_iter=60, name="experts, stochastic")
scenario(
    of_experts, algorithm="stochastic", max_iter=60, gate="softmax", weighted=True, name="softmax, stochastic"
)
scenario(of_experts, init="random", n_init=3, n_experts=3, max_iter=50, name="experts, random starts")
scenario(of_experts, gate=mixtura.SoftmaxGate(l2=0.01), name="softmax with a penalty")
scenario(of_experts, gate=mixtura.GaussianGate(reg=0.1), name="gaussian gate with a bound")
scenario(
    of_experts,
    gate=mixtura.SparseGate(gamma=0.5, mu=[0.3, 0.3, 0.3]),
    n_experts=3,
    max_iter=60,
    name="sparse gate",
)
scenario(of_experts, gate=mixtura.DirichletGate([2.0, 0.5]), name="dirichlet of unlike concentrations")
scenario(
    of_experts,
    experts=mixtura.LinearExpert(prior_mean=0.5, prior_covariance=0.3),
    name="experts with a prior",
)
scenario(
    of_experts,
    experts=[
        mixtura.LinearExpert(prior_covariance=0.3, optimize=["prior_covariance"]),
        mixtura.LinearExpert(prior_mean=0.1, prior_covariance=0.1, optimize=["prior_mean"]),
    ],
    empirical_bayes=True,
    max_iter=50,
    name="experts with a prior that is learnt",
)
scenario(
    of_experts,
    experts=mixtura.LinearExpert(prior_covariance=0.3),
    prior_link=mixtura.EqualMeans(2.0),
    max_iter=50,
    name="linked experts",
)
scenario(of_experts, rows=9_000, gate="softmax", noise="per-expert", max_iter=20, name="experts, long table")
scenario(of_experts, backend="reference", gate="softmax", max_iter=5, name="experts, reference")


@scenario
def experts_in_blocks() -> Answers:
    model = mixtura.MixtureOfExperts(2, random_state=0)
    for x, y in (planes(300, seed=2), planes(200, seed=2), planes(250, seed=2)):
        model.partial_fit(x, y)
    return {"coefficients": model.coef_, "noise": model.noise_variance_, "weights": model.weights_}


@scenario
def mixturelib_names() -> Answers:
    import torch

    from mixtura.mixturelib.hyper_models import HyperModelDirichlet
    from mixtura.mixturelib.local_models import EachModelLinear
    from mixtura.mixturelib.mixture import MixtureEM

    x, y = planes(100)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y[:, None], dtype=torch.float32)
    models = [EachModelLinear(2, A=torch.ones(2), w=torch.tensor([[s], [-s]])) for s in (1.0, -1.0)]
    mixture = MixtureEM(
        HyperParameters={"beta": torch.tensor(1.0)},
        HyperModel=HyperModelDirichlet(output_dim=2),
        ListOfModels=models,
    )
    mixture.fit(x, y, epoch=10)
    return {"predicted": mixture.predict(x[:20])[0].detach().double().numpy().round(3)}


# ---------------------------------------------------------------------- Bayesian mixtures


def of_bayesian(X: Any = X, weighted: bool = False, **how: Any) -> Answers:
    model = mixtura.BayesianGaussianMixture(**{"n_components": 4, "random_state": 0, "max_iter": 40, **how})
    model.fit(X, sample_weight=weights(len(X)) if weighted else None)
    return {
        "weights": model.weights_,
        "means": model.means_,
        "covariances": model.covariances_,
        "concentrations": np.concatenate([np.ravel(c) for c in np.atleast_1d(model.weight_concentration_)]),
        "degrees of freedom": model.degrees_of_freedom_,
        "mean precisions": model.mean_precision_,
        "bounds": np.asarray(model.lower_bounds_),
        "iterations": model.n_iter_,
        "densities": model.score_samples(X[:30]),
        "predictive": model.predictive(X[:30]),
        "sample": model.sample(5)[0],
    }


for kind in ("full", "tied", "diag", "spherical"):
    scenario(of_bayesian, covariance_type=kind, name=f"bayesian {kind}")
    scenario(
        of_bayesian,
        covariance_type=kind,
        weighted=True,
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=0.1,
        mean_precision_prior=0.5,
        degrees_of_freedom_prior=7.0,
        n_init=2,
        init_params="k-means++",
        name=f"bayesian {kind}, distribution, weighted",
    )


# ---------------------------------------------------------------------- choosing


def of_selection(**how: Any) -> Answers:
    found = mixtura.select(clusters(150, 2, 3, 5.0, 18), **{"n_components": range(1, 4), **how})
    best = found.best_
    return {
        "values": found.values,
        "log-likelihoods": found.log_likelihood,
        "parameters": found.n_parameters,
        "status": found.status.ravel().tolist(),
        "best": [best.covariance_type, str(len(best.weights_))],
        "top": [f"{family} {count}" for family, count, _ in found.top(3)],
    }


scenario(of_selection, name="select")
scenario(of_selection, criterion="icl", covariance_types=["EII", "VVI", "VVE", "VVV"], name="select by ICL")
scenario(
    of_selection,
    nested=True,
    init="kmeans",
    sample_weight=weights(150),
    covariance_types=["EEE", "EVE", "VEV", "VVV"],
    name="select, nested, weighted",
)
scenario(
    of_selection, early=True, criterion="aic", covariance_types=["EEI", "VEE", "EVV"], name="select, early"
)
scenario(of_selection, init="auto", noise=True, covariance_types=["VVI", "VVV"], name="select with noise")


@scenario
def trees() -> Answers:
    X = clusters(120, 3, 4, 3.0, 19)
    found: Answers = {}
    for criterion in ("VVV", "EII"):
        for scaling in ("none", "std", "svd"):
            tree = hierarchical.tree(hierarchical.scaled(X, scaling), criterion)
            found[f"{criterion} {scaling}"] = np.column_stack([tree.labels(k) for k in (2, 3, 5, 9)])
            found[f"{criterion} {scaling} linkage"] = tree.linkage()
    return found


@scenario
def merged() -> Answers:
    X = clusters(300, 2, 3, 2.0, 20)
    model = mixtura.GaussianMixture(6, random_state=0).fit(X)
    merged = mixtura.merge_components(model, X)
    return {
        "steps": np.asarray(merged.steps),
        "entropy": merged.entropy,
        "number": merged.n_clusters,
        "labels": merged.labels(3),
        "probabilities": merged.predict_proba(3)[:20],
        "linkage": merged.linkage(),
    }


@scenario
def tests_of_the_number() -> Answers:
    found = mixtura.bootstrap_lrt(clusters(80, 2, 2, 3.0, 21), range(1, 4), "VVI", n_bootstrap=9, n_threads=1)
    return {
        "statistics": found.statistics,
        "p": found.p_values,
        "chosen": found.chosen,
        "null": found.null[0],
    }


@scenario
def classes() -> Answers:
    X = clusters(240, 2, 4, 2.0, 22)
    y = np.array(["a", "b", "c"])[(np.arange(240) * 7 % 3 + (X[:, 0] > 0)) % 3]
    found: Answers = {}
    for name, how in (
        ("MclustDA", {"n_components": (1, 2)}),
        ("EDDA", {"n_components": 1, "covariance_types": ["EII", "EEE", "VVV"]}),
        ("with priors", {"n_components": 1, "priors": [0.2, 0.3, 0.5]}),
    ):
        model = mixtura.MixtureClassifier(random_state=0, **how).fit(X, y)
        found[name] = model.predict_proba(X[:40])
        found[f"{name}, labels"] = model.predict(X[:10]).tolist()
        found[f"{name}, densities"] = model.score_samples(X[:10])
    return found


# ---------------------------------------------------------------------- densities and derivatives


@scenario
def one_density() -> Answers:
    x = np.concatenate(
        [np.random.default_rng(23).normal(size=150), np.random.default_rng(24).gamma(3.0, size=100) + 2]
    )
    found: Answers = {}
    for k in ("bic", 3):
        density = mixtura.fit_density(x, k)
        at = np.linspace(-3, 9, 25)
        entropy = density.entropy()
        found |= {
            f"{k} weights": density.n_components,
            f"{k} prob": density.prob(at),
            f"{k} cdf": density.cdf(at),
            f"{k} quantiles": density.quantile(np.linspace(0.01, 0.99, 9)),
            f"{k} modes": np.asarray(density.modes()[0]),
            f"{k} intervals": np.asarray(density.highest_density_intervals(0.9)),
            f"{k} level": density.highest_density_level(0.5),
            f"{k} entropy": entropy.value,
            f"{k} mean": density.mean,
            f"{k} variance": density.variance,
            f"{k} sample": density.sample(5, seed=0),
        }
    weighted = mixtura.fit_density(x, 2, sample_weight=weights(len(x)))
    return {**found, "weighted": weighted.prob(np.linspace(-3, 9, 25))}


@scenario
def many_columns() -> Answers:
    X = clusters(200, 3, 3, 2.0, 25)
    model = mixtura.GaussianMixture(3, random_state=0).fit(X)
    other = mixtura.GaussianMixture(2, random_state=0, covariance_type="tied").fit(X)
    mixture, second = (distributions.Mixture.from_estimator(m) for m in (model, other))
    divergence = mixture.kl(second)
    entropy = mixture.entropy()
    regressed, spread = mixture.regress([0], X[:10, :1])
    return {
        "log_prob": mixture.log_prob(X[:20]),
        "modes": np.asarray(mixture.modes()[0]),
        "level": mixture.highest_density_level(0.8),
        "kl": divergence.value,
        "its error": divergence.error,
        "entropy": entropy.value,
        "bounds": [entropy.lower, entropy.upper],
        "conditional": mixture.conditional([0, 2], X[0, [0, 2]]).prob(X[:5, 1:2]),
        "marginal": mixture.marginal([2, 0]).prob(X[:5, [2, 0]]),
        "regress": regressed,
        "its covariance": spread,
        "covariance": mixture.covariance,
        "sample": mixture.sample(4, seed=1),
    }


@scenario
def derivatives() -> Answers:
    X = clusters(60, 2, 2, 2.0, 26)
    found: Answers = {}
    for kind in ("full", "tied", "diag", "spherical"):
        model = mixtura.GaussianMixture(2, random_state=0, covariance_type=kind).fit(X)
        value, gradient = autodiff.value_and_grad(model, X, weights(60))
        direction = np.linspace(-1.0, 1.0, len(gradient))
        found |= {
            f"{kind} value": value,
            f"{kind} gradient": gradient,
            f"{kind} hessian": autodiff.hessian(model, X),
            f"{kind} jvp": autodiff.jvp(model, X, direction),
            f"{kind} vjp": autodiff.vjp(model, X, np.linspace(0.0, 1.0, 60)),
            f"{kind} grad_x": autodiff.grad_x(model, X),
            f"{kind} hessian_x": autodiff.hessian_x(model, X[:10]),
            f"{kind} jacobian": autodiff.jacobian(model, X[:10]),
        }
    x, y = planes(80)
    for gate in ("constant", "softmax"):
        model = mixtura.MixtureOfExperts(2, gate=gate, random_state=0, noise="per-expert").fit(x, y)
        value, gradient = autodiff.value_and_grad(model, x, y=y)
        found |= {f"{gate} gradient": gradient, f"{gate} hessian": autodiff.hessian(model, x, y=y)}
    found["newton"] = autodiff.newton(lambda t: (t - 2.0) * (1.0 + 0.1 * t**4), 1.0)
    found["derivative"] = autodiff.derivative(lambda t: t**3 * 2.0, 1.5, 2)
    return found


@scenario
def errors_of_parameters() -> Answers:
    X = clusters(150, 2, 2, 3.0, 27)
    found: Answers = {}
    for kind in ("full", "tied", "diag", "spherical", "VEE", "EVI"):
        model = mixtura.GaussianMixture(
            2, random_state=0, covariance_type=kind, tol=1e-10, max_iter=2000, reg_covar=0.0
        )
        model.fit(X)
        for method in ("observed", "opg", "sandwich"):
            errors = mixtura.standard_errors(model, X, method)
            found[f"{kind} {method}"] = errors.errors
        found[f"{kind} interval"] = errors.interval(0.9)
    model = mixtura.GaussianMixture(2, random_state=0, tol=1e-8).fit(X)
    errors = mixtura.standard_errors(model, X, "bootstrap", n_bootstrap=9, n_threads=1)
    found["bootstrap"] = errors.errors
    x, y = planes(150)
    experts = mixtura.MixtureOfExperts(2, random_state=0, tol=1e-10).fit(x, y)
    errors = mixtura.standard_errors(experts, x, y=y)
    found["experts"] = errors.errors
    return found


# ---------------------------------------------------------------------- many mixtures, files, pictures


@scenario
def many_mixtures() -> Answers:
    X = clusters(600, 2, 3, 3.0, 28)
    groups = np.arange(600) % 7
    found: Answers = {}
    for kind in ("full", "tied", "diag", "spherical"):
        fitted = mixtura.fit_many(X, groups, 2, covariance_type=kind)
        found |= {
            f"{kind} means": fitted.means,
            f"{kind} covariances": fitted.covariances,
            f"{kind} bounds": fitted.lower_bound,
            f"{kind} iterations": fitted.n_iter,
            f"{kind} status": [fitted.status[i] for i in range(7)],
            f"{kind} labels": fitted.predict(X[:30], groups[:30]),
        }
    return found


@scenario
def written_and_read() -> Answers:
    found: Answers = {}
    x, y = planes(120)
    with TemporaryDirectory() as folder:
        for i, model in enumerate(
            (
                mixtura.GaussianMixture(2, random_state=0).fit(X),
                mixtura.GaussianMixture(2, random_state=0, covariance_type="VEI", noise=True).fit(X),
                mixtura.KMeans(3, random_state=0).fit(X),
                mixtura.BayesianGaussianMixture(n_components=2, random_state=0).fit(X),
                mixtura.MixtureOfExperts(2, gate="softmax", random_state=0).fit(x, y),
                mixtura.MixtureOfExperts(2, gate="gaussian", random_state=0).fit(x, y),
            )
        ):
            for ending in ("safetensors", "json"):
                path = Path(folder) / f"model{i}.{ending}"
                mixtura.save(model, path)
                again = mixtura.load(path)
                rows = x if isinstance(model, mixtura.MixtureOfExperts) else X
                found[f"{i} {ending}"] = again.predict(rows[:30])
            found[f"{i} summary"] = "\n".join(
                line for line in model.summary().splitlines() if not any(c.isdigit() for c in line)
            )
    return found


@scenario
def on_the_command_line() -> Answers:
    from contextlib import redirect_stdout
    from io import StringIO

    from mixtura.cli import main

    found: Answers = {}
    with TemporaryDirectory() as folder:
        model = str(Path(folder) / "model.safetensors")
        for words in (
            ["fit", str(FAITHFUL), "-k", "2", "--json", "-q", "-o", model],
            ["fit", str(FAITHFUL), "-k", "1:3", "--covariance", "EEE", "--json", "-q"],
            ["select", str(FAITHFUL), "-k", "1:3", "--json"],
            ["fit-experts", str(FAITHFUL), "--target", "waiting", "-k", "2", "--json", "-q"],
            ["info", model, "--json"],
        ):
            with redirect_stdout(StringIO()) as out:
                main(words)
            told = json.loads(out.getvalue())
            numbers: dict[str, Any] = {}
            _numbers(told, "", numbers)
            found[" ".join(words[:1] + words[2:4] if words[0] != "info" else words[:1])] = np.array(
                [numbers[key] for key in sorted(numbers)]
            )
        labels = Path(folder) / "labels.csv"
        main(["predict", model, str(FAITHFUL), "--proba", "-o", str(labels)])
        found["predicted"] = np.loadtxt(labels, delimiter=",", skiprows=1)
    return found


def _numbers(told: Any, path: str, into: dict[str, float]) -> None:
    """Numbers of a JSON document by their path, but for times, versions and what names a machine."""
    if isinstance(told, dict):
        for key, value in told.items():
            if not any(word in key for word in ("second", "version", "thread", "time", "bytes")):
                _numbers(value, f"{path}/{key}", into)
    elif isinstance(told, list):
        for i, value in enumerate(told):
            _numbers(value, f"{path}/{i:05d}", into)
    elif isinstance(told, (int, float)) and not isinstance(told, bool):
        into[path] = float(told)


@scenario
def pictures() -> Answers:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    X = clusters(100, 2, 2, 3.0, 29)
    model = mixtura.GaussianMixture(2, random_state=0).fit(X)
    found: Answers = {}
    for name, draw in (
        ("mixture", lambda: plotting.MixtureDisplay.from_estimator(model, X)),
        ("convergence", lambda: plotting.ConvergenceDisplay.from_estimators(model)),
        ("density", lambda: plotting.plot_density(mixtura.fit_density(X[:, 0], 2))),
    ):
        axes = draw().figure_.axes
        drawn = [np.ravel(line.get_xydata()) for a in axes for line in a.lines]
        drawn += [np.ravel(c.get_offsets()) for a in axes for c in a.collections]
        found[name] = np.concatenate([*drawn, [len(axes)]])
        found[f"{name}, limits"] = [[*a.get_xlim(), *a.get_ylim()] for a in axes]
        plt.close("all")
    return found


def _lines(answers: Answers) -> str:
    """JSON of a scenario's answers, a line for each."""
    lines = (f" {json.dumps(key)}: {json.dumps(answers[key])}" for key in sorted(answers))
    return "{\n" + ",\n".join(lines) + "\n}"


def main() -> int:
    write = "--write" in sys.argv[1:]
    record = {} if write or not RECORD.exists() else json.loads(RECORD.read_text())
    if write:
        answers = (f"{json.dumps(name)}: {_lines(answered(name))}" for name in sorted(SCENARIOS))
        RECORD.write_text("{\n" + ",\n".join(answers) + "\n}\n")
        return 0
    lines = [line for name in SCENARIOS for line in changes(name, record)]
    print("\n".join(line[:300] for line in lines) or f"{len(SCENARIOS)} scenarios answer as on record")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
