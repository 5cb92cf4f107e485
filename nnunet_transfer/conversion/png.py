"""Write PNG fast: Pillow tries every filter on every row, which takes most of the time a conversion of pictures takes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.files import atomic_path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
_NO_FILTER, _SUB = 0, 1
#: higher levels gain little on photos and take several times as long; run lengths suit filtered rows and masks
_LEVEL = 1


def write_png(array: NDArray[Any], path: Path) -> None:
    """Write a picture or a mask, atomically and without loss (PNG, third edition, W3C 2025, sections 9 and 11.2).

    Parameters
    ----------
    array : uint8 of shape `(rows, columns, 3)`, or uint8 or uint16 of shape `(rows, columns)`

    Raises
    ------
    ValueError
        If the array is anything else.
    """
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8:
        # each value minus that of the pixel to its left: neighbours in photos are alike
        colour, code, rows = _RGB, _SUB, np.concatenate([array[:, :1], np.diff(array, axis=1)], axis=1)
    elif array.ndim == 2 and array.dtype in (np.uint8, np.uint16):
        colour, code, rows = _GREY, _NO_FILTER, array
    else:
        raise ValueError(f"an array {array.shape} of {array.dtype} is neither an RGB picture nor a mask")
    height, width = array.shape[:2]
    values = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">"))).view(np.uint8).reshape(height, -1)
    lines = np.empty((height, 1 + values.shape[1]), np.uint8)
    lines[:, 0], lines[:, 1:] = code, values
    packer = zlib.compressobj(_LEVEL, strategy=zlib.Z_RLE)
    packed = packer.compress(lines.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8 * array.dtype.itemsize, colour, 0, 0, 0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
