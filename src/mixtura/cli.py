"""The command line: ``mixtura fit | fit-experts | predict | info | config``.

Errors that the user can correct end with exit code 2 and one line on standard error.
"""

from __future__ import annotations

import argparse
import glob
import importlib
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixtura.cli_arguments import UsageError, extended, fail, parser_of_commands

if TYPE_CHECKING:
    from mixtura.data import Columns, Streamed, TextLayout

# Size of a file from which on it is read block by block, and rows of it that a picture shows.
_STREAMED_BYTES = 1 << 30
_SHOWN_ROWS = 20_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, default: those of the process

    Returns
    -------
    int
        0 after success; 2 after an error, which is reported in one line on standard error.
    """
    try:
        remaining = extended(arguments)  # first, since the parser lists the registered parts
        options = parser_of_commands().parse_args(remaining)
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}")
    except UsageError as error:
        return fail(str(error))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = _show_warning
            _COMMANDS[options.command](options)
    except BrokenPipeError:
        # The reader of the output has closed it. That is not an error, but nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("mixtura: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return fail(message)
    except (ValueError, ImportError, MemoryError, TypeError) as error:
        return fail(str(error) or type(error).__name__)
    return 0


def _note(text: str) -> None:
    print("mixtura: note: " + " ".join(text.split()), file=sys.stderr)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print("mixtura: warning: " + " ".join(str(message).split()), file=sys.stderr)


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [c.strip() for c in text.split(",") if c.strip()]


def _columns(options: argparse.Namespace) -> list[str] | None:
    """The columns that --columns and --column name; None if neither option is given."""
    named = [*(_split(options.columns) or ()), *(c.strip() for c in options.column or ())]
    return None if options.columns is None and options.column is None else named


def _layout(options: argparse.Namespace) -> TextLayout:
    """The layout of a text file, from the options."""
    from mixtura.data import TextLayout

    separator = {"tab": "\t", "\\t": "\t"}.get(options.separator, options.separator)
    return TextLayout(options.header, separator, options.decimal)


def _read(
    options: argparse.Namespace,
    columns: Sequence[str] | None,
    beside: Sequence[str] = (),
    may_be_empty: bool = False,
    optional: Sequence[str] = (),
) -> tuple[Columns, NDArray[np.bool_]]:
    """The table, whose values are finite but for those of optional columns, and which of the file's rows it holds."""
    from mixtura.data import read_table
    from mixtura.estimators.validation import check_finite

    table = read_table(options.data, columns, beside, layout=_layout(options), numeric=options.numeric)
    for note in table.notes:
        _note(note)
    unknown = {name: table.extra[name] for name in optional}
    table = replace(table, extra={n: c for n, c in table.extra.items() if n not in unknown})
    kept = table.complete()
    if options.drop_missing:
        if not kept.any() and not may_be_empty:
            raise UsageError(f"{options.data}: every row has a missing value; --columns leaves columns out")
        if not kept.all():
            _note(f"{options.data}: left out {np.sum(~kept)} of {len(kept)} rows, which have missing values")
        extra = {name: column[kept] for name, column in table.extra.items()}
        table = replace(table, X=table.X[kept], extra=extra)
        unknown = {name: column[kept] for name, column in unknown.items()}
    try:
        check_finite(table.X, table.names)
        for name, column in table.extra.items():
            check_finite(column[:, None], [name], "table")
    except ValueError as error:
        hint = (
            ""
            if kept.all() or options.drop_missing
            else " --drop-missing leaves out the rows with missing values."
        )
        raise UsageError(f"{error}{hint}") from error
    table = replace(table, extra={**table.extra, **unknown})
    return table, kept if options.drop_missing else np.ones(len(table.X), dtype=bool)


def _check_output(path: str | None, *endings: str, beside: Sequence[str | None] = ()) -> None:
    """Raise UsageError, before any work, if a file cannot be written or is one of the other files of the command."""
    from mixtura.files import partial_name

    if path is None:
        return
    if endings and not path.lower().endswith(endings):
        raise UsageError(f"{path!r}: write to a file that ends in {' or '.join(endings)}")
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise UsageError(f"{path}: there is no directory {folder}")
    if (
        not path
        or os.path.isdir(target)
        or not os.access(target if os.path.exists(target) else folder, os.W_OK)
    ):
        raise UsageError(f"{path!r} cannot be written")
    if len(os.path.basename(partial_name(target)).encode()) > os.pathconf(folder, "PC_NAME_MAX"):
        raise UsageError(f"{path}: the name is too long")
    for other in beside:
        if other is not None and os.path.realpath(other) == target:
            raise UsageError(f"{path} is named twice: writing it would overwrite the other")


