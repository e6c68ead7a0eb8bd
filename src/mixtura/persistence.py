"""Model files: safetensors files with the arrays, and with the rest as JSON in the header. Loading runs no code.

Layout: tensors ``fitted.<attribute>`` and ``parameter.<name>``; metadata ``mixtura`` holds JSON with
``format`` (an integer), ``class``, ``version`` (of the package that wrote it), ``parameters`` and ``fitted``. The last
two hold values that are not arrays; gates, experts and links are written as class and parameters. A model that consists
of others has them in ``models``, a list of such JSON; the tensors of the first begin with ``model.0.``.

A file whose name ends in ``.json`` holds the same as text: an object with ``mixtura``, the JSON above, and ``tensors``,
each with ``dtype``, ``shape`` and ``data``, its numbers row by row. Numbers come back to the bit; NaN and infinities
are the strings "nan", "inf" and "-inf".
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save as serialize

from mixtura._version import __version__
from mixtura.array_kinds import to_host
from mixtura.components.beside import COMPONENTS
from mixtura.components.covariances import COVARIANCES, Covariance
from mixtura.components.linear import LinearExpert
from mixtura.files import write_whole
from mixtura.gates import GATES
from mixtura.links import EqualMeans
from mixtura.parts import Part, is_registered

FORMAT = 1

# Classes of estimators and their modules, which are imported when a model is of that class.
_CLASSES = {
    "GaussianMixture": "gaussian_mixture",
    "BayesianGaussianMixture": "bayesian_mixture",
    "KMeans": "kmeans",
    "MixtureOfExperts": "mixture_of_experts",
    "MixtureClassifier": "classifier",
    "GaussianMixtureSelector": "selector",
}


def _class_of(name: str) -> Any:
    """The class of estimators with this name."""
    return getattr(import_module(f"mixtura.estimators.{_CLASSES[name]}"), name)


def _objects() -> dict[str, type[Any]]:
    """Classes whose objects JSON holds as {"object": class, "parameters": {...}}, by name."""
    known = (*GATES.values(), *COMPONENTS.values(), LinearExpert, EqualMeans)
    return {c.__name__: c for c in known}


# Fitted values that are numbers.
_NUMBERS = {"lower_bound_", "n_iter_", "n_passes_", "n_features_in_", "noise_weight_"}

# What JSON holds of a parameter: itself, a name, or a class and its parameters.
_PLAIN = (str, bool, int, float, np.generic, Part, Covariance)

_UNKNOWN = (
    "It is not known here: import the module that registers it (mixtura.extension) first; on the command line, "
    "mixtura --extend FILE"
)


class ModelFileError(ValueError):
    """A file is not a model that this version of mixtura can read."""


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted model to a file.

    The file is written completely or not at all: it is written beside ``path`` and then moved there.

    Parameters
    ----------
    model : estimator
        Any fitted estimator of this package.
    path : path-like
        Usually ``*.safetensors``. A name that ends in ``.json`` makes a text file, of ten times the size, for programs
        in other languages; :func:`load` reads both.

    Raises
    ------
    TypeError
        It is not a model of this package.
    sklearn.exceptions.NotFittedError
        It is not fitted.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> import mixtura
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> mixtura.save(mixtura.GaussianMixture(2, random_state=0, tol=0.1).fit(X), path)
    >>> mixtura.load(path).means_.shape
    (2, 2)
    """
    header, tensors = _described(model)
    if os.fspath(path).lower().endswith(".json"):
        texts = {key: _as_text(array) for key, array in tensors.items()}
        data = json.dumps({"mixtura": header, "tensors": texts}, allow_nan=False).encode()
    else:
        data = serialize(tensors, {"mixtura": json.dumps(header, allow_nan=False)})
    write_whole(path, lambda name: Path(name).write_bytes(data))


