"""The command line's commands and options, and the user's files that it runs first."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn


class UsageError(ValueError):
    """The command's arguments cannot be carried out as they are."""


def fail(message: str) -> int:
    """Report an error in one line on standard error; returns the exit status."""
    print("mixtura: error: " + " ".join(message.split()), file=sys.stderr)
    return 2


class Parser(argparse.ArgumentParser):
    """Reports a wrong command in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message."""
        self.exit(fail(f"{message} (see {self.prog} --help)"))


def parser_of_commands() -> argparse.ArgumentParser:
    """The parser of all commands and options, which offers the parts that are registered now."""
    from mixtura.components import COVARIANCES
    from mixtura.gates import GATES

    parser = Parser(
        prog="mixtura", description="Mixture models at the speed of the machine.", allow_abbrev=False
    )
    _extend_option(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="fit a Gaussian mixture to a table", allow_abbrev=False)
    fit.add_argument(
        "data",
        metavar="DATA",
        help="table: .csv, .parquet or .npy; several Parquet files by a pattern in quotes, 'data/*.parquet'",
    )
    fit.add_argument(
        "-k",
        "--components",
        type=_components,
        required=True,
        metavar="K",
        help="number of components; A:B takes the best of A to B by BIC, and 'bic' that of 1:9",
    )
    fit.add_argument("--covariance", choices=list(COVARIANCES), default="full", help="default: full")
    fit.add_argument(
        "--noise",
        metavar="NAME",
        help="a component beside the Gaussians: uniform, or one that a file of --extend registers (default: none)",
    )
    fit.add_argument(
        "--tol",
        type=float,
        default=1e-3,
        help="EM stops when the objective per row changes by less (default: 1e-3)",
    )
    fit.add_argument(
        "--reg-covar",
        type=_number_or("auto"),
        default=1e-6,
        metavar="V",
        help="added to variances; 'auto' fits the table's units (default: 1e-6)",
    )
    fit.add_argument(
        "--on-degenerate",
        choices=["raise", "repair", "drop"],
        default="raise",
        help="what to do when a covariance becomes singular (default: raise, which ends the fit)",
    )
    fit.add_argument("--prior", choices=["default"], help="a weak conjugate prior of means and covariances")
    fit.add_argument(
        "--labels",
        metavar="COLUMN",
        help="column with the known components of rows, from 0; -1 or empty where it is not known",
    )
    fit.add_argument(
        "--order", choices=["weight", "mean"], help="sort the components (default: as they were found)"
    )
    fit.add_argument(
        "--engine",
        choices=["dask"],
        help="read Parquet files as partitions with Dask's workers, where they stay",
    )
    fit.add_argument("--scheduler", metavar="ADDRESS", help="Dask's scheduler, such as tcp://host:8786")
    fit.add_argument("--by", metavar="COLUMN", help="fit a mixture of its own to each group of rows")
    fit.add_argument(
        "--algorithm",
        choices=["em", "stepwise"],
        default="em",
        help="stepwise: two passes over the rows, for tables of which every pass counts (default: em)",
    )
    _fit_options(
        fit, inits=("auto", "kmeans", "hierarchical", "k-means++", "random", "random_from_data"), max_iter=100
    )

    choose = commands.add_parser(
        "select", help="choose family and number of components by a criterion", allow_abbrev=False
    )
    choose.add_argument("data", metavar="DATA", help="table: .csv, .parquet or .npy")
    choose.add_argument(
        "-k",
        "--components",
        type=_range,
        default="1:9",
        metavar="A:B",
        help="numbers of components (default: 1:9)",
    )
    choose.add_argument(
        "--covariances", metavar="A,B,...", help="families (default: mclust's fourteen, EII to VVV)"
    )
    choose.add_argument("--criterion", choices=["bic", "icl", "aic"], default="bic", help="default: bic")
    choose.add_argument(
        "--nested", action="store_true", help="fit again from families that a family contains"
    )
    choose.add_argument("--early", action="store_true", help="end fits early that cannot win")
    choose.add_argument(
        "--init",
        choices=["hierarchical", "auto", "kmeans"],
        default="hierarchical",
        help="default: hierarchical",
    )
    choose.add_argument("--tol", type=float, help="change of the objective per row (default: mclust's rule)")
    choose.add_argument(
        "--reg-covar", type=float, default=0.0, metavar="V", help="added to variances (default: 0)"
    )
    choose.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    choose.add_argument("--threads", type=int, metavar="N", help="most threads (default: all processors)")
    choose.add_argument("--weights", metavar="COLUMN", help="column that holds the rows' weights")
    _table_options(choose, "all but weights and row names")
    choose.add_argument("-o", "--output", metavar="MODEL", help="model file to write, of the best fit")
    choose.add_argument(
        "--plot",
        metavar="FILE",
        nargs="?",
        const="",
        help="picture of the criterion to write (.png, .pdf, .svg)",
    )
    choose.add_argument("--json", action="store_true", help="print the result as JSON")

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
        help="what gives the experts' probabilities for a row (default: constant)",
    )
    experts.add_argument(
        "--noise", choices=["shared", "per-expert"], default="shared", help="default: shared"
    )
    experts.add_argument("--no-intercept", action="store_true", help="experts without an intercept")
    experts.add_argument(
        "--prior-variance", type=float, metavar="V", help="of the slopes' prior, around 0 (default: no prior)"
    )
    experts.add_argument(
        "--tol", type=float, help="EM stops when the objective per row changes by less (default: the gate's)"
    )
    _fit_options(experts, inits=("auto", "kmeans", "random"), max_iter=1000)

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
    predict.add_argument(
        "--by", metavar="COLUMN", help="group of each row, if the model file is of 'mixtura fit --by'"
    )

    info = commands.add_parser("info", help="print what a model file holds", allow_abbrev=False)
    info.add_argument("model", metavar="MODEL", help="model file")
    info.add_argument("--json", action="store_true", help="print as JSON")

    export = commands.add_parser(
        "export", help="write a model for other programs: ONNX or JSON", allow_abbrev=False
    )
    export.add_argument("model", metavar="MODEL", help="model file")
    export.add_argument(
        "output", metavar="FILE", help="model.onnx (predictions), model.json, model.safetensors"
    )
    export.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="of the table that an ONNX graph takes (default: float32)",
    )

    config = commands.add_parser("config", help="print backends, threads and versions", allow_abbrev=False)
    config.add_argument("--json", action="store_true", help="print as JSON")
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


