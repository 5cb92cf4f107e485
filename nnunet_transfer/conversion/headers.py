"""Read NIfTI and FreeSurfer MGH headers, and check whether all readers interpret them in the same way.

Readers disagree if a header contradicts itself. nibabel takes the voxel size from the transform, ITK from `pixdim`. nibabel
ignores the unit of length and a slope of 0; ITK applies the unit and, with a slope of 0, the intercept. This module follows
the NIfTI-1 standard (Cox RW et al. 2004) and nibabel's choice between the transforms. `Reading.plain` states whether all
readers agree, so that the file may be copied.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import endian_codes
from numpy.typing import NDArray

from nnunet_transfer.conversion import geometry
from nnunet_transfer.errors import DataError

#: voxel types that ITK reads as single grey values
_ITK_KINDS = "iuf"
#: the three lowest bits of `xyzt_units` -> mm; 0 is unknown, which all readers interpret as mm
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}
#: offset of the voxels without a header extension
_USUAL_OFFSET = 352
#: valid values of `sform_code` and `qform_code`
_TRANSFORM_CODES = range(6)
#: square of a quaternion's real part: below the first, the NIfTI library takes it for 0; below the second, it isn't rounding
_NO_REAL_PART, _SHORTEST_REAL_PART = 1e-7, -1e-4
#: plausible voxel sizes of a head scan in mm; other values mean that the unit is wrong
_PLAUSIBLE_MM = (0.01, 30.0)
_LARGEST_MM = 100.0


class _Nifti1Header(nib.Nifti1Header):
    def get_qform_quaternion(self) -> NDArray[np.float64]:
        """Return the quaternion as the NIfTI library and ITK compute it.

        nibabel takes small real parts for 0, and refuses quaternions that rounding made longer than 1.

        Raises
        ------
        HeaderDataError
            If the quaternion is too long for rounding, or no number.
        """
        vector = np.array([self["quatern_b"], self["quatern_c"], self["quatern_d"]], np.float64)
        square = 1 - float(vector @ vector)
        if not square >= _SHORTEST_REAL_PART:
            raise HeaderDataError(f"its quaternion has a length of {np.linalg.norm(vector):g}")
        if square < _NO_REAL_PART:  # half a turn
            return np.array([0, *(vector / np.linalg.norm(vector))])
        return np.array([np.sqrt(square), *vector])


class _Nifti2Header(_Nifti1Header, nib.Nifti2Header):
    pass


Header = nib.Nifti1Header | MGHHeader


@dataclass
class Reading:
    """Content of a header.

    Attributes
    ----------
    shape, dtype, offset : shape (axes x, y, z, ...) and dtype of the stored voxels, and their offset in bytes
    scaling : slope and intercept; None if the stored values need no scaling
    affine : voxel indices -> mm, RAS+, shape (4, 4), directions orthonormal
    plain : whether all readers interpret the header in the same way
    actions : decisions and repairs
    warnings : actions that a user should see
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    scaling: tuple[float, float] | None = None
    affine: geometry.Affine = field(default_factory=lambda: np.eye(4))
    plain: bool = True
    actions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def usual(self) -> bool:
        """Whether the header has only common entries, so that all readers return the same voxels."""
        return self.plain and self.dtype.isnative and self.dtype.itemsize <= 4 and self.offset == _USUAL_OFFSET

    @property
    def needed_bytes(self) -> int:
        """Size in bytes of the complete decompressed file."""
        return self.offset + int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def differ(self, text: str) -> None:
        """Note that readers disagree, and which interpretation is used."""
        self.plain = False
        self.actions.append(text)

    def warn(self, text: str) -> None:
        """Like `differ`, for large differences."""
        self.differ(text)
        self.warnings.append(text)