def _check_outputs(options: argparse.Namespace) -> None:
    """Check, before any work, that model and picture can be written; a picture without a name gets one."""
    if options.plot == "":
        options.plot = f"{Path(options.data).stem}.png"
    _check_output(options.output, beside=[options.data, options.plot])
    _check_output(options.plot, ".png", ".pdf", ".svg", beside=[options.data])
    if options.plot:
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise ImportError("--plot needs matplotlib: pip install 'mixtura[plot]'") from error


def _fit_data(
    options: argparse.Namespace, targets: Sequence[str] = (), labels: str | None = None
) -> tuple[Columns, Any]:
    """The table, which also holds targets and weights as extra columns, and the checked weights."""
    from mixtura.estimators.validation import check_weights

    optional = [] if labels is None else [labels]
    beside = [*targets, *([] if options.weights is None else [options.weights]), *optional]
    if labels is not None and labels in (options.weights, *(_columns(options) or ())):
        raise UsageError(f"column {labels!r} is asked for twice: labels are nothing else")
    table, _ = _read(options, _columns(options), beside, optional=optional)
    weights = None if options.weights is None else check_weights(table.extra[options.weights], table.X)
    return table, weights


def _source(options: argparse.Namespace, refused: Sequence[str]) -> Streamed | None:
    """The table as one that is read block by block, if it is several files or a large one; else None."""
    several = glob.has_magic(options.data)
    large = (
        options.data.lower().endswith((".parquet", ".npy", ".arrow"))
        and os.path.isfile(options.data)
        and os.path.getsize(options.data) >= _STREAMED_BYTES
    )
    asked = [f"--{name.replace('_', '-')}" for name in refused if getattr(options, name, None)]
    engine = getattr(options, "engine", None)
    if not several and engine is None and (not large or asked):
        return None
    if asked:
        raise UsageError(
            f"{', '.join(asked)} cannot be used with several files, which are read block by block"
        )
    from mixtura.data import as_source

    client = None if engine is None else _client(options.scheduler)
    source = as_source(options.data, columns=_columns(options), engine=client)
    _note(f"{len(source):,} rows are read block by block")
    return source


def _client(address: str | None) -> Any:
    """A client of Dask's scheduler."""
    if address is None:
        raise UsageError("--engine dask needs --scheduler ADDRESS, such as tcp://host:8786")
    try:
        client = importlib.import_module("distributed").Client
    except ImportError as error:
        raise ImportError("--engine dask needs distributed: pip install 'mixtura[dask]'") from error
    try:
        return client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise UsageError(f"--scheduler {address}: no scheduler answers there ({error})") from error


def _check_resumed(options: argparse.Namespace) -> None:
    """Check that a checkpoint is there if the fit is to go on from it, and only then."""
    if options.checkpoint is None:
        if options.resume:
            raise UsageError("--resume needs --checkpoint FILE, from which the fit goes on")
        return
    if options.components == "bic":
        raise UsageError("-k bic does not go with --checkpoint, which is of one fit")
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


def _fit(options: argparse.Namespace) -> None:
    from mixtura import GaussianMixture
    from mixtura.choosing import MOST_COMPONENTS, by_bic
    from mixtura.components import COMPONENTS

    _check_outputs(options)
    if options.noise is not None and options.noise not in COMPONENTS:
        known = ", ".join(COMPONENTS) or "none"
        raise UsageError(f"--noise {options.noise}: no such component. Files of --extend registered: {known}")
    if options.by is not None:
        _fit_groups(options)
        return
    _check_resumed(options)
    source = _source(options, ("weights", "labels", "drop_missing"))
    if source is not None:
        from mixtura.data import Columns

        names = source.names or [f"x{j}" for j in range(source.shape[1])]
        table, weights = Columns(names, source, {}), None  # type: ignore[arg-type]
    else:
        table, weights = _fit_data(options, labels=options.labels)
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
    if options.components == "bic":
        if labels is not None:
            raise UsageError("-k bic does not go with --labels, which name a number of components")
        model, criteria = by_bic(table.X, range(1, MOST_COMPONENTS + 1), parameters, weights)
        listed = ", ".join(f"{k}: {value:.6g}" for k, value in criteria.items())
        _note(f"BIC by number of components: {listed}")
    else:
        model = GaussianMixture(options.components, **parameters)
        model.fit(
            table.X, sample_weight=weights, labels=labels, checkpoint=options.checkpoint, every=options.every
        )
    _finish(options, model, table, time.perf_counter() - began, weights, _mixture_facts, table.X)


