"""Fits that outlive their process: what they have reached is in a file, from which another process goes on.

A fit is deterministic: from the same rows, parameters and seed it makes the same starts and the same runs of EM. A
checkpoint holds the results of the runs that are over, and the state of the one that is not. A fit with a checkpoint
makes its starts again, takes the runs' results from the file as long as it has them, and goes on from there, to the
same bits as a fit that was never interrupted.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from mixtura import em
from mixtura.array_kinds import to_host
from mixtura.components.beside import COMPONENTS
from mixtura.components.covariances import COVARIANCES
from mixtura.files import write_whole
from mixtura.found import Found
from mixtura.gates import GATES
from mixtura.moments import Moments
from mixtura.streamed import Streamed
from mixtura.table import Table

# First bytes of a checkpoint; the number is its format's.
_HEAD = b"mixtura checkpoint 4\n"

# Where the classes are whose instances are a fit's state, and what makes arrays and numbers. A checkpoint may name
# nothing else, so that to read one runs no code of its own.
_STATE = {
    *("mixtura.accelerated", "mixtura.best_step", "mixtura.em", "mixtura.errors"),
    *("mixtura.expansion", "mixtura.factorize", "mixtura.found", "mixtura.links", "mixtura.membership"),
    *("mixtura.mixture", "mixtura.moments", "mixtura.online", "mixtura.shrinking"),
}
_PACKAGES_OF_STATE = ("mixtura.components.", "mixtura.gates.")
_OF_THIS_MODULE = {("mixtura.checkpoints", name) for name in ("_array", "_scalar", "_Finished", "_Failed")}


class CheckpointError(ValueError):
    """A checkpoint cannot be used: it is damaged, in use, or of another fit."""


@dataclass(frozen=True)
class _Finished:
    """The result of a run of EM, without its table."""

    parameters: Any
    bound: float
    bounds: list[float]
    converged: bool
    moments: Moments | None
    objective: float
    looked_at: int

    @classmethod
    def of(cls, fit: em.Fit[Any], table: Table) -> _Finished:
        found = fit.found
        return cls(
            fit.parameters,
            fit.bound,
            fit.bounds,
            fit.converged,
            None if found is None else found.moments,
            -np.inf if found is None else found.objective,
            table.tally.rows,
        )

    def on(self, table: Table) -> em.Fit[Any]:
        """The fit, as if it had just run on the table."""
        table.tally.rows = self.looked_at
        found = None if self.moments is None else Found(table, self.moments, self.objective)
        return em.Fit(self.parameters, self.bound, list(self.bounds), self.converged, found)


@dataclass(frozen=True)
class _Failed:
    """A run of EM that ended with an error, which will come again."""

    kind: type[Exception]
    arguments: tuple[Any, ...]
    looked_at: int

    @classmethod
    def of(cls, error: Exception, table: Table) -> _Failed:
        return cls(type(error), error.args, table.tally.rows)

    def on(self, table: Table) -> em.Fit[Any]:
        """Raise the error."""
        table.tally.rows = self.looked_at
        raise self.kind.__new__(self.kind, *self.arguments)


@dataclass
class Checkpoint:
    """A file with what a fit has reached.

    Parameters
    ----------
    path : str
    fit : dict
        What the fit is: parameters of the estimator, and a description of the rows. A file of another fit is refused.
    every : float
        Seconds from one writing of the file to the next.
    seed : int
        The seed that the fit uses.
    """

    path: str
    fit: dict[str, Any]
    every: float
    seed: int
    finished: list[_Finished | _Failed] = field(default_factory=list)
    current: tuple[em.State[Any], int] | None = None
    calls: int = 0
    written: float = 0.0
    _lock: Any = None
    _readable: bool = False

    @classmethod
    def open(cls, path: Any, fit: dict[str, Any], every: float, seed: int) -> Checkpoint:
        """Take hold of a checkpoint, which need not exist yet.

        Raises
        ------
        CheckpointError
            The file is damaged or of another fit, or another process uses it.
        OSError
            The folder is not there, or cannot be written to.
        """
        path = os.path.realpath(os.fspath(path))
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"checkpoint: there is no folder {folder}")
        checkpoint = cls(path, fit, every, seed, written=time.monotonic())
        checkpoint._take_lock()
        try:
            for name in os.listdir(folder):  # what a process that died was writing
                if name.startswith(f".{os.path.basename(path)}.") and name.endswith(".partial"):
                    os.unlink(os.path.join(folder, name))
            if os.path.exists(path):
                checkpoint._read()
            else:
                checkpoint.write()  # what cannot be written is found out before any work
        except BaseException:
            checkpoint.close()
            raise
        return checkpoint

    # ------------------------------------------------------------------ the file

    def _take_lock(self) -> None:
        """Raise CheckpointError if another fit uses the file; the system drops the lock if this process dies."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        self._lock = open(f"{self.path}.lock", "w")  # noqa: SIM115 - held until the fit is over
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise CheckpointError(
                f"{self.path} is the checkpoint of a fit that is running: give each fit a checkpoint of its own"
            ) from None

    def close(self) -> None:
        """Let go of the file."""
        if self._lock is not None:
            if os.path.exists(f"{self.path}.lock"):
                os.unlink(f"{self.path}.lock")
            self._lock.close()
            self._lock = None

    def _read(self) -> None:
        with open(self.path, "rb") as file:
            content = file.read()
        if not content.startswith(_HEAD):
            raise CheckpointError(
                f"{self.path} is no checkpoint of this version of mixtura: remove it to start anew"
            )
        digest, body = content[len(_HEAD) : len(_HEAD) + 32], content[len(_HEAD) + 32 :]
        if hashlib.sha256(body).digest() != digest:
            raise CheckpointError(f"{self.path} is damaged: remove it to start anew")
        try:
            held = _Reader(io.BytesIO(body)).load()
            fit, reached = dict(held["fit"]), (held["seed"], held["finished"], held["current"])
        except Exception as error:  # readers raise errors of any type for damaged files
            raise CheckpointError(f"{self.path} cannot be read: {error}") from error
        for name, value in self.fit.items():
            if fit.get(name) != value:
                raise CheckpointError(
                    f"{self.path} is of another fit: its {name} is {fit.get(name)!r}, and here it is "
                    f"{value!r}. Give this fit a checkpoint of its own, or remove the file."
                )
        self.seed, self.finished, self.current = reached

    def write(self) -> None:
        """Replace the file by one with the present state; a crash leaves the old one or the new one."""
        held = {"fit": self.fit, "seed": self.seed, "finished": self.finished, "current": self.current}
        body = _written(held)
        content = _HEAD + hashlib.sha256(body).digest() + body

        def written(name: str) -> None:
            with open(name, "wb") as file:
                file.write(content)

        write_whole(self.path, written, durable=True)
        self.written = time.monotonic()

    def _check_readable(self, start: Any) -> None:
        """Raise CheckpointError, before any work, if parameters like these could not be read again."""
        if self._readable:
            return
        try:
            _Reader(io.BytesIO(_written(start))).load()
        except Exception as error:  # readers and writers raise errors of any type
            raise CheckpointError(
                f"a checkpoint cannot hold this fit, for it could not be read again: {error}. Covariances, components "
                "and gates of your own must be registered (mixtura.extension)"
            ) from error
        self._readable = True

    # ------------------------------------------------------------------ runs

    def recorded(self, run: Callable[..., em.Fit[Any]]) -> Callable[..., em.Fit[Any]]:
        """The same runs of EM, of which those that the file knows are not made again."""

        def recorded(start: Any, table: Table, **how: Any) -> em.Fit[Any]:
            number, self.calls = self.calls, self.calls + 1
            if number < len(self.finished):
                return self.finished[number].on(table)
            state = None
            if self.current is not None:
                state, table.tally.rows = self.current
            self.current = None
            self._check_readable(start)

            def save(reached: em.State[Any]) -> None:
                self.current = reached, table.tally.rows
                if time.monotonic() - self.written >= self.every:
                    self.write()

            def over(outcome: _Finished | _Failed) -> None:
                self.current = None
                self.finished.append(outcome)
                if time.monotonic() - self.written >= self.every or not table.sampled:
                    self.write()

            try:
                fit = run(start, table, **how, state=state, save=save)
            except (em.SingularError, em.NotFiniteError) as error:
                over(_Failed.of(error, table))
                raise
            if fit.interrupted:
                self.current = None
            else:
                over(_Finished.of(fit, table))
            return fit

        return recorded


