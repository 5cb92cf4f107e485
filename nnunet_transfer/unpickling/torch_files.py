"""Torch's two file formats: a zip archive with a pickle and the tensors' bytes, or the same parts in sequence.

Formats: `torch.serialization` (torch 2.12).
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from nnunet_transfer.unpickling.instructions import Interpreter
from nnunet_transfer.unpickling.limits import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_ENTRIES,
    MAX_NAMES,
    MAX_PARTS,
    MAX_PROGRAM,
    MAX_ZIP_DIRECTORY,
    SMALL_FILE,
    DamagedError,
    RefusedError,
)
from nnunet_transfer.unpickling.values import SIZES, Array, Storage, Tensor

_MAGIC = 0x1950A86A20F9469CFC6C
#: zip: the end record, the end record of zip64, and its locator; and their sizes
_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_END_SIZE, _END_64_SIZE, _LOCATOR_64_SIZE = 22, 56, 20
#: errors of `zipfile` for damaged archives
DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_torch_file(path: str) -> dict[str, Any]:
    """Return a file's content in JSON's types, see `described`."""
    with open(path, "rb") as stream:
        if not zipfile.is_zipfile(stream):
            return _one_after_the_other(stream)
        check_zip_directory(stream)
        with zipfile.ZipFile(stream) as archive:
            return _archive(archive, stream)


def check_zip_directory(stream: BinaryIO) -> None:
    """Check the size of a zip file's list of members before it is read.

    The end record is the one that `zipfile` finds: in the last bytes, or else the last one before a comment.

    Raises
    ------
    RefusedError
        If it is larger than that of any weights, or the end record is incomplete.
    """
    size = stream.seek(0, os.SEEK_END)
    start = max(0, size - (1 << 16) - _END_SIZE)
    tail = _bytes_at(stream, start, size - start)
    place = len(tail) - _END_SIZE
    if place < 0 or not tail.startswith(_END, place) or not tail.endswith(b"\0\0"):
        place = tail.rfind(_END)
    if place < 0:
        return
    record = tail[place : place + _END_SIZE]
    if len(record) < _END_SIZE:
        raise RefusedError("ends inside its list of members; copy or download it again")
    directory = _directory_size(stream, start + place, record)
    if directory > MAX_ZIP_DIRECTORY:
        raise RefusedError(f"lists members in {directory} bytes; no network has so many")


def _directory_size(stream: BinaryIO, end: int, record: bytes) -> int:
    """Return the size of the list of members, the largest that any version of `zipfile` would read.

    Parameters
    ----------
    end : place of the end record
    record : the end record
    """
    (own,) = struct.unpack("<I", record[12:16])
    locator = _bytes_at(stream, end - _LOCATOR_64_SIZE, _LOCATOR_64_SIZE)
    if len(locator) < _LOCATOR_64_SIZE or not locator.startswith(_LOCATOR_64):
        return int(own)
    # older releases of Python read the record in front of the locator, newer ones the one that the locator points to
    (stated,) = struct.unpack("<Q", locator[8:16])
    before, elsewhere = (_size_in_64(stream, place) for place in (end - _LOCATOR_64_SIZE - _END_64_SIZE, stated))
    return max(own if before is None else before, elsewhere or 0)


def _size_in_64(stream: BinaryIO, place: int) -> int | None:
    """Return the size of the list of members from zip64's end record; `None` if there is no such record."""
    record = _bytes_at(stream, place, _END_64_SIZE)
    if len(record) < _END_64_SIZE or not record.startswith(_END_64):
        return None
    return int(struct.unpack("<Q", record[40:48])[0])


def _bytes_at(stream: BinaryIO, place: int, count: int) -> bytes:
    """Return bytes from a place in a file, fewer or none if the file doesn't reach so far."""
    size = stream.seek(0, os.SEEK_END)
    if not 0 <= place < size:
        return b""
    stream.seek(place)
    return stream.read(count)


