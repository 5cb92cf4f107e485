"""Read and write spatial images in one go: NIfTI and FreeSurfer's MGH, compressed or not."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from nnunet_transfer.conversion.checksums import GZIP_ERROR
from nnunet_transfer.conversion.headers import Reading, read_header
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import POINTERS, atomic_path, refuse_special

GZIP_MAGIC = b"\x1f\x8b"
#: ISA-L's compression level: files as small as with zlib's fastest level, several times as fast. Its highest level is as
#: slow as zlib without smaller files
COMPRESSION_LEVEL = 1
#: zlib's code for gzip's header and checksum
_GZIP = 31
#: upper bound of the compression ratio of deflate (zlib's documentation: 1032)
_MAX_DEFLATE_RATIO = 1100
_CHUNK = 1 << 16
#: bytes of NIfTI-2's header
_LONGEST_HEADER = 540
_TRUNCATED = "incomplete or truncated stream"


@dataclass
class SpatialImage:
    """A 3D image or mask.

    Attributes
    ----------
    data : voxels of shape (x, y, z) in the order on disk, with scaling applied
    affine : voxel indices -> mm, RAS+, shape (4, 4)
    sha256 : checksum of the file
    dtype : dtype on disk
    actions : decisions and repairs on reading
    warnings : actions that a user should see
    intact : whether all readers agree on the file, so that it may be copied
    usual : whether header and stream are so common that no second reader must confirm the voxels
    checksum : CRC-32 of the file
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    sha256: str
    dtype: str
    actions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    intact: bool = False
    usual: bool = False
    checksum: int = 0


def read_image(path: Path) -> SpatialImage:
    """Read a volume, squeeze trailing axes of length 1, repair directions that are nearly orthonormal.

    Raises
    ------
    DataError
        If the file is damaged, not a 3D volume, or has an unusable header.
    """
    stored = _read_bytes(path)
    digest, checksum = hashlib.sha256(stored).hexdigest(), isal_zlib.crc32(stored)
    compressed = stored.startswith(GZIP_MAGIC)
    payload = _decompress(stored, path) if compressed else stored
    reading = _read_header(payload, path)
    streams, left = 1, 0
    if compressed and (reading is None or len(payload) < reading.needed_bytes or not _is_whole(stored, payload)):
        payload, left = _decompress_streams(stored, path)
        streams, reading = 2, _read_header(payload, path)
    del stored
    # truncated headers fail here
    reading = reading or read_header(payload, path.name)
    if left:  # which some readers refuse
        reading.differ(f"{left} bytes after the compressed voxels left out")
    image = SpatialImage(
        _voxels(reading, payload, path),
        reading.affine,
        digest,
        str(reading.dtype),
        reading.actions,
        reading.warnings,
        reading.plain and compressed and path.name.endswith(".nii.gz"),
        reading.usual and streams == 1 and len(payload) == reading.needed_bytes,
        checksum,
    )
    _squeeze(image, path)
    return image


def _read_bytes(path: Path) -> bytes:
    try:
        refuse_special(path)
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name} can't be read ({error.strerror}){_hint(path)}") from None
    for start, command in POINTERS.items():
        if stored.startswith(start):
            raise DataError(f"{path.name} is not downloaded yet, only its pointer is: `{command} {path}`")
    return stored


def _hint(path: Path) -> str:
    """Return advice for a git-annex link whose content is missing."""
    try:
        target = str(path.readlink()) if path.is_symlink() else ""
    except OSError:
        target = ""
    return f"; it is not downloaded yet: `datalad get {path}`" if "annex/objects" in target else ""


def _decompress(stored: bytes, path: Path) -> bytes:
    """Decompress the first gzip stream of a file, usually the only one."""
    try:
        # allocating the full size, which the last bytes state, takes half the time of growing the buffer
        size = min(int.from_bytes(stored[-4:], "little"), len(stored) * _MAX_DEFLATE_RATIO)
        return isal_zlib.decompress(stored, wbits=_GZIP, bufsize=max(size, 1))
    except GZIP_ERROR as error:
        raise _gzip_error(error, path) from None


def _is_whole(stored: bytes, payload: bytes) -> bool:
    """Whether nothing follows the gzip stream of a payload: its last bytes are the payload's length (RFC 1952)."""
    return int.from_bytes(stored[-4:], "little") == len(payload) & 0xFFFFFFFF


