"""The command line: ``mixtura fit | fit-experts | predict | info | config``.

Errors that the user can mend end with exit code 2 and one line on standard error.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mixtura.data import Columns, TextLayout


class _Parser(argparse.ArgumentParser):
    """Tells of a wrong command in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_fail(f"{message} (see {self.prog} --help)"))


def _parser() -> argparse.ArgumentParser:
    from mixtura.components import COMPONENTS, COVARIANCES
    from mixtura.gates import GATES

    parser = _Parser(
        prog="mixtura", description="Mixture models at the speed of the machine.", allow_abbrev=False
    )
    _extend_option(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="fit a Gaussian mixture to a table", allow_abbrev=False)
    fit.add_argument("data", metavar="DATA", help="table: .csv, .parquet or .npy")
    fit.add_argument("-k", "--components", type=int, required=True, metavar="K", help="number of components")
    fit.add_argument("--covariance", choices=list(COVARIANCES), default="full", help="default: full")
    fit.add_argument(
        "--noise",
        choices=list(COMPONENTS),
        metavar="NAME",
        help="a component beside the Gaussians that a file of --extend registers (default: none)",
    )
    fit.add_argument(
        "--tol", type=float, default=1e-3, help="least gain per row that goes on (default: 1e-3)"
    )
    fit.add_argument("--reg-covar", type=float, default=1e-6, help="added to variances (default: 1e-6)")
    _fit_options(fit, n_init=1, max_iter=100)
    fit.set_defaults(run=_fit)

    experts = commands.add_parser(
        "fit-experts", help="fit a mixture of regressions or of experts to a table", allow_abbrev=False
    )
    experts.add_argument("data", metavar="DATA", help="table: .csv, .parquet or .npy")
    experts.add_argument(
        "--target",
        required=True,
        action="append",
        metavar="Y,...",
        help="column or columns to explain; may be repeated",
    )
    experts.add_argument("-k", "--experts", type=int, required=True, metavar="K", help="number of experts")
    experts.add_argument(
        "--gate",
        choices=list(GATES),
        default="constant",
        help="what says which expert a row listens to (default: constant)",
    )
    experts.add_argument(
        "--noise", choices=["shared", "per-expert"], default="shared", help="default: shared"
    )
    experts.add_argument("--no-intercept", action="store_true", help="planes through the origin")
    experts.add_argument(
        "--prior-variance", type=float, metavar="V", help="of the slopes' prior, around 0 (default: no prior)"
    )
    experts.add_argument("--tol", type=float, help="least gain per row that goes on (default: the gate's)")
    _fit_options(experts, n_init=5, max_iter=1000)
    experts.set_defaults(run=_fit_experts)

    predict = commands.add_parser("predict", help="label the rows of a table", allow_abbrev=False)
    predict.add_argument("model", metavar="MODEL", help="model file")
    predict.add_argument("data", metavar="DATA", help="table: .csv, .parquet or .npy")
    _table_options(predict, "those of the model")
    predict.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="labels or means: .csv, .parquet or .npy"
    )
    predict.add_argument(
        "--proba", action="store_true", help="also the probability of each component or expert"
    )
    predict.set_defaults(run=_predict)

    info = commands.add_parser("info", help="print what a model file holds", allow_abbrev=False)
    info.add_argument("model", metavar="MODEL", help="model file")
    info.add_argument("--json", action="store_true", help="print as JSON")
    info.set_defaults(run=_info)

    config = commands.add_parser("config", help="print backends, threads and versions", allow_abbrev=False)
    config.add_argument("--json", action="store_true", help="print as JSON")
    config.set_defaults(run=_config)
    return parser


def _extend_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--extend",
        action="append",
        default=[],
        metavar="FILE",
        help="Python file, or name of a module, to run first: it registers covariances, components or gates of your "
        "own; may be repeated",
    )


def _extended(arguments: Sequence[str] | None) -> list[str]:
    """Run what --extend names, before anything that it registers is named; gives the other arguments."""
    first = _Parser(prog="mixtura", add_help=False, allow_abbrev=False)
    _extend_option(first)
    found, rest = first.parse_known_args(arguments)
    for name in found.extend:
        try:
            _run_extension(name)
        except OSError:
            raise
        except Exception as error:
            raise UsageError(f"--extend {name}: {type(error).__name__}: {error}") from error
    return rest


