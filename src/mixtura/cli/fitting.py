"""``mixtura fit`` and ``mixtura fit-experts``: options become an estimator, and its result becomes text and files."""

from __future__ import annotations

import argparse
import glob
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mixtura.cli.arguments import UsageError
from mixtura.cli.groups import fit_groups
from mixtura.cli.tables import check_outputs, fit_data, layout_of, named_columns, note, split, streamed

if TYPE_CHECKING:
    from mixtura.data import Columns, Streamed

# Seconds between checkpoints, unless the user says otherwise.
_EVERY = 60.0

# Rows of a table that is read block by block which a picture shows.
_SHOWN_ROWS = 20_000


def fit(options: argparse.Namespace) -> None:
    """Fit a Gaussian mixture, or one for each group of rows."""
    from mixtura import GaussianMixture
    from mixtura.choosing import by_bic
    from mixtura.components import COMPONENTS

    check_outputs(options)
    if options.noise is not None and options.noise not in COMPONENTS:
        raise UsageError(
            f"--noise {options.noise}: no such component. Known are {', '.join(COMPONENTS)}; files of --extend may "
            "register others"
        )
    if options.by is not None:
        fit_groups(options)
        return
    _check_resumed(options)
    source = streamed(options, ("weights", "labels", "drop_missing"))
    if source is not None:
        table, weights = _as_columns(source), None
    else:
        table, weights = fit_data(options, labels=options.labels)
    labels = None if options.labels is None else table.extra[options.labels]
    parameters = dict(
        covariance_type=options.covariance,
        tol=options.tol,
        reg_covar=options.reg_covar,
        init_params=options.init,
        on_degenerate=options.on_degenerate,
        prior=options.prior,
        order=options.order,
        noise=options.noise,
        algorithm=options.algorithm,
        **_fit_settings(options),
    )
    began = time.perf_counter()
    if isinstance(options.components, list):
        if labels is not None:
            raise UsageError("-k A:B does not go with --labels, which name a number of components")
        model, criteria = by_bic(table.X, options.components, parameters, weights)
        listed = ", ".join(f"{k}: {value:.6g}" for k, value in criteria.items())
        note(f"BIC by number of components: {listed}")
    else:
        model = GaussianMixture(options.components, **parameters)
        model.fit(
            table.X, sample_weight=weights, labels=labels, checkpoint=options.checkpoint, every=options.every
        )
    _finish(options, model, table, time.perf_counter() - began, weights, _mixture_facts, table.X)


def select(options: argparse.Namespace) -> None:
    """Choose a Gaussian mixture by a criterion."""
    from mixtura import save, select
    from mixtura.plotting import SelectionDisplay

    check_outputs(options)
    table, weights = fit_data(options)
    began = time.perf_counter()
    found = select(
        table.X,
        options.components,
        split(options.covariances) or "all",
        options.criterion,
        init=options.init,
        nested=options.nested,
        early=options.early,
        sample_weight=weights,
        tol=options.tol,
        reg_covar=options.reg_covar,
        random_state=options.seed,
        n_threads=options.threads,
    )
    seconds = time.perf_counter() - began
    model = found.best_
    model.feature_names_in_ = np.array(table.names, dtype=object)
    if options.output:
        save(model, options.output)
    if options.plot:
        SelectionDisplay.from_selection(found).figure_.savefig(options.plot)
    if options.json:
        fits = [
            {"covariance": name, "components": k, found.criterion: finite(value), "status": str(status)}
            for name, row, states in zip(found.covariance_types, found.values, found.status, strict=True)
            for k, value, status in zip(found.n_components, row, states, strict=True)
        ]
        print(json.dumps({"best": _mixture_facts(model), "fits": fits, "seconds": seconds}))
        return
    print(found)
    print(f"\n{model.summary()}\n\nselected in {seconds:.3g} s")
    for path in (options.output, options.plot):
        if path:
            print(f"wrote {path}")


def fit_experts(options: argparse.Namespace) -> None:
    """Fit a mixture of regressions or of experts."""
    from mixtura import LinearExpert, MixtureOfExperts

    check_outputs(options)
    targets = _targets(options)
    if not targets:
        raise UsageError("--target names no column")
    for name in targets:
        if targets.count(name) > 1 or name == options.weights or name in (named_columns(options) or ()):
            raise UsageError(f"column {name!r} is asked for twice: a target is nothing else")
    _check_resumed(options)
    table, weights, y = _experts_data(options, targets)
    prior = options.prior_variance
    model = MixtureOfExperts(
        options.experts,
        experts=None if prior is None else LinearExpert(prior_covariance=prior),
        gate=options.gate,
        noise=options.noise,
        fit_intercept=not options.no_intercept,
        tol=options.tol,
        init=options.init,
        **_fit_settings(options),
    )
    y = y[:, 0] if len(targets) == 1 else y
    began = time.perf_counter()
    model.fit(table.X, y, sample_weight=weights, checkpoint=options.checkpoint, every=options.every)
    _finish(options, model, table, time.perf_counter() - began, weights, _experts_facts, table.X, y)


def _as_columns(source: Streamed) -> Columns:
    """A table that is read block by block, with the names of its columns."""
    from mixtura.data import Columns

    names = source.names or [f"x{j}" for j in range(source.shape[1])]
    return Columns(names, source, {})  # type: ignore[arg-type]


