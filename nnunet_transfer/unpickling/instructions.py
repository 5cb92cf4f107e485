"""The interpreter of pickles. Instructions: CPython's `pickletools`."""

from __future__ import annotations

import re
import struct
from typing import Any

from nnunet_transfer.unpickling.limits import (
    MAX_ENTRIES,
    MAX_INTEGER_BYTES,
    MAX_OPERATIONS,
    MAX_PARTS,
    DamagedError,
    RefusedError,
    UnknownNameError,
)
from nnunet_transfer.unpickling.values import (
    CALLS,
    NOT_PLAIN,
    OTHER_TYPES,
    STORAGES,
    WORDS,
    Array,
    Dtype,
    Name,
    Storage,
    Tensor,
    array_values,
    called,
    integer,
    safe_key,
)


class Interpreter:
    """One pickle in `data` from `position` on."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data, self.position = data, position
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise DamagedError("it ends too early")
        part = self.data[self.position : end]
        self.position = end
        return part

    def line(self) -> bytes:
        """Return the bytes up to the next line end."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise DamagedError("it ends too early")
        part = self.data[self.position : end]
        self.position = end + 1
        return part

    def number(self, form: str, count: int) -> int:
        """Return the next number."""
        return int(struct.unpack(form, self.take(count))[0])

    def push(self, value: Any) -> None:
        """Push an object onto the stack."""
        self.stack.append(value)

    def popped(self) -> Any:
        """Pop the last object off the stack."""
        if not self.stack:
            raise DamagedError("it uses a value that was never made")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        """Pop all objects since the last mark off the stack."""
        if not self.marks:
            raise DamagedError("it uses a value that was never made")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def last(self, kind: type) -> Any:
        """Return the last object on the stack, which must be of the given kind."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise DamagedError(f"it fills something other than a {kind.__name__}")
        return self.stack[-1]

    def add_items(self, items: list[Any]) -> None:
        """Add to the list on the stack."""
        target = self.last(list)
        if len(target) + len(items) > MAX_PARTS:
            raise RefusedError(f"holds a list of more than {MAX_PARTS} entries; no network has so many")
        target.extend(items)

    def add_pairs(self, items: list[Any]) -> None:
        """Add keys and values to the mapping on the stack."""
        target = self.last(dict)
        if len(items) % 2:
            raise DamagedError("a mapping has a key without value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[safe_key(key)] = value
        if len(target) > MAX_ENTRIES:
            raise RefusedError(f"holds more than {MAX_ENTRIES} entries; no network has so many tensors")

    def global_name(self, module: Any, name: Any) -> None:
        """Push a name onto the stack if it is in the table."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise DamagedError("a name is not text")
        full = f"{module}.{name}"[:200]
        if NOT_PLAIN.fullmatch(full):
            raise RefusedError("has a tensor that is sparse, nested, quantised or without values; weights are plain")
        known = (module, name) in CALLS or (module, name) in WORDS
        if not known and not (module in ("torch", "torch.storage") and name.lstrip("_") in STORAGES):
            if OTHER_TYPES.fullmatch(full):
                raise RefusedError(f"has values of type {full}; weights are floating-point numbers of 16 to 64 bits")
            raise UnknownNameError(full)
        self.push(Name(module, name))

    def persistent(self, identity: Any) -> None:
        """Push a storage onto the stack."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise DamagedError("it refers to something that is not a storage")
        kind, key, count = identity[1], identity[2], integer(identity[4])
        if not isinstance(kind, Name) or kind.key[1].lstrip("_") not in STORAGES or count < 0:
            raise DamagedError("a storage has no type")
        view = identity[5] if len(identity) == 6 else None
        start = 0
        if isinstance(view, tuple) and len(view) == 3:
            start, count = integer(view[1]), integer(view[2])
        self.push(Storage(str(key)[:100], STORAGES[kind.key[1].lstrip("_")], count, start))

    def build(self) -> None:
        """Set the state of the last object on the stack."""
        state = self.popped()
        if not self.stack:
            raise DamagedError("it fills what was never made")
        target = self.stack[-1]
        if isinstance(target, Array):
            target.value = array_values(state)
        elif isinstance(target, Dtype):
            if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
                target.order = ">" if state[1] == ">" else "<"
        elif not isinstance(target, dict | Tensor):
            # torch keeps version numbers as attributes of a state dict
            raise DamagedError("it fills what has no state")

    def run(self) -> Any:
        """Return the content of the pickle."""
        operations = 0
        while True:
            if self.position >= len(self.data):
                raise DamagedError("it ends too early")
            code = self.data[self.position]
            self.position += 1
            operations += 1
            if operations > MAX_OPERATIONS:
                raise RefusedError(f"has a program of more than {MAX_OPERATIONS} steps; no network needs so many")
            if code == _STOP:
                return self.popped()
            act = _INSTRUCTIONS.get(code)
            if act is None:
                raise DamagedError(f"byte {code} at {self.position - 1} is not an instruction that weights need")
            act(self)


_STOP = ord(".")


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise DamagedError("a text is not UTF-8") from None


def _long(content: bytes) -> int:
    if len(content) > MAX_INTEGER_BYTES:
        raise RefusedError(f"holds a number of {len(content)} bytes; no network needs one")
    return int.from_bytes(content, "little", signed=True)


def _decimal(content: bytes) -> int:
    if not re.fullmatch(rb"[+-]?[0-9]{1,20}", text := content.removesuffix(b"L")):
        raise DamagedError("a number is invalid")
    return int(text)


def _old_integer(p: Interpreter) -> None:
    line = p.line()
    p.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else _decimal(line))


def _float(p: Interpreter) -> None:
    try:
        p.push(float(p.line()[:50]))
    except ValueError:
        raise DamagedError("a number is invalid") from None


def _old_text(content: bytes) -> str:
    """Return Python 2's byte string as text."""
    return content.decode("latin1")


