"""Read weights files without running anything that they ask for.

Torch files are pickles: a program. They are read with `weights_only=True` and a short allow-list; a file that asks
for more is refused by the name of what it asked for. Sizes are checked before anything is allocated.
"""

from __future__ import annotations

import logging
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from nnunet_transfer.errors import CheckpointError

log = logging.getLogger(__name__)

#: nnU-Net stores numpy scalars and arrays in `logging` and `_best_ema`; none of these runs code of the file's choice.
#: Files name numpy's internals by the path of the numpy version that wrote them
_SCALAR = np.float64(0).__reduce__()[0]
_RECONSTRUCT = np.zeros(1).__reduce__()[0]
ALLOWED: tuple[Any, ...] = (
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"),
    *(type(np.dtype(kind)) for kind in ("U1", "S1")),
)
MAX_TENSORS = 100_000
#: bytes of a torch file's program, and of a safetensors header: a list of names and shapes, some 100 bytes each
MAX_DIRECTORY = 64 << 20
_GLOBAL = re.compile(r"(?:GLOBAL|type|class|function) [<'\"]?([A-Za-z_][\w.]*)")


def read_weights_file(path: Path, *, trust: bool = False) -> Any:
    """Return the content of a torch or safetensors file, tensors memory-mapped where the format allows it.

    Parameters
    ----------
    trust : unpickle whatever the file asks for, which may run any program with the user's rights

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, implausibly large inside, or asks for more than weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is no file; give a weights file, a run's folder or an exported zip")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty; get it again")
    if _is_safetensors(path):
        content: Any = _read_safetensors(path)
    else:
        _check_torch_zip(path)
        content = _unpickle(path, trust)
    _check_tensors(content, path)
    return content


def is_torch_zip(path: Path) -> bool:
    """Whether the file is a torch file in its zip form, rather than an archive of files."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(re.fullmatch(r"[^/]+/data\.pkl", name) for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:] == b"{" and head[:2] != b"PK"


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    with open(path, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
    if length > min(MAX_DIRECTORY, path.stat().st_size):
        raise CheckpointError(f"{path} has a header of {length} bytes; it is damaged: get it again")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({_one_line(error)}); get it again") from None


def _check_torch_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({_one_line(error)}); get it again") from None
    size = path.stat().st_size
    if sum(member.file_size for member in members) > size:
        # torch stores its members uncompressed; anything else is made to swell
        raise CheckpointError(f"{path} would unpack to more than its {size} bytes; torch writes no such file")
    if any(m.file_size > MAX_DIRECTORY for m in members if m.filename.endswith(".pkl")):
        raise CheckpointError(f"{path} has a directory of more than {MAX_DIRECTORY >> 20} MiB; it holds no network")
    if len(members) > MAX_TENSORS:
        raise CheckpointError(f"{path} holds {len(members)} tensors; no network has more than {MAX_TENSORS}")


def _unpickle(path: Path, trust: bool) -> Any:
    options: dict[str, Any] = {"map_location": "cpu", "mmap": zipfile.is_zipfile(path)}
    if trust:
        log.warning("%s is unpickled without checks, as you asked: it may run any program", path)
        return torch.load(path, weights_only=False, **options)
    try:
        with torch.serialization.safe_globals(list(ALLOWED)), warnings.catch_warnings():
            # torch warns of pickle protocols it was not written for; what it can't read is an error anyway
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, weights_only=True, **options)
    except pickle.UnpicklingError as error:
        match = _GLOBAL.search(str(error))
        if match:
            raise CheckpointError(
                f"{path} asks for {match[1]}, which weights don't need, and was not read; if you trust whoever made it "
                f"with your account, use --trust"
            ) from None
        raise CheckpointError(f"{path} is no weights file or is damaged ({_one_line(error)}); get it again") from None
    except Exception as error:
        # torch reports damage by many types: RuntimeError, EOFError, ValueError, KeyError, UnicodeDecodeError ...
        raise CheckpointError(f"{path} is no weights file or is damaged ({_one_line(error)}); get it again") from None


def _check_tensors(content: Any, path: Path) -> None:
    """Refuse absurd numbers of tensors, shapes that the stored bytes don't fill, and tensors that aren't plain ones."""
    stack, seen, count = [content], set[int](), 0
    while stack:
        item = stack.pop()
        if isinstance(item, torch.Tensor):
            if item.is_nested or item.is_meta or item.layout != torch.strided:
                raise CheckpointError(
                    f"{path} has a tensor that is sparse, nested or without values; weights are plain"
                )
            if item.numel() * item.element_size() > item.untyped_storage().nbytes():
                raise CheckpointError(f"{path} has a tensor of shape {tuple(item.shape)} that its bytes don't fill")
        elif isinstance(item, Mapping | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            count += len(item)
            if count > 10 * MAX_TENSORS or (isinstance(item, Mapping) and len(item) > MAX_TENSORS):
                raise CheckpointError(f"{path} holds more than {MAX_TENSORS} entries; no network has so many tensors")
            stack.extend(item.values() if isinstance(item, Mapping) else item)


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]
