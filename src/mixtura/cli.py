"""The command line: ``mixtura fit | predict | info | config``.

Errors that the user can mend end with exit code 2 and one line on standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np


class _Parser(argparse.ArgumentParser):
    """Tells of a wrong command in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_fail(f"{message} (see {self.prog} --help)"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mixtura", description="Mixture models at the speed of the machine.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="fit a Gaussian mixture to a table", allow_abbrev=False)
    fit.add_argument("data", metavar="DATA", help="table: .csv, .parquet or .npy")
    fit.add_argument("-k", "--components", type=int, required=True, metavar="K", help="number of components")
    fit.add_argument(
        "--covariance", choices=["full", "tied", "diag", "spherical"], default="full", help="default: full"
    )
    fit.add_argument("--columns", metavar="A,B,...", help="columns to use (default: all but the weights)")
    fit.add_argument("--weights", metavar="COLUMN", help="column that holds the rows' weights")
    fit.add_argument("--seed", type=int, default=0, help="seed of the initialisation (default: 0)")
    fit.add_argument("--n-init", type=int, default=1, metavar="N", help="initialisations; the best is kept")
    fit.add_argument(
        "--max-iter", type=int, default=100, metavar="N", help="most EM iterations (default: 100)"
    )
    fit.add_argument(
        "--tol", type=float, default=1e-3, help="least gain per row that goes on (default: 1e-3)"
    )
    fit.add_argument("--reg-covar", type=float, default=1e-6, help="added to variances (default: 1e-6)")
    fit.add_argument("--backend", default="auto", help="auto, native, numba or reference (default: auto)")
    fit.add_argument("--threads", type=int, metavar="N", help="most threads (default: all processors)")
    fit.add_argument("-o", "--output", metavar="MODEL", help="model file to write (.safetensors)")
    fit.add_argument("--plot", metavar="FILE", help="picture to write (.png, .pdf, .svg)")
    fit.add_argument("--json", action="store_true", help="print the result as JSON")
    fit.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    fit.set_defaults(run=_fit)

    predict = commands.add_parser("predict", help="label the rows of a table", allow_abbrev=False)
    predict.add_argument("model", metavar="MODEL", help="model file")
    predict.add_argument("data", metavar="DATA", help="table: .csv, .parquet or .npy")
    predict.add_argument("--columns", metavar="A,B,...", help="columns to use (default: those of the model)")
    predict.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="labels: .csv, .parquet or .npy"
    )
    predict.add_argument("--proba", action="store_true", help="also the probability of each component")
    predict.set_defaults(run=_predict)

    info = commands.add_parser("info", help="print what a model file holds", allow_abbrev=False)
    info.add_argument("model", metavar="MODEL", help="model file")
    info.add_argument("--json", action="store_true", help="print as JSON")
    info.set_defaults(run=_info)

    config = commands.add_parser("config", help="print backends, threads and versions", allow_abbrev=False)
    config.add_argument("--json", action="store_true", help="print as JSON")
    config.set_defaults(run=_config)
    return parser


