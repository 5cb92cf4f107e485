"""Read label masks with their geometry, and check that two masks share it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.errors import DataError

NIFTI = (".nii.gz", ".nii")
#: formats without spacing information; a pixel counts as 1 mm
PLAIN = (".png", ".bmp", ".tif", ".tiff")
ITK = (".mha", ".mhd", ".nrrd", ".nhdr", ".gipl", ".gipl.gz", ".hdr", ".mgh", ".mgz")
ENDINGS = (*NIFTI, *ITK, *PLAIN)

#: largest allowed distance in voxels between the two positions of a corner voxel: too small to shift a contour,
#: but far above the rounding error of 32-bit floats in headers
CORNER_TOLERANCE = 0.05
#: size of the look-up table for labels; FreeSurfer's largest label is 14175
LARGEST_LABEL = 65535

#: voxels with longer edges, in mm, are those of a header with a wrong unit of length
LARGEST_MM = 100.0
#: units of a NIfTI header -> mm; all others are treated as mm, as SimpleITK does
IN_MM = {"micron": 1e-3, "meter": 1e3}


@dataclass(frozen=True)
class Volume:
    """An array and its geometry.

    Attributes
    ----------
    array : axes (z, y, x) or (y, x)
    spacing : voxel size in mm, in the array's axis order
    affine : (4, 4), voxel index (x, y, z) to position (R, A, S) in mm; None for formats without geometry
    """

    array: NDArray[Any]
    spacing: tuple[float, ...]
    affine: NDArray[np.float64] | None


def strip_ending(name: str) -> str:
    """Return a file's name without its image ending in any capitals (`.nii.gz` counts as one); others are unchanged."""
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def is_image(path: Path) -> bool:
    """Whether `path` has the ending of a readable format and is not a hidden file."""
    return not path.name.startswith(".") and strip_ending(path.name) != path.name


def read_volume(path: str | os.PathLike[str], *, colours: bool = False) -> Volume:
    """Read an image of any supported format.

    Parameters
    ----------
    colours : read the luminance of a picture in colour, to display it, instead of refusing it

    Raises
    ------
    DataError
        If the file can't be read, or has more than one channel or time point.
    """
    path = Path(path)
    try:
        name = path.name.lower()
        if name.endswith(NIFTI):
            volume = _read_nifti(path)
        else:
            volume = _read_plain(path, colours) if name.endswith(PLAIN) else _read_itk(path)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except Exception as error:  # readers raise whatever their C++ or zlib layer raises
        lines = str(error).strip().splitlines()
        raise DataError(f"{path} can't be read ({lines[-1] if lines else type(error).__name__}); restore it") from None
    if not all(0 < s <= LARGEST_MM for s in volume.spacing):
        sizes = " x ".join(f"{s:g}" for s in volume.spacing)
        raise DataError(
            f"{path} has voxels of {sizes} mm in its header: volumes and distances are meaningless; correct it"
        )
    return volume


def read_mask(path: str | os.PathLike[str]) -> Volume:
    """Read a label mask.

    Accepts whole numbers stored as floating point, as FSL writes them.

    Raises
    ------
    DataError
        If the file can't be read, or contains fractions, NaN, or values outside 0 ... 65535.
    """
    volume = read_volume(path)
    array = volume.array
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # numbers that no integer holds become others
            whole = array.astype(np.int64, copy=True) if np.isfinite(array).all() else None
        if whole is None or not np.array_equal(whole, array):
            raise DataError(f"{path} holds fractions or NaN, not labels; is it a probability map? threshold it first")
        array = whole
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise DataError(f"{path} has values of type {array.dtype}; labels are whole numbers")
    if array.size and (array.min() < 0 or array.max() > LARGEST_LABEL):
        raise DataError(f"{path} has labels from {array.min()} to {array.max()}; allowed are 0 to {LARGEST_LABEL}")
    return Volume(array, volume.spacing, volume.affine)


def _read_nifti(path: Path) -> Volume:
    import nibabel as nib

    image: Any = nib.load(path)
    array = np.asanyarray(image.dataobj)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3):
        raise DataError(f"{path} has shape {array.shape}; expected one 2D or 3D image")
    affine = np.array(image.affine, np.float64)
    affine[:3] *= IN_MM.get(image.header.get_xyzt_units()[0], 1.0)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[: array.ndim]
    return Volume(array.T, tuple(float(s) for s in spacing[::-1]), affine)


def _read_itk(path: Path) -> Volume:
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(f"{path} has {image.GetNumberOfComponentsPerPixel()} channels; expected one")
    n = image.GetDimension()
    array = sitk.GetArrayFromImage(image)
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (2, 3):
        raise DataError(f"{path} has shape {array.shape}; expected one 2D or 3D image")
    spacing = np.asarray(image.GetSpacing())
    affine = np.eye(4)
    n = min(n, 3)
    direction = np.asarray(image.GetDirection()).reshape(image.GetDimension(), -1)[:n, :n]
    affine[:n, :n] = direction * spacing[:n]
    affine[:n, 3] = image.GetOrigin()[:n]
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return Volume(array, tuple(float(s) for s in spacing[: array.ndim][::-1]), lps_to_ras @ affine)


def _read_plain(path: Path, colours: bool) -> Volume:
    from PIL import Image

    with Image.open(path) as image:
        if (pages := getattr(image, "n_frames", 1)) > 1:
            raise DataError(f"{path} has {pages} pages; convert it to .nii.gz, which states the voxels' size")
        coloured = image.mode == "P" or len(image.getbands()) > 1
        array = np.asarray(image.convert("L") if colours and coloured else image)
    if array.ndim != 2:
        raise DataError(f"{path} has {array.shape[-1]} channels; expected one")
    return Volume(array, (1.0, 1.0), None)


def geometry_problem(reference: Volume, prediction: Volume) -> str | None:
    """Describe how the geometry of two masks differs; None if it is the same."""
    if reference.array.shape != prediction.array.shape:
        return f"the reference has shape {reference.array.shape}, the prediction {prediction.array.shape}"
    if reference.affine is None or prediction.affine is None:
        return None
    ends = np.array(reference.array.shape[::-1], float) - 1
    ends = np.pad(ends, (0, 3 - len(ends)))
    corners = np.stack(np.meshgrid(*[(0.0, e) for e in ends], indexing="ij"), -1).reshape(-1, 3)
    difference = reference.affine - prediction.affine
    shift = np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1).max()
    if not shift <= CORNER_TOLERANCE * min(reference.spacing):
        return (
            f"position, spacing or direction differ by up to {shift:.3g} mm "
            f"(spacing {_text(reference.spacing)} and {_text(prediction.spacing)} mm)"
        )
    return None


def _text(spacing: tuple[float, ...]) -> str:
    return "×".join(f"{s:.4g}" for s in spacing)
