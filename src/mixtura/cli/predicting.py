"""``mixtura predict``, ``mixtura info`` and ``mixtura export``: what a model file answers."""

from __future__ import annotations

import argparse
import glob
import json

import numpy as np

from mixtura.cli.arguments import UsageError
from mixtura.cli.groups import describe_groups, predict_groups
from mixtura.cli.tables import check_output, named_columns, read, streamed, write, write_blocks


def predict(options: argparse.Namespace) -> None:
    """Write what a model says of the rows of a table."""
    from mixtura import load
    from mixtura.many import holds_many

    check_output(options.output, ".csv", ".parquet", ".npy", beside=[options.data, options.model])
    if holds_many(options.model):
        predict_groups(options)
        return
    if options.by is not None:
        raise UsageError(f"--by: {options.model} holds one mixture, not one for each group")
    model = load(options.model)
    if options.proba and not model._gives_probabilities:
        raise UsageError(f"{options.model} holds a {type(model).__name__}, which has no probabilities")
    columns = named_columns(options)
    if columns is None and hasattr(model, "feature_names_in_"):
        columns = [str(n) for n in model.feature_names_in_]
    model.__dict__.pop("feature_names_in_", None)  # the columns are chosen by name here
    options.columns, options.column = None, columns  # names may have commas
    if glob.has_magic(options.data) and options.output.lower().endswith(".npy"):
        raise UsageError(f"{options.output}: predictions of several files are written to .csv or .parquet")
    source = None if options.output.lower().endswith(".npy") else streamed(options, ("drop_missing",))
    if source is not None:
        write_blocks(options.output, model, source, options.proba)
        print(f"wrote {len(source)} rows to {options.output}")
        return
    table, kept = read(options, columns, may_be_empty=True)
    # If there are no rows, predict one row of zeros to get the names and types of the columns.
    X = table.X if kept.any() else np.zeros((1, len(table.names)))
    answers = {name: values[: kept.sum()] for name, values in model._answers(X, options.proba).items()}
    write(options.output, list(answers), list(answers.values()), kept)
    print(f"wrote {len(kept)} rows to {options.output}")


def export(options: argparse.Namespace) -> None:
    """Write a model for other programs."""
    from mixtura import load, save

    check_output(options.output, ".onnx", ".json", ".safetensors", beside=[options.model])
    model = load(options.model)
    if options.output.lower().endswith(".onnx"):
        model.to_onnx(options.output, options.dtype)
    else:
        save(model, options.output)
    print(f"wrote {options.output}")


def info(options: argparse.Namespace) -> None:
    """Print what a model file holds."""
    from mixtura import load
    from mixtura.many import holds_many
    from mixtura.persistence import read_header

    if holds_many(options.model):
        describe_groups(options)
        return
    header = read_header(options.model)
    if options.json:
        print(json.dumps(header))
        return
    print(load(options.model).summary())
    print(f"\nwritten by mixtura {header['version']}, format {header['format']}")
