"""Reading of official SMPL .pkl files without chumpy, and of pickled labels, without executing the pickle.

A pickle is a program that may call any function. Here it can call only the functions and classes below: they record the file's description
of numpy arrays, scipy sparse matrices and chumpy objects. Every other name is refused. Arrays are then built from the recorded bytes by
this file, not by the unpickler. The official files are Python 2 pickles: text in them is bytes in latin-1.

`load_arrays` reads the arrays of a body; `load_plain` reads nested dictionaries and lists of numbers, text and numpy arrays, the format of
labels, and admits only numpy's names.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import InputError

MAX_DENSE_VALUES = 2**27
"""Maximum size of a sparse matrix made dense: ten times 55 joints by 200,000 vertices."""

_MAX_DEPTH = 8
"""Maximum nesting of lists and dictionaries; a list that contains itself is endless."""

# The unpickler raises any of these on damaged bytes, depending on the position of the damage.
_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, MemoryError, OverflowError)


class _Recorded:
    """An object of the file, reduced to its class's name, its arguments and its state. It has no behaviour."""

    qualified_name = ""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Recorded):
    qualified_name = "numpy.ndarray"


class _Dtype(_Recorded):
    qualified_name = "numpy.dtype"


class _Buffer(_Recorded):
    qualified_name = "numpy.ndarray"


class _Scalar(_Recorded):
    qualified_name = "numpy scalar"


class _SparseMatrix(_Recorded):
    qualified_name = "scipy.sparse matrix"


class _Call:
    """A function that a pickle may call. It is immutable: a pickle could otherwise set attributes of the objects that it names."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it tries to change a function")


@_Call
def _start_array(*_: Any) -> _Array:
    """Stands for numpy's `_reconstruct(ndarray, (0,), b"b")`; shape and bytes follow as state."""
    return _Array()


@_Call
def _reconstruct_object(cls: Any, *_: Any) -> _Recorded:
    """Stands for copyreg's `_reconstructor(class, object, None)`, used by old protocols."""
    if not (isinstance(cls, type) and issubclass(cls, _Recorded)):
        raise pickle.UnpicklingError("an object of no known class")
    return cls()


@_Call
def _encode_latin1(text: Any, *_: Any) -> bytes:
    """Stands for `_codecs.encode(text, "latin1")`, by which Python 3 writes bytes in protocol 2."""
    if not isinstance(text, str):
        raise pickle.UnpicklingError("bytes given as something other than text")
    return text.encode("latin1")