def _fit_groups(options: argparse.Namespace) -> None:
    """Fit a mixture to each group of rows."""
    from mixtura import fit_many

    refused = ("weights", "labels", "checkpoint", "prior", "noise", "plot")
    asked = [f"--{name}" for name in refused if getattr(options, name)]
    if asked or options.components == "bic":
        raise UsageError(f"--by does not go with {', '.join(asked) or '-k bic'}")
    named = _columns(options)
    options.numeric = options.numeric or named is None  # the groups may be text
    table, kept = _read(options, named)
    groups = _group_column(options.data, options.by)[kept]
    X, names = table.X, table.names
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
        reg_covar=1e-6 if options.reg_covar == "auto" else options.reg_covar,
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


def _group_column(path: str, name: str) -> NDArray[Any]:
    """A column of numbers or of text."""
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError as error:
        raise ImportError("--by needs pyarrow: pip install 'mixtura[io]'") from error
    try:
        if path.lower().endswith(".parquet"):
            column = parquet.read_table(path, columns=[name]).column(name)
        else:
            column = csv.read_csv(path, convert_options=csv.ConvertOptions(include_columns=[name])).column(
                name
            )
    except (pyarrow.ArrowInvalid, KeyError) as error:
        raise UsageError(f"--by {name}: {path} has no such column, or cannot be read ({error})") from error
    if column.null_count:
        raise UsageError(
            f"--by {name}: the column has {column.null_count} missing values; every row needs a group"
        )
    values: NDArray[Any] = column.to_numpy()
    return values.astype(str) if values.dtype == object else values


def _fit_experts(options: argparse.Namespace) -> None:
    from mixtura import LinearExpert, MixtureOfExperts

    _check_outputs(options)
    targets = _targets(options)
    if not targets:
        raise UsageError("--target names no column")
    for name in targets:
        if targets.count(name) > 1 or name == options.weights or name in (_columns(options) or ()):
            raise UsageError(f"column {name!r} is asked for twice: a target is nothing else")
    table, weights = _fit_data(options, targets)
    y = np.column_stack([table.extra[name] for name in targets])
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
    model.fit(table.X, y, sample_weight=weights)
    _finish(options, model, table, time.perf_counter() - began, weights, _experts_facts, table.X, y)


def _targets(options: argparse.Namespace) -> list[str]:
    """The target columns: each --target is the name of a column, or a list of names with commas between them."""
    from mixtura.data import column_names

    names: list[str] = []
    for text in options.target:
        is_column = "," in text and text.strip() in column_names(options.data, _layout(options))
        names += [text.strip()] if is_column else _split(text) or []
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
    model.feature_names_in_ = np.array(table.names, dtype=object)
    rate = rows * max(model.n_iter_, 1) / seconds
    result = {
        **facts(model),
        "log_likelihood_per_row": _finite(model.lower_bound_),
        "parameters": model._n_parameters(),
        "iterations": model.n_iter_,
        "converged": model.converged_,
        "backend": model.backend_,
        "rows": rows,
        "log_likelihood": _finite(model.lower_bound_ * (rows if weights is None else float(weights.sum()))),
        "seconds": seconds,
        "rows_per_second_and_iteration": rate,
    }
    if options.output:
        save(model, options.output)
    if options.plot:
        from mixtura.plotting import save_picture

        save_picture(model, *(_shown(rows) for rows in data), path=options.plot)
    if options.json:
        print(json.dumps(result))
        return
    print(model.summary())
    print(f"\nfitted in {seconds:.3g} s: {rate:.3g} rows per second and iteration, initialisation included")
    for path in (options.output, options.plot):
        if path:
            print(f"wrote {path}")


def _shown(rows: Any) -> Any:
    """Rows for a picture: of a table that is read block by block, a sample."""
    from mixtura.data import Streamed

    if isinstance(rows, Streamed):
        return rows[np.linspace(0, len(rows) - 1, min(len(rows), _SHOWN_ROWS)).astype(np.int64)]
    return rows


def _finite(value: float) -> float | None:
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