def _written(value: Any) -> bytes:
    """The bytes from which :class:`_Reader` makes a value again."""
    written_to = io.BytesIO()
    _Writer(written_to, protocol=5).dump(value)
    return written_to.getvalue()


class _Writer(pickle.Pickler):
    """Writes arrays as their bytes: what NumPy itself needs to read them could make arrays of anything in memory."""

    def reducer_override(self, value: Any) -> Any:
        """How an array or a number of NumPy's is made again."""
        if type(value) is np.ndarray:
            if value.dtype.kind not in "biufUSmM":
                raise pickle.PicklingError(f"a checkpoint cannot hold arrays of type {value.dtype}")
            # Sums over an array go in the order of its memory, and so do their last bits.
            order: Any = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
            if not value.flags.forc:
                order = tuple(sorted(range(value.ndim), key=lambda axis: -abs(value.strides[axis])))
                value = value.transpose(order)
            how = order if isinstance(order, str) else "C"
            return _array, (value.tobytes(how), value.dtype.str, value.shape, order)
        if isinstance(value, np.generic):
            return _scalar, (value.tobytes(), value.dtype.str)
        return NotImplemented


def _array(content: bytes, kind: str, shape: tuple[int, ...], order: Any) -> np.ndarray:
    """An array of numbers or text; ``order`` is NumPy's, or says which axes stand in ``shape`` and in memory."""
    if isinstance(order, tuple):
        there = np.frombuffer(content, dtype=kind).reshape(shape).copy()
        return there.transpose(np.argsort(order))
    return np.frombuffer(content, dtype=kind).reshape(shape, order=order).copy(order=order)


