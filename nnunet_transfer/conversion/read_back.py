"""Read back what was written, as nnU-Net will.

SimpleITK reads every header. For a common header, it returns the bytes in the file unchanged
(`tests/test_conversion_headers.py` checks this with random bytes), so a checksum of the file, or of the decompressed content
for labels, is enough to verify the voxels. For other headers, SimpleITK also reads the voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from nnunet_transfer.conversion import geometry
from nnunet_transfer.conversion.checksums import crc32_of, crc32_of_content
from nnunet_transfer.conversion.spatial_images import Written

#: ITK's axes point left and back
_LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])
_PIXELS = {
    "u1": sitk.sitkUInt8,
    "i1": sitk.sitkInt8,
    "u2": sitk.sitkUInt16,
    "i2": sitk.sitkInt16,
    "u4": sitk.sitkUInt32,
    "i4": sitk.sitkInt32,
    "u8": sitk.sitkUInt64,
    "i8": sitk.sitkInt64,
    "f4": sitk.sitkFloat32,
    "f8": sitk.sitkFloat64,
}


def header_fault(path: Path, shape: Sequence[int], affine: geometry.Affine, dtype: np.dtype[Any]) -> str:
    """Describe how a file's header, as read by SimpleITK, differs from the expected one; empty if it doesn't.

    Parameters
    ----------
    shape, affine, dtype : expected shape (axes x, y, z), affine (RAS+, mm) and dtype
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        return f"SimpleITK can't read it ({str(error).strip().splitlines()[-1].strip()})"
    if (size := reader.GetSize()) != tuple(shape):
        return f"SimpleITK reads {'x'.join(map(str, size))} voxels instead of {'x'.join(map(str, shape))}"
    if reader.GetNumberOfComponents() != 1 or reader.GetPixelID() != _PIXELS[f"{dtype.kind}{dtype.itemsize}"]:
        return f"SimpleITK reads {sitk.GetPixelIDValueAsString(reader.GetPixelID())} instead of {dtype}"
    read = np.eye(4)
    read[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    read[:3, 3] = reader.GetOrigin()
    read = _LPS_TO_RAS @ read
    distance = geometry.displacement(shape, read, affine)
    if not distance <= geometry.TOLERANCE_MM:
        return f"SimpleITK puts voxels {distance:.3g} mm off their place"
    if not np.allclose(geometry.spacing(read), geometry.spacing(affine), rtol=5e-6, atol=0):
        return f"SimpleITK reads a spacing of {np.round(geometry.spacing(read), 6).tolist()} mm"
    return ""


def same_place(path: Path, other: Path) -> bool:
    """Whether two files on one grid are so for nnU-Net, too, which compares what SimpleITK reads by `numpy.allclose`."""
    one, two = sitk.ImageFileReader(), sitk.ImageFileReader()
    for reader, file in ((one, path), (two, other)):
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
    return all(
        np.allclose(a, b)
        for a, b in (
            (one.GetOrigin(), two.GetOrigin()),
            (one.GetDirection(), two.GetDirection()),
            (one.GetSpacing(), two.GetSpacing()),
        )
    )


def stored_fault(path: Path, written: Written) -> str:
    """Describe whether a file differs from the written bytes; empty if not."""
    return "" if crc32_of(path) == written.stored else "other bytes are read than were written; the disk may fail"


def content_fault(path: Path, written: Written) -> str:
    """Describe whether the decompressed content of a file differs from what was written; empty if not."""
    return (
        ""
        if crc32_of_content(path) == written.content
        else "other voxels are read than were written; the disk may fail"
    )


def voxel_fault(path: Path, data: NDArray[Any]) -> str:
    """Describe whether SimpleITK reads voxels other than `data`, axes (x, y, z); empty if not."""
    image = sitk.ReadImage(str(path))
    read = sitk.GetArrayViewFromImage(image).T  # valid while `image` exists
    # written images never contain NaN
    return "" if read.shape == data.shape and np.array_equal(read, data) else "SimpleITK reads other voxels"