def _described(model: Any) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The JSON and the arrays that say all of a fitted model."""
    from sklearn.utils.validation import check_is_fitted

    name = type(model).__name__
    if name not in _CLASSES or _class_of(name) is not type(model):
        raise TypeError(f"cannot save a {name}; mixtura saves {', '.join(_CLASSES)}")
    check_is_fitted(model)
    model._check_state()  # parameters may have been set since the fit
    tensors = {f"fitted.{a}": array for a, array in model._arrays().items()}
    parameters: dict[str, Any] = {}
    for key, value in model.get_params(deep=False).items():
        value = to_host(value)
        if key == "random_state" and not (value is None or isinstance(value, int | np.integer)):
            warnings.warn(
                "random_state is a generator, which a model file does not hold: saved as None", stacklevel=2
            )
            value = None
        if (
            value is None
            or isinstance(value, (*_PLAIN, Mapping))
            or _holds_objects(value)
            or _of_words(value)
        ):
            parameters[key] = _plain(value)
        elif callable(value) or type(value).__module__.startswith("mixtura"):
            warnings.warn(f"{key} is a function, which a model file does not hold: left out", stacklevel=2)
        else:
            tensors[f"parameter.{key}"] = np.asarray(value, order="C")
    header: dict[str, Any] = {
        "format": FORMAT,
        "class": name,
        "version": __version__,
        "parameters": parameters,
        "fitted": {a: _plain(value) for a, value in model._values().items()},
    }
    if hasattr(model, "feature_names_in_"):
        header["feature_names"] = [str(n) for n in model.feature_names_in_]
    if model._models:
        header["models"] = []
    for i, one in enumerate(model._models):
        described, arrays = _described(one)
        header["models"].append(described)
        tensors |= {f"model.{i}.{key}": array for key, array in arrays.items()}
    return header, tensors


# Types of the arrays in JSON files.
_TYPES = ("float32", "float64", "int32", "int64", "bool", "uint8")


def _as_text(array: NDArray[Any]) -> dict[str, Any]:
    """An array in terms of JSON types."""
    if array.dtype.name not in _TYPES:
        raise TypeError(f"an array of {array.dtype} cannot be written as JSON")
    numbers = array.ravel().tolist()
    data = [str(n) if isinstance(n, float) and not math.isfinite(n) else n for n in numbers]
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def _of_text(text: Any) -> NDArray[Any]:
    """The inverse of :func:`_as_text`."""
    if text["dtype"] not in _TYPES:
        raise ValueError(f"unknown type of array {text['dtype']!r}")
    numbers = [float(n) if isinstance(n, str) else n for n in text["data"]]
    return np.array(numbers, dtype=text["dtype"]).reshape([int(n) for n in text["shape"]])


def _holds_objects(value: Any) -> bool:
    """Whether a value is, or is a non-empty list of, objects of the classes in :func:`_objects`."""
    if isinstance(value, list | tuple):
        return bool(value) and all(_holds_objects(v) for v in value)
    return _is_object(value)


def _of_words(value: Any) -> bool:
    """Whether a value is a list of words or finite numbers, such as names of families or numbers of components."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(v, str | int) or (isinstance(v, float) and math.isfinite(v)) for v in value)
    )


def _is_object(value: Any) -> bool:
    """Whether a value's class is in :func:`_objects`."""
    return _objects().get(type(value).__name__) is type(value)


def _plain(value: Any) -> Any:
    """A value in terms of JSON types. Minus infinity, the bound of a fit without iterations, becomes null."""
    if isinstance(value, Covariance):
        if not is_registered(COVARIANCES, value.name, type(value)):
            raise TypeError(
                f"cannot save {type(value).__name__}, which is not registered: register_covariance first"
            )
        return value.name
    if isinstance(value, Part) and not _is_object(value):
        raise TypeError(
            f"cannot save a {type(value).__name__}, which is not registered: see mixtura.extension"
        )
    if _is_object(value):
        parameters = value.parameters if isinstance(value, Part) else vars(value)
        return {
            "object": type(value).__name__,
            "parameters": {k: _plain(v) for k, v in parameters.items()},
        }
    if isinstance(value, Mapping):
        return {str(k): _plain(to_host(v)) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_plain(v) for v in value] if isinstance(value, list | tuple | set | frozenset) else value


def _object(value: Any) -> Any:
    """The inverse of :func:`_plain` for gates, experts, links and lists of them; other values are unchanged."""
    if isinstance(value, list):
        return [_object(v) for v in value]
    if not (isinstance(value, dict) and "object" in value):
        return value
    known = _objects()
    if value["object"] not in known:
        raise ValueError(f"it has a {value['object']!r}. {_UNKNOWN}")
    return known[value["object"]](**value["parameters"])