class UsageError(ValueError):
    """A wish that cannot be granted as it stands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, default: those of the process

    Returns
    -------
    int
        0; 2 after an error, told in one line on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = _show_warning
            options.run(options)
    except BrokenPipeError:
        # The reader of our output has gone: not an error, and nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("mixtura: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return _fail(what)
    except (ValueError, ImportError, MemoryError, TypeError) as error:
        return _fail(str(error) or type(error).__name__)
    return 0


def _fail(message: str) -> int:
    print("mixtura: error: " + " ".join(message.split()), file=sys.stderr)
    return 2


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print("mixtura: warning: " + " ".join(str(message).split()), file=sys.stderr)


def _columns(text: str | None) -> list[str] | None:
    return None if text is None else [c.strip() for c in text.split(",") if c.strip()]


def _check_output(path: str | None, *endings: str, beside: Sequence[str | None] = ()) -> None:
    """Refuse, before any work, a place that cannot be written to, or that holds one of the other files."""
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


def _fit(options: argparse.Namespace) -> None:
    from mixtura import GaussianMixture, save
    from mixtura.data import read_table
    from mixtura.estimators.validation import check_finite, check_weights

    _check_output(options.output, beside=[options.data, options.plot])
    _check_output(options.plot, ".png", ".pdf", ".svg", beside=[options.data])
    if options.plot:
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise ImportError("--plot needs matplotlib: pip install 'mixtura[plot]'") from error
    table = read_table(
        options.data, _columns(options.columns), [] if options.weights is None else [options.weights]
    )
    check_finite(table.X, table.names)
    weights = None if options.weights is None else check_weights(table.extra[options.weights], table.X)
    model = GaussianMixture(
        options.components,
        covariance_type=options.covariance,
        tol=options.tol,
        reg_covar=options.reg_covar,
        max_iter=options.max_iter,
        n_init=options.n_init,
        random_state=options.seed,
        verbose=0 if options.quiet or not sys.stderr.isatty() else 1,
        backend=options.backend,
        n_threads=options.threads,
    )
    began = time.perf_counter()
    model.fit(table.X, sample_weight=weights)
    seconds = time.perf_counter() - began
    model.set_params(verbose=0)
    rows = len(table.X)
    model.feature_names_in_ = np.array(table.names, dtype=object)
    result = {
        **_facts(model),
        "rows": rows,
        "log_likelihood": _finite(model.lower_bound_ * (rows if weights is None else float(weights.sum()))),
        "seconds": seconds,
        "rows_per_second_and_iteration": rows * max(model.n_iter_, 1) / seconds,
    }
    if options.output:
        save(model, options.output)
    if options.plot:
        from mixtura.plotting import save_picture

        save_picture(model, table.X, options.plot)
    if options.json:
        print(json.dumps(result))
        return
    print(model.summary())
    rate = rows * max(model.n_iter_, 1) / seconds
    print(f"\nfitted in {seconds:.3g} s: {rate:.3g} rows per second and iteration, initialisation included")
    for path in (options.output, options.plot):
        if path:
            print(f"wrote {path}")


def _finite(value: float) -> float | None:
    """A number as JSON has it: a fit without iterations has no likelihood."""
    return value if math.isfinite(value) else None


def _facts(model: Any) -> dict[str, Any]:
    """A fitted mixture as plain numbers."""
    return {
        "class": type(model).__name__,
        "components": len(model.weights_),
        "covariance": model.covariance_type,
        "columns": [str(n) for n in getattr(model, "feature_names_in_", [])],
        "weights": model.weights_.tolist(),
        "means": model.means_.tolist(),
        "covariances": model.covariances_.tolist(),
        "log_likelihood_per_row": _finite(model.lower_bound_),
        "parameters": model._n_parameters(),
        "iterations": model.n_iter_,
        "converged": model.converged_,
        "backend": model.backend_,
    }


def _predict(options: argparse.Namespace) -> None:
    from mixtura import load
    from mixtura.data import read_table
    from mixtura.estimators.validation import check_finite

    _check_output(options.output, ".csv", ".parquet", ".npy", beside=[options.data, options.model])
    model = load(options.model)
    if options.proba and not hasattr(model, "predict_proba"):
        raise UsageError(f"{options.model} holds a {type(model).__name__}, which has no probabilities")
    columns = _columns(options.columns)
    if columns is None and hasattr(model, "feature_names_in_"):
        columns = [str(n) for n in model.feature_names_in_]
    model.__dict__.pop("feature_names_in_", None)  # the columns are chosen by name here
    table = read_table(options.data, columns)
    check_finite(table.X, table.names)
    labels = model.predict(table.X)
    names, values = ["label"], [labels]
    if options.proba:
        resp = model.predict_proba(table.X)
        names += [f"proba_{k}" for k in range(resp.shape[1])]
        values += list(resp.T)
    _write(options.output, names, values)
    print(f"wrote {len(labels)} rows to {options.output}")


def _write(path: str, names: list[str], values: list[Any]) -> None:
    """Columns to a file."""
    from mixtura.files import write_whole

    if path.lower().endswith(".npy"):
        array = values[0] if len(values) == 1 else np.column_stack(values)

        def write(name: str) -> None:
            with open(name, "wb") as file:
                np.save(file, array)

    else:
        try:
            import pyarrow
            from pyarrow import csv, parquet
        except ImportError as error:
            raise ImportError(f"writing {path} needs pyarrow: pip install 'mixtura[io]'") from error
        table = pyarrow.table(dict(zip(names, values, strict=True)))

        def write(name: str) -> None:
            if path.lower().endswith(".csv"):
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