def _quoted(p: Interpreter) -> None:
    line = p.line()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"') or b"\\" in line:
        raise DamagedError("a text is invalid")
    p.push(_old_text(line[1:-1]))


def _raw_unicode(p: Interpreter) -> None:
    try:
        text = p.line().decode("raw-unicode-escape")
        text.encode()
    except UnicodeError:
        raise DamagedError("a text is invalid") from None
    p.push(text)


def _tuple_of(count: int) -> Any:
    def act(p: Interpreter) -> None:
        items = [p.popped() for _ in range(count)]
        p.push(tuple(reversed(items)))

    return act


def _put(p: Interpreter, place: int) -> None:
    if not p.stack:
        raise DamagedError("it remembers what was never made")
    p.memo[place] = p.stack[-1]


def _get(p: Interpreter, place: int) -> None:
    if place not in p.memo:
        raise DamagedError("it recalls what was never made")
    p.push(p.memo[place])


def _mark(p: Interpreter) -> None:
    p.marks.append(p.stack)
    p.stack = []


def _reduce(p: Interpreter) -> None:
    arguments, function = p.popped(), p.popped()
    p.push(called(function, arguments))


def _append(p: Interpreter) -> None:
    item = p.popped()
    p.add_items([item])


def _set_item(p: Interpreter) -> None:
    value, key = p.popped(), p.popped()
    p.add_pairs([key, value])


def _new_mapping(p: Interpreter) -> None:
    items = p.since_mark()
    p.push({})
    p.add_pairs(items)


def _stack_global(p: Interpreter) -> None:
    name, module = p.popped(), p.popped()
    p.global_name(module, name)


def _global(p: Interpreter) -> None:
    p.global_name(_text(p.line()), _text(p.line()))


def _instance(p: Interpreter) -> None:
    raise UnknownNameError(f"{_old_text(p.line())}.{_old_text(p.line())}"[:200])


def _constant(value: Any) -> Any:
    return lambda p: p.push(value)


def _sized(form: str, width: int, convert: Any) -> Any:
    """Return the instruction that reads a length and that many bytes."""
    return lambda p: p.push(convert(p.take(p.number(form, width))))


_INSTRUCTIONS: dict[int, Any] = {
    0x80: lambda p: p.take(1),  # protocol
    0x95: lambda p: p.take(8),  # frame
    ord("("): _mark,
    ord("0"): lambda p: p.popped() if p.stack else p.since_mark(),
    ord("1"): lambda p: p.since_mark(),
    ord("2"): lambda p: p.push(p.last(object)),
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("I"): _old_integer,
    ord("J"): lambda p: p.push(p.number("<i", 4)),
    ord("K"): lambda p: p.push(p.number("<B", 1)),
    ord("M"): lambda p: p.push(p.number("<H", 2)),
    ord("L"): lambda p: p.push(_decimal(p.line())),
    0x8A: _sized("<B", 1, _long),
    0x8B: _sized("<i", 4, _long),
    ord("F"): _float,
    ord("G"): lambda p: p.push(struct.unpack(">d", p.take(8))[0]),
    ord("S"): _quoted,
    ord("T"): _sized("<i", 4, _old_text),
    ord("U"): _sized("<B", 1, _old_text),
    ord("V"): _raw_unicode,
    ord("X"): _sized("<I", 4, _text),
    0x8C: _sized("<B", 1, _text),
    0x8D: _sized("<Q", 8, _text),
    ord("B"): _sized("<I", 4, bytes),
    ord("C"): _sized("<B", 1, bytes),
    0x8E: _sized("<Q", 8, bytes),
    0x96: _sized("<Q", 8, bytes),
    ord(")"): _constant(()),
    ord("t"): lambda p: p.push(tuple(p.since_mark())),
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    ord("]"): lambda p: p.push([]),
    ord("l"): lambda p: p.push(p.since_mark()),
    ord("a"): _append,
    ord("e"): lambda p: p.add_items(p.since_mark()),
    ord("}"): lambda p: p.push({}),
    ord("d"): _new_mapping,
    ord("s"): _set_item,
    ord("u"): lambda p: p.add_pairs(p.since_mark()),
    0x8F: lambda p: p.push([]),  # a set; as a list
    0x90: lambda p: p.add_items(p.since_mark()),
    0x91: lambda p: p.push(p.since_mark()),
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): _reduce,
    0x81: _reduce,
    ord("i"): _instance,
    ord("b"): lambda p: p.build(),
    ord("Q"): lambda p: p.persistent(p.popped()),
    ord("g"): lambda p: _get(p, _decimal(p.line())),
    ord("h"): lambda p: _get(p, p.number("<B", 1)),
    ord("j"): lambda p: _get(p, p.number("<I", 4)),
    ord("p"): lambda p: _put(p, _decimal(p.line())),
    ord("q"): lambda p: _put(p, p.number("<B", 1)),
    ord("r"): lambda p: _put(p, p.number("<I", 4)),
    0x94: lambda p: _put(p, len(p.memo)),
}