def _predict(options: argparse.Namespace) -> None:
    from mixtura import load

    _check_output(options.output, ".csv", ".parquet", ".npy", beside=[options.data, options.model])
    model = load(options.model)
    if options.proba and not model._gives_probabilities:
        raise UsageError(f"{options.model} holds a {type(model).__name__}, which has no probabilities")
    columns = _columns(options)
    if columns is None and hasattr(model, "feature_names_in_"):
        columns = [str(n) for n in model.feature_names_in_]
    model.__dict__.pop("feature_names_in_", None)  # the columns are chosen by name here
    options.columns = options.columns if columns is None else ",".join(columns)
    if glob.has_magic(options.data) and options.output.lower().endswith(".npy"):
        raise UsageError(f"{options.output}: predictions of several files are written to .csv or .parquet")
    source = None if options.output.lower().endswith(".npy") else _source(options, ("drop_missing",))
    if source is not None:
        _write_blocks(options.output, model, source, options.proba)
        print(f"wrote {len(source)} rows to {options.output}")
        return
    table, kept = _read(options, columns, may_be_empty=True)
    # If there are no rows, predict one row of zeros to get the names and types of the columns.
    X = table.X if kept.any() else np.zeros((1, len(table.names)))
    answers = {name: values[: kept.sum()] for name, values in model._answers(X, options.proba).items()}
    _write(options.output, list(answers), list(answers.values()), kept)
    print(f"wrote {len(kept)} rows to {options.output}")


def _write_blocks(path: str, model: Any, source: Streamed, proba: bool) -> None:
    """Write the answers about a table that is read block by block, as they come."""
    from mixtura.files import write_whole

    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError as error:
        raise ImportError(f"writing {path} needs pyarrow: pip install 'mixtura[io]'") from error

    def write(name: str) -> None:
        writer: Any = None
        for _, block in source.blocks():
            answers = pyarrow.table(
                {key: pyarrow.array(v) for key, v in model._answers(block, proba).items()}
            )
            if writer is None and path.lower().endswith(".csv"):
                writer = csv.CSVWriter(
                    name, answers.schema, write_options=csv.WriteOptions(quoting_style="none")
                )
            elif writer is None:
                writer = parquet.ParquetWriter(name, answers.schema)
            writer.write_table(answers)
        writer.close()

    write_whole(path, write)


def _write(path: str, names: list[str], values: list[Any], kept: NDArray[np.bool_]) -> None:
    """Write columns to a file, with empty cells for rows that were not kept (NaN in .npy)."""
    from mixtura.files import write_whole

    if path.lower().endswith(".npy"):
        array = values[0] if len(values) == 1 else np.column_stack(values)
        if not kept.all():
            predictions, array = array, np.full((len(kept), *array.shape[1:]), np.nan)
            array[kept] = predictions

        def write(name: str) -> None:
            with open(name, "wb") as file:
                np.save(file, array)

    else:
        try:
            import pyarrow
            from pyarrow import csv, parquet
        except ImportError as error:
            raise ImportError(f"writing {path} needs pyarrow: pip install 'mixtura[io]'") from error
        columns = [pyarrow.array(column) for column in values]
        if not kept.all():
            places = np.cumsum(kept) - 1
            places = pyarrow.array(np.maximum(places, 0), mask=~kept)  # a masked index gives null
            columns = [column.take(places) for column in columns]
        table = pyarrow.table(dict(zip(names, columns, strict=True)))

        def write(name: str) -> None:
            if path.lower().endswith(".csv") and len(names) == 1 and not kept.all():
                # Many readers skip an empty line, but not a line with a quoted empty cell.
                lines = (names[0], *('""' if v is None else str(v) for v in columns[0].to_pylist()))
                Path(name).write_text("\n".join(lines) + "\n")
            elif path.lower().endswith(".csv"):
                csv.write_csv(table, name, csv.WriteOptions(quoting_style="none"))
            else:
                parquet.write_table(table, name)

    write_whole(path, write)


def _info(options: argparse.Namespace) -> None:
    from mixtura import load
    from mixtura.persistence import read_header

    header = read_header(options.model)
    if options.json:
        print(json.dumps(header))
        return
    print(load(options.model).summary())
    print(f"\nwritten by mixtura {header['version']}, format {header['format']}")


def _config(options: argparse.Namespace) -> None:
    from mixtura.config import config, format_config

    print(json.dumps(config()) if options.json else format_config(config()))


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "fit": _fit,
    "fit-experts": _fit_experts,
    "predict": _predict,
    "info": _info,
    "config": _config,
}