def _run_extension(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(module.__name__, module)  # where dataclasses look for their module
    spec.loader.exec_module(module)


def _table_options(parser: argparse.ArgumentParser, default: str) -> None:
    """How a table is read: its columns, its layout, and what to leave out."""
    add = parser.add_argument
    add("--columns", metavar="A,B,...", help=f"columns to use (default: {default})")
    add(
        "--column",
        action="append",
        metavar="NAME",
        help="one column to use, whose name may have commas; may be repeated",
    )
    add("--numeric", action="store_true", help="leave out columns that are not numeric")
    add("--drop-missing", action="store_true", help="leave out rows with missing values")
    add(
        "--header",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether the first line of a text file holds names (default: auto, by comparison with the lines below)",
    )
    add(
        "--separator",
        metavar="C",
        help="between the cells of a text file; 'tab' too (default: a comma, in .tsv files a tab)",
    )
    add("--decimal", metavar="C", default=".", help="decimal point of a text file (default: .)")


def _fit_options(parser: argparse.ArgumentParser, *, n_init: int, max_iter: int) -> None:
    """What every fit understands."""
    add = parser.add_argument
    _table_options(parser, "all that are nothing else")
    add("--weights", metavar="COLUMN", help="column that holds the rows' weights")
    add("--seed", type=int, default=0, help="seed of the initialisation (default: 0)")
    add(
        "--n-init",
        type=int,
        default=n_init,
        metavar="N",
        help=f"initialisations; the best is kept (default: {n_init})",
    )
    add(
        "--max-iter",
        type=int,
        default=max_iter,
        metavar="N",
        help=f"most EM iterations (default: {max_iter})",
    )
    add("--backend", default="auto", help="auto, native, numba, reference or cuda (default: auto)")
    add(
        "--precision",
        default="exact",
        choices=("exact", "fast"),
        help="fast: tensor cores, where the backend is cuda and the table float32 (default: exact)",
    )
    add("--threads", type=int, metavar="N", help="most threads (default: all processors)")
    add("-o", "--output", metavar="MODEL", help="model file to write (.safetensors)")
    add("--plot", metavar="FILE", help="picture to write (.png, .pdf, .svg)")
    add("--json", action="store_true", help="print the result as JSON")
    add("-q", "--quiet", action="store_true", help="no progress bar")


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
    try:
        rest = _extended(arguments)  # before the parser is made, which knows what is registered
        options = _parser().parse_args(rest)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}")
    except UsageError as error:
        return _fail(str(error))
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


def _note(text: str) -> None:
    print("mixtura: note: " + " ".join(text.split()), file=sys.stderr)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print("mixtura: warning: " + " ".join(str(message).split()), file=sys.stderr)


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [c.strip() for c in text.split(",") if c.strip()]


def _columns(options: argparse.Namespace) -> list[str] | None:
    """The columns that --columns and --column name; None if they name none."""
    named = [*(_split(options.columns) or ()), *(c.strip() for c in options.column or ())]
    return None if options.columns is None and options.column is None else named


def _layout(options: argparse.Namespace) -> TextLayout:
    """How a text file is laid out, as the user says."""
    from mixtura.data import TextLayout

    separator = {"tab": "\t", "\\t": "\t"}.get(options.separator, options.separator)
    return TextLayout(options.header, separator, options.decimal)


def _read(
    options: argparse.Namespace,
    columns: Sequence[str] | None,
    beside: Sequence[str] = (),
    may_be_empty: bool = False,
) -> tuple[Columns, NDArray[np.bool_]]:
    """The table, without a value that is not finite, and which of the file's rows it has."""
    from mixtura.data import read_table
    from mixtura.estimators.validation import check_finite

    table = read_table(options.data, columns, beside, layout=_layout(options), numeric=options.numeric)
    for note in table.notes:
        _note(note)
    kept = table.complete()
    if options.drop_missing:
        if not kept.any() and not may_be_empty:
            raise UsageError(f"{options.data}: every row has a missing value; --columns leaves columns out")
        if not kept.all():
            _note(f"{options.data}: left out {np.sum(~kept)} of {len(kept)} rows, which have missing values")
        extra = {name: column[kept] for name, column in table.extra.items()}
        table = replace(table, X=table.X[kept], extra=extra)
    try:
        check_finite(table.X, table.names)
        for name, column in table.extra.items():
            check_finite(column[:, None], [name], "table")
    except ValueError as error:
        way = (
            ""
            if kept.all() or options.drop_missing
            else " --drop-missing leaves out the rows with missing values."
        )
        raise UsageError(f"{error}{way}") from error
    return table, kept if options.drop_missing else np.ones(len(table.X), dtype=bool)


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


def _check_outputs(options: argparse.Namespace) -> None:
    """Before any work: whether model and picture can be written."""
    _check_output(options.output, beside=[options.data, options.plot])
    _check_output(options.plot, ".png", ".pdf", ".svg", beside=[options.data])
    if options.plot:
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise ImportError("--plot needs matplotlib: pip install 'mixtura[plot]'") from error