def _check_names(model: Any) -> None:
    """Raise ValueError if a parameter is invalid, such as the name of a part that is not registered."""
    if not hasattr(model, "_parameter_constraints"):
        return  # what such an estimator is asked for is looked at when it fits
    try:
        model._validate_params()
    except ValueError as error:
        raise ValueError(f"{error} If that is the name of a user's own part: {_UNKNOWN}") from error


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON part of a model file: format, class, version, parameters, fitted values.

    Raises
    ------
    OSError
        The file cannot be opened.
    ModelFileError
        It is not a model file, is cut short, or has another format.
    """
    return _read(path)[0]


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    name = os.fspath(path)
    with open(name, "rb") as opened:
        first = opened.read(1)  # a missing or unreadable file raises OSError
    if first == b"{":
        return _read_json(name)
    try:
        with safe_open(name, framework="numpy") as file:
            text = (file.metadata() or {}).get("mixtura")
            tensors = {key: file.get_tensor(key) for key in file.keys()} if text else {}  # noqa: SIM118
    except Exception as error:  # readers raise errors of any type for damaged files
        raise ModelFileError(f"{name} is not a model file, or is cut short ({error})") from error
    if text is None:
        raise ModelFileError(
            f"{name} is a safetensors file, but not one that mixtura wrote of a model (mixtures of many groups are "
            "read by mixtura.many.ManyMixtures.load)"
        )
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{name} has a damaged header") from error
    _check_format(name, header)
    return header, tensors


def _read_json(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        held = json.loads(Path(name).read_text(encoding="utf-8"))
        header, texts = held["mixtura"], held["tensors"]
        _check_format(name, header)
        return header, {str(key): _of_text(text) for key, text in texts.items()}
    except ModelFileError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"{name} is not a model file, or is cut short ({error})") from error


def _check_format(name: str, header: Any) -> None:
    """Raise ModelFileError unless the header is of the format that is read here."""
    try:
        version, writer = header["format"], str(header["version"])
    except (TypeError, KeyError, IndexError) as error:
        raise ModelFileError(f"{name} has a damaged header") from error
    if type(version) is not int or version != FORMAT:
        raise ModelFileError(
            f"{name} has format {version!r}, this mixtura reads format {FORMAT}: "
            f"it was written by mixtura {writer}"
        )


def load(path: str | os.PathLike[str]) -> Any:
    """Read a fitted model from a file that :func:`save` wrote. No code from the file is run.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    A model of the class that was saved.

    Raises
    ------
    OSError
        The file cannot be opened.
    ModelFileError
        It is not a model file, is cut short or damaged, or has another format.

    Examples
    --------
    >>> import os, tempfile
    >>> import mixtura
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> mixtura.save(mixtura.KMeans(2, random_state=0).fit([[0.0], [1.0], [5.0]]), path)
    >>> mixtura.load(path).predict([[4.0]]) == mixtura.load(path).predict([[6.0]])
    array([ True])
    """
    header, tensors = _read(path)
    return _restored(os.fspath(path), header, tensors)


def _restored(path: str, header: dict[str, Any], tensors: dict[str, Any]) -> Any:
    """The model of which :func:`_described` gave the JSON and the arrays."""
    name = header.get("class")
    if not isinstance(name, str) or name not in _CLASSES:
        raise ModelFileError(f"{path} holds a {name!r}, which this mixtura does not know")
    try:
        array_parameters = _beginning_with("parameter.", tensors)
        fitted = _beginning_with("fitted.", tensors)
        model: Any = _class_of(name)(
            **{k: _object(v) for k, v in header["parameters"].items()}, **array_parameters
        )
        _check_names(model)
        values = {k: _object(v) for k, v in header["fitted"].items()}
        if values.get("lower_bound_", 0.0) is None:
            values["lower_bound_"] = -math.inf
        for attribute in _NUMBERS & values.keys():
            if isinstance(values[attribute], bool) or not isinstance(values[attribute], int | float):
                raise ValueError(f"{attribute} is {values[attribute]!r}, no number")
        models = [
            _restored(path, one, _beginning_with(f"model.{i}.", tensors))
            for i, one in enumerate(header.get("models", []))
        ]
        model._restore(fitted, values, models)
        if "feature_names" in header:
            names = [str(n) for n in header["feature_names"]]
            columns = values["n_features_in_"]
            if len(names) != columns:
                raise ValueError(f"{len(names)} names for {columns} columns")
            setattr(model, "feature_names_in_", np.array(names, dtype=object))  # noqa: B010
        model._check_state()
    except ModelFileError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelFileError(f"{path} is not a whole {name} model: {error}") from error
    return model


def _beginning_with(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors whose names begin so, without that beginning."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
