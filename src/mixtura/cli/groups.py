"""``mixtura fit --by`` and ``mixtura predict --by``: a mixture of its own for each group of rows."""

from __future__ import annotations

import argparse
import glob
import json
import time
from dataclasses import replace

import numpy as np

from mixtura.cli.arguments import UsageError
from mixtura.cli.tables import group_column, named_columns, read, write

# Options that one native call for all groups does not have, and the only values that it has of others.
_REFUSED = (
    *("weights", "labels", "checkpoint", "prior", "noise", "plot", "order", "accelerate", "engine"),
    *("keep_on_interrupt", "scheduler", "every"),
)
_ONLY: dict[str, tuple[object, ...]] = {
    "n_init": (1,),
    "algorithm": ("em",),
    "on_degenerate": ("raise",),
    "init": ("auto",),
    "precision": ("exact",),
    "backend": ("auto", "native"),
}


def fit_groups(options: argparse.Namespace) -> None:
    """Fit a mixture to each group of rows."""
    from mixtura import fit_many

    asked = [f"--{name.replace('_', '-')}" for name in _REFUSED if getattr(options, name)]
    asked += [
        f"--{name.replace('_', '-')} {getattr(options, name)}"
        for name, values in _ONLY.items()
        if getattr(options, name) not in values
    ]
    if options.reg_covar == "auto":
        asked.append("--reg-covar auto")
    if glob.has_magic(options.data):
        asked.append("several files")
    if asked or isinstance(options.components, list):
        raise UsageError(f"--by does not go with {', '.join(asked) or '-k A:B'}")
    named = named_columns(options)
    options.numeric = options.numeric or named is None  # the groups may be text
    of_row, there = group_column(options)
    table, kept = read(options, named)
    X, names = table.X[there[kept]], table.names
    groups = of_row[kept & there]
    if named is None and options.by in names:  # a column of numbers, which is no feature
        X = np.delete(X, names.index(options.by), axis=1)
        names = [name for name in names if name != options.by]
    began = time.perf_counter()
    many = fit_many(
        X,
        groups,
        options.components,
        covariance_type=options.covariance,
        tol=options.tol,
        reg_covar=options.reg_covar,
        max_iter=options.max_iter,
        random_state=options.seed,
        n_threads=options.threads,
    )
    many = replace(many, columns=names)
    seconds = time.perf_counter() - began
    if options.output:
        many.save(options.output)
    failed = int(np.sum(~many.fitted))
    if options.json:
        print(json.dumps({"groups": len(many), "failed": failed, "rows": len(X), "seconds": seconds}))
        return
    print(f"{len(many)} groups, {failed} failed, {len(X)} rows in {seconds:.3g} s")
    for group, reason in zip(many.groups[~many.fitted][:10], many.reason[~many.fitted], strict=False):
        print(f"  {group}: {reason}")
    if options.output:
        print(f"wrote {options.output}")


def predict_groups(options: argparse.Namespace) -> None:
    """Write the component of each row in the mixture of its group."""
    from mixtura.many import ManyMixtures

    if options.by is None:
        raise UsageError(
            f"{options.model} holds a mixture for each group: --by COLUMN names the rows' groups"
        )
    if options.proba:
        raise UsageError("--proba does not go with --by")
    many = ManyMixtures.load(options.model)
    of_row, there = group_column(options)
    table, kept = read(options, named_columns(options) or many.columns, may_be_empty=True)
    X, kept = table.X[there[kept]], kept & there
    groups = of_row[kept]
    unknown = set(np.unique(groups).tolist()) - set(many.groups.tolist())
    if unknown:
        raise UsageError(
            f"--by {options.by}: {len(unknown)} groups have no mixture in {options.model}, such as {min(unknown)!r}"
        )
    labels = many.predict(X, groups) if kept.any() else np.zeros(0, dtype=np.int32)
    write(options.output, ["label"], [labels], kept)
    print(f"wrote {len(kept)} rows to {options.output}")


def describe_groups(options: argparse.Namespace) -> None:
    """Print what a file of many mixtures holds."""
    from mixtura.many import ManyMixtures

    many = ManyMixtures.load(options.model)
    G, K = many.weights.shape
    facts = {
        "groups": G,
        "failed": int(np.sum(~many.fitted)),
        "components": K,
        "columns": many.columns,
        "covariance": many.covariance_type,
        "rows": int(many.n_rows.sum()),
    }
    if options.json:
        print(json.dumps(facts))
        return
    print(
        f"{G} mixtures of {K} Gaussians, covariance {many.covariance_type!r}, columns {', '.join(many.columns)}"
    )
    print(f"{facts['rows']} rows, {facts['failed']} groups failed")
