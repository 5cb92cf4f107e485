"""CRC-32 of files and of their decompressed content, with little memory.

ISA-L computes it as fast as memory allows, so that every written file can be read back and compared. CRC-32 detects errors of
disks, networks and other processes, but not attacks; the manifest contains the SHA-256 of each source file.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from isal import isal_zlib

_BLOCK = 1 << 18
#: the package types this as an instance
GZIP_ERROR: Any = isal_zlib.error


def crc32_of(path: Path) -> int:
    """Return the checksum of a file's bytes."""
    checksum = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            checksum = isal_zlib.crc32(block, checksum)
    return checksum


def crc32_of_content(path: Path) -> int | None:
    """Return the checksum of the content of a file with one gzip stream, None if it can't be decompressed."""
    stream = isal_zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    end = b""
    with open(path, "rb", buffering=0) as file:
        try:
            while not stream.eof:
                compressed = stream.unconsumed_tail
                if not compressed:
                    compressed = file.read(_BLOCK)
                    end = (end + compressed)[-8:]
                if not (stream.decompress(compressed, _BLOCK) or compressed):
                    return None
            if stream.unused_data or file.read(1):
                return None
        except GZIP_ERROR:
            return None
    # the stream ends with the checksum of its content, which ISA-L has verified, and the length
    return int.from_bytes(end[:4], "little")