def _experts_data(options: argparse.Namespace, targets: list[str]) -> tuple[Columns, Any, Any]:
    """The table, the weights, and the targets (N, M), which are in memory also where the table is not."""
    source = streamed(options, ("weights", "drop_missing"), targets)
    if source is None:
        table, weights = fit_data(options, targets)
        return table, weights, np.column_stack([table.extra[name] for name in targets])
    from mixtura.data import as_source

    answers = as_source(options.data, columns=targets, layout=layout_of(options))
    y = np.empty(answers.shape, dtype=answers.dtype)
    for start, block in answers.blocks(reuse=True):
        y[start : start + len(block)] = block
    return _as_columns(source), None, y


def _check_resumed(options: argparse.Namespace) -> None:
    """Check that a checkpoint is there if the fit is to go on from it, and only then."""
    if options.every is None:
        options.every = _EVERY
    elif options.checkpoint is None:
        raise UsageError("--every needs --checkpoint FILE, which is written so often")
    if getattr(options, "scheduler", None) is not None and options.engine is None:
        raise UsageError("--scheduler needs --engine dask, whose workers it names")
    if options.checkpoint is None:
        if options.resume:
            raise UsageError("--resume needs --checkpoint FILE, from which the fit goes on")
        return
    if isinstance(getattr(options, "components", None), list):
        raise UsageError("-k A:B does not go with --checkpoint, which is of one fit")
    exists = os.path.exists(options.checkpoint)
    if options.resume and not exists:
        raise UsageError(f"--resume: there is no checkpoint {options.checkpoint}")
    if exists and not options.resume:
        raise UsageError(f"{options.checkpoint} exists: --resume goes on from it; or remove it to start anew")


def _fit_settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "max_iter": options.max_iter,
        "n_init": options.n_init,
        "accelerate": options.accelerate,
        "on_interrupt": "keep" if options.keep_on_interrupt else "raise",
        "random_state": options.seed,
        "verbose": 0 if options.quiet or not sys.stderr.isatty() else 1,
        "backend": options.backend,
        "n_threads": options.threads,
        "precision": options.precision,
    }


def _targets(options: argparse.Namespace) -> list[str]:
    """The target columns: each --target is the name of a column, or a list of names with commas between them."""
    from mixtura.data import column_names

    names: list[str] = []
    first = (
        min(glob.glob(options.data, recursive=True), default=options.data)
        if glob.has_magic(options.data)
        else options.data
    )
    for text in options.target:
        is_column = "," in text and text.strip() in column_names(first, layout_of(options))
        names += [text.strip()] if is_column else split(text) or []
    return names


def _finish(
    options: argparse.Namespace,
    model: Any,
    table: Columns,
    seconds: float,
    weights: Any,
    facts: Callable[[Any], dict[str, Any]],
    *data: Any,
) -> None:
    """Save the model, draw it, and print the result."""
    from mixtura import save

    model.set_params(verbose=0)
    rows = len(table.X)
    per_row = model._log_likelihood_per_row(*data, weights)  # of rows without names, as those of the fit
    model.feature_names_in_ = np.array(table.names, dtype=object)
    rate = rows * max(model.n_iter_, 1) / seconds
    result = {
        **facts(model),
        "log_likelihood_per_row": finite(per_row),
        "parameters": model._n_parameters(),
        "iterations": model.n_iter_,
        "converged": model.converged_,
        "backend": model.backend_,
        "rows": rows,
        "log_likelihood": finite(per_row * (rows if weights is None else float(weights.sum()))),
        "seconds": seconds,
        "rows_per_second_and_iteration": rate,
    }
    if options.output:
        save(model, options.output)
    if options.plot:
        from mixtura.plotting import save_picture

        save_picture(model, *(shown(rows) for rows in data), path=options.plot)
    if options.json:
        print(json.dumps(result))
        return
    print(model.summary())
    print(f"\nfitted in {seconds:.3g} s: {rate:.3g} rows per second and iteration, initialisation included")
    for path in (options.output, options.plot):
        if path:
            print(f"wrote {path}")


def shown(rows: Any) -> Any:
    """Rows for a picture: of a table that is read block by block, a sample."""
    from mixtura.data import Streamed

    if isinstance(rows, Streamed):
        return rows[np.linspace(0, len(rows) - 1, min(len(rows), _SHOWN_ROWS)).astype(np.int64)]
    return rows


def finite(value: float) -> float | None:
    """A finite number, or None: JSON has no infinity, which is the bound of a fit without iterations."""
    return value if math.isfinite(value) else None


def _mixture_facts(model: Any) -> dict[str, Any]:
    """A fitted mixture as plain numbers."""
    return {
        "class": type(model).__name__,
        "components": len(model.weights_),
        "covariance": model._covariance.name,
        "columns": [str(n) for n in getattr(model, "feature_names_in_", [])],
        "weights": model.weights_.tolist(),
        "means": model.means_.tolist(),
        "covariances": model.covariances_.tolist(),
        **({"noise_weight": model.noise_weight_} if model._has_noise else {}),
    }


def _experts_facts(model: Any) -> dict[str, Any]:
    """A fitted mixture of experts as plain numbers."""
    return {
        "class": type(model).__name__,
        "experts": len(model.weights_),
        "gate": model.gate_.name,
        "columns": [str(n) for n in getattr(model, "feature_names_in_", [])],
        "weights": model.weights_.tolist(),
        "coefficients": model.coef_.tolist(),
        "intercepts": model.intercept_.tolist(),
        "noise_variances": model.noise_variance_.tolist(),
    }