def read_header(content: bytes, name: str) -> Reading:
    """Read the header of a decompressed file.

    Parameters
    ----------
    content : the file, or as much of it as there is
    name : file name; its ending distinguishes MGH from NIfTI

    Raises
    ------
    DataError
        If the header is damaged, the image has no grey values, or the orientation is unusable.
    """
    header, plain = _parse(content, name)
    reading = _layout(header, name)
    reading.plain = plain and len(reading.shape) == 3
    if isinstance(header, MGHHeader):
        reading.affine = _upright(np.asarray(header.get_best_affine(), np.float64), reading, name)
        return reading
    _check_extensions(header, content, reading)
    _read_scaling(header, reading, name)
    _read_place(header, reading, name)
    return reading


def _parse(content: bytes, name: str) -> tuple[Header, bool]:
    """Return the header and whether it is a NIfTI-1 header with the voxels in the same file."""
    kind: Any
    if name.lower().endswith((".mgz", ".mgh")):
        kind, plain = MGHHeader, False
    elif content[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):  # the header's size, 348
        kind, plain = _Nifti1Header, content[344:348] == b"n+1\0"
    elif content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):  # 540
        kind, plain = _Nifti2Header, False
    else:
        raise DataError(f"{name} is not a NIfTI file despite its name")
    if len(content) < kind.template_dtype.itemsize:
        raise DataError(f"{name} has a damaged header ({len(content)} bytes are left of it)")
    if not plain and kind is _Nifti1Header:
        raise DataError(f"{name} has its voxels in a separate file (.img); convert it to .nii.gz")
    try:
        if kind is MGHHeader:
            return kind.from_fileobj(io.BytesIO(content)), plain
        return kind(content[: kind.template_dtype.itemsize], check=False), plain
    except Exception as error:
        raise DataError(f"{name} has a damaged header ({error})") from None


def _check_extensions(header: nib.Nifti1Header, content: bytes, reading: Reading) -> None:
    """Note extensions that nibabel can't read, so that it would refuse the file; ITK passes over them."""
    start = header.template_dtype.itemsize
    if not any(content[start : start + 1]):
        return
    stored = content[start + 4 : reading.offset]
    try:
        with warnings.catch_warnings(action="ignore"):  # about lengths that aren't multiples of 16
            swapped = header.endianness != endian_codes["native"]
            header.exts_klass.from_fileobj(io.BytesIO(stored), len(stored), swapped)
    except Exception:  # whatever the parsers of several kinds of extensions raise
        reading.differ("damaged extensions of the header left out")


