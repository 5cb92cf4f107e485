"""The objects that a pickle of weights may create, and the functions that create them instead of those named in the pickle."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import Any

from nnunet_transfer.unpickling.limits import (
    MAX_ARRAY,
    MAX_AXES,
    MAX_NUMBER,
    DamagedError,
    RefusedError,
    UnknownNameError,
)

#: dtype -> bytes per value
SIZES = {
    **{"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2},
    **{"int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1},
}
STORAGES = {
    **{"DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8"},
}
#: numpy's codes of scalars -> those of `struct`
_SCALARS = {
    **{"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"},
    **{"f2": "e", "f4": "f", "f8": "d"},
}
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUILTINS = ("builtins", "__builtin__")
#: functions that rebuild tensors whose values aren't stored as they are
NOT_PLAIN = re.compile(r"torch\._utils\._rebuild_(sparse|meta|nested|qtensor|wrapper|device|xla)\w*|torch\.nested.*")
#: types of tensors' values other than those of `SIZES`: their names run nothing, but no network here has such weights
OTHER_TYPES = re.compile(r"torch\.(storage\.)?(_?[A-Z]\w*Storage|(float|complex|uint|int|quint|qint|bits)\d\w*|chalf)")
#: names that stand only for themselves
WORDS = {
    ("numpy", "ndarray"),
    ("torch", "Tensor"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.serialization", "_get_layout"),
    *(("torch", name) for name in SIZES),
}


class Name:
    """A name in the table."""

    def __init__(self, module: str, name: str) -> None:
        self.key = (module, name)


class Storage:
    """Bytes in the file, by their key."""

    def __init__(self, key: str, dtype: str, count: int, start: int = 0) -> None:
        self.key, self.dtype, self.count, self.start = key, dtype, count, start


class Tensor:
    """A tensor: a storage, and a view of it."""

    def __init__(
        self, storage: Storage, dtype: str, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        self.storage, self.dtype, self.offset, self.size, self.stride = storage, dtype, offset, size, stride


class Dtype:
    """A numpy type: its code and byte order."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code.lstrip("<>|="), ">" if code.startswith(">") else "<"


class Array:
    """A numpy array whose values follow."""

    value: Any = None


def integer(value: Any) -> int:
    if type(value) is not int:
        raise DamagedError("a number is missing")
    return value


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > MAX_AXES:
        raise DamagedError("a tensor has no shape")
    return tuple(map(integer, value))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise DamagedError("a tensor has no storage")
    dtype = storage.dtype
    rest = rest[2:]  # requires_grad, hooks
    if rest and isinstance(rest[0], Name):  # _rebuild_tensor_v3
        dtype, rest = rest[0].key[1], rest[1:]
    if rest and isinstance(rest[0], dict) and any(rest[0].values()):  # conj, neg
        raise RefusedError("has a tensor whose values are stored with the opposite sign; save a copy of it")
    if dtype not in SIZES:
        raise DamagedError("a tensor has no type")
    sizes, strides, first = _sizes(size), _sizes(stride), integer(offset)
    numbers = (first, *sizes, *strides)
    if len(sizes) != len(strides) or min(numbers) < 0 or max(numbers) > MAX_NUMBER:
        raise DamagedError("a tensor has no shape")
    values = storage.count * SIZES[storage.dtype] // SIZES[dtype]
    last = first + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    count = math.prod(sizes)
    if count and (count > values or last >= values):
        raise RefusedError(f"has a tensor of shape {sizes} that its bytes don't fill")
    return Tensor(storage, dtype, first if count else 0, sizes, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _of_type(function: Any, _: Any, arguments: Any, *__: Any) -> Any:
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise DamagedError("a tensor has no function that rebuilds it")
    return called(function, arguments)


def _mapping(*arguments: Any) -> dict[Any, Any]:
    if not arguments:
        return {}
    (entries,) = arguments
    if isinstance(entries, dict):
        return dict(entries)
    result: dict[Any, Any] = {}
    for entry in entries if isinstance(entries, list | tuple) else ():
        if not isinstance(entry, list | tuple) or len(entry) != 2:
            raise DamagedError("a mapping has an entry without value")
        result[safe_key(entry[0])] = entry[1]
    return result


def _list(*arguments: Any) -> list[Any]:
    return list(arguments[0]) if arguments and isinstance(arguments[0], list | tuple) else []


def _device(*arguments: Any) -> str:
    return ":".join(str(a) for a in arguments if isinstance(a, str | int))[:100]


def _encode(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise DamagedError("bytes have no text")
    return text.encode(encoding)


def _dtype(code: Any, *_: Any) -> Dtype:
    if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([biuf][1248]|[US]\d{0,6})", code):
        raise UnknownNameError(f"numpy.dtype of {code!r:.40}" if isinstance(code, str) else "numpy.dtype")
    return Dtype(code)


def _scalar(dtype: Any, content: Any = b"", *_: Any) -> Any:
    if not isinstance(dtype, Dtype) or not isinstance(content, bytes):
        raise UnknownNameError("numpy.core.multiarray.scalar of an object")
    if dtype.code[0] in "US":
        return content.decode("utf-32-le" if dtype.code[0] == "U" else "latin1").rstrip("\0")
    return _numbers(dtype, content, 1)[0]


def _numbers(dtype: Dtype, content: bytes, count: int) -> tuple[Any, ...]:
    code = _SCALARS.get(dtype.code)
    if code is None or len(content) != count * struct.calcsize(f"<{code}"):
        raise DamagedError("a numpy array has other bytes than its shape and type say")
    return struct.unpack(f"{dtype.order}{count}{code}", content)


def array_values(state: Any) -> Any:
    """Return the values of a numpy array: a number, a list, or for large ones a text instead."""
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], Dtype):
        raise UnknownNameError("numpy.ndarray of objects")
    _, shape, dtype, _, content = state
    sizes = _sizes(shape)
    if not isinstance(content, bytes) or min(sizes, default=0) < 0:
        raise UnknownNameError("numpy.ndarray of objects")
    count = math.prod(sizes)
    if dtype.code[0] in "US" or len(sizes) > 1 or count > MAX_ARRAY:
        return f"numpy array of shape {sizes}"
    values = _numbers(dtype, content, count)
    return list(values) if sizes else values[0]


CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    **{("torch._utils", name): _tensor for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")},
    **{("torch._utils", name): _parameter for name in ("_rebuild_parameter", "_rebuild_parameter_with_state")},
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "Counter"): _mapping,
    ("torch", "Size"): _list,
    ("torch", "device"): _device,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _dtype,
    **{(module, "scalar"): _scalar for module in _NUMPY},
    **{(module, "_reconstruct"): lambda *_: Array() for module in _NUMPY},
    **{(module, name): _list for module in _BUILTINS for name in ("set", "frozenset", "list", "tuple")},
    **{(module, "dict"): _mapping for module in _BUILTINS},
}


def called(function: Any, arguments: Any) -> Any:
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise DamagedError("it calls something that is not a function")
    call = CALLS.get(function.key)
    if call is None:
        raise UnknownNameError(".".join(function.key))
    try:
        return call(*arguments)
    except TypeError:
        raise DamagedError(f"{'.'.join(function.key)} has other arguments than it takes") from None


def safe_key(value: Any) -> Any:
    """Return a mapping's key as one that is safe to hash."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple) and all(v is None or isinstance(v, str | int | float) for v in value):
        return str(value)
    raise RefusedError("has a mapping with keys that are neither texts nor numbers; no network has")
