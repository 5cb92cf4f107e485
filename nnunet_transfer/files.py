"""Atomic writing, JSON and checksums.

Files are written under a temporary name beside the final one and renamed when complete, so that an interrupt or a full disk
never leaves an incomplete file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError, readable

#: the largest text or JSON file that is read; nnU-Net's largest are summaries, some 100 bytes per case, label and metric
MAX_BYTES = 256 << 20
#: of JSON: nnU-Net's plans have 8 levels
MAX_DEPTH = 64
#: of an integer in JSON: as many as a floating-point number can hold
MAX_DIGITS = 300
#: first bytes of git-annex's and Git LFS's pointers to a file -> the command that fetches it
POINTERS = {b"/annex/objects/": "datalad get", b"version https://git-lfs": "git lfs pull --include"}
#: how systems say that a folder can't be moved to where a file or another folder is
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
#: seconds
_IN_USE = 3600
_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The temporary name starts with a dot and keeps all suffixes of `path`, because image writers choose the format by them.
    After an error, the temporary file is removed and `path` is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of writing `path`; what was written to within the last hour may still be in use."""
    for left in path.parent.glob(f".tmp*-{path.name}"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _IN_USE:
                left.unlink()


def holds_nothing(folder: Path) -> bool:
    """Whether a folder is missing, empty, or only contains temporary files of killed processes."""
    return not folder.is_dir() or all(path.name.startswith(".tmp") for path in folder.iterdir())


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; move it to `path` if the block succeeds.

    Raises
    ------
    DataError
        If `path` exists and `overwrite` is false.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists; remove it or allow overwriting")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{path.name}-", dir=path.parent))
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        while not (_moved(temporary, path) or (overwrite and _exchanged(temporary, path))):
            if not overwrite:
                raise DataError(f"{path} exists: another process has just made it; remove it or allow overwriting")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _moved(folder: Path, path: Path) -> bool:
    """Move a folder to `path`, unless `path` exists."""
    try:
        os.replace(folder, path)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def _exchanged(folder: Path, path: Path) -> bool:
    """Replace `path` by a folder, unless another process interferes."""
    old = Path(tempfile.mkdtemp(prefix=f".old-{path.name}-", dir=path.parent))
    try:
        try:
            os.replace(path, old / path.name)
        except FileNotFoundError:
            return False
        try:
            return _moved(folder, path)
        except BaseException:
            os.replace(old / path.name, path)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` (UTF-8, see `readable`) atomically; after a power failure, the file is either the old or the new one."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write(readable(text))
        stream.flush()
        os.fsync(stream.fileno())


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Return `content` as JSON, key order kept; its texts are `readable`."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    return readable(text, backslash=r"\\")


def finite(content: Any) -> Any:
    """Return `content` with null in the place of NaN and infinite numbers, which JSON doesn't have."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def printable_json(content: Any) -> str:
    """Return `content` as `finite`, indented JSON whose control characters are escaped: files may hold any."""
    text = json.dumps(finite(content), indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON, atomically, key order kept."""
    write_text(path, json_text(content, indent=2) + "\n")


def read_bytes(path: str | os.PathLike[str], *, limit: int = MAX_BYTES) -> bytes:
    """Read a regular file of at most `limit` bytes; pipes and devices are refused without reading them.

    Raises
    ------
    DataError
        If the file is missing, can't be read, is not a regular file or is larger.
    """
    path = Path(path)
    try:
        # without O_NONBLOCK, opening a pipe waits for a writer
        with open(
            os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
        ) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise DataError(f"{path} is not a regular file; give a file")
            content = stream.read(limit + 1)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        # ValueError: a path with a NUL character
        raise DataError(f"{path} can't be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > limit:
        raise DataError(f"{path} is larger than {limit >> 10} KiB, more than such a file ever needs")
    return content


def refuse_special(path: Path) -> None:
    """Raise a `DataError` for pipes and devices: reading from them may wait or go on for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{path.name} is not a regular file; replace it by one")


def read_text(path: str | os.PathLike[str], *, limit: int = MAX_BYTES) -> str:
    """Read a text file (UTF-8); line ends become `\\n`. Raises as `read_bytes` does."""
    try:
        return read_bytes(path, limit=limit).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error})") from None


def read_json(path: str | os.PathLike[str], *, limit: int = MAX_BYTES) -> Any:
    """Read a JSON file of bounded size, depth and digits.

    Raises
    ------
    DataError
        If the file is missing, can't be read, is too large or deep, or is not JSON.
    """
    path = Path(path)
    content = read_bytes(path, limit=limit)
    try:
        return parse_json(content.decode("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}); restore it or create it again") from None


def parse_json(text: str) -> Any:
    """Return the content of a JSON text.

    Raises
    ------
    ValueError
        If it is not JSON, nested deeper than `MAX_DEPTH`, has an integer of more than `MAX_DIGITS` digits, or holds
        half a character (a lone surrogate), which is no text.
    """
    try:
        content = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    check_depth(content)
    if _SURROGATE.search(text):
        json.dumps(content, ensure_ascii=False).encode()  # raises UnicodeEncodeError
    return content


def check_depth(content: Any) -> None:
    """Check that the lists and mappings of a JSON text are nested at most `MAX_DEPTH` deep.

    Raises
    ------
    ValueError
        If they are deeper.
    """
    level = [content]
    for _ in range(MAX_DEPTH):
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [part for parts in inner for part in parts if isinstance(part, dict | list)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(stream)


def _sha256(stream: Any) -> str:
    # hashlib.file_digest is new in Python 3.11
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