def _decompress_streams(stored: bytes, path: Path) -> tuple[bytes, int]:
    """Decompress consecutive gzip streams, as written by parallel compressors.

    Returns
    -------
    payload : content of all streams
    left : number of bytes after them that are no padding
    """
    parts, position, view = [], 0, memoryview(stored)
    try:
        while stored.startswith(GZIP_MAGIC, position):
            stream = isal_zlib.decompressobj(wbits=_GZIP)
            while not stream.eof:
                chunk = view[position : position + _CHUNK]
                if not chunk:
                    raise GZIP_ERROR(_TRUNCATED)
                parts.append(stream.decompress(chunk))
                position += len(chunk) - len(stream.unused_data)
            while position < len(stored) and not stored[position]:  # padding
                position += 1
    except GZIP_ERROR as error:
        raise _gzip_error(error, path) from None
    return b"".join(parts), len(stored) - position


def _gzip_error(error: Exception, path: Path) -> DataError:
    if "incomplete or truncated" in str(error):
        return DataError(f"{path.name} is cut off: its gzip stream has no end; copy it again")
    return DataError(f"{path.name} is damaged ({error}); copy it again")


def _read_header(payload: bytes, path: Path) -> Reading | None:
    """Return the content of the header; None if the payload may be too short for it."""
    return None if len(payload) < _LONGEST_HEADER else read_header(payload, path.name)


def _voxels(reading: Reading, payload: bytes, path: Path) -> NDArray[Any]:
    if (missing := reading.needed_bytes - len(payload)) > 0:
        raise DataError(f"{path.name} is cut off: {missing} bytes of voxels are missing")
    count = int(np.prod(reading.shape, dtype=np.int64))
    data = np.frombuffer(payload, reading.dtype, count, reading.offset).reshape(reading.shape, order="F")
    if reading.scaling:
        # 32 bits are enough for scaled 8- and 16-bit values
        kind = np.float32 if data.dtype.itemsize <= 2 or data.dtype == np.float32 else np.float64
        data = data * kind(reading.scaling[0]) + kind(reading.scaling[1])
    return data


def _squeeze(image: SpatialImage, path: Path) -> None:
    shape = image.data.shape
    if len(shape) > 3 and set(shape[3:]) == {1}:
        image.data = image.data.reshape(shape[:3], order="F")
        image.actions.append(f"squeezed from {len(shape)}D")
    if image.data.ndim != 3:
        raise DataError(f"{path.name} has {len(shape)} axes, {' x '.join(map(str, shape))}; a volume has three")


@dataclass(frozen=True)
class Written:
    """Expected CRC-32 of a file: of its bytes, and of its decompressed content."""

    stored: int
    content: int


#: fields of a header that say where the voxels are
_PLACE = (
    *("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def write_image(data: NDArray[Any], affine: NDArray[np.float64], path: Path, like: Path | None = None) -> Written:
    """Write a 3D volume as compressed NIfTI, atomically; the same input gives the same bytes.

    Parameters
    ----------
    like : NIfTI file on the same grid; its transforms are taken to the last bit, whichever of them a reader prefers
    """
    dtype = np.dtype(data.dtype).newbyteorder("=")
    header = _header(data.shape, dtype, affine)
    if like:
        with gzip.open(like) as first:
            other = nib.Nifti1Header(first.read(header.template_dtype.itemsize), check=False)
        for name in _PLACE:
            header[name] = other[name]
    voxels = np.asfortranarray(data, dtype=dtype).reshape(-1, order="F")
    stored = 0
    stream = isal_zlib.compressobj(COMPRESSION_LEVEL, wbits=_GZIP)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for plain in _blocks(header.binaryblock + b"\0\0\0\0", voxels):
            compressed = stream.compress(plain)
            stored = isal_zlib.crc32(compressed, stored)
            file.write(compressed)
        rest = stream.flush()
        file.write(rest)
    # a gzip stream ends with the checksum of the uncompressed content, and its length
    return Written(isal_zlib.crc32(rest, stored), int.from_bytes(rest[-8:-4], "little"))


def _header(shape: tuple[int, ...], dtype: np.dtype[Any], affine: NDArray[np.float64]) -> nib.Nifti1Header:
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = 352
    header["magic"] = b"n+1\0"
    return header


def _blocks(start: bytes, voxels: NDArray[Any]) -> Iterator[bytes | memoryview]:
    yield start
    block = 1 << 20
    for position in range(0, voxels.size, block):
        yield voxels[position : position + block].view(np.uint8).data