def _layout(header: Header, name: str) -> Reading:
    try:
        reading = Reading(header.get_data_shape(), header.get_data_dtype(), int(header.get_data_offset()))
    except (HeaderDataError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{name} has a damaged header ({error})") from None
    if not header.template_dtype.itemsize <= reading.offset < 1 << 30:
        raise DataError(f"{name} has a damaged header (voxels start at byte {reading.offset})")
    if reading.dtype.kind not in _ITK_KINDS or reading.dtype.itemsize > 8:
        raise DataError(f"{name} holds {reading.dtype} voxels; grey values are needed")
    if not reading.shape or min(reading.shape) <= 0:
        raise DataError(f"{name} holds no voxels")
    return reading


def _read_scaling(header: nib.Nifti1Header, reading: Reading, name: str) -> None:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        # the standard: no scaling. Many writers leave slope and intercept at 0
        if slope != 0 or inter != 0:
            reading.differ(f"header has slope {slope:g} and intercept {inter:g}: voxels used as stored")
    elif not np.isfinite(inter):
        raise DataError(f"{name} has an unusable header: slope {slope:g}, intercept {inter:g}; correct its scl_inter")
    elif (slope, inter) != (1, 0):
        reading.scaling = slope, inter
        reading.differ(f"voxels scaled by {slope:g}, plus {inter:g}")


def _read_place(header: nib.Nifti1Header, reading: Reading, name: str) -> None:
    for code in ("sform_code", "qform_code"):
        if int(header[code]) not in _TRANSFORM_CODES:
            reading.warn(f"header's {code} {int(header[code])} isn't in the NIfTI standard: its transform is ignored")
            header[code] = 0
    stored = np.array(header["pixdim"][1:4], np.float64)
    _repair_pixdim(header)
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise DataError(f"{name} has an unusable orientation ({error})") from None
    if not (header["sform_code"] or header["qform_code"]):
        reading.warn("header doesn't state the orientation: read as nibabel does, first axis to the left")
    _compare_transforms(header, affine, reading)
    _compare_spacings(stored, affine, reading)
    affine = _in_millimetres(header, affine, reading, name)
    reading.affine = _upright(affine, reading, name)
    edges = geometry.spacing(reading.affine)
    if edges.max() > _LARGEST_MM:
        raise DataError(f"{name} has voxels of {_product(edges)} mm; correct its header, perhaps the unit of length")


def _repair_pixdim(header: nib.Nifti1Header) -> None:
    """Set voxel size and handedness as nibabel's checks on loading do."""
    pixdim = header["pixdim"]
    size = np.abs(pixdim[1:4])
    pixdim[1:4] = np.where(size == 0, 1, size)
    if pixdim[0] not in (-1, 1):
        pixdim[0] = 1
    header["pixdim"] = pixdim


def _upright(affine: geometry.Affine, reading: Reading, name: str) -> geometry.Affine:
    affine, repair = geometry.orthonormalised(affine, name)
    if repair:
        reading.differ(repair)
    return affine


def _compare_transforms(header: nib.Nifti1Header, affine: geometry.Affine, reading: Reading) -> None:
    """Note whether a transform in the header differs from `affine`."""
    for other in _coded_affines(header):
        distance = np.inf if other is None else geometry.displacement(_first_three(reading.shape), other, affine)
        if not np.isfinite(distance):
            reading.differ("header's qform is unusable: sform taken")
        elif distance >= geometry.TOLERANCE_MM:
            reading.warn(f"header's two transforms lie up to {distance:.3g} mm apart: sform used")


def _coded_affines(header: nib.Nifti1Header) -> Iterator[geometry.Affine | None]:
    for read, code in ((header.get_sform, "sform_code"), (header.get_qform, "qform_code")):
        if header[code]:
            matrix = None
            with contextlib.suppress(HeaderDataError, ValueError):
                matrix = np.asarray(read(), dtype=np.float64)
            yield matrix


def _compare_spacings(pixdim: Any, affine: geometry.Affine, reading: Reading) -> None:
    edges = geometry.spacing(affine)
    difference = np.abs(np.asarray(pixdim, np.float64) - edges)
    if not (difference <= geometry.SAME_SPACING * edges).all():
        text = f"header has voxels of {_product(pixdim)} mm beside a transform of {_product(edges)} mm: transform taken"
        # users needn't see rounding of a few digits
        (reading.differ if (difference <= 1e-3 * edges).all() else reading.warn)(text)


def _in_millimetres(header: nib.Nifti1Header, affine: geometry.Affine, reading: Reading, name: str) -> geometry.Affine:
    unit = int(header["xyzt_units"]) & 7
    factor = _MM_PER_UNIT.get(unit)
    if factor is None:
        reading.warn(f"header's unit of length, code {unit}, isn't in the NIfTI standard: lengths read as mm")
        return affine
    if factor == 1:
        return affine
    edges = geometry.spacing(affine)
    if not _plausible(edges * factor) and _plausible(edges):
        raise DataError(
            f"{name} has voxels of {_product(edges)} {_UNIT_NAMES[unit]} according to its header; correct its unit of length"
        )
    scaled = affine.copy()
    scaled[:3] *= factor
    reading.warn(f"header is in {_UNIT_NAMES[unit]}: converted to mm")
    return scaled


def _plausible(edges: geometry.Affine) -> bool:
    return bool((edges >= _PLAUSIBLE_MM[0]).all() and (edges <= _PLAUSIBLE_MM[1]).all())


def _first_three(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape, 1, 1, 1)[:3]


def _product(numbers: Any) -> str:
    return " x ".join(f"{float(number):.4g}" for number in numbers)
