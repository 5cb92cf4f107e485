"""Read label maps, images and masks with nibabel."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from numpy.typing import NDArray

from nnunet_transfer.errors import DataError

#: what nibabel raises for files that are damaged or of another kind
_UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error),
    *(ImageFileError, HeaderDataError, HeaderTypeError),
)


def read_array(path: Path, *, upright: bool = False) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the voxels of a file, as stored or (`upright`) with axes to the right, front and top, and voxel -> mm.

    Raises
    ------
    DataError
        If the file can't be read, isn't 3D, or has other voxels than finite grey values.
    """
    try:
        image: Any = nib.load(path)
        if upright:
            image = nib.as_closest_canonical(image)
        array = np.asanyarray(image.dataobj)
    except _UNREADABLE as error:
        raise DataError(f"{path} can't be read ({error}); restore it or remove it") from None
    if array.dtype.kind not in "iuf":
        raise DataError(f"{path} holds {array.dtype} voxels; grey values are needed")
    if array.ndim != 3 or not np.isfinite(array).all():
        raise DataError(f"{path} is not a 3D volume of finite values; correct it, or remove it")
    return array, np.asarray(image.affine, float)
