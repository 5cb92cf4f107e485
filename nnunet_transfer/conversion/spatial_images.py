"""Read and write volumes in one go, with what a header hides: NIfTI and FreeSurfer's MGH, compressed or not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from nnunet_transfer.conversion import geometry
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import atomic_path

GZIP_MAGIC = b"\x1f\x8b"
#: zlib's fastest; higher levels make float images some 3 % smaller and take several times as long
COMPRESSION_LEVEL = 1
#: zlib's code for gzip's header and checksum
_GZIP = 31
#: what no deflate stream exceeds (zlib's documentation: 1032)
_MAX_DEFLATE_RATIO = 1100
#: enough for every header; voxels start behind it
_HEADER_BYTES = 4096
_ITK_KINDS = "iuf"
#: NIFTI_UNITS_UNKNOWN and NIFTI_UNITS_MM, in the three lowest bits of xyzt_units
_MM_OR_UNKNOWN = (0, 2)


class _Nifti1Header(nib.Nifti1Header):
    # rounding in some data sets' headers makes the quaternion's length exceed 1 by more than nibabel allows
    quaternion_threshold = np.float64(-1e-4)


class _Nifti2Header(nib.Nifti2Header):
    quaternion_threshold = np.float64(-1e-4)


@dataclass
class SpatialImage:
    """A 3D image or mask.

    Attributes
    ----------
    data : voxels of shape (x, y, z) as on disk, scaling applied
    affine : voxel indices -> mm, RAS+, shape (4, 4)
    sha256 : of the file
    dtype : dtype on disk
    actions : what was mended on reading
    intact : the file itself is one that nnU-Net reads in the same way, so it may be copied
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    sha256: str
    dtype: str
    actions: list[str] = field(default_factory=list)
    intact: bool = False


def read_image(path: Path) -> SpatialImage:
    """Read a volume, squeeze trailing axes of length 1, repair directions that are nearly orthonormal.

    Raises
    ------
    DataError
        If the file is damaged, no volume, not 3D, or has an unusable orientation.
    """
    stored = _read_bytes(path)
    digest = hashlib.sha256(stored).hexdigest()
    compressed = stored.startswith(GZIP_MAGIC)
    payload = _decompress(stored, path) if compressed else stored
    del stored
    header, intact = _parse_header(payload, path)
    data = _voxels(header, payload, path)
    image = SpatialImage(data, np.eye(4), digest, str(header.get_data_dtype()))
    image.intact = intact and compressed and path.name.endswith(".nii.gz") and data.ndim == 3
    _squeeze(image, path)
    _set_affine(image, header, path)
    return image


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name} can't be read ({error.strerror})") from None


def _decompress(stored: bytes, path: Path) -> bytes:
    try:
        # room for all of it at once, as the last bytes tell, takes half the time of growing
        size = min(int.from_bytes(stored[-4:], "little"), len(stored) * _MAX_DEFLATE_RATIO)
        plain = zlib.decompress(stored, wbits=_GZIP, bufsize=max(size, 1))
        return plain if len(plain) == size else _decompress_streams(stored)
    except zlib.error as error:
        if "incomplete or truncated" in str(error):
            raise DataError(f"{path.name} is cut off: its gzip stream has no end; copy it anew") from None
        raise DataError(f"{path.name} is damaged ({error}); copy it anew") from None


def _decompress_streams(stored: bytes) -> bytes:
    """Decompress gzip streams that follow one another."""
    parts = []
    while stored.startswith(GZIP_MAGIC):
        stream = zlib.decompressobj(wbits=_GZIP)
        parts.append(stream.decompress(stored))
        if not stream.eof:
            raise zlib.error("incomplete or truncated stream")
        stored = stream.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _parse_header(payload: bytes, path: Path) -> tuple[nib.Nifti1Header | MGHHeader, bool]:
    """Return the header and whether it is a plain NIfTI-1 one, as all of nnU-Net's readers understand."""
    start = payload[:_HEADER_BYTES]
    kind: Any
    if path.name.endswith((".mgz", ".mgh")):
        kind, plain = MGHHeader, False
    elif start[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):  # the header's size, 348
        kind, plain = _Nifti1Header, start[344:348] == b"n+1\0"
    elif start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):  # 540
        kind, plain = _Nifti2Header, False
    else:
        raise DataError(f"{path.name} is no NIfTI file, whatever its name says")
    if len(start) < kind.template_dtype.itemsize:
        raise DataError(f"{path.name} has a damaged header ({len(start)} bytes are left of it)")
    if not plain and kind is _Nifti1Header:
        raise DataError(f"{path.name} has its voxels in a file of their own (.img); convert it to .nii.gz")
    try:
        return kind.from_fileobj(io.BytesIO(start), **({} if kind is MGHHeader else {"check": False})), plain
    except Exception as error:
        raise DataError(f"{path.name} has a damaged header ({error})") from None