def extended(arguments: Sequence[str] | None) -> list[str]:
    """Run the files and modules that --extend names; returns the other arguments."""
    parser = Parser(prog="mixtura", add_help=False, allow_abbrev=False)
    _extend_option(parser)
    options, remaining = parser.parse_known_args(arguments)
    for name in options.extend:
        try:
            _run_extension(name)
        except OSError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(f"--extend {name}: {type(error).__name__}: {error}") from error
    return remaining


def _run_extension(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    module_name = Path(name).stem
    while module_name in sys.modules:  # another file, or a module of that name
        module_name += "_"
    spec = importlib.util.spec_from_file_location(module_name, name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # where dataclasses look up their module
    spec.loader.exec_module(module)


def _table_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options for reading a table: its columns, its layout, and what to leave out."""
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


def _number_or(word: str) -> Callable[[str], float | str]:
    """A type of argument: a number, or one word."""

    def parsed(text: str) -> float | str:
        return text if text == word else float(text)

    parsed.__name__ = f"number or {word!r}"
    return parsed


def _range(text: str) -> list[int]:
    """Integers from A to B, from "A:B", or one from "A"."""
    first, _, last = text.partition(":")
    numbers = list(range(int(first), int(last or first) + 1))
    if not numbers or numbers[0] < 1:
        raise ValueError
    return numbers


_range.__name__ = "range A:B"


def _components(text: str) -> int | list[int]:
    """A number of components, or the numbers of which BIC takes the best."""
    from mixtura.choosing import MOST_COMPONENTS

    if text == "bic":
        return list(range(1, MOST_COMPONENTS + 1))
    return _range(text) if ":" in text else int(text)


_components.__name__ = "number of components, A:B or bic,"


def _fit_options(parser: argparse.ArgumentParser, *, inits: Sequence[str], max_iter: int) -> None:
    """Add the options of all commands that fit."""
    add = parser.add_argument
    _table_options(parser, "all but targets, weights and row names")
    add("--weights", metavar="COLUMN", help="column that holds the rows' weights")
    add("--seed", type=int, default=0, help="seed of the initialisation (default: 0)")
    add(
        "--init",
        choices=list(inits),
        default="auto",
        help="how a fit starts (default: auto, the best of several unlike starts)",
    )
    add("--n-init", type=int, default=1, metavar="N", help="initialisations; the best is kept (default: 1)")
    add(
        "--accelerate",
        choices=["squarem", "anderson", "newton"],
        help="extrapolate from EM's steps: fewer iterations where clusters overlap; newton: end at the maximum itself "
        "(default: plain EM)",
    )
    add(
        "--keep-on-interrupt",
        action="store_true",
        help="Ctrl-C ends the fit with the best parameters so far, which are written (default: it ends the command)",
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
    add(
        "--checkpoint",
        metavar="FILE",
        help="write what the fit has reached to this file, to go on from it later",
    )
    add("--resume", action="store_true", help="go on from the checkpoint")
    add("--every", type=float, metavar="S", help="seconds between checkpoints (default: 60)")
    add("-o", "--output", metavar="MODEL", help="model file to write (.safetensors)")
    add(
        "--plot",
        metavar="FILE",
        nargs="?",
        const="",
        help="picture to write (.png, .pdf, .svg; without a name, that of the table with .png)",
    )
    add("--json", action="store_true", help="print the result as JSON")
    add("-q", "--quiet", action="store_true", help="no progress bar")
