"""The command line: ``mixtura fit | select | fit-experts | predict | info | export | config``.

Errors that the user can correct end with exit code 2 and one line on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mixtura.cli.arguments import UsageError, extended, fail, parser_of_commands
from mixtura.cli.fitting import fit, fit_experts, select
from mixtura.cli.predicting import export, info, predict


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


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print("mixtura: warning: " + " ".join(str(message).split()), file=sys.stderr)


def _config(options: argparse.Namespace) -> None:
    from mixtura.config import config, format_config

    print(json.dumps(config()) if options.json else format_config(config()))


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "fit": fit,
    "select": select,
    "fit-experts": fit_experts,
    "predict": predict,
    "info": info,
    "export": export,
    "config": _config,
}