def _voxels(header: nib.Nifti1Header | MGHHeader, payload: bytes, path: Path) -> NDArray[Any]:
    try:
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()
    except (HeaderDataError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{path.name} has a damaged header ({error})") from None
    if not header.template_dtype.itemsize <= offset < 1 << 30:
        raise DataError(f"{path.name} has a damaged header (voxels start at byte {offset})")
    if dtype.kind not in _ITK_KINDS or dtype.itemsize > 8:
        raise DataError(f"{path.name} holds {dtype} voxels; grey values are needed")
    count = int(np.prod(shape, dtype=np.int64))
    missing = offset + count * dtype.itemsize - len(payload)
    if missing > 0 or not shape or count <= 0:
        raise DataError(
            f"{path.name} is cut off: {missing} bytes of voxels are missing"
            if count > 0
            else f"{path.name} holds no voxels"
        )
    data = np.frombuffer(payload, dtype, count, offset).reshape(shape, order="F")
    slope, inter = header.get_slope_inter()
    if slope is not None and (slope, inter or 0) != (1, 0):
        data = data * np.float32(slope) + np.float32(inter or 0)
    return data


def _squeeze(image: SpatialImage, path: Path) -> None:
    shape = image.data.shape
    if len(shape) > 3 and set(shape[3:]) == {1}:
        image.data = image.data.reshape(shape[:3], order="F")
        image.actions.append(f"squeezed from {len(shape)}D")
    if image.data.ndim != 3:
        raise DataError(f"{path.name} has {len(shape)} axes, {' x '.join(map(str, shape))}; a volume has three")


def _set_affine(image: SpatialImage, header: nib.Nifti1Header | MGHHeader, path: Path) -> None:
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise DataError(f"{path.name} has an unusable orientation ({error})") from None
    image.affine, repair = geometry.orthonormalised(affine, path.name)
    if repair:
        image.actions.append(repair)
        image.intact = False
    if isinstance(header, nib.Nifti1Header):
        if not (header["sform_code"] or header["qform_code"]):
            image.actions.append("header says nothing of the orientation: taken as nibabel does")
            image.intact = False
        # readers differ in which of the two transforms they take
        image.intact &= all(
            coded is not None and geometry.displacement(image.data.shape, coded, affine) < geometry.TOLERANCE_MM
            for coded in _coded_affines(header)
        )
        if int(header["xyzt_units"]) & 7 not in _MM_OR_UNKNOWN:
            image.actions.append("header's unit of length is not mm: numbers taken as mm")
            image.intact = False


def _coded_affines(header: nib.Nifti1Header) -> Iterator[NDArray[np.float64] | None]:
    for read, code in ((header.get_sform, "sform_code"), (header.get_qform, "qform_code")):
        if header[code]:
            matrix = None
            with contextlib.suppress(HeaderDataError, ValueError):
                matrix = np.asarray(read(), dtype=np.float64)
            yield matrix


def write_image(data: NDArray[Any], affine: NDArray[np.float64], path: Path) -> None:
    """Write a 3D volume as compressed NIfTI, atomically; the same input gives the same bytes."""
    dtype = np.dtype(data.dtype).newbyteorder("=")
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(data.shape)
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    header["magic"] = b"n+1\0"
    voxels = np.asfortranarray(data, dtype=dtype).reshape(-1, order="F")
    stream = zlib.compressobj(COMPRESSION_LEVEL, wbits=_GZIP)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(stream.compress(header.binaryblock + b"\0\0\0\0"))
        block = 1 << 20
        for start in range(0, voxels.size, block):
            file.write(stream.compress(voxels[start : start + block].view(np.uint8).data))
        file.write(stream.flush())