def _scalar(content: bytes, kind: str) -> np.generic:
    value: np.generic = np.frombuffer(content, dtype=kind)[0]
    return value


class _Reader(pickle.Unpickler):
    """Reads nothing but arrays, numbers and this package's own values."""

    def find_class(self, module: str, name: str) -> Any:
        """The classes that a checkpoint may name."""
        registered = (*map(type, COVARIANCES.values()), *COMPONENTS.values(), *GATES.values())
        for known in registered:  # a user's own parts
            if (known.__module__, known.__qualname__) == (module, name):
                return known
        if (module, name) in _OF_THIS_MODULE:
            return super().find_class(module, name)
        if (module in _STATE or module.startswith(_PACKAGES_OF_STATE)) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint of ours does")


def described(estimator: Any, table: Table) -> dict[str, Any]:
    """What a fit is: the parameters that its result depends on, and facts of its rows."""
    left_out = {"verbose", "verbose_interval", "n_threads", "on_interrupt"}
    parameters = {
        name: _as_text(value)
        for name, value in estimator.get_params(deep=False).items()
        if name not in left_out
    }
    return {
        "class": type(estimator).__name__,
        **parameters,
        "backend": table.backend.name,
        "number of rows": len(table),
        "number of columns": table.dims,
        "type of the rows": str(table.x.dtype),
        "data (rows, in this order, and their weights)": _digest(table),
    }


def _as_text(value: Any, within: tuple[int, ...] = ()) -> str:
    """A parameter as text that says whether it is the same, in every process.

    Of arrays and frames it is of all numbers, of functions of their names and code, of objects that have no text of
    their own of their attributes. ``within`` are the objects whose parts are being described.
    """
    if id(value) in within:
        return "itself"
    inner = (*within, id(value))

    def of(part: Any) -> str:
        return _as_text(part, inner)

    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, FunctionType):
        return f"{value.__module__}.{value.__qualname__} {_digest_of_code(value, of)}"
    if isinstance(value, MethodType):
        return f"{of(value.__func__)} of {of(value.__self__)}"
    if isinstance(value, partial):
        return f"partial of {of(value.func)}: {of(value.args)}, {of(value.keywords)}"
    if isinstance(value, np.random.Generator):
        return f"generator {of(value.bit_generator.state)}"
    if isinstance(value, np.random.RandomState):
        return f"generator {of(value.get_state(legacy=False))}"
    array = to_host(value)
    if not isinstance(array, np.ndarray | np.generic) and hasattr(value, "__array__"):
        array = np.asarray(value)
    if isinstance(array, np.ndarray) and array.dtype.kind != "O":
        content = np.ascontiguousarray(array).tobytes()
        return f"{array.dtype.str} {array.shape} {hashlib.sha256(content).hexdigest()}"
    if isinstance(array, np.ndarray) and array.ndim:
        return f"{type(value).__name__} {array.shape}: {of(array.tolist())}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {', '.join(map(of, value))}"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__} of {', '.join(sorted(map(of, value)))}"
    if isinstance(value, dict):
        return f"dict of {', '.join(f'{of(k)}: {of(v)}' for k, v in value.items())}"
    if callable(value) and hasattr(value, "__qualname__"):  # a function that is not written in Python
        return f"{getattr(value, '__module__', None)}.{value.__qualname__}"
    text = repr(value)
    if f"{id(value):#x}" in text.lower():  # an address, which is another one in each process
        return f"{of(type(value))}: {of(_attributes(value))}"
    return text


def _digest_of_code(function: FunctionType, of: Callable[[Any], str]) -> str:
    """What functions of the same name may differ in: the code, and the values that it holds."""

    def parts(code: CodeType) -> Iterator[str]:
        yield code.co_code.hex()
        yield from code.co_names
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from parts(constant)
            else:
                yield of(constant)

    held = [function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # nothing has been assigned yet
            held.append(cell.cell_contents)
    whole = [*parts(function.__code__), *map(of, held)]
    return hashlib.sha256("\n".join(whole).encode()).hexdigest()[:16]


def _attributes(value: Any) -> dict[str, Any]:
    """An object's attributes by name, whether it keeps them in a dictionary or in slots."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return found | getattr(value, "__dict__", {})


def _digest(table: Table) -> str:
    """A number that is another one for other rows, or rows in another order, and for other weights."""
    digest = hashlib.sha256()
    for array in (table.all_x, table.all_y):
        if isinstance(array, Streamed):
            digest.update(array.digest())
        elif array is not None:
            size = max((1 << 20) // max(array.shape[1], 1), 1)
            for start in range(0, len(array), size):
                digest.update(np.ascontiguousarray(array[start : start + size]).data)
    if table.sample_weight is not None:
        digest.update(np.ascontiguousarray(table.sample_weight).tobytes())
    if table.membership is not None:
        digest.update(np.ascontiguousarray(table.membership.labels).tobytes())
    return digest.hexdigest()