def _fit_data(options: argparse.Namespace, targets: Sequence[str] = ()) -> tuple[Columns, Any]:
    """The table, targets and weights beside its columns, all finite; and the weights."""
    from mixtura.estimators.validation import check_weights

    beside = [*targets, *([] if options.weights is None else [options.weights])]
    table, _ = _read(options, _columns(options), beside)
    weights = None if options.weights is None else check_weights(table.extra[options.weights], table.X)
    return table, weights


def _fit_settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "max_iter": options.max_iter,
        "n_init": options.n_init,
        "random_state": options.seed,
        "verbose": 0 if options.quiet or not sys.stderr.isatty() else 1,
        "backend": options.backend,
        "n_threads": options.threads,
        "precision": options.precision,
    }


def _fit(options: argparse.Namespace) -> None:
    from mixtura import GaussianMixture

    _check_outputs(options)
    table, weights = _fit_data(options)
    model = GaussianMixture(
        options.components,
        covariance_type=options.covariance,
        tol=options.tol,
        reg_covar=options.reg_covar,
        noise=options.noise,
        **_fit_settings(options),
    )
    began = time.perf_counter()
    model.fit(table.X, sample_weight=weights)
    _finish(options, model, table, time.perf_counter() - began, weights, _mixture_facts, table.X)


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
        **_fit_settings(options),
    )
    y = y[:, 0] if len(targets) == 1 else y
    began = time.perf_counter()
    model.fit(table.X, y, sample_weight=weights)
    _finish(options, model, table, time.perf_counter() - began, weights, _experts_facts, table.X, y)


def _targets(options: argparse.Namespace) -> list[str]:
    """The columns to explain: what --target says is the name of a column, or names between commas."""
    from mixtura.data import column_names

    found: list[str] = []
    for text in options.target:
        whole = "," in text and text.strip() in column_names(options.data, _layout(options))
        found += [text.strip()] if whole else _split(text) or []
    return found


def _finish(
    options: argparse.Namespace,
    model: Any,
    table: Columns,
    seconds: float,
    weights: Any,
    facts: Callable[[Any], dict[str, Any]],
    *data: Any,
) -> None:
    """Save, draw and tell."""
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

        save_picture(model, *data, path=options.plot)
    if options.json:
        print(json.dumps(result))
        return
    print(model.summary())
    print(f"\nfitted in {seconds:.3g} s: {rate:.3g} rows per second and iteration, initialisation included")
    for path in (options.output, options.plot):
        if path:
            print(f"wrote {path}")


def _finite(value: float) -> float | None:
    """A number as JSON has it: a fit without iterations has no likelihood."""
    return value if math.isfinite(value) else None


def _mixture_facts(model: Any) -> dict[str, Any]:
    """A fitted mixture as plain numbers."""
    return {
        "class": type(model).__name__,
        "components": len(model.weights_),
        "covariance": model.covariance_type,
        "columns": [str(n) for n in getattr(model, "feature_names_in_", [])],
        "weights": model.weights_.tolist(),
        "means": model.means_.tolist(),
        "covariances": model.covariances_.tolist(),
        **({} if model.noise is None else {"noise_weight": model.noise_weight_}),
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
    table, kept = _read(options, columns, may_be_empty=True)
    # Of no rows at all, the answers' names and types are those of any row.
    X = table.X if kept.any() else np.zeros((1, len(table.names)))
    answers = {name: values[: kept.sum()] for name, values in model._answers(X, options.proba).items()}
    _write(options.output, list(answers), list(answers.values()), kept)
    print(f"wrote {len(kept)} rows to {options.output}")


def _write(path: str, names: list[str], values: list[Any], kept: NDArray[np.bool_]) -> None:
    """Columns to a file, with nothing for the rows that were not kept (NaN in .npy)."""
    from mixtura.files import write_whole

    if path.lower().endswith(".npy"):
        array = values[0] if len(values) == 1 else np.column_stack(values)
        if not kept.all():
            some, array = array, np.full((len(kept), *array.shape[1:]), np.nan)
            array[kept] = some

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
            places = pyarrow.array(np.maximum(places, 0), mask=~kept)  # taking from no place gives nothing
            columns = [column.take(places) for column in columns]
        table = pyarrow.table(dict(zip(names, columns, strict=True)))

        def write(name: str) -> None:
            if path.lower().endswith(".csv") and len(names) == 1 and not kept.all():
                # An empty line is no row to many readers: a cell of nothing is.
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
