"""Read weights files without running any code in them.

Torch files are pickles, that is, programs. A separate process interprets the few instructions that weights need
(`unpickling`); here, only the bytes of the tensors are mapped into memory. Files that request anything else are refused, and
the message names it.
"""

from __future__ import annotations

import logging
import mmap
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nnunet_transfer.checkpoints.other_files import other_kind
from nnunet_transfer.errors import CheckpointError, SourceError, one_line
from nnunet_transfer.sources.weights import read_weights
from nnunet_transfer.unpickling.limits import MAX_ENTRIES, MAX_PARTS, RefusedError
from nnunet_transfer.unpickling.process import answer_of
from nnunet_transfer.unpickling.torch_files import DAMAGED_ARCHIVE, check_zip_directory

log = logging.getLogger(__name__)


def read_weights_file(path: Path, *, trust: bool = False) -> Any:
    """Return the content of a torch or safetensors file, tensors memory-mapped where the format allows it.

    Parameters
    ----------
    trust : unpickle without restrictions, which may run any program with the user's rights

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, expands to an implausible size, or contains more than weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; give a weights file, a run's folder or an exported zip")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty; copy or download it again")
    if _is_safetensors(path):
        try:
            return read_weights(path)
        except SourceError as error:
            raise CheckpointError(str(error)) from None
    return _unpickle_trusted(path) if trust else _read_torch_file(path)


def is_archive(path: Path) -> bool:
    """Whether the file is an archive other than a torch file, which is also a zip archive.

    Raises
    ------
    CheckpointError
        If its list of members is implausibly long.
    """
    # a tar archive may end in a zip archive, one of its members
    if not path.is_file() or other_kind(path):
        return False
    try:
        with open(path, "rb") as stream:
            # some versions of Python raise errors here for odd ends of a file
            if not zipfile.is_zipfile(stream):
                return False
            check_zip_directory(stream)
            with zipfile.ZipFile(stream) as archive:
                return not any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())
    except RefusedError as error:
        raise CheckpointError(f"{path} {error}") from None
    except DAMAGED_ARCHIVE:
        return False


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as stream:
        head = stream.read(9)
    # a zip file could have "{" there; the format's first bytes are a length, which may start with "PK" alone
    return len(head) == 9 and head[8:] == b"{" and head[:4] != b"PK\3\4"


def _unpickle_trusted(path: Path) -> Any:
    log.warning("%s is unpickled without checks, as you asked: it may run any program", path)
    try:
        content = torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=False)
    except Exception as error:
        # torch, and code in the file, raise many error types for damaged files
        raise CheckpointError(f"{path} {other_kind(path) or _damaged(error)}") from error
    _check_tensors(content, path)
    return content


def _read_torch_file(path: Path) -> Any:
    if kind := other_kind(path):
        raise CheckpointError(f"{path} {kind}")
    answer = answer_of({"read": os.fspath(path.absolute())})
    if "content" not in answer:
        raise CheckpointError(f"{path} {_why_not(answer)}")
    return _Mapped(path, answer["storages"]).content(answer["content"])


def _why_not(answer: Mapping[str, str]) -> str:
    """Return why a file was not read, as the rest of a sentence."""
    if name := answer.get("asks_for"):
        return (
            f"asks for {name}, which weights don't need, and was not read; if you trust whoever made it "
            f"with your account, use --trust"
        )
    return answer.get("refused") or _damaged(answer["damaged"])


def _damaged(reason: object) -> str:
    return f"is not a weights file or is damaged ({one_line(reason, 200)}); copy or download it again"


class _Mapped:
    """Tensors backed by a private memory map of a file; writing to them doesn't change the file.

    Parameters
    ----------
    storages : offset and number of bytes of each storage
    """

    def __init__(self, path: Path, storages: Sequence[Sequence[int]]) -> None:
        with open(path, "rb") as stream:
            # an empty file can't be mapped
            self.file = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) if storages else None
        self.storages = storages
        self._values: dict[tuple[int, str], torch.Tensor] = {}
        self._copies: dict[int, bytearray] = {}

    def content(self, part: Any) -> Any:
        """Return the content described by `torch_files.described`."""
        if isinstance(part, list):
            return [self.content(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        if "d" in part:
            return {key: self.content(value) for key, value in part["d"]}
        storage, dtype, offset, size, stride = part["t"]
        return self._storage(storage, dtype).as_strided(size, stride, offset)

    def _storage(self, number: int, dtype: str) -> torch.Tensor:
        """Return all values of a storage."""
        if (number, dtype) not in self._values:
            start, length = self.storages[number]
            kind = getattr(torch, dtype)
            count = length // kind.itemsize
            buffer: Any = self.file
            if start % kind.itemsize:
                # older torch files don't align values, but processors need alignment
                buffer, start = self._copy(number), 0
            empty = not count
            self._values[number, dtype] = (
                torch.empty(0, dtype=kind) if empty else torch.frombuffer(buffer, dtype=kind, count=count, offset=start)
            )
        return self._values[number, dtype]

    def _copy(self, number: int) -> bytearray:
        """Return the bytes of a storage, copied once, whatever the types of its tensors."""
        if number not in self._copies:
            start, length = self.storages[number]
            content: Any = self.file
            self._copies[number] = bytearray(content[start : start + length])
        return self._copies[number]


def _check_tensors(content: Any, path: Path) -> None:
    """Refuse implausible numbers of tensors, shapes larger than the stored bytes, and special tensors."""
    stack, seen, count = [content], set[int](), 0
    while stack:
        item = stack.pop()
        if isinstance(item, torch.Tensor):
            if item.is_nested or item.is_meta or item.is_quantized or item.layout != torch.strided:
                raise CheckpointError(
                    f"{path} has a tensor that is sparse, nested, quantised or without values; weights are plain"
                )
            if item.numel() * item.element_size() > item.untyped_storage().nbytes():
                raise CheckpointError(f"{path} has a tensor of shape {tuple(item.shape)} that its bytes don't fill")
        elif isinstance(item, Mapping | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            count += len(item)
            if count > MAX_PARTS or (isinstance(item, Mapping) and len(item) > MAX_ENTRIES):
                raise CheckpointError(f"{path} holds more than {MAX_ENTRIES} entries; no network has so many tensors")
            stack.extend(item.values() if isinstance(item, Mapping) else item)