def _archive(archive: zipfile.ZipFile, stream: BinaryIO) -> dict[str, Any]:
    members = {member.filename: member for member in archive.infolist()}
    size = stream.seek(0, os.SEEK_END)
    if sum(member.file_size for member in members.values()) > size:
        # torch stores its members uncompressed; compressed members are a sign of a decompression bomb
        raise RefusedError(f"would unpack to more than its {size} bytes; torch writes no such file")
    programs = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise DamagedError("it has no data.pkl")
    prefix = programs[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in members:
        raise RefusedError("is a TorchScript program; save the state dict of its network instead")
    if members[programs[0]].file_size > MAX_PROGRAM:
        raise RefusedError(f"has a directory of more than {MAX_PROGRAM >> 20} MiB; it holds no network")
    order = members.get(f"{prefix}byteorder")
    if order is not None and order.file_size < 10 and archive.read(order) == b"big":
        raise RefusedError("was written by a machine of another byte order; write it again on a common one")
    content = Interpreter(archive.read(members[programs[0]])).run()

    def place(storage: Storage) -> tuple[int, int]:
        member = members.get(f"{prefix}data/{storage.key}")
        if member is None or member.compress_type != zipfile.ZIP_STORED:
            raise DamagedError(f"the values data/{storage.key} are missing")
        stream.seek(member.header_offset)
        head = stream.read(30)
        if len(head) < 30 or head[:4] != b"PK\3\4":
            raise DamagedError(f"the values data/{storage.key} are missing")
        name, extra = struct.unpack("<HH", head[26:30])
        return member.header_offset + 30 + name + extra, member.file_size

    return described(content, place, size)


def _one_after_the_other(stream: BinaryIO) -> dict[str, Any]:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    data = stream.read(MAX_PROGRAM)
    content, position = _next(data, 0)
    places: dict[str, tuple[int, int]] = {}
    if content == _MAGIC:
        for _ in range(2):  # protocol and machine
            _, position = _next(data, position)
        content, position = _next(data, position)
        keys, position = _next(data, position)
        widths = {t.storage.key: SIZES[t.storage.dtype] for t in _tensors(content)}
        for key in keys if isinstance(keys, list) else ():
            stream.seek(position)
            head = stream.read(8)
            if len(head) < 8 or str(key) not in widths:
                raise DamagedError("values are missing")
            length = struct.unpack("<q", head)[0] * widths[str(key)]
            if not 0 <= length <= size - position - 8:
                raise DamagedError("values are missing")
            places[str(key)] = (position + 8, length)
            position += 8 + length

    def place(storage: Storage) -> tuple[int, int]:
        if storage.key not in places:
            raise DamagedError("values are missing")
        return places[storage.key]

    return described(content, place, size)


def _next(data: bytes, position: int) -> tuple[Any, int]:
    interpreter = Interpreter(data, position)
    content = interpreter.run()
    check_bounds(content)
    return content, interpreter.position


def _inner(part: Any) -> Iterator[Any]:
    if isinstance(part, dict):
        yield from part
        yield from part.values()
    elif isinstance(part, list | tuple):
        yield from part
    elif isinstance(part, Array):
        yield part.value


def check_bounds(content: Any) -> None:
    """Check depth, number and length of the parts, each counted once per reference.

    Raises
    ------
    RefusedError
        If no network has so many.
    """
    level, parts, characters = [content], 0, 0
    for _ in range(MAX_DEPTH):
        deeper = []
        for outer in level:
            for part in _inner(outer):
                parts += 1
                if isinstance(part, str | bytes):
                    characters += len(part)
                elif isinstance(part, dict | list | tuple | Array):
                    deeper.append(part)
                if parts > MAX_PARTS or characters > MAX_CHARACTERS:
                    raise RefusedError(f"holds more than {MAX_PARTS} parts; no network has so many")
        if not deeper:
            return
        level = deeper
    raise RefusedError(f"is nested deeper than {MAX_DEPTH} levels; no network is")


def _tensors(content: Any) -> Iterator[Tensor]:
    stack = [content]
    while stack:
        part = stack.pop()
        if isinstance(part, Tensor):
            yield part
        else:
            stack.extend(_inner(part))


def _check_bytes(content: Any, size: int) -> None:
    """Check the bytes of all tensors, each counted once per name: whatever copies a tensor takes that much memory.

    Raises
    ------
    RefusedError
        If there are many times more than in a file of this size.
    """
    named = sum(math.prod(tensor.size) * SIZES[tensor.dtype] for tensor in _tensors(content))
    if named > MAX_NAMES * max(size, SMALL_FILE):
        raise RefusedError(f"names tensors of {named} bytes in a file of {size}; no network has so many names for one")


def described(content: Any, place: Any, size: int) -> dict[str, Any]:
    """Return a file's content in JSON's types.

    A mapping becomes `{"d": [[key, value], ...]}` and a tensor `{"t": [storage, dtype, offset, size, stride]}`, sizes
    and offset in values.

    Parameters
    ----------
    place : storage -> its first byte in the file and its number of bytes
    size : of the file

    Returns
    -------
    dict
        `content`, and `storages` as `[first byte, number of bytes]`.
    """
    check_bounds(content)
    storages: list[tuple[int, int]] = []
    numbers: dict[tuple[str, int, int], int] = {}
    stored = 0

    def number_of(storage: Storage) -> int:
        nonlocal stored
        width = SIZES[storage.dtype]
        name = (storage.key, storage.start * width, storage.count * width)
        if name not in numbers:
            start, length = place(storage)
            if storage.start < 0 or name[1] + name[2] > length or start + length > size:
                raise DamagedError(f"the values data/{storage.key} are not all there")
            if len(storages) == MAX_ENTRIES:
                raise RefusedError(f"holds more than {MAX_ENTRIES} tensors; no network has so many")
            numbers[name] = len(storages)
            storages.append((start + name[1], name[2]))
            stored += name[2]
            if stored > size:
                # each may be copied to align its values
                raise RefusedError("has values that overlap; no network stores any twice")
        return numbers[name]

    def plain(part: Any) -> Any:
        if isinstance(part, Tensor):
            return {"t": [number_of(part.storage), part.dtype, part.offset, part.size, part.stride]}
        if isinstance(part, dict):
            return {"d": [[key, plain(value)] for key, value in part.items()]}
        if isinstance(part, list | tuple):
            return [plain(inner) for inner in part]
        if isinstance(part, Array):
            return plain(part.value)
        return part if part is None or isinstance(part, str | int | float) else f"<{type(part).__name__}>"

    result = {"content": plain(content), "storages": storages}
    _check_bytes(content, size)
    return result