@_Call
def _no_bytes() -> bytes:
    """Stands for `bytes()`, by which Python 3 writes empty bytes in protocol 2."""
    return b""


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python: the one in C allocates as much memory for back references as a single opcode requests."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self.path = path

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        top = module.partition(".")[0]
        if (module, name) == ("numpy", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _start_array
        if module.startswith("scipy.sparse") and name in ("csc_matrix", "csr_matrix", "csc_array", "csr_array"):
            return type(name, (_SparseMatrix,), {"qualified_name": name})
        if top == "chumpy":
            return type(name, (_Recorded,), {"qualified_name": f"{module}.{name}"})
        if module in ("copy_reg", "copyreg") and name == "_reconstructor":
            return _reconstruct_object
        if module in ("__builtin__", "builtins") and name == "object":
            return _Recorded
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise InputError(f"{self.path} asks to run {module}.{name}, which no SMPL file needs: it was refused and nothing was run")


class _PlainUnpickler(_Unpickler):
    def __init__(self, file: Any, name: str, what: str) -> None:
        super().__init__(file, Path(name))
        self.what = what

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        array_modules = ("numpy.core.multiarray", "numpy._core.multiarray")
        if module in array_modules and name == "scalar":
            return _Scalar
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _Buffer
        if module in ("__builtin__", "builtins") and name == "bytes":
            return _no_bytes
        known = (module, name) in (("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"))
        if known or (module in array_modules and name == "_reconstruct"):
            return super().find_class(module, name)
        raise InputError(f"{self.path} asks to run {module}.{name}, which {self.what} do not need: it was refused and nothing was run")


def load_plain(file: IO[bytes], name: str, what: str) -> Any:
    """Read a pickle of dictionaries, lists, tuples, numbers, text, None and numpy arrays of numbers or text.

    Args:
        file: Read from its current position.
        name: Name of the file, for messages.
        what: Kind of file, for messages, such as "3DPW's labels".

    Returns:
        The values; arrays of Python objects become lists.

    Raises:
        InputError: The file is damaged, contains another object, or requires code to be executed.
    """
    try:
        return _plain_value(_PlainUnpickler(file, name, what).load(), "it", 0)
    except (OSError, *_DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot read {name}: {reason}; expected {what}") from error


def _plain_value(value: Any, name: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError(f"{name} is nested too deeply")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, dict):
        return {str(key): _plain_value(item, str(key), depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(item, name, depth + 1) for item in value]
    if isinstance(value, _Array):
        state = value.state
        if isinstance(state, tuple) and len(state) == 5 and isinstance(state[4], list):
            items = [_plain_value(item, name, depth + 1) for item in state[4]]
            return items if state[1] != () or len(items) != 1 else items[0]
        return _plain_array(value, name)
    if isinstance(value, _Buffer):
        raw, dtype, shape, order, *axes = value.arguments
        array = _Array()
        array.state = (1, shape, dtype, order == "F", bytes(raw))
        values = _plain_array(array, name)
        return values.transpose(axes[0]) if order == "K" and axes and axes[0] is not None else values
    if isinstance(value, _Scalar):
        dtype, raw = value.arguments
        array = _Array()
        array.state = (1, (), dtype, False, raw)
        return _plain_array(array, name).item()
    raise ValueError(f"{name} is a {value.qualified_name if isinstance(value, _Recorded) else type(value).__name__}, expected plain values")


def load_arrays(path: str | Path, names: Iterable[str], optional: Iterable[str] = ()) -> dict[str, NDArray]:
    """Read arrays of a pickled dictionary.

    Args:
        path: The file.
        names: Required arrays.
        optional: Arrays that are read if they exist.

    Returns:
        The arrays by name.

    Raises:
        InputError: The file is damaged, lacks an array, or names anything but arrays.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, path).load()
    except (OSError, *_DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot read {path}: {reason}; expected a pickled SMPL body") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no dictionary, expected a pickled SMPL body")
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}, expected a pickled SMPL body")
    selected = [*names, *(name for name in optional if name in content)]
    try:
        return {name: _array_of(content[name], name) for name in selected}
    except _DAMAGE as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def _array_of(value: Any, name: str, depth: int = 0) -> NDArray:
    """Array of a recorded object. Raises ValueError that names it if there is none."""
    if isinstance(value, _Array):
        return _plain_array(value, name)
    if isinstance(value, _SparseMatrix):
        return _dense_from_sparse(value, name)
    state = getattr(value, "state", None)
    if isinstance(value, _Recorded) and isinstance(state, dict) and depth < 4:
        if "x" in state:  # chumpy.ch.Ch: the array itself
            return _array_of(state["x"], name, depth + 1)
        if {"a", "idxs", "preferred_shape"} <= state.keys():  # chumpy.reordering.Select: some entries of another array
            chosen = _array_of(state["a"], name, depth + 1).ravel()[_array_of(state["idxs"], name, depth + 1)]
            return chosen.reshape(tuple(state["preferred_shape"]))
    kind = value.qualified_name if isinstance(value, _Recorded) else type(value).__name__
    raise ValueError(f"{name} is a {kind}, expected an array")


def _plain_array(value: _Array, name: str) -> NDArray:
    """Array from numpy's state (version, shape, dtype, Fortran order, bytes)."""
    if not isinstance(value.state, tuple) or len(value.state) != 5:
        raise ValueError(f"{name} holds no values")
    _, shape, dtype, fortran_order, raw = value.state
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes):
        raise ValueError(f"{name} holds Python objects, expected numbers")
    numbers = np.frombuffer(raw, _plain_dtype(dtype, name))
    if math.prod(shape) != len(numbers):
        raise ValueError(f"{name} has shape {shape} but {len(numbers)} values")
    return numbers.copy().reshape(shape, order="F" if fortran_order else "C")


def _plain_dtype(dtype: _Dtype, name: str) -> np.dtype:
    code = dtype.arguments[0]
    if isinstance(code, bytes):
        code = code.decode("latin1")
    if not re.fullmatch(r"[fiu][1248]|b1|[US][0-9]{1,4}", code):
        raise ValueError(f"{name} holds {code!r}, expected numbers")
    byte_order = dtype.state[1] if dtype.state else "="
    return np.dtype(code).newbyteorder("=" if byte_order == "|" else byte_order)


def _dense_from_sparse(value: _SparseMatrix, name: str) -> NDArray:
    state = value.state
    rows, columns = (int(length) for length in state["_shape"])
    if not (rows > 0 and columns > 0 and rows * columns <= MAX_DENSE_VALUES):
        raise ValueError(f"{name} is a sparse matrix of shape ({rows}, {columns}), expected at most {MAX_DENSE_VALUES} values")
    data, indices, starts = (_array_of(state[key], name) for key in ("data", "indices", "indptr"))
    by_column = value.qualified_name.startswith("csc")
    majors, minors = (columns, rows) if by_column else (rows, columns)
    lengths = np.diff(starts)
    sound = len(starts) == majors + 1 and starts[0] == 0 and (lengths >= 0).all() and starts[-1] == len(data) == len(indices)
    if not sound or (len(indices) and not (indices.min() >= 0 and indices.max() < minors)):
        raise ValueError(f"{name} is a damaged sparse matrix")
    dense = np.zeros((majors, minors), data.dtype.newbyteorder("="))
    np.add.at(dense, (np.repeat(np.arange(majors), lengths), indices), data)
    return dense.T if by_column else dense
